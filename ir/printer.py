"""Printing IR as text that `graphmill.ir.parser` reads back.

    func @mlp(%x: f32[batch, 784], %w: f32[784, 10]) -> (f32[batch, 10]) dims={batch: 0..} {
      %h: f32[batch, 10] = dot_general %x, %w {x_batch=[], …}  // mlp.py:12
      return %h
    }

Values keep the names of the user's variables, made unique within the function by a number;
unnamed values are numbered. The text has no addresses, paths or times: equal IR, equal text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from graphmill.ir.graph import Block, Bounds, Function, Location, Module, Op, Region, Value
from graphmill.ir.literals import FULL, digest, format_elements, format_value

Array = np.ndarray[Any, Any]

_PLAIN = r"[A-Za-z_][\w.$]*"


def print_module(module: Module, locations: bool = False) -> str:
    """The variables and all functions of a module, the entry first."""
    parts = [_variable_line(name, v.type, v.initial) for name, v in module.variables.items()]
    text = "\n".join(parts) + "\n\n" if parts else ""
    return text + "\n".join(print_function(f, locations) for f in module.functions.values())


def print_function(
    function: Function, locations: bool = False, content: Callable[[Array], str] = digest
) -> str:
    """A function; `locations` adds the user's `file.py:line` to each op as a comment.

    `content` says what stands for the elements of a large array.
    """
    return "\n".join(_Printer(Names(function), locations, content).function(function)) + "\n"


def print_op(op: Op, names: Names | None = None, locations: bool = False) -> str:
    """One op (and its regions); `names` are those of the function around it."""
    return "\n".join(_Printer(names or Names(), locations).op(op, ""))


def constants_of(module: Module | Function) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays that the text elides, by content hash; what `parse` takes as `constants`."""
    functions = [module] if isinstance(module, Function) else list(module.functions.values())
    found = {}
    for function in functions:
        for op in function.walk():
            for value in op.attrs.values():
                if isinstance(value, np.ndarray) and value.size > FULL:
                    found[digest(value)] = value
    if isinstance(module, Module):
        for variable in module.variables.values():
            if variable.initial is not None and variable.initial.size > FULL:
                found[digest(variable.initial)] = variable.initial
    return found


def symbol(name: str) -> str:
    """`@name`, quoted where the name has characters of its own."""
    return f"@{name}" if re.fullmatch(_PLAIN, name) else f"@{json.dumps(name, ensure_ascii=False)}"


class Names:
    """A unique name for each value of a function, in the order of the text."""

    def __init__(self, function: Function | None = None) -> None:
        self._names: dict[Value, str] = {}
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}
        self._number = 0
        if function is not None:
            self._block(function.block)

    def _block(self, block: Block) -> None:
        for arg in block.args:
            self._add(arg)
        for op in block.ops:
            for result in op.results:
                self._add(result)
            for region in op.regions:
                self._block(region.block)

    def _add(self, value: Value) -> str:
        base = re.sub(r"\W", "_", value.name)
        if not base:
            name, self._number = str(self._number), self._number + 1
        else:
            base = f"_{base}" if base[0].isdigit() else base
            name = base
            while name in self._taken:
                self._next[base] = self._next.get(base, 0) + 1
                name = f"{base}{self._next[base]}"
        self._taken.add(name)
        self._names[value] = name
        return name

    def __getitem__(self, value: Value) -> str:
        """The name with its `%`; a value met for the first time is given one."""
        name = self._names.get(value)
        return f"%{self._add(value) if name is None else name}"


class _Printer:
    def __init__(
        self, names: Names, locations: bool, content: Callable[[Array], str] = digest
    ) -> None:
        self.names = names
        self.locations = locations
        self.content = content
        self.types: dict[int, str] = {}  # by identity: passes share types

    def function(self, function: Function) -> Iterator[str]:
        params = ", ".join(self.declare(p) for p in function.params)
        ends = function.ops and function.ops[-1].definition.terminator
        results = ", ".join(str(v.type) for v in function.results) if ends else "?"
        head = f"func {symbol(function.name)}({params}) -> ({results})"
        if function.dims:
            dims = ", ".join(f"{name}: {_bounds(b)}" for name, b in function.dims.items())
            head += f" dims={{{dims}}}"
        if function.attrs:
            head += f" attrs={self.attrs(function.attrs)}"
        yield f"{head} {{{self.comment(function.loc, '')}"
        for op in function.ops:
            yield from self.op(op, "  ")
        yield "}"

    def op(self, op: Op, indent: str) -> Iterator[str]:
        line = indent
        if op.results:
            line += ", ".join(self.declare(r) for r in op.results) + " = "
        line += op.name
        if op.operands:
            line += " " + ", ".join(self.names[v] for v in op.operands)
        if op.attrs:
            line += f" {self.attrs(op.attrs, op)}"
        comment = self.comment(op.loc, op.scope)
        if not op.regions:
            yield line + comment
            return
        for label, region in zip(region_labels(op), op.regions, strict=True):
            yield f"{line} {label}{{{comment}"
            yield from self.region(region, indent + "  ")
            line, comment = f"{indent}}}", ""
        yield line + comment

    def region(self, region: Region, indent: str) -> Iterator[str]:
        args = ", ".join(self.declare(arg) for arg in region.block.args)
        yield f"{indent}({args}):"
        for op in region.block.ops:
            yield from self.op(op, indent)

    def declare(self, value: Value) -> str:
        text = self.types.get(id(value.type))
        if text is None:
            text = self.types[id(value.type)] = str(value.type)
        return f"{self.names[value]}: {text}"

    def attrs(self, attrs: Mapping[str, Any], op: Op | None = None) -> str:
        kinds = op.definition.attrs if op is not None else {}
        parts = []
        for key in sorted(attrs):
            value = attrs[key]
            bare = kinds.get(key) == "array" and isinstance(value, np.ndarray)
            text = format_elements(value, self.content) if bare else format_value(value)
            parts.append(f"{key}={text}")
        return f"{{{', '.join(parts)}}}"

    def comment(self, loc: Location | None, scope: str) -> str:
        if not self.locations or not (loc or scope):
            return ""
        place = str(loc) if loc else "?"
        return f"  // {place} in {scope}" if scope else f"  // {place}"


def region_labels(op: Op) -> list[str]:
    """The words before an op's regions, where there is more than one."""
    declared = op.definition.regions
    if len(op.regions) < 2:
        return ["" for _ in op.regions]
    if len(declared) == len(op.regions):
        return [f"{name} " for name in declared]
    first = op.operands[0].type if op.operands else None
    if len(op.regions) == 2 and str(first) == "bool[]":
        return ["true ", "false "]
    return [f"branch{i} " for i in range(len(op.regions))]


def _bounds(bounds: Bounds) -> str:
    return f"{bounds.low}..{'' if bounds.high is None else bounds.high}"


def _variable_line(name: str, type: Any, initial: Any) -> str:
    text = f"variable {symbol(name)}: {type}"
    return text if initial is None else f"{text} = {format_elements(initial)}"


__all__ = ["Names", "constants_of", "print_function", "print_module", "print_op", "symbol"]
