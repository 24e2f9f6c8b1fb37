"""What a `prepare` makes of constants when code is loaded, and what an artifact keeps of it."""

from __future__ import annotations

import numpy as np
import pytest

from graphmill import driver
from graphmill.codegen.artifact import Artifact
from graphmill.codegen.constants import complete, sources
from graphmill.codegen.recipes import RecipeError, recipe_of
from graphmill.ir.builder import Builder, function
from graphmill.ir.dtypes import f32
from graphmill.ir.graph import Function, Value
from graphmill.ir.reference import interpret
from graphmill.ir.types import tensor
from graphmill.passes.manager import run_pipeline
from graphmill.passes.prepare import prepared
from graphmill.runtime.executable import Executable

RNG = np.random.default_rng(0)
W = RNG.standard_normal((40, 50)).astype(np.float32)
SCALE = RNG.standard_normal(40).astype(np.float32)


def scaled(b: Builder, w: Value, scale: Value) -> Value:
    return b.op("mul", b.broadcast(scale, w.shape, (0,)), w)


def blocked(b: Builder, w: Value, scale: Value) -> Value:
    zero = b.constant(0, f32)
    y = b.op("pad", w, zero, low=(0, 0), high=(8, 0), interior=(0, 0))
    return b.transpose(b.reshape(y, (3, 16, 50)), (0, 2, 1))


def both(b: Builder, w: Value, scale: Value) -> Value:
    return blocked(b, scaled(b, w, scale), scale)


def made(*bodies: object) -> Function:
    """x plus what the bodies, one after the other, make of constants."""

    def body(b: Builder, x: Value) -> Value:
        w = b.constant(W)
        for each in bodies:
            w = prepared(b, [w, b.constant(SCALE)], each)  # type: ignore[arg-type]
        return b.op("add", x, w)

    return function("f", {"x": tensor(f32, 3, 50, 16)}, body)


@pytest.mark.parametrize("bodies", [(both,), (blocked,), (scaled, scaled, blocked)])
def test_prepared_constants_are_made_again_from_their_sources(bodies: tuple[object, ...]) -> None:
    traced = made(*bodies)
    x = RNG.standard_normal((3, 50, 16)).astype(np.float32)
    (want,) = interpret(traced, x)
    planned, given = run_pipeline(traced), sources(traced)
    artifact = driver.emit(planned, driver.Options(), sources=given)
    stored = artifact.to_bytes()
    assert len(stored) - len(artifact.object) < W.nbytes, "weights are not stored"
    for ready in (
        artifact,
        complete(Artifact.from_bytes(stored), given, 2),
        driver.emit(planned, driver.Options()),
    ):
        np.testing.assert_array_equal(Executable(ready).run(x)[0], want)


def refused(b: Builder, w: Value, scale: Value) -> Value:
    return b.op("exp", w)


def negative(b: Builder, w: Value, scale: Value) -> Value:
    return b.op("pad", w, b.constant(1, f32), low=(0, 0), high=(8, 0), interior=(0, 0))


def squared(b: Builder, w: Value, scale: Value) -> Value:
    return b.op("mul", w, w)


def aside(b: Builder, w: Value, scale: Value) -> Value:
    b.transpose(w, (1, 0))
    return scale


@pytest.mark.parametrize("body", [refused, negative, squared, aside])
def test_what_is_no_step_is_an_error(body: object) -> None:
    found = Builder(Function("f").block)
    value = prepared(found, [found.constant(W), found.constant(SCALE)], body)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="prepare"):
        recipe_of(value)


def test_parameters_are_not_prepared() -> None:
    with pytest.raises(RecipeError, match="no constant"):
        recipe_of(Function("f", [tensor(f32, 3)]).params[0])
