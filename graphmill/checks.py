"""What calls are refused or stopped for, told in the user's terms."""

from __future__ import annotations

from graphmill.frontend.errors import error
from graphmill.ir.graph import Location
from graphmill.runtime.donation import DonationError
from graphmill.runtime.executable import CheckError

BOUNDS, SHORT = 1, 3  # codes of checks in an error record


def told(problem: CheckError | DonationError) -> Exception:
    """What a call was refused or stopped for as the error the user sees."""
    if isinstance(problem, CheckError):
        return check_failed(problem)
    from graphmill.donation import refused

    return refused(problem)


def check_failed(problem: CheckError) -> Exception:
    """A failed run-time check as the error the user sees: the line, the element, the value."""
    place = Location.decode(problem.location)
    if problem.code == BOUNDS:
        bound = problem.bound
        return error(
            "GM060", f"index {problem.bad_index} into an axis of {bound} elements", location=place,
            why=f"indices run from {-bound} to {bound - 1}; without the check the nearest element "
            f"is read and a write is dropped. It is element {problem.index} of the index array.",
            hint="clip or mask the indices, or mend what computes them.",
        )  # fmt: skip
    if problem.code == SHORT:
        return _short(place, problem.bound, problem.bad_index)
    return error(
        "GM061", f"element {problem.index} (in row-major order) is {problem.value}", location=place,
        why="this is the first operation whose result holds a NaN or an infinity.",
        hint="look at its operands: a division by 0, the log of a negative number, an overflow.",
    )  # fmt: skip


def _short(place: Location | None, size: int, least: int) -> Exception:
    """An axis of `size` elements where something is chosen that takes `least`."""
    if size == 0:
        return error(
            "GM062", "a choice among no elements", location=place,
            why="an empty axis has no largest or smallest element.",
            hint="pass initial= to np.max or np.min, or call only with sizes of at least 1.",
        )  # fmt: skip
    return error(
        "GM062", f"{size} elements where a place is asked for that takes {least}", location=place,
        why="places along an axis of n elements run from -n to n - 1.",
        hint=f"call only with sizes of at least {least}.",
    )  # fmt: skip
