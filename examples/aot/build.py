"""A two-layer network as a shared library for C and C++: `python examples/aot/build.py`.

Writes `libmlp.so`, its header and what stands beside them to `build/aot`, then compiles and runs
mlp.c and mlp.cpp where there is a compiler.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import numpy as np

import graphmill as gm

HERE = Path(__file__).resolve().parent

random = np.random.default_rng(0)
w1 = random.standard_normal((64, 32), np.float32) / 8
b1 = np.zeros(32, np.float32)
w2 = random.standard_normal((32, 10), np.float32) / 6
b2 = np.full(10, 0.1, np.float32)


def mlp(x):
    """Class probabilities of each row."""
    h = np.maximum(x @ w1 + b1, 0)
    z = h @ w2 + b2
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "build" / "aot")
    parser.add_argument("--target", default="native")
    options = parser.parse_args()
    out = options.out.resolve()

    built = gm.build(mlp, [gm.spec("f32[batch, 64]")], out / "libmlp.so", target=options.target)
    size = (built.bytes - built.weight_bytes) / 1024
    print(f"{built.path.name}: {size:.0f} KiB and weights, linked in {built.link_seconds:.2f} s")
    if options.target != "native":
        return
    x = random.standard_normal((5, 64), np.float32)
    assert np.allclose(gm.load(built.path).mlp(x), mlp(x), rtol=1e-4, atol=1e-6)

    for source, compiler in (("mlp.c", ["cc", "-std=c99"]), ("mlp.cpp", ["c++", "-std=c++17"])):
        if not shutil.which(compiler[0]):
            print(f"{source}: skipped, there is no {compiler[0]} here")
            continue
        program = out / source.replace(".", "_")
        where = [f"-I{out}", f"-L{out}", "-lmlp", f"-Wl,-rpath,{out}", "-pthread"]
        subprocess.run([*compiler, HERE / source, *where, "-lm", "-o", program], check=True)
        said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
        print(f"{source}:", *said.splitlines(), sep="\n  ")


if __name__ == "__main__":
    main()
