"""CPU code generation: a planned function to an artifact, one kernel per fusion or bare op."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from graphmill.codegen.artifact import ArgSpec, Artifact, Constant, DimSpec
from graphmill.codegen.constants import Array, apply, fill, renumbered
from graphmill.codegen.cpu import kernel, llvm, mlir
from graphmill.codegen.cpu.blocks import emit_block
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.host import Host, emit_dim, entry_symbol
from graphmill.codegen.cpu.repeats import Repeats
from graphmill.codegen.cpu.split import Cutter, Piece
from graphmill.codegen.cpu.target import Target
from graphmill.codegen.workers import Workers
from graphmill.ir.dims import Dim, DimLike
from graphmill.ir.dtypes import dtype
from graphmill.ir.graph import Function, Value

Observer = Callable[[str, str, str, float], None]  # stage, kind, text, seconds


def generate(
    function: Function,
    target: Target,
    *,
    profiled: bool = False,
    observer: Observer | None = None,
    sources: Sequence[Array] = (),
    contents: Sequence[str] = (),
    workers: Workers | None = None,
    pool: Callable[[], object] | None = None,
) -> Artifact:
    """Compile `function`, which the pipeline has fused and planned, for `target`.

    An `observer` is told the MLIR, LLVM IR and assembly texts, whose comments name the user's line
    and the op of each instruction. `sources` are the large constants of the function as it was
    traced, which the artifact may refer to, `contents` what they hold (`constants.complete`);
    `workers` take on LLVM's part of the work and finish what else they were given, and get ready
    the `pool` if the code wants it. Raises `CodegenError` for an op without a lowering,
    `LoweringError` when generated text is malformed.
    """
    start = time.perf_counter()
    with workers or Workers(1) as working:
        jobs = None if observer else _Jobs(target, working, pool)
        host = write(function, target, profiled, observer is not None, jobs.look if jobs else None)
        written = time.perf_counter()
        constants = fill(_constants(host, sources), sources, working, contents)
        if jobs is not None:
            jobs.finish(host)
        elif pool is not None and host.parallel:
            working.start(pool)
    if observer is None:
        assert jobs is not None
        objects = jobs.objects
    else:
        objects = [_compile_observed(host.unit, target, written - start, observer)]
    return _artifact(host, target, objects, constants)


class _Jobs:
    """The pieces of a module, which workers compile from the time on that they are written."""

    def __init__(self, target: Target, workers: Workers, pool: Callable[[], object] | None) -> None:
        self._target, self._workers, self._pool = target, workers, pool
        self._cutter: Cutter | None = None
        self._jobs: list[_Job] = []
        self._first = 0

    def look(self, host: Host) -> None:
        """Compile what is written of the host's module; get ready the pool if it is needed."""
        self._cut(host).look(host.code, _entries(host))

    def finish(self, host: Host) -> None:
        """Compile the rest of a module that is written."""
        cutter, self._first = self._cut(host), len(self._jobs)
        cutter.finish(_entries(host))

    def _cut(self, host: Host) -> Cutter:
        if self._pool is not None and host.parallel:
            self._workers.start(self._pool)
            self._pool = None
        if self._cutter is None:
            self._cutter = Cutter(host.unit, self._start)
        return self._cutter

    def _start(self, piece: Piece) -> None:
        self._jobs.append(_Job(piece, self._target, self._workers))

    @property
    def objects(self) -> list[bytes]:
        """The object of each piece; that with the entry, which is cut last, comes first."""
        jobs = self._jobs[self._first :] + self._jobs[: self._first]
        return [job.compiled.object for job in jobs]


def _entries(host: Host) -> tuple[str, ...]:
    entry = entry_symbol(host.function)
    return entry, f"{entry}_arena", *host.launchers


class _Job:
    """A piece that workers have MLIR lower and LLVM compile."""

    def __init__(self, piece: Piece, target: Target, workers: Workers) -> None:
        self.compiled = llvm.Compiled(b"")
        self._piece, self._target = piece, target
        workers.start(self._compile)

    def _compile(self) -> None:
        piece = self._piece
        llvm_ir = mlir.lower(piece.text, piece.effort > 0)
        self.compiled = llvm.compile_ir(llvm_ir, self._target, kind=piece.kind, effort=piece.effort)


def _compile_observed(unit: Unit, target: Target, writing: float, observer: Observer) -> bytes:
    """The object of the whole module, whose debug locations let the texts say where they are from.

    `writing` are the seconds that writing the module took.
    """
    from graphmill.codegen.cpu.places import without_made_up

    places = unit.places
    assert places is not None
    start = time.perf_counter()
    llvm_ir = without_made_up(mlir.lower(places.located(unit.parts)))
    seconds = writing, time.perf_counter() - start
    compiled = llvm.compile_ir(llvm_ir, target, keep_text=True)
    texts = (
        ("module", "mlir", places.mlir(unit.parts)),
        ("translated", "llvm", places.llvm(llvm_ir)),
        ("optimised", "llvm", places.llvm(compiled.llvm_ir)),
        ("assembly", "asm", places.assembly(compiled.assembly, target.comment)),
    )
    for (stage, kind, text), spent in zip(texts, (*seconds, *compiled.seconds), strict=True):
        observer(stage, kind, text, spent)
    return compiled.object


def write(
    function: Function,
    target: Target,
    profiled: bool,
    located: bool = False,
    after: Callable[[Host], object] | None = None,
) -> Host:
    """Write the MLIR module of `function`; `located` if its lines shall say what they are for.

    `after` is called after each op of the function.
    """
    places = None
    if located:
        from graphmill.codegen.cpu.places import Places

        places = Places(function)
    unit = Unit(target.vector_bits, half=target.converts_half, places=places)
    entry = Code(
        unit,
        entry_symbol(function),
        [("ctx", "!llvm.ptr"), ("args", "!llvm.ptr"), ("dims", "!llvm.ptr")],
        "i32",
        internal=False,
    )
    host = Host(function, unit, target, entry, profiled)
    host.bind_parameters()
    repeats = None if located or profiled else Repeats(host)
    emit_block(host, function.block, repeats, after and (lambda: after(host)))
    if host.loops:  # LLVM puts a kernel that is called in one place only where it is called
        entry.traits += kernel.TRAITS
    entry.finish(host.status())
    _write_arena(host)
    return host


def _write_arena(host: Host) -> None:
    """`int64_t gm_<name>_arena(dims, threads)`: the plan's bytes and the kernels' scratch."""
    code = Code(
        host.unit,
        f"{entry_symbol(host.function)}_arena",
        [("dims", "!llvm.ptr"), ("threads", "i64")],
        "i64",
        internal=False,
    )
    known: dict[DimLike, Val] = {}
    for slot, name in enumerate(host.function.dims):
        known[Dim.of(name)] = code.load(code.at(code.args[0], slot, "i64"), "i64", 8)

    def dim(of: DimLike) -> Val:
        return emit_dim(code, of, known)

    total = dim(host.arena_bytes)
    most = code.i64(0)
    for need in host.needs:
        once, each = need(code, dim)
        bytes_ = code.add(once, code.mul(each, code.args[1]))
        most = code.binary("arith.maxsi", most, bytes_)
    code.finish(code.add(code.add(total, most), code.i64(128)) if host.needs else total)


def _constants(host: Host, sources: Sequence[Array]) -> list[Constant]:
    """The constant arguments: those made from a source without data, the others with it.

    Behind those that code reads are the arrays that steps multiply by.
    """
    numbers = {id(array): number for number, array in enumerate(sources)}
    recipes = host.finish_constants()
    found, factors = list[Constant](), list[Constant]()
    for i, recipe in enumerate(recipes):
        arrays, steps, kind = recipe.arrays, recipe.steps, recipe.dtype
        source = numbers.get(id(arrays[0]))
        if source is None:
            found.append(
                _stored(
                    f"c{i}", np.ascontiguousarray(apply(arrays[0], steps, arrays.__getitem__), kind)
                )
            )
            continue
        first = len(recipes) + len(factors) - 1  # what the steps name as 1 comes after this
        factors += [_stored(f"c{first + n}", array) for n, array in enumerate(arrays[1:], 1)]
        steps = renumbered(steps, first)
        found.append(Constant(f"c{i}", dtype(kind).name, recipe.shape, None, source, steps))
    return found + factors


def _stored(name: str, array: Array) -> Constant:
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data.toreadonly()
    return Constant(name, dtype(array.dtype).name, array.shape, data)


def _artifact(
    host: Host, target: Target, objects: Sequence[bytes], constants: tuple[Constant, ...]
) -> Artifact:
    function = host.function
    return Artifact(
        name=function.name,
        entry=entry_symbol(function),
        target=target.name,
        object=objects[0],
        parts=tuple(objects[1:]),
        inputs=tuple(_spec(v, v.name or f"x{i}") for i, v in enumerate(function.params)),
        outputs=tuple(_spec(v, f"out{i}") for i, v in enumerate(function.results)),
        dims=tuple(DimSpec(n, b.low, b.high) for n, b in function.dims.items()),
        kernels=tuple(host.kernels),
        locations=tuple(host.locations),
        arena_bytes=None,
        profiled=host.profiled,
        constants=constants,
        donated=tuple(function.attrs.get("donated", ())),
        loops=host.loops,
        parallel=host.parallel,
    )


def _spec(value: Value, name: str) -> ArgSpec:
    type = value.tensor
    shape = tuple(d if isinstance(d, int) else str(d) for d in type.shape)
    return ArgSpec(name, type.dtype.name, shape, type.layout == "strided")
