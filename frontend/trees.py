"""Nested structures of arguments: tuples, lists, dicts, named tuples, dataclasses, None.

`flatten` gives the leaves in a fixed order and a `Tree`, a hashable description that puts leaves
back and names each one's path (`params['w'][0].bias`) for messages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from typing import Any

from graphmill.frontend.errors import error
from graphmill.records import record

LEAF, NONE, TUPLE, LIST, DICT, NAMED, DATA = (
    "leaf", "None", "tuple", "list", "dict", "named tuple", "dataclass",
)  # fmt: skip


@record(eq=False)
class Tree:
    """A structure: its kind, the keys of its parts, the parts; `made` is its class, if any."""

    kind: str
    keys: tuple[Any, ...] = ()
    parts: tuple[Tree, ...] = ()
    made: type | None = None
    size: int = field(init=False, repr=False)  # the number of leaves
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # every call hashes its tree: once for each part, when it is made
        size = 1 if self.kind == LEAF else sum([part.size for part in self.parts])
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "_hash", hash((self.kind, self.keys, self.parts, self.made)))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Tree)
            and self._hash == other._hash
            and (self.kind, self.keys, self.made) == (other.kind, other.keys, other.made)
            and self.parts == other.parts
        )

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The structure with these leaves."""
        if len(leaves) != self.size:
            raise ValueError(f"{self.size} leaves expected, got {len(leaves)}")
        return _build(self, iter(leaves))

    def paths(self, root: str = "") -> tuple[str, ...]:
        """How each leaf is written, `root` being the whole."""
        return tuple(_paths(self, root))

    def __str__(self) -> str:
        if self.kind == LEAF:
            return "*"
        if self.kind == NONE:
            return "None"
        inside = [f"{_key(self, k)}{part}" for k, part in zip(self.keys, self.parts, strict=True)]
        text = ", ".join(inside)
        if self.kind == TUPLE:
            return f"({text},)" if len(inside) == 1 else f"({text})"
        if self.kind in (LIST, DICT):
            return f"[{text}]" if self.kind == LIST else f"{{{text}}}"
        return f"{self.made.__name__ if self.made else ''}({text})"


def _key(tree: Tree, key: Any) -> str:
    if tree.kind == DICT:
        return f"{key!r}: "
    return f"{key}=" if tree.kind in (NAMED, DATA) else ""


LEAF_TREE, NONE_TREE = Tree(LEAF), Tree(NONE)
# Classes whose instances were leaves: whether something is one depends on its class alone.
_KNOWN_LEAVES: set[type] = set()
_INTERNED: dict[tuple[Any, ...], Tree] = {}
_MAX_INTERNED = 10_000


def flatten(thing: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Tree]:
    """The leaves of a structure, and the structure.

    A dict goes in the order of its sorted keys; in that of insertion if it is an OrderedDict or
    its keys do not compare.
    """
    leaves: list[Any] = []
    return leaves, _flatten(thing, leaves, is_leaf)


def _flatten(thing: Any, leaves: list[Any], is_leaf: Callable[[Any], bool] | None) -> Tree:
    if thing is None:
        return NONE_TREE
    if is_leaf is None and type(thing) in _KNOWN_LEAVES:
        leaves.append(thing)
        return LEAF_TREE
    parts = None if is_leaf is not None and is_leaf(thing) else _parts(thing)
    if parts is None:
        if is_leaf is None and not dataclasses.is_dataclass(thing):
            _KNOWN_LEAVES.add(type(thing))
        leaves.append(thing)
        return LEAF_TREE
    kind, keys, values, made = parts
    found = tuple([_flatten(v, leaves, is_leaf) for v in values])
    # equal structures are one object, so that a call's key is found by identity
    known = (kind, keys, made, *map(id, found))
    tree = _INTERNED.get(known)
    if tree is None:
        if len(_INTERNED) >= _MAX_INTERNED:
            _INTERNED.clear()
        tree = _INTERNED[known] = Tree(kind, keys, found, made)
    return tree


def _parts(thing: Any) -> tuple[str, tuple[Any, ...], list[Any], type | None] | None:
    """Kind, keys, parts and class of a structure; None for a leaf."""
    cls = type(thing)
    if cls is tuple or cls is list:
        kind = TUPLE if cls is tuple else LIST
        return kind, tuple(range(len(thing))), list(thing), None
    if isinstance(thing, dict):
        try:
            keys = list(thing) if hasattr(thing, "move_to_end") else sorted(thing)
        except TypeError:
            keys = list(thing)
        return DICT, tuple(keys), [thing[k] for k in keys], None if cls is dict else cls
    if isinstance(thing, tuple) and hasattr(cls, "_fields"):
        return NAMED, tuple(cls._fields), list(thing), cls
    if isinstance(thing, list | tuple):
        return (LIST if isinstance(thing, list) else TUPLE), tuple(range(len(thing))), [*thing], cls
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type) and is_structure(cls):
        names = tuple(field.name for field in dataclasses.fields(thing))
        return DATA, names, [getattr(thing, name) for name in names], cls
    return None


_LEAF_CLASSES: set[type] = set()


def treat_as_leaf(cls: type) -> type:
    """Let instances of a dataclass be leaves (specs are); usable as a decorator."""
    _LEAF_CLASSES.add(cls)
    return cls


def is_structure(cls: type) -> bool:
    """Whether a dataclass is taken apart."""
    return cls not in _LEAF_CLASSES


def _build(tree: Tree, leaves: Iterator[Any]) -> Any:
    if tree.kind == LEAF:
        return next(leaves)
    if tree.kind == NONE:
        return None
    parts = [_build(part, leaves) for part in tree.parts]
    if tree.kind == DICT:
        return _build_dict(tree, parts)
    if tree.kind == NAMED:
        assert tree.made is not None and issubclass(tree.made, tuple)
        # without code of its class, which has seen these parts already
        return tuple.__new__(tree.made, parts)
    if tree.kind == DATA:
        return _build_dataclass(tree, parts)
    plain: Any = tuple(parts) if tree.kind == TUPLE else parts
    return plain if tree.made is None else tree.made(plain)


def _build_dict(tree: Tree, parts: list[Any]) -> Any:
    pairs = dict(zip(tree.keys, parts, strict=True))
    if tree.made is None:
        return pairs
    made: Any = tree.made.__new__(tree.made)  # type: ignore[call-overload]
    made.update(pairs)
    return made


def _build_dataclass(tree: Tree, parts: list[Any]) -> Any:
    """A new instance without running `__init__`, whose checks may not know traced values."""
    assert tree.made is not None
    made: Any = object.__new__(tree.made)
    for name, part in zip(tree.keys, parts, strict=True):
        object.__setattr__(made, name, part)
    return made


def _paths(tree: Tree, root: str) -> Iterator[str]:
    if tree.kind == LEAF:
        yield root
    for key, part in zip(tree.keys, tree.parts, strict=True):
        dotted = tree.kind in (NAMED, DATA)
        step = f".{key}" if dotted and root else (str(key) if dotted else f"[{key!r}]")
        yield from _paths(part, root + step)


def argument_paths(function: Callable[..., Any], in_tree: Tree) -> tuple[str, ...]:
    """How the user would write each leaf of `(args, kwargs)`: `x`, `params['w']`."""
    given, keywords = in_tree.parts
    names = positional_names(function, len(given.parts))
    found: list[str] = []
    for name, part in zip(names, given.parts, strict=True):
        found += part.paths(name)
    for name, part in zip(keywords.keys, keywords.parts, strict=True):
        found += part.paths(str(name))
    return tuple(found)


def positional_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the first `count` positional parameters; `args[0]`, … beyond them."""
    import inspect

    names: list[str] = []
    extra = "arg"
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            extra = parameter.name
    return [*names[:count], *(f"{extra}[{i}]" for i in range(max(count - len(names), 0)))]


def same_structure(wanted: Tree, given: Tree, what: str) -> None:
    """Raise GM046 where two structures differ, naming the first place."""
    if wanted != given:
        from graphmill.frontend.describe import here

        raise error(
            "GM046",
            f"{what}: {wanted} and {given}",
            why=_difference(wanted, given, "the value"),
            hint="give the same nesting, keys and number of values in both places.",
            location=here(),
        )


def _difference(a: Tree, b: Tree, at: str) -> str:
    if a.kind != b.kind or a.made is not b.made:
        return f"{at} is a {a.kind} in one, a {b.kind} in the other."
    if a.keys != b.keys:
        return f"{at} has the parts {list(a.keys)} in one, {list(b.keys)} in the other."
    for key, x, y in zip(a.keys, a.parts, b.parts, strict=True):
        if x != y:
            return _difference(x, y, f"{at}[{key!r}]" if at else str(key))
    return "they differ."
