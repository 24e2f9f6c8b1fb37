"""The option that allows Winograd convolutions: what it takes, what it changes, what dumps say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.cli import main
from graphmill.codegen.artifact import Artifact
from graphmill.keys import cache_key
from graphmill.passes.winograd import TileError

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def weights(filters: int, channels: int, window: int = 3) -> Array:
    scale = np.sqrt(channels * window * window)
    return (RNG.standard_normal((filters, channels, window, window)) / scale).astype(np.float32)


A, B, C, D = weights(64, 32), weights(64, 64), weights(64, 1), weights(1, 64, 1)
X = RNG.standard_normal((1, 32, 24, 26)).astype(np.float32)


def network(x: Any) -> Any:
    """Two convolutions that gain by it, one that cannot, one on plain arrays."""
    y = gm.nn.relu(gm.nn.conv2d(x, A, padding=1))
    y = gm.nn.conv2d(gm.nn.relu(gm.nn.conv2d(y, B)), C, padding=1, groups=64)
    return gm.nn.conv2d(np.exp(y), D)


def schedules(tile: bool | int, *arrays: Array, f: Any = network) -> list[str]:
    return [k.schedule for k in gm.jit(f, winograd=tile).compile(*arrays).kernels if k.schedule]


def test_it_is_off_unless_asked_for() -> None:
    first, second, depthwise, few = schedules(False, X)
    assert "direct on blocks" in first and "winograd=4 allows it" in second
    assert "lane by lane" in depthwise and "no Winograd: groups" in depthwise
    assert few == "direct on plain arrays: few filters a group"
    assert "winograd" not in str(gm.jit(network).lower(X).ir())


@pytest.mark.parametrize(("given", "tile"), [(True, 4), (4, 4), (2, 2)])
def test_dumps_name_the_tile(given: bool | int, tile: int) -> None:
    first, second, *_ = schedules(given, X)
    for said in (first, second):
        assert said.startswith(f"Winograd F({tile} × {tile}, 3 × 3)") and "estimated time" in said
    assert f"winograd={tile}" in str(gm.jit(network, winograd=given).lower(X).ir())


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_values(tile: int, threads: int) -> None:
    f = gm.jit(network, winograd=tile, threads=threads)
    (want,) = f.trace(X).interpret(X)
    np.testing.assert_allclose(f(X), want, rtol=1e-4, atol=1e-4)


def test_filters_known_at_run_time() -> None:
    x = RNG.standard_normal((2, 64, 40, 40)).astype(np.float32)

    def layer(x: Any, w: Any) -> Any:
        return gm.nn.conv2d(x, w, padding=1)

    (said,) = schedules(4, x, B, f=layer)
    assert said.startswith("Winograd F(4 × 4")
    f = gm.jit(layer, winograd=4)
    np.testing.assert_allclose(f(x, B), gm.jit(layer)(x, B), rtol=1e-4, atol=1e-4)


def test_one_compile_for_all_batches() -> None:
    f = gm.jit(network, winograd=4, dynamic={"x": ("n", None, None, None)})
    for batch in (1, 0, 3):
        x = RNG.standard_normal((batch, *X.shape[1:])).astype(np.float32)
        np.testing.assert_allclose(f(x), gm.jit(network)(x), rtol=1e-4, atol=1e-4)


def test_cached_code_makes_its_filters_from_the_weights() -> None:
    function = gm.jit(network).trace(X).function
    options = driver.Options(winograd=4)
    allowed = [driver.Options(winograd=tile) for tile in (0, 2, 4)]
    assert len({cache_key(function, o, driver.target(o)) for o in allowed}) == 3
    artifact = driver.build(function, options)
    assert Artifact.from_bytes(artifact.to_bytes()).kernels == artifact.kernels


def test_libraries_keep_the_option(tmp_path: Path) -> None:
    f = gm.jit(network, winograd=4)
    built = gm.build(f, [gm.spec("f32[1, 32, 24, 26]")], tmp_path / "libnet.so")
    np.testing.assert_array_equal(gm.load(built.path).network(X), f(X))


@pytest.mark.parametrize("wrong", [1.5, 3, 8, "yes", None])
def test_other_tiles_are_refused(wrong: Any) -> None:
    with pytest.raises(gm.GraphmillError, match="GM025"):
        gm.jit(network, winograd=wrong)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"{__file__}:network", "--spec", "f32[1,32,24,26]", "--check", "--dump", str(tmp_path)]
    main(["run", *given, "--winograd", "4"])
    assert float(capsys.readouterr().out.split("reference: ")[1]) < 1e-4
    (said,) = tmp_path.rglob("kernels.txt")
    assert said.read_text().count("Winograd F(4 × 4, 3 × 3)") == 2
    with pytest.raises(SystemExit):
        main(["compile", *given[:3], "--winograd", "3"])
    assert "2 or 4, not 3" in capsys.readouterr().err


def test_the_pass_marks_convolutions_on_blocks() -> None:
    lowered = gm.jit(network).lower(X)
    pipeline = "simplify,block,fuse,winograd{tile=2}"
    marked = driver.optimise(lowered.function, driver.Options(pipeline))
    found = [op.attrs.get("winograd") for op in marked.walk() if "conv" in op.name]
    assert found == [2, 2, 2, None]
    with pytest.raises(TileError, match="not 6"):
        driver.optimise(lowered.function, driver.Options("winograd{tile=6}"))
