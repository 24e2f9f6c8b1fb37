"""Graphmill: a graph compiler for NumPy-style functions.

import graphmill as gm

@gm.jit
def f(x, w):
    return np.tanh(x @ w)
"""

from __future__ import annotations

import importlib
import os.path
from typing import TYPE_CHECKING, Any

# In a checkout the stages stand beside this folder; installed, they stand inside it.
if not os.path.isdir(os.path.join(__path__[0], "ir")):
    __path__.append(os.path.dirname(__path__[0]))

__version__ = "0.1.0"

# public name -> where it lives; loaded at first use, so that importing stays quick
_WHERE = {
    "jit": "api", "build": "api", "load": "api", "spec": "frontend.spec",
    "Graph": "stages", "Lowered": "stages", "Executable": "stages",
    "cond": "frontend.control", "switch": "frontend.control",
    "while_loop": "frontend.control", "fori_loop": "frontend.control",
    "scan": "frontend.control", "GraphmillError": "frontend.errors",
    "InternalError": "failure", "CheckError": "runtime.executable",
    "dump": "dumping", "profile": "runtime.profiler", "knobs": "knobs:",
    "devices": "runtime.devices", "device": "runtime.devices",
    "threads": "runtime.threads", "set_num_threads": "runtime.threads",
    "num_threads": "runtime.threads",
    "numpy": "frontend.numpy:", "nn": "frontend.nn:",
    "random": "frontend.random:", "Variable": "frontend.variable",
}  # fmt: skip

__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:
    from graphmill import knobs as knobs
    from graphmill.api import build as build
    from graphmill.api import jit as jit
    from graphmill.api import load as load
    from graphmill.dumping import dump as dump
    from graphmill.failure import InternalError as InternalError
    from graphmill.frontend import nn as nn
    from graphmill.frontend import numpy as numpy
    from graphmill.frontend import random as random
    from graphmill.frontend.errors import GraphmillError as GraphmillError
    from graphmill.frontend.spec import spec as spec
    from graphmill.frontend.variable import Variable as Variable
    from graphmill.runtime.executable import CheckError as CheckError
    from graphmill.runtime.profiler import profile as profile
    from graphmill.runtime.threads import num_threads as num_threads
    from graphmill.runtime.threads import set_num_threads as set_num_threads
    from graphmill.runtime.threads import threads as threads
    from graphmill.stages import Executable as Executable
    from graphmill.stages import Graph as Graph
    from graphmill.stages import Lowered as Lowered


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module 'graphmill' has no attribute {name!r}")
    from graphmill.collector import no_collections

    module = no_collections(importlib.import_module)(f"graphmill.{where.rstrip(':')}")
    value = module if where.endswith(":") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
