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
    """The longest path from a source; sources then move down to just above their first user."""
    layer = [0] * count
    incoming: dict[int, list[int]] = {}
    outgoing: dict[int, list[int]] = {}
    for a, b in edges:
        incoming.setdefault(b, []).append(a)
        outgoing.setdefault(a, []).append(b)
    for node in range(count):
        layer[node] = max((layer[a] + 1 for a in incoming.get(node, ())), default=0)
    for node in range(count):
        if node not in incoming and node in outgoing:
            layer[node] = min(layer[b] for b in outgoing[node]) - 1
    return layer


def _chain(spots: list[Spot], a: int, b: int) -> list[int]:
    """The spots an edge goes through: its ends, and a bend on each layer between."""
    chain = [a]
    for layer in range(spots[a].layer + 1, spots[b].layer):
        chain.append(len(spots))
        spots.append(Spot(BEND_WIDTH, layer))
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
                near = spots[i].above if down else spots[i].below
                centre = sum(spots[n].x for n in near) / len(near) if near else spots[i].x
                wanted.append(centre)
            _spread(spots, layer, wanted)
    left = min((spot.x - spot.width / 2 for spot in spots), default=0.0)
    for spot in spots:
        spot.x += GAP_X - left


def _spread(spots: list[Spot], layer: list[int], wanted: list[float]) -> None:
    """Positions in order, close to the wanted ones and without overlap: merge what collides."""
    groups: list[tuple[list[int], float, float]] = []  # spots, left edge, width
    for i, centre in zip(layer, wanted, strict=True):
        group = [i], centre - spots[i].width / 2, spots[i].width
        while groups and groups[-1][1] + groups[-1][2] + GAP_X > group[1]:
            before, left, width = groups.pop()
            total = width + GAP_X + group[2]
            # the merged group keeps the mean of the centres that its members want
            centre_of = left + width / 2
            shift = (len(before) * centre_of + len(group[0]) * (group[1] + group[2] / 2)) / (
                len(before) + len(group[0])
            )
            group = [*before, *group[0]], shift - total / 2, total
        groups.append(group)
    for members, left, _ in groups:
        x = left
        for i in members:
            spots[i].x = x + spots[i].width / 2
            x += spots[i].width + GAP_X
