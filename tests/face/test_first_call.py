"""The first call of a small function loads and compiles what it needs, and nothing else."""

import json
import subprocess
import sys
import textwrap

import pytest

# what a chain of elementwise ops has no use for
UNUSED = {
    "dumping", "failure", "donation", "pickling", "runtime.fastcall", "runtime.profiler",
    "runtime.shelf", "runtime.contents", "frontend.adoption", "frontend.multiples",
    "ir.ops.contract", "ir.ops.indexing", "ir.ops.blocked", "passes.products", "passes.roll",
    "passes.iterate", "codegen.cpu.contraction", "codegen.cpu.interleave",
    "codegen.cpu.reals", "codegen.cpu.integers", "codegen.cpu.pool", "codegen.cpu.callpath",
}  # fmt: skip


def printed(script: str) -> str:
    """What the script prints in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def outcome(size: int) -> dict[str, object]:
    """What a fresh process with two threads has loaded after one call on so many elements."""
    script = f"""
        import json, sys
        import numpy as np
        import graphmill as gm
        from graphmill.runtime import knobs, native
        x = np.linspace(-1, 1, {size}, dtype=np.float32)
        with knobs.scope(cache=False), gm.threads(2):
            y = gm.jit(lambda x: np.tanh(x) * x + 1)(x)
        np.testing.assert_allclose(y, np.tanh(x) * x + 1, rtol=1e-5)
        loaded = [name for name in sys.modules if name.startswith("graphmill.")]
        print(json.dumps({{"loaded": loaded, "pool": native.loaded_pool() is not None}}))
    """
    found: dict[str, object] = json.loads(printed(script))
    return found


def test_a_small_function_leaves_the_rest_alone() -> None:
    found = outcome(100)
    assert isinstance(found["loaded"], list)
    assert not UNUSED & {name.removeprefix("graphmill.") for name in found["loaded"]}
    assert not found["pool"]


def test_a_large_one_runs_on_the_pool() -> None:
    assert outcome(1 << 20)["pool"]


@pytest.mark.parametrize(
    ("before", "old"),
    [("collector._unseen = 1", True), ("collector._unseen = 0", False), ("gc.freeze()", False)],
)
def test_only_early_work_is_called_old(before: str, old: bool) -> None:
    """Nor is what somebody has frozen let go."""
    script = f"""
        import gc
        from graphmill import collector
        {before}
        frozen = gc.get_freeze_count()
        made = collector.no_collections(list)()
        assert gc.get_freeze_count() == frozen
        print(any(one is made for one in gc.get_objects(generation=2)))
    """
    assert printed(script) == str(old)
