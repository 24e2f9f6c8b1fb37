"""Building a shared library with a plain C face out of compiled graphs.

`libmlp.so` holds the kernels, the wrapper, the worker pool and the weights, and needs libc, libm
and libpthread. Beside it: `mlp.h`, the same code as one object `mlp.o`, `mlp.pc`,
`mlp-config.cmake` and an example program `mlp_main.c`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from graphmill.codegen.aot import companions, link, weights, wrapper
from graphmill.codegen.aot.cpu import uses_tiles
from graphmill.codegen.aot.files import mapped
from graphmill.codegen.aot.header import header
from graphmill.codegen.aot.names import identifier
from graphmill.codegen.aot.objects import public_symbols, write_objects
from graphmill.codegen.aot.plan import Plan
from graphmill.codegen.aot.signature import BuildError, function_symbols, signature
from graphmill.codegen.artifact import Artifact
from graphmill.codegen.cpu.target import Target
from graphmill.codegen.cpu.target import target as named_target
from graphmill.records import record

# What `-l<name>` finds on a system: a library called so would be found in its place.
SYSTEM = frozenset({"libc", "libm", "libpthread", "libdl", "librt", "libstdc++", "libgcc_s"})


@record
class BuiltLibrary:
    """What was written: files, public functions, sizes in bytes and the seconds linking took.

    `companions` are the files beside library and header: `<library>.o`, `.pc`, `-config.cmake`
    and `_main.c`.
    """

    path: Path
    header: Path
    companions: tuple[Path, ...]
    weights: Path | None
    functions: tuple[str, ...]
    bytes: int
    weight_bytes: int
    link_seconds: float


def library_name(path: Path) -> str:
    """`digits` for `libdigits.so`; raises BuildError for a name that C cannot spell."""
    if path.name.removesuffix(".so") in SYSTEM:
        raise BuildError(f"{path.name} is a library of the system: choose another name")
    stem = path.name.split(".")[0].removeprefix("lib")
    if not stem or path.suffix != ".so":
        raise BuildError(f"a library is called lib<name>.so, not {path.name!r}")
    return identifier(stem)


def build_library(
    artifacts: Sequence[Artifact],
    path: str | Path,
    *,
    target: Target | str = "native",
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

    Raises `BuildError`, and `TargetError` for an unknown target; a library that was there before
    stays until the new one is whole.
    """
    path = Path(path).absolute()
    library = library_name(path)
    target = named_target(target) if isinstance(target, str) else target
    if not artifacts:
        raise BuildError("a library needs at least one function")
    for artifact in artifacts:
        if artifact.target != target.name:
            raise BuildError(
                f"{artifact.name} was compiled for {artifact.target}, "
                f"the library is for {target.name}"
            )
    if "linux" not in target.triple:
        raise BuildError(f"libraries are built for Linux, not for {target.triple}")
    symbols = function_symbols(library, artifacts, prefix)
    blob = weights.collect(artifacts)
    side = Path(weights_path or path.with_name(f"{library}.weights")).absolute()
    if embed_weights and blob.size > weights.MAX_EMBEDDED:
        raise BuildError("more than 1 GiB of weights: keep them in a file with embed_weights=False")
    plan = Plan(
        path=path,
        library=library,
        signatures=tuple(map(signature, artifacts, symbols)),
        target=target if any(map(uses_tiles, artifacts)) else target.without_tiles(),
        version=version,
        blob=blob,
        side=None if embed_weights or not blob.size else side,
        options=options or {},
    )
    return _build(plan, link.find(target, linker), companion_files)


def _build(plan: Plan, linker: link.Linker, companion_files: bool) -> BuiltLibrary:
    plan.path.parent.mkdir(parents=True, exist_ok=True)
    # beside the library, so that what is made here is renamed and not copied
    with tempfile.TemporaryDirectory(prefix=".graphmill-", dir=plan.path.parent) as folder:
        work = Path(folder)
        objects = write_objects(plan, work)
        started = time.perf_counter()
        made, merged = work / plan.path.name, work / f"{plan.library}.o"
        link.shared(linker, plan.target, objects, made, public_symbols(plan).values(), work)
        seconds = time.perf_counter() - started
        _seal(made)
        if plan.side is not None:
            weights.write_side_file(plan.side, plan.blob)
        header_path = plan.path.with_name(f"{plan.library}.h")
        header_path.write_text(header(plan), encoding="utf-8")
        beside: tuple[Path, ...] = ()
        if companion_files:
            link.merge(linker, objects, merged)
            _install(merged, plan.path.with_name(merged.name))
            beside = (plan.path.with_name(merged.name), *companions.write(plan))
        _install(made, plan.path)
    return BuiltLibrary(
        path=plan.path,
        header=header_path,
        companions=beside,
        weights=plan.side,
        functions=tuple(s.symbol for s in plan.signatures),
        bytes=plan.path.stat().st_size,
        weight_bytes=plan.blob.size,
        link_seconds=seconds,
    )


def _seal(path: Path) -> None:
    """Write the file's SHA-256 (of the file with zeros in its place) into the library's note."""
    mark = wrapper.NOTE_OWNER + bytes(-len(wrapper.NOTE_OWNER) % 4)
    with mapped(path, write=True) as data:
        at = data.find(mark + bytes(wrapper.DIGEST_BYTES)) + len(mark)
        if at < len(mark):
            raise BuildError("the linker dropped the library's note")
        data[at : at + wrapper.DIGEST_BYTES] = hashlib.sha256(data).digest()


def _install(made: Path, path: Path) -> None:
    """Put a file in its place in one step, so that a running program keeps the old one."""
    made.chmod(0o755 if path.suffix == ".so" else 0o644)
    os.replace(made, path)
