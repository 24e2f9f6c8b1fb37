"""The public functions of a library, written in the word language and compiled for the baseline.

Each checks its pointers and dims, lays out the arguments as the executable ABI wants them and
calls `run` of `support.words`. Sizes are computed with every step checked for overflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files

from graphmill.codegen.aot import cpu, weights
from graphmill.codegen.aot.dimtext import WORDS, translate
from graphmill.codegen.aot.plan import Plan, metadata
from graphmill.codegen.aot.signature import ERRORS, Argument, Signature
from graphmill.codegen.artifact import ITEMSIZES
from graphmill.codegen.cpu.words import to_llvm
from graphmill.ir.graph import Location

# fixed functions of every library: the name in the source, and behind `gml_<library>_`
CONTROL = {
    "gm_version": "version",
    "gm_metadata": "metadata",
    "gm_ready": "ready",
    "gm_set_threads": "set_threads",
    "gm_threads": "threads",
    "gm_last_error": "last_error",
    "gm_load_weights": "load_weights",
    "gm_release_memory": "release_memory",
}

# The note that says "this is a Graphmill library" without running anything of it: an owner, a
# type, and as its content the library's name behind the place of the file's SHA-256.
NOTE_OWNER = b"Graphmill\0"
NOTE_TYPE = 1
DIGEST_BYTES = 32


def entry_symbol(index: int) -> str:
    """The kernel entry of the index-th function, inside the library."""
    return f"gm_entry_{index}"


def public_name(index: int) -> str:
    """The index-th public function's name in the source, before it is renamed."""
    return f"gm_public_{index}"


def source(plan: Plan) -> str:
    """Source of the whole wrapper module in the word language."""
    shared = files("graphmill.codegen.aot").joinpath("support.words").read_text(encoding="utf-8")
    texts = {
        "gm_version": plan.version,
        "gm_metadata": metadata(plan),
        "gm_target_name": plan.target_text,
        "gm_loader_name": plan.control("load_weights"),
    }
    parts = [shared, cpu.words(plan.target)]
    parts += [f"def {name}():\n    return {text!r}\n" for name, text in texts.items()]
    for index, signature in enumerate(plan.signatures):
        parts.append(_function(index, signature, plan.blob.offsets[index]))
    return "\n".join(parts)


def llvm_ir(plan: Plan) -> str:
    """LLVM IR of the wrapper module, with the library's note and its exit function."""
    constants = {name: code for code, (name, _) in enumerate(ERRORS)}
    constants |= weights.constants(plan.blob if plan.side else None)
    return to_llvm(source(plan), plan.target.triple, constants) + _note(plan.library) + _EXIT


# Not `llvm.used`: a target machine remembers its members for the modules that come after, and
# then equal modules give unequal objects. Linkers keep both sections by their types.
_EXIT = """
@gm_exit = internal constant ptr @gm_finish, section ".fini_array", align 8
@llvm.compiler.used = appending global [2 x ptr]
  [ptr @gm_exit, ptr @gm_note], section "llvm.metadata"
"""


def _note(library: str) -> str:
    content = bytes(DIGEST_BYTES) + library.encode()
    owner = NOTE_OWNER + bytes(-len(NOTE_OWNER) % 4)
    sizes = (len(NOTE_OWNER), len(content), NOTE_TYPE)
    data = b"".join(n.to_bytes(4, "little") for n in sizes) + owner + content
    data += bytes(-len(data) % 4)
    text = "".join(f"\\{byte:02X}" for byte in data)
    return (
        f'@gm_note = internal constant [{len(data)} x i8] c"{text}", '
        'section ".note.graphmill", align 4\n'
    )


# ---- one function


def _function(index: int, signature: Signature, offsets: Sequence[int]) -> str:
    entry = entry_symbol(index)
    name, artifact = signature.symbol, signature.artifact
    dims = {spec.name: f"d{k}" for k, (_, spec) in enumerate(signature.dims)}
    parameters = [f"a{k}" for k in range(len(signature.arrays))]
    parameters += [*dims.values(), *(f"s{k}" for k in range(len(signature.strides)))]
    lines = ["status = gm_ready()", "if status != OK:", "    return status"]
    for k, (label, spec) in enumerate(signature.dims):
        hi = -1 if spec.hi is None else spec.hi
        beyond = f"d{k} < {spec.lo}" + ("" if spec.hi is None else f" or d{k} > {spec.hi}")
        arguments = f'"{name}", "{label}", d{k}, {spec.lo}, {hi}'
        lines += [f"if {beyond}:", f"    return bad_dim({arguments})"]
    for k, argument in enumerate(signature.arrays):
        lines += _check(f"a{k}", argument, name, dims)
    pointers = [f"a{k}" for k in signature.pointers]
    pointers += [f"weights_at() + {offset}" for offset in offsets]
    lines += [f"args = stack({max(len(pointers), 1)})"]
    lines += [f"args[{k}] = {pointer}" for k, pointer in enumerate(pointers)]
    lines += _dims(signature, dims)
    asked = artifact.arena_bytes is None
    arena = f"{entry}_arena, 0" if asked else f"0, {artifact.arena_bytes}"
    lines += [f'return run("{name}", {entry}, {arena}, args, dims, locations_{index})']
    body = "\n".join(f"    {line}" for line in lines)
    return (
        f"from kernels import {entry}, {entry}_arena\n{_locations(index, artifact.locations)}\n"
        f"def {public_name(index)}({', '.join(parameters)}):\n{body}\n"
    )


def _check(pointer: str, argument: Argument, function: str, dims: Mapping[str, str]) -> list[str]:
    """Lines that refuse an impossible size, and a pointer that is needed and wrong."""
    lines = ["n = 1"]
    for dim in argument.spec.shape:
        lines.append(f"n = grow(n, {translate(dim, dims, WORDS)})")
    refuse = f'"{function}", "{argument.name}"'
    lines += ["if n < 0:", f"    return bad_size({refuse})"]
    size = ITEMSIZES[argument.spec.dtype]
    # a complex number is a pair of its parts
    align = size // 2 if argument.spec.dtype in ("c64", "c128") else size
    wrong = f"{pointer} == 0" + (f" or {pointer} & {align - 1}" if align > 1 else "")
    lines += [f"if n != 0 and ({wrong}):", f"    return bad_pointer({refuse}, {pointer})"]
    return lines


def _dims(signature: Signature, dims: Mapping[str, str]) -> list[str]:
    """Lines that lay out the dims, and behind them the strides of the strided inputs."""
    count = len(dims) + sum(len(a.spec.shape) for _, a in signature.strides)
    lines = [f"dims = stack({max(count, 1)})"]
    lines += [f"dims[{k}] = {value}" for k, value in enumerate(dims.values())]
    at = len(dims)
    for k, (_, argument) in enumerate(signature.strides):
        rank = len(argument.spec.shape)
        lines += [f"if s{k}:"]
        lines += [f"    dims[{at + axis}] = s{k}[{axis}]" for axis in range(rank)] or ["    pass"]
        lines += ["else:", "    step = 1"]
        for axis in reversed(range(rank)):
            lines += [f"    dims[{at + axis}] = step"]
            lines += [f"    step = step * {translate(argument.spec.shape[axis], dims, WORDS)}"]
        at += rank
    return lines


def _locations(index: int, locations: Sequence[str]) -> str:
    lines = [f"def locations_{index}(k):"]
    for k, text in enumerate(locations):
        # file name and line: a library tells nothing of its builder's folders
        place = str(Location.decode(text) or text)
        lines += [f"    if k == {k}:", f"        return {place!r}"]
    return "\n".join([*lines, "    return 0"])
