"""The native parts that the runtime runs on: the worker pool and the call path.

Their object code comes from code generation: the face hands over two functions with `provide`, and
they are called when first needed. Without them everything still works, on one thread and through
ctypes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from graphmill.runtime.layout import HOST, LAYOUT, MEMORY
from graphmill.runtime.loader import LoadedObject

POOL_SYMBOLS = ("gm_parallel_for", "gm_pool_now", "gm_pool_set_threads", "gm_pool_workers")
CALL_SYMBOLS = [
    "gm_host",
    "gm_memory",
    "gm_call",
    "gm_new_array",
    "gm_allocate",
    "gm_release",
    "gm_trim",
    "gm_numpy_malloc",
    "gm_numpy_calloc",
    "gm_numpy_realloc",
    "gm_numpy_free",
]

_lock = threading.RLock()
_pool_code: Callable[[], bytes] | None = None
_call_code: Callable[[Mapping[str, int]], bytes] | None = None
_digest_code: Callable[[], bytes] | None = None
_poll_code: Callable[[Mapping[str, int]], bytes] | None = None
_poll: LoadedObject | None = None
_digest: Digest | None = None
_fingerprint: Callable[[], str] | None = None
_pool: Pool | None = None
_call: CallPath | None = None
_call_refused = False

BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_PARALLEL_FOR = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)


def provide(
    *,
    pool: Callable[[], bytes] | None = None,
    call: Callable[[Mapping[str, int]], bytes] | None = None,
    digest: Callable[[], bytes] | None = None,
    poll: Callable[[Mapping[str, int]], bytes] | None = None,
    fingerprint: Callable[[], str] | None = None,
) -> None:
    """Say where object code comes from: `pool()`, `call(layout)` for the call path, `digest()`,
    `poll(layout)`.

    With `fingerprint()`, a text that changes whenever the code would, it is kept in the compile
    cache.
    """
    global _pool_code, _call_code, _digest_code, _poll_code, _fingerprint
    _pool_code = pool or _pool_code
    _call_code = call or _call_code
    _digest_code = digest or _digest_code
    _poll_code = poll or _poll_code
    _fingerprint = fingerprint or _fingerprint


def _code(name: str, build: Callable[[], bytes]) -> bytes:
    from graphmill.runtime import cache

    store = cache.default() if _fingerprint else None
    if store is None or _fingerprint is None:
        return build()
    machine = f"{os.uname().machine} {sys.platform} {sorted(LAYOUT.items())}"
    return store.get_or_build(cache.key_of("native", name, _fingerprint(), machine), build)


def _load_for_good(code: bytes, names: Sequence[str]) -> LoadedObject:
    """A part of ours, never unloaded: at exit workers run it still, and arrays are freed by it."""
    loaded = LoadedObject(code, names, system=True)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(loaded))
    return loaded


class Pool:
    """The loaded worker pool: addresses for a context block, and control of its threads."""

    def __init__(self, code: bytes) -> None:
        address = _load_for_good(code, POOL_SYMBOLS).addresses
        self.parallel_for = address["gm_parallel_for"]
        self.now = address["gm_pool_now"]
        word = ctypes.c_int64
        self._set = ctypes.CFUNCTYPE(word, word)(address["gm_pool_set_threads"])
        self._workers = ctypes.CFUNCTYPE(word)(address["gm_pool_workers"])

    def set_threads(self, threads: int) -> None:
        """End the workers beyond `threads - 1`."""
        self._set(threads)

    def workers(self) -> int:
        """Worker threads alive."""
        return int(self._workers())


class CallPath:
    """The loaded call path: its shared words, its C function, NumPy arrays from its allocator."""

    def __init__(self, code: bytes) -> None:
        from graphmill.runtime import numpy_abi

        self.addresses = _load_for_good(code, CALL_SYMBOLS).addresses
        self.host = _words(self.addresses["gm_host"], len(HOST))
        self.memory = _words(self.addresses["gm_memory"], len(MEMORY))
        numpy_abi.connect(self)
        word = ctypes.c_int64
        self.new_array = ctypes.PYFUNCTYPE(ctypes.py_object, word, word, ctypes.c_void_p, word)(
            self.addresses["gm_new_array"]
        )
        self.trim = ctypes.CFUNCTYPE(word)(self.addresses["gm_trim"])
        numpy_abi.check(self)

    def set_host(self, name: str, value: int) -> None:
        """Store one shared word."""
        self.host[LAYOUT[name]] = value


def _words(address: int, count: int) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * count).from_address(address)


def _serial_parallel_for(
    context: int | None, body: int, data: int | None, n: int, grain: int
) -> None:
    BODY(body)(data, 0, n, 0)


class SerialPool(Pool):
    """In place of the pool when no object code was provided: every loop runs on its caller."""

    def __init__(self) -> None:
        self._callback = _PARALLEL_FOR(_serial_parallel_for)
        self.parallel_for = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        self.now = 0

    def set_threads(self, threads: int) -> None:
        """Nothing to end."""

    def workers(self) -> int:
        """None."""
        return 0


def pool() -> Pool:
    """The worker pool, loaded on first use."""
    global _pool
    if type(_pool) is Pool:
        return _pool
    with _lock:
        if _pool is None or (isinstance(_pool, SerialPool) and _pool_code):
            _pool = Pool(_code("pool", _pool_code)) if _pool_code else SerialPool()
        return _pool


@functools.cache
def _serial_pool() -> Pool:
    return SerialPool()


def pool_at_hand() -> Pool:
    """The pool if it is loaded; else one that runs loops on their caller.

    For a call on one thread that shall not wait for the pool's own compilation.
    """
    return _pool or _serial_pool()


def loaded_pool() -> Pool | None:
    """The worker pool if it is loaded already."""
    return _pool


def supported() -> bool:
    """Whether this interpreter is one whose structs the call path knows."""
    import sysconfig

    return (
        sys.implementation.name == "cpython"
        and (3, 11) <= sys.version_info[:2] <= (3, 14)
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and not hasattr(sys, "gettotalrefcount")
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and sys.byteorder == "little"
    )


def call_path() -> CallPath | None:
    """The call path, loaded on first use; None where ctypes must do."""
    global _call, _call_refused
    if _call is not None or _call_refused:
        return _call
    with _lock:
        if _call is None and _call_code is not None and not _call_refused:
            from graphmill.runtime.numpy_abi import AbiError

            build = _call_code
            try:
                path = CallPath(_code("call", lambda: build(LAYOUT))) if supported() else None
            except AbiError:
                path = None
            _call_refused = path is None
            if path is not None:
                from graphmill.runtime import buffers, threads

                path.set_host("HOST_PARALLEL_FOR", pool().parallel_for)
                path.set_host("HOST_NOW", pool().now)
                _publish_digest(path, _digest)
                threads.publish(path)
                buffers.publish(path)
                _call = path
        return _call


class Digest:
    """The loaded digest of memory: `digest(address, bytes)` is a number."""

    def __init__(self, code: bytes) -> None:
        found = _load_for_good(code, ("gm_digest", "gm_digests")).addresses
        self.address = found["gm_digest"]
        word = ctypes.c_int64
        self._function = ctypes.CFUNCTYPE(word, word, word)(self.address)
        # of a batch's pieces (`digests.py`), without the interpreter lock until all are begun
        self.many = ctypes.CFUNCTYPE(word, word)(found["gm_digests"])

    def __call__(self, address: int, size: int) -> int:
        return int(self._function(address, size))


def digest() -> Digest | None:
    """The digest of memory, loaded on first use; None where no code was provided."""
    global _digest
    with _lock:
        if _digest is None and _digest_code is not None:
            made = Digest(_code("digest", _digest_code))
            _publish_digest(_call, made)
            _digest = made
        return _digest


def _publish_digest(path: CallPath | None, made: Digest | None) -> None:
    if path is not None and made is not None:
        path.set_host("HOST_DIGEST", made.address)


def poll() -> int:
    """Address of what long loops call to look for signals, loaded on first use; 0 without code."""
    global _poll
    with _lock:
        if _poll is None and _poll_code is not None and sys.implementation.name == "cpython":
            build = _poll_code
            symbols = ("gm_poll", "gm_poll_thread")
            made = _load_for_good(_code("poll", lambda: build(LAYOUT)), symbols)
            _name_main_thread(made, threading.main_thread().ident or 0)
            _poll = made
        return _poll.addresses["gm_poll"] if _poll is not None else 0


def _name_main_thread(made: LoadedObject, thread: int) -> None:
    _words(made.addresses["gm_poll_thread"], 1)[0] = thread


def loaded_call_path() -> CallPath | None:
    """The call path if it is loaded already."""
    return _call


def _after_fork() -> None:
    # only the forking thread lives on; the lock may have been held by another
    global _lock
    _lock = threading.RLock()
    # a child's main thread is the one that forked
    if _poll is not None:
        _name_main_thread(_poll, threading.get_ident())


os.register_at_fork(after_in_child=_after_fork)
