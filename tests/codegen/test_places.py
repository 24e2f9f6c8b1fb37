"""Instructions lead back to the user's lines and to ops, and the code is the same without that."""

import re
from pathlib import Path

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.codegen.cpu import generate, llvm, mlir
from graphmill.codegen.cpu.places import Places, without_made_up
from graphmill.codegen.cpu.target import target
from graphmill.driver import Options

F = np.float32
X, W = np.ones((64, 48), F), np.ones((48, 48), F)


def shares(x, w):
    h = x @ w  # product
    m = h.max(axis=1, keepdims=True)  # largest
    e = np.exp(h - m)  # power
    return e / (e + e.sum(axis=1, keepdims=True))  # quotient


def twice(x, w):
    a = x @ w  # first
    b = np.sqrt(a)  # root
    c = b @ w  # second
    return np.sqrt(c)  # again


def loop(x, w):
    return gm.while_loop(lambda y: (y < 9).all(), lambda y: np.sqrt(y) + w.sum(), x)  # body


FUNCTIONS = [shares, twice, loop]
SOURCE = Path(__file__).read_text(encoding="utf-8").splitlines()
LINES = {text.partition("  # ")[2]: n for n, text in enumerate(SOURCE, 1) if "  # " in text}


def comments(text):
    """The lines of a text with the marks (`# power`) of the source lines each comes from."""
    marks = {f"test_places.py:{number}": mark for mark, number in LINES.items()}
    for line in text.splitlines():
        code, _, said = line.rpartition("  # ") if "  # " in line else line.rpartition("  ; ")
        found = [part.split(" %")[0] for part in said.split(", ")]
        yield (code, {marks.get(one, one) for one in found}) if code else (line, set())


def instructions(text, pattern):
    return [marks for code, marks in comments(text) if re.search(pattern, code)]


@pytest.fixture(scope="module")
def texts():
    lowered = gm.jit(shares).lower(X, W)
    return lowered.mlir(), lowered.llvm(), lowered.asm()


def test_every_stage_names_the_line_of_each_op(texts):
    made, optimised, assembly = texts
    for text, quotient, largest in (
        (made.replace("  // ", "  # "), r"arith\.divf", r"maximum|cmpf"),
        (optimised, r"fdiv", r"maximum|fcmp u?n?o"),
        (assembly, r"\bv?divps", None),
    ):
        assert instructions(text, quotient)
        assert all(marks == {"quotient"} for marks in instructions(text, quotient))
        assert largest is None or {"largest"} in instructions(text, largest)
        said = set().union(*(marks for _, marks in comments(text)))
        assert {"product", "largest", "power", "quotient"} <= said


def test_most_instructions_say_what_they_compute(texts):
    *_, assembly = texts
    found = instructions(assembly, r"^\tv?(fn?m(add|sub)|add|sub|mul|div|max)\w*ps\b")
    assert len(found) > 20 and sum(map(bool, found)) > 0.95 * len(found)


def test_the_value_of_the_ir_is_named(texts):
    assert re.search(r"divps.*# test_places\.py:\d+ %\w+$", texts[2], re.MULTILINE)
    assert re.search(r"test_places\.py:\d+ %e$", texts[1], re.MULTILINE)


def test_shared_code_comes_from_all_its_lines():
    assembly = gm.jit(twice).lower(X, W).asm()
    assert {"first", "second"} in instructions(assembly, r"vfn?m?add|mulps")
    roots = set().union(*instructions(assembly, r"sqrtps"))
    assert roots == {"root", "again"}


def test_bodies_of_loops():
    assert {"body"} in instructions(gm.jit(loop).lower(X, W).asm(), r"sqrtps")


@pytest.mark.parametrize("name", ["native", "x86-64-v2"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_code_does_not_depend_on_places(function, name):
    planned = driver.optimise(gm.jit(function).trace(X, W).function, Options())
    cpu = target(name)
    plain = generate.write(planned, cpu, False).unit
    unit = generate.write(planned, cpu, False, Places(planned)).unit
    assert unit.text() == plain.text()
    places = unit.places
    located = without_made_up(mlir.lower(places.located(unit.parts)))
    compiled = llvm.compile_ir(located, cpu, keep_text=True)
    want = llvm.compile_ir(mlir.lower(plain.text()), cpu, keep_text=True)
    code = re.sub(r"  # test_places.*", "", places.assembly(compiled.assembly, cpu.comment))
    assert code.split() == re.sub(r"\t\.cfi_.*", "", want.assembly).split()
    mlir.check(places.mlir(unit.parts))
    again = llvm.compile_ir(places.llvm(located), cpu)
    assert again.object == want.object


def test_files_with_odd_names(tmp_path):
    path = tmp_path / 'a "1.5 b\\é.py'
    path.write_text("def f(x):\n    return x / 3\n")
    space = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    assert f"{path.name}:2 %" in gm.jit(space["f"]).lower(X).asm()
