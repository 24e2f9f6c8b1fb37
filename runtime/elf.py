"""Relocatable ELF objects for x86-64, read and brought into memory.

LLVM links objects of every format, but to load LLVM takes longer than all else in a start from the
compile cache. Here is what its own position-independent code needs and nothing more; thread-local
data, common symbols and absolute 32-bit addresses are refused. The layouts are those of the System
V gABI and its supplement for x86-64.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
from collections.abc import Callable, Hashable, Iterator, Sequence

from graphmill.codegen.artifact import ArtifactError
from graphmill.records import record

X86_64 = 62

_HEADER = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")
_INT, _WORD = struct.Struct("<i"), struct.Struct("<Q")
_SYMTAB, _RELA, _NOBITS = 2, 4, 8
_WRITE, _ALLOC, _EXECUTE, _TLS = 1, 2, 4, 0x400
_ABSOLUTE = 0xFFF1
_LOCAL, _WEAK = 0, 2
_CODE, _CONSTANT, _VARIABLE = range(3)
_UNWIND = 0x70000001
# kinds of relocation, and what they want: a symbol's address; the distance to it, or to a jump to
# it; the distance to a slot with its address
_64, _PC64 = 1, 24
_DIRECT, _NEAR, _SLOT = "direct", "near", "slot"
_WANTS = {_64: _DIRECT, _PC64: _DIRECT, 2: _NEAR, 4: _NEAR, 9: _SLOT, 41: _SLOT, 42: _SLOT}
_STUB = b"\xff\x25"  # jmp [rip + distance]
_STUB_SIZE = 8
_MOST = 1 << 30  # bytes of a program


@record
class Section:
    """A section header."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int

    @property
    def part(self) -> int:
        """Which part of the memory it belongs to."""
        if self.flags & _EXECUTE:
            return _CODE
        return _VARIABLE if self.flags & _WRITE else _CONSTANT


@record
class Symbol:
    """A symbol; `section` 0 says that it is defined elsewhere, `is_weak` that it may be nowhere."""

    name: str
    is_global: bool
    is_weak: bool
    section: int
    value: int


class Object:
    """The tables of a 64-bit ELF object; raises `ArtifactError` if it is none."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        try:
            header = _HEADER.unpack_from(data)
            if header[:3] != (b"\x7fELF", 2, 1):
                raise ArtifactError("not a 64-bit little-endian ELF object")
            self.machine = header[4]
            offset, size, count = header[8], header[13], header[14]
            self.sections = [
                Section(*_SECTION.unpack_from(data, offset + k * size)) for k in range(count)
            ]
            self.symbols = [symbol for table in self.sections for symbol in self._read(table)]
        except (struct.error, IndexError) as error:
            raise ArtifactError(f"damaged ELF object ({error})") from None

    def _read(self, table: Section) -> Iterator[Symbol]:
        if table.kind != _SYMTAB:
            return
        text = self.sections[table.link].offset
        for at in range(table.offset, table.offset + table.size, _SYMBOL.size):
            name, info, _, section, value, _ = _SYMBOL.unpack_from(self.data, at)
            binding = info >> 4
            yield Symbol(
                self._text(text + name), binding != _LOCAL, binding == _WEAK, section, value
            )

    def _text(self, start: int) -> str:
        stop = self.data.find(b"\0", start)
        return self.data[start : stop if stop >= 0 else start].decode("ascii", "replace")

    def placed(self) -> list[tuple[int, Section]]:
        """The sections that are part of the program, with their numbers; no unwinding tables."""
        found = [
            (index, section)
            for index, section in enumerate(self.sections)
            if section.flags & _ALLOC and section.kind != _UNWIND
        ]
        if any(section.flags & _TLS for _, section in found):
            raise ArtifactError("the ELF object has thread-local data")
        return found

    def content(self, index: int) -> bytes:
        """What stands in the file of a section; nothing of one that begins as zeros."""
        section = self.sections[index]
        size = 0 if section.kind == _NOBITS else section.size
        return self.data[section.offset : section.offset + size]

    def relocations(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(section, place in it, kind, symbol, addend) of all that the program leaves open."""
        sizes = {index: section.size for index, section in self.placed()}
        for table in self.sections:
            if table.kind != _RELA or table.info not in sizes:
                continue
            entries = self.data[table.offset : table.offset + table.size]
            last = sizes[table.info] - _INT.size
            for place, kind, symbol, addend in _RELOCATION.iter_unpack(entries):
                if place > last - (_INT.size if kind in (_64, _PC64) else 0):
                    raise ArtifactError("the ELF object leaves open what is not its own")
                yield table.info, place, kind, symbol, addend


class Linked:
    """Objects in memory, linked with each other and, through `resolve(name)`, with the process.

    `addresses` are those of their global symbols; they hold as long as this object lives. Raises
    `ArtifactError` for what cannot be linked.
    """

    def __init__(self, objects: Sequence[Object], resolve: Callable[[str], int]) -> None:
        self._objects = objects
        self._resolve = resolve
        self.addresses: dict[str, int] = {}
        try:
            self._slots = self._count_slots()
            self._place()
            self._copy()
            self._fill_slots()
            for number in range(len(objects)):
                self._fill_in(number)
        except (struct.error, IndexError, KeyError, ValueError) as error:
            raise ArtifactError(f"damaged ELF object ({error!r})") from None
        _protect(self._base, self._table - self._base, mmap.PROT_READ | mmap.PROT_EXEC)
        _protect(self._table, self._variables - self._table, mmap.PROT_READ)

    def _count_slots(self) -> dict[Hashable, int]:
        """A number for each symbol whose address the code finds in a slot."""
        self._own = {s.name for o in self._objects for s in o.symbols if s.section and s.is_global}
        slots: dict[Hashable, int] = {}
        for number, of in enumerate(self._objects):
            for _, _, kind, symbol, _ in of.relocations():
                if kind not in _WANTS:
                    raise ArtifactError(f"the ELF object has a relocation of kind {kind}")
                if _WANTS[kind] == _SLOT or self._is_outside(of.symbols[symbol]):
                    slots.setdefault(self._key(number, symbol), len(slots))
        return slots

    def _key(self, number: int, symbol: int) -> Hashable:
        found = self._objects[number].symbols[symbol]
        return found.name if found.is_global else (number, symbol)

    def _is_outside(self, symbol: Symbol) -> bool:
        return not symbol.section and symbol.name not in self._own

    def _place(self) -> None:
        """Lay out code and jumps, then slots and constants, then variables."""
        count, end = len(self._slots), 0
        self._starts: list[dict[int, int]] = [{} for _ in self._objects]
        begins = []
        for part in range(3):
            begins.append(end)
            end += _WORD.size * count if part == _CONSTANT else 0
            for starts, of in zip(self._starts, self._objects, strict=True):
                for index, section in of.placed():
                    if section.part == part:
                        starts[index] = end = end + -end % max(section.align, 1)
                        end += section.size
            if part == _CODE:
                stubs = end = end + -end % _STUB_SIZE
                end += _STUB_SIZE * count
            end += -end % mmap.PAGESIZE
        if end > _MOST:
            raise ArtifactError("the ELF object wants more memory than near addresses reach")
        self._memory = mmap.mmap(-1, max(end, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._stubs, self._table = self._base + stubs, self._base + begins[_CONSTANT]
        self._variables = self._base + begins[_VARIABLE]

    def _copy(self) -> None:
        """Copy the sections; then it is known where every symbol is."""
        for number, of in enumerate(self._objects):
            for index, start in self._starts[number].items():
                content = of.content(index)
                self._memory[start : start + len(content)] = content
            for symbol in of.symbols:
                if symbol.is_global and symbol.section:
                    if symbol.name in self.addresses:
                        raise ArtifactError(f"the symbol {symbol.name} is defined twice")
                    self.addresses[symbol.name] = self._address(number, symbol)

    def _address(self, number: int, symbol: Symbol) -> int:
        """Where a symbol is, in the objects or in the process."""
        if symbol.section == _ABSOLUTE:
            return symbol.value
        if symbol.section:
            return self._base + self._starts[number][symbol.section] + symbol.value
        if symbol.name in self.addresses:
            return self.addresses[symbol.name]
        with contextlib.suppress(ArtifactError) if symbol.is_weak else contextlib.nullcontext():
            return self._resolve(symbol.name)
        return 0

    def _fill_slots(self) -> None:
        """Write the addresses in the slots, and for each a jump there that is near all code."""
        symbols = {
            self._key(number, index): (number, symbol)
            for number, of in enumerate(self._objects)
            for index, symbol in enumerate(of.symbols)
        }
        for key, slot in self._slots.items():
            place, stub = self._table + _WORD.size * slot, self._stubs + _STUB_SIZE * slot
            _WORD.pack_into(self._memory, place - self._base, self._address(*symbols[key]))
            at = stub - self._base
            self._memory[at : at + 2] = _STUB
            _INT.pack_into(self._memory, at + 2, place - (stub + 6))

    def _fill_in(self, number: int) -> None:
        """Write the addresses and distances that an object's sections leave open."""
        of, starts, memory, base = (
            self._objects[number], self._starts[number], self._memory, self._base,
        )  # fmt: skip
        known: dict[tuple[str, int], int] = {}
        for section, place, kind, symbol, addend in of.relocations():
            want = _WANTS[kind], symbol
            target = known.get(want)
            if target is None:
                target = known[want] = self._target(number, *want)
            at = starts[section] + place
            if kind == _64:
                _WORD.pack_into(memory, at, target + addend)
            elif kind == _PC64:
                _WORD.pack_into(memory, at, target + addend - base - at & (1 << 64) - 1)
            else:
                _INT.pack_into(memory, at, target + addend - base - at)

    def _target(self, number: int, want: str, index: int) -> int:
        symbol = self._objects[number].symbols[index]
        if want == _SLOT:
            return self._table + _WORD.size * self._slots[self._key(number, index)]
        if want == _NEAR and self._is_outside(symbol):
            return self._stubs + _STUB_SIZE * self._slots[symbol.name]
        return self._address(number, symbol)


def _protect(start: int, size: int, mode: int) -> None:
    if not size:
        return
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if protect(start, size, mode):
        reason = os.strerror(ctypes.get_errno())
        raise ArtifactError(f"the system refuses memory for machine code: {reason}")
