"""How a call's arguments are nested, and its results: records that the native call path walks.

A `Form` says what stands at each positional and keyword argument, down to the leaves (arrays and
numbers), which have their places in a flat list. Static arguments are part of it by their value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from graphmill.runtime.layout import LAYOUT

Words = np.ndarray[Any, np.dtype[np.int64]]


class Node(NamedTuple):
    """One place in a structure.

    `kind` is `leaf` (with its `slot`), `none`, `static` (an equal `value` of the same type),
    `tuple` or `list` or `dict` (`made` is the exact class), `data` (attributes of a class).
    """

    kind: str
    slot: int = 0
    made: type | None = None
    keys: tuple[Any, ...] = ()
    parts: tuple[Node, ...] = ()
    value: Any = None


class Form(NamedTuple):
    """The arguments of a call; `fixed` are leaves that it does not pass: the values of defaults."""

    positional: tuple[Node, ...]
    names: tuple[str, ...] = ()
    named: tuple[Node, ...] = ()
    fixed: tuple[tuple[int, Any], ...] = ()


# what makes the result of a flat tuple of outputs, where it is not natively built
Build = Callable[[Any], Any]


class Call(NamedTuple):
    """What calls like one have in common: their form, and the structure of the result."""

    form: Form
    result: Node | Build


def leaves(count: int) -> tuple[Node, ...]:
    """As many leaves in order."""
    return tuple([Node("leaf", k) for k in range(count)])


def flat(count: int) -> Node:
    """The structure of a single result, or of a tuple of several."""
    return Node("leaf") if count == 1 else Node("tuple", made=tuple, parts=leaves(count))


def nodes(node: Node) -> Iterator[Node]:
    """The node and all within it."""
    yield node
    for part in node.parts:
        yield from nodes(part)


def is_plain(form: Form) -> bool:
    """Whether the positional arguments are the leaves."""
    rest = (form.names, form.named, form.fixed)
    return form.positional == leaves(len(form.positional)) and not any(rest)


class Encoder:
    """Structures as words; `kept` is what their addresses point to."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def words(self, values: list[int]) -> int:
        """The address of these words."""
        words: Words = np.array(values, dtype=np.int64)
        self.kept.append(words)
        return int(words.__array_interface__["data"][0])

    def node(self, node: Node) -> int:
        """The address of a node's record: kind, slot or object, number of parts, keys, parts."""
        subject = node.slot
        if node.kind != "leaf":
            thing = node.value if node.kind == "static" else node.made
            self.kept.append(thing)
            subject = id(thing)
        self.kept.append(node.keys)
        keys = [id(key) for key in node.keys] or [0] * len(node.parts)
        parts = [self.node(part) for part in node.parts]
        pairs = [word for pair in zip(keys, parts, strict=True) for word in pair]
        return self.words([LAYOUT[f"NODE_{node.kind.upper()}"], subject, len(parts), *pairs])

    def form(self, form: Form, always: bool = False) -> int:
        """The address of a form's record; 0 for a plain one, which needs none unless `always`."""
        if is_plain(form) and not always:
            return 0
        self.kept.append(form)
        named = zip(form.names, form.named, strict=True)
        tables = (
            [self.node(node) for node in form.positional],
            [word for name, node in named for word in (id(name), self.node(node))],
            [word for slot, value in form.fixed for word in (slot, id(value))],
        )
        counts = [len(form.positional), len(form.names), len(form.fixed)]
        return self.words([*counts, *(word for table in tables for word in table)])
