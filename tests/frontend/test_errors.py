"""What errors say beyond their pages: hints that fit the line, names, and clean tracebacks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from graphmill.frontend import errors
from graphmill.frontend.array_functions import table
from graphmill.frontend.errors import CODES, GraphmillError, hide_internal_frames
from graphmill.frontend.trace import trace
from tests.frontend.comparing import failure

X = np.arange(12.0).reshape(3, 4)


def chained(x: Any) -> Any:
    return 0 < x < 1


def biggest(x: Any) -> Any:
    return max(x[0], 1)


def both(x: Any) -> Any:
    mask = x.sum() > 0 and x.sum() < 3
    return mask


def repeats(x: Any) -> Any:
    while x.sum() > 0:
        x = x - 1
    return x


def contains(x: Any) -> Any:
    return 3 in x


TABLE = np.ones(4)


@pytest.mark.parametrize(
    ("f", "hint"),
    [(chained, "(a < x) & (x < b)"), (biggest, "np.maximum"), (both, "& is and"),
     (repeats, "gm.while_loop(test"), (contains, "np.any(array == value)")],
)  # fmt: skip
def test_truth_hints_fit_the_line(f: Any, hint: str) -> None:
    error = failure(f, X)
    assert error.code == "GM001" and hint in error.hint


@pytest.mark.parametrize(
    ("f", "code"),
    [
        (lambda x: float(x[0, 0]), "GM002"), (lambda x: int(x[0, 0]), "GM002"),
        (lambda x: complex(x[0, 0]), "GM002"), (lambda x: math.sqrt(x[0, 0]), "GM002"),
        (lambda x: range(x[0, 0].astype(int)), "GM002"), (lambda x: x.item(), "GM002"),
        (lambda x: f"{x[0, 0]:.2f}", "GM002"), (lambda x: [1, 2][x[0, 0].astype(int)], "GM002"),
        (lambda x: len(x.sum()), "GM003"), (lambda x: list(x.sum()), "GM003"),
        (lambda x: TABLE[x[0].astype(int)], "GM004"), (lambda x: x.tolist(), "GM004"),
        (lambda x: TABLE.__setitem__(0, x[0, 0]), "GM002"),
        (lambda x: np.nonzero(x), "GM010"), (lambda x: np.bincount(x), "GM010"),
        (lambda x: np.fft.fft(x), "GM010"), (lambda x: np.linalg.svd(x), "GM010"),
        (lambda x: np.frompyfunc(abs, 1, 1)(x), "GM010"), (lambda x: np.save("f", x), "GM010"),
        (lambda x: np.where(x > 0), "GM010"), (lambda x: np.einsum_path("ij", x), "GM010"),
        (lambda x: np.sum(x, like=3), None), (lambda x: np.sort(x, order="f"), "GM011"),
        (lambda x: np.add(x, 1, out=TABLE), "GM011"),
        (lambda x: np.add(x, 1, where=x > 0), "GM011"), (lambda x: np.max(x, where=x > 0), "GM011"),
        (lambda x: np.pad(x, 1, mode="linear_ramp"), "GM011"),
        (lambda x: np.subtract.accumulate(x), "GM012"),
        (lambda x: np.add.reduceat(x, [0]), "GM012"),
        (lambda x: x.strides, "GM013"), (lambda x: x.byteswap(), "GM013"),
        (lambda x: setattr(x, "shape", 12), "GM013"), (lambda x: setattr(x, "colour", 1), "GM013"),
        (lambda x: x + np.ones(3), "GM014"), (lambda x: np.concatenate([x, x[0]]), "GM014"),
        (lambda x: np.stack([x, x[0]]), "GM014"), (lambda x: x @ x, "GM014"),
        (lambda x: np.dot(x, x), "GM014"), (lambda x: np.einsum("ij,jk", x, x), "GM014"),
        (lambda x: x @ 2, "GM014"), (lambda x: x & 1, "GM015"), (lambda x: ~x, "GM015"),
        (lambda x: np.gradient(x > 0), "GM015"), (lambda x: np.ediff1d(x > 0), "GM015"),
        (lambda x: np.quantile(x > 0, 0.5), "GM015"), (lambda x: np.percentile(x * 1j, 9), "GM015"),
        (lambda x: np.digitize(x * 1j, [1, 2]), "GM015"),
        (lambda x: np.digitize(x, [1j]), "GM015"), (lambda x: np.digitize(x, [1, 3, 2]), "GM025"),
        (lambda x: x.astype(bool) - True, "GM015"), (lambda x: x.astype(int) ** -1, "GM015"),
        (lambda x: x.sum(axis=2), "GM016"), (lambda x: np.transpose(x, (0, 0)), "GM016"),
        (lambda x: x.sum(axis=(0, 0)), "GM016"), (lambda x: np.expand_dims(x, 5), "GM016"),
        (lambda x: x.reshape(5), "GM017"), (lambda x: np.squeeze(x, 0), "GM017"),
        (lambda x: np.max(x[:0]), "GM017"), (lambda x: np.split(x, 2), "GM017"),
        (lambda x: (x * 1j).astype(float), "GM018"), (lambda x: x.astype("u1") + 300, "GM018"),
        (lambda x: x.astype("O"), "GM019"), (lambda x: x + "text", None),
        (lambda x: x.sum(axis="a"), "GM025"), (lambda x: np.einsum("ij,k", x), "GM025"),
        (lambda x: np.linalg.matrix_power(x[:, :3], -1), "GM025"),
        (lambda x: object(), "GM041"), (lambda x: {"a": "text"}, "GM041"),
        (lambda x: np.add(x, object()), "GM040"),
    ],
)  # fmt: skip
def test_codes(f: Any, code: str | None) -> None:
    """Each misuse has its code; None: NumPy or Python refuses it before Graphmill is asked."""
    if code is None:
        with pytest.raises((TypeError, ValueError)):
            trace(f, (X,))
        return
    error = failure(f, X)
    assert error.code == code, str(error)
    assert isinstance(error, CODES[code][1])
    assert error.location is not None and error.location.file == __file__


def test_a_flag_is_told_to_be_static() -> None:
    assert 'static="flag"' in failure(lambda x, flag: x if flag else -x, X, True).hint
    assert "static=" not in failure(lambda x: x if x else -x, X).hint


def test_operands_have_their_variable_names() -> None:
    def f(x: Any, weights: Any) -> Any:
        hidden = np.exp(x)
        total = hidden @ weights
        return total

    error = failure(f, X, np.ones((3, 3)))
    assert [o.name for o in error.operands] == ["hidden", "weights"]
    assert "np.exp(x)" in error.operands[0].origin
    assert error.operands[1].origin.startswith("argument weights of f, test_errors.py:")


def test_unsupported_names_the_nearest() -> None:
    assert "np.nanmean" in failure(lambda x: np.nanmedian(x), X).hint


def test_source_that_cannot_be_read_is_left_out() -> None:
    scope: dict[str, Any] = {}
    exec(compile("def f(x):\n    return x @ x", "<nowhere>", "exec"), scope)
    error = failure(scope["f"], X)
    assert 'File "<nowhere>", line 2, in f' in str(error) and "^" not in str(error)


def test_columns_count_characters() -> None:
    def f(größe: Any) -> Any:
        return "äöü" and größe @ größe

    text = str(failure(f, X)).splitlines()
    at = next(i for i, line in enumerate(text) if "äöü" in line)
    start = text[at].index("größe @ größe")
    assert text[at + 1] == " " * start + "^" * len("größe @ größe")


def test_internal_frames_are_hidden() -> None:
    def f(x: Any) -> Any:
        return np.exp(x) @ x

    with pytest.raises(GraphmillError) as caught:
        trace(f, (X,))
    cleaned = hide_internal_frames(caught.value)
    entry, files = cleaned.__traceback__, []
    while entry is not None:
        files.append(entry.tb_frame.f_code.co_filename)
        entry = entry.tb_next
    assert set(files) == {__file__}


def test_an_error_has_its_parts() -> None:
    error = failure(lambda x: x @ x, X)
    assert error.code == "GM014" and error.title == CODES["GM014"][0]
    assert type(error).__name__ == "GraphmillError" and type(error).__module__ == "graphmill"
    assert error.args == (str(error),) or error.args
    assert errors.source_text(error.location) == "x @ x"  # type: ignore[arg-type]


def test_functions_without_translation_say_so() -> None:
    """Every public NumPy function either is in the table or fails with a code."""
    known = table()
    for name in ("svd", "eig", "qr", "inv", "solve", "det", "cholesky", "lstsq", "pinv"):
        function = getattr(np.linalg, name)
        if function not in known:
            given = (1,) if name in ("solve", "lstsq") else ()
            assert failure(lambda x, f=function, a=given: f(x, *a), X[:, :3]).code == "GM010"
