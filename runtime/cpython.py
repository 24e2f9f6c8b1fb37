"""Where CPython keeps what guards look at: fields of functions, cells, dicts, lists, sets, slots.

Nothing here is assumed: `known_interpreter` builds samples, reads them back through the same
positions and changes them, and guards are not used natively where a sample surprises.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

Pair = tuple[int, int]

FUNCTION_FIELDS = ("__code__", "__defaults__", "__kwdefaults__", "__closure__")
HEAD = object.__basicsize__
# word positions in CPython's dict and list, bytes in a dict's table of keys
_DICT_USED, _DICT_KEYS, _DICT_VALUES = 2, 4, 5
_LIST_SIZE, _LIST_ITEMS = 2, 3
_SET_FILL, _SET_USED, _SET_MASK, _SET_TABLE = 2, 3, 4, 5
_KEYS_LOG2_INDEX_BYTES, _KEYS_KIND, _KEYS_ENTRIES, _KEYS_INDICES = 9, 10, 24, 32
_KIND_GENERAL = 0


def word(address: int) -> int:
    """The signed word at an address."""
    return ctypes.c_int64.from_address(address).value


def _byte(address: int) -> int:
    return ctypes.c_uint8.from_address(address).value


def _entries(space: dict[Any, Any]) -> Iterator[tuple[int, int]]:
    """Address of a key object and place of its value, for every entry of a dict's table."""
    keys = word(id(space) + 8 * _DICT_KEYS)
    values = word(id(space) + 8 * _DICT_VALUES)
    # entries are (key, value) where all keys are text, else (hash, key, value)
    general = _byte(keys + _KEYS_KIND) == _KIND_GENERAL
    width, at = (24, 8) if general else (16, 0)
    first = keys + _KEYS_INDICES + (1 << _byte(keys + _KEYS_LOG2_INDEX_BYTES))
    for k in range(word(keys + _KEYS_ENTRIES)):
        entry = first + width * k + at
        # objects of one class share their table of keys and have the values apart
        yield word(entry), values + _values_offset() + 8 * k if values else entry + 8


@functools.cache
def _values_offset() -> int:
    """Bytes before the first value in the separate values of an object's dict."""

    class Sample:
        def __init__(self) -> None:
            self.first = object()

    sample = Sample()
    space = vars(sample)
    values = word(id(space) + 8 * _DICT_VALUES)
    for offset in (0, 8) if values else ():
        if word(values + offset) == id(sample.first):
            return offset
    return 0


ABSENT = object()  # in place of the value of a name that is not there


def dict_slots(space: dict[Any, Any], wanted: dict[Any, Any] | None = None) -> list[Pair] | None:
    """What must hold while a dict keeps these items (all of its own if None); None if unclear.

    An item that is `ABSENT` must not be there: the dict gets no further keys.
    """
    items = dict(dict.items(space)) if wanted is None else wanted
    base = id(space)
    whole = wanted is None or any(value is ABSENT for value in wanted.values())
    fields = [_DICT_KEYS, _DICT_VALUES] + ([_DICT_USED] if whole else [])
    pairs = [(base + 8 * f, word(base + 8 * f)) for f in fields]
    places = dict(_entries(space))
    own = {key: key for key in space} if wanted is not None else None
    for key, value in items.items():
        if value is ABSENT:
            if key in space:
                return None
            continue
        key = own.get(key) if own is not None else key
        place = places.get(id(key))
        if place is None or word(place) != id(value):
            return None
        pairs.append((place, id(value)))
    return pairs


def list_slots(items: list[Any]) -> list[Pair]:
    """What must hold while a list keeps its items."""
    first = word(id(items) + 8 * _LIST_ITEMS)
    pairs = [
        (id(items) + 8 * _LIST_SIZE, list.__len__(items)),
        (id(items) + 8 * _LIST_ITEMS, first),
    ]
    return pairs + [(first + 8 * k, id(item)) for k, item in enumerate(list.__iter__(items))]


def set_slots(items: set[Any]) -> list[Pair]:
    """What must hold while a set keeps its items."""
    base = id(items)
    fields = (_SET_FILL, _SET_USED, _SET_MASK, _SET_TABLE)
    pairs = [(base + 8 * field, word(base + 8 * field)) for field in fields]
    table = word(base + 8 * _SET_TABLE)  # of (item, hash)
    places = [table + 16 * k for k in range(word(base + 8 * _SET_MASK) + 1)]
    return pairs + [(place, word(place)) for place in places if word(place)]


def slot_of(
    owner: object, members: Sequence[types.MemberDescriptorType], values: Sequence[Any]
) -> list[Pair] | None:
    """What must hold while the slots of an object keep their values; None if that is unclear."""
    pairs = []
    for member, value in zip(members, values, strict=True):
        # a descriptor's last field is its definition: name, type, offset
        place = id(owner) + word(word(id(member) + HEAD + 24) + 16)
        want = 0 if value is ABSENT else id(value)
        if word(place) != want:
            return None
        pairs.append((place, want))
    return pairs


@functools.cache
def _name_opcodes() -> dict[int, tuple[str, int]]:
    """Opcodes that load by name: as what, and how many low bits of the operand are flags."""
    from opcode import opmap

    flags = {"LOAD_GLOBAL": 1, "LOAD_ATTR": int(sys.version_info >= (3, 12))}
    kinds = {"LOAD_GLOBAL": "global", "LOAD_NAME": "global", "LOAD_ATTR": "attribute"}
    kinds |= {"LOAD_METHOD": "attribute", "IMPORT_FROM": "attribute", "IMPORT_NAME": "import"}
    # numbers above 255 are the compiler's own and never stand in code
    return {
        opmap[name]: (kind, flags.get(name, 0))
        for name, kind in kinds.items()
        if opmap.get(name, 256) < 256
    }


def name_loads(code: types.CodeType) -> Iterator[tuple[str, int]]:
    """Every load by name in code (`global`, `attribute`, `import`): position in `co_names`."""
    from opcode import EXTENDED_ARG

    opcodes = _name_opcodes()
    raw = code.co_code
    high = 0
    for operation, low in zip(raw[::2], raw[1::2], strict=True):
        operand = high | low
        high = operand << 8 if operation == EXTENDED_ARG else 0
        if operation in opcodes:
            kind, flags = opcodes[operation]
            yield kind, operand >> flags


@functools.cache
def function_offsets() -> tuple[int, ...]:
    """Byte offsets of a function's fields, found in a sample that has them all."""
    other = 1

    def sample(a: int = 1, *, b: int = 2) -> int:
        return a + b + other

    words = [word(id(sample) + 8 * k) for k in range(types.FunctionType.__basicsize__ // 8)]
    return tuple(8 * words.index(id(getattr(sample, field))) for field in FUNCTION_FIELDS)


def _hold(pairs: list[Pair] | None) -> bool:
    return pairs is not None and all(word(address) == want for address, want in pairs)


@functools.cache
def known_interpreter() -> bool:
    """Whether guards built for samples read back what they should, and notice changes."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    try:
        function_offsets()
    except ValueError:
        return False
    values = [object() for _ in range(40)]
    cell = types.CellType(values[0])
    dicts = _known_dict(values, None) and _known_dict(values, 3) and _known_object(values)
    others = _known_list(values) and _known_set(values) and _known_slots(values)
    return dicts and word(id(cell) + HEAD) == id(values[0]) and others


def _known_dict(values: list[object], extra: object) -> bool:
    space: dict[Any, Any] = {f"name{k}": value for k, value in enumerate(values)}
    if extra is not None:
        space[extra] = extra
    del space["name2"]
    whole, one = dict_slots(space), dict_slots(space, {"name20": values[20]})
    if not (_hold(whole) and _hold(one)):
        return False
    space["name20"] = None
    return not _hold(whole) and not _hold(one)


def _known_object(values: list[object]) -> bool:
    class Sample:
        def __init__(self) -> None:
            self.a, self.b, self.c = values[:3]

    first, second = Sample(), Sample()
    for sample in (first, second):
        pairs = dict_slots(vars(sample))
        if not _hold(pairs):
            return False
        sample.b = values[9]
        if _hold(pairs):
            return False
    return True


def _known_list(values: list[object]) -> bool:
    items = list(values)
    pairs = list_slots(items)
    if not _hold(pairs):
        return False
    items[7] = values[8]
    return not _hold(pairs)


def _known_set(values: list[object]) -> bool:
    for few in (2, len(values) - 1):  # in the set itself, and apart
        items = set(values[:few])
        pairs = set_slots(items)
        found = {want for _, want in pairs[4:]}
        if not _hold(pairs) or not {id(value) for value in items} <= found:
            return False
        items.remove(values[1])
        items.add(values[-1])
        if _hold(pairs):
            return False
    return True


def _known_slots(values: list[object]) -> bool:
    class Sample:
        __slots__ = ("a", "b")
        a: object
        b: object

    sample = Sample()
    sample.a = values[0]
    members = (vars(Sample)["a"], vars(Sample)["b"])
    pairs = slot_of(sample, members, (values[0], ABSENT))
    if not _hold(pairs):
        return False
    sample.b = values[1]
    return not _hold(pairs)
