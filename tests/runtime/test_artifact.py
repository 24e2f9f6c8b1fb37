"""The artifact's byte form: round trip, and a clear error for every kind of damage."""

import json
import random
import struct

import pytest

from graphmill.codegen.artifact import (
    MAGIC,
    VERSION,
    ArgSpec,
    Artifact,
    ArtifactError,
    Constant,
    DimSpec,
    KernelInfo,
    _digest,
)

SAMPLE = Artifact(
    name="f",
    entry="gm_f",
    target="x86_64-linux",
    object=bytes(range(256)) * 3,
    inputs=(ArgSpec("x", "f32", ("batch", 4)), ArgSpec("y", "i64", (), strided=True)),
    outputs=(ArgSpec("z", "bf16", ("2*batch + 1",)),),
    dims=(DimSpec("batch", 1, None), DimSpec("seq", 0, 512)),
    kernels=(KernelInfo("k0", "a.py:3", "2*batch", 16, True, "direct"),),
    locations=("a.py:3", "ü.py:4"),
    arena_bytes=None,
    profiled=True,
    constants=(
        Constant("w", "f32", (2, 3), bytes(24)),
        Constant("p", "f32", (1 << 20, 5), None, 2, (("pad", (0, 1)), ("transpose", (1, 0)))),
        Constant("b", "i64", (), b"12345678"),
    ),
    parts=(b"second object", b"", b"fourth"),
)


def test_round_trip():
    data = SAMPLE.to_bytes()
    assert Artifact.from_bytes(data) == SAMPLE
    assert Artifact.from_bytes(data).to_bytes() == data
    assert SAMPLE.arena_entry == "gm_f_arena"


def test_every_flipped_byte_is_noticed():
    data = SAMPLE.to_bytes()
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1 << random.Random(at).randrange(8)
        with pytest.raises(ArtifactError):
            Artifact.from_bytes(bytes(bad))


@pytest.mark.parametrize("size", [0, 1, 8, 55, 56, 57, 200, -1])
def test_cut_short(size):
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(SAMPLE.to_bytes()[:size])


def test_extra_bytes():
    with pytest.raises(ArtifactError, match="bytes"):
        Artifact.from_bytes(SAMPLE.to_bytes() + b"x")


def _with_header(change):
    """The sample with its header edited and its checksum made right again."""
    data = SAMPLE.to_bytes()
    size = struct.unpack_from("<8sII", data)[2]
    fields = json.loads(data[56 : 56 + size])
    header = change(fields)
    header = header if isinstance(header, bytes) else json.dumps(fields).encode()
    code = data[56 + size :]
    digest = _digest(header, code)
    prefix = struct.pack("<8sIIQ32s", MAGIC, VERSION, len(header), len(code), digest)
    return prefix + header + code


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.pop("name") and None,
        lambda f: f.update(extra=1),
        lambda f: f.update(entry="system"),
        lambda f: f.update(inputs={}),
        lambda f: f.update(profiled=1),
        lambda f: f.update(arena_bytes="8"),
        lambda f: f.update(arena_bytes=True),
        lambda f: f["inputs"][0].update(dtype="f31"),
        lambda f: f["inputs"][0].update(shape=[-1]),
        lambda f: f["inputs"][0].update(shape=[1.5]),
        lambda f: f["inputs"][0].pop("strided") and None,
        lambda f: f["dims"][0].update(lo=None),
        lambda f: f["kernels"][0].update(flops=[]),
        lambda f: f.update(locations=[3]),
        lambda f: f.update(constants=[3]),
        lambda f: f["constants"][0].update(shape=["batch"]),
        lambda f: f["constants"][0].update(shape=[1 << 40]),
        lambda f: f["constants"][0].update(source=-1),
        lambda f: f["constants"][1].update(source=None),
        lambda f: f["constants"][1].update(steps=[3]),
        lambda f: f["constants"][1].update(steps=[["pad"]]),
        lambda f: f["constants"][1].update(steps=[["pad", ["x"]]]),
        lambda f: f["constants"][1].pop("dtype") and None,
        lambda f: f.update(parts=[-1]),
        lambda f: f.update(parts=[1 << 30]),
        lambda f: f.update(parts=["x"]),
        lambda f: b"[1, 2",
        lambda f: b"[]",
        lambda f: b"[" * 100_000,
        lambda f: b"\xff\xfe",
    ],
)
def test_wrong_header_with_right_checksum(change):
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(_with_header(change))


def test_other_version():
    data = bytearray(SAMPLE.to_bytes())
    data[8] = 9
    with pytest.raises(ArtifactError, match="version 9"):
        Artifact.from_bytes(bytes(data))
