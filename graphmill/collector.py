"""Python's garbage collector out of the way, for work that makes much and drops little.

A module that every layer may import, like `records`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collections() -> Iterator[None]:
    """Pause the collector, which would walk growing graphs and loaded modules over and over.

    It goes on as it was found; with several threads at it, when the first one ends.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
