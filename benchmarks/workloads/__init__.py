"""All workloads, by name and family, in the order of the table."""

from benchmarks.workload import Workload
from benchmarks.workloads import (
    attention,
    contraction,
    convolution,
    elementwise,
    loops,
    memory,
    npbench,
    products,
    recurrences,
    rows,
    sorting,
    sweeps,
    training,
    transformers,
    triangles,
    vision,
)

FAMILIES: dict[str, tuple[Workload, ...]] = {
    "elementwise": elementwise.WORKLOADS,
    "rows": rows.WORKLOADS,
    "memory": memory.WORKLOADS,
    "sorting": sorting.WORKLOADS,
    "contraction": contraction.WORKLOADS,
    "convolution": convolution.WORKLOADS,
    "attention": attention.WORKLOADS,
    "loops": loops.WORKLOADS,
    "npbench": (
        *npbench.WORKLOADS,
        *sweeps.WORKLOADS,
        *triangles.WORKLOADS,
        *recurrences.WORKLOADS,
        *products.WORKLOADS,
    ),
    "models": (*vision.WORKLOADS, *transformers.WORKLOADS, *training.WORKLOADS),
}
WORKLOADS: dict[str, Workload] = {
    workload.name: workload for family in FAMILIES.values() for workload in family
}
