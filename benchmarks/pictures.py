"""A run's results as pictures, by matplotlib: every framework per workload, and the roofline."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from benchmarks.frameworks import FRAMEWORKS, OURS
from benchmarks.workloads import FAMILIES, WORKLOADS

NAMES = {
    "benchmarks.png": "Each framework's time over Graphmill's, per workload",
    "roofline.png": "Graphmill's kernels as shares of the machine's limits",
}
# Okabe and Ito's colours, told apart by most eyes; marks differ, too.
STYLES = {
    "numpy": ("#999999", "s"), "numexpr": ("#bbbbbb", "v"), "numba": ("#0072b2", "o"),
    "jax": ("#cc79a7", "D"), "torch": ("#e69f00", "^"), "inductor": ("#d55e00", "P"),
    "onnxruntime": ("#56b4e9", "X"), "openvino": ("#7a5195", "p"), "iree": ("#a6761d", "*"),
}  # fmt: skip
OUR_COLOUR, LOSS, INK, FAINT = "#009e73", "#c0392b", "#222222", "#dddddd"
BOUNDS = {"arithmetic": "#009e73", "memory": "#56b4e9"}
MOST = 1.5  # bars are cut here
SLOWEST = 32.0  # what is slower than this stands at the right edge


def draw(results: dict[str, Any], folder: Path) -> bool:
    """All pictures of the results; False where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    matplotlib.rcParams |= {
        "font.size": 8.5, "axes.edgecolor": "#888888", "text.color": INK,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    }  # fmt: skip
    threads = [t for t, rows in results["throughput"].items() if rows]
    if threads:
        comparison(results["throughput"][threads[0]], threads[0], folder / "benchmarks.png")
    if results["throughput"].get("1") and results["limits"].get("1"):
        roofline(results["throughput"]["1"], results["limits"]["1"], folder / "roofline.png")
    return True


def relative(row: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Each peer's median over Graphmill's."""
    ours = row.get(OURS, {}).get("median")
    peers = {f: c["median"] for f, c in row.items() if f != OURS and "median" in c}
    return {f: time / ours for f, time in peers.items()} if ours else {}


def placed(names: Collection[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Heights of the named rows (a family's stand together) and of the families' titles."""
    heights: dict[str, float] = {}
    titles: dict[str, float] = {}
    at = 0.0
    for family, workloads in FAMILIES.items():
        members = [w.name for w in workloads if w.name in names]
        if not members:
            continue
        titles[family] = at
        for name in members:
            at += 1
            heights[name] = at
        at += 1.6
    return heights, titles


def name_rows(axes: Any, heights: dict[str, float], titles: dict[str, float]) -> None:
    axes.set_yticks(list(heights.values()), list(heights))
    axes.set_ylim(max(heights.values(), default=1) + 1, -1)
    axes.tick_params(axis="both", length=0)
    for family, height in titles.items():
        axes.text(-0.01, height, family, transform=axes.get_yaxis_transform(), ha="right",
                  va="center", weight="bold")  # fmt: skip


def comparison(rows: dict[str, Any], threads: str, path: Path) -> None:
    """One line per workload: peers right of the line at 1 are slower than Graphmill."""
    from matplotlib import pyplot

    heights, titles = placed([name for name, row in rows.items() if relative(row)])
    figure, axes = pyplot.subplots(figsize=(9, 0.19 * max(heights.values(), default=1) + 1.6))
    for name, height in heights.items():
        found = relative(rows[name])
        best = min(found.values())
        axes.axhline(height, color=FAINT, linewidth=0.5, zorder=0)
        colour = OUR_COLOUR if best >= 1 else LOSS
        axes.plot([1, min(best, SLOWEST)], [height] * 2, color=colour, linewidth=3.2, zorder=1)
        for framework, share in found.items():
            tint, mark = STYLES[framework]
            axes.scatter(
                min(share, SLOWEST), height, s=34, zorder=3, color=tint, marker=mark,
                edgecolors="white", linewidths=0.4,
            )  # fmt: skip
        axes.text(
            1.012, height, f"{best:.2f}×", transform=axes.get_yaxis_transform(), va="center",
            color=colour, weight="bold",
        )  # fmt: skip
    name_rows(axes, heights, titles)
    axes.axvline(1, color=OUR_COLOUR, linewidth=1.4, zorder=2)
    scale(axes, {f for name in heights for f in relative(rows[name])})
    axes.set_title(
        "Time relative to Graphmill's, "
        f"{threads} thread{'s' if threads != '1' else ''}: right of the green line is slower",
        loc="left", weight="bold", pad=26,
    )  # fmt: skip
    figure.savefig(path, dpi=130, bbox_inches="tight")
    pyplot.close(figure)


def scale(axes: Any, used: set[str]) -> None:
    """The comparison's logarithmic axis and its legend."""
    from matplotlib.lines import Line2D

    axes.set_xscale("log", base=2)
    ticks = [0.25, 0.5, 1, 2, 4, 8, 16, SLOWEST]
    axes.set_xticks(ticks, ["¼×", "½×", "Graphmill", "2×", "4×", "8×", "16×", "≥ 32×"])
    axes.set_xlim(0.22, SLOWEST * 1.15)
    axes.xaxis.minorticks_off()
    axes.tick_params(axis="x", labeltop=True)
    handles = [
        Line2D([], [], color=tint, marker=mark, linestyle="", label=FRAMEWORKS[name].title)
        for name, (tint, mark) in STYLES.items()
        if name in used
    ]
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.45, -0.035), ncols=5, frameon=False
    )


def shares(rows: dict[str, Any], limit: dict[str, float]) -> dict[str, tuple[float, str]]:
    """Of each workload: our rate over what binds it, arithmetic or memory, and which it is."""
    found = {}
    for name, row in rows.items():
        workload, seconds = WORKLOADS[name], row.get(OURS, {}).get("median")
        if seconds and workload.bytes:
            flops = workload.flops / seconds / 1e9 / limit["gflops"]
            traffic = workload.bytes / seconds / 1e9 / limit["read"]
            found[name] = max((flops, "arithmetic"), (traffic, "memory"))
    return found


def roofline(rows: dict[str, Any], limit: dict[str, float], path: Path) -> None:
    """One bar per workload: how near it is to the roof above it."""
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    found = shares(rows, limit)
    heights, titles = placed(list(found))
    figure, axes = pyplot.subplots(figsize=(7.5, 0.17 * max(heights.values(), default=1) + 1.2))
    for name, height in heights.items():
        share, bound = found[name]
        axes.barh(height, min(share, MOST), color=BOUNDS[bound], height=0.72, zorder=2)
        axes.text(min(share, MOST) + 0.01, height, f"{share:.0%}", va="center", fontsize=7.5)
    name_rows(axes, heights, titles)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xlim(0, MOST + 0.08)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "limit"])
    axes.grid(axis="x", color=FAINT, linewidth=0.5, zorder=0)
    limits = {
        "arithmetic": f"bound by arithmetic: {limit['gflops']:.0f} GFLOP/s",
        "memory": f"bound by memory: {limit['read']:.0f} GB/s (caches may be faster)",
    }
    patches = [Patch(color=BOUNDS[bound], label=text) for bound, text in limits.items()]
    axes.legend(handles=patches, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    axes.set_title(
        "Graphmill as a share of what the machine can do, 1 thread",
        loc="left", weight="bold", pad=24,
    )  # fmt: skip
    figure.savefig(path, dpi=130, bbox_inches="tight")
    pyplot.close(figure)
