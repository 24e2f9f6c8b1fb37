"""A few threads for the length of one compilation: work that leaves the interpreter lock alone.

The handler of a signal may raise between any two steps of the thread that enters the block, in the
midst of `threading.Thread.start` and of every lock written in Python too. So that thread takes only
steps that are done or not done; the threads beside it, where no handler runs, keep the account.
"""

from __future__ import annotations

from _thread import LockType, allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable
from types import TracebackType


class Workers:
    """Runs tasks on `threads` threads, the one that enters the block among them.

    Tasks begin in the order of `start` while the block goes on; its end waits for all of them and
    raises the first failure. When the block or its end fails, tasks not yet begun are left out.
    """

    def __init__(self, threads: int) -> None:
        self._spare = deque(range(max(threads, 1) - 1))  # threads that may still begin
        self._tasks: deque[Callable[[], object]] = deque()
        self._running: list[LockType] = []  # one for each thread at work, held by it
        self._failures: list[BaseException] = []

    def start(self, task: Callable[[], object]) -> None:
        """Add a task; a thread begins with it now if there may be one more."""
        self._tasks.append(task)
        try:
            number = self._spare.popleft()
        except IndexError:
            return
        start_new_thread(self._beside, (number,))

    def _beside(self, number: int) -> None:
        held = allocate_lock()
        held.acquire()
        self._running.append(held)
        try:
            self._work()
        finally:
            self._spare.append(number)
            self._running.remove(held)  # before it is let go: who waited need not remember that
            held.release()

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

    def _wait(self) -> None:
        """Until no thread is at work; one that has not begun yet will find no task."""
        while self._running:
            try:
                held = self._running[0]
            except IndexError:
                return
            held.acquire()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._work()
                self._wait()
        finally:
            self._tasks.clear()
            self._wait()
        if error is None and self._failures:
            raise self._failures[0]
