"""What the command line does, without the command line: loading programs, running, listing."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.ir.dtypes import dtype
from graphmill.ir.graph import Function, Module
from graphmill.ir.parser import parse
from graphmill.ir.printer import print_module
from graphmill.ir.types import TensorType

if TYPE_CHECKING:
    from graphmill.codegen.aot.library import BuiltLibrary

Array = np.ndarray[Any, Any]


class CommandError(ValueError):
    """A command that cannot be carried out; the message is for the user."""


# ---- programs


def load_program(target: str, specs: Sequence[str], constants: Path | None = None) -> Module:
    """The module of a .gir file, or of a function traced for `specs`."""
    if target.endswith(".gir") or target == "-":
        if specs:
            raise CommandError("a .gir file has its types; --spec is for Python functions")
        return read_program(Path(target), constants)
    function = traced(target, specs)
    return Module({function.name: function})


def read_program(path: Path, constants: Path | None = None) -> Module:
    """Parse a file of IR text (`-`: stdin); the arrays it leaves out come from `constants`."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CommandError(f"{path} is no text in UTF-8, so no .gir file") from None
    beside = path.with_name("constants.npz")
    if constants is None and beside.exists():
        constants = beside
    return parse(text, read_arrays(constants) if constants else {}, file=str(path))


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file; nothing in it is executed."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = dict(_named(name, archive[name]) for name in archive.files)
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise CommandError(f"{path} is no readable .npz file: {_of_numpy(error)}") from None
    for array in found.values():
        array.flags.writeable = False
    return found


def _of_numpy(error: Exception) -> str:
    """What is wrong with a file; NumPy takes anything it does not know for pickled objects."""
    return "it holds no plain arrays" if "pickle" in str(error) else str(error)


def _named(name: str, array: Array) -> tuple[str, Array]:
    """A content hash and its array; a dump's names end in the dtype, for bf16 kept as bits."""
    key, _, of = name.partition(".")
    return key, array.view(dtype(of).numpy) if of == "bf16" else array


def traced(target: str, specs: Sequence[str]) -> Function:
    """Trace `module:function` for specs, each one argument (`x=spec` for a keyword)."""
    from graphmill.api import Jit
    from graphmill.frontend.trace import trace

    function = find_function(target)
    function = function.function if isinstance(function, Jit) else function
    given, keywords = specified(specs)
    _check_arguments(function, given, keywords)
    try:
        return trace(function, given, keywords).function
    except SystemExit:
        raise CommandError(f"{target} ends the program while it is traced") from None


def specified(specs: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """The specs of positional arguments and of keywords."""
    from graphmill.frontend.spec import spec

    given: list[Any] = []
    keywords: dict[str, Any] = {}
    for text in specs:
        name, equals, rest = text.partition("=")
        if equals and name.strip().isidentifier():
            keywords[name.strip()] = spec(rest.strip())
        else:
            given.append(spec(text))
    return given, keywords


def arguments(
    target: str, specs: Sequence[str], sizes: Mapping[str, int], seed: int
) -> tuple[list[Array], dict[str, Array]]:
    """Random arrays for a function's specs: the positional ones, and those of keywords."""
    arrays = random_arrays(traced(target, specs), sizes, seed)
    given, keywords = specified(specs)
    count = len(given)
    if len(arrays) != count + len(keywords):
        raise CommandError("each --spec is one array here; nested arguments are not measured")
    return arrays[:count], dict(zip(keywords, arrays[count:], strict=True))


def _check_arguments(function: Any, given: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    import inspect

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*given, **keywords)
    except TypeError as error:
        name = getattr(function, "__name__", "the function")
        raise CommandError(
            f"{name}{signature}: {error}; give one --spec per argument, "
            'for example --spec "f32[8,64]"'
        ) from None


def find_function(target: str) -> Any:
    """The object that `pkg.module:name` or `path/file.py:name` names."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise CommandError(
            f"{target!r} names no function; write pkg.module:function, file.py:function "
            "or a .gir file"
        )
    module = _import(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [n for n, v in vars(module).items() if callable(v) and n[0] != "_"]
            close = difflib.get_close_matches(name, known, 3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            hint = hint or (f"; it has {', '.join(known[:8])}" if known else "")
            raise CommandError(f"{place} has no function {name!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise CommandError(f"{target} is a {type(found).__name__}, not a function")
    return found


def _import(place: str) -> Any:
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place).resolve()
        if not path.exists():
            raise CommandError(f"there is no file {place}")
        sys.path.insert(0, str(path.parent))
        found = importlib.util.spec_from_file_location(path.stem, path)
        assert found is not None and found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[path.stem] = module
        found.loader.exec_module(module)
        return module
    except CommandError:
        raise
    except SystemExit:
        raise CommandError(f"{place} ends the program when it is imported") from None
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "") in place
        why = "there is no such module" if missing else f"{type(error).__name__}: {error}"
        raise CommandError(f"cannot import {place}: {why}") from error


# ---- opt


class Stages:
    """Keeps what a pipeline's observer is told, as text."""

    def __init__(self, program: Module, locations: bool) -> None:
        self.locations = locations
        self.last = print_module(program, locations)
        self.counts: list[tuple[str, float, str]] = []
        self._texts: list[str] = []
        self._diffs: list[str] = []

    def observe(self, stage: str, program: Module, seconds: float, statistics: Any) -> None:
        """A pass has changed the program."""
        text = print_module(program, self.locations)
        counts = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in statistics.items() if v)
        self.counts.append((stage, seconds, counts))
        self._texts.append(f"// ---- after {stage}\n{text}")
        lines = difflib.unified_diff(
            self.last.splitlines(), text.splitlines(), "before", f"after {stage}", lineterm=""
        )
        self._diffs.append("\n".join(lines))
        self.last = text

    def texts(self) -> str:
        return "\n".join(self._texts)

    def diffs(self) -> str:
        return "\n".join(self._diffs) or "nothing changed"


# ---- compile


def build_library(
    target: str, specs: Sequence[str], output: Path, cpu: str, constants: Path | None,
    dump: Path | None, winograd: int = 0, schedules: Path | None = None,
) -> BuiltLibrary:  # fmt: skip
    """Build the library of one function."""
    from graphmill.codegen.aot.library import build_library as link
    from graphmill.codegen.aot.library import library_name

    folder = output.is_dir() or not output.suffix
    if not folder:
        library_name(output)
    function = single(load_program(target, specs, constants))
    if folder:
        output = output / f"lib{function.name}.so"
    artifact = compiled(function, cpu, dump, winograd, schedules)
    return link([artifact], output, target=cpu)


def single(program: Module) -> Function:
    """The entry with its callees inlined."""
    if len(program.functions) == 1:
        return program.entry
    from graphmill.passes.manager import run_pipeline

    return run_pipeline(program, "inline").entry


def compiled(
    function: Function, cpu: str = "native", dump: Path | None = None, winograd: int = 0,
    schedules: Path | None = None,
) -> Any:  # fmt: skip
    """The artifact of a function, dumping its stages to `dump`."""
    from graphmill import driver
    from graphmill.runtime import knobs
    from graphmill.schedules import read_file

    own = read_file(schedules) if schedules is not None else ()
    options = driver.Options(target=cpu, winograd=winograd, schedules=own)
    if dump is None:
        return driver.compile_function(function, options)
    with knobs.scope(dump=dump):
        return driver.compile_function(function, options)


# ---- run


def random_arrays(entry: Function, sizes: Mapping[str, int], seed: int) -> list[Array]:
    """An array for each parameter: floats in [-1, 1), integers in 0..9, any bools."""
    rng = np.random.default_rng(seed)
    missing = [name for name in entry.dims if name not in sizes]
    unknown = [name for name in sizes if name not in entry.dims]
    if unknown:
        known = ", ".join(entry.dims) or "none"
        raise CommandError(f"there is no dim {unknown[0]}; the named dims: {known}")
    if missing:
        raise CommandError(f"dim {missing[0]} has no size: give --size {missing[0]}=8")
    arrays = []
    for param in entry.params:
        type, shape = param.tensor, param.tensor.concrete(sizes)
        high = 2 if type.dtype.kind == "b" else 10
        inexact = type.dtype.is_inexact
        array: Array = rng.uniform(-1, 1, shape) if inexact else rng.integers(0, high, shape)
        arrays.append(np.asarray(array).astype(type.dtype.numpy))
    return arrays


class Run:
    """One run of a program on given or random inputs."""

    def __init__(
        self, target: str, inputs: Sequence[Path], specs: Sequence[str], sizes: Sequence[str],
        seed: int, constants: Path | None,
    ) -> None:  # fmt: skip
        arrays = [_read_array(path) for path in inputs]
        if arrays and not specs and not target.endswith(".gir"):
            specs = [str(TensorType(dtype(a.dtype), a.shape)) for a in arrays]
        self.program = load_program(target, specs, constants)
        self.entry = self.program.entry
        self.arrays = arrays or random_arrays(self.entry, dict(map(size_of, sizes)), seed)
        self.results: tuple[Array, ...] = ()

    def execute(
        self, repeat: int, check: bool, interpret: bool, dump: Path | None, winograd: int = 0
    ) -> Iterator[str]:
        """Run, and say what came out, how fast, and how far from the reference."""
        from graphmill.ir.reference import interpret as evaluate

        if interpret:
            self.results = evaluate(self.program, *self.arrays)
            yield from self._describe()
            return
        from graphmill.runtime.executable import Executable

        start = time.perf_counter()
        executable = Executable(compiled(single(self.program), dump=dump, winograd=winograd))
        yield f"compiled in {time.perf_counter() - start:.3f} s"
        self.results = executable.run(*self.arrays)
        yield from self._describe()
        if repeat > 0:
            yield _timing([_seconds(executable, self.arrays) for _ in range(repeat)])
        if check:
            yield _difference(self.results, evaluate(self.program, *self.arrays))

    def _describe(self) -> Iterator[str]:
        for i, (value, array) in enumerate(zip(self.entry.results, self.results, strict=True)):
            name = value.name or f"result {i}"
            with np.printoptions(threshold=20, edgeitems=3, precision=6):
                shown = str(array).replace("\n", "\n  ")
            yield f"{name}: {value.type.dtype if isinstance(value.type, TensorType) else ''}" + (
                f"{list(array.shape)}\n  {shown}"
            )

    def save(self, folder: Path) -> Iterator[Path]:
        """Write each result as `result<i>.npy`."""
        folder.mkdir(parents=True, exist_ok=True)
        for i, array in enumerate(self.results):
            path = folder / f"result{i}.npy"
            np.save(path, array, allow_pickle=False)
            yield path


def _seconds(executable: Any, arrays: Sequence[Array]) -> float:
    start = time.perf_counter()
    executable.run(*arrays)
    return time.perf_counter() - start


def _timing(times: list[float]) -> str:
    times = sorted(times)
    median, best = times[len(times) // 2], times[0]
    return f"{len(times)} runs: median {median * 1e6:.1f} µs, best {best * 1e6:.1f} µs"


def _difference(got: Sequence[Array], want: Sequence[Array]) -> str:
    worst = 0.0
    for a, b in zip(got, want, strict=True):
        if a.size:
            wide = np.complex128 if b.dtype.kind == "c" else np.float64
            x, y = a.astype(wide), b.astype(wide)
            same = (x == y) | (np.isnan(x) & np.isnan(y))
            error = np.where(same, 0, np.abs(x - y) / np.maximum(np.abs(y), 1))
            worst = max(worst, float(np.nanmax(error)), float(np.isnan(error).any()))
    return f"largest relative difference from the reference: {worst:.3g}"


def _read_array(path: Path) -> Array:
    try:
        with path.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise CommandError(f"{path} is no readable .npy file: {_of_numpy(error)}") from None


def size_of(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not equals or not number.strip().isdecimal():
        raise CommandError(f"--size {text!r}: write a dim and a number, such as batch=8")
    return name.strip(), int(number)


# ---- tables


def op_rows() -> tuple[list[str], list[list[str]]]:
    """The op table: head and rows."""
    from graphmill.codegen.cpu.support import lowered
    from graphmill.ir.ops.base import all_ops

    kinds = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
    rows = []
    for name, op in all_ops().items():
        dtypes = "all" if op.kinds == "biufc" else " ".join(kinds[k] for k in op.kinds)
        rows.append([
            name, op.family, ", ".join(op.operands), dtypes,
            ", ".join(f"{key}: {kind}" for key, kind in op.attrs.items()),
            "control" if op.reference is None else "yes", lowered(name), op.doc,
        ])  # fmt: skip
    head = ["op", "family", "operands", "dtypes", "attributes", "reference", "cpu", "meaning"]
    return head, rows


def cache_action(action: str, file: Path | None) -> Iterator[str]:
    """Carry out `info`, `clear`, `pack FILE` or `unpack FILE` on the compile cache."""
    from graphmill.runtime import shelf
    from graphmill.runtime.cache import Cache
    from graphmill.runtime.knobs import cache_dir, cache_size, cache_weights

    store = Cache(cache_dir(), cache_size())
    weights = shelf.beside(store, cache_weights())
    if action in ("pack", "unpack") and file is None:
        raise CommandError(f"cache {action} needs a file: graphmill cache {action} cache.gmpack")
    if action == "clear":
        yield f"removed {store.clear()} entries from {store.folder}"
        yield f"removed {weights.clear()} sets of packed weights"
    elif action == "pack":
        assert file is not None
        yield f"packed {store.pack(file)} entries into {file}, {file.stat().st_size} bytes"
    elif action == "unpack":
        assert file is not None
        yield f"imported {store.unpack(file)} entries into {store.folder}"
    else:
        info = store.info()
        used = 100 * info.bytes / info.limit if info.limit else 0
        yield f"folder   {info.folder}"
        yield f"entries  {info.entries}"
        yield f"bytes    {info.bytes} of {info.limit} ({used:.1f} %)"
        sets, bytes = weights.info()
        yield f"weights  {sets} sets, {bytes} bytes of {weights.limit}"


def describe(error: BaseException) -> str:
    """An error as one paragraph: its message, with its type where the type says something."""
    if hasattr(error, "format_message"):  # a usage error of the command line
        return f"{error.format_message()} (graphmill --help shows the commands)"
    if isinstance(error, FileNotFoundError):
        return f"there is no file {error.filename}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    raised = _raised(error)
    if type(error).__module__.startswith("graphmill") or raised is None:
        return str(error)
    return f"{type(error).__name__}: {error} ({raised})"


def _raised(error: BaseException) -> str | None:
    """Where the user's code raised an error; None where Graphmill did."""
    import traceback

    from graphmill.frontend.locations import is_internal

    place = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").partition(".")[0] == "graphmill":
            place = None
        elif not is_internal(frame.f_code):
            place = f"{os.path.basename(frame.f_code.co_filename)}:{line}"
    return place


def counts_of(text: str) -> list[int]:
    """Thread counts such as 1,2."""
    counts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in counts):
        raise CommandError(f"--threads {text!r}: write counts, such as 1,2")
    return [int(part) for part in counts]
