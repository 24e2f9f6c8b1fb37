"""A run's results as Markdown: summary, tables, the machine's limits, memory, failures."""

import re
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import pictures
from benchmarks.frameworks import FRAMEWORKS, OURS
from benchmarks.workloads import FAMILIES, WORKLOADS

Row = dict[str, dict[str, Any]]
Rows = dict[str, Row]
COUNTED = (
    "Counted is the least that the mathematics needs: inputs read once, the result written once. "
    "What stays in a cache may exceed memory's limit."
)
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def duration(seconds: float) -> str:
    """Three digits in the unit that fits: 0.76 µs, 12.3 ms, 1.20 s."""
    value, unit = seconds * 1e6, "µs"
    for larger in ("ms", "s"):
        if value >= 1000:
            value, unit = value / 1000, larger
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.{0 if size >= 1e7 else 1}f} MB"


def best_peer(row: Row, of: str = "median") -> str | None:
    peers = {f: cell[of] for f, cell in row.items() if f != OURS and of in cell}
    return min(peers, key=lambda f: peers[f]) if peers else None


def ratio(row: Row, of: str = "median", peer: str | None = None) -> float | None:
    """The time of a peer (the best) over ours: above 1, Graphmill is faster."""
    peer = peer or best_peer(row, of)
    ours, theirs = row.get(OURS, {}).get(of), row.get(peer or "", {}).get(of)
    return theirs / ours if ours and theirs else None


def markdown_table(titles: list[str], rows: list[list[str]], words: int = 1) -> list[str]:
    """A table whose first `words` columns are text and the others numbers."""
    rule = ["---" if i < words else "---:" for i in range(len(titles))]
    return [f"| {' | '.join(cells)} |" for cells in (titles, rule, *rows)]


def shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def families(rows: Rows) -> Iterator[tuple[str, Rows]]:
    """The rows of each family that has some."""
    for family, workloads in FAMILIES.items():
        found = {w.name: rows[w.name] for w in workloads if w.name in rows}
        if found:
            yield family, found


def summary(rows: Rows) -> list[str]:
    """Per family: how often Graphmill is the fastest, and by how much on (geometric) average."""
    lines = []
    suite = {name: row for name, row in rows.items() if WORKLOADS[name].of_npbench}
    for family, found in (*families(rows), ("all of NPBench", suite), ("all", rows)):
        ratios = [r for row in found.values() if (r := ratio(row))]
        if not ratios:
            continue
        wins, near = sum(r > 1 for r in ratios), sum(r >= 0.95 for r in ratios)
        mean = statistics.geometric_mean(ratios)
        lowest = min((r, name) for name, row in found.items() if (r := ratio(row)))
        counts = [str(len(ratios)), str(wins), str(near), shown(mean)]
        lines.append([family, *counts, f"{shown(lowest[0])} ({lowest[1]})"])
    titles = ["family", "rows", "fastest of all", "at least 0.95", "mean ratio", "lowest"]
    return markdown_table(titles, lines)


def against(rows: Rows, frameworks: list[str]) -> list[str]:
    """Graphmill against one peer at a time, over the rows that both have."""
    lines = []
    for peer in frameworks:
        ratios = [r for row in rows.values() if peer != OURS and (r := ratio(row, peer=peer))]
        if ratios:
            wins = sum(r > 1 for r in ratios)
            mean = shown(statistics.geometric_mean(ratios))
            lines.append([FRAMEWORKS[peer].title, str(len(ratios)), str(wins), mean])
    return markdown_table(["peer", "rows", "Graphmill faster", "mean ratio"], lines)


def times(rows: Rows, frameworks: list[str], of: str = "median") -> list[str]:
    lines = []
    for name, row in rows.items():
        best = best_peer(row, of)
        cells = []
        for framework in frameworks:
            cell = row.get(framework, {})
            text = "failed" if "wrong" in cell else duration(cell[of]) if of in cell else "–"
            cells.append(f"**{text}**" if framework == best else text)
        lines.append([name, *cells, shown(ratio(row, of))])
    titles = [FRAMEWORKS[f].title for f in frameworks]
    return markdown_table(["workload", *titles, "ratio"], lines)


def limits(rows: Rows, limit: dict[str, float]) -> list[str]:
    """Where our kernels stand against the machine: the roofline's share, GB/s and GFLOP/s."""
    lines = []
    for name, (share, bound) in pictures.shares(rows, limit).items():
        workload, seconds = WORKLOADS[name], rows[name][OURS]["median"]
        rates = (f"{amount / seconds / 1e9:.1f}" for amount in (workload.flops, workload.bytes))
        lines.append([name, workload.title, bound, *rates, f"{share:.0%}"])
    titles = ["workload", "what", "bound by", "GFLOP/s", "GB/s", "of the limit"]
    return markdown_table(titles, lines, words=3)


def memory(rows: Rows, frameworks: list[str]) -> list[str]:
    lines = [
        [name, *(megabytes(row[f]["memory"]) if f in row else "–" for f in frameworks)]
        for name, row in rows.items()
    ]
    return markdown_table(["workload", *(FRAMEWORKS[f].title for f in frameworks)], lines)


def failures(results: dict[str, Any]) -> list[str]:
    return [
        f"- {name}, {threads} threads, {FRAMEWORKS[framework].title}: {cell['wrong']}"
        for threads, rows in results["throughput"].items()
        for name, row in rows.items()
        for framework, cell in row.items()
        if "wrong" in cell
    ]


def conditions(results: dict[str, Any]) -> list[str]:
    machine, versions = results["machine"], results["versions"]
    present = [f"{FRAMEWORKS[f].title} {v}" for f, v in versions.items() if v]
    missing = [FRAMEWORKS[f].title for f, v in versions.items() if not v]
    found = [
        f"{threads} thread{'s' if threads != '1' else ''}: {rates['gflops']:.0f} GFLOP/s of f32, "
        f"{rates['read']:.1f} GB/s read, {rates['copy']:.1f} GB/s copied"
        for threads, rates in results["limits"].items()
        if rates
    ]
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {', '.join(machine['vectors'])}; "
        f"Python {machine['python']}; {results['date']}. The machine's limits, measured in the "
        f"same run: {'; '.join(found)}.",
        "",
        f"Versions: {', '.join(present)}."
        + (f" Missing: {', '.join(missing)}." if missing else ""),
    ]


def throughput(results: dict[str, Any], present: list[str]) -> list[str]:
    lines = []
    for threads, rows in results["throughput"].items():
        title = f"{threads} thread" + ("" if threads == "1" else "s")
        lines += ["", f"### {title}: summary", "", *summary(rows), "", *against(rows, present)]
        for family, found in families(rows):
            lines += ["", f"### {title}: {family}", "", *times(found, present)]
    return lines


def fresh(results: dict[str, Any], present: list[str]) -> list[str]:
    rows = results["fresh"]
    if not rows:
        return []
    cold = {n: r for n, r in rows.items() if any("median" in cell for cell in r.values())}
    warm = {n: r for n, r in rows.items() if any("warm" in cell for cell in r.values())}
    imports = [[m, duration(t)] for m, t in sorted(results["imports"].items())]
    return [
        "", "### Cold: from the import to the first result, fresh process, empty caches", "",
        *times(cold, present),
        "", "### Warm: the same with the framework's cache on disk", "",
        *times(warm, present, "warm"),
        "", "### Memory: the peak above the import's, inputs and weights included", "",
        *memory(rows, present),
        "", "### Import, once NumPy is imported", "",
        *markdown_table(["module", "time"], imports),
    ]  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    """Everything, as in results.md and between the marks of the page."""
    present = [f for f, version in results["versions"].items() if version]
    lines = [
        *conditions(results),
        "",
        "Medians over interleaved rounds. Ratio: the best peer's time over Graphmill's; above 1, "
        "Graphmill is the fastest. Bold: the best peer. –: not written for that framework, or "
        "not possible there. Means of ratios are geometric.",
        *throughput(results, present),
    ]
    if results["limits"].get("1"):
        lines += ["", "### Graphmill against the machine's limits, 1 thread", "", COUNTED, ""]
        lines += limits(results["throughput"]["1"], results["limits"]["1"])
    lines += fresh(results, present)
    if failed := failures(results):
        lines += ["", "### Failed", "", *failed]
    return "\n".join(lines) + "\n"


def update_page(results: dict[str, Any], page: Path, drawn: Path) -> None:
    """Replace what stands between the page's marks, and the pictures beside it."""
    shown_pictures = [name for name in pictures.NAMES if (drawn / name).exists()]
    for name in shown_pictures:
        shutil.copyfile(drawn / name, page.parent / name)
    links = "".join(f"![{pictures.NAMES[name]}]({name})\n\n" for name in shown_pictures)
    text = page.read_text()
    marked = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"{page} has no place for results: {BEGIN} … {END}")
    measured = f"{BEGIN}\n\n{links}{markdown(results)}\n{END}"
    page.write_text(marked.sub(lambda _: measured, text, count=1))
