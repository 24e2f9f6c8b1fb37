"""What the machine is and how fast it copies, measured in the same run as the table."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

BANDWIDTH = """
import time
import numpy as np
a, b = np.ones((2, 1 << 26), np.float32)
times = []
for _ in range(9):
    start = time.perf_counter()
    np.copyto(b, a)
    times.append(time.perf_counter() - start)
print(2 * a.nbytes / min(times) / 1e9)
"""


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


def copy_bandwidth() -> float:
    """GB/s of one thread copying 256 MB into memory that is already mapped (read + write)."""
    run = subprocess.run([sys.executable, "-c", BANDWIDTH], capture_output=True, text=True)
    return float(run.stdout) if run.returncode == 0 else 0.0


def describe() -> dict[str, Any]:
    return {
        "cpu": model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "vectors": vector_extensions(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "copy_gb_per_s": copy_bandwidth(),
    }
