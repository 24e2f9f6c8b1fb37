"""`report.html`: one page, no outside resources, that shows the stages of compilations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from graphmill.ir.graph import Block, Function, Op
from graphmill.report.memory import memory_of
from graphmill.report.pictures import graph_of, locations

if TYPE_CHECKING:
    from graphmill.dumping import Compilation

_NO_KERNEL = ("constant", "prepare", "token", "join", "return", "yield")


def render(compilations: list[str]) -> str:
    """The page for compilations as `data` gave them."""
    here = files(__package__ or __name__)
    page = (here / "page.html").read_text(encoding="utf-8")
    script = "\n".join(
        (here / name).read_text(encoding="utf-8")
        for name in ("text.js", "diff.js", "pictures.js", "page.js")
    )
    parts = {
        "STYLE": (here / "page.css").read_text(encoding="utf-8"),
        "SCRIPT": script,
        "DATA": f"[{','.join(compilations)}]",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def data(compilation: Compilation) -> str:
    """A compilation as JSON that can stand in a script element."""
    planned: Function | None = None
    stages: list[dict[str, Any]] = []
    for stage in compilation.stages:
        shown: dict[str, Any] = {
            "name": stage.name,
            "kind": stage.kind,
            "file": stage.file,
            "text": stage.text,
            "seconds": stage.seconds,
            "unchanged": bool(stage.info.get("unchanged")),
            "stats": stage.info.get("stats", {}),
        }
        if stage.function is not None and not shown["unchanged"]:
            shown["graph"] = graph_of(stage.function)
            planned = stage.function
        stages.append(shown)
    found = {
        "name": compilation.name,
        "stages": stages,
        "sources": compilation.sources,
        "memory": memory_of(planned) if planned is not None else None,
        "kernels": _kernels(compilation, planned),
    }
    text = json.dumps(found, separators=(",", ":"), default=str)
    return text.replace("</", "<\\/").replace("<!--", "<\\u0021--")


def _kernels(compilation: Compilation, planned: Function | None) -> list[dict[str, Any]]:
    """The kernels that a stage told of, with every user line that each comes from.

    Kernels are made in the order of the ops, so the n-th kernel of a line is its n-th op's.
    """
    told = [kernel for stage in compilation.stages for kernel in stage.info.get("kernels", ())]
    waiting: dict[str, list[list[str]]] = {}
    for op in _kernel_ops(planned.block) if planned is not None else ():
        waiting.setdefault(str(op.loc or ""), []).append(locations(op))
    found = []
    for kernel in told:
        place = kernel["location"]
        lines = waiting[place].pop(0) if waiting.get(place) else []
        own = [place] if place else []
        found.append({**kernel, "locs": list(dict.fromkeys([*own, *lines]))})
    return found


def _kernel_ops(block: Block) -> Iterator[Op]:
    """The ops that become kernels, in order, those in bodies of control flow included."""
    for op in block.ops:
        if op.name in ("while", "scan", "cond"):
            for region in op.regions:
                yield from _kernel_ops(region.block)
        elif op.definition.fusion != "view" and op.name not in _NO_KERNEL:
            yield op
