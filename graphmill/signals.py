"""Exceptions that the handler of a signal has raised, such as a user's limit of time.

They may come out of any step of the main thread, and are no failure of that step. A module that
every layer may import, like `records`.
"""

from __future__ import annotations

from collections.abc import Iterator


def is_of_a_handler(error: BaseException) -> bool:
    """Whether the handler of a signal has raised it."""
    if isinstance(error, KeyboardInterrupt):
        return True
    import inspect
    import signal
    import traceback

    handlers = [inspect.unwrap(h) for n in signal.valid_signals() if callable(h := _handler(n))]
    codes = {getattr(getattr(h, "__func__", h), "__code__", None) for h in handlers} - {None}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def pass_on(error: BaseException) -> None:
    """Raise an error again that the handler of a signal has raised."""
    if is_of_a_handler(error):
        raise error


def behind(error: BaseException, before: BaseException | None) -> BaseException | None:
    """What a handler has raised, of an error and those that it came of.

    `before` was being handled already when all began.
    """
    for one in _causes(error):
        if one is before:
            return None
        if is_of_a_handler(one):
            return one
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    now: BaseException | None = error
    while now is not None and not any(now is one for one in seen):
        seen.append(now)
        yield now
        now = now.__cause__ or now.__context__


def _handler(number: int) -> object:
    import signal

    try:
        return signal.getsignal(number)
    except (ValueError, OSError):
        return None
