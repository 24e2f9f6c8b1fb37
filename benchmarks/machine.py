"""What the machine is."""

import os
import platform
from pathlib import Path
from typing import Any


def model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def vector_extensions() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    names = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd")
    return [name for name in names if name in flags]


def describe() -> dict[str, Any]:
    return {
        "cpu": model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "vectors": vector_extensions(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
