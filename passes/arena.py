"""Placing storages with lifetimes into one arena."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

from graphmill.ir.dims import DimLike, floordiv, maximum
from graphmill.ir.graph import Op
from graphmill.records import record

ALIGNMENT = 64


@record(frozen=False, eq=False)
class Storage:
    """Memory that holds values from time `start` to time `end`, both included.

    `fixed` names memory that is not the arena's: `out:<i>`, `const`, or `given` for parameters,
    block arguments and other memory that must not be overwritten. `turns` tells which carry of
    which loop lives here in turn with the loop's result. What is `held` is written in several
    places and never merged into another; `merged` is the storage that this one has become part of.
    `room` is what is kept for it where the size changes with the turns of a loop.
    """

    size: DimLike
    start: int
    end: int
    fixed: str = ""
    offset: DimLike | None = None
    turns: tuple[Op, int] | None = None
    held: bool = False
    merged: Storage | None = None
    room: DimLike | None = None

    @property
    def bytes(self) -> DimLike:
        """The bytes that it takes in the arena."""
        return self.size if self.room is None else self.room

    def find(self) -> Storage:
        """The storage this one is, after merging."""
        storage = self
        while storage.merged is not None:
            storage = storage.merged
        return storage

    def overlaps(self, other: Storage) -> bool:
        """Whether both are live at some time."""
        return self.start <= other.end and other.start <= self.end


def aligned(size: DimLike) -> DimLike:
    """`size` rounded up to the alignment."""
    if isinstance(size, int):
        return -(-size // ALIGNMENT) * ALIGNMENT
    return floordiv(size + (ALIGNMENT - 1), ALIGNMENT) * ALIGNMENT


def allocate(storages: Sequence[Storage]) -> DimLike:
    """Give every storage an offset; returns the arena's size in bytes.

    Fixed sizes go best-fit, largest first (the order that packs best: Lee and Pisarchyk,
    "Efficient Memory Management for Deep Neural Net Inference", 2020); symbolic ones share slots.
    """
    fixed = [s for s in storages if isinstance(s.bytes, int)]
    total: DimLike = _best_fit(fixed)
    slots: list[_Slot] = []
    for storage in sorted(
        (s for s in storages if not isinstance(s.bytes, int)), key=lambda s: s.start
    ):
        _choose_slot(slots, storage)
    for slot in slots:
        for storage in slot.members:
            storage.offset = total
        total = total + aligned(slot.size)
    return total


def _best_fit(storages: Sequence[Storage]) -> int:
    """Place fixed sizes, each into the smallest gap that holds it; returns the bytes used."""
    placed: list[tuple[int, int, Storage]] = []  # offset, end, storage
    used = 0
    order = sorted(range(len(storages)), key=lambda i: (-_bytes(storages[i]), storages[i].start, i))
    for index in order:
        storage = storages[index]
        size = _bytes(storage)
        best, gap, end = -1, -1, 0
        for low, high, other in placed:
            if not storage.overlaps(other):
                continue
            room = low - end
            if room >= size and (best < 0 or room < gap):
                best, gap = end, room
            end = max(end, high)
        offset = best if best >= 0 else end
        storage.offset = offset
        if size:
            insort(placed, (offset, offset + size, storage), key=lambda p: (p[0], p[1]))
        used = max(used, offset + size)
    return used


def _bytes(storage: Storage) -> int:
    size = aligned(storage.bytes)
    assert isinstance(size, int)
    return size


@record(frozen=False)
class _Slot:
    size: DimLike
    end: int
    members: list[Storage]


def _choose_slot(slots: list[_Slot], storage: Storage) -> None:
    """Put a storage into a free slot of its size, else of another symbolic size, else a new one."""
    free = [slot for slot in slots if slot.end < storage.start]
    slot = next((s for s in free if s.size == storage.bytes), free[0] if free else None)
    if slot is None:
        slots.append(_Slot(storage.bytes, storage.end, [storage]))
        return
    slot.size = maximum(slot.size, storage.bytes)
    slot.end = max(slot.end, storage.end)
    slot.members.append(storage)
