"""The threads of one compilation."""

import threading
import time

import pytest

from graphmill.codegen.workers import Workers


@pytest.mark.skipif(not hasattr(threading, "_start_new_thread"), reason="another Python's threads")
def test_a_signals_handler_may_raise_while_a_thread_starts(monkeypatch):
    """Its error is what the caller gets, not that of Python's list of threads."""
    start = threading._start_new_thread

    def begin(*arguments):
        start(*arguments)
        time.sleep(0.05)  # meanwhile the thread leaves the list of those that start
        raise RuntimeError("enough")

    monkeypatch.setattr(threading, "_start_new_thread", begin)
    with pytest.raises(RuntimeError, match="enough"), Workers(2) as workers:
        workers.start(lambda: None)
