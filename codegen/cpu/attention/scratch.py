"""Scratch memory of a kernel: an array that all workers share, and arrays of each worker."""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.kernel import Kernel, Storage
from graphmill.ir.dims import DimLike


class Scratch:
    """Arrays asked for one after the other; `close` tells the host how much they are.

    `shared` bytes come first; kernels that run one after the other see the same ones there.
    """

    def __init__(self, kernel: Kernel, shared: DimLike = 0) -> None:
        self.kernel, self.once = kernel, (shared + 63) // 64 * 64
        self.storage = Storage(("attention scratch", kernel.name), True)
        self.shared = kernel.pointer(self.storage)
        self.size = ("attention scratch bytes", kernel.name)
        code = kernel.code
        offset = code.mul(kernel.worker, kernel.value(self.size))
        self.own = code.at(code.at(self.shared, kernel.dim(self.once), "i8"), offset, "i8")
        self.bytes = 0

    def take(self, bytes_: int) -> Val:
        """The address of `bytes_` bytes on a cache line."""
        address = self.kernel.code.at(self.own, self.bytes, "i8")
        self.bytes += (bytes_ + 63) // 64 * 64
        return address

    def close(self, host: Host) -> None:
        """Reserve the memory."""
        once, each = self.once, self.bytes
        host.lend(self.storage, host.scratch(lambda code, dim: (dim(once), code.i64(each))))
        host.provide(self.size, host.code.i64(each))
