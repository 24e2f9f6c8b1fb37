"""The command line in one process: what each command prints, and how errors look."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphmill.cli import main
from graphmill.ir.parser import parse

SAMPLE = str(Path(__file__).with_name("sample.py"))
SCORES = f"{SAMPLE}:scores"
SPECS = ["--spec", "f32[n,4]", "--spec", "w=f32[4,10]"]

ADD = """\
func @twice(%x: f32[n]) -> (f32[n]) dims={n: 0..} {
  %a: f32[n] = add %x, %x  // model.py:3
  %b: f32[n] = add %x, %x  // model.py:4
  %c: f32[n] = mul %a, %b  // model.py:5
  return %c
}
"""


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Run a command; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAPHMILL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments):
        code = 0
        try:
            main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def gir(tmp_path):
    path = tmp_path / "twice.gir"
    path.write_text(ADD)
    return path


def test_trace_prints_ir_that_parses(cli):
    code, out, _ = cli("trace", SCORES, *SPECS)
    assert code == 0 and out.startswith("func @scores(%x: f32[n, 4], %w: f32[4, 10])")
    assert "max %" in out and "sample.py:18" in out and "dense<sha256:" in out
    code, plain, _ = cli("trace", SCORES, *SPECS, "--no-locations")
    assert code == 0 and "sample.py" not in plain


def test_trace_to_a_file(cli, tmp_path):
    code, out, _ = cli("trace", f"{SAMPLE}:softmax", "--spec", "f32[n]", "-o", tmp_path / "s.gir")
    assert (code, out) == (0, "")
    assert parse((tmp_path / "s.gir").read_text()).entry.name == "softmax"


def test_opt_runs_the_passes_that_are_named(cli, gir):
    code, out, err = cli("opt", gir, "--passes", "cse,dce", "--stats")
    assert code == 0 and out.count(" add ") == 1 and "mul %a, %a" in out
    assert "cse" in err and "merged 1" in err
    assert parse(out).entry.name == "twice"


def test_opt_shows_each_pass_or_what_it_changed(cli, gir):
    assert "// ---- after cse" in cli("opt", gir, "--passes", "cse", "--each")[1]
    out = cli("opt", gir, "--passes", "cse", "--diff")[1]
    assert "-  %c: f32[n] = mul %a, %b" in out and "+  %c: f32[n] = mul %a, %a" in out
    assert cli("opt", gir, "--passes", "dce", "--diff")[1] == "nothing changed\n"


def test_opt_runs_the_default_pipeline(cli, gir):
    code, out, _ = cli("opt", gir)
    assert code == 0 and "fusion %x" in out and "arena_bytes" in out
    code, out, _ = cli("opt", gir, "--stop-after", "cse")
    assert code == 0 and "fusion" not in out and out.count(" add ") == 1


def test_run_on_random_inputs_agrees_with_the_reference(cli, gir):
    code, out, _ = cli("run", gir, "--size", "n=7", "--check", "--repeat", "2")
    assert code == 0 and "c: f32[7]" in out and "2 runs: median" in out
    assert float(out.split("reference: ")[1]) < 1e-6


def test_run_on_files(cli, gir, tmp_path):
    x = np.array([1, 2, 3], np.float32)
    np.save(tmp_path / "x.npy", x)
    code, _, _ = cli("run", gir, "x.npy", "--save", "out")
    assert code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out/result0.npy"), 4 * x * x)


def test_run_takes_specs_from_the_files(cli, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 4), np.float32))
    np.save(tmp_path / "w.npy", np.zeros((4, 10), np.float32))
    code, out, _ = cli("run", SCORES, "x.npy", "w.npy", "--interpret")
    assert code == 0 and "result 0: f32[2, 10]" in out and "0.1" in out


def test_dumped_stages_are_programs(cli):
    code, _, err = cli("run", SCORES, *SPECS, "--size", "n=3", "--dump", "out", "--check")
    assert code == 0, err
    for stage in sorted(Path("out/scores").glob("*.gir"))[:2]:
        code, out, err = cli("run", stage, "--size", "n=3", "--check")
        assert code == 0, err
        assert float(out.split("reference: ")[1]) < 1e-5


def test_compile_builds_a_library_that_loads(cli, tmp_path):
    import graphmill as gm

    code, out, err = cli("compile", SCORES, *SPECS, "-o", "libscores.so")
    assert code == 0, err
    assert "libscores.so" in out and "scores.h" in out
    x, w = np.ones((3, 4), np.float32), np.ones((4, 10), np.float32)
    got = gm.load(tmp_path / "libscores.so").scores(x, w)
    np.testing.assert_allclose(got.sum(axis=-1), 1, rtol=1e-5)


def test_tables(cli):
    code, out, _ = cli("passes")
    assert code == 0 and "fuse" in out and "max_ops=64" in out and "default pipeline: " in out
    code, out, _ = cli("ops")
    assert code == 0 and "dot_general" in out and "fused" in out
    code, out, _ = cli("ops", "--markdown")
    assert code == 0 and out.startswith("| op | family |") and "| exp | elementwise | x |" in out


def test_cache_commands(cli, gir, tmp_path):
    cli("run", gir, "--size", "n=2")
    count = int(cli("cache", "info")[1].split("entries")[1].split()[0])
    assert count >= 1  # the function, and what every process needs once
    assert f"packed {count} entries" in cli("cache", "pack", "all.pack")[1]
    assert f"removed {count} entries" in cli("cache", "clear")[1]
    assert "entries  0" in cli("cache", "info")[1]
    assert f"imported {count} entries" in cli("cache", "unpack", "all.pack")[1]


def test_doctor_finds_this_machine_fit(cli):
    code, out, err = cli("doctor")
    assert code == 0, err
    found = {line.split()[0]: line for line in out.splitlines()[1:] if line.strip()}
    assert "runs right" in found["jit"] and " ok " in found["llvmlite"]
    assert {"python", "threads", "mlir", "cc", "ziglang", "qemu"} <= found.keys()


ERRORS = {
    ("opt", "none.gir"): "there is no file none.gir",
    ("opt", "twice.gir", "--passes", "foo"): "there is no pass 'foo'",
    ("opt", "twice.gir", "--passes", "fuse{x=1}"): "fuse has no option 'x'",
    ("opt", "bad.gir"): "bad.gir:2:16: there is no op 'expp'; did you mean 'exp'",
    ("opt", "elided.gir"): "pass it in constants",
    ("opt", "twice.gir", "--constants", "twice.gir"): "no readable .npz file",
    ("trace", "none:f"): "cannot import none: there is no such module",
    ("trace", "twice"): "names no function; write pkg.module:function",
    ("trace", f"{SAMPLE}:score"): "has no function 'score'; did you mean scores",
    ("trace", f"{SAMPLE}:NUMBER"): "is a int, not a function",
    ("trace", "none.py:f"): "there is no file none.py",
    ("trace", SCORES): "missing a required argument: 'x'; give one --spec per argument",
    ("trace", SCORES, "--spec", "f32[3"): "GM043",
    ("trace", SCORES, "--spec", "f32[3,5]", "--spec", "f32[4,10]"): "GM014",
    ("trace", "twice.gir", "--spec", "f32[3]"): "--spec is for Python functions",
    ("run", "twice.gir"): "dim n has no size: give --size n=8",
    ("run", "twice.gir", "--size", "n"): "such as batch=8",
    ("run", "twice.gir", "bad.gir"): "no readable .npy file",
    ("compile", SCORES, *SPECS, "-o", "scores.dll"): "a library is called lib<name>.so",
    ("compile", SCORES, *SPECS, "--target", "z80"): "unknown target 'z80'",
    ("cache", "pack"): "cache pack needs a file",
    ("cache", "unpack", "bad.gir"): "not a pack",
    ("trace", f"{SAMPLE}:refuses", "--spec", "f32[2]"): "ValueError: not this one (sample.py:25)",
    ("trace", f"{SAMPLE}:leaves", "--spec", "f32[2]"): "ends the program while it is traced",
    ("trace", f"{SAMPLE}:softmax", "--spec", "f32[-2]"): "has a negative dim",
    ("trace", f"{SAMPLE}:softmax", "--spec", f"f32[{1 << 61}, 2]"): "more bytes than memory",
    ("trace", "binary.gir"): "binary.gir is no text in UTF-8",
    ("trace", "."): "names no function",
    ("opt", "."): ".: Is a directory",
    ("opt", "cut.gir"): "cut.gir:1:",
    ("opt", "twice.gir", "--stop-after", "no"): "there is no stage 'no' to end with; there are",
    ("opt", "twice.gir", "--constants", "none.npz"): "there is no file none.npz",
    ("run", "twice.gir", "--size", "m=3"): "there is no dim m; the named dims: n",
    ("run", "twice.gir", "--repeat", "-1"): "Invalid value for '--repeat'",
    ("run", "twice.gir", "zip.npz"): "zip.npz is no readable .npy file",
    ("nonsense",): "No such command 'nonsense'",
    ("trace", SCORES, "--nonsense"): "No such option",
}


@pytest.mark.parametrize("arguments", ERRORS, ids=lambda a: " ".join(a).replace(SAMPLE, "s.py"))
def test_errors_are_a_paragraph(cli, gir, arguments):
    Path("bad.gir").write_text("func @f(%x: f32[2]) -> (f32[2]) {\n  %y: f32[2] = expp %x\n}\n")
    Path("elided.gir").write_text(
        "func @f() -> (f32[99]) {\n  %y: f32[99] = constant {value=dense<sha256:00>}\n"
        "  return %y\n}\n"
    )
    Path("binary.gir").write_bytes(b"\xff\xfe\0")
    Path("cut.gir").write_text(ADD[:30])
    np.savez("zip.npz", x=np.ones(3))
    code, out, err = cli(*arguments)
    assert code == 2 and out == ""
    assert err.startswith("graphmill: ") and ERRORS[arguments] in err
    assert "Traceback" not in err


def test_a_user_module_that_fails(cli, tmp_path):
    (tmp_path / "broken.py").write_text("raise RuntimeError('not today')\n")
    code, _, err = cli("trace", "broken.py:f")
    assert code == 2 and "cannot import broken.py: RuntimeError: not today" in err
    (tmp_path / "stops.py").write_text("raise SystemExit(0)\n")
    assert cli("trace", "stops.py:f")[0] == 2


def test_debug_shows_the_traceback(cli, monkeypatch):
    monkeypatch.setenv("GRAPHMILL_DEBUG", "1")
    assert "Traceback" in cli("trace", "none:f")[2]


def test_importing_graphmill_loads_no_command_line():
    code = "import sys, graphmill; print({'typer', 'rich', 'networkx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
