"""When the compiler itself fails: a reproducer on disk, and an error that names it."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from graphmill.dumping import save_constants
from graphmill.ir.graph import Function
from graphmill.ir.printer import constants_of, print_function

if TYPE_CHECKING:
    from pathlib import Path

    from graphmill.driver import Options


class InternalError(RuntimeError):
    """The compiler failed on a valid program; `reproducer` is the folder to send with a report."""

    def __init__(self, message: str, reproducer: Path) -> None:
        super().__init__(message)
        self.reproducer = reproducer


def internal_error(function: Function, options: Options, error: Exception) -> InternalError:
    """What to raise for a failure to compile, with a reproducer."""
    folder = write_reproducer(function, options, error)
    place = f" ({function.loc})" if function.loc else ""
    return InternalError(
        f"Graphmill failed to compile {function.name}{place}: "
        f"{type(error).__name__}: {error}\n"
        f"This is a fault of the compiler, not of your code. What it takes to reproduce it "
        f"is in {folder}; please report it.",
        folder,
    )


def write_reproducer(function: Function, options: Options, error: Exception) -> Path:
    """A folder with the IR, its constants, the options, versions and the traceback."""
    import tempfile
    import traceback
    from pathlib import Path

    folder = Path(tempfile.mkdtemp(prefix=f"graphmill-{function.name}-"))
    (folder / "function.gir").write_text(print_function(function, locations=True), encoding="utf-8")
    arrays = {k: a for k, a in constants_of(function).items() if a.nbytes <= 1 << 20}
    save_constants(folder / "constants.npz", arrays)
    text = "".join(traceback.format_exception(error))
    generated = getattr(error, "text", "")
    if generated:
        (folder / "generated.mlir").write_text(generated, encoding="utf-8")
    (folder / "report.txt").write_text(f"{options}\n{_versions()}\n\n{text}", encoding="utf-8")
    return folder


def _versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = [f"python {platform.python_version()} on {platform.platform()}"]
    for package in ("graphmill", "numpy", "llvmlite", "torch-mlir", "mlir"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return "\n".join(found)
