"""Calls and results of a jitted function as forms for the native call path."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, Signature
from itertools import accumulate
from typing import Any, NamedTuple

from graphmill.frontend.trees import DATA, DICT, LEAF, LIST, NAMED, NONE, TUPLE, Tree, flatten
from graphmill.runtime.forms import Call, Form, Node
from graphmill.runtime.forms import nodes as all_nodes

_EXACT = {TUPLE: tuple, LIST: list, DICT: dict}


class Way(NamedTuple):
    """How a call passes its arguments: how many by position, and the names of the others."""

    positional: int
    names: tuple[str, ...]


def call(
    way: Way, tree: Tree, static: Mapping[str, Any], signature: Signature, result: Tree
) -> Call | None:
    """What calls of this kind look like; None where only Python can take them apart.

    `tree` is the structure of `(args, kwargs)`, without the static arguments.
    """
    positional, keywords = tree.parts
    parts = {**dict(enumerate(positional.parts)), **dict(_items(keywords))}
    # the leaves are counted in this order
    firsts = accumulate((part.size for part in parts.values()), initial=0)
    nodes = {key: _node(part, k) for (key, part), k in zip(parts.items(), firsts, strict=False)}
    known = {key: node for key, node in nodes.items() if node is not None}
    if len(known) < len(nodes):
        return None
    form = _with_static(way, known, static, signature) if static else _form(way, known)
    made = _node(result, 0)
    if made is None or not all(map(_is_built, all_nodes(made))):
        return None if form is None else Call(form, result.unflatten)
    return None if form is None else Call(form, made)


def _is_built(node: Node) -> bool:
    """Whether native code can make such a part of a result, as `Tree.unflatten` does."""
    made: Any = node.made
    if made in (None, tuple, list, dict):
        return True
    try:
        if node.kind == "tuple":
            return type(tuple.__new__(made)) is made
        return node.kind == "data" and type(object.__new__(made)) is made
    except TypeError:
        return False


def _items(tree: Tree) -> list[tuple[Any, Tree]]:
    return list(zip(tree.keys, tree.parts, strict=True))


def _form(way: Way, nodes: Mapping[Any, Node]) -> Form:
    positional = tuple([nodes[k] for k in range(way.positional)])
    return Form(positional, way.names, tuple([nodes[name] for name in way.names]))


def _with_static(
    way: Way, nodes: Mapping[str, Node], static: Mapping[str, Any], signature: Signature
) -> Form | None:
    """The form of a call of a function with static arguments, all of which go by name inside."""
    parameters = list(signature.parameters.values())
    usual = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD)
    if any(p.kind not in usual for p in parameters):
        return None
    places = {**nodes, **{name: Node("static", value=v) for name, v in static.items()}}
    by_position = [p.name for p in parameters[: way.positional]]
    passed = [places.get(name) for name in (*by_position, *way.names)]
    known = tuple([node for node in passed if node is not None])
    if len(known) < len(passed):
        return None
    left = [p for p in parameters if p.name in nodes and p.name not in (*by_position, *way.names)]
    fixed = [
        (node.slot, leaf)
        for p in left
        for node, leaf in zip(_leaves(nodes[p.name]), flatten(p.default)[0], strict=True)
    ]
    return Form(known[: way.positional], way.names, known[way.positional :], tuple(fixed))


def _leaves(node: Node) -> list[Node]:
    return [n for n in all_nodes(node) if n.kind == "leaf"]


def _node(tree: Tree, first: int) -> Node | None:
    """The node of a structure whose leaves are counted from `first` on."""
    if tree.kind == LEAF:
        return Node("leaf", first)
    if tree.kind == NONE:
        return Node("none")
    firsts = accumulate((part.size for part in tree.parts), initial=first)
    made = [_node(part, k) for part, k in zip(tree.parts, firsts, strict=False)]
    parts = tuple([node for node in made if node is not None])
    if len(parts) < len(made):
        return None
    if tree.kind == DATA:
        return Node("data", 0, tree.made, tree.keys, parts)
    if tree.kind == NAMED and getattr(tree.made, "__iter__", None) is tuple.__iter__:
        return Node("tuple", 0, tree.made, (), parts)
    if tree.made is not None or tree.kind not in _EXACT:
        return None
    if tree.kind != DICT:
        return Node(tree.kind, 0, _EXACT[tree.kind], (), parts)
    # their order is that of the keys only where all compare
    same = {type(key) for key in tree.keys}
    return Node("dict", 0, dict, tree.keys, parts) if same <= {str} or same <= {int} else None
