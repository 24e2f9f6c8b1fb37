"""What the namespace offers, as the standard asks (`__array_namespace_info__`)."""

from __future__ import annotations

from typing import Any

from graphmill.frontend.describe import failure
from graphmill.frontend.numpy import data_types


class NamespaceInfo:
    """Capabilities, devices and dtypes of the namespace."""

    def capabilities(self) -> dict[str, Any]:
        """No boolean indexing, no sizes that depend on values: shapes are known while tracing."""
        return {
            "boolean indexing": False,
            "data-dependent shapes": False,
            "max dimensions": 32,
        }

    def default_device(self) -> str:
        """Where arrays are made."""
        return "cpu"

    def default_dtypes(self, *, device: str | None = None) -> dict[str, Any]:
        """The dtypes that arrays take where none is named."""
        _check(device)
        return {
            "real floating": data_types.float64, "complex floating": data_types.complex128,
            "integral": data_types.int64, "indexing": data_types.int64,
        }  # fmt: skip

    def devices(self) -> list[str]:
        """All devices."""
        return ["cpu"]

    def dtypes(self, *, device: str | None = None, kind: Any = None) -> dict[str, Any]:
        """The standard's dtypes by name, all or those of a kind."""
        _check(device)
        names = (
            "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
            "float32", "float64", "complex64", "complex128",
        )  # fmt: skip
        found = {name: getattr(data_types, name) for name in names}
        return {
            name: dtype for name, dtype in found.items()
            if kind is None or data_types.isdtype(dtype, kind)
        }  # fmt: skip


def _check(device: str | None) -> None:
    if device not in (None, "cpu"):
        raise failure("GM025", f"device {device!r}", hint='the device is "cpu" (or None).')


def __array_namespace_info__() -> NamespaceInfo:
    """The namespace's capabilities, devices and dtypes."""
    return NamespaceInfo()
