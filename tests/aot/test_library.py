"""A built library from Python: values, dims, threads, errors, and what it needs to run."""

import os
import threading

import numpy as np
import pytest

from graphmill.codegen.aot import elf, link
from graphmill.codegen.aot.elf import DYNSYM, Elf
from graphmill.codegen.aot.library import build_library, library_name
from graphmill.codegen.aot.signature import BuildError
from graphmill.codegen.artifact import ArgSpec, Artifact, DimSpec
from graphmill.codegen.cpu.target import target
from graphmill.runtime.library import LibraryError, load
from tests.aot import kernels
from tests.aot.conftest import LINKERS


def expected(demo, x):
    return np.tanh(x @ demo.w + demo.bias)


def rows(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 6), np.float32)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 64, 1000])
def test_values_for_any_batch(demo, n, threads):
    demo.lib.set_threads(threads)
    assert demo.lib.threads == threads
    out = demo.lib.dense(rows(n))
    demo.lib.set_threads(1)
    assert out.shape == (n, 5) and out.dtype == np.float32
    np.testing.assert_allclose(out, expected(demo, rows(n)), rtol=1e-4, atol=1e-5)


def test_threads_start_on_demand_and_end(demo):
    def count():
        return len(os.listdir("/proc/self/task"))

    many = rows(1 << 16)  # worth starting threads for
    before = count()
    demo.lib.dense(many)
    assert count() == before
    demo.lib.set_threads(4)
    demo.lib.dense(many)
    assert count() == before + 3
    demo.lib.set_threads(1)
    assert count() == before


STRIDED = (
    np.arange(12.0), np.arange(12.0)[::-1], np.arange(30.0)[::-7], np.zeros(0),
    np.ones((4, 3))[:, 1], np.broadcast_to(2.5, (9,)),
)  # fmt: skip


@pytest.mark.parametrize("case", range(len(STRIDED)))
def test_strided_inputs(demo, case):
    x = STRIDED[case]
    np.testing.assert_array_equal(demo.lib.copy(x), x)


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda f: f.dense(), TypeError, "takes 1 arguments, got 0"),
        (lambda f: f.dense(rows(3).astype("f8")), TypeError, r"f64\[3, 6\].*wants f32\[batch, 6\]"),
        (lambda f: f.dense(rows(3)[:, :5]), ValueError, r"f32\[3, 5\].*wants f32\[batch, 6\]"),
        (lambda f: f.dense(rows(3)[0]), ValueError, r"f32\[6\]"),
        (lambda f: f.dense("text"), TypeError, "argument 0"),
        (lambda f: f.copy(np.zeros(1001)), ValueError, "n is 1001, it must be .* at most 1000"),
        (lambda f: f.pick(np.zeros(10, "f4"), 1.5), TypeError, "wants i64"),
        (
            lambda f: f.pick(np.zeros(10, "f4"), 13),
            LibraryError,
            "at user.py:7: index 13 is out of bounds for size 10",
        ),
        (lambda f: f.absent, AttributeError, "it has dense, copy, pick"),
        (lambda f: f.set_threads(0), ValueError, "between 1 and 4096"),
        (lambda f: f.set_threads(1 << 40), ValueError, "between 1 and 4096"),
    ],
)
def test_errors(demo, call, kind, message):
    with pytest.raises(kind, match=message):
        call(demo.lib)


def test_scalars_and_zero_rank(demo):
    table = np.arange(10, dtype=np.float32)
    assert demo.lib.pick(table, 7) == 7 and demo.lib.pick(table, np.int64(3)).shape == ()


def test_metadata(demo):
    facts = demo.lib.metadata
    assert facts["library"] == "demo" and facts["version"] == demo.lib.version == "2.3.4"
    assert facts["options"] == {"threads": 2}
    first = facts["functions"][0]
    assert first["symbol"] == "demo_dense" and first["inputs"][0]["shape"] == ["batch", 6]
    assert facts["weights"] == {
        "bytes": 192,
        "checksum": facts["weights"]["checksum"],
        "file": None,
    }
    assert "dense(f32[batch, 6]) -> (f32[batch, 5])" in repr(demo.lib)
    assert {"dense", "copy", "pick"} <= set(dir(demo.lib))


def test_only_libc_libm_libpthread(demo):
    linked = Elf(demo.built.path.read_bytes())
    needed = {name.split(".")[0] for name in linked.needed()}
    assert needed <= {"libc", "libm", "libpthread"} and "libc" in needed
    assert linked.soname() == "libdemo.so"
    missing = elf.undefined(linked, DYNSYM)
    assert "tanhf" in missing and "pthread_create" in missing
    assert all(link.allowed(name) for name in missing)


def test_exports_the_public_names_alone(demo):
    control = "version metadata ready set_threads threads last_error load_weights release_memory"
    names = {f"gml_demo_{name}" for name in control.split()}
    public = elf.exported(Elf(demo.built.path.read_bytes()))
    assert public == names | {"demo_dense", "demo_copy", "demo_pick"}


def test_size_beyond_weights(demo):
    assert demo.built.bytes - demo.built.weight_bytes < 40_000


def test_concurrent_calls_and_messages(demo):
    wrong = []

    def work(seed):
        x, size = rows(50, seed), 1000 + seed + 1
        for _ in range(30):
            out = demo.lib.dense(x)
            if not np.allclose(out, expected(demo, x), rtol=1e-4, atol=1e-5):
                wrong.append(seed)
            try:
                demo.lib.copy(np.zeros(size))
            except ValueError as error:
                if f"n is {size}," not in str(error):
                    wrong.append(str(error))

    demo.lib.set_threads(2)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    demo.lib.set_threads(1)
    demo.lib.release_memory()
    assert not wrong


def test_survives_fork(demo):
    demo.lib.set_threads(2)
    demo.lib.dense(rows(64))
    child = os.fork()
    if child == 0:
        good = np.allclose(demo.lib.dense(rows(64)), expected(demo, rows(64)), 1e-4, 1e-5)
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    demo.lib.set_threads(1)


# ---- building


@pytest.mark.parametrize(
    "name, library", [("libf.so", "f"), ("digits.so", "digits"), ("lib3-d.so", "a_3_d")]
)
def test_library_names(name, library, tmp_path):
    assert library_name(tmp_path / name) == library


@pytest.mark.parametrize("name", ["libf.a", "lib.so", "f", "f.dll"])
def test_refused_library_names(name, tmp_path):
    with pytest.raises(BuildError, match="is called lib"):
        library_name(tmp_path / name)


def test_equal_weights_are_stored_once(tmp_path):
    parts = [kernels.dense("one", seed=3)[0], kernels.dense("two", seed=3)[0]]
    built = build_library(parts, tmp_path / "libtwo.so", target=target(), prefix="my_")
    assert built.functions == ("my_one", "my_two") and built.weight_bytes == 192
    lib = load(built.path)
    np.testing.assert_array_equal(lib.one(rows(3)), lib.two(rows(3)))


def test_a_function_named_like_its_library(tmp_path):
    built = build_library([kernels.copy("mlp")], tmp_path / "libmlp.so", target=target())
    assert built.functions == ("mlp",)


def test_two_functions_of_one_name(tmp_path):
    with pytest.raises(BuildError, match="two functions"):
        build_library([kernels.copy("f"), kernels.copy("f")], tmp_path / "libx.so", target=target())


@pytest.mark.parametrize(
    "function, file, prefix, why",
    [
        ("exp", "libexp.so", None, "exp is a function of the C library"),
        ("sinf", "libx.so", "", "sinf is a function of the C library"),
        ("f", "libx.so", "gml_x_", "are Graphmill's own"),
        ("f", "libm.so", None, "libm.so is a library of the system"),
    ],
)
def test_names_that_are_taken(function, file, prefix, why, tmp_path):
    with pytest.raises(BuildError, match=why):
        build_library([kernels.copy(function)], tmp_path / file, target=target(), prefix=prefix)


def test_artifacts_of_another_target(tmp_path):
    part = kernels.copy(target="x86-64-v3")
    with pytest.raises(BuildError, match=r"copy was compiled for x86-64-v3, .* for native"):
        build_library([part], tmp_path / "libx.so")


def test_names_that_c_cannot_spell(tmp_path):
    made = kernels.copy()
    spec = ArgSpec("params['double']", "f64", ("n",), strided=True)
    odd = Artifact("for", made.entry, made.target, made.object, (spec,),
                   (ArgSpec("n", "f64", ("n",)),), dims=(DimSpec("n"),))  # fmt: skip
    built = build_library([odd], tmp_path / "libodd.so", target=target())
    text = built.header.read_text()
    assert "odd_a_for(const double *params_double, double *n_2, int64_t n, " in text
    np.testing.assert_array_equal(getattr(load(built.path), "for")(np.arange(3.0)), np.arange(3.0))


@pytest.mark.parametrize("linker", LINKERS)
def test_foreign_symbols_are_refused(linker, tmp_path):
    made = kernels.copy()
    code = kernels.compiled("declare i32 @puts(ptr)\n" + kernels.COPY.replace(
        "entry:\n", "entry:\n  %r = call i32 @puts(ptr %args)\n", 1), name="copy")  # fmt: skip
    bad = Artifact("copy", made.entry, made.target, code, made.inputs, made.outputs, made.dims)
    with pytest.raises(BuildError, match="puts"):
        build_library([bad], tmp_path / "libbad.so", target=target(), linker=linker)
    assert not list(tmp_path.iterdir())


def test_rebuilding_leaves_a_loaded_library_alone(tmp_path):
    first = build_library([kernels.dense(seed=1)[0]], tmp_path / "libd.so", target=target())
    old = load(first.path)
    before = old.dense(rows(2))
    build_library([kernels.dense(seed=2)[0]], tmp_path / "libd.so", target=target())
    np.testing.assert_array_equal(old.dense(rows(2)), before)
    assert not np.allclose(load(first.path).dense(rows(2)), before)


def test_equal_builds_give_equal_files(tmp_path):
    # several times: the first differed from the later ones, but not from all
    part = kernels.dense()[0]
    paths = [tmp_path / name / "libd.so" for name in "abcdef"]
    for path in paths:
        build_library([part], path, companion_files=False)
    assert len({path.read_bytes() for path in paths}) == 1
