"""CPU targets: triple, CPU name, feature string and the machine's parameters for schedules."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from dataclasses import field, replace

from graphmill.codegen.cpu.permission import may_use_tiles
from graphmill.codegen.cpu.schedule import UNMEASURED, Choices, Notes, Schedule
from graphmill.records import record


class TargetError(ValueError):
    """An unknown target name."""


@record
class Target:
    """What code generation needs to know of a CPU.

    `vector_bits` is the width of one vector register, `registers` their number; cache sizes are
    bytes per core (L1 data, L2) and the share of the last level. `schedules` are what measuring
    there found to be better than the machine model's choices, by kernel; `notes` are taken of the
    choices made. From `bypass` bytes on, results are better stored past the caches; 0 is never.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bits: int
    registers: int
    l1: int = 32 << 10
    l2: int = 512 << 10
    l3: int = 4 << 20
    bypass: int = 0
    schedules: tuple[tuple[str, Schedule], ...] = ()
    notes: Notes | None = field(default=None, compare=False, repr=False)

    def choices(self, name: Callable[[], str]) -> Choices:
        """The choices of the kernel of that name, as they were measured."""
        if not self.schedules and self.notes is None:
            return UNMEASURED
        kernel = name()
        measured = next((s for own, s in self.schedules if own == kernel), Schedule())
        return Choices(kernel, measured, self.notes)

    def lanes(self, bits: int = 32) -> int:
        """Vector lanes of elements of `bits` bits in one register."""
        return self.vector_bits // bits

    def has(self, feature: str) -> bool:
        """Whether the LLVM feature `feature` is enabled."""
        return f"+{feature}" in self.features.split(",")

    @property
    def fuses(self) -> bool:
        """Whether multiply-add is one instruction with one rounding."""
        return self.has("fma") or self.triple.startswith("aarch64")

    @property
    def is_x86(self) -> bool:
        """Whether this is a 64-bit x86."""
        return self.triple.startswith("x86_64")

    @property
    def has_tiles(self) -> bool:
        """Whether code may use AMX, for which a process must have asked (`permission`)."""
        return self.has("amx-tile")

    def without_tiles(self) -> Target:
        """The same machine where AMX is not permitted."""
        names = (f"-{f[1:]}" if f.startswith("+amx") else f for f in self.features.split(","))
        return replace(self, features=",".join(names))

    @property
    def comment(self) -> str:
        """What starts a comment in assembly."""
        return "//" if self.triple.startswith("aarch64") else "#"

    @property
    def converts_half(self) -> bool:
        """Whether f16 converts to and from f32 by an instruction."""
        return self.has("f16c") or self.triple.startswith("aarch64")


_V2 = "+cx16,+mmx,+popcnt,+sahf,+sse3,+sse4.1,+sse4.2,+ssse3"
_V3 = _V2 + ",+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
_V4 = _V3 + ",+avx512bw,+avx512cd,+avx512dq,+avx512f,+avx512vl,-prefer-256-bit"
_AMX = _V4 + ",+amx-bf16,+amx-int8,+amx-tile,+avx512bf16,+avx512fp16,+avx512vnni"
_LINUX = "x86_64-unknown-linux-gnu"
_NAMED = {
    "x86-64-v2": Target("x86-64-v2", _LINUX, "x86-64-v2", _V2, 128, 16),
    "x86-64-v3": Target("x86-64-v3", _LINUX, "x86-64-v3", _V3, 256, 16),
    "x86-64-v4": Target("x86-64-v4", _LINUX, "x86-64-v4", _V4, 512, 32, l2=1 << 20),
    "x86-64-v4-amx": Target("x86-64-v4-amx", _LINUX, "x86-64-v4", _AMX, 512, 32, l2=2 << 20),
    "aarch64": Target(
        "aarch64", "aarch64-unknown-linux-gnu", "generic", "+neon,+fp-armv8", 128, 32
    ),
}


def names() -> tuple[str, ...]:
    """The target names `target` accepts."""
    return ("native", *_NAMED)


def target(name: str = "native") -> Target:
    """The target called `name`: `native`, `x86-64-v2/3/4`, `x86-64-v4-amx` or `aarch64`."""
    if name == "native":
        return native()
    if name not in _NAMED:
        raise TargetError(f"unknown target {name!r}: choose one of {', '.join(names())}")
    return _NAMED[name]


@functools.cache
def native() -> Target:
    """The machine this process runs on, from what CPUID and the kernel really offer it."""
    return permitted(machine())


def permitted(target: Target) -> Target:
    """The target, without AMX if it has it and this process may not use it."""
    return target if not target.has_tiles or may_use_tiles() else target.without_tiles()


def machine() -> Target:
    """The machine, of which a process may be denied AMX.

    LLVM gets the feature string, never the CPU name alone: a hypervisor may hide features that
    the name implies.
    """
    from graphmill.codegen.cpu import bindings

    c, told = bindings.llvm(), bindings.told
    known = told(c.GetHostCPUFeatures)
    flags = {flag[1:]: flag[0] == "+" for flag in known.split(",") if flag}
    triple, cpu = told(c.GetProcessTriple), told(c.GetHostCPUName)
    if platform.machine() in ("x86_64", "AMD64"):
        bits = 512 if flags.get("avx512f") and flags.get("avx512vl") else 0
        bits = bits or (256 if flags.get("avx2") else 128)
        registers = 32 if bits == 512 else 16
        if bits == 512:
            flags["prefer-256-bit"] = False
        if flags.get("gfni"):  # as old as dividers that take 64 bits in no more time than 32
            flags["idivq-to-divl"] = False
    else:
        bits, registers = 128, 32
    features = ",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(flags.items()))
    sizes = _cache_sizes()
    return Target(
        "native", triple, cpu, features, bits, registers,
        l1=sizes.get(1, 32 << 10), l2=sizes.get(2, 512 << 10), l3=sizes.get(3, 4 << 20),
    )  # fmt: skip


def _cache_sizes() -> dict[int, int]:
    """Data cache sizes in bytes by level, as Linux's sysfs tells; empty elsewhere."""
    sizes: dict[int, int] = {}
    for number in range(8):
        try:
            kind, level, size = (_of_cache(number, what) for what in ("type", "level", "size"))
            if kind in ("Data", "Unified") and size.endswith("K"):
                sizes[int(level)] = int(size[:-1]) << 10
        except (OSError, ValueError):
            break
    return sizes


def _of_cache(number: int, what: str) -> str:
    with open(f"/sys/devices/system/cpu/cpu0/cache/index{number}/{what}") as file:
        return file.read().strip()
