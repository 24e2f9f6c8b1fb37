"""The text form: what it looks like, exact round trips, errors with a caret."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphmill.ir.builder import function, region
from graphmill.ir.dtypes import ALL
from graphmill.ir.graph import Bounds, Location, Module
from graphmill.ir.parser import ParseError, parse, parse_function
from graphmill.ir.printer import constants_of, print_function, print_module
from graphmill.ir.types import tensor

MLP = """\
variable @steps: i64[] = 3
variable @"layer 1/w": f32[2, 2]

func @mlp(%x: f32[batch, 784], %w: f32[784, 10]) -> (f32[batch, 10]) dims={batch: 0.., n: 1..64} attrs={arena_bytes=64*batch + 8, note="a \\"b\\""} {
  %h: f32[batch, 10] = dot_general %x, %w {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}  // mlp.py:12
  %h1: f32[batch, 10] = fusion %h {buffers=["arena:0"], kind="loop", reason="why // not"} {  // mlp.py:13 in softmax
    (%a: f32[batch, 10]):
    %0: f32[batch, 10] = exp %a  // mlp.py:14
    %1: f32[batch, 10] = neg %0
    yield %1
  }
  %p: bool[] = constant {value=true}
  %h2: f32[batch, 10] = cond %p, %h1 true {
    (%b: f32[batch, 10]):
    yield %b
  } false {
    (%c: f32[batch, 10]):
    yield %c
  }
  return %h2
}
"""  # noqa: E501


def test_text_is_kept():
    assert print_module(parse(MLP), locations=True) == MLP


def test_comments_and_spaces_do_not_matter():
    text = MLP.replace("\n", "  \n\n").replace("  %p", " // about p\n%p").replace(", ", " ,  ")
    parsed = print_module(parse(text.replace('["arena:0"]', '[ "arena:0" ]')))
    assert parsed == print_module(parse(MLP))


def test_names_are_the_users_and_unique():
    def body(b, x, y):
        values = [b.op("add", x, y) for _ in range(5)]
        for value, name in zip(values, ["x", "x1", "x", "π", "2 b"], strict=True):
            value.name = name
        return values

    of = tensor("f32", 2)
    text = str(function("f", {"x": of, "y": of}, body))
    declared = [line.split(":")[0].strip() for line in text.splitlines()[1:-2]]
    assert declared == ["%x1", "%x11", "%x2", "%π", "%_2_b"]
    assert str(parse_function(text)) == text


def test_locations_are_comments():
    def body(b, x):
        with b.at(Location("/home/me/model.py", 7), "softmax"):
            y = b.op("exp", x)
        with b.at(Location("/home/me/model.py", 8), ""):
            return b.op("neg", y)

    made = function("f", {"x": tensor("f32", 2)}, body)
    text = print_function(made, locations=True)
    assert "exp %x  // model.py:7 in softmax\n" in text and "neg %0  // model.py:8\n" in text
    op = parse_function(text).ops[0]
    assert (op.loc, op.scope) == (Location("model.py", 7), "softmax")
    assert "model.py" not in print_function(made)


def test_bounds_of_dims():
    dims = {"n": Bounds(), "m": Bounds(1, 8), "k": Bounds(5, 5)}
    made = function("f", {"x": tensor("f32", "n", "m", "k")}, lambda b, x: x, dims)
    assert "dims={n: 0.., m: 1..8, k: 5..5}" in str(made)
    assert parse_function(str(made)).dims == dims


def constant(array):
    return function("f", {}, lambda b: b.constant(array))


def bits(array):
    return array.dtype.str, array.shape, array.tobytes()


@pytest.mark.parametrize("of", ALL, ids=str)
def test_every_bit_of_constants_is_kept(of):
    rng = np.random.default_rng(1)
    for shape in ((), (3,), (2, 2), (0, 4), (40,)):
        raw = rng.integers(0, 256, (*shape, of.itemsize), np.uint8)
        array = (raw % 2 if of.kind == "b" else raw).view(of.numpy)[..., 0]
        made = constant(np.ascontiguousarray(array))
        back = parse_function(str(made), constants_of(made)).ops[0].attrs["value"]
        assert bits(back) == bits(made.ops[0].attrs["value"])


@given(hnp.arrays(np.float32, st.integers(0, 16), elements=st.floats(width=32)))
@settings(max_examples=200)
def test_every_float32_is_kept(array):
    back = parse_function(str(constant(array))).ops[0].attrs["value"]
    assert bits(back) == bits(array)


@pytest.mark.parametrize(
    "value, text",
    [
        (np.float32(0.1), "0.1"),
        (np.float64("-inf"), "-inf"),
        (np.float32(-0.0), "-0.0"),
        (np.asarray(1.5, ml_dtypes.bfloat16), "1.5"),
        (np.complex64(complex(1, -2)), "complex(1.0, -2.0)"),
        (np.int8(-128), "-128"),
        (np.ones((3, 3), bool)[:2], "[[true, true, true], [true, true, true]]"),
        (np.full((5, 5), 7), "splat(7)"),
        (np.uint32(0xFFC00001).view(np.float32), "nan(0xffc00001)"),
    ],
)
def test_constants_read_well(value, text):
    assert f"constant {{value={text}}}" in str(constant(value))


def test_large_constants_are_elided_by_content():
    a, b = np.arange(100.0), np.arange(100.0)
    b[50] = -1
    assert str(constant(a)) == str(constant(a.copy())) != str(constant(b))
    assert "dense<sha256:" in str(constant(a)) and len(str(constant(a))) < 200
    with pytest.raises(ParseError, match="pass it in constants"):
        parse(str(constant(a)))
    (key,) = constants_of(constant(a))
    with pytest.raises(ParseError, match=r"the given array is f32\[100\], not f64\[100\]"):
        parse(str(constant(a)), {key: a.astype(np.float32)})


def test_text_does_not_depend_on_layout_in_memory():
    a = np.arange(36.0).reshape(6, 6)
    assert str(constant(a)) == str(constant(np.asfortranarray(a)))


LINE = "func @f(%x: f32[4, n], %y: i32[2]) -> (f32[4, n]) dims={n: 0..} {\n  OP\n  return %x\n}\n"


@pytest.mark.parametrize(
    "op, reason",
    [
        ("%a: f32[4, n] = expp %x", "there is no op 'expp'; did you mean 'exp'"),
        ("%a: f32[4, n] = exp %xx", "%xx is not defined here; did you mean 'x'"),
        ("%a: f32[4, 3] = exp %x", r"%a is f32\[4, n\], not f32\[4, 3\]"),
        ("%a: f32[4, n] = exp %y", "exp is not defined for i32"),
        ("%a: f32[4, n] = exp %x, %x", "exp takes 1 operands, got 2"),
        ("%a: f32[4, n], %b: f32[] = exp %x", "exp gives 1 values, not 2"),
        ("%x: f32[4, n] = exp %x", "%x is defined twice"),
        ("%a: f32[4, = exp %x", "expected a type"),
        ("%a: f33[4] = exp %x", "'f33' is no dtype; did you mean 'f32'"),
        ("%a: float32[4, n] = exp %x", "'float32' is no dtype"),
        ("%a: f32[floordiv(n, 0)] = exp %x", r"floordiv\(n, 0\)"),
        ("%a: f32[mod(4, 0)] = exp %x", "modulo by zero"),
        ("%a: f32[n, 4] = transpose %x", "transpose needs the attribute perm"),
        ("%a: f32[n, 4] = transpose %x {perm=7}", "perm must be a list of integers, not 7"),
        ("%a: f32[n, 4] = transpose %x {perm=[1, 1]}", "is no permutation"),
        ("%a: f32[n, 4] = transpose %x {perm=[1, 0", "expected ','"),
        ('%a: f32[n, 4] = transpose %x {perm="\\x"}', "no string"),
        ("%a: f32[] = constant {value=x}", "expected a number"),
        ("%a: i8[] = constant {value=128}", "128 does not fit into i8"),
        ("%a: f32[2] = constant {value=[1.0]}", "1 entries where the type has 2"),
        ("%a: f32[n] = constant {value=[1.0]}", "needs a fixed shape"),
        ("%a: f32[99999999999] = constant {value=splat(1.0)}", "too large"),
        ("%a: f32[4, n] = fusion %x {kind=\"\", reason=opaque<Plan>} {", "cannot be read back"),
        ("yield %x", "this block ends in return"),
        ("return %x", "nothing may follow return"),
        ("= exp", "expected an op"),
        ("%a: f32[4, n] = exp %x {k=1, k=2}", "given twice"),
        ("%a: f32[4, n] = exp %x {k=" + "(" * 5000, "deep"),
        ("%a: f32[4, n] = exp %x {k=" + "[" * 5000, "deep"),
        ("%a: f32[4, n] = exp %x {k=" + "9" * 5000 + "}", "Exceeds the limit"),
    ],
)  # fmt: skip
def test_errors_show_the_place(op, reason):
    with pytest.raises(ParseError, match=reason) as caught:
        parse(LINE.replace("OP", op))
    assert caught.value.line in (2, 3)
    place, line, caret = str(caught.value).split("\n")
    assert place.startswith(f"<text>:{caught.value.line}:{caught.value.column}: ")
    shown = min(caught.value.column, 101) if len(line) > 200 else caught.value.column
    assert caret.index("^") == shown + 1 and len(line) < 210


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "no function"),
        ("hello", "expected 'func'"),
        ("func @f() -> () {", "expected an op, found the end"),
        ("func @f() -> (f32[]) {\n return\n}", r"the function returns \(\)"),
        ("func @f() -> () {\n return\n}\nfunc @f() -> () {\n return\n}", "two functions @f"),
        ("variable @x: token\n", "a variable is a tensor"),
    ],
)
def test_errors_of_modules(text, reason):
    with pytest.raises(ParseError, match=reason):
        parse(text)


@given(st.text(max_size=40), st.integers(0, len(MLP)), st.integers(0, 30))
@settings(max_examples=150)
def test_damaged_text_gives_a_clear_error_or_ir(junk, at, cut):
    try:
        parse(MLP[:at] + junk + MLP[at + cut :])
    except ValueError as error:
        assert type(error).__name__ in ("ParseError", "VerifyError")


def test_regions_see_only_their_arguments():
    text = MLP.replace("neg %0", "neg %h")
    with pytest.raises(ParseError, match="%h is outside of this region"):
        parse(text)


def test_a_module_of_a_clone_prints_alike():
    module = parse(MLP)
    assert isinstance(module, Module) and str(module.clone()) == str(module)


def test_region_of_builder_prints_labels():
    x = tensor("i32")
    test = region([x], lambda b, i: b.op("lt", i, i))
    body = region([x], lambda b, i: i)
    made = function(
        "f", {"i": x}, lambda b, i: b.emit("while", [i], {"carry": 1}, [test, body]).result
    )
    assert "while %i {carry=1} test {" in str(made) and "} body {" in str(made)
