"""Small hand-written kernels in LLVM IR that follow the executable ABI."""

import itertools

import numpy as np

from graphmill.codegen.artifact import ArgSpec, Artifact, Constant, DimSpec, KernelInfo
from graphmill.runtime.dispatch import Dispatcher
from graphmill.runtime.executable import Executable

# out[i] = a[i] + b[i], i < n, in chunks of at least `grain` over the pool
ADD = """
define void @gm_chunk_{name}(ptr %args, i64 %begin, i64 %end, i64 %worker) {{
entry:
  %pb = getelementptr ptr, ptr %args, i64 {b}
  %pc = getelementptr ptr, ptr %args, i64 {c}
  %a = load ptr, ptr %args
  %b = load ptr, ptr %pb
  %c = load ptr, ptr %pc
  br label %head
head:
  %i = phi i64 [%begin, %entry], [%next, %body]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %body, label %done
body:
  %ai = getelementptr {type}, ptr %a, i64 %i
  %bi = getelementptr {type}, ptr %b, i64 %i
  %ci = getelementptr {type}, ptr %c, i64 %i
  %x = load {type}, ptr %ai
  %y = load {type}, ptr %bi
  %z = {op} {type} %x, %y
  store {type} %z, ptr %ci
  %next = add i64 %i, 1
  br label %head
done:
  ret void
}}
define i32 @gm_{name}(ptr %ctx, ptr %args, ptr %dims) {{
  {count}
  %pf = load ptr, ptr %ctx
  call void %pf(ptr %ctx, ptr @gm_chunk_{name}, ptr %args, i64 %n, i64 {grain})
  ret i32 0
}}
define i64 @gm_{name}_arena(ptr %dims, i64 %threads) {{ ret i64 0 }}
"""

_numbers = itertools.count()


def compile_ir(text):
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        opt=2, reloc="pic", codemodel="small"
    )
    module = llvm.parse_assembly(text)
    module.verify()
    return machine.emit_object(module)


def artifact(text, name, inputs, outputs, **more):
    return Artifact(name, f"gm_{name}", "host", compile_ir(text), inputs, outputs, **more)


TYPES = {"f32": "float", "f64": "double", "i64": "i64", "i32": "i32"}


def add_artifact(shape=(4,), dtype="f32", grain=1 << 60, dims=()):
    """out = a + b over one shape; a one-dim symbolic shape takes its size from dims[0]."""
    name = f"add{next(_numbers)}"
    size = 1
    for dim in shape:
        size = size * dim if isinstance(dim, int) else size
    base = f"  %d = load i64, ptr %dims\n  %n = mul i64 %d, {size}"
    count = base if dims else f"%n = add i64 0, {size}"
    text = ADD.format(
        name=name,
        type=TYPES[dtype],
        op="fadd" if dtype[0] == "f" else "add",
        count=count,
        grain=grain,
        b=1,
        c=2,
    )
    a, b, c = (ArgSpec(n, dtype, shape) for n in ("a", "b", "c"))
    work = "n" if dims else size
    kernels = (KernelInfo("add", "user.py:3", work, work if dims else 12 * size, grain < 1 << 60),)
    specs = tuple(d if isinstance(d, DimSpec) else DimSpec(d) for d in dims)
    return artifact(text, name, (a, b), (c,), dims=specs, kernels=kernels)


def add_constant_artifact(values):
    """out = a + values, the values being a constant of the artifact."""
    text = ADD.format(
        name="plus", type="float", op="fadd", count=f"%n = add i64 0, {values.size}", grain=1 << 60,
        b=2, c=1,
    )  # fmt: skip
    a, c = (ArgSpec(n, "f32", values.shape) for n in ("a", "c"))
    constant = Constant("w", "f32", values.shape, values.tobytes())
    return artifact(text, "plus", (a,), (c,), constants=(constant,))


def add_executable(*args, threads=None, **more):
    return Executable(add_artifact(*args, **more), threads=threads)


SHORT = {"float32": "f32", "float64": "f64", "int64": "i64"}


class Counting(Dispatcher):
    """Counts compilations and entries into the Python path."""

    def __init__(self, compile):
        self.compiled, self.entered = [], 0

        def counted(args):
            self.compiled.append(args)
            return compile(args)

        super().__init__(counted)

    def general(self, *args):
        self.entered += 1
        return super().general(*args)


def adder(**more):
    return Counting(lambda args: add_executable(args[0].shape, SHORT[args[0].dtype.name], **more))


def f32(*shape):
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)


def fast(dispatcher, *args):
    """Result of a call that must not enter Python code."""
    before = dispatcher.entered
    result = dispatcher(*args)
    assert dispatcher.entered == before
    return result


def symbolic(*dims):
    return Counting(lambda args: add_executable(("n", 3), dims=dims or (DimSpec("n"),)))
