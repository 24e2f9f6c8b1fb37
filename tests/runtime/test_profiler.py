"""The profiler: kernels named after the user's lines, rates, a trace that is plain JSON."""

import json

import numpy as np
import pytest

from graphmill.codegen.artifact import ArgSpec, Artifact, DimSpec, KernelInfo
from graphmill.runtime import profiler, profiling
from graphmill.runtime.dispatch import Dispatcher
from graphmill.runtime.executable import Executable
from tests.runtime.handwritten import add_artifact, artifact

# two kernels that only write their times: 1000..3000 and 3000..3500 ns
TIMED = """
define i32 @gm_timed(ptr %ctx, ptr %args, ptr %dims) {
entry:
  %pp = getelementptr ptr, ptr %ctx, i64 4
  %p = load ptr, ptr %pp
  %none = icmp eq ptr %p, null
  br i1 %none, label %done, label %write
write:
  store i64 1000, ptr %p
  %p1 = getelementptr i64, ptr %p, i64 1
  store i64 3000, ptr %p1
  %p2 = getelementptr i64, ptr %p, i64 2
  store i64 3000, ptr %p2
  %p3 = getelementptr i64, ptr %p, i64 3
  store i64 3500, ptr %p3
  br label %done
done:
  ret i32 0
}
define i64 @gm_timed_arena(ptr %dims, i64 %threads) { ret i64 0 }
"""


def timed(args=None):
    kernels = (KernelInfo("k0", "user.py:3", "2*n", "8*n", True), KernelInfo("k1", "user.py:9", 5))
    made = artifact(TIMED, "timed", (ArgSpec("x", "f32", ("n",)),), (ArgSpec("y", "f32", ("n",)),),
                    dims=(DimSpec("n"),), kernels=kernels,
                    profiled=profiling.active() is not None)  # fmt: skip
    return Executable(made)


def test_kernels_and_rates(tmp_path):
    dispatcher = Dispatcher(timed)
    x = np.zeros(500, np.float32)
    dispatcher(x)
    dispatcher(x)
    with profiler.profile(tmp_path / "trace.json") as profile:
        with profiling.stage("fuse", "user.py:1"):
            pass
        dispatcher(x)
        dispatcher(x)
    dispatcher(x)
    first, second = profile.rows()
    assert (first.location, first.name, first.calls) == ("user.py:3", "k0", 2)
    assert first.seconds == pytest.approx(4e-6)
    assert first.gbytes_per_second == pytest.approx(2.0)
    assert first.gflops == pytest.approx(0.5)
    assert (second.location, second.calls, second.gflops) == ("user.py:9", 2, pytest.approx(0.01))
    head, line, _ = profile.table().splitlines()
    assert head.split() == ["line", "calls", "ms", "%", "GB/s", "GFLOP/s", "kernels"]
    assert line.split() == ["user.py:3", "2", "0.004", "80.0", "2.00", "0.50", "k0"]
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    kernels = [e for e in events if e["cat"] == "kernel"]
    assert [e["name"] for e in kernels] == ["user.py:3", "user.py:3", "user.py:9", "user.py:9"]
    assert kernels[0]["ts"] == 1.0 and kernels[0]["dur"] == 2.0 and kernels[0]["ph"] == "X"
    assert {e["cat"] for e in events} == {"compile", "call", "kernel"}
    assert [e["name"] for e in events if e["cat"] == "compile"] == ["fuse"]
    assert len(dispatcher.executables) == 2


def test_unprofiled_code_is_recorded_as_a_call():
    executable = Executable(add_artifact((4,)))
    x = np.zeros(4, np.float32)
    with profiler.profile() as profile:
        executable.run(x, x)
    assert [i.category for i in profile.intervals] == ["call"]
    assert profile.table().splitlines() == ["line  calls  ms  %  GB/s  GFLOP/s  kernels"]


def test_one_profile_at_a_time_and_none_left_after_an_error():
    with pytest.raises(KeyError), profiler.profile():
        with pytest.raises(RuntimeError, match="already"), profiler.profile():
            pass
        raise KeyError
    assert profiling.active() is None
    with profiler.profile():
        assert profiling.active() is not None


def test_stage_costs_nothing_without_a_profile():
    with profiling.stage("x"):
        assert profiling.active() is None
    assert isinstance(timed().artifact, Artifact)
