"""Python's garbage collector out of the way, for work that makes much and drops little.

A module that every layer may import, like `records`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# how often a process may go on without a walk over what was made: it is loaded modules mostly, and
# what later work drops in cycles must not pile up unseen
_unseen = 8


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
            _call_old()
            gc.enable()


def _call_old() -> None:
    """Put all that was made with what has lived long, which the next full collection looks at.

    The collector would walk it at once, for milliseconds, and find that nearly all of it stays.
    """
    global _unseen
    if _unseen > 0 and not gc.get_freeze_count():
        _unseen -= 1
        gc.freeze()
        gc.unfreeze()
