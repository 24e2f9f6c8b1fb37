"""How each framework compiles a workload: one record per column of the table.

Every `prepare` returns a call without arguments that computes the result from inputs already in
the framework's own form; the result is complete when the call returns.
"""

import contextlib
import importlib
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.layers import with_numpy
from benchmarks.workload import Workload

Call = Callable[[], Any]


class NotWritten(Exception):
    """The workload has no version for this framework."""


@dataclass(frozen=True)
class Framework:
    """A column: what is imported, what the report calls it, how it turns a workload into a call."""

    name: str
    module: str
    title: str
    prepare: Callable[[Workload, int], Call]
    package: str = ""  # asked for the version where the module does not tell

    def version(self) -> str:
        """The installed version; ImportError where there is none."""
        module = importlib.import_module(self.module)
        return str(getattr(module, "__version__", None) or importlib.metadata.version(self.package))


def written(workload: Workload, *names: str) -> Any:
    code = workload.variant(*names)
    if code is None:
        raise NotWritten
    return code


def function(workload: Workload, names: Sequence[str], xp: Any, nn: Any) -> Callable[..., Any]:
    found = workload.function(names, xp, nn)
    if found is None:
        raise NotWritten
    return found


def numpy_call(workload: Workload, threads: int) -> Call:
    inputs, constants = workload.data()
    call = function(workload, ("numpy", "array"), np, with_numpy)
    return partial(call, *inputs.values(), *constants)


def numexpr_call(workload: Workload, threads: int) -> Call:
    import numexpr

    expression = written(workload, "numexpr")
    numexpr.set_num_threads(threads)
    inputs, _ = workload.data()
    return partial(numexpr.evaluate, expression, local_dict=inputs, truediv=True)


def numba_call(workload: Workload, threads: int) -> Call:
    import numba

    inputs, constants = workload.data()
    return partial(written(workload, "numba")(numba), *inputs.values(), *constants)


def is_wide(workload: Workload) -> bool:
    """Whether inputs have 64 bits, which JAX narrows unless it is told not to."""
    inputs, _ = workload.data()
    return any(a.dtype.itemsize == 8 for a in inputs.values())


def jax_call(workload: Workload, threads: int) -> Call:
    import jax
    import jax.numpy as jnp

    from benchmarks.layers import with_jax

    call = function(workload, ("jax", "array"), jnp, with_jax)
    inputs, constants = workload.data()
    wide = is_wide(workload)

    def run() -> Any:
        with jax.enable_x64(wide) if wide else contextlib.nullcontext():
            return compiled(*arrays).block_until_ready()

    with jax.enable_x64(wide):
        weights = [jnp.asarray(c) for c in constants]
        compiled = jax.jit(lambda *xs: call(*xs, *weights))
        arrays = [jnp.asarray(a) for a in inputs.values()]
    return run


def tensors(*arrays: Any) -> list[Any]:
    """Arrays as torch's tensors; it takes no bfloat16 from NumPy, but its bits."""
    import torch

    return [
        torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
        if a.dtype.name == "bfloat16"
        else torch.from_numpy(a)
        for a in arrays
    ]


def torch_call(workload: Workload, threads: int) -> Call:
    import torch

    from benchmarks.layers import with_torch

    call = function(workload, ("torch",), torch, with_torch)
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    inputs, constants = workload.data()
    return partial(call, *tensors(*inputs.values(), *constants))


def inductor_call(workload: Workload, threads: int) -> Call:
    import torch

    from benchmarks.layers import with_torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    inputs, constants = workload.data()
    given, weights = tensors(*inputs.values()), tensors(*constants)
    torch.compiler.reset()  # else the lambda's eighth workload runs uncompiled
    if compile_parts := workload.variant("inductor"):
        assert callable(compile_parts)
        return partial(compile_parts(torch), *given, *weights)
    call = function(workload, ("torch",), torch, with_torch)

    class Closed(torch.nn.Module):
        """The constants as parameters: what freezing folds, packs and lays out."""

        def __init__(self) -> None:
            super().__init__()
            frozen = (torch.nn.Parameter(w, requires_grad=False) for w in weights)
            self.weights = torch.nn.ParameterList(frozen)

        def forward(self, *xs: Any) -> Any:
            return call(*xs, *self.weights)

    torch._inductor.config.freezing = True
    return partial(torch.compile(Closed().eval(), dynamic=False), *given)


def onnx_model(workload: Workload) -> bytes:
    """The workload's ONNX text with its constants as initialisers, or its layers as a graph."""
    import onnx

    inputs, constants = workload.data()
    if "onnx" not in workload.code:
        from benchmarks.layers import with_onnx

        model_of = function(workload, (), with_onnx, with_onnx)
        return with_onnx.traced(model_of, inputs, constants)
    text = f'<ir_version: 10, opset_import: ["": 21]> {written(workload, "onnx")}'
    model = onnx.parser.parse_model(text)
    declared = [value.name for value in model.graph.input]
    names = declared[len(inputs) :]
    for name, array in zip(names, constants, strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    del model.graph.input[len(inputs) :]
    return bytes(model.SerializeToString())


def onnxruntime_call(workload: Workload, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(onnx_model(workload), options, providers=providers)
    inputs, _ = workload.data()
    return lambda: session.run(None, inputs)[0]


def openvino_call(workload: Workload, threads: int) -> Call:
    import openvino

    model = openvino.Core().read_model(onnx_model(workload))
    config = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
    inputs, _ = workload.data()
    arrays = list(inputs.values())
    return lambda: request.infer(arrays, share_inputs=True, share_outputs=True)[0]


def iree_call(workload: Workload, threads: int) -> Call:
    """What JAX traces, compiled by IREE for this CPU; constants are arguments on its device."""
    import iree.compiler
    import iree.runtime
    import jax
    import jax.numpy as jnp

    from benchmarks.layers import with_jax

    call = function(workload, ("jax", "array"), jnp, with_jax)
    inputs, constants = workload.data()
    with jax.enable_x64(is_wide(workload)):
        arrays = [np.asarray(jnp.asarray(a)) for a in (*inputs.values(), *constants)]
        traced = str(jax.jit(call).lower(*arrays).compiler_ir("stablehlo"))
    binary = iree.compiler.compile_str(
        traced,
        input_type="stablehlo",
        target_backends=["llvm-cpu"],
        extra_args=[
            "--iree-llvmcpu-target-cpu=host",
            "--iree-input-demote-f64-to-f32=false",
            "--iree-input-demote-i64-to-i32=false",
        ],
    )
    iree.runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
    config = iree.runtime.Config("local-sync" if threads == 1 else "local-task")
    context = iree.runtime.SystemContext(config=config)
    module = iree.runtime.VmModule.copy_buffer(context.instance, binary)
    context.add_vm_module(module)
    on_device = [iree.runtime.asdevicearray(config.device, a) for a in arrays]
    return partial(context.modules[module.name]["main"], *on_device)


def graphmill_call(workload: Workload, threads: int) -> Call:
    import graphmill as gm

    nn = gm.nn if "layers" in workload.code else None
    call = function(workload, ("graphmill", "array"), np, nn)
    inputs, constants = workload.data()
    for weights in constants:  # a call checks captured arrays for changes unless they are frozen
        weights.flags.writeable = False
    compiled = gm.jit(lambda *xs: call(*xs, *constants), **workload.options)
    return partial(compiled, *inputs.values())


OURS = "graphmill"
FRAMEWORKS: dict[str, Framework] = {
    framework.name: framework
    for framework in (
        Framework(OURS, "graphmill", "Graphmill", graphmill_call),
        Framework("numpy", "numpy", "NumPy", numpy_call),
        Framework("numexpr", "numexpr", "numexpr", numexpr_call),
        Framework("numba", "numba", "Numba", numba_call),
        Framework("jax", "jax", "JAX", jax_call),
        Framework("torch", "torch", "torch", torch_call),
        Framework("inductor", "torch", "torch.compile", inductor_call),
        Framework("onnxruntime", "onnxruntime", "ONNX Runtime", onnxruntime_call),
        Framework("openvino", "openvino", "OpenVINO", openvino_call),
        Framework("iree", "iree.compiler", "IREE", iree_call, "iree-base-compiler"),
    )
}

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "GRAPHMILL_NUM_THREADS",
)
# What would slow NumPy, change which code is imported, or compile every module in every process.
UNSET = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",
    "GRAPHMILL_CACHE",
    "GRAPHMILL_DUMP",
)


def environment(threads: int, scratch: str) -> dict[str, str]:
    """A worker's environment: the thread count everywhere, compile caches empty and its own."""
    kept = {key: value for key, value in os.environ.items() if key not in UNSET}
    return (
        kept
        | dict.fromkeys(THREAD_VARIABLES, str(threads))
        | {
            "GRAPHMILL_CACHE_DIR": f"{scratch}/graphmill",
            "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/inductor",
            "JAX_COMPILATION_CACHE_DIR": f"{scratch}/jax",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PLATFORMS": "cpu",
        }
    )
