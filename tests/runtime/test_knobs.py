"""Knobs: environment, set, scope, and a clear error for every wrong value."""

import threading
from pathlib import Path

import pytest

from graphmill import knobs

CASES = [
    (knobs.num_threads, "3", 3, ["0", "-1", "two", "1.5"]),
    (knobs.dump, "/tmp/d", Path("/tmp/d"), []),
    (knobs.debug, "4", 4, ["6", "-1", "x"]),
    (knobs.cache, "0", False, ["2", "maybe"]),
    (knobs.cache, "on", True, []),
    (knobs.cache_dir, "/tmp/c", Path("/tmp/c"), []),
    (knobs.cache_size, "64M", 64 << 20, ["-1", "5X", "M", "1.5G"]),
    (knobs.cache_size, "2GiB", 2 << 30, []),
    (knobs.cache_weights, "0", 0, ["none"]),
    (knobs.memory_cache, "500", 500, ["lots"]),
]


@pytest.mark.parametrize("knob, text, value, wrong", CASES)
def test_values(monkeypatch, knob, text, value, wrong):
    monkeypatch.delenv(knob.variable, raising=False)
    default = knob()
    monkeypatch.setenv(knob.variable, text)
    assert knob() == value
    monkeypatch.setenv(knob.variable, "")
    assert knob() == default
    for bad in wrong:
        monkeypatch.setenv(knob.variable, bad)
        with pytest.raises(knobs.KnobError, match=knob.variable):
            knob()
    monkeypatch.delenv(knob.variable)
    knob.set(text)
    assert knob() == value
    knob.reset()
    with knobs.scope(**{knob.name: text}):
        assert knob() == value
    assert knob() == default


def test_scopes_win_nest_and_stay_in_their_thread(monkeypatch):
    monkeypatch.setenv("GRAPHMILL_DEBUG", "1")
    seen = []
    with knobs.scope(debug=3):
        with knobs.scope(debug="5", cache=False):
            assert (knobs.debug(), knobs.cache()) == (5, False)
        assert knobs.debug() == 3
        other = threading.Thread(target=lambda: seen.append(knobs.debug()))
        other.start()
        other.join()
    assert seen == [1] and knobs.debug() == 1


def test_unknown_names():
    with pytest.raises(knobs.KnobError, match=r"unknown knob 'treads'.*num_threads"), \
            knobs.scope(treads=2):  # fmt: skip
        pass


def test_every_knob_is_described_and_exported():
    for name, knob in knobs.KNOBS.items():
        assert knob.doc and knob.variable == f"GRAPHMILL_{name.upper()}"
        assert getattr(knobs, name) is knob and name in knobs.__all__
