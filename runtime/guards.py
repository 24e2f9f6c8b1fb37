"""Guards: noticing, at every call, that a traced function's code or globals have changed.

A `Watch` walks a function and all user functions it reaches by name, and remembers what each
global, closure cell, default and code object was. `valid()` compares in Python; `words()` says the
same to the native call path as pairs (address, word that must be there): the slot of a global in
its dict, after the dict's table itself, so that a stale slot is never read. Values are compared by
identity: an array changed in place, or an attribute of an object, is not seen.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_HEAD = object.__basicsize__
# word positions in CPython's dict and its table of keys; checked by trying before use
_DICT_KEYS, _DICT_VALUES = 4, 5
_KEYS_LOG2_INDEX_BYTES, _KEYS_KIND, _KEYS_ENTRIES, _KEYS_INDICES = 9, 10, 24, 32
_FUNCTION_FIELDS = ("__code__", "__defaults__", "__kwdefaults__", "__closure__")
# library code is taken as it is
_LIBRARIES = frozenset((*sys.stdlib_module_names, "numpy", "graphmill", "ml_dtypes", "scipy")) - {
    "__main__"
}
_MISSING = object()

Pair = tuple[int, int]


class _Name(NamedTuple):
    """A global: the dict, the name, the value it had (or `_MISSING`)."""

    space: dict[str, Any]
    name: str
    value: Any

    def valid(self) -> bool:
        return self.space.get(self.name, _MISSING) is self.value

    def words(self) -> list[Pair] | None:
        return _slot(self.space, self.name, self.value)


class _Cell(NamedTuple):
    """A closure's cell and what it held."""

    cell: types.CellType
    value: Any

    def valid(self) -> bool:
        return _cell_value(self.cell) is self.value

    def words(self) -> list[Pair] | None:
        return [(id(self.cell) + _HEAD, 0 if self.value is _MISSING else id(self.value))]


class _Function(NamedTuple):
    """A function's code, defaults and closure."""

    function: types.FunctionType
    values: tuple[Any, ...]

    def valid(self) -> bool:
        return all(
            getattr(self.function, field) is value
            for field, value in zip(_FUNCTION_FIELDS, self.values, strict=True)
        )

    def words(self) -> list[Pair] | None:
        base = id(self.function)
        return [
            (base + offset, 0 if value is None else id(value))
            for offset, value in zip(_function_offsets(), self.values, strict=True)
        ]


class Watch:
    """What a function's meaning depends on beside its arguments, as it was when this was made."""

    def __init__(self, function: Any) -> None:
        self._facts: list[_Name | _Cell | _Function] = []
        self._seen: set[int] = set()
        self._visit(function)

    def valid(self) -> bool:
        """Whether everything is still as it was."""
        return all(fact.valid() for fact in self._facts)

    def words(self) -> list[Pair] | None:
        """The same for the native path; None where this interpreter's structs are unknown."""
        if not _known_interpreter():
            return None
        pairs: list[Pair] = []
        for fact in self._facts:
            words = fact.words()
            if words is None:
                return None
            pairs += words
        return list(dict.fromkeys(pairs))

    def _visit(self, value: Any) -> None:
        """Note a function and walk on; anything else leads to the functions in it."""
        while hasattr(value, "__wrapped__") and not isinstance(value, types.FunctionType):
            value = value.__wrapped__
        if isinstance(value, functools.partial):
            value = value.func
        if isinstance(value, types.MethodType):
            value = value.__func__
        if id(value) in self._seen:
            return
        if isinstance(value, type) and not _is_library(value.__module__):
            self._seen.add(id(value))
            for member in vars(value).values():
                self._visit(getattr(member, "__func__", member))
        if not isinstance(value, types.FunctionType) or _is_library(value.__module__):
            return
        self._seen.add(id(value))
        if hasattr(value, "__wrapped__"):
            self._visit(value.__wrapped__)
        self._facts.append(_Function(value, tuple(getattr(value, f) for f in _FUNCTION_FIELDS)))
        for cell in value.__closure__ or ():
            content = _cell_value(cell)
            self._facts.append(_Cell(cell, content))
            self._visit(content)
        names = list(dict.fromkeys(_names(value.__code__)))
        self._visit_names(value.__globals__, names)

    def _visit_names(self, space: dict[str, Any], names: list[str]) -> None:
        for name in names:
            value = space.get(name, _MISSING)
            if value is _MISSING:
                continue
            self._facts.append(_Name(space, name, value))
            if isinstance(value, types.ModuleType):
                if not _is_library(value.__name__) and id(value) not in self._seen:
                    self._seen.add(id(value))
                    self._visit_names(vars(value), names)
            else:
                self._visit(value)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _LIBRARIES


def _cell_value(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


# -- CPython's structs ---------------------------------------------------------------------
def _word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


def _byte(address: int) -> int:
    return ctypes.c_uint8.from_address(address).value


def _slot(space: Mapping[str, Any], name: str, value: Any) -> list[Pair] | None:
    """Where a dict keeps the value of a name: the word of its table, and the word of the value."""
    base = id(space)
    keys = _word(base + 8 * _DICT_KEYS)
    if _word(base + 8 * _DICT_VALUES) != 0:
        return None
    # tables whose keys are all text have entries (key, value), others (hash, key, value)
    text_only = _byte(keys + _KEYS_KIND) == 1
    width, at = (16, 0) if text_only else (24, 8)
    first = keys + _KEYS_INDICES + (1 << _byte(keys + _KEYS_LOG2_INDEX_BYTES))
    wanted = next((id(key) for key in space if key == name), 0)
    for entry in range(first, first + width * _word(keys + _KEYS_ENTRIES), width):
        if _word(entry + at) == wanted and _word(entry + at + 8) == id(value):
            return [(base + 8 * _DICT_KEYS, keys), (entry + at + 8, id(value))]
    return None


@functools.cache
def _function_offsets() -> tuple[int, ...]:
    """Byte offsets of a function's fields, found in a sample that has them all."""
    other = 1

    def sample(a: int = 1, *, b: int = 2) -> int:
        return a + b + other

    base = id(sample)
    words = [_word(base + 8 * k) for k in range(types.FunctionType.__basicsize__ // 8)]
    return tuple(8 * words.index(id(getattr(sample, field))) for field in _FUNCTION_FIELDS)


@functools.cache
def _known_interpreter() -> bool:
    """Whether guards built for samples read back what they should, and notice changes."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    try:
        _function_offsets()
    except ValueError:
        return False
    values = [object() for _ in range(40)]
    space: dict[Any, Any] = {f"name{k}": value for k, value in enumerate(values)}
    for extra in (None, 3):
        if extra is not None:
            space[extra] = extra
        del space["name2" if extra is None else "name3"]
        pairs = _slot(space, "name20", values[20])
        if pairs is None or any(_word(address) != want for address, want in pairs):
            return False
        space["name20"] = None
        if all(_word(address) == want for address, want in pairs):
            return False
        space["name20"] = values[20]
    cell = types.CellType(values[0])
    return _word(id(cell) + _HEAD) == id(values[0])
