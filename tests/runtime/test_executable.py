"""Executables: values, and an error for every argument that the code must not see."""

import ctypes
import gc

import numpy as np
import pytest

from graphmill.codegen.artifact import ArgSpec, Artifact, ArtifactError, DimSpec
from graphmill.runtime import buffers
from graphmill.runtime.executable import CheckError, Executable
from tests.runtime.handwritten import (
    add_artifact,
    add_constant_artifact,
    add_executable,
    artifact,
    compile_ir,
)

STRIDED = """
define i32 @gm_{name}(ptr %ctx, ptr %args, ptr %dims) {{
entry:
  %n = load i64, ptr %dims
  %sp = getelementptr i64, ptr %dims, i64 1
  %s = load i64, ptr %sp
  %x = load ptr, ptr %args
  %yp = getelementptr ptr, ptr %args, i64 1
  %y = load ptr, ptr %yp
  br label %head
head:
  %i = phi i64 [0, %entry], [%next, %body]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %at = mul i64 %i, %s
  %xi = getelementptr float, ptr %x, i64 %at
  %yi = getelementptr float, ptr %y, i64 %i
  %v = load float, ptr %xi
  store float %v, ptr %yi
  %next = add i64 %i, 1
  br label %head
done:
  ret i32 0
}}
define i64 @gm_{name}_arena(ptr %dims, i64 %threads) {{ ret i64 0 }}
"""

# writes what the context held: threads, arena alignment, arena present, error record present
CONTEXT = """
define i32 @gm_{name}(ptr %ctx, ptr %args, ptr %dims) {{
  %yp = getelementptr ptr, ptr %args, i64 1
  %y = load ptr, ptr %yp
  %tp = getelementptr i64, ptr %ctx, i64 1
  %t = load i64, ptr %tp
  store i64 %t, ptr %y
  %ap = getelementptr i64, ptr %ctx, i64 2
  %a = load i64, ptr %ap
  %low = and i64 %a, 63
  %y1 = getelementptr i64, ptr %y, i64 1
  store i64 %low, ptr %y1
  %memory = inttoptr i64 %a to ptr
  %size = call i64 @gm_{name}_arena(ptr %dims, i64 %t)
  call void @llvm.memset.p0.i64(ptr %memory, i8 7, i64 %size, i1 false)
  %y2 = getelementptr i64, ptr %y, i64 2
  store i64 %size, ptr %y2
  ret i32 0
}}
define i64 @gm_{name}_arena(ptr %dims, i64 %threads) {{
  %n = load i64, ptr %dims
  %each = mul i64 %n, 64
  %size = mul i64 %each, %threads
  ret i64 %size
}}
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""

# fails with the record (1, 1, 13, 12, 10, bits of 2.5)
FAILING = """
define i32 @gm_{name}(ptr %ctx, ptr %args, ptr %dims) {{
  %ep = getelementptr ptr, ptr %ctx, i64 3
  %e = load ptr, ptr %ep
  store i64 {code}, ptr %e
  %e1 = getelementptr i64, ptr %e, i64 1
  store i64 1, ptr %e1
  %e2 = getelementptr i64, ptr %e, i64 2
  store i64 13, ptr %e2
  %e3 = getelementptr i64, ptr %e, i64 3
  store i64 12, ptr %e3
  %e4 = getelementptr i64, ptr %e, i64 4
  store i64 10, ptr %e4
  %e5 = getelementptr double, ptr %e, i64 5
  store double 2.5, ptr %e5
  ret i32 3
}}
define i64 @gm_{name}_arena(ptr %dims, i64 %threads) {{ ret i64 0 }}
"""


def small(text, name, inputs, outputs, **more):
    return Executable(artifact(text.format(name=name, code=1), name, inputs, outputs, **more))


def f32(*shape):
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (7,), (3, 5), (2, 0, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype, name", [("f32", "float32"), ("f64", "float64"), ("i64", "int64")])
def test_add(shape, dtype, name):
    x = f32(*shape).astype(name)
    (out,) = add_executable(shape, dtype).run(x, x + 1)
    assert out.dtype == x.dtype and out.shape == shape
    np.testing.assert_array_equal(out, x + (x + 1))


def test_threads_give_the_same():
    x = f32(1000)
    for count in (1, 2, 5):
        (out,) = add_executable((1000,), grain=10, threads=count).run(x, x)
        np.testing.assert_array_equal(out, x + x)


SYMBOLIC = DimSpec("n", 1, 100)


@pytest.mark.parametrize(
    "args, error, match",
    [
        ((f32(4),), TypeError, "takes 2 arguments, got 1"),
        ((f32(4), f32(4), f32(4)), TypeError, "takes 2 arguments, got 3"),
        ((f32(4).astype("f8"), f32(4)), TypeError, r"argument 0 \(a\) is f64\[4\].*f32\[n\]"),
        ((f32(4), f32(4, 1)), ValueError, r"argument 1 \(b\) is f32\[4, 1\]"),
        ((f32(4), f32(5)), ValueError, r"f32\[5\].* wants f32\[n\] with n = 4"),
        ((f32(0), f32(0)), ValueError, "dim n is 0: it must be at least 1 and at most 100"),
        ((f32(101), f32(101)), ValueError, "dim n is 101"),
        ((f32(4), "text"), TypeError, "argument 1"),
        ((f32(4), None), TypeError, "NoneType"),
        ((f32(4), 1.0), TypeError, "Python float"),
        ((f32(4), [[1.0], [2.0, 3.0]]), ValueError, "inhomogeneous"),
    ],
)
def test_wrong_arguments(args, error, match):
    executable = add_executable(("n",), dims=(SYMBOLIC,))
    with pytest.raises(error, match=match):
        executable.run(*args)
    assert not executable.accepts(args)


def test_static_dims_are_checked():
    with pytest.raises(ValueError, match=r"f32\[5\], the code wants f32\[4\]"):
        add_executable((4,)).run(f32(5), f32(4))


@pytest.mark.parametrize("n", [1, 2, 63, 100])
def test_symbolic_dims(n):
    executable = add_executable(("n", 3), dims=(SYMBOLIC,))
    x = f32(n, 3)
    np.testing.assert_array_equal(executable.run(x, x)[0], x + x)
    assert executable.accepts((x, x))


def test_dim_expressions_are_solved_and_checked():
    inputs = (ArgSpec("x", "f32", ("2*n + 1",), strided=True),)
    made = artifact(STRIDED.format(name="odd"), "odd", inputs, (ArgSpec("y", "f32", ("n",)),),
                    dims=(DimSpec("n"),))  # fmt: skip
    executable = Executable(made)
    np.testing.assert_array_equal(executable.run(f32(7))[0], f32(3))
    with pytest.raises(ValueError, match=r"2\*n \+ 1"):
        executable.run(f32(6))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::2], lambda x: x[::-1], lambda x: x[5:2:-1], lambda x: x[::37],
        lambda x: np.broadcast_to(x[3], (9,)), lambda x: x.reshape(8, -1)[:, 2], lambda x: x[4:4],
    ],
)  # fmt: skip
def test_strided_inputs_are_read_in_place(view):
    executable = small(STRIDED, "strided", (ArgSpec("x", "f32", ("n",), True),),
                       (ArgSpec("y", "f32", ("n",)),), dims=(DimSpec("n"),))  # fmt: skip
    x = view(f32(64))
    np.testing.assert_array_equal(executable.run(x)[0], x)


def _unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    out = raw[1:].view(np.float32)
    out[:] = x
    return out


def _odd_stride(x):
    records = np.zeros(len(x), dtype=np.dtype([("a", "u1"), ("x", "f4"), ("b", "u1")], align=False))
    records["x"] = x
    return records["x"]


@pytest.mark.parametrize(
    "view",
    [lambda x: x[::-1], lambda x: np.repeat(x, 2)[::2], _unaligned, _odd_stride,
     lambda x: x.astype(">f4"), lambda x: x[None].repeat(2, 0).T[:, 0]],
)  # fmt: skip
def test_what_the_code_cannot_read_is_copied_first(view):
    x = view(f32(16))
    plain = np.array(x, dtype=np.float32)
    np.testing.assert_array_equal(add_executable((16,)).run(x, x)[0], plain + plain)
    strided = small(STRIDED, "strided", (ArgSpec("x", "f32", ("n",), True),),
                    (ArgSpec("y", "f32", ("n",)),), dims=(DimSpec("n"),))  # fmt: skip
    np.testing.assert_array_equal(strided.run(x)[0], plain)


@pytest.mark.parametrize("n", [1, 3, 5000])
def test_context_and_arena(n):
    executable = small(CONTEXT, "context", (ArgSpec("x", "u8", ("n",)),),
                       (ArgSpec("y", "i64", (3,)),), dims=(DimSpec("n"),),
                       arena_bytes=None)  # fmt: skip
    executable.threads = 3
    np.testing.assert_array_equal(executable.run(np.zeros(n, np.uint8))[0], [3, 0, 3 * 64 * n])


def test_check_error():
    lines = ("f.py:1", "f.py:2")
    executable = small(FAILING, "failing", (), (ArgSpec("y", "f32", (1,)),), locations=lines)
    with pytest.raises(CheckError, match=r"f\.py:2.*13.*12 of 10.*2\.5") as caught:
        executable.run()
    error = caught.value
    found = (error.code, error.location, error.index, error.bad_index, error.bound, error.value)
    assert found == (1, "f.py:2", 13, 12, 10, 2.5)


def test_error_code_without_record():
    made = artifact(FAILING.format(name="bare", code=0), "bare", (), (ArgSpec("y", "f32", (1,)),))
    with pytest.raises(RuntimeError, match="error code 3"):
        Executable(made).run()


@pytest.mark.parametrize("size", [4, 100_000])
def test_constants_come_behind_the_outputs(size):
    executable = Executable(add_constant_artifact(f32(size) * 10))
    gc.collect()
    for _ in range(2):
        np.testing.assert_array_equal(executable.run(f32(size))[0], f32(size) * 11)
    assert all(buffers.address(c) % 64 == 0 for c in executable.constants)


def test_python_numbers():
    executable = add_executable((), "f64")
    assert executable.run(1, 2.5)[0] == 3.5
    assert executable.run(True, np.float64(2))[0] == 3.0
    with pytest.raises(TypeError, match="complex"):
        executable.run(1j, 1.0)
    with pytest.raises(ValueError, match="does not fit in i64"):
        add_executable((), "i64").run(1 << 70, 1)


class Interface:
    """Offers an array by one protocol only."""

    def __init__(self, array, *names):
        self.array = array
        for name in names:
            setattr(type(self), name, property(lambda self, name=name: getattr(self.array, name)))


def test_inputs_by_protocol():
    x = f32(4)
    dlpack = Interface(x, "__dlpack__", "__dlpack_device__")
    assert np.shares_memory(buffers.as_array(dlpack), x)

    class Holder:
        __array_interface__ = x.__array_interface__

    assert np.shares_memory(buffers.as_array(Holder()), x)
    for value in (dlpack, Holder(), [np.float32(k) for k in range(4)]):
        np.testing.assert_array_equal(add_executable((4,)).run(value, x)[0], x + x)
    assert type(buffers.as_array(x.view(np.recarray))) is np.ndarray
    with pytest.raises(TypeError, match="mask would be ignored"):
        buffers.as_array(np.ma.masked_array(x))


def test_output_goes_out_by_dlpack():
    for size in (4, 1 << 20):
        x = f32(size)
        (out,) = add_executable((size,)).run(x, x)
        back = np.from_dlpack(out)
        assert np.shares_memory(back, out)
        del out
        gc.collect()
        np.testing.assert_array_equal(back, x + x)


def test_other_devices_are_refused():
    class Remote:
        def __dlpack__(self, **_):
            raise AssertionError

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(TypeError, match="another device"):
        buffers.as_array(Remote())


def test_object_may_use_libm_but_nothing_else():
    def one(call, declare):
        return f"""
        {declare}
        define i32 @gm_u(ptr %ctx, ptr %args, ptr %dims) {{
          {call}
          ret i32 0
        }}
        define i64 @gm_u_arena(ptr %dims, i64 %threads) {{ ret i64 0 }}
        """

    cos = one("%x = call double @cos(double 1.0)", "declare double @cos(double)")
    Executable(artifact(cos, "u", (), ()))
    system = one("%x = call i32 @system(ptr null)", "declare i32 @system(ptr)")
    with pytest.raises(ArtifactError, match="system"):
        Executable(artifact(system, "u", (), ()))


@pytest.mark.parametrize("code", [b"", b"garbage" * 100, b"\x7fELF" + bytes(500)])
def test_damaged_objects_do_not_load(code):
    with pytest.raises(ArtifactError):
        Executable(Artifact("f", "gm_f", "host", code, (), ()))


@pytest.mark.parametrize("cut", [70, 200, 500, -200, -40])
def test_truncated_objects_do_not_load(cut):
    whole = compile_ir(STRIDED.format(name="cut"))
    with pytest.raises(ArtifactError):
        Executable(Artifact("cut", "gm_cut", "host", whole[:cut], (), ()))


def test_missing_entry():
    whole = compile_ir(STRIDED.format(name="here"))
    with pytest.raises(ArtifactError, match="gm_gone"):
        Executable(Artifact("gone", "gm_gone", "host", whole, (), ()))


def test_code_is_unloaded_with_its_executable():
    made = add_artifact((4,))
    for _ in range(50):
        executable = Executable(made)
        address = executable.code
        assert ctypes.c_uint8.from_address(address).value >= 0
        del executable
