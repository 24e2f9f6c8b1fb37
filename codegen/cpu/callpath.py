"""The native call path: object code of `call.words` and its parts for the machine here.

The layouts of the records that it reads belong to the runtime, which passes them as constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from graphmill.codegen.cpu.words import to_llvm, to_object

PARTS = ("call", "arrays", "arguments", "structures", "variables")


def source() -> str:
    """The call path's source text."""
    here = Path(__file__)
    return "\n".join(here.with_name(f"{p}.words").read_text(encoding="utf-8") for p in PARTS)


def llvm_ir(triple: str, layout: Mapping[str, int]) -> str:
    """LLVM IR text of the call path for a triple and record layouts."""
    return to_llvm(source(), triple, layout)


def digest_object_code() -> bytes:
    """Relocatable object of `digest.words` for the machine here."""
    text = Path(__file__).with_name("digest.words").read_text(encoding="utf-8")
    return to_object(text, effort=2)


def poll_object_code(layout: Mapping[str, int]) -> bytes:
    """Relocatable object of `poll.words` for the machine here."""
    text = Path(__file__).with_name("poll.words").read_text(encoding="utf-8")
    return to_object(text, constants=layout, effort=0)


def object_code(layout: Mapping[str, int]) -> bytes:
    """Relocatable object of the call path for the machine here."""
    # LLVM's fast code generation costs a call 40 ns and saves the first one 70 ms
    return to_object(source(), constants=layout, effort=0)
