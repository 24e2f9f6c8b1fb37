"""Random calls: the native path and the Python path agree on values and on errors."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphmill.codegen.artifact import ArgSpec, DimSpec
from graphmill.runtime import native
from graphmill.runtime.dispatch import Dispatcher
from graphmill.runtime.executable import Executable
from tests.runtime.handwritten import add_artifact, artifact
from tests.runtime.test_executable import STRIDED


class Fixed(Dispatcher):
    """One executable, whatever the arguments; `python` runs it without the native path."""

    def __init__(self, made, *first):
        executable = Executable(made)
        super().__init__(lambda args: executable)
        self.python = executable.run
        for _ in range(3):
            self(*first)


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.fixture(scope="module")
def functions():
    if native.call_path() is None:
        pytest.skip("no native call path on this Python")
    strided = artifact(STRIDED.format(name="fz"), "fz", (ArgSpec("x", "f32", ("n",), True),),
                       (ArgSpec("y", "f32", ("n",)),), dims=(DimSpec("n", 0, 40),))  # fmt: skip
    return {
        "static": Fixed(add_artifact((3, 4)), ones(3, 4), ones(3, 4)),
        "symbolic": Fixed(add_artifact(("n", 4), dims=(DimSpec("n", 1, 9),)), *[ones(2, 4)] * 2),
        "strided": Fixed(strided, ones(5)),
        "number": Fixed(add_artifact((), "f64"), 1.0, 2.0),
    }


dtypes = st.sampled_from(["f4", "f4", "f4", "f8", "i4", ">f4", "c8", "?"])
shapes = st.one_of(
    st.sampled_from([(3, 4), (2, 4), (9, 4), (10, 4), (0, 4), (5,), ()]),
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
)
slices = st.builds(slice, st.none() | st.integers(-3, 3), st.none() | st.integers(-3, 6),
                   st.sampled_from([None, 1, 2, -1, -2]))  # fmt: skip


@st.composite
def arrays(draw):
    shape = draw(shapes)
    kind = draw(st.sampled_from(["plain", "plain", "view", "transposed", "broadcast", "fortran"]))
    x = np.arange(int(np.prod(shape)), dtype="f4").reshape(shape).astype(draw(dtypes))
    if kind == "view" and shape:
        return x[draw(slices)]
    if kind == "broadcast" and x.size:
        return np.broadcast_to(x[:1] if shape else x, (4, *shape[1:]))
    return {"transposed": x.T, "fortran": np.asfortranarray(x)}.get(kind, x)


values = st.one_of(
    arrays(), arrays(), arrays(), st.floats(), st.integers(), st.none(), st.booleans(),
    st.sampled_from([1 << 70, np.float32(2), np.float64(3), "a", [1.0, 2.0], 1j]),
)  # fmt: skip


def outcome(function, args):
    with np.errstate(all="ignore"):
        try:
            result = function(*args)
        except (TypeError, ValueError, BufferError) as error:
            return type(error).__name__
    return result[0] if isinstance(result, tuple) else result


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(["static", "symbolic", "strided", "number"]),
       args=st.lists(values, min_size=0, max_size=3), twice=st.booleans())  # fmt: skip
def test_native_and_python_agree(functions, name, args, twice):
    function = functions[name]
    args = [args[0]] * 2 if twice and args else args
    native_result, python_result = outcome(function, args), outcome(function.python, args)
    if isinstance(python_result, str):
        assert native_result == python_result
    else:
        assert native_result.dtype == python_result.dtype
        np.testing.assert_array_equal(native_result, python_result)
