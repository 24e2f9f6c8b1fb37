"""Costs and the networkx view."""

import networkx
import numpy as np
import pytest

from graphmill.ir.builder import function, region
from graphmill.ir.cost import cost, function_cost
from graphmill.ir.dtypes import f32, i32
from graphmill.ir.graph import Location, Module
from graphmill.ir.parser import parse_function
from graphmill.ir.types import tensor
from tests.ir.op_samples import one_op

X = tensor(f32, "n", 8)


@pytest.mark.parametrize(
    "op, types, attrs, flops, moved",
    [
        ("add", [X, X], {}, "8*n", "96*n"),
        ("exp", [X], {}, "96*n", "64*n"),
        ("reshape", [X], {"shape": (X.size,)}, "0", "0"),
        ("reduce", [X], {"axes": (1,), "monoid": "sum"}, "8*n", "36*n"),
        ("slice", [X], {"start": (0, 0), "stop": (1, 8), "step": (1, 1)}, "0", "64"),
        ("gather", [X, tensor(i32, 3)], {"axes": (0,)}, "0", "204"),
        ("dot_general", [X, tensor(f32, 8, 4)],
         {"x_batch": (), "y_batch": (), "x_contract": (1,), "y_contract": (0,), "dtype": f32},
         "64*n", "48*n + 128"),
    ],
)  # fmt: skip
def test_cost_of_an_op(op, types, attrs, flops, moved):
    # both operands of add are distinct values, so each is read
    found = cost(one_op(op, types, attrs).ops[0])
    assert (str(found.flops), str(found.bytes)) == (flops, moved)


def test_a_fusion_counts_what_crosses_its_boundary():
    inner = region([X], lambda b, a: b.op("neg", b.op("exp", a)))
    made = one_op("fusion", [X], {"kind": "loop", "reason": ""}, [inner])
    found = function_cost(made)
    assert (str(found.flops), str(found.bytes)) == ("104*n", "64*n")


def test_control_flow_and_calls():
    row = tensor(f32, 8)
    body = region([row, row], lambda b, c, x: [b.op("add", c, x)])
    scan = one_op("scan", [row, X], {"carry": 1, "xs": 1, "length": X.shape[0], "reverse": False},
                  [body])  # fmt: skip
    assert str(function_cost(scan).flops) == "8*n"
    branches = [region([row], lambda b, a, op=op: b.op(op, a)) for op in ("neg", "exp")]
    cond = one_op("cond", [tensor("bool"), row], {}, branches)
    assert function_cost(cond).flops == 96
    callee = one_op("exp", [row], {}, name="g")
    caller = one_op("call", [row], {"callee": "g", "types": (row,)})
    assert function_cost(caller, Module({"f": caller, "g": callee})).flops == 96


def test_networkx():
    made = parse_function("""
    func @f(%x: f32[4], %y: f32[4]) -> (f32[4]) {
      %h: f32[4] = mul %x, %y  // model.py:3
      %e: f32[4] = fusion %h, %h {kind="loop", reason=""} {
        (%a: f32[4], %b: f32[4]):
        %c: f32[4] = sub %a, %b
        yield %c
      }
      return %e
    }""")
    graph = made.to_networkx()
    assert networkx.is_directed_acyclic_graph(graph) and graph.name == "f"
    assert [d["op"] for _, d in graph.nodes(data=True)] == [
        "parameter", "parameter", "mul", "fusion", "sub", "yield", "return",
    ]  # fmt: skip
    mul = graph.nodes[2]
    assert (mul["label"], mul["type"], mul["location"]) == ("%h", "f32[4]", "model.py:3")
    assert graph.nodes[4]["parent"] == 3 and graph.nodes[2]["parent"] is None
    assert graph.edges[0, 2]["type"] == "f32[4]"
    assert set(graph.predecessors(4)) == {3}


def test_an_empty_body_costs_nothing():
    made = function("f", {"x": X}, lambda b, x: x)
    assert function_cost(made).flops == 0 and made.ops[0].loc is None
    made.ops[0].loc = Location("a.py", 1)
    assert np.sum([cost(op).flops for op in made.ops]) == 0
