"""`einsum`: diagonals and sums within each operand, then contractions of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import Tracer, astype, broadcast_to, emit, promote_args
from graphmill.frontend.describe import failure
from graphmill.frontend.linear import dot_general
from graphmill.frontend.reductions import reduce
from graphmill.frontend.shaping import diagonal_of, reshaped, transposed
from graphmill.ir.dims import DimLike

# The size that a symbolic dim counts as when the order of contractions is chosen.
TYPICAL = 64


@implements(np.einsum)
def einsum(
    subscripts: Any, /, *operands: Any, optimize: Any = True, dtype: Any = None, order: str = "K",
    casting: str = "safe",
) -> Tracer:  # fmt: skip
    """Any subscripts of NumPy's string form, `...` included."""
    if not isinstance(subscripts, str):
        subscripts, listed = _from_lists(subscripts, operands)
        operands = tuple(listed)
    made = promote_args(*operands)
    if dtype is not None:
        made = [astype(m, dtype) for m in made]
    inputs, output = _parse(subscripts, made)
    sizes = _sizes(inputs, made, operands)
    terms = []
    for i, (labels, x) in enumerate(zip(inputs, made, strict=True)):
        wanted = set(output).union(*(inputs[:i] + inputs[i + 1 :]))
        terms.append(_reduced(*_without_repeats(labels, x), wanted))
    while len(terms) > 1:
        i, j = _next_pair(terms, output, sizes)
        (a, x), (b, y) = terms[i], terms[j]
        rest = [t for k, t in enumerate(terms) if k not in (i, j)]
        wanted = set(output).union(*(labels for labels, _ in rest))
        terms = [*rest, _reduced(*_contract(a, x, b, y, wanted, sizes), wanted)]
    labels, x = terms[0]
    return transposed(x, [labels.index(label) for label in output])


def _from_lists(first: Any, rest: Any) -> tuple[str, list[Any]]:
    """`einsum(a, [0, 1], b, [1, 2], [0, 2])` as a string and operands."""
    parts = [first, *rest]
    output = parts.pop() if len(parts) % 2 else None
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def text(labels: Any) -> str:
        return "".join("..." if i is Ellipsis else letters[i] for i in labels)

    subscripts = ",".join(text(labels) for labels in parts[1::2])
    return subscripts + ("" if output is None else "->" + text(output)), parts[::2]


def _parse(subscripts: str, operands: list[Tracer]) -> tuple[list[str], str]:
    """Labels of each operand and of the result; an ellipsis becomes labels of its own."""
    text = subscripts.replace(" ", "")
    left, arrow, output = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        raise _bad(subscripts, f"it names {len(inputs)} operands of {len(operands)}", operands)
    for labels, x in zip(inputs, operands, strict=True):
        plain = labels.replace("...", "")
        fits = x.ndim >= len(plain) if "..." in labels else x.ndim == len(plain)
        if not fits or not (plain.isalpha() or plain == ""):
            raise _bad(subscripts, f"{labels!r} does not name {x.ndim} axes", operands)
    used = set(text) - set(".,->")
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in used]
    longest = max((x.ndim - len(s) + 3 for s, x in zip(inputs, operands, strict=True)
                   if "..." in s), default=0)  # fmt: skip
    dots = "".join(spare[:longest])
    full = [
        s.replace("...", dots[longest - (x.ndim - len(s) + 3) :]) if "..." in s else s
        for s, x in zip(inputs, operands, strict=True)
    ]
    if arrow:
        result = output.replace("...", dots)
    else:
        once = sorted(c for c in used if sum(s.count(c) for s in full) == 1)
        result = dots + "".join(once)
    if len(set(result)) != len(result) or not set(result) <= set("".join(full)):
        raise _bad(subscripts, "the result's labels repeat or are unknown", operands)
    return full, result


def _bad(subscripts: str, problem: str, operands: Any) -> Exception:
    return failure(
        "GM025",
        f"einsum {subscripts!r}: {problem}",
        operands,
        hint="write one letter per axis, for example 'ij,jk->ik'.",
    )


def _sizes(inputs: list[str], made: list[Tracer], operands: Any) -> dict[str, DimLike]:
    sizes: dict[str, DimLike] = {}
    for labels, x in zip(inputs, made, strict=True):
        for label, dim in zip(labels, x.dims, strict=True):
            known = sizes.setdefault(label, dim)
            if known != dim and 1 not in (known, dim):
                raise failure(
                    "GM014",
                    f"einsum label {label!r} stands for {known} and {dim}",
                    operands,
                    hint="give different axes different letters.",
                )
            sizes[label] = dim if known == 1 else known
    return sizes


def _without_repeats(labels: str, x: Tracer) -> tuple[str, Tracer]:
    """The diagonal of labels that stand twice."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            x = diagonal_of(x, 0, i, j)
            labels = labels[:i] + labels[i + 1 : j] + labels[j + 1 :] + label
    return labels, x


def _reduced(labels: str, x: Tracer, wanted: set[str]) -> tuple[str, Tracer]:
    """Sums over labels that nothing else has."""
    gone = tuple(i for i, label in enumerate(labels) if label not in wanted)
    if not gone:
        return labels, x
    if x.element.kind == "b":
        return "".join(c for c in labels if c in wanted), reduce(x, "any", gone)
    return "".join(c for c in labels if c in wanted), reduce(x, "sum", gone)


def _next_pair(
    terms: list[tuple[str, Tracer]], output: str, sizes: dict[str, DimLike]
) -> tuple[int, int]:
    """The pair whose contraction costs least (ties: the smallest result)."""
    if len(terms) == 2:
        return 0, 1

    def weight(labels: set[str]) -> float:
        total = 1.0
        for label in labels:
            dim = sizes[label]
            total *= dim if isinstance(dim, int) else TYPICAL
        return total

    def cost(i: int, j: int) -> tuple[float, float]:
        both = set(terms[i][0]) | set(terms[j][0])
        others = set(output).union(*(t[0] for k, t in enumerate(terms) if k not in (i, j)))
        return weight(both), weight(both & others)

    pairs = [(i, j) for i in range(len(terms)) for j in range(i + 1, len(terms))]
    return min(pairs, key=lambda pair: cost(*pair))


def _contract(
    a: str, x: Tracer, b: str, y: Tracer, wanted: set[str], sizes: dict[str, DimLike]
) -> tuple[str, Tracer]:
    """One contraction: common labels are batch axes where wanted, else summed."""
    x, y = _spread(a, x, b, sizes), _spread(b, y, a, sizes)
    common = [label for label in a if label in b]
    batch = [label for label in common if label in wanted]
    summed = [label for label in common if label not in wanted]
    free_a = [label for label in a if label not in b]
    free_b = [label for label in b if label not in a]
    labels = "".join([*batch, *free_a, *free_b])
    if not summed and not (free_a and free_b):
        return _multiplied(a, x, b, y, labels)
    result = dot_general(
        x, y, ([a.index(c) for c in summed], [b.index(c) for c in summed]),
        ([a.index(c) for c in batch], [b.index(c) for c in batch]),
    )  # fmt: skip
    return labels, result


def _spread(labels: str, x: Tracer, other: str, sizes: dict[str, DimLike]) -> Tracer:
    """x with common axes of size 1 repeated to the label's size."""
    shape = [sizes[c] if c in other else d for c, d in zip(labels, x.dims, strict=True)]
    return broadcast_to(x, shape)


def _multiplied(a: str, x: Tracer, b: str, y: Tracer, labels: str) -> tuple[str, Tracer]:
    """A product without a sum, elementwise over all labels."""
    made = []
    for own, t in ((a, x), (b, y)):
        order = [own.index(c) for c in labels if c in own]
        t = transposed(t, order)
        dims = iter(t.dims)
        made.append(reshaped(t, [next(dims) if c in own else 1 for c in labels]))
    shape = [p if q == 1 else q for p, q in zip(made[0].dims, made[1].dims, strict=True)]
    return labels, emit("mul", *(broadcast_to(m, shape) for m in made))
