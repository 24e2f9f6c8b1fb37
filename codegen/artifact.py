"""The artifact: what code generation hands to the runtime, as plain data with a byte form.

An artifact is one relocatable object and the facts a caller needs: names, dtypes and shapes of
inputs and outputs, the symbolic dims, the kernels and the user's lines they came from. The byte
form is `magic, version, sizes, sha256, JSON header, object, constants`; nothing in it is ever
executed while it is read, and anything damaged gives an `ArtifactError`. Constants that can be made
again from the traced function's own arrays (weights, packed) are left out of the byte form.
"""

from __future__ import annotations

import math
import struct
from dataclasses import asdict, replace
from typing import Any

from graphmill.records import record

MAGIC = b"GMARTFCT"
VERSION = 6
MAX_HEADER = 16 << 20
MAX_OBJECT = 4 << 30
# magic, version, header bytes, bytes of object and constants, sha256 of all that
_PREFIX = struct.Struct("<8sIIQ32s")

ITEMSIZES = {
    "bool": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "u8": 1, "u16": 2, "u32": 4, "u64": 8,
    "f16": 2, "bf16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16,
}  # fmt: skip


class ArtifactError(ValueError):
    """An artifact's bytes are damaged, of another version, or not an artifact at all."""


@record
class ArgSpec:
    """One input or output: a str in `shape` is a dim expression such as `2*batch + 1`.

    A `strided` input may have any strides that are multiples of the item size; the caller passes
    them, in elements, behind the dims.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    strided: bool = False


@record
class DimSpec:
    """A symbolic dim and its inclusive bounds; `hi=None` means unbounded."""

    name: str
    lo: int = 0
    hi: int | None = None


@record
class KernelInfo:
    """One kernel: the user's line, its work (numbers or dim expressions), serial or parallel, and
    where there was a choice, how it works and why."""

    name: str
    location: str = ""
    flops: int | str = 0
    bytes: int | str = 0
    parallel: bool = False
    schedule: str = ""


# A NumPy operation by name and its argument: `("transpose", (1, 0))`, see `codegen.constants`.
Step = tuple[str, tuple[int, ...]]


@record
class Constant:
    """An array that the code reads: C-contiguous bytes, little-endian, given behind the outputs.

    With a `source` it is the array of that number among the traced function's large constants, put
    through `steps`; `data` is None until somebody has done that (`codegen.constants`).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview | None
    source: int | None = None
    steps: tuple[Step, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return ITEMSIZES[self.dtype] * math.prod(self.shape)


@record
class Artifact:
    """Object code of one graph with all that a caller must know (`arena_bytes=None`: ask it).

    `parts` are further objects, which the first one is linked with. `donated` has for each output
    the number of the input whose memory it is written into, -1 where it has its own. Code with
    `loops` calls the context's poll, `parallel` code its parallel_for.
    """

    name: str
    entry: str
    target: str
    object: bytes
    inputs: tuple[ArgSpec, ...]
    outputs: tuple[ArgSpec, ...]
    dims: tuple[DimSpec, ...] = ()
    kernels: tuple[KernelInfo, ...] = ()
    locations: tuple[str, ...] = ()
    arena_bytes: int | None = 0
    profiled: bool = False
    constants: tuple[Constant, ...] = ()
    parts: tuple[bytes, ...] = ()
    donated: tuple[int, ...] = ()
    loops: bool = False
    parallel: bool = True

    @property
    def arena_entry(self) -> str:
        """Symbol of the function that returns the scratch bytes needed for given dims."""
        return f"{self.entry}_arena"

    def to_bytes(self) -> bytes:
        """The artifact as bytes, but for constants with a source; equal ones give equal bytes."""
        fields = {name: getattr(self, name) for name in _PLAIN}
        for name in ("inputs", "outputs", "dims", "kernels"):
            fields[name] = [asdict(record) for record in getattr(self, name)]
        fields["constants"] = [
            {name: getattr(c, name) for name in ("name", "dtype", "shape", "source", "steps")}
            for c in self.constants
        ]
        fields["parts"] = [len(part) for part in self.parts]
        import json

        header = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        own = [c.data for c in self.constants if c.source is None and c.data is not None]
        code = (self.object, *self.parts, *own)
        size = sum(map(len, code))
        prefix = _PREFIX.pack(MAGIC, VERSION, len(header), size, _digest(header, *code))
        return b"".join((prefix, header, *code))

    @staticmethod
    def from_bytes(data: bytes | memoryview, *, verified: bool = False) -> Artifact:
        """Read and verify; raises `ArtifactError` saying what is wrong.

        Stored constants are views of `data`. `verified` says that the caller has compared a
        checksum over all of it.
        """
        data = memoryview(data)
        if len(data) < _PREFIX.size:
            raise ArtifactError(f"artifact is cut short: {len(data)} bytes")
        magic, version, header_size, object_size, digest = _PREFIX.unpack_from(data)
        if magic != MAGIC:
            raise ArtifactError("not a Graphmill artifact: its first bytes are wrong")
        if version != VERSION:
            raise ArtifactError(f"artifact has version {version}, this Graphmill reads {VERSION}")
        if header_size > MAX_HEADER or object_size > MAX_OBJECT:
            raise ArtifactError("artifact names a size beyond the limits")
        if len(data) != _PREFIX.size + header_size + object_size:
            raise ArtifactError(
                f"artifact has {len(data)} bytes, its prefix names "
                f"{_PREFIX.size + header_size + object_size}"
            )
        header = data[_PREFIX.size : _PREFIX.size + header_size]
        code = data[_PREFIX.size + header_size :]
        if not verified and _digest(header, code) != digest:
            raise ArtifactError("artifact is damaged: its checksum does not match")
        import json

        try:
            fields = json.loads(bytes(header))
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"artifact header is not JSON: {error}") from None
        return _artifact(fields, code)


_PLAIN = (
    "name", "entry", "target", "locations", "arena_bytes", "profiled", "donated", "loops",
    "parallel",
)  # fmt: skip


def _digest(*pieces: bytes | memoryview) -> bytes:
    import hashlib

    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _artifact(fields: Any, code: memoryview) -> Artifact:
    read = _Fields(fields, "artifact")
    constants = _constants(read.list("constants"), code)
    end = len(code) - sum(c.nbytes for c in constants if c.source is None)
    parts: list[bytes] = []
    for size in reversed([_expect(size, int, "part") for size in read.list("parts")]):
        if not 0 <= size <= end:
            raise ArtifactError("artifact names parts beyond its end")
        parts.insert(0, bytes(code[end - size : end]))
        end -= size
    artifact = Artifact(
        name=read.text("name"),
        entry=read.text("entry"),
        target=read.text("target"),
        object=bytes(code[:end]),
        parts=tuple(parts),
        inputs=tuple(_arg(f) for f in read.list("inputs")),
        outputs=tuple(_arg(f) for f in read.list("outputs")),
        dims=tuple(_dim(f) for f in read.list("dims")),
        kernels=tuple(_kernel(f) for f in read.list("kernels")),
        locations=tuple(_expect(x, str, "location") for x in read.list("locations")),
        arena_bytes=read.optional_int("arena_bytes"),
        profiled=read.bool("profiled"),
        constants=constants,
        donated=tuple(_expect(x, int, "donated") for x in read.list("donated")),
        loops=read.bool("loops"),
        parallel=read.bool("parallel"),
    )
    read.done()
    if artifact.donated:
        _check_donated(artifact)
    if not artifact.entry.startswith("gm_"):
        raise ArtifactError(f"artifact entry {artifact.entry!r} lacks the prefix gm_")
    return artifact


def _check_donated(artifact: Artifact) -> None:
    inputs, outputs, donated = artifact.inputs, artifact.outputs, artifact.donated
    taken = [number for number in donated if number != -1]
    fit = len(donated) <= len(outputs) and len(set(taken)) == len(taken)
    if not fit or any(
        not 0 <= number < len(inputs)
        or inputs[number].strided
        or (inputs[number].dtype, inputs[number].shape) != (output.dtype, output.shape)
        for output, number in zip(outputs, donated, strict=False)
        if number != -1
    ):
        raise ArtifactError(f"artifact donates inputs that fit no output: {donated}")


def _constants(records: list[Any], code: memoryview) -> tuple[Constant, ...]:
    """The constants; the bytes of those without a source stand one after the other in the end."""
    found = [_constant(record) for record in records]
    at = len(code) - sum(c.nbytes for c in found if c.source is None)
    if at < 0:
        raise ArtifactError("artifact names constants beyond its end")
    for i, constant in enumerate(found):
        if constant.source is None:
            found[i] = replace(constant, data=code[at : at + constant.nbytes])
            at += constant.nbytes
    return tuple(found)


def _constant(fields: Any) -> Constant:
    read = _Fields(fields, "constant")
    source, steps = read.optional_int("source"), read.list("steps")
    shape = tuple(int(_expect(d, int, "constant dim")) for d in read.list("shape"))
    constant = Constant(
        read.text("name"), read.text("dtype"), shape, None, source, tuple(map(_step, steps))
    )
    read.done()
    if constant.dtype not in ITEMSIZES or min(shape, default=0) < 0 or (source or 0) < 0:
        raise ArtifactError(f"artifact constant is none: {constant}")
    return constant


def _step(fields: Any) -> Step:
    name, numbers = [*_expect(fields, list, "step"), None, None][:2]
    numbers = tuple(int(_expect(n, int, "step")) for n in _expect(numbers, list, "step"))
    return str(_expect(name, str, "step")), numbers


def _arg(fields: Any) -> ArgSpec:
    read = _Fields(fields, "argument")
    shape = tuple(_int_or_text(x, "dim") for x in read.list("shape"))
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise ArtifactError(f"artifact argument has a negative dim: {shape}")
    arg = ArgSpec(read.text("name"), read.text("dtype"), shape, read.bool("strided"))
    read.done()
    if arg.dtype not in ITEMSIZES:
        raise ArtifactError(f"artifact argument has an unknown dtype {arg.dtype!r}")
    return arg


def _dim(fields: Any) -> DimSpec:
    read = _Fields(fields, "dim")
    dim = DimSpec(read.text("name"), _expect(read.get("lo"), int, "lo"), read.optional_int("hi"))
    read.done()
    return dim


def _kernel(fields: Any) -> KernelInfo:
    read = _Fields(fields, "kernel")
    kernel = KernelInfo(
        read.text("name"),
        read.text("location"),
        _int_or_text(read.get("flops"), "flops"),
        _int_or_text(read.get("bytes"), "bytes"),
        read.bool("parallel"),
        read.text("schedule"),
    )
    read.done()
    return kernel


def _expect(value: Any, kind: type, what: str) -> Any:
    # bool is an int in Python, but never in a header
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ArtifactError(f"artifact header: {what} is {value!r}, not of type {kind.__name__}")
    return value


def _int_or_text(value: Any, what: str) -> int | str:
    return value if isinstance(value, str) else int(_expect(value, int, what))


class _Fields:
    """Checked reading of one JSON object: every field once, of its type, none left over."""

    def __init__(self, fields: Any, what: str) -> None:
        self._fields = dict(_expect(fields, dict, what))
        self._what = what

    def get(self, key: str) -> Any:
        if key not in self._fields:
            raise ArtifactError(f"artifact header: {self._what} lacks {key!r}")
        return self._fields.pop(key)

    def text(self, key: str) -> str:
        return str(_expect(self.get(key), str, f"{self._what} {key}"))

    def bool(self, key: str) -> bool:
        return bool(_expect(self.get(key), bool, f"{self._what} {key}"))

    def list(self, key: str) -> list[Any]:
        return list(_expect(self.get(key), list, f"{self._what} {key}"))

    def optional_int(self, key: str) -> int | None:
        value = self.get(key)
        return None if value is None else int(_expect(value, int, f"{self._what} {key}"))

    def done(self) -> None:
        if self._fields:
            raise ArtifactError(f"artifact header: {self._what} has unknown {sorted(self._fields)}")
