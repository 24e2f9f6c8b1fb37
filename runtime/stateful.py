"""Executables with state: variables go in behind the arguments and come out behind the results."""

from __future__ import annotations

from _thread import LockType
from collections import deque
from collections.abc import Sequence
from itertools import compress, repeat
from typing import Any

from graphmill.codegen.artifact import Artifact
from graphmill.runtime.buffers import Array
from graphmill.runtime.executable import Executable, State
from graphmill.runtime.forks import renewed


class StatefulExecutable(Executable):
    """Compiled code whose last inputs are `reads`' values and whose last outputs are `writes`'.

    A call that writes holds the locks of all its variables until it has stored them, so that two
    threads do not start from the same values; one that only reads takes one snapshot of them.
    """

    def __init__(
        self, artifact: Artifact, reads: Sequence[State], writes: Sequence[State],
        *, threads: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(artifact, threads=threads)
        self.reads, self.writes = tuple(reads), tuple(writes)
        every = {id(v): v for v in (*reads, *writes)}
        self.locks = [renewed(every[key].lock) for key in sorted(every)]  # one order: no deadlock

    def accepts(self, args: Sequence[Any]) -> bool:
        """Whether `run` would take these arguments."""
        return super().accepts((*args, *(v.value for v in self.reads)))

    def run(self, *args: Any) -> tuple[Array, ...]:
        """Outputs for these arguments; the variables hold their new values afterwards."""
        # a signal's handler may raise between any two steps of the interpreter: that all are taken,
        # assigned or let go is one
        held: list[bool] = []
        let_go = map(LockType.release, compress(self.locks, held))
        try:
            held.extend(map(LockType.acquire, self.locks))
            given = [v.value for v in self.reads]
            if not self.writes:
                deque(let_go, maxlen=0)
            outputs = super().run(*args, *given)
            count = len(outputs) - len(self.writes)
            new = outputs[count:]
            for array in new:
                array.flags.writeable = False
            assigning = map(list.__setitem__, [v.cell for v in self.writes], repeat(0), new)
            deque(assigning, maxlen=0)
        finally:
            deque(let_go, maxlen=0)
        return outputs[:count]

    __call__ = run
