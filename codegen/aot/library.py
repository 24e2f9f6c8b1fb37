"""Building a shared library with a plain C face out of compiled graphs.

`libmlp.so` holds the kernels, the wrapper, the worker pool and the weights, and needs libc, libm
and libpthread. Beside it: `mlp.h`, the same code as one object `mlp.o`, `mlp.pc`,
`mlp-config.cmake` and an example program `mlp_main.c`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata as packages
from pathlib import Path

from graphmill.codegen.aot import companions, elf, link, weights, wrapper
from graphmill.codegen.aot.cpu import architecture, features, machine_code
from graphmill.codegen.aot.elf import ALLOC, Elf, Section
from graphmill.codegen.aot.header import header
from graphmill.codegen.aot.signature import (
    BuildError,
    Signature,
    identifier,
    public_symbols,
    signature,
)
from graphmill.codegen.artifact import Artifact
from graphmill.codegen.cpu import pool
from graphmill.codegen.cpu.llvm import compile_ir
from graphmill.codegen.cpu.target import Target

FORMAT = 1


@dataclass(frozen=True, slots=True)
class BuiltLibrary:
    """What was written: files, public functions, sizes in bytes and the seconds linking took."""

    path: Path
    header: Path
    functions: tuple[str, ...]
    object: Path | None
    pkg_config: Path | None
    cmake: Path | None
    example: Path | None
    weights: Path | None
    bytes: int
    weight_bytes: int
    link_seconds: float


def library_name(path: Path) -> str:
    """`digits` for `libdigits.so`; raises BuildError for a name that C cannot spell."""
    stem = path.name.split(".")[0].removeprefix("lib")
    if not stem or path.suffix != ".so":
        raise BuildError(f"a library is called lib<name>.so, not {path.name!r}")
    return identifier(stem)


def build_library(
    artifacts: Sequence[Artifact],
    path: str | Path,
    *,
    target: Target,
    embed_weights: bool = True,
    weights_path: str | Path | None = None,
    prefix: str | None = None,
    version: str = "1.0.0",
    options: Mapping[str, object] | None = None,
    linker: str = "auto",
    companion_files: bool = True,
) -> BuiltLibrary:
    """Link `artifacts`, all compiled for `target`, into the shared library `path`.

    Public functions are `<library>_<function>`, or `prefix` and the function's name. Weights go
    into the library, or with `embed_weights=False` into `weights_path` (`<library>.weights` beside
    it). `options` are recorded in the metadata. `linker` is `auto`, `cc` or `lld`.

    Raises `BuildError`; nothing is left half written under the library's name.
    """
    path = Path(path).absolute()
    library = library_name(path)
    if not artifacts:
        raise BuildError("a library needs at least one function")
    if "linux" not in target.triple:
        raise BuildError(f"libraries are built for Linux, not for {target.triple}")
    symbols = public_symbols(library, artifacts, prefix)
    signatures = [signature(a, s) for a, s in zip(artifacts, symbols, strict=True)]
    blob = weights.collect(artifacts)
    side = None if embed_weights or not blob.size else blob
    side_path = Path(weights_path) if weights_path else path.with_name(f"{library}.weights")
    if side is None and blob.size > weights.MAX_EMBEDDED:
        raise BuildError("more than 1 GiB of weights: keep them in a file with embed_weights=False")
    facts = _facts(library, signatures, target, version, options or {}, blob, side and side_path)
    found = link.find(target, linker)
    public = [*symbols, *(f"gml_{library}_{name}" for name in wrapper.CONTROL.values())]
    with tempfile.TemporaryDirectory(prefix="graphmill-") as folder:
        work = Path(folder)
        text = wrapper.source(library, signatures, target, version, facts, blob.offsets)
        objects = _objects(work, library, artifacts, symbols, target, text, blob, side)
        started = time.perf_counter()
        made = work / path.name
        link.shared(found, target, objects, made, public, work)
        seconds = time.perf_counter() - started
        _seal(made)
        merged = None
        if companion_files:
            merged = work / f"{library}.o"
            link.merge(found, objects, merged)
        path.parent.mkdir(parents=True, exist_ok=True)
        if side is not None:
            weights.write_side_file(side_path, side)
        files = _companions(path, library, signatures, target, version, side and side_path, merged)
        _install(made, path)
    return BuiltLibrary(
        path=path,
        functions=tuple(symbols),
        weights=side_path if side is not None else None,
        bytes=path.stat().st_size,
        weight_bytes=blob.size,
        link_seconds=seconds,
        **files,
    )


def _facts(
    library: str, signatures: Sequence[Signature], target: Target, version: str,
    options: Mapping[str, object], blob: weights.Blob, side: Path | None,
) -> str:  # fmt: skip
    """The metadata, as JSON text."""
    functions = []
    for made in signatures:
        arrays = [{"c_name": a.name, "c_type": a.c_type, **asdict(a.spec)} for a in made.arrays]
        count = len(made.inputs)
        functions.append(
            {
                "name": made.artifact.name,
                "symbol": made.symbol,
                "prototype": made.prototype(),
                "inputs": arrays[:count],
                "outputs": arrays[count:],
                "dims": [{"c_name": name, **asdict(spec)} for name, spec in made.dims],
                "strided": [argument.name for _, argument in made.strides],
            }
        )
    facts = {
        "format": FORMAT,
        "library": library,
        "version": version,
        "graphmill": _generator_version(),
        "target": {
            "name": target.name,
            "triple": target.triple,
            "cpu": target.cpu,
            "features": features(target),
        },
        "functions": functions,
        "weights": {
            "bytes": blob.size,
            "checksum": f"{blob.checksum:016x}",
            "file": side.name if side else None,
        },
        "options": dict(options),
    }
    try:
        return json.dumps(facts, separators=(",", ":"))
    except TypeError as error:
        raise BuildError(f"the build options cannot be written down: {error}") from None


def _generator_version() -> str:
    try:
        return packages.version("graphmill")
    except packages.PackageNotFoundError:
        return "unknown"


def _objects(
    work: Path, library: str, artifacts: Sequence[Artifact], symbols: Sequence[str],
    target: Target, text: str, blob: weights.Blob, side: weights.Blob | None,
) -> list[Path]:  # fmt: skip
    """Write every object to link: wrapper, pool, kernels, CPU check, weights."""
    baseline = _baseline(target)
    control = {name: f"gml_{library}_{public}" for name, public in wrapper.CONTROL.items()}
    public = {wrapper.public_name(k): symbol for k, symbol in enumerate(symbols)} | control
    module = compile_ir(wrapper.llvm_ir(text, library, target, side), baseline, level=2)
    shared = pool.object_code(baseline.triple, baseline.cpu, baseline.features)
    codes = [(module.object, public), (shared, {})]
    for index, artifact in enumerate(artifacts):
        names = {
            artifact.entry: wrapper.entry_symbol(index),
            artifact.arena_entry: f"{wrapper.entry_symbol(index)}_arena",
        }
        codes.append((artifact.object, names))
    objects = []
    for number, (code, names) in enumerate(codes):
        objects.append(work / f"{number}.o")
        objects[-1].write_bytes(_rename(code, names, library, frozenset(public.values())))
    sections = machine_code(target)
    if blob.size and side is None:
        placed = Section(".rodata.gm_weights", ALLOC, blob.pieces, {"gm_weights": 0})
        sections = [*sections, placed]
    if sections:
        own = [_prefixed(section, library) for section in sections]
        objects.append(work / "data.o")
        elf.write_object(objects[-1], architecture(target), own)
    return objects


def _baseline(target: Target) -> Target:
    """The same system with no more than every CPU of the architecture has."""
    cpu = "x86-64" if architecture(target) == "x86_64" else "generic"
    return Target("baseline", target.triple, cpu, "", 128, 16)


def _rename(code: bytes, names: Mapping[str, str], library: str, public: frozenset[str]) -> bytes:
    """An object with final names: two libraries in one program must not clash."""
    try:
        mapping = {
            name: inner if (inner := names.get(name, name)) in public else _inner(inner, library)
            for name, *_ in Elf(code).symbols()
        }
        return elf.rename(code, mapping, public)
    except elf.ElfError as error:
        raise BuildError(f"the compiled code is no object for Linux: {error}") from None


def _inner(name: str, library: str) -> str:
    return f"gm_{library}__{name[3:]}" if name.startswith("gm_") else name


def _prefixed(section: Section, library: str) -> Section:
    symbols = {_inner(name, library): offset for name, offset in section.symbols.items()}
    return Section(section.name, section.flags, section.pieces, symbols, section.align)


def _seal(path: Path) -> None:
    """Write the file's SHA-256 (of the file with zeros in its place) into the library's note."""
    data = bytearray(path.read_bytes())
    at = data.find(wrapper.NOTE_OWNER.ljust(12, b"\0") + bytes(wrapper.DIGEST_BYTES))
    if at < 0:
        raise BuildError("the linker dropped the library's note")
    place = slice(at + 12, at + 12 + wrapper.DIGEST_BYTES)
    data[place] = hashlib.sha256(data).digest()
    path.write_bytes(data)


def _companions(
    path: Path, library: str, signatures: Sequence[Signature], target: Target, version: str,
    side: Path | None, merged: Path | None,
) -> dict[str, Path | None]:  # fmt: skip
    """Write the header, and unless `merged` is None what helps to use the library."""
    weights_file = side.name if side else ""
    header_path = path.with_name(f"{library}.h")
    name = target.name if target.name != "native" else f"{target.cpu} ({target.triple})"
    _write(header_path, header(library, signatures, name, weights_file))
    if merged is None:
        return {
            "header": header_path,
            **dict.fromkeys(("object", "pkg_config", "cmake", "example")),
        }
    object_path = path.with_name(f"{library}.o")
    _install(merged, object_path)
    pc, finder = path.with_name(f"{library}.pc"), path.with_name(f"{library}-config.cmake")
    main = path.with_name(f"{library}_main.c")
    _write(pc, companions.pkg_config(library, version))
    _write(finder, companions.cmake(library, version, path, object_path))
    _write(main, companions.example(library, signatures, main, path, weights_file))
    return {
        "header": header_path,
        "object": object_path,
        "pkg_config": pc,
        "cmake": finder,
        "example": main,
    }


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _install(made: Path, path: Path) -> None:
    """Move a file to its place in one step, so that a running program keeps the old one."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    shutil.copyfile(made, partial)
    partial.chmod(0o755 if path.suffix == ".so" else 0o644)
    os.replace(partial, path)
