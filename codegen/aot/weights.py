"""The constants of a library: one block of bytes, inside the library or in a file beside it.

The file is `magic, version, checksum, size` (8 bytes each, little-endian), zeros up to 4096 bytes,
and the block. The checksum is a sum over 64-bit words, each mixed with its position, so that it is
computed at memory speed here by NumPy and in the library by a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphmill.codegen.aot.files import replacing
from graphmill.codegen.aot.signature import BuildError
from graphmill.codegen.artifact import Artifact, Constant
from graphmill.records import record

MAGIC = int.from_bytes(b"GMWEIGHT", "little")
VERSION = 1
HEADER = 4096
ALIGN = 64
# beyond this the library's code could not reach its own data with 32-bit distances
MAX_EMBEDDED = 1 << 30

_STEP = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio, as in SplitMix64
_FACTOR = 0xBF58476D1CE4E5B9
_CHUNK = 1 << 20


@record
class Blob:
    """The block: its pieces in order, and for each function where its constants begin."""

    pieces: tuple[bytes, ...]
    offsets: tuple[tuple[int, ...], ...]
    size: int
    checksum: int


def collect(artifacts: Sequence[Artifact]) -> Blob:
    """Lay out the constants of all functions, equal ones once, each on a 64-byte boundary."""
    places: dict[bytes, int] = {}
    pieces: list[bytes] = []
    size = 0
    offsets = []
    for artifact in artifacts:
        row = []
        for constant in artifact.constants:
            data = _verified(artifact, constant)
            if data not in places:
                places[data] = size
                padding = -len(data) % ALIGN
                pieces += [data, bytes(padding)]
                size += len(data) + padding
            row.append(places[data])
        offsets.append(tuple(row))
    return Blob(tuple(pieces), tuple(offsets), size, checksum(pieces))


def _verified(artifact: Artifact, constant: Constant) -> bytes:
    data = bytes(constant.data or b"")
    if len(data) != constant.nbytes:
        raise BuildError(
            f"{artifact.name}: constant {constant.name} has {len(data)} bytes, "
            f"its shape needs {constant.nbytes}"
        )
    return data


def checksum(pieces: Sequence[bytes]) -> int:
    """Sum over the words w[k] of mix(w[k] + k * step); pieces hold whole 64-byte lines in pairs."""
    total, position, rest = 0, 0, b""
    for piece in pieces:
        # a constant and its padding together are whole words
        data = rest + piece if rest else piece
        whole = len(data) // 8
        words = np.frombuffer(data, np.uint64, whole)
        for begin in range(0, whole, _CHUNK):
            total += _mixed(words[begin : begin + _CHUNK], position + begin)
        position += whole
        rest = bytes(data[8 * whole :])
    return total & (1 << 64) - 1


def _mixed(words: NDArray[np.uint64], position: int) -> int:
    index = np.arange(position, position + len(words), dtype=np.uint64)
    with np.errstate(over="ignore"):
        mixed = (words + index * np.uint64(_STEP)) * np.uint64(_FACTOR)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(_FACTOR)
        return int(mixed.sum(dtype=np.uint64))


def constants(side: Blob | None) -> dict[str, int]:
    """What the library's code must know of its side file (all zero when it has none)."""
    return {
        "SIDE_BYTES": HEADER + side.size if side else 0,
        "SIDE_HEADER": HEADER,
        "SIDE_MAGIC": MAGIC,
        "SIDE_VERSION": VERSION,
        "SIDE_CHECKSUM": _signed(side.checksum if side else 0),
        "MIX_STEP": _signed(_STEP),
        "MIX_FACTOR": _signed(_FACTOR),
    }


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def write_side_file(path: Path, blob: Blob) -> None:
    """Write the side file; it appears under its name only when it is whole."""
    header = b"".join(n.to_bytes(8, "little") for n in (MAGIC, VERSION, blob.checksum, blob.size))
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(header.ljust(HEADER, b"\0"))
        for piece in blob.pieces:
            file.write(piece)
