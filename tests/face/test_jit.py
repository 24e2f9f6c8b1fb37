"""`gm.jit` as a user calls it."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.runtime.executable import Executable


def f32(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def test_plain_call_and_signatures():
    @gm.jit
    def f(x, y):
        return np.tanh(x) @ y

    for n in (1, 3, 8):
        x, y = f32(n, 4), f32(4, 5)
        for _ in range(3):  # the Python path, then the native one
            np.testing.assert_allclose(f(x, y), np.tanh(x) @ y, rtol=1e-4, atol=1e-6)
    assert len(f.executables) == 3


def test_structures_keywords_static_and_defaults():
    Pair = namedtuple("Pair", "a b")

    @dataclass(frozen=True)
    class State:
        w: np.ndarray
        steps: np.ndarray

    @gm.jit(static="power")
    def f(state, pair, *, scale=2.0, power=2):
        return {"w": State(state.w * scale, state.steps + 1), "p": [pair.a**power, (pair.b, None)]}

    x = f32(3)
    got = f(State(x, np.int64(0)), Pair(x, x + 1), scale=3.0, power=3)
    np.testing.assert_allclose(got["w"].w, x * 3, rtol=1e-6)
    np.testing.assert_allclose(got["p"][0], x**3, rtol=1e-5)
    assert got["p"][1][1] is None and got["w"].steps == 1
    np.testing.assert_allclose(f(State(x, np.int64(0)), Pair(x, x))["p"][0], x**2, rtol=1e-5)


def test_a_symbolic_dim_compiles_once():
    @gm.jit(dynamic={"x": ("batch", None)})
    def f(x):
        return np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=1)

    for n in range(50):
        x = f32(n, 7)
        np.testing.assert_allclose(f(x), f.function(x), rtol=1e-5)
    assert len(f.executables) == 1


@pytest.mark.parametrize("index", [2, -1, np.array([[0, 3], [1, -2]])], ids=str)
@pytest.mark.parametrize("dtype", ["?", "u1", "f2", "f4", "c16"])
def test_an_empty_array_is_not_read(index, dtype):
    def pick(x):
        return x[index]

    picked = gm.jit(pick, dynamic={"x": ("n",)})
    full = np.arange(1, 7).astype(dtype)
    np.testing.assert_array_equal(picked(full), full[index])
    # elements follow the empty array in memory: they must not come back
    np.testing.assert_array_equal(picked(full[:0]), np.zeros(np.shape(index), dtype))


def test_numpy_numbers_are_arrays_without_axes():
    @gm.jit
    def scaled(x, y):
        return x * y

    for x, y in [(np.float32(2), 3), (np.int8(2), np.float16(0.5)), (np.bool_(True), np.arange(3))]:
        for _ in range(4):
            got, want = scaled(x, y), np.multiply(x, y)
            assert got.dtype == want.dtype and np.array_equal(got, want)


def test_objects_a_function_is_bound_to_are_watched():
    class Model:
        bias = 1.0

        def __init__(self):
            self.weight = 2.0

        def apply(self, x):
            return x * self.weight + self.bias

        @gm.jit(static="self")
        def compiled(self, x):
            return self.apply(x)

    model = Model()
    for call in (gm.jit(model.apply), model.compiled):
        model.weight, Model.bias = 2.0, 1.0
        assert call(np.ones(2)).tolist() == [3.0, 3.0]
        model.weight = 5.0
        assert call(np.ones(2)).tolist() == [6.0, 6.0]
        Model.bias = 0.5
        assert call(np.ones(2)).tolist() == [5.5, 5.5]


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[::2],
        lambda x: x[:, ::-1],
        lambda x: x[1:-1, 2:5],
        lambda x: np.broadcast_to(x[0], x.shape),
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(">f4"),
    ],
)
def test_strided_and_foreign_input(view):
    @gm.jit
    def f(x):
        return (x * 2 + 1).sum(axis=1), x @ np.ones((x.shape[1], 3), np.float32)

    x = view(f32(6, 8))
    for got, want in zip(f(x), f.function(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


MASKED = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[0, 1], [0, 0]])
MATRIX = np.ones((2, 2)).view(np.matrix)
UNITS = np.ones((2, 2)).view(
    type("Units", (np.ndarray,), {"__array_ufunc__": lambda self, *args, **options: "3 m²"})
)
RECORDS = np.rec.array([(1, 2.0)], dtype=[("a", int), ("b", float)])


@pytest.mark.parametrize(
    "array", [MASKED, MATRIX, RECORDS, UNITS], ids=["masked", "matrix", "records", "units"]
)
def test_arrays_with_a_meaning_of_their_own_are_refused(array):
    square = gm.jit(lambda x: x * x)
    for _ in range(3):  # the last by the native path
        square(np.ones((2, 2)))
    for _ in range(2):
        with pytest.raises(TypeError, match=r"masked|matrix|records|Units has arithmetic"):
            square(array)
    with pytest.raises(gm.GraphmillError, match=r"GM0(40|19)"):
        gm.jit(lambda x: x * array)(np.ones((2, 2)))
    plain = np.ones(3).view(type("Sub", (np.ndarray,), {}))
    np.testing.assert_array_equal(square(plain), np.ones(3))


def test_names_of_other_alphabets(tmp_path):
    space = {}
    exec("def größer(größe, 値=1.0):\n    ñ = größe + 値\n    return ñ * 2", space)
    np.testing.assert_array_equal(gm.jit(space["größer"])(np.ones(3)), [4, 4, 4])
    built = gm.build(space["größer"], ["f64[größe]"], tmp_path / "libgrößer.so")
    np.testing.assert_array_equal(gm.load(built.path).größer(np.ones(3)), [4, 4, 4])
    with pytest.raises(TypeError, match="a spec for each argument"):
        gm.build(space["größer"], "f64[3]", tmp_path / "libx.so")


def test_nested_and_recursive_structure():
    @gm.jit
    def inner(x):
        return np.sin(x)

    @gm.jit
    def outer(x):
        return inner(x) + inner(x * 2)

    x = f32(5)
    np.testing.assert_allclose(outer(x), np.sin(x) + np.sin(2 * x), rtol=1e-5, atol=1e-6)


def test_nested_without_traced_arguments():
    @gm.jit
    def outer(x):
        @gm.jit
        def inner(scale):
            return x * scale

        return inner(2.0)

    np.testing.assert_array_equal(outer(f32(4)), f32(4) * 2)


def test_concurrent_first_calls_compile_once():
    @gm.jit
    def f(x):
        return np.exp(x) * 2

    x, results = f32(100), []
    threads = [threading.Thread(target=lambda: results.append(f(x))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and len(f.executables) == 1
    for got in results:
        np.testing.assert_allclose(got, np.exp(x) * 2, rtol=1e-5)


def test_stages():
    @gm.jit
    def f(x):
        return np.maximum(x @ x.T, 0).sum()

    x = f32(4, 3)
    graph = f.trace(x)
    graph.verify()
    np.testing.assert_allclose(graph.interpret(x)[0], f.function(x), rtol=1e-5)
    assert graph.to_networkx().number_of_nodes() > 3
    lowered = f.lower(x)
    assert "dot_general" in lowered.ir("trace") and "buffers" in lowered.ir()
    assert "llvm.func" in lowered.mlir() and "define" in lowered.llvm() and "ret" in lowered.asm()
    executable = f.compile("f32[4, 3]")
    np.testing.assert_allclose(executable.run(x)[0], f.function(x), rtol=1e-5)
    assert executable.cost().flops > 2 * 4 * 4 * 3 and "peak" in executable.memory()


def test_checks_report_the_line():
    @gm.jit(check="bounds,nan")
    def f(x, i):
        y = x[i]
        return np.log(y)

    x = np.arange(10, dtype=np.float32) + 1
    np.testing.assert_allclose(f(x, np.array([1, -1])), np.log(x[[1, -1]]), rtol=1e-6)
    with pytest.raises(IndexError, match=r"index 13 into an axis of 10[\s\S]*y = x\[i\]"):
        f(x, np.array([1, 13, 2]))
    with pytest.raises(FloatingPointError, match=r"element 1 [\s\S]*np\.log\(y\)"):
        f(x * np.float32([1, -1] * 5), np.array([0, 1, 2]))


CHOICES = [np.max, np.min, np.argmax, np.argmin, np.ptp, lambda x: np.max(x, 0),
           lambda x: np.argmin(x, 0), lambda x: np.max(x[1:]), lambda x: x.max((0, 1))]  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_among_nothing_is_an_error(choice):
    """Not an index outside the array, nor -inf; and later calls, on the native path, alike."""

    @gm.jit(dynamic={"x": ("n", None)})
    def f(x):
        return choice(x * 2)

    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    for _ in range(4):
        np.testing.assert_array_equal(f(x), choice(x * 2))
        with pytest.raises(ValueError, match=r"GM062[\s\S]*test_jit\.py\", line"):
            f(x[:0])


@pytest.mark.parametrize(
    "harmless",
    [lambda x: np.max(x, 1), lambda x: x.argmax(1), lambda x: np.max(x, initial=3), gm.nn.softmax,
     lambda x: gm.nn.softmax(x, 0), lambda x: gm.nn.logsumexp(x, 0)],
)  # fmt: skip
def test_an_empty_axis_that_nothing_is_chosen_from(harmless):
    f = gm.jit(lambda x: harmless(x), dynamic={"x": ("n", None)})
    empty = np.ones((0, 3), np.float32)
    got = f(empty)
    assert got.size == 0 or np.all((got == 3) | (got == -np.inf))
    assert "require" not in f.trace(empty).function.name + str(f.trace(empty))


def test_a_branch_that_is_not_taken_may_choose_among_nothing():
    @gm.jit(dynamic={"x": ("n",)})
    def f(x, go):
        return gm.cond(go, lambda x: np.max(x), lambda x: x.sum(), x)

    empty = np.ones(0)
    assert f(empty, False) == 0 and f(np.ones(2), True) == 1
    with pytest.raises(ValueError, match="GM062"):
        f(empty, True)


def test_a_choice_that_nobody_reads_is_made_all_the_same():
    """Loops and branches that have no results left."""

    @gm.jit(dynamic={"x": ("n",)})
    def f(x, go):
        def chosen():
            return gm.cond(go, x.max, x.min)

        gm.fori_loop(0, x.shape[0] + 1, lambda i, largest: chosen(), 0.0)
        gm.cond(go, x.max, x.sum)
        return x + 1

    with gm.knobs.scope(cache=False):
        assert f(np.ones(2), True).tolist() == [2, 2]
        with pytest.raises(ValueError, match="GM062"):
            f(np.ones(0), False)


def test_wrong_options():
    with pytest.raises(gm.GraphmillError, match="GM025"):
        gm.jit(lambda x: x, check="speed")
    with pytest.raises(gm.GraphmillError, match="GM044"):
        gm.jit(lambda x: x, static="y")
    f = gm.jit(lambda x, s: x, static="s")
    with pytest.raises(gm.GraphmillError, match="GM042"):
        f(np.ones(3), [1])


def test_compiler_failure_leaves_a_reproducer(monkeypatch):
    from graphmill.codegen.cpu import mlir

    def broken(text, *args):
        raise mlir.LoweringError("broken", text)

    monkeypatch.setattr(mlir, "lower", broken)
    monkeypatch.setenv("GRAPHMILL_CACHE", "0")
    f = gm.jit(lambda x: x * 3 + 7.25)
    with pytest.raises(gm.InternalError) as caught:
        f(f32(3))
    folder = caught.value.reproducer
    assert "mul" in (folder / "function.gir").read_text()
    assert (folder / "generated.mlir").exists() and (folder / "report.txt").exists()


SCRIPT = """
    import os
    import numpy as np
    import graphmill as gm
    import part

    @gm.jit
    def f(x):
        return part.g(x) + part.CONSTANT

    print(f(np.ones(3, np.float32)).tolist())
"""


def run_script(folder, **env):
    return subprocess.run(
        [sys.executable, "-W", "error", "main.py"], cwd=folder, env=os.environ | env,
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


def test_edits_are_never_missed_by_the_disk_cache(tmp_path):
    (tmp_path / "main.py").write_text(textwrap.dedent(SCRIPT))
    env = {"GRAPHMILL_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    part = tmp_path / "part.py"
    part.write_text("CONSTANT = 1.0\ndef g(x):\n    return x * 2\n")
    assert run_script(tmp_path, **env) == "[3.0, 3.0, 3.0]"
    assert run_script(tmp_path, **env) == "[3.0, 3.0, 3.0]"
    part.write_text("CONSTANT = 1.0\ndef g(x):\n    return x * 5\n")
    assert run_script(tmp_path, **env) == "[6.0, 6.0, 6.0]"
    part.write_text("CONSTANT = 4.0\ndef g(x):\n    return x * 5\n")
    assert run_script(tmp_path, **env) == "[9.0, 9.0, 9.0]"


def test_jit_works_with_an_empty_path(tmp_path):
    (tmp_path / "main.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "part.py").write_text("CONSTANT = 1.0\ndef g(x):\n    return np.exp(x) @ x\n"
                                      "import numpy as np\n")  # fmt: skip
    out = run_script(tmp_path, PATH="", GRAPHMILL_CACHE="0")
    assert out.startswith("9.15")


THREADS = """
    import os
    import numpy as np
    import graphmill as gm

    def count():
        return len(os.listdir("/proc/self/task"))

    before = count()
    f = gm.jit(lambda x: np.exp(x) * 2 + x)
    f(np.ones(1 << 22, np.float32))
    print(count() - before)
"""


@pytest.mark.parametrize("wanted", [1, 3])
def test_the_process_has_the_threads_asked_for(tmp_path, wanted):
    (tmp_path / "main.py").write_text(textwrap.dedent(THREADS))
    out = run_script(tmp_path, GRAPHMILL_NUM_THREADS=str(wanted), OPENBLAS_NUM_THREADS="1")
    assert int(out) == wanted - 1


def test_identical_kernels_compile_once():
    @gm.jit
    def f(x, w):
        for _ in range(6):
            x = np.maximum(x @ w, 0)
        return x

    text = f.lower(f32(8, 16), f32(16, 16)).mlir()
    made = {line.split("@")[1].split("(")[0] for line in text.splitlines() if "llvm.func" in line}
    assert {name.split("_k")[1][0] for name in made if "_k" in name} == {"0"}, made


def test_profiled_code_runs_when_no_profile_is_recorded():
    x = f32(1000)
    function = gm.jit(lambda x: np.exp(x).sum()).trace(x).function
    executable = Executable(driver.compile_function(function, driver.Options(profiled=True)))
    np.testing.assert_allclose(executable.run(x)[0], np.exp(x).sum(), rtol=1e-5)


def test_profile_has_every_kernel_and_line(tmp_path):
    @gm.jit
    def f(x, w):
        h = np.tanh(x @ w)
        return h * h.sum(axis=0)

    x, w = f32(8, 16), f32(16, 4)
    with gm.profile(tmp_path / "trace.json") as profile:
        f(x, w)
    lines = {row.location.split(":")[-1] for row in profile.rows()}
    first = f.function.__code__.co_firstlineno
    assert lines == {str(first + 2), str(first + 3)}
    assert "dot_general" in (tmp_path / "trace.json").read_text()


def test_a_dump_block_leaves_the_environment_in_charge(tmp_path, monkeypatch):
    with gm.dump(tmp_path / "one"):
        pass
    monkeypatch.setenv("GRAPHMILL_DUMP", str(tmp_path / "two"))
    assert gm.knobs.dump() == tmp_path / "two"


def test_static_arguments_by_name_behind_any_number_of_others():
    f = gm.jit(lambda a, *rest, k: a * k + sum(rest), static="k")
    x = np.arange(3.0)
    assert np.array_equal(f(x, x, 2 * x, k=3), 6 * x)
    assert np.array_equal(f(x, k=2), 2 * x)
    with pytest.raises(gm.GraphmillError, match="GM044"):
        gm.jit(lambda k, *rest: rest[0] * k, static="k")


@gm.jit
def doubled(x):
    return x * 2


def times(x, n):
    return x * n


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_jitted_functions_go_to_other_processes(copied):
    assert copied(doubled) is doubled
    options = {"static": "n", "threads": 1, "check": "nan", "dynamic": {"x": ("n",)}}
    again = copied(gm.jit(times, **options))
    assert again.static == ("n",) and again.threads == 1 and again.dynamic == {"x": ("n",)}
    assert again.options.check == ("nan",)
    np.testing.assert_array_equal(again(f32(3), 4), f32(3) * 4)


def test_functions_that_no_name_leads_to_are_not_pickled():
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(gm.jit(lambda x: x))
