"""One workload is one record: its inputs, its meaning, and how each framework writes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.layers import with_numpy

Arrays = tuple[np.ndarray[Any, Any], ...]

# How a framework writes a workload:
#   array, numpy, jax, graphmill   function (xp, *inputs, *constants) in NumPy style
#   reference                      the same, to be compared with, where NumPy is no peer
#   torch                          function (torch, *inputs, *constants); also for torch.compile
#   inductor                       function (torch) -> compiled function, where that differs
#   numba                          function (numba) -> compiled function (*inputs, *constants)
#   numexpr                        expression over the inputs' names
#   onnx                           ONNX text, constants written as inputs; ONNX Runtime and OpenVINO
#   layers                         function (xp, nn, *inputs, *constants), `nn` being `gm.nn` or the
#                                  peer's module of benchmarks.layers: all but Numba and numexpr
Code = Callable[..., Any] | str


@dataclass(frozen=True)
class Workload:
    """A piece of work with one array as its result.

    `constants` are arrays that a user would close over (weights), `flops` and `bytes` count the
    least work that the mathematics needs (every input read once, the result written once).
    `options` are Graphmill's for this workload, those of `gm.jit`: what a user has to ask for.
    Tags: `cold` (first results in fresh processes are timed, too), `memory` (their memory is
    measured), `model` (a whole network), `npbench` (one of NPBench's kernels, too).
    """

    name: str
    title: str
    inputs: Callable[[np.random.Generator], Mapping[str, np.ndarray[Any, Any]]]
    code: Mapping[str, Code]
    constants: Callable[[np.random.Generator], Arrays] = lambda rng: ()
    flops: float = 0.0
    bytes: float = 0.0
    tolerance: float = 1e-5
    mean_error: bool = False
    tags: frozenset[str] = field(default_factory=frozenset)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def of_npbench(self) -> bool:
        """Whether it is one of NPBench's kernels, in whatever family it stands."""
        return self.name.startswith("npb_") or "npbench" in self.tags

    def variant(self, *names: str) -> Code | None:
        """The first of the named ways of writing this workload that exists."""
        return next((self.code[name] for name in names if name in self.code), None)

    def data(self) -> tuple[dict[str, np.ndarray[Any, Any]], Arrays]:
        """Inputs and constants, the same in every process."""
        rng = np.random.default_rng(sum(self.name.encode()))
        return dict(self.inputs(rng)), self.constants(rng)

    def with_data(self) -> "Workload":
        """The workload with its data made: what is timed from then on leaves that out."""
        inputs, constants = self.data()
        return replace(self, inputs=lambda rng: inputs, constants=lambda rng: constants)

    def reference(self) -> np.ndarray[Any, Any]:
        """The result in NumPy with every float in float64."""
        inputs, constants = self.data()
        arrays = [wide(a) for a in (*inputs.values(), *constants)]
        function = self.function(("reference", "numpy", "array"), np, with_numpy)
        assert function is not None
        return np.asarray(function(*arrays))

    def function(self, names: Sequence[str], xp: Any, nn: Any) -> Callable[..., Any] | None:
        """What is called with inputs and constants: the first variant of `names`, or the layers."""
        code, layers = self.variant(*names), self.variant("layers")
        if callable(code):
            return partial(code, xp)
        return partial(layers, xp, nn) if callable(layers) else None

    def error(self, result: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
        """The largest (or mean) deviation, as a share of the reference's largest (mean) value."""
        if result.shape != reference.shape:
            return float("inf")
        reduce = np.mean if self.mean_error else np.max
        deviation = reduce(np.abs(result.astype(np.float64) - reference))
        return float(deviation / max(reduce(np.abs(reference)), 1e-30))


def wide(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.dtype.kind in "biu" else array.astype(np.float64)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape, dtype=np.float32)
