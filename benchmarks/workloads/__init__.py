"""All workloads, by name, in the order of the table."""

from benchmarks.workload import Workload
from benchmarks.workloads import (
    contraction,
    elementwise,
    loops,
    memory,
    rows,
    transformers,
    vision,
)

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for family in (elementwise, rows, memory, contraction, loops, vision, transformers)
    for workload in family.WORKLOADS
}
