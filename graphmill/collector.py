"""Python's garbage collector out of the way, for work that makes much and drops little.

A module that every layer may import, like `records`.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# how often a process may go on without a walk over what was made: it is loaded modules mostly, and
# what later work drops in cycles must not pile up unseen
_unseen = 8


def no_collections(work: Callable[P, T]) -> Callable[P, T]:
    """The same work with the collector paused, which would walk growing graphs and loaded modules
    over and over.

    It goes on as it was found; with several threads at it, when the first one ends. No context
    manager: a signal's handler may raise before one has begun to end.
    """

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        enabled = gc.isenabled()
        try:
            gc.disable()
            return work(*args, **kwargs)
        finally:
            if enabled:
                gc.enable()
                _call_old()  # before anything is made, which a collection may begin with

    return run


def _call_old() -> None:
    """Put all that was made with what has lived long, which the next full collection looks at.

    The collector would walk it at once, for milliseconds, and find that nearly all of it stays.
    """
    global _unseen
    if _unseen > 0 and not gc.get_freeze_count():
        _unseen -= 1
        gc.freeze()
        gc.unfreeze()
