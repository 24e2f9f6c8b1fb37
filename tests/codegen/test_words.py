"""The word language: what programs compute, against Python, and what it refuses."""

import ctypes
import random

import pytest

from graphmill.codegen.cpu import words
from graphmill.runtime.loader import LoadedObject

WORD = ctypes.c_int64


def load(source, name, arguments=2, effort=0, **constants):
    code = words.to_object(source, effort=effort, constants=constants)
    loaded = LoadedObject(code, [name], system=True)
    function = ctypes.CFUNCTYPE(WORD, *[WORD] * arguments)(loaded.addresses[name])
    function.kept = loaded
    return function


def wrap(value):
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


OPERATIONS = [
    ("a + b", lambda a, b: a + b),
    ("a - b", lambda a, b: a - b),
    ("a * b", lambda a, b: a * b),
    ("a & b", lambda a, b: a & b),
    ("a | b", lambda a, b: a | b),
    ("a ^ b", lambda a, b: a ^ b),
    ("~a", lambda a, b: ~a),
    ("-a", lambda a, b: -a),
    ("a << 3", lambda a, b: a << 3),
    ("a >> 5", lambda a, b: a >> 5),
    ("a // (b | 1)", lambda a, b: int(abs(a) // abs(b | 1)) * (1 if (a < 0) == (b < 0) else -1)),
    ("a % (b | 1)", lambda a, b: abs(a) % abs(b | 1) * (-1 if a < 0 else 1)),
    ("min(a, b) + max(a, b)", lambda a, b: a + b),
    ("a < b", lambda a, b: a < b),
    ("a <= b", lambda a, b: a <= b),
    ("a == b", lambda a, b: a == b),
    ("a != b", lambda a, b: a != b),
    ("not a", lambda a, b: not a),
    ("a > 0 and b > 0", lambda a, b: a > 0 and b > 0),
    ("a > 0 or not b > 0", lambda a, b: a > 0 or not b > 0),
    ("a if a > b else b", max),
    ("i32(a)", lambda a, b: (a + (1 << 31)) % (1 << 32) - (1 << 31)),
    ("leading_zeros(a | 1)", lambda a, b: 64 - ((a | 1) % (1 << 64)).bit_length()),
    ("K + L", lambda a, b: 7 + (1 << 40)),
]


@pytest.mark.parametrize("effort", [0, 2])
def test_expressions(effort):
    source = "L = 1 << 40\n" + "".join(
        f"def gm_{k}(a, b):\n    return {text}\n" for k, (text, _) in enumerate(OPERATIONS)
    )
    names = [f"gm_{k}" for k in range(len(OPERATIONS))]
    code = words.to_object(source, constants={"K": 7}, effort=effort)
    loaded = LoadedObject(code, names, system=True)
    rng = random.Random(1)
    values = [0, 1, -1, 2, 7, -8, 1 << 31, -(1 << 31), (1 << 62) + 5]
    values += [rng.randrange(-(1 << 62), 1 << 62) for _ in range(8)]
    for name, (text, meaning) in zip(names, OPERATIONS, strict=True):
        function = ctypes.CFUNCTYPE(WORD, WORD, WORD)(loaded.addresses[name])
        for a in values:
            for b in values:
                assert function(a, b) == wrap(int(meaning(a, b))), (text, a, b)


PROGRAM = '''
"""Loops, memory, calls and globals."""

from libc import memset
table = words(8)
SIZE = 8

def triangle(n):
    total = 0
    while n > 0:
        total += n
        n -= 1
    return total

def gm_main(a, b):
    """Sums with every statement of the language."""
    memory = stack(4)
    memset(memory, 0, 32)
    memory[2] = triangle(a)
    memory[2] += 1
    table[SIZE - 1] += b
    k = 0
    while 1:
        k += 1
        if k == 3:
            continue
        elif k > 6:
            break
        else:
            memory[0] += k
    operation = triangle
    store32(memory + 8, 1 << 33 | 5)
    store(memory + 24, operation(4))
    atomic_add(memory + 24, 100)
    relax()
    if not compare_and_swap(memory + 24, 110, 200):
        return -1
    if compare_and_swap(memory + 24, 110, 300):
        return -2
    return memory[0] + 1000 * memory[2] + load(table + 56) + memory[3] + load32(memory + 8)
'''


@pytest.mark.parametrize("effort", [0, 1, 2])
def test_program(effort):
    main = load(PROGRAM, "gm_main", effort=effort)
    assert main(10, 0) == 18 + 56_000 + 0 + 200 + 5
    assert main(0, 7) == 18 + 1000 + 7 + 200 + 5
    assert main(0, 1) == 18 + 1000 + 8 + 200 + 5


def test_floats():
    narrow = load("def gm_f(a):\n    return f32(a)\n", "gm_f", 1)
    for value in (0.0, 1.5, -2.75, 3.1415926535, 1e300, float("inf")):
        bits = ctypes.c_int64.from_buffer_copy(ctypes.c_double(value)).value
        assert narrow(bits) == ctypes.c_uint32.from_buffer_copy(ctypes.c_float(value)).value


@pytest.mark.parametrize(
    "source, match",
    [
        ("def gm_f(a):\n    return b\n", "line 2, in gm_f: unknown name: b"),
        ("def gm_f(a):\n    return g(a)\n", "unknown function"),
        ("def gm_f(a):\n    return load(a, 1)\n", "wrong number of arguments"),
        ("def gm_f(a):\n    return a.b\n", "not in the word language"),
        ("def gm_f(a):\n    return 1.5\n", "not in the word language"),
        ("def gm_f(a):\n    for k in a:\n        pass\n", "not in the word language"),
        ("def gm_f(a):\n    return 1\n    a = 2\n", "never reached"),
        ("def gm_f(a):\n    a.b = 1\n", "cannot be assigned"),
        ("def gm_f(a):\n    break\n", "not in the word language"),
        ("class C:\n    pass\n", "line 1: not allowed at the top"),
        ("K = f(3)\n", "not a constant"),
        ("from libc import free\ndef gm_f(a):\n    free(a)\n    free(a, a)\n", "another number"),
    ],
)
def test_refused(source, match):
    with pytest.raises(words.WordsError, match=match):
        words.to_llvm(source, "x86_64-linux-gnu")


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"])
def test_objects_for_other_targets(triple):
    assert words.to_object(PROGRAM, triple)[:4] == b"\x7fELF"
