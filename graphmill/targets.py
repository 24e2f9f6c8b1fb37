"""The CPU that code is generated for, with what is kept about the machine in the compile cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from graphmill.codegen.cpu.target import Target, machine, permitted
from graphmill.codegen.cpu.target import target as named
from graphmill.ir.dims import product
from graphmill.ir.graph import Function, Value
from graphmill.ir.types import TensorType
from graphmill.keys import build_id
from graphmill.runtime import cache as disk
from graphmill.schedules import with_known


def target(name: str) -> Target:
    """The target called `name`; for `native` with the schedules that were measured here."""
    return with_known(_native()) if name == "native" else named(name)


def with_bypass(found: Target, function: Function) -> Target:
    """The target, for a function with results so large that storing them past the caches may pay.

    That is measured here when it is first asked for, and kept like the machine's description.
    """
    sizes = [_bytes(value) for value in function.results]
    if found.name != "native" or max(sizes, default=0) <= found.l2:
        return found
    return replace(found, bypass=_bypass())


def _bytes(value: Value) -> int:
    size = product(value.shape) if isinstance(value.type, TensorType) else 0
    return size * value.tensor.dtype.itemsize if isinstance(size, int) else 0


@cache
def _bypass() -> int:
    from graphmill.bandwidth import bypass_bytes

    return int(_kept("bypass", lambda: str(bypass_bytes(_native())).encode()))


@cache
def _native() -> Target:
    """This machine. LLVM is asked once for as long as it runs: to load LLVM takes its time."""
    return permitted(Target(**json.loads(_kept("target", _described))))


def _described() -> bytes:
    fields = asdict(machine())
    del fields["schedules"], fields["notes"]
    return json.dumps(fields).encode()


def _kept(what: str, find: Callable[[], bytes]) -> bytes:
    """What is known of this machine, found once for as long as it runs."""
    store, text = disk.default(), _machine()
    if store is None or text is None:
        return find()
    key = disk.key_of(what, text, build_id())
    kept = store.get(key, counted=False)
    if kept is None:
        kept = find()
        store.put(key, kept)
    return kept


def _machine() -> str | None:
    """A text that another machine, or this one started anew, does not have; None if there is none.

    What a hypervisor offers may change between starts, and a cache may lie on a shared disk.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        with open("/proc/cpuinfo") as file:
            first = file.read(4096)
    except OSError:
        return None
    names = ("vendor_id", "model name", "flags", "Features", "CPU")
    return boot + "\n".join(line for line in first.split("\n") if line.startswith(names))
