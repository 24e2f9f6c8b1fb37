"""The runtime's tests bring its native parts and start from two threads."""

import pytest

from graphmill.codegen.cpu import callpath, pool
from graphmill.runtime import native, threads

native.provide(pool=pool.object_code, call=callpath.object_code, digest=callpath.digest_object_code)


@pytest.fixture(autouse=True)
def two_threads():
    """Every test starts from two threads, on any machine."""
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(2)


@pytest.fixture
def needs_call_path():
    if native.call_path() is None:
        pytest.skip("no native call path on this Python")
