"""Tables that modules fill while they are imported; an entry is found once its module is whole.

Else it could not be relied on: the handler of a signal may raise in the midst of an import, which
begins anew the next time, and another thread may be at it. A module that every layer may import,
like `records`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Table(dict[K, V]):
    """All that was entered so far, whole or not; `find` gives what can be used."""

    def __init__(self) -> None:
        super().__init__()
        self._homes: dict[K, ModuleType | None] = {}
        self._whole: dict[K, V] = {}

    def enter(self, key: K, value: V, module: str) -> None:
        """Enter what a module has; a key is taken once, or again when the module is."""
        home = sys.modules.get(module)
        assert key not in self or self._homes.get(key) is not home, f"{key} is entered twice"
        self[key], self._homes[key] = value, home
        self._whole.pop(key, None)

    def find(self, key: K) -> V | None:
        """The entry, its module imported to the end; None without one."""
        found = self._whole.get(key)
        return self._settled(key) if found is None else found

    def _settled(self, key: K) -> V | None:
        home = self._homes.get(key)
        if home is None:
            return self.get(key)
        if _is_under_way(home) or sys.modules.get(home.__name__) is not home:
            home = import_module(home.__name__)
        if not _is_under_way(home):  # unless it is this thread that imports it
            self._whole[key] = self[key]
        return self[key]


def _is_under_way(module: ModuleType) -> bool:
    return bool(getattr(module.__spec__, "_initializing", False))
