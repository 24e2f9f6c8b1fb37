"""Dumps: the files of a compilation, and the page that shows them."""

import html.parser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphmill as gm
from graphmill import report
from graphmill.dumping import DumpRecorder
from graphmill.ir.parser import parse, parse_function
from graphmill.recorders import SilentRecorder, recorder
from graphmill.report.layout import draw
from graphmill.report.memory import memory_of, memory_report
from graphmill.report.pictures import graph_of
from tests.differential.random_graphs import Options, random_function

X = np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5)
SCRIPTS = ("text.js", "diff.js", "pictures.js", "page.js")


def centre(x):
    y = x - x.mean(axis=0)
    return np.exp(y).sum(axis=1), y


@pytest.fixture
def dumped(tmp_path):
    with gm.dump(tmp_path / "out"):
        gm.jit(centre)(X)
        gm.jit(lambda x: x * 2)(X)
        gm.jit(centre)(X[:3])
    return tmp_path / "out"


def report_data(folder):
    page = (folder / "report.html").read_text()
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def test_every_stage_is_a_numbered_file(dumped):
    names = sorted(path.name for path in (dumped / "centre").iterdir())
    assert names[0] == "00-trace.gir" and "01-after-" in names[1]
    suffixes = [name.split(".")[-1] for name in names]
    assert {"gir", "mlir", "ll", "s"} <= set(suffixes)
    assert [int(n[:2]) for n in names if n[0].isdigit()] == list(range(suffixes.count("gir") + 4))
    assert {"memory.txt", "timings.json", "kernels.txt"} <= set(names)


def test_ir_files_parse_and_name_the_users_lines(dumped):
    files = sorted((dumped / "centre").glob("*.gir"))
    for file in files:
        ops = parse(file.read_text()).entry.ops
        assert any(op.loc and op.loc.file == "test_dump.py" for op in ops)
    texts = [file.read_text() for file in files]
    assert len(set(texts)) == len(texts)


def test_the_reproducer_runs_the_first_stage(dumped):
    @gm.jit(dynamic={"x": ("n", None)})
    def scaled(x):
        return x * np.arange(5, dtype=np.float32)

    with gm.dump(dumped):
        scaled(X)
    command = [sys.executable, dumped / "scaled/run.py", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "difference from the reference" in done.stdout


def test_timings_hold_every_stage(dumped):
    timings = json.loads((dumped / "centre/timings.json").read_text())
    names = [stage["stage"] for stage in timings["stages"]]
    assert {"trace", "fuse", "memory", "module", "assembly"} <= set(names)
    assert sum(stage["seconds"] for stage in timings["stages"]) > 0


def test_each_compilation_has_its_folder_and_its_place_in_the_report(dumped):
    folders = sorted(path.name for path in dumped.iterdir() if path.is_dir())
    assert len(folders) == 3 and {"centre", "centre-2"} <= set(folders)
    data = report_data(dumped)
    assert data[0]["name"] == "centre" and len(data) == 3
    first = data[0]
    assert "def centre(x):" in first["sources"]["test_dump.py"]
    assert first["memory"]["peak"] >= 0 and first["stages"][0]["graph"]["nodes"]
    assert all("test_dump.py" in loc for kernel in first["kernels"] for loc in kernel["locs"])
    assert first["kernels"] and "gm_centre_k0" in first["kernels"][0]["name"]


class Outside(html.parser.HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [f"{tag} {k}={v}" for k, v in attrs if k in ("src", "href", "srcset")]


def test_the_report_is_self_contained(dumped):
    page = (dumped / "report.html").read_text()
    parser = Outside()
    parser.feed(page)
    assert not parser.found
    assert "default-src 'none'" in page and "{{" not in page.split('<script id="data"')[0]
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_text_cannot_break_out_of_the_page(tmp_path):
    record = DumpRecorder(tmp_path, "</script><b>")
    record.stage("trace", "ir", "</script><script>alert(1)</script><!--", 0.0)
    record.close()
    (one,) = report_data(tmp_path)
    assert one["stages"][0]["text"] == "</script><script>alert(1)</script><!--"
    assert (tmp_path / "report.html").read_text().count("</script>") == 2


def test_a_new_process_replaces_old_stages(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    for name in ("09-old.gir", "timings.json", "mine.txt"):
        (folder / name).write_text("old")
    record = DumpRecorder(tmp_path, "f")
    record.stage("trace", "ir", "new", 0.0)
    record.close()
    assert sorted(p.name for p in folder.iterdir()) == ["00-trace.gir", "mine.txt", "timings.json"]


def test_a_page_holds_the_newest_compilations():
    from graphmill import dumping

    half = "x" * (dumping.MOST_TEXT // 2)
    assert dumping._newest(["a", half, half + "x", "b"]) == [half + "x", "b"]
    assert dumping._newest([half * 3]) == [half * 3] and dumping._newest([]) == []
    assert len(dumping._newest(["a"] * 99)) == dumping.MOST_REPORTED


def test_unchanged_ir_is_noted_but_not_written(tmp_path):
    record = DumpRecorder(tmp_path, "f")
    for name, text in (("trace", "a"), ("fold", "a"), ("cse", "b")):
        record.stage(name, "ir", lambda text=text: text, 0.5)
    record.close()
    assert [p.name for p in sorted((tmp_path / "f").glob("*.gir"))] == [
        "00-trace.gir", "01-after-cse.gir",
    ]  # fmt: skip
    assert [s["unchanged"] for s in report_data(tmp_path)[0]["stages"]] == [False, True, False]


def test_dump_is_a_setting_and_a_block(tmp_path, monkeypatch):
    monkeypatch.delenv("GRAPHMILL_DUMP", raising=False)
    assert isinstance(recorder("f"), SilentRecorder) and not recorder("f").active
    with gm.dump(tmp_path / "a"):
        assert recorder("f").active
        with gm.dump(None):
            assert not recorder("f").active
    assert not recorder("f").active
    monkeypatch.setenv("GRAPHMILL_DUMP", str(tmp_path / "b"))
    gm.knobs.dump.reset()
    assert recorder("f").active and (tmp_path / "b/f").is_dir()


def test_a_failed_compilation_leaves_its_stages(tmp_path, monkeypatch):
    from graphmill import driver

    def fail(*arguments):
        raise RuntimeError("no code today")

    monkeypatch.setattr(driver, "emit", fail)
    with gm.dump(tmp_path), pytest.raises(gm.InternalError):
        gm.jit(centre)(X)
    assert report_data(tmp_path)[0]["stages"][-1]["name"] == "memory"


# ---- pictures


@pytest.mark.parametrize("seed", range(25))
def test_drawings_have_no_overlaps(seed):
    graph = graph_of(random_function(seed, Options(ops=40)))
    boxes = [(n["x"] - n["w"] / 2, n["y"] - n["h"] / 2, n["w"], n["h"]) for n in graph["nodes"]]
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= 0 and x + w <= graph["width"] and y >= 0 and y + h <= graph["height"]
        for a, b, c, d in boxes[:i]:
            assert x + w <= a + 1 or a + c <= x + 1 or y + h <= b + 1 or b + d <= y + 1
    for edge in graph["edges"]:
        heights = [y for _, y in edge["points"]]
        assert heights == sorted(heights) and len(set(heights)) == len(heights)


def test_drawing_nothing():
    assert draw([], []).nodes == []


PLANNED = """\
func @f(%x: f32[n, 4]) -> (f32[n, 4]) dims={n: 0..8} attrs={arena_bytes=32*n} {
  %a: f32[n, 4] = exp %x {buffers=["arena:0"]}  // model.py:1
  %b: f32[n, 4] = neg %a {buffers=["arena:16*n"]}  // model.py:2
  %v: f32[4*n] = reshape %a {buffers=["alias:0"], shape=[4*n]}
  %w: f32[n, 4] = reshape %v {buffers=["alias:0"], shape=[n, 4]}
  %c: f32[n, 4] = add %b, %w {buffers=["out:0"]}  // model.py:3
  return %c
}
"""


def test_memory_plan_is_read_back():
    plan = memory_of(parse_function(PLANNED))
    a, b = plan["buffers"]
    assert (a["offset"], a["size"], a["start"], a["end"]) == (0, 128, 0, 5)
    assert (b["offset"], b["size"], b["start"], b["end"]) == (128, 128, 1, 5)
    assert a["names"] == ["%a", "%v", "%w"] and a["locs"] == ["model.py:1"]
    assert (plan["peak"], plan["expression"], plan["sizes"]) == (256, "32*n", {"n": 8})
    text = memory_report(parse_function(PLANNED))
    assert "%a = %v = %w" in text and "peak 256 bytes for n = 8" in text


def test_without_a_plan():
    function = parse_function("func @f(%x: f32[2]) -> (f32[2]) {\n  return %x\n}\n")
    assert memory_of(function) is None and "has not run" in memory_report(function)


# ---- the page's scripts, where node is there to run them


def node(script):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    folder = Path(report.__file__).parent
    sources = "\n".join((folder / name).read_text() for name in SCRIPTS[:3])
    done = subprocess.run(
        ["node", "-e", f"{sources}\n{script}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_scripts_are_sound(tmp_path):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    folder = Path(report.__file__).parent
    whole = tmp_path / "page.js"
    whole.write_text('"use strict";\n' + "\n".join((folder / n).read_text() for n in SCRIPTS))
    subprocess.run(["node", "--check", str(whole)], check=True, timeout=200)


def rows(before, after):
    call = f"diffRows({json.dumps(before)}, {json.dumps(after)})"
    found = node(f"console.log(JSON.stringify({call}.map((r) => r.sign + r.text)))")
    assert [r[1:] for r in found if r[0] != "-"] == after
    return "".join(r[0] for r in found)


@pytest.mark.parametrize(
    "before, after, signs",
    [
        (["a", "b", "c"], ["a", "x", "c"], " -+ "),
        ([], ["a"], "+"),
        (["a"], [], "-"),
        (["%1 = neg %0"], ["%5 = neg %0"], " "),
        (["%1 = neg %0", "%2 = exp %1"], ["%1 = neg %0", "%2 = exp %0"], " -+"),
        (["  %h = neg %x"], ["  f {", "    (%x1: f32):", "    %h1 = neg %x1", "  }"], "++ +"),
    ],
)
def test_diff(before, after, signs):
    assert rows(before, after) == signs


def test_lines_know_their_source():
    lines = [
        "func @f() {", "  %a = fusion %x {kind} {  // m.py:1", "    (%b: f32):",
        "    %c = exp %b  // m.py:2 in softmax", "    yield %c", "  }", "  %d = neg %a  // m.py:3",
    ]  # fmt: skip
    call = f"irOrigins({json.dumps(lines)}).map((o) => [...o.locs])"
    found = node(f"console.log(JSON.stringify({call}))")
    assert found == [[], ["m.py:1", "m.py:2"], [], ["m.py:2"], [], [], ["m.py:3"]]


def test_assembly_belongs_to_kernels():
    lines = ["gm_f_k0_exp:", " vmov", "gm_f_k0_exp_body:", " add", "gm_f_k1_add:", " ret"]
    kernels = [{"name": "gm_f_k0_exp", "locs": ["m.py:1"]}, {"name": "gm_f_k1_add", "locs": []}]
    call = f"kernelOrigins({json.dumps(lines)}, 'asm', {json.dumps(kernels)})"
    found = node(f"console.log(JSON.stringify({call}.map((o) => [...o.around])))")
    assert found == [["m.py:1"]] * 4 + [[], []]


@pytest.mark.parametrize(
    "kind, line, locs, names",
    [
        ("asm", " vaddps %zmm0  # my m.py:7 %h", ["my m.py:7"], ["%h"]),
        ("asm", " fadd v0.4s  // m.py:7 %h %h1 …, n.py:9 %y", ["m.py:7", "n.py:9"],
         ["%h", "%h1", "%y"]),
        ("llvm", "  %4 = fadd float %1, %2, !tbaa !3  ; m.py:7 %h", ["m.py:7"], ["%h"]),
        ("mlir", "  %4 = arith.addf %1, %2 : f32  // <stdin>:7", ["<stdin>:7"], []),
        ("llvm", "4:      ; preds = %7, %2", [], []),
    ],
)  # fmt: skip
def test_an_instruction_says_what_it_computes(kind, line, locs, names):
    call = (
        f"kernelOrigins({json.dumps([line])}, '{kind}', []).map((o) => [[...o.locs], [...o.names]])"
    )
    assert node(f"console.log(JSON.stringify({call}[0]))") == [locs, names]


@pytest.mark.parametrize("kind", ["ir", "mlir", "llvm", "asm", "python"])
def test_colouring_keeps_the_text(kind):
    text = '  %a.b = f32[2, n] "x<&>" @g {k=1.5e-3} // <c> # ; \\ é vaddps %ymm0, (%rax)'
    html_text = node(f"console.log(JSON.stringify(colour({json.dumps(text)}, '{kind}')))")
    assert "<&" not in html_text and "</script" not in html_text
    plain = re.sub(r"<[^>]*>", "", html_text)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        plain = plain.replace(entity, char)
    assert plain == text
