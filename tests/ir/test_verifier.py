"""Broken graphs: each rule of the verifier, and what its error shows."""

import time

import pytest

from graphmill.ir.builder import Builder, function, region
from graphmill.ir.dtypes import f32
from graphmill.ir.graph import Bounds, Location, Module, Value, Variable
from graphmill.ir.parser import parse, parse_function
from graphmill.ir.types import tensor
from graphmill.ir.verifier import VerifyError, verify

GOOD = """\
func @f(%x: f32[n, 4], %y: f32[n, 4]) -> (f32[n, 4]) dims={n: 0..} {
  %h: f32[n, 4] = mul %x, %y  // model.py:3 in norm
  %t: f32[4, n] = transpose %h {perm=[1, 0]}  // model.py:4
  %u: f32[n, 4] = transpose %t {perm=[1, 0]}  // model.py:5
  %e: f32[n, 4] = fusion %u, %x {kind="loop", reason=""} {  // model.py:6
    (%a: f32[n, 4], %b: f32[n, 4]):
    %c: f32[n, 4] = sub %a, %b
    yield %c
  }
  return %e
}
"""


def use_before_definition(f):
    h, t, *_ = f.ops
    f.block.ops[:2] = [t, h]


def use_of_erased(f):
    f.block.ops.remove(f.ops[0])
    f.params[0].uses.clear()


def escape_from_region(f):
    f.ops[3].regions[0].block.ops[0].set_operand(0, f.ops[0].result)


def use_not_listed(f):
    f.params[0].uses.clear()


def use_listed_twice(f):
    f.params[0].uses[f.ops[1], 0] = None


def wrong_type(f):
    f.ops[1].result.type = tensor("f32", 4, 5)


def wrong_region_type(f):
    f.ops[3].regions[0].block.args[0].type = tensor("f64", "n", 4)


def wrong_attribute(f):
    f.ops[1].attrs["perm"] = "10"


def missing_attribute(f):
    del f.ops[1].attrs["perm"]


def bad_attribute(f):
    f.ops[1].attrs["perm"] = (0, 0)


def no_terminator(f):
    f.ops[-1].erase()


def early_terminator(f):
    Builder(f.block, anchor=f.ops[1]).emit("return", [f.params[0]])


def wrong_terminator(f):
    f.ops[3].regions[0].block.ops[-1] = f.ops[-1]


def foreign_block(f):
    f.ops[2].block = None


def foreign_result(f):
    f.ops[0].results[0] = Value(f.ops[0].result.type, f.ops[0], 1, "h")
    f.ops[0].results[0].uses = f.ops[1].operands[0].uses


def undeclared_dim(f):
    f.dims.clear()


def impossible_dim(f):
    f.dims["n"] = Bounds(5, 4)


def reserved_dim(f):
    f.dims["f32"] = Bounds()


def lost_region(f):
    f.ops[3].regions.clear()


BREAKS = {
    use_before_definition: "transpose at model.py:4: operand 0, %h, is defined later",
    use_of_erased: "operand 0, %h",
    escape_from_region: "%h, is defined outside of this region; regions see only their arguments",
    use_not_listed: "mul at model.py:3 in norm: operand 0 does not list this op as its user",
    use_listed_twice: "%x lists a use by transpose that is not there",
    wrong_type: r"results are f32\[4, 5\]; the op's rule gives f32\[4, n\]",
    wrong_region_type: r"sub: dtypes f64 and f32 differ",
    wrong_attribute: 'attribute perm must be a list of integers, not "10"',
    missing_attribute: "attribute perm is missing",
    bad_attribute: "is no permutation",
    no_terminator: "the block does not end in return",
    early_terminator: "a terminator before the end of the block",
    wrong_terminator: "the block does not end in yield",
    foreign_block: "the op says it is in another block",
    foreign_result: "result 0 says it is another op's",
    undeclared_dim: "dim n is not declared",
    impossible_dim: r"dim n has no size in 5\.\.4",
    reserved_dim: "'f32' cannot name a dim",
    lost_region: "takes one region",
}


def test_the_whole_one_passes():
    verify(parse(GOOD))


@pytest.mark.parametrize("damage", BREAKS, ids=lambda f: f.__name__)
def test_broken(damage):
    made = parse_function(GOOD)
    damage(made)
    with pytest.raises(VerifyError, match=BREAKS[damage]):
        verify(made)


def test_error_shows_the_op_among_its_neighbours():
    made = parse_function(GOOD)
    wrong_type(made)
    with pytest.raises(VerifyError) as caught:
        verify(made)
    assert caught.value.op is made.ops[1] and caught.value.function is made
    first, *shown = str(caught.value).splitlines()
    assert first.startswith("@f: %t = transpose at model.py:4: ")
    assert [line.strip()[:6] for line in shown] == [
        "%h: f3",
        "> %t: ",
        "%u: f3",
        "%e: f3",
        "return",
    ]
    assert shown[3].endswith("{  // model.py:6 … }")


def token_used_twice(b, x):
    token = b.token()
    value, _ = b.emit("variable.read", [token], {"name": "w", "type": x.type}).results
    b.emit("variable.assign", [x, token], {"name": "w"})
    return value


def test_tokens_are_linear():
    made = function("f", {"x": tensor("f32", 2)}, token_used_twice)
    with pytest.raises(VerifyError, match=r"used 2 times: variable\.read, variable\.assign"):
        verify(made)


@pytest.mark.parametrize(
    "op, reason",
    [
        ("%a: f32[2] = call %x {callee=\"g\", types=[f32[2]]}", "no function 'g'"),
        ("%a: f32[2] = call %x {callee=\"two\", types=[f32[2]]}", "@two takes 2 operands"),
        ("%t: token = token\n %a: f32[2], %u: token = variable.read %t {name=\"v\", type=f32[2]}",
         "no variable 'v'"),
        ("%t: token = token\n %a: f32[2], %u: token = variable.read %t {name=\"w\", type=f32[2]}",
         r"the variable is f32\[3\]"),
        ("%t: token = token\n %u: token = variable.assign %x, %t {name=\"w\"}",
         r"the variable is f32\[3\], the value f32\[2\]"),
    ],
)  # fmt: skip
def test_modules_are_checked_across_functions(op, reason):
    text = f"""variable @w: f32[3]
    func @f(%x: f32[2]) -> (f32[2]) {{
      {op}
      return %x
    }}
    func @two(%x: f32[2], %y: f32[2]) -> (f32[2]) {{
      return %x
    }}"""
    with pytest.raises(VerifyError, match=reason):
        parse(text)


def test_module_names_agree():
    made = parse_function(GOOD)
    with pytest.raises(VerifyError, match="under the name 'g'"):
        verify(Module({"g": made}, {"w": Variable("w", tensor("f32"))}))


def test_layouts_and_devices_are_free():
    made = parse_function(GOOD.replace("%h: f32[n, 4] =", "%h: f32[n, 4] @ blocked on cuda:0 ="))
    verify(made)


def test_regions_may_use_their_arguments_only_in_builders_too():
    x = tensor("f32", 2)

    def body(b, a):
        inner = region([x], lambda bb, c: bb.op("add", c, a))
        return b.emit("fusion", [a], {"kind": "loop", "reason": ""}, [inner]).result

    with pytest.raises(VerifyError, match="regions see only their arguments"):
        verify(function("f", {"a": x}, body))


def test_errors_survive_locations_with_callers():
    def body(b, x):
        with b.at(Location("lib.py", 1, caller=Location("main.py", 9))):
            return b.op("exp", x)

    made = function("f", {"x": tensor("f32", 2)}, body)
    made.ops[0].result.type = tensor("f64", 2)
    with pytest.raises(VerifyError, match=r"exp at lib\.py:1"):
        verify(made)


def test_verifying_takes_time_in_proportion_to_the_ops():
    def chain(count):
        def body(b, x, y):
            for _ in range(count // 5):
                x = b.op("add", b.op("mul", x, y), b.op("exp", x))
                x = b.transpose(b.transpose(x, (1, 0)), (1, 0))
            return x

        made = function("f", {"x": tensor(f32, "n", 4), "y": tensor(f32, "n", 4)}, body)
        assert len(made.ops) == count + 1
        verify(made)
        return made

    def took(made):
        # of this thread alone: what else the machine does shall not count
        start = time.thread_time()
        verify(made)
        return time.thread_time() - start

    few, many = chain(1000), chain(10_000)
    ratios = [took(many) / took(few) for _ in range(7)]
    assert sorted(ratios)[3] < 30  # quadratic: 100
