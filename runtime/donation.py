"""What a donated argument must be: memory that a call may overwrite and return."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphmill.runtime.buffers import Array

# NumPy's flags C_CONTIGUOUS, ALIGNED and WRITEABLE
_USABLE = 0x501


class DonationError(ValueError):
    """An argument's memory cannot be given to a result; `argument` names it."""

    def __init__(self, argument: str, reason: str) -> None:
        self.argument, self.reason = argument, reason
        super().__init__(f"the donated argument {argument} {reason}")


def check_donated(arrays: Sequence[Array], numbers: Sequence[int], names: Sequence[str]) -> None:
    """Refuse memory that cannot be overwritten, or that another argument is read from."""
    for n in numbers:
        array = arrays[n]
        if array.flags.num & _USABLE != _USABLE:
            what = "read-only" if not array.flags.writeable else "not C-contiguous and aligned"
            raise DonationError(names[n], f"is {what}, so no result can be written into it")
        for k, other in enumerate(arrays):
            if k != n and np.may_share_memory(array, other):
                raise DonationError(names[n], f"shares memory with {names[k]}")
