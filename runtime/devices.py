"""Devices by name: `cpu` now; others register a class with the same interface.

A device says what it is, makes executables of its artifacts and moves arrays; nothing else in the
runtime asks which device it is on.
"""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from graphmill.codegen.artifact import Artifact
from graphmill.runtime import buffers, threads
from graphmill.runtime.buffers import Array
from graphmill.runtime.executable import Executable


class Device(ABC):
    """A place where compiled code runs, such as `cpu` or `cuda:0`."""

    name: str

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Facts for people: model, memory, threads."""

    @abstractmethod
    def load(self, artifact: Artifact, **options: Any) -> Executable:
        """The artifact's code, ready to call on this device; raises `ArtifactError`."""

    @abstractmethod
    def put(self, value: Any) -> Any:
        """An array-like's values on this device, without a copy where they are there already."""

    @abstractmethod
    def get(self, value: Any) -> Array:
        """A value of this device as a NumPy array."""

    @abstractmethod
    def synchronize(self) -> None:
        """Return when all work given to the device is done."""

    def __repr__(self) -> str:
        return f"<device {self.name}>"


class Cpu(Device):
    """The processor that Python runs on; every call is over when it returns."""

    name = "cpu"

    def describe(self) -> dict[str, str]:
        """Model, threads that may be used, memory."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return {
            "model": _cpu_model(),
            "threads": str(threads.available()),
            "memory": f"{memory / (1 << 30):.1f} GiB",
        }

    def load(self, artifact: Artifact, **options: Any) -> Executable:
        """An executable in this process; options as of `Executable`."""
        return Executable(artifact, **options)

    def put(self, value: Any) -> Array:
        """A NumPy view of any array-like."""
        return buffers.as_array(value)

    def get(self, value: Any) -> Array:
        """The array itself."""
        return buffers.as_array(value)

    def synchronize(self) -> None:
        """At once: a call is over when it returns."""


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# a provider lists the devices of its kind that are there; it must not fail where there is none
Provider = Callable[[], Sequence[Device]]
_providers: dict[str, Provider] = {}
_found: dict[str, Device] = {}


def register(kind: str, provider: Provider) -> None:
    """Add a kind of device (`cuda`, `hip`); `provider()` is called when devices are asked for."""
    _providers[kind] = provider


def devices() -> list[Device]:
    """All devices of this machine, the CPU first."""
    for provider in _providers.values():
        for found in provider():
            _found.setdefault(found.name, found)
    return list(_found.values())


def device(name: str = "cpu") -> Device:
    """The device of a name; raises ValueError naming those that exist."""
    for found in devices():
        if found.name == name:
            return found
    known = ", ".join(d.name for d in devices())
    raise ValueError(f"there is no device {name!r} here; there is: {known}")


register("cpu", lambda: [Cpu()])
