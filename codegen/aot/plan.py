"""What a library under construction is made of; every part of the build reads it here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, field
from importlib import metadata as packages
from pathlib import Path

from graphmill.codegen.aot.cpu import features
from graphmill.codegen.aot.signature import BuildError, Signature
from graphmill.codegen.aot.weights import Blob
from graphmill.codegen.cpu.target import Target
from graphmill.records import record

FORMAT = 2


@record
class Plan:
    """A library: where it goes, its functions, their weights (`side`: their file, if apart)."""

    path: Path
    library: str
    signatures: tuple[Signature, ...]
    target: Target
    version: str
    blob: Blob
    side: Path | None
    options: Mapping[str, object] = field(default_factory=dict)

    def control(self, name: str) -> str:
        """Public symbol of a fixed function such as `set_threads`."""
        return f"gml_{self.library}_{name}"

    @property
    def weights_file(self) -> str:
        """Name of the weights' own file, empty when they are inside the library."""
        return self.side.name if self.side else ""

    @property
    def target_text(self) -> str:
        """What the library was compiled for, in words for its user."""
        target = self.target
        return target.name if target.name != "native" else f"{target.cpu} ({target.triple})"


def metadata(plan: Plan) -> str:
    """The metadata that the library gives of itself, as JSON text."""
    facts = {
        "format": FORMAT,
        "library": plan.library,
        "version": plan.version,
        "graphmill": _generator_version(),
        "target": {
            "name": plan.target.name,
            "triple": plan.target.triple,
            "cpu": plan.target.cpu,
            "features": features(plan.target),
        },
        "functions": [_function(signature) for signature in plan.signatures],
        "weights": {
            "bytes": plan.blob.size,
            "checksum": f"{plan.blob.checksum:016x}",
            "file": plan.weights_file or None,
        },
        "options": dict(plan.options),
    }
    try:
        return json.dumps(facts, separators=(",", ":"))
    except TypeError as error:
        raise BuildError(f"the build options cannot be written down: {error}") from None


def _function(signature: Signature) -> dict[str, object]:
    artifact, count = signature.artifact, len(signature.inputs)
    arrays = [
        {"c_name": signature.arrays[k].name, "c_type": signature.arrays[k].c_type, **asdict(spec)}
        for k, spec in zip(signature.pointers, (*artifact.inputs, *artifact.outputs), strict=True)
    ]
    return {
        "name": artifact.name,
        "symbol": signature.symbol,
        "prototype": signature.prototype(),
        "inputs": arrays[:count],
        "outputs": arrays[count:],
        "donated": list(artifact.donated),
        "dims": [{"c_name": name, **asdict(spec)} for name, spec in signature.dims],
    }


def _generator_version() -> str:
    try:
        return packages.version("graphmill")
    except packages.PackageNotFoundError:
        return "unknown"
