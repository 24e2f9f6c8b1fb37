"""What a start from the compile cache likely needs next, got ready while arrays are being read.

To read all that a network captures takes longer than all else in such a start. Of the question for
the cache only the contents are missing meanwhile: the answer to the last one about the same
function is loaded, and taken if the contents turn out to be those.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from graphmill import packed, recall
from graphmill.runtime import native
from graphmill.runtime.executable import Executable
from graphmill.runtime.threads import num_threads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphmill.frontend.trees import Tree
    from graphmill.keys import Contents
    from graphmill.runtime.dispatch import Dispatcher


class Ready:
    """What a call is about (None where only a trace can tell), and what is ready for it."""

    def __init__(self, subject: recall.Subject | None, threads: int | None) -> None:
        self.subject, self._threads = subject, threads
        self._answer: recall.Answer | None = None
        self._executable: Executable | None = None
        self._key: str | None = None

    def load(self) -> None:
        """Load what will be needed, once."""
        if self._key is not None or self.subject is None:
            return
        self._key = ""
        if (self._threads or num_threads()) > 1:
            native.pool()
        native.poll()
        likely = recall.likely(self.subject)
        if likely is not None:
            self._key, self._answer = likely
            self._executable = Executable(self._answer.artifact, threads=self._threads)

    def question(self, of: Dispatcher, contents: Contents) -> recall.Question | None:
        """What to ask; `contents` get to know those of the arrays that the function reaches."""

        def watch(arrays: Sequence[np.ndarray[Any, Any]]) -> None:
            of.watch_arrays(arrays)
            for array in arrays:
                if (known := of.digest_of(array)) is not None:
                    contents.know(array, known)

        if self.subject is None:
            return None
        at_once = functools.partial(packed.at_once, meanwhile=self.load)
        return recall.question(self.subject, contents, watch, at_once)

    def answer(self, asked: recall.Question) -> tuple[recall.Answer, Executable] | None:
        """The answer to a question about this and its executable, as far as there is one."""
        if self._key == asked.key and self._answer is not None and self._executable is not None:
            return self._answer, self._executable
        found = recall.find(asked)
        if found is None:
            return None
        recall.note(asked, found.artifact)
        return found, Executable(found.artifact, threads=self._threads)


class Pending(threading.local):
    """A thread's call under way: the tree of its arguments, static ones and key; its arguments
    while the watch is being made, and what has been got ready then."""

    call: tuple[Tree, Mapping[str, Any], Any]
    args: tuple[Any, ...] | None = None
    ready: Ready | None = None
