"""A graph compiler from scratch, to be read from top to bottom.

Graphmill's idea in one file: run a NumPy function on stand-ins for arrays and record what it does,
improve the record, group it into loops that each pass over memory once, write the loops as LLVM IR,
and call the machine code. Restricted to float32 matrices, elementwise ops and row reductions, so
that nothing hides the idea. Run it: `python docs/from_scratch.py` shows every stage of a softmax.
"""

import ctypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir

# --- 1. The graph ---------------------------------------------------------------------------------
# A value is an op applied to values. A shape is (rows, columns); 1 stands for "the same for all".


@dataclass(frozen=True, eq=False)
class Value:
    op: str
    args: tuple["Value", ...]
    shape: tuple[int, int]
    number: float = 0.0  # of a constant


REDUCTIONS = ("sum", "max")


def broadcast(args: tuple[Value, ...]) -> tuple[int, int]:
    rows, columns = (max(a.shape[axis] for a in args) for axis in (0, 1))
    for a in args:
        if a.shape[0] not in (1, rows) or a.shape[1] not in (1, columns):
            raise ValueError(f"shapes {[a.shape for a in args]} do not fit together")
    return rows, columns


def apply(op: str, *args: Value) -> Value:
    if op in REDUCTIONS:
        return Value(op, args, (args[0].shape[0], 1))
    return Value(op, args, broadcast(args))


def constant(number: float) -> Value:
    return Value("constant", (), (1, 1), float(number))


def walk(outputs: list[Value], stop: set[Value] | None = None) -> Iterator[Value]:
    """Every value the outputs need, operands first; values in `stop` are not looked into."""
    seen: set[Value] = set()
    stack = [(v, False) for v in reversed(outputs)]
    while stack:
        value, ready = stack.pop()
        if ready:
            yield value
        elif value not in seen:
            seen.add(value)
            stack.append((value, True))
            if stop is None or value not in stop or value in outputs:
                stack += [(a, False) for a in reversed(value.args)]


def text(outputs: list[Value]) -> str:
    """The graph as lines that a person can read."""
    names: dict[Value, str] = {}
    lines = []
    for value in walk(outputs):
        if value.op == "constant":
            names[value] = f"{value.number:g}"
            continue
        names[value] = value.op if value.op.startswith("%") else f"%{len(lines)}"
        if not value.op.startswith("%"):
            shape = ", ".join(map(str, value.shape))
            args = ", ".join(names[a] for a in value.args)
            lines.append(f"  {names[value]}: f32[{shape}] = {value.op} {args}")
    return "\n".join([*lines, "  return " + ", ".join(names[v] for v in outputs)])


# --- 2. Tracing -----------------------------------------------------------------------------------
# NumPy asks an argument that is not an array what to do, so plain np.* code needs no changes.


UFUNCS = {
    np.add: "add",
    np.subtract: "sub",
    np.multiply: "mul",
    np.true_divide: "div",
    np.maximum: "maximum",
    np.exp: "exp",
    np.tanh: "tanh",
    np.negative: "neg",
}


class Tracer(np.lib.mixins.NDArrayOperatorsMixin):
    def __init__(self, value: Value) -> None:
        self.value = value

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **options: Any) -> Any:
        if method != "__call__" or options or ufunc not in UFUNCS:
            return NotImplemented
        values = [a.value if isinstance(a, Tracer) else constant(a) for a in args]
        return Tracer(apply(UFUNCS[ufunc], *values))

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function not in (np.sum, np.max) or options != {"axis": 1, "keepdims": True}:
            return NotImplemented
        return Tracer(apply(function.__name__, args[0].value))


def trace(function: Callable[..., Any], shapes: list[tuple[int, int]]) -> list[Value]:
    inputs = [Value(f"%x{i}", (), shape) for i, shape in enumerate(shapes)]
    return [function(*[Tracer(v) for v in inputs]).value]


# --- 3. Passes ------------------------------------------------------------------------------------
# A pass rebuilds the graph and looks at each op once. What no output needs is not rebuilt: that is
# dead code elimination, and it costs nothing.

Rule = Callable[[Value], Value | None]


def rewrite(outputs: list[Value], rule: Rule) -> list[Value]:
    new: dict[Value, Value] = {}
    for value in walk(outputs):
        args = tuple(new[a] for a in value.args)
        rebuilt = Value(value.op, args, value.shape, value.number) if args else value
        new[value] = rule(rebuilt) or rebuilt
    return [new[v] for v in outputs]


NUMPY = {name: function for function, name in UFUNCS.items()}


def fold(value: Value) -> Value | None:
    """An op on numbers is a number."""
    if value.op in NUMPY and all(a.op == "constant" for a in value.args):
        return constant(NUMPY[value.op](*(a.number for a in value.args)))
    return None


def simplify(value: Value) -> Value | None:
    """x * 1 and x + 0 are x; x / c is x * (1/c)."""
    if len(value.args) != 2 or value.args[1].op != "constant":
        return None
    x, number = value.args[0], value.args[1].number
    if (value.op, number) in (("mul", 1.0), ("div", 1.0), ("add", 0.0), ("sub", 0.0)):
        return x
    if value.op == "div" and np.frexp(number)[0] == 0.5:  # exact for powers of two only
        return apply("mul", x, constant(1 / number))
    return None


def decompose(value: Value) -> Value | None:
    """exp and tanh in terms of arithmetic, so that they become vector code and not library calls.

    exp(x) = 2**n * 2**r with n the nearest integer to x / ln 2 and r within ±1/2; 2**r is a
    polynomial, 2**n an exponent field. tanh(x) = 1 - 2 / (exp(2x) + 1).
    """
    if value.op == "exp":
        low, high = constant(-87.0), constant(88.0)
        x = apply("minimum", apply("maximum", value.args[0], low), high)
        n = apply("round", apply("mul", x, constant(1 / np.log(2))))
        r = apply("sub", apply("mul", x, constant(1 / np.log(2))), n)
        power = constant(COEFFICIENTS[-1])
        for coefficient in COEFFICIENTS[-2::-1]:
            power = apply("add", apply("mul", power, r), constant(coefficient))
        return apply("mul", power, apply("exponent", n))
    if value.op == "tanh":
        e = decompose(apply("exp", apply("mul", value.args[0], constant(2))))
        assert e is not None
        quotient = apply("div", constant(2), apply("add", e, constant(1)))
        return apply("sub", constant(1), quotient)
    return None


# 2**r on [-1/2, 1/2], interpolated at Chebyshev nodes: the error is below a float32's rounding.
NODES = 0.5 * np.cos((np.arange(7) + 0.5) * np.pi / 7)
COEFFICIENTS = [float(c) for c in np.polynomial.polynomial.polyfit(NODES, 2.0**NODES, 6)]


def cse() -> Rule:
    """Equal ops on equal operands are computed once."""
    known: dict[tuple[Any, ...], Value] = {}

    def rule(value: Value) -> Value:
        return known.setdefault((value.op, value.args, value.number), value)

    return rule


PIPELINE: list[tuple[str, Callable[[], Rule]]] = [
    ("fold", lambda: fold),
    ("simplify", lambda: simplify),
    ("decompose", lambda: decompose),
    ("fold", lambda: fold),
    ("cse", cse),
]


# --- 4. Fusion ------------------------------------------------------------------------------------
# A kernel is one loop nest with one result in memory. Reductions and outputs end kernels; all else
# is computed where it is needed, in registers. Cheap ops needed by two kernels are computed twice:
# arithmetic costs less than memory.


@dataclass(frozen=True)
class Kernel:
    result: Value
    body: list[Value]  # operands first, the result last
    inputs: list[Value]


def fuse(outputs: list[Value]) -> list[Kernel]:
    order = list(walk(outputs))
    stored = {v for v in order if v.op in REDUCTIONS or v.op.startswith("%")} | set(outputs)
    kernels = []
    for result in order:
        if result not in stored or result.op.startswith("%"):
            continue
        body = list(walk([result], stop=stored))
        inputs = [v for v in body if v in stored and v is not result]
        kernels.append(Kernel(result, [v for v in body if v not in inputs], inputs))
    return kernels


# --- 5. Code --------------------------------------------------------------------------------------

F32, I32, I64, POINTER = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.PointerType()
FAST = ("reassoc", "contract", "nsz", "arcp")  # lets LLVM reorder sums, hence vectorise them


def emit_op(b: ir.IRBuilder, op: str, args: list[Any]) -> Any:
    """One scalar op; LLVM's loop vectoriser makes eight or sixteen of it."""
    module = b.module
    match op:
        case "add" | "sub" | "mul" | "div":
            return getattr(b, "f" + op)(*args, flags=FAST)
        case "neg":
            return b.fneg(*args, flags=FAST)
        case "maximum" | "max":
            return b.select(b.fcmp_ordered(">", *args), *args)
        case "minimum":
            return b.select(b.fcmp_ordered("<", *args), *args)
        case "sum":
            return b.fadd(*args, flags=FAST)
        case "round":
            return b.call(module.declare_intrinsic("llvm.rint", [F32]), args)
        case "exponent":
            field = b.add(b.fptosi(args[0], I32), ir.Constant(I32, 127))
            return b.bitcast(b.shl(field, ir.Constant(I32, 23)), F32)
    raise ValueError(f"no code for {op}")


class Loop:
    """`with Loop(b, n, acc) as i:` counts i from 0 to n; acc, if given, is carried around."""

    def __init__(self, b: ir.IRBuilder, n: int, start: Any = None) -> None:
        self.b, self.n, self.start = b, n, start

    def __enter__(self) -> Any:
        before = self.b.block
        self.block = self.b.append_basic_block("loop")
        self.b.branch(self.block)
        self.b.position_at_end(self.block)
        self.index = self.b.phi(I64)
        self.index.add_incoming(ir.Constant(I64, 0), before)
        self.carried = self.next = None
        if self.start is not None:
            self.carried = self.b.phi(F32)
            self.carried.add_incoming(self.start, before)
        return self

    def __exit__(self, *error: Any) -> None:
        b = self.b
        following = b.add(self.index, ir.Constant(I64, 1), flags=("nuw", "nsw"))
        self.index.add_incoming(following, b.block)
        if self.carried is not None:
            self.carried.add_incoming(self.next, b.block)
        done = b.append_basic_block("done")
        b.cbranch(b.icmp_signed("<", following, ir.Constant(I64, self.n)), self.block, done)
        b.position_at_end(done)


def address(b: ir.IRBuilder, pointer: Any, shape: tuple[int, int], i: Any, j: Any) -> Any:
    """Where element (i, j) of a value lies; along an axis of size 1 all share one element."""
    zero = ir.Constant(I64, 0)
    row = b.mul(i, ir.Constant(I64, shape[1])) if shape[0] > 1 else zero
    return b.gep(pointer, [b.add(row, j if shape[1] > 1 else zero)], source_etype=F32)


def emit_kernel(module: ir.Module, name: str, kernel: Kernel) -> None:
    """void name(out, inputs…): a loop over rows around a loop over columns."""
    pointers = [POINTER] * (1 + len(kernel.inputs))
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), pointers), name)
    for argument in function.args:
        argument.add_attribute("noalias")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    result = kernel.result
    reduces = result.op in REDUCTIONS
    rows, columns = result.args[0].shape if reduces else result.shape
    first = {"sum": 0.0, "max": float("-inf")}.get(result.op)
    with Loop(b, rows) as outer:
        i = outer.index
        with Loop(b, columns, None if first is None else ir.Constant(F32, first)) as inner:
            j = inner.index
            values: dict[Value, Any] = {}
            for value, pointer in zip(kernel.inputs, function.args[1:], strict=True):
                values[value] = b.load(address(b, pointer, value.shape, i, j), typ=F32)
            for value in kernel.body:
                if value.op == "constant":
                    values[value] = ir.Constant(F32, float(np.float32(value.number)))
                    continue
                args = [values[a] for a in value.args]
                if value is result and reduces:
                    args.insert(0, inner.carried)
                values[value] = emit_op(b, value.op, args)
            inner.next = values[result]
            if not reduces:
                b.store(values[result], address(b, function.args[0], result.shape, i, j))
        if reduces:
            b.store(values[result], address(b, function.args[0], result.shape, i, i))
    b.ret_void()


def machine_code(module: ir.Module) -> Any:
    """LLVM IR optimised for this CPU, in memory and ready to call."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    passes = llvm.create_pass_builder(target, options)
    passes.getModulePassManager().run(parsed, passes)
    engine = llvm.create_mcjit_compiler(parsed, target)
    engine.finalize_object()
    return engine


# --- 6. All of it ---------------------------------------------------------------------------------


class Compiled:
    """The kernels of a graph and the buffers between them."""

    def __init__(self, outputs: list[Value]) -> None:
        self.outputs = outputs
        self.kernels = fuse(outputs)
        module = ir.Module("scratch")
        for number, kernel in enumerate(self.kernels):
            emit_kernel(module, f"scratch_{number}", kernel)
        self.engine = machine_code(module)
        self.calls = [
            ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (1 + len(kernel.inputs)))(
                self.engine.get_function_address(f"scratch_{number}")
            )
            for number, kernel in enumerate(self.kernels)
        ]

    def __call__(self, *arrays: np.ndarray[Any, Any]) -> Any:
        held = {f"%x{i}": np.ascontiguousarray(a, np.float32) for i, a in enumerate(arrays)}
        buffers: dict[Value, np.ndarray[Any, Any]] = {}
        for kernel, call in zip(self.kernels, self.calls, strict=True):
            buffers[kernel.result] = np.empty(kernel.result.shape, np.float32)
            inputs = [buffers[v] if v in buffers else held[v.op] for v in kernel.inputs]
            call(buffers[kernel.result].ctypes.data, *[a.ctypes.data for a in inputs])
        return buffers[self.outputs[0]]


def compile(
    function: Callable[..., Any],
    shapes: list[tuple[int, int]],
    show: Callable[[str], None] = lambda line: None,
) -> Compiled:
    outputs = trace(function, shapes)
    show(f"traced\n{text(outputs)}")
    for name, make in PIPELINE:
        before = text(outputs)
        outputs = rewrite(outputs, make())
        after = text(outputs)
        show(f"after {name}\n{after}" if after != before else f"after {name}: no change")
    compiled = Compiled(outputs)
    for number, kernel in enumerate(compiled.kernels):
        computed = [v.op for v in kernel.body if v.op != "constant"]
        show(f"kernel {number}: {len(computed)} ops, {len(kernel.inputs)} inputs read, 1 written")
    return compiled


def softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def gelu(x: Any) -> Any:
    return x * 0.5 * (1 + np.tanh(0.79788456 * (x + 0.044715 * x * x * x)))


def main() -> None:
    x = np.random.default_rng(0).standard_normal((2048, 1024), dtype=np.float32)
    for function in (softmax, gelu):
        compiled = compile(function, [x.shape], show=print if function is softmax else len)
        expected = function(x.astype(np.float64))
        error = np.abs(compiled(x) - expected).max() / np.abs(expected).max()
        seconds: dict[Any, float] = {}
        for _ in range(5):
            for candidate in (function, compiled):
                start = time.perf_counter()
                candidate(x)
                best = seconds.get(candidate, float("inf"))
                seconds[candidate] = min(best, time.perf_counter() - start)
        ratio = seconds[function] / seconds[compiled]
        print(
            f"{function.__name__}: {len(compiled.kernels)} kernels, error {error:.1e}, "
            f"{seconds[compiled] * 1e3:.2f} ms, {ratio:.1f} times NumPy's speed"
        )
        assert error < 1e-6


if __name__ == "__main__":
    main()
