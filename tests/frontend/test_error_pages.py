"""Every code has a page, whose first program raises the error and whose second one does not."""

from __future__ import annotations

import linecache
import os
import re
from pathlib import Path
from typing import Any

import pytest

from graphmill.frontend import core
from graphmill.frontend.errors import CODES, GraphmillError

PAGES = Path(__file__).resolve().parents[2] / "docs" / "errors"
# Raised at run time by executables; their pages' programs are tested with those.
RUN_TIME = {"GM060", "GM061", "GM062"}


def programs(code: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PAGES / f"{code}.md").read_text(), re.DOTALL)


def execute(program: str, name: str) -> dict[str, Any]:
    """Run a program whose source lines errors can show."""
    linecache.cache[name] = (len(program), None, program.splitlines(True), name)
    scope: dict[str, Any] = {"__name__": name}
    exec(compile(program, name, "exec"), scope)
    return scope


@pytest.mark.parametrize("code", sorted(CODES))
def test_code_has_a_page(code: str) -> None:
    assert (PAGES / f"{code}.md").read_text().startswith(f"# {code}")


def test_pages_have_codes() -> None:
    assert {page.stem for page in PAGES.glob("GM*.md")} == set(CODES)


@pytest.mark.parametrize("code", sorted(set(CODES) - RUN_TIME))
def test_first_program_raises_it(code: str) -> None:
    with pytest.raises(GraphmillError) as caught:
        execute(programs(code)[0], f"{code}.py")
    assert caught.value.code == code, str(caught.value)
    assert isinstance(caught.value, CODES[code][1])
    if code not in ("GM031", "GM043"):  # raised by plain calls
        shown = [str(entry.path) for entry in caught.traceback]
        assert not [path for path in shown if path.startswith(os.path.dirname(core.__file__))]


@pytest.mark.parametrize("code", sorted(set(CODES) - RUN_TIME))
def test_page_shows_the_message(code: str) -> None:
    """GRAPHMILL_UPDATE_PAGES=1 writes the messages into the pages."""
    with pytest.raises(GraphmillError) as caught:
        execute(programs(code)[0], "example.py")
    shown = f"## The message\n\n```text\n{caught.value}\n```\n"
    page = PAGES / f"{code}.md"
    text = page.read_text()
    if os.environ.get("GRAPHMILL_UPDATE_PAGES"):
        text = re.sub(r"## The message\n.*?(?=## Instead)", "", text, flags=re.DOTALL)
        page.write_text(text.replace("## Instead", f"{shown}\n## Instead"))
    assert shown in page.read_text()


@pytest.mark.parametrize("code", sorted(set(CODES) - RUN_TIME))
def test_second_program_runs(code: str) -> None:
    execute(programs(code)[1], f"{code}_fixed.py")
