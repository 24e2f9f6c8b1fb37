"""Every op of the table: documented, with samples, a NumPy meaning, and text that round-trips."""

import numpy as np
import pytest

from graphmill.ir.cost import cost
from graphmill.ir.graph import Module, Variable
from graphmill.ir.ops.base import all_ops
from graphmill.ir.parser import parse
from graphmill.ir.printer import constants_of, print_module
from graphmill.ir.reference import interpret
from graphmill.ir.verifier import verify
from tests.ir.op_samples import X, arguments, one_op, sample_functions

TERMINATORS = ("return", "yield")
OPS = [name for name in all_ops() if name not in TERMINATORS]

# Ops whose meaning the evaluator knows itself, and those that have none in NumPy.
EVALUATED = {
    "cond", "while", "scan", "fusion", "prepare", "call", "token", "join", "variable.read",
    "variable.assign", "check", "require", *TERMINATORS,
}  # fmt: skip
FOREIGN = {"custom_call"}


def module_of(function):
    """The function with the callee and the variable that the samples name."""
    other = one_op("exp", [X], {}, name="other")
    zeros = np.zeros((2, 3), np.float32)
    return Module({function.name: function, "other": other}, {"w": Variable("w", X, zeros)})


@pytest.mark.parametrize("name", list(all_ops()))
def test_record_is_whole(name):
    record = all_ops()[name]
    assert record.name == name
    assert record.doc and record.doc[-1] != "."
    assert record.effect in ("pure", "reads", "writes", "checks", "communicates", "random")
    assert record.fusion in ("elementwise", "index", "reduce", "contract", "view", "none")
    assert (record.reference is None) == (name in EVALUATED | FOREIGN)


@pytest.mark.parametrize("name", OPS)
def test_samples_round_trip_and_verify(name):
    for function in sample_functions(name):
        module = module_of(function)
        verify(module)
        text = print_module(module)
        again = parse(text, constants_of(module))
        assert print_module(again) == text
        for old, new in zip(function.walk(), again.entry.walk(), strict=True):
            assert [v.type for v in old.results] == [v.type for v in new.results]
        assert cost(function.ops[0], module).flops is not None


@pytest.mark.parametrize("name", [n for n in OPS if n not in FOREIGN])
def test_samples_evaluate(name):
    for function in sample_functions(name):
        arrays = arguments(function)
        padded = iter(arrays)
        given = [next(padded) if str(p.type) != "token" else 0 for p in function.params]
        module = module_of(function)
        results = interpret(module, *given, sizes=dict.fromkeys(function.dims, 4))
        again = interpret(
            parse(print_module(module), constants_of(module)), *given,
            sizes=dict.fromkeys(function.dims, 4),
        )  # fmt: skip
        for a, b in zip(results, again, strict=True):
            assert a.tobytes() == b.tobytes()


def test_foreign_ops_say_so():
    (function,) = sample_functions("custom_call")
    with pytest.raises(ValueError, match="custom_call has no meaning in NumPy"):
        interpret(function, np.zeros((2, 3), np.float32))


def test_no_sample_mutates_its_operands():
    for name in OPS:
        if name in FOREIGN or name in EVALUATED:
            continue
        for function in sample_functions(name):
            arrays = arguments(function)
            before = [a.tobytes() for a in arrays]
            interpret(function, *arrays, sizes=dict.fromkeys(function.dims, 4))
            assert before == [a.tobytes() for a in arrays], name
