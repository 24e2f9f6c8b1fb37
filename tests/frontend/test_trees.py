"""Nested structures: taken apart and put together again, with names for their leaves."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from graphmill.frontend.errors import GraphmillError
from graphmill.frontend.trace import trace
from graphmill.frontend.trees import flatten, same_structure
from tests.frontend.comparing import run


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass(frozen=True)
class Layer:
    weight: Any
    bias: Any = None

    def __post_init__(self) -> None:
        assert self.weight is not None


class Listed(list):  # type: ignore[type-arg]
    pass


STRUCTURES: list[Any] = [
    1, None, (), [], {}, (1,), [1, [2, (3, None)]], {"b": 1, "a": (2, 3)}, Pair(1, {"x": 2}),
    Layer(1, Layer(2)), {2: 1, "x": 3}, OrderedDict([("z", 1), ("a", 2)]), Listed([1, 2]),
    (None, None), [{"p": Pair(Layer(1), ())}],
]  # fmt: skip


@pytest.mark.parametrize("thing", STRUCTURES, ids=str)
def test_round_trip(thing: Any) -> None:
    leaves, tree = flatten(thing)
    assert tree.size == len(leaves)
    again = tree.unflatten(leaves)
    assert again == thing and type(again) is type(thing)
    assert hash(tree) == hash(flatten(again)[1]) and tree == flatten(again)[1]


def test_dicts_go_by_sorted_keys() -> None:
    assert flatten({"b": 1, "a": 2})[0] == [2, 1]
    assert flatten({"b": 1, "a": 2})[1] == flatten({"a": 5, "b": 6})[1]


def test_paths_are_how_users_write() -> None:
    thing = {"w": [1, Layer(2, 3)], "p": Pair(4, (5,))}
    tree = flatten(thing)[1]
    assert tree.paths("params") == (
        "params['p'].left", "params['p'].right[0]", "params['w'][0]", "params['w'][1].weight",
        "params['w'][1].bias",
    )  # fmt: skip


def test_text() -> None:
    tree = flatten((1, [2, None], {"k": Pair(1, 2)}, Layer(1)))[1]
    assert str(tree) == "(*, [*, None], {'k': Pair(left=*, right=*)}, Layer(weight=*, bias=None))"


def test_a_wrong_number_of_leaves() -> None:
    with pytest.raises(ValueError, match="2 leaves expected, got 1"):
        flatten((1, 2))[1].unflatten([1])


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ((1, 2), [1, 2], "a tuple in one, a list in the other"),
        ({"a": 1}, {"b": 1}, "parts ['a'] in one, ['b'] in the other"),
        ((1, (2, 3)), (1, 2), "the value[1] is a tuple in one, a leaf in the other"),
    ],
)
def test_differences_are_named(a: Any, b: Any, reason: str) -> None:
    with pytest.raises(GraphmillError) as caught:
        same_structure(flatten(a)[1], flatten(b)[1], "the values")
    assert caught.value.code == "GM046" and reason in caught.value.why


def test_structures_go_through_a_trace() -> None:
    def f(params: Any, *rest: Any, scale: Any = 1.0) -> Any:
        layer = params["layer"]
        total = params["x"] @ layer.weight + layer.bias + sum(rest)
        return Pair(total * scale, {"shape": (total, None)})

    layer = Layer(np.ones((3, 2)), np.ones(2))
    args = ({"layer": layer, "x": np.ones((4, 3))}, np.float64(1), np.ones(2))
    traced = trace(f, args, {"scale": 2.0})
    assert [p.name for p in traced.function.params] == [
        "params_layer_weight", "params_layer_bias", "params_x", "rest_0", "rest_1", "scale",
    ]  # fmt: skip
    assert traced.out_paths == ("result.left", "result.right['shape'][0]")
    leaves = flatten((args, {"scale": 2.0}))[0]
    from graphmill.ir.reference import interpret

    got = traced.out_tree.unflatten(interpret(traced.function, *leaves))
    wanted = f(*args, scale=2.0)
    np.testing.assert_allclose(got.left, wanted.left)
    assert got.right["shape"][1] is None


def test_results_of_every_kind() -> None:
    traced = trace(lambda x: [x, 1, 2.5, np.ones(2), None, (True, np.float32(1))], (np.ones(2),))
    got = run(traced, np.ones(2))
    assert [getattr(g, "dtype", None) for g in got[:5]] == [
        np.float64, np.int64, np.float64, np.float64, None,
    ]  # fmt: skip
    assert got[5][0].dtype == bool and got[5][1].dtype == np.float32
