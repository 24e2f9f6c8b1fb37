"""Handwritten digits, the whole way: NumPy code, compiled, inspected, built as a C library.

`predict` is plain NumPy. The program compiles it, checks it against plain NumPy on held-out images,
compares their speed, writes every compile stage as a file, builds a shared object and runs a C
program on the same images. What it writes goes to build/digits/.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from train import WEIGHTS, load

import graphmill as gm

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

Array = np.ndarray[Any, np.dtype[Any]]

with np.load(WEIGHTS, allow_pickle=False) as file:
    W1, B1, W2, B2 = (file[name] for name in ("w1", "b1", "w2", "b2"))


@gm.jit(dynamic={"images": ("batch", None)})
def predict(images: Array) -> tuple[Array, Array]:
    """The digit in each image and the probability of each digit; images f32[batch, 64]."""
    hidden = np.maximum(images @ W1 + B1, 0)
    scores = hidden @ W2 + B2
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    return probabilities.argmax(axis=1), probabilities


plain = predict.__wrapped__


def check(images: Array, labels: Array) -> Array:
    """Compare compiled and plain NumPy; the compiled program's answers."""
    start = time.perf_counter()
    digits, probabilities = predict(images)
    first = time.perf_counter() - start
    expected_digits, expected = plain(images)
    right = int((digits == labels).sum())
    print(f"accuracy   {right} of {len(labels)} held-out images right ({right / len(labels):.1%})")
    error = float(np.abs(probabilities - expected).max())
    same = int((digits == expected_digits).sum())
    print(f"agreement  {same} of {len(labels)} answers as plain NumPy, error {error:.1e}")
    if same != len(labels) or error > 1e-5:
        sys.exit("the compiled program does not agree with NumPy")
    print(f"compile    {first:.2f} s with the first call; one compile for every batch size")
    return np.asarray(digits)


def seconds_per_call(function: Callable[[Array], Any], images: Array, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function(images)
    return (time.perf_counter() - start) / calls


def race(images: Array) -> None:
    """Compiled beside plain NumPy, taking turns, the best of each."""
    for batch in (1, 32, len(images)):
        some, calls = images[:batch], max(10, 2000 // batch)
        turns = [
            (seconds_per_call(predict, some, calls), seconds_per_call(plain, some, calls))
            for _ in range(7)
        ]
        ours, theirs = min(t for t, _ in turns), min(t for _, t in turns)
        print(
            f"speed      batch {batch:3}: {ours * 1e6:7.1f} µs, NumPy {theirs * 1e6:7.1f} µs: "
            f"{theirs / ours:.1f} times as fast"
        )


def inspect(images: Array, out: Path) -> None:
    """Every stage of the compilation as a numbered file, and a report to open in a browser."""
    folder = out / "dump"
    shutil.rmtree(folder, ignore_errors=True)
    with gm.dump(folder):
        predict.lower(images).compile()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    report = next((path for path in files if path.name == "report.html"), folder)
    print(f"dumps      {len(files)} files; open {shown(report)}")


def library(images: Array, digits: Array, out: Path) -> None:
    """Build libdigits.so, compile main.c against it, and compare its answers with ours."""
    path = out / "libdigits.so"
    gm.build(predict, [gm.spec("f32[batch, 64]")], path)
    print(f"library    {shown(path)}, {path.stat().st_size / 1024:.0f} KiB with its weights")
    cc = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if cc is None:
        print("C program  skipped: no C compiler here")
        return
    program = out / "digits"
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{out}"]
    link = [f"-L{out}", "-ldigits", f"-Wl,-rpath,{out}", "-o", str(program)]
    subprocess.run([cc, *flags, str(HERE / "main.c"), *link], check=True)
    images.astype("<f4").tofile(out / "images.f32")
    run = [str(program), str(out / "images.f32")]
    answers = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    if [int(answer) for answer in answers] != digits.tolist():
        sys.exit("the C program gives other answers")
    print(f"C program  {shown(program)} classifies {len(answers)} images with the same answers")


def shown(path: Path) -> Path:
    """The path as seen from the project's folder, where it is below that."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-race", action="store_true", help="leave out the timings")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "digits")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    _, _, images, labels = load()
    digits = check(images, labels)
    if not options.no_race:
        race(images)
    inspect(images, out)
    library(images, digits, out)


if __name__ == "__main__":
    main()
