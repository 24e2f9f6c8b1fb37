"""The CPU that code is generated for, with what is kept about the machine in the compile cache."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from graphmill.codegen.cpu.target import Target, machine, permitted
from graphmill.codegen.cpu.target import target as named
from graphmill.keys import build_id
from graphmill.runtime import cache as disk
from graphmill.schedules import with_known


def target(name: str) -> Target:
    """The target called `name`; for `native` with the schedules that were measured here."""
    return with_known(_native()) if name == "native" else named(name)


@cache
def _native() -> Target:
    """This machine. LLVM is asked once for as long as it runs: to load LLVM takes its time."""
    store, text = disk.default(), _machine()
    if store is None or text is None:
        return named("native")
    key = disk.key_of("target", text, build_id())
    kept = store.get(key, counted=False)
    if kept is not None:
        return permitted(Target(**json.loads(kept)))
    found = machine()
    fields = asdict(found)
    del fields["schedules"], fields["notes"]
    store.put(key, json.dumps(fields).encode())
    return permitted(found)


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
