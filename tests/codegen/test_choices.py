"""Every point of the space is right: random choices of random kernels against NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphmill as gm
from graphmill import driver
from graphmill.codegen.cpu.generate import generate, write
from graphmill.codegen.cpu.schedule import Notes, Schedule
from graphmill.codegen.cpu.target import Target, native
from graphmill.driver import Options
from graphmill.frontend.trace import trace
from graphmill.ir.graph import Function
from graphmill.runtime.executable import Executable
from graphmill.runtime.threads import threads

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def values(*shape: int) -> Array:
    return RNG.standard_normal(shape, dtype=np.float32)


def softmax(x: Any, axis: int = -1) -> Any:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def attention(q: Any, k: Any, v: Any) -> Any:
    return softmax(q @ k.swapaxes(-1, -2) * np.float32(0.125)) @ v


def convolution(**options: Any) -> Callable[[Any, Any], Any]:
    return lambda x, w: gm.nn.conv2d(x, w, **options)


@dataclass(frozen=True)
class Program:
    """A function, and its arguments for small numbers drawn."""

    function: Callable[..., Any]
    arguments: Callable[[int, int, int], tuple[Array, ...]]
    inside: bool = False  # the last argument is a constant


PROGRAMS: Mapping[str, Program] = {
    "product": Program(
        lambda x, y: x @ y, lambda a, b, c: (values(a, 9 * b), values(9 * b, 7 * c))
    ),
    "product by a constant": Program(
        lambda x, y: np.maximum(x @ y, 0),
        lambda a, b, c: (values(a, 40 * b), values(40 * b, 9 * c)),
        inside=True,
    ),
    "batch of products": Program(
        lambda x, y: x @ y.swapaxes(1, 2),
        lambda a, b, c: (values(3, a, 5 * b), values(3, c, 5 * b)),
    ),
    "few rows": Program(
        lambda x, y: x @ y, lambda a, b, c: (values(1 + a % 8, 30 * b), values(30 * b, 11 * c))
    ),
    "convolution": Program(
        convolution(padding=1),
        lambda a, b, c: (values(1, 9 + a, 5 + b, 4 + c), values(16, 9 + a, 3, 3)),
        inside=True,
    ),
    "blocked convolutions": Program(
        lambda x, w: gm.nn.conv2d(gm.nn.conv2d(x, w, padding=1), w, stride=2),
        lambda a, b, c: (values(2, 24, 6 + b, 5 + c), values(24, 24, 3, 3)),
        inside=True,
    ),
    "convolution of few filters": Program(
        convolution(),
        lambda a, b, c: (values(2, 1 + a, 4 + b, 9 + c), values(2, 1 + a, 2, 3)),
    ),
    "1 × 1 convolution": Program(
        convolution(), lambda a, b, c: (values(2, 8, 3 + b, 4 + c), values(5 + a, 8, 1, 1))
    ),
    "depthwise convolution": Program(
        lambda x, w: gm.nn.conv2d(np.maximum(gm.nn.conv2d(x, w[0:32]), 0), w[32:, :1], groups=32),
        lambda a, b, c: (values(1, 16, 5 + b, 6 + c), values(64, 16, 3, 3)),
        inside=True,
    ),
    "attention": Program(
        attention,
        lambda a, b, c: (values(2, 3 * a, 16), values(2, 20 * b, 16), values(2, 20 * b, 8 + c)),
    ),
    "attention of few": Program(
        attention,
        lambda a, b, c: (values(3, 1 + a % 8, 24), values(3, 60 * b, 24), values(3, 60 * b, 24)),
    ),
    "rows": Program(softmax, lambda a, b, c: (values(a, 40 * b),)),
    "columns": Program(lambda x: softmax(x, 0), lambda a, b, c: (values(5 * a, 90 * b),)),
    "across rows": Program(
        lambda x, y: x + 2 * y.T, lambda a, b, c: (values(9 * a, 40 * b), values(40 * b, 9 * a))
    ),
    "elementwise": Program(
        lambda x, y: np.tanh(x * y) + y, lambda a, b, c: (values(a, 700 * b), values(700 * b))
    ),
}


@dataclass
class Compiled:
    """A planned program, its arguments and NumPy's results."""

    planned: Function
    arguments: tuple[Array, ...]
    wanted: Array

    @staticmethod
    def of(program: Program, numbers: tuple[int, int, int]) -> Compiled:
        arrays = program.arguments(*numbers)
        given, fixed = (arrays[:-1], arrays[-1:]) if program.inside else (arrays, ())
        traced = trace(lambda *xs: program.function(*xs, *fixed), given).function
        wanted = program.function(*(a.astype(np.float64) for a in arrays))
        return Compiled(driver.optimise(traced, Options()), given, wanted)

    def choices(self, target: Target) -> Notes:
        notes = Notes()
        write(self.planned, replace(target, notes=notes), profiled=False)
        return notes


@settings(max_examples=25, deadline=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(st.data(), st.sampled_from(sorted(PROGRAMS)), st.tuples(*[st.integers(1, 24)] * 3))
def test_any_choices_give_the_result(data: Any, name: str, numbers: tuple[int, int, int]) -> None:
    compiled = Compiled.of(PROGRAMS[name], numbers)
    drawn: dict[str, Schedule] = {}
    machine = native()
    for _ in range(2):  # some choices come up only when others are made
        for (kernel, choice), one in compiled.choices(machine).choices.items():
            schedule = drawn.get(kernel, Schedule())
            if schedule.get(choice) is None:
                value = data.draw(st.sampled_from([one.model, *one.others]), label=choice)
                drawn[kernel] = schedule.with_choice(choice, value)
        machine = replace(machine, schedules=tuple(sorted(drawn.items())))
    with threads(1 + numbers[0] % 2):
        (got,) = Executable(generate(compiled.planned, machine)).run(*compiled.arguments)
    scale = abs(compiled.wanted).max()
    np.testing.assert_allclose(got, compiled.wanted, rtol=1e-4, atol=3e-6 * scale + 1e-5)
