"""The knobs: `knobs.num_threads()` reads one, `.set(v)` changes it, `scope(name=v)` for a block."""

from graphmill.runtime.knobs import (
    KNOBS,
    Knob,
    KnobError,
    cache,
    cache_dir,
    cache_size,
    cache_weights,
    debug,
    dump,
    memory_cache,
    num_threads,
    scope,
    track_writes,
)

__all__ = [
    "KNOBS",
    "Knob",
    "KnobError",
    "cache",
    "cache_dir",
    "cache_size",
    "cache_weights",
    "debug",
    "dump",
    "memory_cache",
    "num_threads",
    "scope",
    "track_writes",
]
