"""A run's results as a Markdown table and a picture."""

import json
from pathlib import Path
from typing import Any

from benchmarks.frameworks import FRAMEWORKS, OURS
from benchmarks.workloads import WORKLOADS

Row = dict[str, dict[str, Any]]


def duration(seconds: float) -> str:
    """Three digits in the unit that fits: 0.76 µs, 12.3 ms, 1.20 s."""
    value, unit = seconds * 1e6, "µs"
    for larger in ("ms", "s"):
        if value >= 1000:
            value, unit = value / 1000, larger
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def best_peer(row: Row, of: str = "median") -> str | None:
    peers = {f: cell[of] for f, cell in row.items() if f != OURS and of in cell}
    return min(peers, key=lambda f: peers[f]) if peers else None


def ratio(row: Row, of: str = "median") -> float | None:
    """The best peer's time over ours: above 1, Graphmill is the fastest."""
    best = best_peer(row, of)
    ours = row.get(OURS, {}).get(of)
    return row[best][of] / ours if best and ours else None


def table(rows: dict[str, Row], frameworks: list[str]) -> list[str]:
    titles = [FRAMEWORKS[f].title for f in frameworks]
    lines = [
        "| workload | " + " | ".join(titles) + " | best peer | ratio | of minima |",
        "| --- |" + " ---: |" * len(titles) + " --- | ---: | ---: |",
    ]
    for name, row in rows.items():
        best = best_peer(row)
        shares = [f"{r:.2f}" if r else "–" for r in (ratio(row), ratio(row, "minimum"))]
        cells = []
        for framework in frameworks:
            cell = row.get(framework, {})
            text = duration(cell["median"]) if "median" in cell else "–"
            text = "failed" if "wrong" in cell else text
            cells.append(f"**{text}**" if framework == best else text)
        cells += [FRAMEWORKS[best].title if best else "–", *shares]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def rates(rows: dict[str, Row], copy: float) -> list[str]:
    """Where our kernels stand against the machine: GB/s, as a share of a copy's, and GFLOP/s."""
    lines = [
        "| workload | what | GB/s | of copy | GFLOP/s |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        seconds = row.get(OURS, {}).get("median")
        workload = WORKLOADS[name]
        if not seconds or not workload.bytes:
            continue
        bandwidth = workload.bytes / seconds / 1e9
        share = f"{bandwidth / copy:.0%}" if copy else "–"
        flops = workload.flops / seconds / 1e9
        lines.append(f"| {name} | {workload.title} | {bandwidth:.1f} | {share} | {flops:.1f} |")
    return lines


def failures(results: dict[str, Any]) -> list[str]:
    return [
        f"- {name}, {threads} threads, {FRAMEWORKS[framework].title}: {cell['wrong']}"
        for threads, rows in results["throughput"].items()
        for name, row in rows.items()
        for framework, cell in row.items()
        if "wrong" in cell
    ]


def markdown(results: dict[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    present = [f for f, version in versions.items() if version]
    missing = [FRAMEWORKS[f].title for f, version in versions.items() if not version]
    copy = machine["copy_gb_per_s"]
    lines = [
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {', '.join(machine['vectors'])}; "
        f"one thread copies {copy:.1f} GB/s. Python {machine['python']}. {results['date']}.",
        "",
        "Versions: "
        + ", ".join(f"{FRAMEWORKS[f].title} {versions[f]}" for f in present)
        + (f". Missing: {', '.join(missing)}." if missing else "."),
        "",
        "Medians over interleaved rounds. Ratio: the best peer's time over Graphmill's; above 1, "
        "Graphmill is the fastest; of minima: the same of the best times. Bold: the best peer. "
        "–: not written for that framework.",
    ]
    for threads, rows in results["throughput"].items():
        plural = "thread" if threads == "1" else "threads"
        lines += ["", f"### {threads} {plural}", "", *table(rows, present)]
    if "1" in results["throughput"]:
        lines += ["", "### Graphmill against the machine, 1 thread", ""]
        lines += rates(results["throughput"]["1"], copy)
    if results.get("cold"):
        lines += ["", "### Cold: from a prepared import to the first result, fresh process", ""]
        lines += table(results["cold"], present)
    if results.get("imports"):
        lines += [
            "",
            "### Import, once NumPy is imported",
            "",
            "| module | time |",
            "| --- | ---: |",
        ]
        lines += [f"| {m} | {duration(t)} |" for m, t in sorted(results["imports"].items())]
    if failed := failures(results):
        lines += ["", "### Failed", "", *failed]
    return "\n".join(lines) + "\n"


def picture(source: Path, path: Path) -> bool:
    """Bars of the ratio per workload and thread count; False where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return False
    results = json.loads(source.read_text())
    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars: dict[str, dict[str, float | None]] = {
        threads: {name: ratio(row) for name, row in rows.items()}
        for threads, rows in results["throughput"].items()
    }
    names = [n for n in WORKLOADS if any(shares.get(n) for shares in bars.values())]
    figure, axes = pyplot.subplots(figsize=(8, 0.34 * len(names) + 1.2))
    height = 0.8 / max(len(bars), 1)
    for index, (threads, shares) in enumerate(bars.items()):
        places = [i + (index - (len(bars) - 1) / 2) * height for i in range(len(names))]
        label = f"{threads} thread" + ("s" if threads != "1" else "")
        axes.barh(places, [shares.get(n) or 0.0 for n in names], height, label=label)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("time of the best peer / time of Graphmill (right of the line: Graphmill wins)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return True
