"""The graph of a function as the report draws it: nodes and edges, laid out, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphmill.ir.cost import cost
from graphmill.ir.graph import Block, Function, Op, Value
from graphmill.ir.printer import Names
from graphmill.report.layout import draw

MOST_NODES = 600

_LETTER, _LINE = 6.7, 15.0


def graph_of(function: Function) -> dict[str, Any]:
    """The graph of the outermost block, laid out; what only constants feed is left out."""
    names = Names(function)
    hidden = _constant_ops(function.block)
    shown = [op for op in function.ops if op not in hidden]
    nodes: list[dict[str, Any]] = [_param_node(p, names) for p in function.params]
    home: dict[Value, int] = {p: i for i, p in enumerate(function.params)}
    edges: list[tuple[int, int]] = []
    types: list[str] = []
    for op in shown[:MOST_NODES]:
        number = len(nodes)
        nodes.append(_op_node(op, names))
        for operand in dict.fromkeys(op.operands):
            if operand in home:
                edges.append((home[operand], number))
                types.append(f"{names[operand]}: {operand.type}")
        for result in op.results:
            home[result] = number
    sizes = [_size(node) for node in nodes]
    drawing = draw(sizes, edges)
    for node, (width, height), (x, y) in zip(nodes, sizes, drawing.nodes, strict=True):
        node |= {"x": round(x), "y": round(y), "w": round(width), "h": round(height)}
    return {
        "nodes": nodes,
        "edges": [
            {"points": [[round(x), round(y)] for x, y in bends], "from": a, "to": b, "type": type}
            for bends, (a, b), type in zip(drawing.edges, edges, types, strict=True)
        ],
        "width": round(drawing.width),
        "height": round(drawing.height),
        "hidden": len(hidden),
        "cut": max(len(shown) - MOST_NODES, 0),
    }


def _constant_ops(block: Block) -> set[Op]:
    """The ops whose results depend on no argument and no effect."""
    found: set[Op] = set()
    for op in block.ops:
        steady = op.definition.pure and (not op.regions or op.name == "prepare")
        if steady and all(v.op in found for v in op.operands):
            found.add(op)
    return found


def _param_node(param: Value, names: Names) -> dict[str, Any]:
    return {"op": names[param], "kind": "parameter", "lines": [str(param.type)], "locs": []}


def _op_node(op: Op, names: Names) -> dict[str, Any]:
    kind = op.attrs.get("kind") if op.name == "fusion" else op.definition.family
    lines = [f"{names[r]}: {r.type}" for r in op.results]
    lines = lines or [", ".join(names[v] for v in op.operands)]
    inside = [inner.name for region in op.regions for inner in region.block.ops]
    inside = [name for name in inside if name not in ("yield", "constant")]
    if inside:
        counted = [f"{n}×{inside.count(n)}" if inside.count(n) > 1 else n
                   for n in dict.fromkeys(inside)]  # fmt: skip
        lines += _wrapped(counted)
    work = cost(op)
    return {
        "op": f"fusion · {kind}" if op.name == "fusion" else op.name,
        "kind": str(kind),
        "lines": lines,
        "locs": locations(op),
        "scope": op.scope,
        "flops": str(work.flops),
        "bytes": str(work.bytes),
        "reason": str(op.attrs.get("reason", "")),
    }


def locations(op: Op) -> list[str]:
    """The user's lines that an op, or what is inside it, comes from."""
    found = [str(op.loc)] if op.loc else []
    for region in op.regions:
        for inner in region.block.ops:
            found += locations(inner)
    return list(dict.fromkeys(found))


def _wrapped(words: list[str], width: int = 30, most: int = 4) -> list[str]:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    lines = [line.strip() for line in lines]
    return lines if len(lines) <= most else [*lines[: most - 1], "…"]


def _size(node: Mapping[str, Any]) -> tuple[float, float]:
    longest = max(len(text) for text in [node["op"], *node["lines"]])
    return max(longest * _LETTER + 18, 60.0), _LINE * (len(node["lines"]) + 1) + 12
