"""`docs/numpy_support.md` lists what is supported; the lists are made from the tables."""

from __future__ import annotations

import os
import re
import textwrap
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from graphmill.frontend.array_functions import ADVICE, full_name, table
from graphmill.frontend.linear import GUFUNCS
from graphmill.frontend.methods import METHODS, PROPERTIES
from graphmill.frontend.ufunc_methods import ACCUMULATE, AT, REDUCE
from graphmill.frontend.ufuncs import RULES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "numpy_support.md"
REFUSED = {"nonzero", "compress", "tolist", "tobytes", "item"}
TITLES = {
    "reductions": "Reductions", "shaping": "Shapes", "joining": "Joining and rearranging",
    "linear": "Products", "einsum": "Products", "creation": "Making arrays",
    "selecting": "Choosing and ordering", "analysis": "Comparing and differences",
    "statistics": "Norms and statistics", "decompositions": "Linear systems",
    "positions": "Positions, windows and bins",
}  # fmt: skip


def listing(names: list[str]) -> str:
    text = ", ".join(f"`{name}`" for name in sorted(set(names))) + "."
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def lists() -> dict[str, str]:
    """The generated lists by their headings."""
    RULES.get(np.add)
    families: dict[str, list[str]] = defaultdict(list)
    for function, ours in table().items():
        family = ours.__module__.rsplit(".", 1)[-1]
        families[TITLES[family]].append(full_name(function))
    methods = [f".{name}()" for name in METHODS if name not in REFUSED]
    own = [".shape", ".dtype", ".ndim", ".size", ".itemsize", ".nbytes"]
    return {
        "Ufuncs": listing([f"np.{f.__name__}" for f in [*RULES, *GUFUNCS]]),
        "Ufunc methods": "\n".join(
            f"- `{name}`: {listing([f'np.{f.__name__}' for f in known])}"
            for name, known in (
                ("reduce", [*REDUCE, np.logaddexp]), ("accumulate", [*ACCUMULATE]),
                ("at", [*AT, np.subtract]),
            )
        ) + "\n- `outer`: every ufunc of two operands above.",
        **{title: listing(families[title]) for title in dict.fromkeys(TITLES.values())},
        "Methods and attributes": listing([*methods, *own, *(f".{p}" for p in PROPERTIES)]),
        "Refused, and what to write": "\n".join(
            f"- `{name}`: {advice}" for name, advice in sorted(ADVICE.items())
        ),
    }  # fmt: skip


@pytest.mark.skipif(not hasattr(np, "matvec"), reason="the page lists NumPy 2.2's functions")
def test_page_lists_what_is_supported() -> None:
    """GRAPHMILL_UPDATE_PAGES=1 writes the lists into the page."""
    made = "".join(f"### {title}\n\n{text}\n\n" for title, text in lists().items())
    if os.environ.get("GRAPHMILL_UPDATE_PAGES"):
        head = PAGE.read_text().split("## Functions\n")[0]
        PAGE.write_text(f"{head}## Functions\n\n{made}".rstrip() + "\n")
    assert re.split(r"## Functions\n\n", PAGE.read_text())[1].strip() == made.strip()
