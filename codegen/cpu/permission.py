"""Whether this process may use AMX: Linux gives each process its tiles' state when it asks.

A permission holds for all threads of the process, running ones too, and is inherited by `fork`.
After the kernel's Documentation/arch/x86/xstate.rst.
"""

from __future__ import annotations

import functools
import platform
import sys

SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA = 158, 0x1023, 18


@functools.cache
def may_use_tiles() -> bool:
    """Ask for AMX; False where the system knows none or refuses."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    import ctypes

    return not ctypes.CDLL(None).syscall(SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA)
