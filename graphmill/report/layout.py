"""A layered drawing of a graph (Sugiyama's four steps, in their simplest forms).

Nodes go on the layer of their longest path from a source; edges over several layers get a bend
on each; barycentre sweeps order the layers; then each layer is placed near its neighbours'
centres. Sizes and positions are in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

GAP_X, GAP_Y = 22.0, 38.0
BEND_WIDTH = 6.0
SWEEPS = 8


@dataclass
class Spot:
    """A node (or the bend of an edge) on its layer; `x` is its centre."""

    width: float
    layer: int
    bend: bool = False
    x: float = 0.0
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Drawing:
    """Centres of the nodes, the bends of each edge, and the size of the picture."""

    nodes: list[tuple[float, float]]
    edges: list[list[tuple[float, float]]]
    width: float
    height: float


def draw(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> Drawing:
    """Lay out nodes given as (width, height), whose edges go from lower to higher numbers."""
    layers_of = _layers(len(sizes), edges)
    spots = [Spot(width, layers_of[i]) for i, (width, _) in enumerate(sizes)]
    chains = [_chain(spots, a, b) for a, b in edges]
    layers: list[list[int]] = [[] for _ in range(max(layers_of, default=-1) + 1)]
    for i, spot in enumerate(spots):
        layers[spot.layer].append(i)
    _order(spots, layers)
    _place(spots, layers)
    tall = [max([sizes[i][1] for i in layer if i < len(sizes)], default=0.0) for layer in layers]
    tops, y = [], GAP_Y
    for height in tall:
        tops.append(y + height / 2)
        y += height + GAP_Y
    points = [(spot.x, tops[spot.layer]) for spot in spots]
    width = max((spot.x + spot.width / 2 for spot in spots), default=0.0) + GAP_X
    bends = [[points[i] for i in chain] for chain in chains]
    return Drawing(points[: len(sizes)], bends, width, y)


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest path from a source; sources, and chains that start in one alone, then move down
    to just above their first user."""
    layer = [0] * count
    incoming: dict[int, list[int]] = {}
    outgoing: dict[int, list[int]] = {}
    for a, b in edges:
        incoming.setdefault(b, []).append(a)
        outgoing.setdefault(a, []).append(b)
    for node in range(count):
        layer[node] = max((layer[a] + 1 for a in incoming.get(node, ())), default=0)
    single = [True] * count
    for node in range(count):
        near = incoming.get(node, ())
        single[node] = len(near) < 2 and all(single[a] for a in near)
    for node in reversed(range(count)):
        if single[node] and node in outgoing:
            layer[node] = min(layer[b] for b in outgoing[node]) - 1
    return layer


def _chain(spots: list[Spot], a: int, b: int) -> list[int]:
    """The spots an edge goes through: its ends, and a bend on each layer between."""
    chain = [a]
    for layer in range(spots[a].layer + 1, spots[b].layer):
        chain.append(len(spots))
        spots.append(Spot(BEND_WIDTH, layer, bend=True))
    chain.append(b)
    for upper, lower in pairwise(chain):
        spots[upper].below.append(lower)
        spots[lower].above.append(upper)
    return chain


def _order(spots: list[Spot], layers: list[list[int]]) -> None:
    """Sweep down and up, sorting each layer by the mean place of its neighbours."""
    place = {i: k for layer in layers for k, i in enumerate(layer)}
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            centres = {}
            for i in layer:
                near = spots[i].above if down else spots[i].below
                centres[i] = sum(place[n] for n in near) / len(near) if near else place[i]
            layer.sort(key=centres.__getitem__)
            place.update({i: k for k, i in enumerate(layer)})


def _place(spots: list[Spot], layers: list[list[int]]) -> None:
    """Put each layer's spots side by side, then pull them towards their neighbours' centres."""
    for layer in layers:
        x = GAP_X
        for i in layer:
            spots[i].x = x + spots[i].width / 2
            x += spots[i].width + GAP_X
    for sweep in range(2 * SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            wanted = []
            for i in layer:
                wanted.append(_centre(spots, i, spots[i].above if down else spots[i].below))
            _spread(spots, layer, wanted)
    left = min((spot.x - spot.width / 2 for spot in spots), default=0.0)
    for spot in spots:
        spot.x += GAP_X - left


def _weight(spot: Spot) -> float:
    """How much a spot counts: a chain stays straight, with parameters and bends beside it."""
    return 0.02 if not spot.above else 0.2 if spot.bend else 1.0


def _centre(spots: list[Spot], i: int, near: Sequence[int]) -> float:
    """The mean place of the neighbours; its own without any."""
    if not near:
        return spots[i].x
    total = sum(_weight(spots[n]) for n in near)
    return sum(_weight(spots[n]) * spots[n].x for n in near) / total


def _spread(spots: list[Spot], layer: list[int], wanted: list[float]) -> None:
    """Positions in order, close to the wanted ones and without overlap: merge what collides.

    A group's left edge is the weighted mean of where its members want it to be.
    """
    groups: list[_Group] = []
    for i, centre in zip(layer, wanted, strict=True):
        half, weight = spots[i].width / 2, _weight(spots[i])
        group = _Group([i], 2 * half, weight, weight * (centre - half))
        while groups and groups[-1].left + groups[-1].width + GAP_X > group.left:
            before = groups.pop()
            shift = before.width + GAP_X
            group = _Group(
                before.members + group.members,
                shift + group.width,
                before.weight + group.weight,
                before.moment + group.moment - group.weight * shift,
            )
        groups.append(group)
    for group in groups:
        x = group.left
        for i in group.members:
            spots[i].x = x + spots[i].width / 2
            x += spots[i].width + GAP_X


@dataclass(frozen=True)
class _Group:
    """Spots that touch; `moment` is the sum of weight times the left edge each wants."""

    members: list[int]
    width: float
    weight: float
    moment: float

    @property
    def left(self) -> float:
        return self.moment / self.weight
