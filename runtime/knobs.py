"""Every knob of Graphmill: its environment variable, type, default and meaning, in one place.

A value comes from the innermost `scope`, else from `set`, else from the environment, else from the
default. Environment variables are read when asked for, so a changed environment counts at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

_UNSET: Any = object()


class KnobError(ValueError):
    """A knob was given a value that it does not take, or an unknown knob was named."""


class Knob(Generic[T]):
    """One setting: `knob()` is its value, `knob.set(v)` changes it for the process."""

    def __init__(
        self, name: str, parse: Callable[[str], T], default: Callable[[], T], doc: str
    ) -> None:
        self.name, self.parse, self.default, self.doc = name, parse, default, doc
        self._set: Any = _UNSET

    def __repr__(self) -> str:
        return f"<knob {self.variable}: {self.doc}>"

    @property
    def variable(self) -> str:
        """The environment variable's name."""
        return f"GRAPHMILL_{self.name.upper()}"

    def __call__(self) -> T:
        scoped = _scoped.get().get(self.name, _UNSET)
        value = scoped if scoped is not _UNSET else self._set
        if value is not _UNSET:
            return cast(T, value)
        text = os.environ.get(self.variable)
        return self.default() if text is None or text == "" else self.read(text)

    def read(self, text: str) -> T:
        """The value written as `text`; raises `KnobError` saying what is allowed."""
        try:
            return self.parse(text)
        except ValueError as error:
            raise KnobError(f"{self.variable}={text!r}: {error}") from None

    def set(self, value: T) -> object:
        """Change the value for the whole process; text is read as from the environment.

        Returns what `restore` takes to undo it.
        """
        before = self._set
        self._set = self.read(value) if isinstance(value, str) else value
        return before

    def restore(self, before: object) -> None:
        """Undo a `set`, also one that came before any other."""
        self._set = before

    def reset(self) -> None:
        """Back to the environment's value or the default."""
        self._set = _UNSET


_scoped: ContextVar[dict[str, Any]] = ContextVar("graphmill_knobs", default={})  # noqa: B039
KNOBS: dict[str, Knob[Any]] = {}


def _knob(name: str, parse: Callable[[str], T], default: Callable[[], T], doc: str) -> Knob[T]:
    KNOBS[name] = knob = Knob(name, parse, default, doc)
    return knob


@contextmanager
def scope(**values: Any) -> Iterator[None]:
    """Set knobs by name within a `with` block, for this thread or task alone."""
    for name in values:
        if name not in KNOBS:
            raise KnobError(f"unknown knob {name!r}; the knobs are {', '.join(sorted(KNOBS))}")
    read = {n: KNOBS[n].read(v) if isinstance(v, str) else v for n, v in values.items()}
    before = _scoped.get()
    try:  # from here on: a signal's handler may raise before the block begins
        _scoped.set({**before, **read})
        yield
    finally:
        _scoped.set(before)


def _bool(text: str) -> bool:
    if text.lower() in ("1", "true", "on", "yes"):
        return True
    if text.lower() in ("0", "false", "off", "no"):
        return False
    raise ValueError("expected 1/true/on/yes or 0/false/off/no")


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError("expected a whole number of at least 1")
    return int(text)


def _level(text: str) -> int:
    if text.strip() not in ("0", "1", "2", "3", "4", "5"):
        raise ValueError("expected a level from 0 to 5")
    return int(text)


def _size(text: str) -> int:
    units = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
    body = text.strip().lower().removesuffix("b").removesuffix("i")
    digits = body.rstrip("kmgt")
    if not digits.isdecimal() or body[len(digits) :] not in units:
        raise ValueError("expected bytes such as 500000, 64M or 2GiB")
    return int(digits) * units[body[len(digits) :]]


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text).expanduser()


def _cache_home() -> Path:
    from pathlib import Path

    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "graphmill"


def _none() -> None:
    return None


num_threads: Knob[int | None] = _knob(
    "num_threads", _count, _none, "threads a kernel may use; default: affinity and cgroup quota"
)
dump: Knob[Path | None] = _knob(
    "dump", _path, _none, "folder for every stage's text, timings and report.html"
)
debug: Knob[int] = _knob("debug", _level, lambda: 0, "how much is said on stderr, 0 to 5")
cache: Knob[bool] = _knob("cache", _bool, lambda: True, "0 turns the compile cache on disk off")
cache_dir: Knob[Path] = _knob("cache_dir", _path, _cache_home, "folder of the compile cache")
cache_size: Knob[int] = _knob(
    "cache_size", _size, lambda: 1 << 30, "bytes the compile cache may fill"
)
cache_weights: Knob[int] = _knob(
    "cache_weights", _size, lambda: 2 * cache_size(),
    "bytes that packed weights may fill beside it, 0 for none; default: twice the cache's size",
)  # fmt: skip
memory_cache: Knob[int] = _knob(
    "memory_cache", _size, lambda: 1 << 30, "bytes of freed output memory kept for reuse"
)
track_writes: Knob[bool | None] = _knob(
    "track_writes", _bool, _none,
    "whether the kernel watches captured arrays for writes; default: where it can safely be asked",
)  # fmt: skip
