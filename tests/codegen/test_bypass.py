"""Results stored past the caches: the same bits, from any start in memory, and only at the end."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill import bandwidth, driver, targets
from graphmill.codegen.cpu.generate import generate
from graphmill.codegen.cpu.target import Target, native
from graphmill.driver import Options
from graphmill.frontend.trace import trace
from graphmill.ir.graph import Function
from graphmill.runtime.executable import Executable
from graphmill.runtime.threads import threads

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]
PAST = replace(native(), bypass=1, l2=1)
FENCE = "llvm.x86.sse.sfence"


def softmax(x: Any, axis: int = -1) -> Any:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def centred(x: Any) -> Any:
    return (x - x.mean(0)) / (x.var(0) + 1)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "loop": lambda x: x + 1,
    "rows": softmax,
    "rows of both shapes": lambda x: (softmax(x), x.max(-1)),
    "columns": centred,
    "columns of both shapes": lambda x: (x.max(0), centred(x), x.mean(0)),
    "tiles": lambda x: x.T + 1,
    "scan": lambda x: np.cumsum(x, -1),
    "scan from the end": lambda x: np.cumsum(x[:, ::-1], -1)[:, ::-1],
    "repeated rows": lambda x: x[:, None] + x[:1],
}
SHAPES = [(1, 16), (7, 64), (33, 80), (300, 128), (5, 333), (1, 20_001), (0, 64)]


def planned(function: Callable[..., Any], *arguments: Any) -> Function:
    return driver.optimise(trace(function, arguments, name="f").function, Options())


def run(function: Function, target: Target, *arguments: Array) -> list[Array]:
    found = Executable(generate(function, target))(*arguments)
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i1", "c8", "?"])
def test_the_same_bits(name: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind != "f" and name not in ("loop", "repeated rows", "tiles"):
        pytest.skip("a function of real numbers")
    for shape in SHAPES:
        if 0 in shape and name.startswith(("rows", "columns")):
            continue
        x = (rng.standard_normal(shape) * 3).astype(dtype)
        function = planned(FUNCTIONS[name], x)
        expected = run(function, native(), x)
        with threads(2):
            for result, value in zip(run(function, PAST, x), expected, strict=True):
                assert result.tobytes() == value.tobytes(), shape


def text(function: Function, target: Target) -> str:
    found: dict[str, str] = {}
    generate(
        function, target, observer=lambda stage, kind, text, seconds: found.update({kind: text})
    )
    return found["mlir"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_stores_go_past_the_caches(name: str) -> None:
    function = planned(FUNCTIONS[name], np.ones((128, 1024), "f4"))
    assert "nontemporal" in text(function, PAST)
    assert (FENCE in text(function, PAST)) is native().is_x86
    for other in (
        replace(PAST, bypass=0),
        replace(PAST, bypass=1 << 30),
        replace(PAST, l2=1 << 30),
    ):
        assert "nontemporal" not in text(function, other)


def test_what_is_read_again_stays_in_the_caches() -> None:
    x = np.ones((1024, 64), "f4")

    def twice(x: Any) -> Any:
        y = np.exp(x)
        return y, y @ x.T

    assert "nontemporal" not in text(planned(twice, x), PAST)


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_other_machines(name: str) -> None:
    function = planned(softmax, np.ones((128, 1024), "f4"))
    target = driver.target(Options(target=name), function)
    assert target.bypass == 0
    assert generate(function, replace(target, bypass=1, l2=1)).object


def test_asked_only_for_large_results(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(targets, "_bypass", lambda: asked.append(1) or 1 << 22)
    rows = native().l2 // 1024
    small, large = (planned(softmax, np.ones((n, 256), "f4")) for n in (rows, rows + 1))
    assert driver.target(Options(), small).bypass == 0 and not asked
    assert driver.target(Options(), large).bypass == 1 << 22
    assert driver.target(Options(), large).l2 == native().l2


def test_measured_here() -> None:
    found = bandwidth.bypass_bytes(replace(native(), l2=1 << 20))
    assert found == 0 or (found >= 1 << 21 and found & (found - 1) == 0)


def test_large_results_from_the_face() -> None:
    x = np.random.default_rng(0).standard_normal((4096, 1500), dtype="f4")
    expected = softmax(x.astype("f8"))
    for count in (1, 2):
        np.testing.assert_allclose(gm.jit(softmax, threads=count)(x), expected, rtol=1e-5)
