"""ELF, as little of it as a library needs: write an object, rename symbols, read a linked file.

Only 64-bit little-endian files (x86-64, aarch64). The layout is that of the System V gABI.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from graphmill.records import record

MACHINES = {"x86_64": 62, "aarch64": 183}

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<qQ")
_IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)
_RELOCATABLE = 1
PROGBITS, SYMTAB, STRTAB, DYNAMIC, DYNSYM = 1, 2, 3, 6, 11
_NOBITS = 8
_ENTRY_SIZES = {SYMTAB: _SYMBOL.size, DYNSYM: _SYMBOL.size, DYNAMIC: _DYNAMIC.size}
ALLOC, EXECUTE = 2, 4
_LOCAL, _GLOBAL, _WEAK = 0, 1, 2
_HIDDEN = 2


class ElfError(ValueError):
    """Bytes that are no ELF file of the kind expected."""


@record
class Section:
    """A section to write: pieces of data, one after the other, and the symbols defined in it."""

    name: str
    flags: int
    pieces: Sequence[bytes]
    symbols: Mapping[str, int] = field(default_factory=dict)
    align: int = 64


def write_object(
    path: Path, machine: str, sections: Sequence[Section], *, hidden: bool = True
) -> None:
    """Write a relocatable object with (hidden) global symbols; the pieces are never joined."""
    visibility = _HIDDEN if hidden else 0
    names, strings = _Strings(), _Strings()
    symbols = [_SYMBOL.pack(0, 0, 0, 0, 0, 0)]
    for number, section in enumerate(sections, 1):
        for symbol, offset in section.symbols.items():
            kind = 2 if section.flags & EXECUTE else 1
            entry = (strings.add(symbol), _GLOBAL << 4 | kind, visibility, number, offset, 0)
            symbols.append(_SYMBOL.pack(*entry))
    table = b"".join(symbols)
    headers = [bytes(_SECTION.size)]
    with path.open("wb") as file:
        file.write(bytes(_HEADER.size))
        for section in sections:
            offset = _pad(file, section.align)
            size = sum(file.write(piece) for piece in section.pieces)
            fields = (PROGBITS, section.flags, 0, offset, size, 0, 0, section.align, 0)
            headers.append(_SECTION.pack(names.add(section.name), *fields))
        # its presence without a flag says: no executable stack
        headers.append(_SECTION.pack(names.add(".note.GNU-stack"), PROGBITS, *[0] * 6, 1, 0))
        count = len(headers)
        for name, kind, data, link, info, align, entry_size in (
            (".symtab", SYMTAB, table, count + 1, 1, 8, _SYMBOL.size),
            (".strtab", STRTAB, strings.data, 0, 0, 1, 0),
            (".shstrtab", STRTAB, None, 0, 0, 1, 0),
        ):
            offset, place = _pad(file, align), names.add(name)
            size = file.write(names.data if data is None else data)
            fields = (kind, 0, 0, offset, size, link, info, align, entry_size)
            headers.append(_SECTION.pack(place, *fields))
        start = _pad(file, 8)
        file.write(b"".join(headers))
        file.seek(0)
        sizes = (_HEADER.size, 0, 0, _SECTION.size, len(headers), len(headers) - 1)
        identity = (_IDENT, _RELOCATABLE, MACHINES[machine], 1, 0, 0, start, 0)
        file.write(_HEADER.pack(*identity, *sizes))


class _Strings:
    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, name: str) -> int:
        at = len(self.data)
        self.data += name.encode() + b"\0"
        return at


def _pad(file: object, align: int) -> int:
    position: int = file.tell()  # type: ignore[attr-defined]
    file.write(bytes(-position % align))  # type: ignore[attr-defined]
    return position + -position % align


class Elf:
    """A parsed ELF file: its sections and symbol tables, every offset checked."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        if len(data) < _HEADER.size or data[:6] != _IDENT[:6]:
            raise ElfError("not a 64-bit little-endian ELF file")
        header = _HEADER.unpack_from(data)
        self.type, self.machine, self.section_start = header[1], header[2], header[6]
        count, self.names_index = header[12], header[13]
        if self.section_start + count * _SECTION.size > len(data) or header[11] != _SECTION.size:
            raise ElfError("the ELF file is cut short")
        self.sections = [
            _SECTION.unpack_from(data, self.section_start + i * _SECTION.size) for i in range(count)
        ]
        for section in self.sections:
            _, kind, _, _, offset, size, *_ = section
            if kind not in (0, _NOBITS) and offset + size > len(data):
                raise ElfError("the ELF file is cut short")
            if size % _ENTRY_SIZES.get(kind, 1):
                raise ElfError("a table in the ELF file has an odd size")

    def content(self, index: int) -> bytes:
        """A section's bytes."""
        if index >= len(self.sections):
            raise ElfError("the ELF file names a section that it does not have")
        _, _, _, _, offset, size, *_ = self.sections[index]
        return self.data[offset : offset + size]

    def of_kind(self, kind: int) -> list[int]:
        """Indices of the sections of a type."""
        return [i for i, section in enumerate(self.sections) if section[1] == kind]

    def symbols(self, kind: int = SYMTAB, local: bool = False) -> list[tuple[str, int, int, int]]:
        """Global and weak symbols as (name, section index, visibility, position in the file).

        With `local` those that are seen in the file alone, too.
        """
        found = []
        for index in self.of_kind(kind):
            strings = self.content(self.sections[index][6])
            start, size = self.sections[index][4], self.sections[index][5]
            for at in range(start, start + size, _SYMBOL.size):
                name, info, other, place, _, _ = _SYMBOL.unpack_from(self.data, at)
                if local or info >> 4 in (_GLOBAL, _WEAK):
                    found.append((_text(strings, name), place, other & 3, at))
        return found

    def needed(self) -> list[str]:
        """Libraries that a shared object asks for (DT_NEEDED)."""
        return self._dynamic(1)

    def soname(self) -> str:
        """The shared object's own name (DT_SONAME), empty if it has none."""
        return next(iter(self._dynamic(14)), "")

    def _dynamic(self, wanted: int) -> list[str]:
        return [
            _text(self.content(self.sections[index][6]), value)
            for index in self.of_kind(DYNAMIC)
            for tag, value in _DYNAMIC.iter_unpack(self.content(index))
            if tag == wanted
        ]


def _text(strings: bytes, at: int) -> str:
    end = strings.find(b"\0", at)
    if end < 0:
        raise ElfError("a name in the ELF file has no end")
    return strings[at:end].decode("utf-8", "replace")


def undefined(elf: Elf, kind: int = SYMTAB) -> set[str]:
    """Names that the file uses and does not define."""
    return {name for name, place, _, _ in elf.symbols(kind) if place == 0 and name}


def exported(elf: Elf) -> set[str]:
    """Names that a shared object offers."""
    return {name for name, place, _, _ in elf.symbols(DYNSYM) if place != 0}


def rename(code: bytes, names: Mapping[str, str], public: frozenset[str]) -> bytes:
    """The object with its global symbols renamed; all that it defines but `public` is hidden.

    A longer string table goes to the end of the file; nothing else moves, so relocations hold.
    """
    elf = Elf(code)
    if elf.type != _RELOCATABLE:
        raise ElfError("not a relocatable object")
    data = bytearray(code)
    for index in elf.of_kind(SYMTAB):
        link = elf.sections[index][6]
        strings = bytearray(elf.content(link))
        for name, place, _, at in elf.symbols():
            new = names.get(name, name)
            if new != name:
                struct.pack_into("<I", data, at, len(strings))
                strings += new.encode() + b"\0"
            if place != 0 and new not in public:
                data[at + 5] = data[at + 5] & ~3 | _HIDDEN
        entry = elf.section_start + link * _SECTION.size
        struct.pack_into("<QQ", data, entry + 24, len(data), len(strings))
        data += strings
    return bytes(data)
