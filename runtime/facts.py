"""Facts that guards watch: what a name, a function, a class, a container or an object held.

Each compares by identity what there is now with what there was. `words()` says the same as pairs of
an address and the word that must be there; None where only Python can tell.
"""

from __future__ import annotations

import array
import collections
import gc
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from graphmill.records import record
from graphmill.runtime.cpython import (
    ABSENT,
    FUNCTION_FIELDS,
    HEAD,
    Pair,
    dict_slots,
    function_offsets,
    list_slots,
    set_slots,
    slot_of,
)


@record
class Name:
    """A global: the dict, the name, the value it had."""

    space: dict[str, Any]
    name: str
    value: Any

    def valid(self) -> bool:
        return self.space.get(self.name, ABSENT) is self.value


@record
class Cell:
    """A closure's cell and what it held."""

    cell: types.CellType
    value: Any

    def valid(self) -> bool:
        return cell_value(self.cell) is self.value

    def words(self) -> list[Pair] | None:
        return [(id(self.cell) + HEAD, 0 if self.value is ABSENT else id(self.value))]


@record
class Function:
    """A function's code, defaults and closure."""

    function: types.FunctionType
    values: tuple[Any, ...]

    def valid(self) -> bool:
        pairs = zip(FUNCTION_FIELDS, self.values, strict=True)
        return all(getattr(self.function, field) is value for field, value in pairs)

    def words(self) -> list[Pair] | None:
        pairs = zip(function_offsets(), self.values, strict=True)
        base = id(self.function)
        return [(base + offset, 0 if value is None else id(value)) for offset, value in pairs]


@record
class Class:
    """A class and its attributes."""

    cls: type
    members: dict[str, Any]

    def valid(self) -> bool:
        now = vars(self.cls)
        if len(now) != len(self.members):
            return False
        return all(now.get(name, ABSENT) is value for name, value in self.members.items())

    def words(self) -> list[Pair] | None:
        # vars() gives a read-only view; the dict itself is what the class refers to
        for space in gc.get_referents(self.cls):
            if type(space) is dict and space.keys() == self.members.keys() and self.valid():
                return dict_slots(space)
        return None


@record
class Items:
    """A container and what it held, keys included, in order."""

    holder: Any
    read: Callable[[Any], list[Any]]
    slots: Callable[[Any], list[Pair] | None] | None
    items: list[Any]

    def valid(self) -> bool:
        now = self.read(self.holder)
        return len(now) == len(self.items) and all(map(_is, now, self.items))

    def words(self) -> list[Pair] | None:
        return self.slots(self.holder) if self.slots is not None and self.valid() else None


@record
class Slots:
    """An object whose class has `__slots__`, and what they held."""

    holder: object
    members: tuple[types.MemberDescriptorType, ...]
    items: list[Any]

    def valid(self) -> bool:
        return all(map(_is, _slot_values(self.holder, self.members), self.items))

    def words(self) -> list[Pair] | None:
        return slot_of(self.holder, self.members, self.items)


@record
class Buffer:
    """Memory that Python code reads item by item, and its bytes."""

    holder: Any
    content: bytes | None

    def valid(self) -> bool:
        return self.content is not None and _bytes(self.holder) == self.content

    def words(self) -> list[Pair] | None:
        return None


Fact = Name | Cell | Function | Class | Items | Slots | Buffer


def held(value: object, attributes: bool) -> list[Items | Slots | Buffer]:
    """Facts about what a value holds: as a container and, if asked, in its attributes."""
    found: list[Items | Slots | Buffer] = []
    for kind, (read, slots) in _CONTAINERS.items():
        if isinstance(value, kind):
            found.append(Items(value, read, slots, read(value)))
            break
    if isinstance(value, np.ndarray) and value.dtype == object:
        found.append(Items(value, _elements, None, _elements(value)))
    elif isinstance(value, bytearray | memoryview | array.array | np.ndarray):
        found.append(Buffer(value, _bytes(value)))
    if attributes:
        space = instance_dict(value)
        if space is not None:
            found.append(Items(space, _pairs, dict_slots, _pairs(space)))
        members = tuple(_members(type(value)))
        if members:
            found.append(Slots(value, members, _slot_values(value, members)))
    return found


def instance_dict(value: object) -> dict[str, Any] | None:
    """The dict of an object's attributes, without asking code of its class for it."""
    try:
        space = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return space if type(space) is dict else None


def cell_value(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def _members(kind: type) -> Iterable[types.MemberDescriptorType]:
    """What the slots of a class and of its bases are read by."""
    for base in kind.__mro__:
        if "__slots__" in vars(base):
            yield from [x for x in vars(base).values() if type(x) is types.MemberDescriptorType]


def _slot_values(holder: object, members: Sequence[types.MemberDescriptorType]) -> list[Any]:
    found: list[Any] = []
    for member in members:
        try:
            found.append(member.__get__(holder, type(holder)))
        except AttributeError:
            found.append(ABSENT)
    return found


def _pairs(space: dict[Any, Any]) -> list[Any]:
    """Keys and values; a subclass's own methods are not asked."""
    return [x for pair in list(dict.items(space)) for x in pair]


def _ordered_pairs(space: collections.OrderedDict[Any, Any]) -> list[Any]:
    return [x for pair in list(collections.OrderedDict.items(space)) for x in pair]


def _elements(value: np.ndarray[Any, Any]) -> list[Any]:
    return list(value.flat)


def _bytes(value: Any) -> bytes | None:
    try:
        return bytes(value) if isinstance(value, bytearray) else value.tobytes()
    except ValueError:  # a view that was released
        return None


def _is(a: object, b: object) -> bool:
    return a is b


# by type, the most special first: how to read the items in order, and words that keep them
_CONTAINERS: dict[type, tuple[Callable[[Any], list[Any]], Callable[[Any], Any] | None]] = {
    collections.OrderedDict: (_ordered_pairs, None), dict: (_pairs, dict_slots),
    list: (lambda x: list(list.__iter__(x)), list_slots),
    set: (lambda x: list(set.__iter__(x)), set_slots),
    collections.deque: (lambda x: list(collections.deque.__iter__(x)), None),
}  # fmt: skip
