"""Compiling elementwise kernels over arrays, many at a time, and running them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphmill.codegen.cpu import emit, llvm, mlir
from graphmill.codegen.cpu.elem import Elem
from graphmill.codegen.cpu.emit import Code
from graphmill.codegen.cpu.memory import load, store
from graphmill.codegen.cpu.scalar import apply
from graphmill.codegen.cpu.target import Target, native
from graphmill.ir.dtypes import DType, dtype

Body = Callable[[Code, list[Elem]], Elem]


def llvm_machine(target: Target) -> Any:
    """The target machine that llvmlite's linkers ask for."""
    import llvmlite.binding as binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, reloc="pic", codemodel="small"
    )


@dataclass
class Kernels:
    """A batch of kernels `out[i] = body(in0[i], in1[i], …)`, compiled together on first use.

    Whole vectors run in vector code and the rest in scalar code, so that one call tests both.
    """

    target: Target = field(default_factory=native)
    keep_text: bool = False
    lanes: int = 8
    unit: emit.Unit = field(init=False)
    engine: Any = None
    kinds: dict[str, tuple[list[DType], DType]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.unit = emit.Unit(half=self.target.converts_half)

    def add(self, name: str, ins: Sequence[DType], out: DType, body: Body) -> None:
        """Add kernel `name`; `body` gets the code and the loaded elements."""
        assert self.engine is None, "the batch is compiled already"
        self.kinds[name] = (list(ins), out)
        pointers = [(f"p{i}", "!llvm.ptr") for i in range(len(ins) + 1)]
        code = Code(self.unit, f"gm_{name}", [*pointers, ("n", "i64")], internal=False)
        *arrays, n = code.args
        whole = code.op(f"arith.andi {n}, {code.i64(-self.lanes)} : i64", "i64")
        for low, high, lanes in ((code.i64(0), whole, self.lanes), (whole, n, 0)):
            with code.loop(low, high, max(lanes, 1)) as loop:
                pairs = zip(arrays, ins, strict=False)
                values = [load(code, base, loop.i, kind, lanes) for base, kind in pairs]
                store(code, body(code, values), arrays[-1], loop.i, out)
        code.finish()

    def add_op(self, op: str, ins: Sequence[str], out: str, name: str | None = None) -> str:
        """Add a kernel of one table op; returns its name."""
        types, result = [dtype(kind) for kind in ins], dtype(out)
        name = name or f"{op}_{'_'.join(ins)}"
        self.add(
            name, types, result,
            lambda code, args: apply(code, self.target, op, args, types, result, {}),
        )  # fmt: skip
        return name

    def compile(self) -> None:
        """Compile all kernels into this process."""
        import llvmlite.binding as binding

        text = mlir.lower(self.unit.text())
        # as entries and what they share are: copies of the loops, which unrolling makes, are alike
        self.compiled = llvm.compile_ir(
            text, self.target, kind="straight", keep_text=self.keep_text
        )
        machine = llvm_machine(self.target)
        self.engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self.engine.add_object_file(binding.ObjectFileRef.from_data(self.compiled.object))
        self.engine.finalize_object()

    def __call__(self, name: str, *arrays: np.ndarray) -> np.ndarray:
        """Run kernel `name` on equally long arrays."""
        if self.engine is None:
            self.compile()
        ins, out = self.kinds[name]
        data = [np.ascontiguousarray(a, kind.numpy) for a, kind in zip(arrays, ins, strict=True)]
        result = np.empty(data[0].shape, out.numpy)
        address = self.engine.get_function_address(f"gm_{name}")
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*data, result)]
        kinds = [ctypes.c_void_p] * len(pointers) + [ctypes.c_int64]
        ctypes.CFUNCTYPE(None, *kinds)(address)(*pointers, data[0].size)
        return result
