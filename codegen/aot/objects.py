"""The objects that a library is linked from, each with its symbols under their final names.

Inside the library every symbol is hidden and carries the library's name, so that two libraries
can stand in one program, statically too; kernels also carry their function's number.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from graphmill.codegen.aot import elf, wrapper
from graphmill.codegen.aot.cpu import architecture, machine_code
from graphmill.codegen.aot.elf import ALLOC, Elf, Section
from graphmill.codegen.aot.plan import Plan
from graphmill.codegen.aot.signature import BuildError
from graphmill.codegen.cpu import pool
from graphmill.codegen.cpu.llvm import compile_ir
from graphmill.codegen.cpu.target import Target


def public_symbols(plan: Plan) -> dict[str, str]:
    """What the library exports: the wrapper module's names, and the public ones."""
    functions = {wrapper.public_name(k): s.symbol for k, s in enumerate(plan.signatures)}
    return functions | {name: plan.control(public) for name, public in wrapper.CONTROL.items()}


def write_objects(plan: Plan, work: Path) -> list[Path]:
    """Write wrapper, worker pool, kernels, and what is data (CPU check, weights) into `work`."""
    baseline = _baseline(plan.target)
    own = f"gm_{plan.library}__"
    module = compile_ir(wrapper.llvm_ir(plan), baseline).object
    shared = _pool(baseline)
    codes = [_renamed(module, public_symbols(plan), own), _renamed(shared, {}, own)]
    for index, signature in enumerate(plan.signatures):
        artifact, entry = signature.artifact, wrapper.entry_symbol(index)
        names = {
            artifact.entry: f"{own}{entry[3:]}",
            artifact.arena_entry: f"{own}{entry[3:]}_arena",
        }
        images = (artifact.object, *artifact.parts)
        codes += [_renamed(image, names, f"{own}{index}_") for image in images]
    paths = []
    for number, code in enumerate(codes):
        paths.append(work / f"{number}.o")
        paths[-1].write_bytes(code)
    sections = [_named(section, own) for section in _data(plan)]
    if sections:
        paths.append(work / "data.o")
        elf.write_object(paths[-1], architecture(plan.target), sections)
    return paths


def _data(plan: Plan) -> list[Section]:
    sections = machine_code(plan.target)
    if plan.blob.size and plan.side is None:
        placed = Section(".rodata.gm_weights", ALLOC, plan.blob.pieces, {"gm_weights": 0})
        sections = [*sections, placed]
    return sections


def _named(section: Section, own: str) -> Section:
    symbols = {f"{own}{name[3:]}": offset for name, offset in section.symbols.items()}
    return Section(section.name, section.flags, section.pieces, symbols, section.align)


@cache
def _pool(target: Target) -> bytes:
    return pool.object_code(target.triple, target.cpu, target.features)


def _baseline(target: Target) -> Target:
    """The same system with no more than every CPU of the architecture has."""
    cpu = "x86-64" if architecture(target) == "x86_64" else "generic"
    return Target("baseline", target.triple, cpu, "", 128, 16)


def _renamed(code: bytes, names: Mapping[str, str], own: str) -> bytes:
    """The object with `names` applied and every other symbol of ours under the prefix `own`."""
    try:
        mapping = {
            name: names.get(name, own + name[3:])
            for name, *_ in Elf(code).symbols()
            if name.startswith(("gm_", "gm.")) or name in names
        }
        public = frozenset(n for n in names.values() if not n.startswith(own))
        return elf.rename(code, mapping, public)
    except elf.ElfError as error:
        raise BuildError(f"the compiled code is no object for Linux: {error}") from None
