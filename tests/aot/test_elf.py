"""Objects: what is written reads back, symbols are renamed and hidden, junk is refused."""

import contextlib
import random

import pytest

from graphmill.codegen.aot import elf
from graphmill.codegen.aot.elf import ALLOC, Elf, ElfError, Section
from tests.aot import kernels

SECTIONS = [
    Section(".rodata.a", ALLOC, (b"abc", bytes(61), b"xyz"), {"gm_a": 0, "gm_x": 64}),
    Section(".rodata.b", ALLOC, (b"b" * 100,), {"gm_b": 3}, align=4096),
]


def test_write_and_read(tmp_path):
    for hidden in (True, False):
        path = tmp_path / "x.o"
        elf.write_object(path, "aarch64", SECTIONS, hidden=hidden)
        parsed = Elf(path.read_bytes())
        assert (parsed.type, parsed.machine) == (1, 183)
        assert parsed.content(1) == b"abc" + bytes(61) + b"xyz" and parsed.content(2) == b"b" * 100
        assert all(section[4] % section[8] == 0 for section in parsed.sections[1:3])
        symbols = [(name, place, seen) for name, place, seen, _ in parsed.symbols()]
        seen = 2 if hidden else 0
        assert symbols == [("gm_a", 1, seen), ("gm_x", 1, seen), ("gm_b", 2, seen)]


@pytest.mark.parametrize("target", ["x86-64-v2", "aarch64"])
def test_rename(target):
    code = kernels.dense(target=target)[0].object
    names = {"gm_dense": "public", "gm_dense_arena": "inner", "tanhf": "tanhf"}
    made = Elf(elf.rename(code, names, frozenset({"public"})))
    seen = {name: (place != 0, visibility) for name, place, visibility, _ in made.symbols()}
    assert seen["public"] == (True, 0) and seen["inner"] == (True, 2)
    assert seen["tanhf"] == (False, 0) and "gm_dense" not in seen
    assert elf.undefined(made) >= {"tanhf", "memcpy"}


def test_junk_is_refused():
    code = bytearray(kernels.copy().object)
    for data in (b"", b"MZ", bytes(64), code[:100], code[:-70]):
        with pytest.raises(ElfError):
            elf.rename(bytes(data), {}, frozenset())
    random.seed(0)
    for _ in range(300):
        bad = bytearray(code)
        for _ in range(4):
            bad[random.randrange(len(bad))] = random.randrange(256)
        with contextlib.suppress(ElfError):
            elf.rename(bytes(bad), {"gm_copy": "x"}, frozenset())
