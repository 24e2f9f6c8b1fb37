"""The header and the files beside a library: C99, C++, pkg-config, CMake, the static object."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from graphmill.codegen.aot.library import build_library
from graphmill.codegen.artifact import ITEMSIZES, ArgSpec, Artifact, DimSpec
from graphmill.codegen.cpu.target import target
from tests.aot import kernels
from tests.aot.conftest import needs_cc, needs_cxx, run

STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")
EXAMPLES = Path(__file__).parents[2] / "examples" / "aot"


@pytest.fixture(scope="module")
def every_dtype(tmp_path_factory):
    """A library whose one function takes every dtype there is."""
    made = kernels.copy()
    inputs = tuple(ArgSpec(f"x_{d}", d, ("n", "2*n + 1", "max(n, 3)"), True) for d in ITEMSIZES)
    outputs = tuple(ArgSpec(f"y_{d}", d, ("floordiv(n, 2)", 1)) for d in ITEMSIZES)
    whole = Artifact(
        "every", made.entry, made.target, made.object, inputs, outputs, (DimSpec("n"),)
    )
    folder = tmp_path_factory.mktemp("every")
    return build_library([whole], folder / "libevery.so", target=target())


@needs_cc
def test_header_and_example_are_c99(demo, every_dtype):
    for built in (demo.built, every_dtype):
        run("cc", "-std=c99", *STRICT, "-x", "c", "-fsyntax-only", built.header)
        main = next(p for p in built.companions if p.suffix == ".c")
        run("cc", "-std=c99", *STRICT, "-fsyntax-only", main)


@needs_cxx
@pytest.mark.parametrize("standard", ["c++98", "c++17"])
def test_header_is_cxx(demo, every_dtype, standard, tmp_path):
    for built in (demo.built, every_dtype):
        source = tmp_path / "x.cpp"
        source.write_text(f'#include "{built.header}"\nint main() {{ return GML_OK; }}\n')
        # C++98 knows long long only as an extension, and <stdint.h> uses it
        run("c++", f"-std={standard}", *STRICT, "-Wno-long-long", "-fsyntax-only", source)


@needs_cc
@pytest.mark.parametrize("way", ["shared", "static"])
def test_example_runs(demo, way, tmp_path):
    folder = demo.built.path.parent
    main = folder / "demo_main.c"
    how = {
        "shared": [f"-L{folder}", "-ldemo", f"-Wl,-rpath,{folder}"],
        "static": [folder / "demo.o", "-lm", "-lpthread"],
    }[way]
    run("cc", "-std=c99", *STRICT, main, *how, "-o", tmp_path / "main")
    lines = run(tmp_path / "main").splitlines()
    assert lines[0] == "demo 2.3.4"
    x = (0.125 * (np.arange(18) % 17) - 1).astype(np.float32).reshape(3, 6)
    expected = np.tanh(x @ demo.w + demo.bias).ravel()[:8]
    name, _, numbers = lines[1].partition(":")
    assert name == "dense out"
    shown = [float(t) for t in numbers.replace("...", "").split()]
    np.testing.assert_allclose(shown, expected, rtol=1e-4)
    assert lines[2:] == ["copy out: -1 -0.875 -0.75", "pick out: -1"]


@needs_cc
def test_two_static_libraries_in_one_program(tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        build_library([kernels.dense(seed=seed)[0]], tmp_path / f"lib{name}.so", target=target())
    (tmp_path / "both.c").write_text(
        '#include <stdio.h>\n#include "one.h"\n#include "two.h"\n'
        "int main(void) { float x[6] = {1, 2, 3, 4, 5, 6}, a[5], b[5];\n"
        "  if (one_dense(x, a, 1) || two_dense(x, b, 1)) return 1;\n"
        '  printf("%d %s", a[0] != b[0], gml_two_last_error()); return 0; }\n'
    )
    run("cc", *STRICT, "both.c", "one.o", "two.o", "-lm", "-o", "both", cwd=tmp_path)
    assert run(tmp_path / "both") == "1 "


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """The library that the example programs call, here of a hand-written kernel."""
    folder = tmp_path_factory.mktemp("mlp")
    build_library([kernels.dense("mlp", 64, 10)[0]], folder / "libmlp.so", target=target())
    return folder


@pytest.mark.parametrize(
    "source, compiler",
    [
        pytest.param("mlp.c", ("cc", "-std=c99"), marks=needs_cc),
        pytest.param("mlp.cpp", ("c++", "-std=c++17", "-pthread"), marks=needs_cxx),
    ],
)
def test_example_programs(mlp, source, compiler):
    where = [f"-I{mlp}", f"-L{mlp}", "-lmlp", "-lm", f"-Wl,-rpath,{mlp}"]
    run(*compiler, *STRICT, EXAMPLES / source, *where, "-o", mlp / "program")
    said = run(mlp / "program")
    if source == "mlp.c":
        assert "mlp: x is NULL" in said and "batch is -1, it must be at least 0" in said
    else:
        assert said == "4 threads, largest difference 0\n"


@needs_cc
@pytest.mark.skipif(not shutil.which("pkg-config"), reason="no pkg-config")
def test_pkg_config(mlp):
    import os

    os.environ["PKG_CONFIG_PATH"] = str(mlp)
    assert run("pkg-config", "--modversion", "mlp").strip() == "1.0.0"
    assert f"-L{mlp}" in run("pkg-config", "--libs", "mlp")


@needs_cc
@pytest.mark.skipif(not shutil.which("cmake"), reason="no cmake")
@pytest.mark.parametrize("kind", ["mlp", "mlp_static"])
def test_cmake(mlp, kind, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\nproject(p C)\n"
        f"find_package(mlp CONFIG REQUIRED PATHS {mlp} NO_DEFAULT_PATH)\n"
        f"add_executable(p {EXAMPLES / 'mlp.c'})\ntarget_link_libraries(p mlp::{kind} m)\n"
    )
    run("cmake", "-S", ".", "-B", "b", cwd=tmp_path)
    run("cmake", "--build", "b", cwd=tmp_path)
    assert "sum of 1000 rows" in run(tmp_path / "b" / "p")
