"""The tables of `docs/numpy.md`, `nn.md` and `random.md` are made from the namespaces."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import graphmill as gm

DOCS = Path(__file__).resolve().parents[2] / "docs"
TITLES = {
    "creation": "Creation", "data_types": "Data types", "elementwise": "Elementwise",
    "indexing": "Indexing", "manipulation": "Shapes and orders", "products": "Products",
    "searching": "Searching and sets", "sorting": "Sorting", "statistical": "Statistics",
    "utility": "Tests and differences", "info": "Inspection", "linalg": "linalg",
    "activations": "Activations", "attention": "Attention", "convolution": "Convolution",
    "dense": "Linear maps and tables", "losses": "Losses", "normalisation": "Normalisation",
    "pooling": "Pools", "softmax": "Softmax", "random": "Random",
}  # fmt: skip


def signature(name: str, function: Any) -> str:
    """The call as documented, without annotations."""
    given = inspect.signature(function)
    plain = [p.replace(annotation=p.empty) for p in given.parameters.values()]
    made = given.replace(parameters=plain, return_annotation=given.empty)
    return f"{name}{made}".replace("<class 'numpy.", "np.").replace("'>", "")


def row(name: str, function: Any, with_traced: bool) -> str:
    meaning = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    traced = "no" if "GM010" in meaning else "yes"
    meaning = meaning.removesuffix("; GM010 for a traced x.").replace("|", "\\|").rstrip(".")
    meaning = meaning.replace("*", "\\*")
    return f"| `{signature(name, function)}` | {meaning} |" + f" {traced} |" * with_traced


def tables(module: ModuleType, prefix: str = "") -> str:
    """One table per family of functions of a namespace."""
    families: dict[str, list[str]] = {}
    with_traced = module in (gm.numpy, gm.numpy.linalg)
    head = (
        "| call | meaning | traced |\n| --- | --- | --- |"
        if with_traced
        else ("| call | meaning |\n| --- | --- |")
    )
    for name in module.__all__:
        function = getattr(module, name)
        if not inspect.isfunction(function) or (prefix and hasattr(gm.numpy, name)):
            continue
        family = TITLES[function.__module__.rsplit(".", 1)[-1]]
        families.setdefault(family, []).append(row(prefix + name, function, with_traced))
    return "".join(
        f"### {family}\n\n{head}\n" + "\n".join(rows) + "\n\n"
        for family, rows in sorted(families.items())
    )  # fmt: skip


def constants() -> str:
    xp = gm.numpy
    names = [n for n in xp.__all__ if isinstance(getattr(xp, n), np.dtype | float)]
    return "Constants and dtypes: " + ", ".join(f"`{n}`" for n in [*names, "newaxis"]) + ".\n"


PAGES = {
    "numpy.md": ("## Names\n\n", lambda: tables(gm.numpy)
                 + tables(gm.numpy.linalg, "linalg.") + constants()),
    "nn.md": ("## Functions\n\n", lambda: tables(gm.nn)),
    "random.md": ("## Functions\n\n", lambda: tables(gm.random)),
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_page_lists_the_namespace(page: str) -> None:
    """GRAPHMILL_UPDATE_PAGES=1 writes the tables into the page."""
    mark, make = PAGES[page]
    path, made = DOCS / page, make().strip()
    head, _, listed = path.read_text().partition(mark)
    if os.environ.get("GRAPHMILL_UPDATE_PAGES"):
        path.write_text(f"{head}{mark}{made}\n")
        listed = made
    assert listed.strip() == made


def test_every_function_says_what_it_does() -> None:
    for module in (gm.numpy, gm.numpy.linalg, gm.nn, gm.random):
        for name in module.__all__:
            function = getattr(module, name)
            assert not inspect.isfunction(function) or inspect.getdoc(function), name
