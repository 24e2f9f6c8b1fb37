"""Jitted functions for other processes: as functions are, by name, or as what makes them again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphmill.api import Jit


def reduced(jitted: Jit) -> str | tuple[Any, ...]:
    """What `__reduce__` gives: a decorated function goes by its name, another one by its parts."""
    try:
        found = attrgetter(jitted.__qualname__)(sys.modules[jitted.__module__])
    except (KeyError, AttributeError):
        found = None
    if found is jitted:
        return str(jitted.__qualname__)
    options = {
        "static": jitted.static, "dynamic": jitted.dynamic, "check": jitted.options.check,
        "threads": jitted.threads, "pipeline": jitted.options.pipeline, "tune": jitted.tune,
        "winograd": jitted.options.winograd, "donate": jitted.donate,
    }  # fmt: skip
    return again, (type(jitted), jitted.function, options)


def again(made: type[Jit], function: Callable[..., Any], options: Mapping[str, Any]) -> Jit:
    """The jitted function that `reduced` took apart."""
    return made(function, **options)
