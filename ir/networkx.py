"""A function as a networkx graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphmill.ir.graph import Block, Function, Value
from graphmill.ir.printer import Names

if TYPE_CHECKING:
    import networkx


def to_networkx(function: Function) -> networkx.DiGraph[Any]:
    """A node per parameter and op (those inside regions included), an edge per use.

    Nodes are integers in the order of the text, with attributes `label` (the values' names),
    `op` (the op's name, or `parameter`), `type`, `location` and `parent` (the node of the op
    around it, or None). Edges carry the used value's `type` and the operand's `index`; a region
    argument has an edge from the op that holds the region.
    """
    import networkx

    graph: networkx.DiGraph[Any] = networkx.DiGraph(name=function.name)
    names = Names(function)
    home: dict[Value, int] = {}
    for param in function.params:
        node = graph.number_of_nodes()
        graph.add_node(
            node, label=names[param], op="parameter", type=str(param.type), location="", parent=None
        )
        home[param] = node
    _add_block(function.block, graph, names, home, None)
    return graph


def _add_block(
    block: Block,
    graph: networkx.DiGraph[Any],
    names: Names,
    home: dict[Value, int],
    parent: int | None,
) -> None:
    for op in block.ops:
        node = graph.number_of_nodes()
        graph.add_node(
            node,
            label=", ".join(names[r] for r in op.results) or op.name,
            op=op.name,
            type=", ".join(str(r.type) for r in op.results),
            location=str(op.loc) if op.loc else "",
            parent=parent,
        )
        for index, operand in enumerate(op.operands):
            graph.add_edge(home[operand], node, type=str(operand.type), index=index)
        for result in op.results:
            home[result] = node
        for region in op.regions:
            for arg in region.block.args:
                home[arg] = node
            _add_block(region.block, graph, names, home, node)
