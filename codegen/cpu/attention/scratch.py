"""A worker's scratch memory, cut into arrays of fixed sizes."""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.kernel import Kernel, Storage


class Scratch:
    """Arrays asked for one after the other; `close` tells the host how much they are."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.storage = Storage(("attention scratch", kernel.name), True)
        self.base = kernel.pointer(self.storage)
        self.size = ("attention scratch bytes", kernel.name)
        code = kernel.code
        offset = code.mul(kernel.worker, kernel.value(self.size))
        self.own = code.at(self.base, offset, "i8")
        self.bytes = 0

    def take(self, bytes_: int) -> Val:
        """The address of `bytes_` bytes on a cache line."""
        address = self.kernel.code.at(self.own, self.bytes, "i8")
        self.bytes += (bytes_ + 63) // 64 * 64
        return address

    def close(self, host: Host) -> None:
        """Reserve the memory for every worker."""
        total = self.bytes
        host.lend(self.storage, host.scratch(lambda code, dim: (code.i64(0), code.i64(total))))
        host.provide(self.size, host.code.i64(total))
