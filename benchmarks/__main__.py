"""Command line: `python -m benchmarks [--quick] [--only NAME,…] [--frameworks …] [--out DIR]`.

An interrupted run goes on with `--resume`; `--page docs/benchmarks.md` brings the page up to date.
"""

import argparse
import dataclasses
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import machine, pictures, report, session
from benchmarks.frameworks import FRAMEWORKS
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help="workloads, separated by commas (parts of names will do)")
    parser.add_argument("--frameworks", help="frameworks, separated by commas")
    parser.add_argument("--threads", default="1,2", help="thread counts (default 1,2)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds per workload")
    parser.add_argument("--seconds", type=float, default=0.15, help="length of one round")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.05 s, no cold runs")
    parser.add_argument("--no-cold", action="store_true", help="leave out compile and import time")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks")
    parser.add_argument(
        "--keep", type=Path, help="a folder: references and compile caches stay there between runs"
    )
    parser.add_argument(
        "--peers-python",
        default=str(ROOT / ".peers" / "bin" / "python"),
        help="the peers' interpreter (benchmarks/install_peers.sh makes .peers)",
    )
    parser.add_argument("--resume", action="store_true", help="measure only what --out lacks")
    parser.add_argument("--report", action="store_true", help="measure nothing, report --out anew")
    parser.add_argument("--page", type=Path, help="a page whose tables and pictures are replaced")
    parser.add_argument("--list", action="store_true", help="list workloads and frameworks")
    return parser.parse_args()


def chosen(names: str | None, among: dict[str, Any], exact: bool) -> list[str]:
    """The asked-for names in the table's order; ends the program on one that fits nothing."""
    if not names:
        return list(among)
    asked = names.split(",")
    fits = {
        part: [name for name in among if (part == name if exact else part in name)]
        for part in asked
    }
    if unknown := [part for part, found in fits.items() if not found]:
        sys.exit(f"nothing is called {', '.join(unknown)}; there are: {', '.join(among)}")
    wanted = {name for found in fits.values() for name in found}
    return [name for name in among if name in wanted]


def plan_from(options: argparse.Namespace) -> session.Plan:
    peers = options.peers_python
    if not Path(peers).exists():
        print(f"{peers} is not there: only what this Python has is measured", file=sys.stderr)
        peers = sys.executable
    return session.Plan(
        workloads=chosen(options.only, WORKLOADS, exact=False),
        frameworks=chosen(options.frameworks, FRAMEWORKS, exact=True),
        threads=[int(n) for n in options.threads.split(",")],
        rounds=3 if options.quick else options.rounds,
        seconds=0.05 if options.quick else options.seconds,
        python=sys.executable,
        peers_python=peers,
        cold=not (options.quick or options.no_cold),
        kept=options.keep,
    )


def line(name: str, row: report.Row) -> str:
    cells = (
        f"{FRAMEWORKS[f].title} {report.duration(cell['median'])}"
        for f, cell in sorted(row.items(), key=lambda item: item[1].get("median", float("inf")))
        if "median" in cell
    )
    share = report.ratio(row)
    return f"{name:20} {f'{share:5.2f}' if share else '    –'}  {', '.join(cells)}"


def begin(plan: session.Plan, out: Path, resume: bool) -> dict[str, Any]:
    """The results to add to: an earlier run's, if asked for and of the same versions."""
    described = machine.describe()
    found = session.versions(plan)
    path = out / "results.json"
    if resume and path.exists():
        earlier: dict[str, Any] = json.loads(path.read_text())
        same = [earlier["versions"].get(f) == v for f, v in found.items()]
        if all(same) and earlier["machine"] == described:
            return earlier
        sys.exit(f"{path} is of another machine or of other versions; move it away")
    today = datetime.date.today().isoformat()
    empty: dict[str, Any] = {"throughput": {}, "limits": {}, "fresh": {}, "imports": {}}
    return {"date": today, "machine": described, "versions": found} | empty


def run(plan: session.Plan, out: Path, resume: bool) -> None:
    """Measure everything in the plan, telling the terminal and `out` as it goes."""
    results = begin(plan, out, resume)
    present = [f for f in plan.frameworks if results["versions"][f]]
    plan = dataclasses.replace(plan, frameworks=present)
    for threads in plan.threads:
        print(f"\n{threads} thread(s): workload, ratio to the best peer, medians")
        results["limits"].setdefault(str(threads), session.limits(plan, threads))
        rows = results["throughput"].setdefault(str(threads), {})
        for name, row in session.throughput(plan, threads, done=rows):
            rows[name] = row
            print(line(name, row), flush=True)
            write(results, out)
    if plan.cold:
        print("\ncold compile: workload, ratio to the best peer, medians")
        results["imports"] = results["imports"] or session.imports(plan)
        for name in plan.workloads:
            if name not in results["fresh"] and WORKLOADS[name].tags & {"cold", "memory"}:
                results["fresh"][name] = session.fresh(plan, name)
                print(line(name, results["fresh"][name]), flush=True)
                write(results, out)
    write(results, out)


def write(results: dict[str, Any], out: Path) -> None:
    """The results so far: a run that is cut short loses only its last row."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / "results.json.partial"
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(out / "results.json")
    (out / "results.md").write_text(report.markdown(results))


def main() -> None:
    options = arguments()
    if options.list:
        for workload in WORKLOADS.values():
            print(f"{workload.name:20} {workload.title}")
        print("\nframeworks: " + ", ".join(FRAMEWORKS))
        return
    if not options.report:
        run(plan_from(options), options.out, options.resume)
    results = json.loads((options.out / "results.json").read_text())
    if not pictures.draw(results, options.out):
        print("no pictures: matplotlib is not installed here", file=sys.stderr)
    if options.page:
        report.update_page(results, options.page, options.out)
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
