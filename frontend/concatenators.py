"""`np.r_[a, 0, b]` and `np.c_[a, b]` of traced arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from graphmill.frontend import locations
from graphmill.frontend.core import as_tracer, holds_traced
from graphmill.frontend.describe import failure
from graphmill.frontend.state import adopting


class Concatenator:
    """NumPy's object for `r_` or `c_`, which sees traced arrays in its key."""

    def __init__(self, name: str, original: Any) -> None:
        self.name, self.original = name, original

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if not (
            adopting() and holds_traced(parts) and locations.calls(sys._getframe(1), self.name)
        ):
            return self.original[key]
        if any(isinstance(part, str) for part in parts):
            raise failure("GM011", f"np.{self.name} with a directive", [],
                          hint="np.concatenate and np.stack join along any axis.")  # fmt: skip
        columns = self.name == "c_"
        return np.concatenate([self._part(p, columns) for p in parts], axis=-1 if columns else 0)

    def _part(self, part: Any, columns: bool) -> Any:
        x: Any = as_tracer(self.original[part] if isinstance(part, slice) else part)
        if not x.dims:
            x = np.reshape(x, (1,))
        return x[:, None] if columns and x.ndim == 1 else x

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def __len__(self) -> int:
        return len(self.original)
