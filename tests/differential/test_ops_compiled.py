"""Every op of the table, compiled by itself, against its NumPy meaning."""

import pytest

from graphmill.codegen.cpu.element import index_ops
from graphmill.codegen.cpu.lowering import EMITTERS, MODULES, emitter
from graphmill.ir.ops.base import all_ops
from graphmill.ir.reference import interpret
from tests.differential.compiled import PLAIN, assert_close, executable
from tests.differential.ranked import shifted
from tests.ir.op_samples import arguments, sample_functions

# ops that no function holds by itself, and the reason
NOT_ALONE = {
    "return": "ends a function", "yield": "ends a region", "token": "an order only",
    "join": "an order only", "call": "inlined before code generation",
    "variable.read": "turned into a parameter", "variable.assign": "turned into a result",
    "prepare": "takes constants",
    "custom_call": "needs a C function", "transfer": "needs the other device",
}  # fmt: skip
OPS = [name for name in all_ops() if name not in NOT_ALONE]


@pytest.mark.parametrize("name", OPS)
def test_op(name):
    for made in sample_functions(name):
        arrays = arguments(made)
        want = interpret(made, *arrays)
        compiled = executable(made, PLAIN)
        assert_close(compiled.run(*arrays), want, str(made))
        off = [shifted(a) for a in arrays]  # one element after an aligned address
        assert_close(compiled.run(*off), want, str(made))


def test_every_op_has_a_lowering():
    for name, definition in all_ops().items():
        lowered = emitter(name) or name in index_ops() or definition.family == "elementwise"
        assert lowered or name in NOT_ALONE, f"{name} has no CPU lowering"


def test_modules_with_lowerings_say_which():
    for module, ops in MODULES.items():
        assert all(emitter(op) for op in ops)
        found = {op for op, emit in EMITTERS.items() if emit.__module__.endswith(f".{module}")}
        assert found == set(ops)
