"""From plain NumPy functions to libraries, through the whole compiler."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu.target import target
from tests.aot.asking import foreign_program
from tests.aot.conftest import needs_cc, needs_cxx, needs_lld, run
from tests.aot.test_c import EXAMPLES, STRICT
from tests.aot.test_targets import emulator, needs_qemu

random = np.random.default_rng(0)
W1 = random.standard_normal((784, 128), np.float32) / 28
B1 = random.standard_normal(128, np.float32)
W2 = random.standard_normal((128, 10), np.float32) / 11
B2 = random.standard_normal(10, np.float32)


def mlp(x):
    h = np.maximum(x @ W1 + B1, 0)
    return h @ W2 + B2


def moments(x):
    return x.mean(axis=1), x.var(axis=1)


def shift(x, by):
    return x[1:] - x[:-1] + by


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    functions = {
        "mlp": (mlp, [gm.spec("f32[batch, 784]")]),
        "moments": (moments, [gm.spec("f64[n, 3]")]),
        "shift": (shift, [gm.spec("f32[n, 4]"), gm.spec("f32[]")]),
    }
    return gm.build(functions, path=tmp_path_factory.mktemp("built") / "libmany.so")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [0, 1, 2, 31, 300])
def test_a_network_for_any_batch(built, n, threads):
    lib = gm.load(built.path)
    lib.set_threads(threads)
    x = np.random.default_rng(n).standard_normal((n, 784), np.float32)
    np.testing.assert_allclose(lib.mlp(x), mlp(x), rtol=1e-4, atol=1e-4)
    lib.set_threads(1)


def test_several_functions(built):
    lib = gm.load(built.path)
    x = np.random.default_rng(1).standard_normal((9, 3))
    for got, wanted in zip(lib.moments(x), moments(x), strict=True):
        np.testing.assert_allclose(got, wanted)
    y = np.random.default_rng(2).standard_normal((7, 4), np.float32)
    np.testing.assert_allclose(lib.shift(y, 2.5), shift(y, np.float32(2.5)), rtol=1e-6)


@pytest.mark.skipif(not shutil.which("nm"), reason="no nm (package binutils)")
def test_nm_finds_libc_and_libm_alone(built):
    """The promise, by the tool that users check it with: all names are libc's or libm's."""
    offered = set()
    for line in run("ldd", built.path).splitlines():
        words = line.split()
        if "=>" in words and words[0].startswith(("libc.", "libm.", "libpthread.")):
            names = run("nm", "-D", "--defined-only", words[2]).splitlines()
            offered |= {name.split()[-1].split("@")[0] for name in names}
    asked = {line.split()[-1].split("@")[0] for line in run("nm", "-Du", built.path).splitlines()}
    assert asked and asked <= offered


def test_a_two_layer_network_is_small(tmp_path):
    made = gm.build(mlp, [gm.spec("f32[batch, 784]")], tmp_path / "libmlp.so")
    assert made.weight_bytes >= W1.nbytes + W2.nbytes
    assert made.bytes - made.weight_bytes < 100_000


def test_checks_name_the_line(tmp_path):
    def pick(x, i):
        return x[i]

    def root(x):
        return np.sqrt(x)

    def best(x):
        return np.argmax(x)

    functions = {
        "best": (best, [gm.spec("f32[n]")]),
        "pick": (gm.jit(pick, check="bounds"), [gm.spec("f32[10]"), gm.spec("i64[k]")]),
        "root": (gm.jit(root, check="nan"), [gm.spec("f32[n]")]),
    }
    lib = gm.load(gm.build(functions, path=tmp_path / "libchecked.so").path)
    x = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(lib.pick(x, np.array([3, -1])), x[[3, -1]])
    with pytest.raises(RuntimeError, match=r"test_build\.py:\d+: index 13 is out of bounds"):
        lib.pick(x, np.array([1, 13]))
    np.testing.assert_allclose(lib.root(x), np.sqrt(x))
    with pytest.raises(RuntimeError, match=r"\.py:\d+: a value is NaN or infinite \(element 3\)"):
        lib.root(3 - np.arange(5, dtype=np.float32) * 1.1)
    assert lib.best(x) == 9
    with pytest.raises(RuntimeError, match=r"test_build\.py:\d+: a choice among no elements"):
        lib.best(x[:0])


@needs_lld
@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_every_target_links(name, tmp_path):
    made = gm.build(mlp, [gm.spec("f32[batch, 784]")], tmp_path / "libmlp.so", target=name,
                    linker="lld")  # fmt: skip
    assert made.bytes - made.weight_bytes < 100_000


@needs_lld
@pytest.mark.skipif(not shutil.which("nm"), reason="no nm (package binutils)")
@pytest.mark.parametrize("name", ["x86-64-v2", "aarch64"])
def test_runs_on_every_glibc_since_2_17(name, tmp_path):
    """Linked by the wheel's linker, a library asks for the oldest version of every symbol."""
    made = gm.build(mlp, [gm.spec("f32[batch, 784]")], tmp_path / "libmlp.so", target=name,
                    linker="lld")  # fmt: skip
    versions = re.findall(r"@GLIBC_([\d.]+)", run("nm", "-Du", made.path))
    assert versions and all(tuple(map(int, v.split("."))) <= (2, 17) for v in versions)


@needs_lld
@needs_qemu
def test_a_network_on_aarch64(tmp_path):
    def dense(x):
        return np.tanh(x @ W2[:6, :5] + B2[:5])

    made = gm.build(dense, [gm.spec("f32[batch, 6]")], tmp_path / "libd.so", target="aarch64")
    command = emulator()
    program = foreign_program(made, "d", target("aarch64"), command[-1], tmp_path)
    numbers, _, message = run(*command, program).rpartition(" d_dense")
    x = np.arange(12, dtype=np.float32).reshape(2, 6) / 8
    np.testing.assert_allclose(np.array(numbers.split(), float), dense(x).ravel(), rtol=1e-4)
    assert message == ": x is NULL\n"


@needs_cc
@needs_cxx
def test_the_example(tmp_path):
    script = [sys.executable, "-W", "error", EXAMPLES / "build.py", "--out", tmp_path]
    said = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    assert "mlp: x is NULL" in said and "sum of 1000 rows: 1000.000" in said
    assert "4 threads, largest difference 0" in said
    run("cc", "-std=c99", *STRICT, "-fsyntax-only", f"-I{tmp_path}", tmp_path / "mlp_main.c")


def test_names_results_and_options(tmp_path):
    made = gm.build(gm.jit(lambda x: {"twice": x * 2, "both": (x + 1, x.sum())}),
                    [gm.spec("f32[n]")], tmp_path / "libodd.so", version="0.9")  # fmt: skip
    lib = gm.load(made.path)
    (function,) = lib.functions.values()
    names = ["out['both'][0]", "out['both'][1]", "out['twice']"]
    assert [spec.name for spec in function.outputs] == names
    assert "float *out_both_0, float *out_both_1, float *out_twice" in made.header.read_text()
    more, total, twice = function(np.arange(4, dtype=np.float32))
    assert (twice.tolist(), more.tolist(), total) == ([0, 2, 4, 6], [1, 2, 3, 4], 6)
    assert lib.version == "0.9" and "fuse" in str(lib.metadata["options"])


def test_the_page_in_the_docs_runs(tmp_path):
    page = (EXAMPLES.parents[1] / "docs" / "ahead_of_time.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    names = {path.name for path in (tmp_path / "build").iterdir()}
    assert {"libscores.so", "scores.h", "scores.o", "scores.pc", "scores_main.c"} <= names
    header = (tmp_path / "build" / "model.h").read_text()
    assert "int32_t model_scores(" in header and "int32_t model_best(" in header
