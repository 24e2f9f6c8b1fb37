"""`report.html`: one page, no outside resources, that shows the stages of compilations."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from graphmill.ir.graph import Function, walk
from graphmill.report.memory import memory_of
from graphmill.report.pictures import graph_of, locations

if TYPE_CHECKING:
    from graphmill.dumping import Compilation


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
    """The kernels that a stage told of, with every user line that each comes from."""
    told = [k for stage in compilation.stages for k in stage.info.get("kernels", ())]
    ops: dict[str, list[str]] = {}
    if planned is not None:
        for op in walk(planned.block):
            if op.loc is not None and op.name not in ("while", "scan", "cond"):
                ops.setdefault(str(op.loc), []).extend(locations(op))
    return [
        {**kernel, "locs": list(dict.fromkeys([kernel["location"],
                                               *ops.get(kernel["location"], ())]))}
        for kernel in told
    ]  # fmt: skip
