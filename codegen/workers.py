"""A few threads for the length of one compilation: work that leaves the interpreter lock alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType


class Workers:
    """Runs tasks on `threads` threads, the one that enters the block among them.

    Tasks begin in the order of `start` while the block goes on; its end waits for all of them and
    raises the first failure.
    """

    def __init__(self, threads: int) -> None:
        self._others = max(threads, 1) - 1
        self._tasks: deque[Callable[[], object]] = deque()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []

    def start(self, task: Callable[[], object]) -> None:
        """Add a task; a thread begins with it now if there may be one more."""
        self._tasks.append(task)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < self._others:
            thread = threading.Thread(target=self._work, name="graphmill compile", daemon=True)
            self._threads.append(thread)
            try:
                thread.start()
            except KeyError as error:  # what Python raises when a signal's handler has raised there
                raise error.__context__ or error from None

    def _work(self) -> None:
        while not self._failures:
            try:
                task = self._tasks.popleft()
            except IndexError:
                return
            try:
                task()
            except BaseException as error:
                self._failures.append(error)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._tasks.clear()
        self._work()
        for thread in self._threads:
            thread.join()
        if error is None and self._failures:
            raise self._failures[0]
