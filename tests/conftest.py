"""For all tests: of `sampled` ones a part of the cases runs, with `--thorough` all of them.

Every function that is compiled prints, parses back and prints the same.

A text is read back once, a long one only after the passes: before them it repeats an unrolled loop.
The verifier runs after each pass, not only after the last.

What they leave in the temporary folder (reproducers of failures made on purpose) goes with them.
"""

import gc
import tempfile
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

from graphmill import driver
from graphmill.ir.graph import Function
from graphmill.ir.parser import parse
from graphmill.ir.printer import constants_of, print_function
from graphmill.passes.manager import run_pipeline

# Timing limits of single examples say nothing on a busy machine.
settings.register_profile("graphmill", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("graphmill")

MANY = 40_000  # characters of a function, some hundred ops
READ = set[int]()  # hashes of the texts that were read back


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="all cases of sampled tests")


@pytest.hookimpl(trylast=True)  # what is left by -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the first case of each `sampled(n)` test and the n-th part of the others, the same
    ones each time."""
    if config.getoption("thorough"):
        return
    kept, left, seen = [], [], set()
    for item in items:
        mark, test = item.get_closest_marker("sampled"), item.nodeid.partition("[")[0]
        again = mark is not None and test in seen
        out = again and crc32(item.nodeid.encode()) % mark.args[0] > 0
        (left if out else kept).append(item)
        seen.add(test)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def pytest_collection_finish() -> None:
    """Leave thousands of collected tests out of every garbage collection."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let temporary files, of processes that tests start as well, lie in pytest's folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("temporary"))
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("TMPDIR", folder)
        yield


@pytest.fixture(autouse=True)
def round_trip(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check the text of each function before and after the passes."""
    optimise = driver.optimise

    def checked(function: Function, *arguments: object, **options: object) -> Function:
        planned = optimise(function, *arguments, **options)  # type: ignore[arg-type]
        for made in (function, planned):
            text = print_function(made, locations=True)
            if hash(text) in READ or (made is function and len(text) > MANY):
                continue
            READ.add(hash(text))
            again = parse(text, constants_of(made)).entry
            assert print_function(again, locations=True) == text
        return planned

    monkeypatch.setattr(driver, "optimise", checked)
    yield


@pytest.fixture(autouse=True)
def verified(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the verifier after each pass."""

    def run(*arguments: Any, **options: Any) -> Any:
        return run_pipeline(*arguments, **{**options, "each": True})

    monkeypatch.setattr(driver, "run_pipeline", run)
    yield
