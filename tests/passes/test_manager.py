"""The runner: pipelines as text, verification, statistics, observers, notes on errors."""

import re
from pathlib import Path

import pytest

from graphmill.ir.builder import Builder, function
from graphmill.ir.graph import Function, Module, Value
from graphmill.ir.parser import parse
from graphmill.ir.types import tensor
from graphmill.passes import manager
from graphmill.passes.manager import (
    DEFAULT_PIPELINE,
    MODULES,
    Pass,
    PipelineError,
    Stage,
    all_passes,
    parse_pipeline,
    run_pipeline,
)


def sample() -> Function:
    def body(b: Builder, x: Value) -> Value:
        b.op("exp", x)
        return b.op("add", b.op("tanh", x), b.op("tanh", x))

    return function("f", {"x": tensor("f32", 4)}, body)


WITHOUT = (
    """
func @f(%x: f32[4, 8], %y: f32[4, 8]) -> (f32[4, 8]) {
  %0: f32[4, 8] = exp %x
  %1: f32[4, 8] = add %0, %y
  %2: f32[8] = reduce %1 {axes=[0], monoid="sum"}
  %3: f32[4, 8] = broadcast %2 {axes=[1], shape=[4, 8]}
  %4: f32[4, 8] = mul %0, %3
  return %4
}
""",
    """
func @f(%x: f32[4]) -> (f32[4]) {
  %0: i64[5] = iota {axis=0, dtype=i64, shape=[5]}
  %1: f32[4] = scan %x, %0 {carry=1, length=5, reverse=false, xs=1} {
    (%x1: f32[4], %i: i64[]):
    %2: f32[4] = add %x1, %x1
    yield %2
  }
  return %1
}
""",
)


def test_pipeline_round_trip() -> None:
    text = "fold,cse,fuse{max_ops=8},memory"
    assert ",".join(map(str, parse_pipeline(text))) == text
    assert parse_pipeline("") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing", "no pass 'nothing'"),
        ("fuse{x=1}", "no option 'x'; it has max_ops"),
        ("fuse{max_ops=many}", "is a int, not 'many'"),
        ("fold cse", "is no pipeline"),
        ("fold,{", "is no pipeline"),
    ],
)
def test_pipeline_errors(text: str, says: str) -> None:
    with pytest.raises(PipelineError, match=says):
        parse_pipeline(text)


def test_default_pipeline_parses_and_every_pass_says_what_it_does() -> None:
    assert parse_pipeline(DEFAULT_PIPELINE)
    assert set(MODULES) <= set(all_passes())
    for entry in all_passes().values():
        assert entry.doc.endswith("."), entry.name


def test_the_page_lists_the_passes_and_the_pipeline() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "passes.md").read_text()
    assert f"\n{DEFAULT_PIPELINE}\n" in page
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(all_passes())


def test_passes_leave_their_input_alone() -> None:
    f = sample()
    before = str(f)
    assert str(run_pipeline(f)) != before
    assert str(f) == before


def test_observer_sees_what_changed_the_text() -> None:
    seen = []
    run_pipeline(
        sample(), "dce,dce,cse", lambda name, _, seconds, stats: seen.append((name, stats))
    )
    assert [name for name, _ in seen] == ["dce", "cse"]
    assert seen[0][1] == {"removed": 1, "ops_before": 5, "ops_after": 4}
    assert seen[1][1]["merged"] == 1


def test_stop_after() -> None:
    stopped = run_pipeline(sample(), "dce,cse,memory", stop_after="cse")
    assert "arena_bytes" not in stopped.attrs
    assert len(stopped.ops) == 3


def test_exception_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: Function) -> Function:
        raise ZeroDivisionError

    monkeypatch.setitem(manager._PASSES, "broken", Pass("broken", broken, "", {}, False))
    stages = [*parse_pipeline("dce"), Stage("broken", {})]
    with pytest.raises(ZeroDivisionError) as caught:
        run_pipeline(sample(), stages)
    assert caught.value.__notes__ == ["in pass broken, stage 1 of dce,broken"]


def _wrong(function: Function) -> Function:
    copy = function.clone()
    copy.ops[-1].operands[0].type = tensor("f32", 5)
    return copy


@pytest.mark.parametrize("each", [True, False])
def test_the_verifier_names_the_pass_at_fault(monkeypatch: pytest.MonkeyPatch, each: bool) -> None:
    monkeypatch.setitem(manager._PASSES, "wrong", Pass("wrong", _wrong, "", {}, False))
    stages = [Stage("wrong", {}), *parse_pipeline("cse")]
    with pytest.raises(ValueError, match="the op's rule gives") as caught:
        run_pipeline(sample(), stages, each=each)
    assert caught.value.__notes__ == ["in pass wrong, stage 0 of wrong,cse"]


def test_the_verifier_runs_once_unless_after_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = list[object]()
    monkeypatch.setattr(manager, "_verify", verified.append)
    planned = run_pipeline(sample(), "cse,dce,fuse", each=False)
    assert verified == [planned]


@pytest.mark.parametrize("name", manager.NEEDS)
def test_a_pass_that_is_left_out_would_change_nothing(name: str) -> None:
    (stage,) = parse_pipeline(name)
    for text in WITHOUT:
        function = run_pipeline(parse(text).entry, "dce")
        assert not any(op.name in manager.NEEDS[name] for op in function.walk())
        program = Module({function.name: function}) if stage.of.on_modules else function
        changed = stage.of.run(program)
        changed = changed.entry if stage.of.on_modules else changed
        assert str(changed) == str(function)
