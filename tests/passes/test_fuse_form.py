"""The form of every fusion, checked op by op on random functions, and the cost of what is fused."""

from __future__ import annotations

import pytest

from graphmill.ir.builder import Builder, function
from graphmill.ir.forms import form_of
from graphmill.ir.graph import Block, Function, Location, Op, Value
from graphmill.ir.ops.base import TypeRuleError
from graphmill.ir.types import tensor
from graphmill.passes.inplace import writes_in_place
from graphmill.passes.manager import DEFAULT_PIPELINE, run_pipeline
from tests.differential.random_graphs import Options, random_function

pytestmark = pytest.mark.sampled(3)

FUSED = DEFAULT_PIPELINE.removesuffix(",memory")


def check_form(fusion: Op) -> None:
    """What code generation relies on."""
    block, kind = fusion.regions[0].block, fusion.attrs["kind"]
    ops = block.ops[:-1]
    shapes = [tuple(v.shape) for v in block.yielded]
    assert shapes and ops
    assert all(v.op is not None for v in block.yielded), "an argument is yielded"
    assert all(v.uses for v in block.args), "an argument is not read"
    if kind == "iterate":
        assert [op.name for op in ops].count("scan") == 1
        return
    if kind == "update":
        assert ops[-1].name == "dynamic_update_slice" and writes_in_place(block)
        ops = ops[:-1]
    for op in ops:
        allowed = {"loop": ("elementwise", "index"), "reduce": ("elementwise", "index", "reduce"),
                   "contract": ("elementwise", "index", "contract"),
                   "update": ("elementwise", "index", "reduce")}[kind]  # fmt: skip
        assert op.definition.fusion in allowed, f"{op.name} in a {kind}"
        if op.name == "constant":
            array = op.attrs["value"]
            assert array.size == 1 or (array.size <= 64 and (array == array.flat[0]).all())
    if kind in ("loop", "update"):
        assert len(set(shapes)) == 1
    elif kind == "contract":
        roots = [op for op in ops if op.definition.fusion == "contract"]
        assert len(roots) == 1 and len(shapes) == 1 and shapes[0] == tuple(roots[0].result.shape)
        assert all(v in block.args or is_prologue(v.op) for v in roots[0].operands)
    else:
        check_reduce(block, shapes)


def is_prologue(op: Op | None) -> bool:
    """Computed from the arguments elementwise, before the product."""
    return op is None or (
        op.definition.fusion in ("elementwise", "index")
        and all(is_prologue(v.op) for v in op.operands)
    )


def check_reduce(block: Block, shapes: list[tuple[object, ...]]) -> None:
    form, ops = form_of(block), block.ops[:-1]
    for op in ops:
        if op.name == "reduce":
            span = form.span(op.operands[0].shape)
            assert span is not None
            assert tuple(span[i] for i in op.attrs["axes"]) in (form.axes, form.unrolled)
    if form.unrolled:
        assert not any(set(form.axes) <= set(form.span(shape)) for shape in shapes)
        return
    full, small, kept = form.full, form.kept, form.kept_axes
    assert set(shapes) <= {full, small}
    reduced: set[Value] = set()
    for op in ops:
        if op.name == "reduce" or (
            op.definition.fusion == "elementwise" and any(v in reduced for v in op.operands)
            and tuple(op.result.shape) == small
        ):  # fmt: skip
            reduced.add(op.result)
        elif any(v in reduced for v in op.operands) and op.name == "broadcast":
            assert tuple(op.attrs["axes"]) == kept and tuple(op.result.shape) == full


def fusions(made: Function) -> list[Op]:
    return [op for op in made.walk() if op.name == "fusion"]


@pytest.mark.parametrize("seed", range(400, 600))
def test_every_fusion_has_its_form(seed: int) -> None:
    try:
        made = random_function(seed, Options(ops=30))
    except TypeRuleError:
        pytest.skip("no function for this seed")
    for fusion in fusions(run_pipeline(made, FUSED)):
        check_form(fusion)


@pytest.mark.parametrize("seed", range(600, 660))
def test_costly_ops_are_computed_once(seed: int) -> None:
    try:
        made = random_function(seed, Options(ops=30))
    except TypeRuleError:
        pytest.skip("no function for this seed")
    before = run_pipeline(made, FUSED.removesuffix(",fuse"))
    after = run_pipeline(before, "fuse")
    for name in ("exp", "tanh", "log", "sin", "dot_general", "reduce"):
        counts = [sum(op.name == name for op in f.walk()) for f in (before, after)]
        assert counts[0] == counts[1], name


def chain(length: int) -> Function:
    def body(b: Builder, x: Value) -> Value:
        for _ in range(length):
            x = b.op("tanh", x)
        return x

    return function("f", {"x": tensor("f32", 64)}, body)


@pytest.mark.parametrize(("length", "limit", "kernels"), [(10, 64, 1), (10, 5, 2), (100, 64, 2)])
def test_max_ops_bounds_kernels(length: int, limit: int, kernels: int) -> None:
    made = run_pipeline(chain(length), f"fuse{{max_ops={limit}}}")
    assert len(made.ops) - 1 == kernels
    assert "more than max_ops ops" in str(made) or kernels == 1


def test_max_buffers_bounds_kernels() -> None:
    def body(b: Builder, *xs: Value) -> Value:
        total = xs[0]
        for x in xs[1:]:
            total = b.op("add", total, x)
        return total

    made = function("f", {f"x{i}": tensor("f32", 99) for i in range(40)}, body)
    planned = run_pipeline(made, "fuse")
    assert len(fusions(planned)) == 2
    assert all(len(f.operands) + len(f.results) <= 24 for f in fusions(planned))


def test_fusion_leads_back_to_the_users_lines() -> None:
    def body(b: Builder, x: Value) -> Value:
        for line in (3, 4, 5):
            with b.at(Location("model.py", line), scope=f"layer{line}"):
                x = b.op("tanh", x)
        return x

    planned = run_pipeline(function("f", {"x": tensor("f32", 64)}, body), "fuse")
    fusion = planned.ops[0]
    assert str(fusion.loc) == "model.py:5" and fusion.scope == "layer5"
    inner = fusion.regions[0].block.ops[:-1]
    assert [op.loc.line for op in inner if op.loc] == [3, 4, 5]
    assert [op.scope for op in inner] == ["layer3", "layer4", "layer5"]
