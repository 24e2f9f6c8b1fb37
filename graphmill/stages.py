"""What `f.trace`, `f.lower` and `f.compile` give: the function on its way to machine code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from graphmill import driver
from graphmill.driver import Options
from graphmill.frontend.variable import Variable
from graphmill.ir import graph as ir_graph
from graphmill.ir.cost import function_cost
from graphmill.ir.graph import Function, Module
from graphmill.ir.ops.base import Cost
from graphmill.runtime.executable import Executable as Loaded

Variables = Mapping[str, Variable]


def load(
    function: Function, variables: Variables, options: Options, threads: int | None = None
) -> Loaded:
    """Machine code of a traced function that reads and assigns these variables."""
    if not variables:
        return Loaded(driver.compile_function(function, options), threads=threads)
    from graphmill.passes.state import state
    from graphmill.runtime.stateful import StatefulExecutable

    function = state(function)
    reads, writes = ([variables[n] for n in function.attrs[k]] for k in ("reads", "writes"))
    artifact = driver.compile_function(function, options)
    return StatefulExecutable(artifact, reads, writes, threads=threads)


class Graph:
    """The IR of a traced function. `str()` prints it."""

    def __init__(self, function: Function, options: Options, variables: Variables) -> None:
        self.function = function
        self.options = options
        self.variables = variables

    def __str__(self) -> str:
        return str(self.function)

    def verify(self) -> None:
        """Check the IR; raises an error that names op, values and line."""
        from graphmill.ir.verifier import verify

        verify(self.function)

    def to_networkx(self) -> Any:
        """The graph for networkx: a node per op and parameter, an edge per use."""
        return self.function.to_networkx()

    def interpret(self, *arrays: Any) -> tuple[Any, ...]:
        """Evaluate with NumPy, op by op: the slow, exact meaning.

        Variables start with their present values, and keep them.
        """
        from graphmill.ir.reference import interpret

        variables = {
            name: ir_graph.Variable(name, v.type, v.value) for name, v in self.variables.items()
        }
        return interpret(Module({self.function.name: self.function}, variables), *arrays)

    def cost(self) -> Cost:
        """Operations and bytes, as numbers or dim expressions."""
        return function_cost(self.function)


class Lowered:
    """A traced function and its later forms, each made when it is asked for."""

    def __init__(self, function: Function, options: Options, variables: Variables) -> None:
        self.function = function
        self.options = options
        self.variables = variables

    @cached_property
    def planned(self) -> Function:
        """The IR after the whole pipeline."""
        return driver.optimise(self.function, self.options)

    @cached_property
    def _texts(self) -> dict[str, str]:
        return driver.texts(self.planned, self.options)

    def ir(self, stage: str | None = None) -> str:
        """The IR text after the stage called `stage` (`trace` for the start, None for the end)."""
        if stage is None:
            return str(self.planned)
        if stage == "trace":
            return str(self.function)
        return str(driver.optimise(self.function, self.options, stop=stage))

    def mlir(self) -> str:
        """The MLIR module that code generation writes."""
        return self._texts["mlir"]

    def llvm(self) -> str:
        """The optimised LLVM IR."""
        return self._texts["llvm"]

    def asm(self) -> str:
        """The assembly for this machine."""
        return self._texts["asm"]

    def memory(self) -> str:
        """The memory plan: arena, offsets, peak."""
        from graphmill.report.memory import memory_report

        return memory_report(self.planned)

    def compile(self, threads: int | None = None) -> Executable:
        """Machine code, loaded."""
        return Executable(load(self.function, self.variables, self.options, threads), self)


class Executable:
    """Compiled code: `run(*arrays)` returns the results as a tuple."""

    def __init__(self, loaded: Loaded, lowered: Lowered) -> None:
        self._loaded = loaded
        self._lowered = lowered

    def run(self, *arrays: Any) -> tuple[Any, ...]:
        """Run on flat arguments; returns the flat results."""
        return self._loaded.run(*arrays)

    def cost(self) -> Cost:
        """Operations and bytes of one run."""
        return function_cost(self._lowered.planned)

    def memory(self) -> str:
        """The memory plan: arena, offsets, peak."""
        return self._lowered.memory()

    @property
    def kernels(self) -> tuple[Any, ...]:
        """The kernels: name, the user's line, operations, bytes."""
        return self._loaded.artifact.kernels
