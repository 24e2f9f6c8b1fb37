"""The C face of a compiled graph: names, C types and the order of arguments.

Everything that speaks of a public function (wrapper, header, example, metadata) reads it here.
The order is: inputs, outputs, dims, then one pointer to strides for each strided input. An input
whose memory was donated to an output is both; that output has no pointer of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.aot.names import identifier, taken, unique
from graphmill.codegen.artifact import ArgSpec, Artifact, DimSpec
from graphmill.records import record

# dtype: (C type, elements of it per array element, what the reader must know)
C_TYPES: dict[str, tuple[str, int, str]] = {
    "bool": ("uint8_t", 1, "0 or 1"),
    "i8": ("int8_t", 1, ""),
    "i16": ("int16_t", 1, ""),
    "i32": ("int32_t", 1, ""),
    "i64": ("int64_t", 1, ""),
    "u8": ("uint8_t", 1, ""),
    "u16": ("uint16_t", 1, ""),
    "u32": ("uint32_t", 1, ""),
    "u64": ("uint64_t", 1, ""),
    "f16": ("uint16_t", 1, "the bits of an IEEE half"),
    "bf16": ("uint16_t", 1, "the bits of a bfloat16"),
    "f32": ("float", 1, ""),
    "f64": ("double", 1, ""),
    "c64": ("float", 2, "pairs of real and imaginary part"),
    "c128": ("double", 2, "pairs of real and imaginary part"),
}

ERRORS = (
    ("OK", "done"),
    ("BAD_ARGUMENT", "a pointer is NULL or not aligned to its element type"),
    ("BAD_DIM", "a dim is out of its bounds, or the dims give an impossible size"),
    ("OUT_OF_MEMORY", "no scratch memory"),
    ("UNSUPPORTED_CPU", "the CPU lacks a feature that the kernels were compiled for"),
    (
        "CHECK_FAILED",
        "no element to choose from, or a check that the function was built with failed",
    ),
    ("NO_WEIGHTS", "the weights were not loaded, or their file is not the right one"),
    ("INTERNAL", "anything else; please report it"),
)


class BuildError(ValueError):
    """A library cannot be built: what is wrong, and with which function or tool."""


@record
class Argument:
    """One array of a public function: its C name and specification.

    `becomes` is the name of the output that an input is overwritten with, if it is.
    """

    name: str
    spec: ArgSpec
    output: bool
    becomes: str = ""

    @property
    def written(self) -> bool:
        """Whether the function writes to it."""
        return self.output or bool(self.becomes)

    @property
    def c_type(self) -> str:
        """Element type in C."""
        return C_TYPES[self.spec.dtype][0]

    def shape_text(self) -> str:
        """`f32[batch, 784]`."""
        return f"{self.spec.dtype}[{', '.join(map(str, self.spec.shape))}]"


@record
class Signature:
    """A public function: its symbol and its arguments in C order.

    `pointers` has for each input and each output of the artifact the argument that points to it.
    """

    artifact: Artifact
    symbol: str
    arrays: tuple[Argument, ...]
    pointers: tuple[int, ...]
    dims: tuple[tuple[str, DimSpec], ...]
    strides: tuple[tuple[str, Argument], ...]

    @property
    def inputs(self) -> tuple[Argument, ...]:
        """The arrays that are read."""
        return tuple(a for a in self.arrays if not a.output)

    @property
    def outputs(self) -> tuple[Argument, ...]:
        """The arrays that are written."""
        return tuple(a for a in self.arrays if a.written)

    def parameters(self) -> list[str]:
        """The parameters' names in C order."""
        names = [a.name for a in self.arrays]
        return names + [name for name, _ in self.dims] + [name for name, _ in self.strides]

    def prototype(self) -> str:
        """The C declaration, without a semicolon."""
        parameters = [f"{'' if a.written else 'const '}{a.c_type} *{a.name}" for a in self.arrays]
        parameters += [f"int64_t {name}" for name, _ in self.dims]
        parameters += [f"const int64_t *{name}" for name, _ in self.strides]
        return f"int32_t {self.symbol}({', '.join(parameters) or 'void'})"


def signature(artifact: Artifact, symbol: str) -> Signature:
    """The C face of an artifact under a public symbol."""
    # dims first: the docs of all arrays speak of them
    known: set[str] = {symbol}
    dims = unique((d.name for d in artifact.dims), known)
    specs = (*artifact.inputs, *artifact.outputs)
    names = list(unique((s.name for s in specs), known))
    count = len(artifact.inputs)
    donated = {count + i: n for i, n in enumerate(artifact.donated) if n >= 0}
    becomes = {n: specs[i].name for i, n in donated.items()}
    own = [i for i in range(len(specs)) if i not in donated]
    arrays = tuple(Argument(names[i], specs[i], i >= count, becomes.get(i, "")) for i in own)
    pointers = tuple(own.index(donated.get(i, i)) for i in range(len(specs)))
    strided = [a for a in arrays if a.spec.strided and not a.output]
    strides = unique((f"{a.name}_strides" for a in strided), known)
    return Signature(
        artifact,
        symbol,
        arrays,
        pointers,
        tuple(zip(dims, artifact.dims, strict=True)),
        tuple(zip(strides, strided, strict=True)),
    )


def function_symbols(library: str, artifacts: Sequence[Artifact], prefix: str | None) -> list[str]:
    """The functions' public names: `<library>_<function>`, or with the prefix that was asked for.

    A function named like its library keeps that one name.
    """
    found: list[str] = []
    for artifact in artifacts:
        name = identifier(artifact.name)
        if prefix is None:
            symbol = name if name == library else f"{library}_{name}"
        else:
            symbol = identifier(prefix + name) if prefix else name
        if symbol in found:
            raise BuildError(f"two functions of the library are called {symbol}: name them apart")
        if why := taken(symbol):
            raise BuildError(f"{why}: name the function or the library otherwise, or give a prefix")
        found.append(symbol)
    return found
