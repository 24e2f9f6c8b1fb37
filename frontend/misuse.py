"""Errors for using a traced value as what it is not: a bool, a number, a sequence, an array."""

from __future__ import annotations

import re

from graphmill.frontend import locations
from graphmill.frontend.describe import failure, here, name_of
from graphmill.frontend.errors import GraphmillError, source_line, source_text
from graphmill.frontend.sizes import Size
from graphmill.frontend.state import refused
from graphmill.frontend.tracer import Tracer


def as_bool(x: Tracer) -> GraphmillError:
    """For `if x:`, `while x:`, `x and y`, `x in y`, `assert x`."""
    return failure(
        "GM001",
        f"{name_of(x)} has no value while tracing",
        [x],
        why="Python's if, while, and, or, not, in and assert need True or False now; the "
        "value is computed when the compiled function runs.",
        hint=_static_hint(x) or _instead_of_truth(),
    )


def _static_hint(x: Tracer) -> str:
    """For a scalar argument that Python code asks about: it may well be the same in each call."""
    path = x._frame.trace.params.get(x._value, "").removeprefix("argument ").split(" of ")[0]
    if not path.isidentifier() or x.dims:
        return ""
    return (
        f'if {path} is a setting, make it static: gm.jit(f, static="{path}") compiles once for '
        "each of its values; np.where and gm.cond choose at run time."
    )


def _instead_of_truth() -> str:
    """What to write, by the user's line."""
    place = here()
    text = source_text(place) if place is not None else ""
    line = source_line(place) if place is not None else ""
    built_in = re.match(r"(max|min|any|all|sorted)\(", text)
    if built_in is not None:
        name = {"max": "maximum", "min": "minimum", "sorted": "sort"}.get(built_in[1], built_in[1])
        return f"np.{name} is the array function for Python's {built_in[1]}."
    if re.search(r"[<>]=?[^<>=&|()]+[<>]=?", text):
        return "a chained comparison is two with &: (a < x) & (x < b)."
    if re.search(r"\b(and|or|not)\b", line) and not line.lstrip().startswith(("if", "while")):
        return "& is and, | is or, ~ is not for arrays; put the comparisons in parentheses."
    if re.search(r"\bin\b", text):
        return "np.any(array == value) tells whether a value is in an array."
    if line.lstrip().startswith("while"):
        return "gm.while_loop(test, body, state) repeats while the test holds."
    return (
        "np.where(condition, a, b) chooses elementwise; gm.cond(condition, f, g, *args) runs one "
        "branch; gm.while_loop repeats; & | ~ combine conditions."
    )


def as_number(x: Tracer, what: str) -> GraphmillError:
    """For `int(x)`, `float(x)`, `range(x)`, `x.item()`, `f"{x:.2f}"`."""
    if locations.operation() == "write":  # of a number into a NumPy array
        return as_array(x)
    name = name_of(x)
    hints = {
        "int": f"{name}.astype(np.int64) keeps it traced.",
        "float": f"{name}.astype(np.float64) keeps it traced; math.sqrt and the like are "
        "np.sqrt on traced values.",
        "complex": f"{name}.astype(np.complex128) keeps it traced.",
        "index": "gm.fori_loop counts to a traced number; a size must be known: pass it as a "
        "static argument (static=...), or take it from a shape.",
        "text": "print it outside of the traced function.",
        "item": "leave .item() out: a 0-d traced value computes like a number.",
    }
    problem = failure(
        "GM002",
        f"{name} used as {'an index or size' if what == 'index' else what}",
        [x],
        why="Python needs the number now; it is computed when the compiled function runs.",
        hint=hints[what],
    )
    return refused(problem)


def as_sequence(x: Tracer, what: str) -> GraphmillError:
    """For `len(x)` and `for row in x` on a scalar or a symbolic axis."""
    if not x.dims:
        return failure(
            "GM003",
            f"{what} of a 0-d value",
            [x],
            why=f"{name_of(x)} has no axes.",
            hint="np.atleast_1d(x) gives it one.",
        )
    first = Size(x.dims[0]) if not isinstance(x.dims[0], int) else x.dims[0]
    problem = failure(
        "GM003",
        f"{what} along the symbolic dim {first}",
        [x],
        why=f"one compilation serves all sizes of {first}, so a Python loop cannot be unrolled.",
        hint="gm.scan goes over the rows of an array of any length; x.shape[0] gives the symbolic "
        "size; whole-array operations need no loop.",
    )
    return refused(problem) if what == "len()" else problem


def _text() -> str:
    """The expression that the user's code is computing."""
    place = here()
    return source_text(place) if place is not None else ""


def as_array(x: Tracer) -> GraphmillError:
    """For `table[x]`, `a[i] = x` with a NumPy array, `np.asarray(x)`, and unknown C code."""
    name = name_of(x)
    kind = locations.operation()
    if kind == "read":
        what, why = f"a NumPy array indexed by {name}", "NumPy needs the index now."
        hint = f"np.asarray(array)[{name}], or pass the array as an argument."
    elif kind == "write":
        what, why = f"{name} stored into a NumPy array", "that array lives only while tracing."
        hint = (
            "copy the array inside the function before the writes, a = np.array(a), and return "
            "it; np.empty(shape), np.zeros(shape) and np.zeros_like(x) make new ones, "
            "np.ndarray(shape) does not; np.stack joins rows."
        )
    elif (scalar := re.match(r"(?:np|numpy)\.((?:u?int|float|complex)\d+)\(", _text())) is not None:
        what, why = f"np.{scalar[1]} of {name}", "NumPy's number types need the number now."
        hint = f"{name}.astype(np.{scalar[1]}) keeps it traced."
    else:
        what = f"{name} has no elements while tracing"
        why = "np.array, np.asarray or a library function that knows only NumPy asked for them."
        hint = (
            f"leave np.asarray out (or write gm.numpy.asarray({name})); np.stack([x, y]) joins "
            "traced values."
        )
    return refused(failure("GM004", what, [x], why=why, hint=hint))
