"""Before/after pairs: a pass turns one text into the other, without changing what it means."""

import textwrap

from graphmill.ir.parser import parse
from graphmill.ir.printer import constants_of
from graphmill.ir.reference import interpret
from graphmill.passes.manager import run_pipeline
from tests.differential.random_graphs import arrays_for, assert_same


def check_pair(pipeline: str, before: str, after: str) -> None:
    """The pipeline makes `after` of `before`, leaves `after` alone, and keeps the results."""
    module = parse(textwrap.dedent(before).strip())
    got = run_pipeline(module, pipeline)
    assert str(got).strip() == textwrap.dedent(after).strip()
    if "check" not in pipeline and "specialise" not in pipeline:
        assert str(run_pipeline(got, pipeline)) == str(got)
    arrays = arrays_for(module.entry, sizes={"n": 3, "m": 5})
    again = parse(str(got), constants_of(got))
    assert_same(interpret(again, *arrays), interpret(module, *arrays))
