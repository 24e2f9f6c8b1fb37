"""Dumps: every stage of a compilation as a numbered file, and a report that shows them.

    with gm.dump("out"):
        f(x)            # out/f/00-trace.gir, 01-fold.gir, …, out/report.html

`gm.dump("out")` without `with` (or `GRAPHMILL_DUMP=out`) holds for the whole process.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from graphmill.ir.dtypes import bf16, dtype
from graphmill.ir.graph import Bounds, Function
from graphmill.ir.printer import constants_of
from graphmill.records import record
from graphmill.runtime import knobs

# Bytes of constants that a dump keeps at most.
MOST_CONSTANTS = 256 << 20

# The report shows this many of the newest compilations, with this much text in all.
MOST_REPORTED = 40
MOST_TEXT = 64 << 20

# What `run.py` runs named dims of unknown size with.
SAMPLE_SIZE = 8

REPRODUCER = '''\
"""Compiles and runs the function as it was traced, on random arrays, and compares the results with
the reference evaluator. Further options are those of `graphmill run`: --seed 1, --repeat 100, …"""

import sys
from pathlib import Path

from graphmill.cli import main

main(["run", str(Path(__file__).with_name("{file}")), "--check", *{sizes}, *sys.argv[1:]])
'''

# Stages whose file has their name alone, and the file ending of each kind of stage.
PLAIN = ("memory", "kernels", "schedules")
SUFFIXES = {"ir": "gir", "mlir": "mlir", "llvm": "ll", "asm": "s", "text": "txt"}


class dump:
    """Dump every compilation to `directory` from now on; None stops that.

    As a context manager it ends with the block. The folder is made when the first stage arrives.
    """

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        folder = None if directory is None else Path(directory).expanduser()
        self._before = knobs.dump.set(folder)

    def __enter__(self) -> dump:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        knobs.dump.restore(self._before)


@record(frozen=False)
class Stage:
    """One stage as it was recorded."""

    name: str
    kind: str
    text: str
    seconds: float
    file: str = ""
    function: Function | None = None
    info: dict[str, Any] = field(default_factory=dict)


@record(frozen=False)
class Compilation:
    """All stages of one compilation, and the user's sources that its locations name."""

    name: str
    stages: list[Stage] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    report: str = ""


_lock = threading.Lock()
# What this process has dumped, by folder, so that one report shows all its compilations.
_dumped: dict[Path, list[Compilation]] = {}


class DumpRecorder:
    """Writes a stage's text as it arrives (IR only where it changed), the rest on `close`."""

    active = True

    def __init__(self, directory: Path, name: str) -> None:
        self.root = directory.absolute()
        with _lock:
            self.folder = _fresh_folder(self.root, name)
            self.compilation = Compilation(self.folder.name)
            _dumped[self.root].append(self.compilation)
        self._sources_of: set[str] = set()

    def stage(
        self, name: str, kind: str, text: str | Callable[[], str], seconds: float, **info: Any
    ) -> None:
        text = text() if callable(text) else text
        function = info.pop("function", None)
        stage = Stage(name, kind, text, seconds, function=function, info=info)
        stages = self.compilation.stages
        before = [s for s in stages if s.kind == kind]
        stages.append(stage)
        if kind == "ir" and before and before[-1].text == text:
            stage.info["unchanged"] = True
            return
        written = sum(bool(s.file) for s in stages)
        prefix = "after-" if kind == "ir" and before else ""
        stage.file = f"{written:02d}-{prefix}{_safe(name)}.{SUFFIXES.get(kind, 'txt')}"
        if kind == "text" and name in PLAIN:
            stage.file = f"{name}.txt"
        ending = "" if text.endswith("\n") else "\n"
        (self.folder / stage.file).write_text(text + ending, encoding="utf-8")
        if isinstance(function, Function):
            self._read_sources(function)

    def close(self) -> None:
        timings = [
            {"stage": s.name, "kind": s.kind, "seconds": s.seconds, "file": s.file or None}
            | ({"stats": s.info["stats"]} if "stats" in s.info else {})
            for s in self.compilation.stages
        ]
        self._constants()
        self._reproducer()
        text = json.dumps({"function": self.compilation.name, "stages": timings}, indent=1)
        (self.folder / "timings.json").write_text(text + "\n", encoding="utf-8")
        self._report()

    def _constants(self) -> None:
        """Keep the arrays that the texts leave out, so that `graphmill opt` takes any stage."""
        arrays: dict[str, Any] = {}
        for stage in self.compilation.stages:
            if stage.function is not None:
                arrays |= constants_of(stage.function)
        if arrays and sum(a.nbytes for a in arrays.values()) <= MOST_CONSTANTS:
            save_constants(self.folder / "constants.npz", arrays)

    def _reproducer(self) -> None:
        """A program that runs the first stage again, on random arrays."""
        first = self.compilation.stages[0] if self.compilation.stages else None
        if first is not None and first.function is not None:
            sizes = [
                argument
                for name, bounds in first.function.dims.items()
                for argument in ("--size", f"{name}={_size_within(bounds)}")
            ]
            text = REPRODUCER.format(file=first.file, sizes=sizes)
            (self.folder / "run.py").write_text(text, encoding="utf-8")

    def _report(self) -> None:
        """Write `report.html` anew, with this compilation and those before it."""
        from graphmill import report

        self.compilation.report = report.data(self.compilation)
        for stage in self.compilation.stages:  # the report has all that is still needed
            stage.text, stage.function = "", None
        with _lock:
            pages = _newest([done.report for done in _dumped[self.root] if done.report])
            made = self.root / f".report-{os.getpid()}-{threading.get_ident()}.html"
            made.write_text(report.render(pages), encoding="utf-8")
            os.replace(made, self.root / "report.html")

    def _read_sources(self, function: Function) -> None:
        """Keep the files that the function's locations name, for the report."""
        for op in function.walk():
            loc = op.loc
            while loc is not None:
                if loc.file not in self._sources_of:
                    self._sources_of.add(loc.file)
                    try:
                        text = Path(loc.file).read_text(encoding="utf-8", errors="replace")
                    except OSError:
                        text = ""
                    if text:
                        self.compilation.sources[os.path.basename(loc.file)] = text
                loc = loc.caller


def _newest(reports: list[str]) -> list[str]:
    """The newest reports that a page can hold, at least one."""
    total, first = 0, len(reports)
    while first > 0 and len(reports) - first < MOST_REPORTED:
        total += len(reports[first - 1])
        if total > MOST_TEXT and first < len(reports):
            break
        first -= 1
    return reports[first:]


def save_constants(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    """Write arrays under `hash.dtype` names, for `graphmill opt` and `run` to read."""
    raw: dict[str, Any] = {f"{key}.{dtype(a.dtype)}": _storable(a) for key, a in arrays.items()}
    np.savez(path, **raw)


def _fresh_folder(root: Path, name: str) -> Path:
    """`root/name`, or `root/name-2` … where this process has dumped that; emptied of old stages."""
    taken = _dumped.setdefault(root, [])
    names = {compilation.name for compilation in taken}
    base = name = _safe(name)
    number = 1
    while name in names:
        number += 1
        name = f"{base}-{number}"
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if re.match(
            r"\d\d-|(timings\.json|memory\.txt|kernels\.txt|schedules\.txt|constants\.npz|run\.py)$",
            file.name,
        ):
            file.unlink()
    return folder


def _size_within(bounds: Bounds) -> int:
    size = max(SAMPLE_SIZE, bounds.low)
    return size if bounds.high is None else min(size, bounds.high)


def _safe(name: str) -> str:
    """A name that can be a file's."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "stage"


def _storable(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """bf16 as its bits, which `.npz` files can hold."""
    return array.view(np.uint16) if dtype(array.dtype) is bf16 else array
