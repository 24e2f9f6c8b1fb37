"""The rules of the tree: layers, sizes, names, packaging and links, read from the sources."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("frontend", "ir", "passes", "codegen", "runtime")
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60

SHARED = ("records", "collector", "signals", "tables")  # what every layer may import

# What a layer may import of ours, as prefixes below `graphmill.`, besides itself and the shared.
ALLOWED = {
    "ir": (),
    "frontend": ("ir",),
    "passes": ("ir",),
    "codegen": ("ir",),
    "runtime": ("codegen.artifact",),
}


def tracked(*patterns: str) -> list[Path]:
    """The tracked files that match git's patterns (the folder's files where git is absent)."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *patterns]
    listing = subprocess.run(git, capture_output=True, text=True)
    if listing.returncode == 0:
        found = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        found = [path for pattern in patterns for path in ROOT.rglob(pattern.lstrip("*/"))]
    return sorted(path for path in found if path.is_file() and ".venv" not in path.parts)


SOURCES = tracked("*.py")
PAGES = tracked("*.md")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of ours, without the leading `graphmill.`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("graphmill."):
                yield node.lineno, name.removeprefix("graphmill.")


def test_the_tree_is_seen() -> None:
    assert any(relative(path) == "graphmill/__init__.py" for path in SOURCES)
    assert any(relative(path) == "README.md" for path in PAGES)


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_imports_only_what_it_may(layer: str) -> None:
    wrong = []
    for path in SOURCES:
        if not relative(path).startswith(layer + "/"):
            continue
        for line, module in imported(ast.parse(path.read_text())):
            allowed = (layer, *SHARED, *ALLOWED[layer])
            if not any(module == a or module.startswith(a + ".") for a in allowed):
                wrong.append(f"{relative(path)}:{line} imports graphmill.{module}")
    assert not wrong


def test_imports_are_absolute() -> None:
    relative_imports = [
        f"{relative(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative_imports


def test_files_are_small() -> None:
    sizes = {relative(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert not {name: n for name, n in sizes.items() if n > MAX_FILE_LINES}


def test_functions_fit_a_screen() -> None:
    long = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{relative(path)}:{node.lineno} {node.name} has {lines} lines")
    assert not long


def test_names_say_something() -> None:
    vague = re.compile(r"(^|/)(utils?|helpers?|common|misc)(\.py|/)")
    assert not [relative(path) for path in SOURCES if vague.search(relative(path))]


def test_nothing_is_left_open() -> None:
    mark = re.compile("|".join(["TO" + "DO", "FIX" + "ME"]))
    assert not [
        f"{relative(path)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if mark.search(line)
    ]


def test_no_file_content_is_executed() -> None:
    """Loading a file must never run code: no eval, exec or pickle in the package."""
    wrong = []
    for path in SOURCES:
        if relative(path).split("/")[0] not in (*LAYERS, "graphmill"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("eval", "exec"):
                    wrong.append(f"{relative(path)}:{node.lineno} {node.func.id}")
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                if names & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}:
                    wrong.append(f"{relative(path)}:{node.lineno} {ast.unparse(node)}")
    assert not wrong


def test_every_package_is_installed() -> None:
    """A folder with sources that the wheel would leave out works in a checkout and nowhere else."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = set(setup["packages"])
    folders = {
        relative(path.parent)
        for path in SOURCES
        if relative(path).split("/")[0] in (*LAYERS, "graphmill")
    }
    found = {
        folder.replace("/", ".")
        if folder.startswith("graphmill")
        else "graphmill." + folder.replace("/", ".")
        for folder in folders
    }
    assert found == listed


HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in HEADING.findall(page.read_text())
    }


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            dead.append(target)
    assert not dead
