"""Starting without a trace: what an earlier process found out about the same function.

The question is a key over all that a trace and its compilation depend on: the function's portrait,
the contents of the arrays it reads, the signature of the call, options, machine and our own
sources. The answer is kept in the compile cache: which artifact it is, the structure of the result,
and where among those arrays the artifact's constants come from. There is none for functions whose
traces could differ for reasons that no portrait shows, or that change what they were traced from.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill import driver, packed
from graphmill.codegen.constants import sources
from graphmill.frontend.trees import Tree
from graphmill.ir.dtypes import dtype
from graphmill.keys import Contents
from graphmill.keys import settings as key_settings
from graphmill.records import record
from graphmill.runtime import cache as disk
from graphmill.runtime import knobs, native
from graphmill.runtime.portrait import Portrait, Unclear
from graphmill.runtime.threads import num_threads
from graphmill.signals import pass_on

if TYPE_CHECKING:
    from graphmill.codegen.artifact import Artifact
    from graphmill.frontend.spec import Spec
    from graphmill.frontend.trace import Traced

Array = np.ndarray[Any, Any]

FORMAT = "2"
MAX_OWN = 1 << 20  # bytes of constants that are in no array of the function
_HEAD = struct.Struct("<Q")


class Forgotten(ValueError):
    """An answer that cannot be kept, or makes no sense."""


@record
class Question:
    """A key, the arrays and classes that the function reaches, what is known of contents."""

    key: str
    store: disk.Cache
    portrait: Portrait
    contents: Contents


@record
class Answer:
    """The artifact with its constants, the structure of the result, what the constants' sources
    hold."""

    artifact: Artifact
    out_tree: Tree
    contents: Sequence[str]


def at_once(
    tasks: Iterable[Callable[[], object]], options: driver.Options, threads: int | None
) -> None:
    """Do tasks on all threads, and get ready meanwhile what a start from the cache needs next."""

    def meanwhile() -> None:
        key_settings(options, driver.target(options))
        if (threads or num_threads()) > 1:
            native.pool()
        native.poll()

    packed.at_once(tasks, meanwhile)


def question(
    function: Callable[..., Any],
    call: tuple[Tree, Mapping[str, Any], Sequence[str]],
    specs: Sequence[Spec],
    settings: Sequence[str],
    contents: Contents,
    watch: Callable[[Sequence[Array]], None],
) -> Question | None:
    """What to ask for a call with these specs of its leaves; None where only a trace can tell.

    `call` is the tree of the arguments, the static ones and the names of donated ones. `watch` is
    called with the arrays that the function reaches, before their contents are looked at.
    """
    store = disk.default() if knobs.dump() is None else None
    if store is None:
        return None
    tree, static, donated = call
    try:
        portrait = Portrait([function, dict(static), tuple(donated), *_tree_values(tree)])
    except Unclear:
        return None
    if portrait.arrays:
        watch(portrait.arrays)
        contents.read(portrait.arrays, packed.at_once)
    said = [contents(array) for array in portrait.arrays]
    signature = [repr((str(s.type), s.bounds, s.weak)) for s in specs]
    key = disk.key_of(
        "recall", FORMAT, portrait.text, "\n".join(said), "\n".join(signature), *settings
    )
    return Question(key, store, portrait, contents)


def _tree_values(tree: Tree) -> Iterator[Any]:
    """What tells trees apart across processes."""
    yield tree.kind
    yield tree.keys
    yield tree.made
    for part in tree.parts:
        yield from _tree_values(part)


# -- answers -------------------------------------------------------------------------------


def find(asked: Question) -> Answer | None:
    """What an earlier process found out, if its artifact is there still."""
    content = asked.store.get(asked.key, counted=False)
    if content is None:
        return None
    try:
        (size,) = _HEAD.unpack_from(content)
        found = json.loads(content[_HEAD.size : _HEAD.size + size])
        own = memoryview(content)[_HEAD.size + size :]
        places = found["sources"]
        said = [str(place["holds"]) for place in places]
        tree = _tree(found["result"], asked.portrait.classes)
        artifact = asked.store.artifact(str(found["artifact"]))
        if artifact is None:
            return None

        def arrays() -> list[Array]:
            return [_source(place, asked.portrait.arrays, own) for place in places]

        return Answer(packed.completed(artifact, arrays, said), tree, said)
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        pass_on(error)
        return None


def keep(asked: Question, traced: Traced, artifact: str) -> None:
    """Keep what was found out now: the artifact's key, and what `traced` says beside it."""
    if traced.multiples or traced.variables:
        return
    places: list[Any] = []
    own: list[bytes] = []
    try:
        result = _described(traced.out_tree, asked.portrait.classes)
        known = _Places(asked, traced.captured)
        for array in sources(traced.function):
            place = known.place(array, sum(map(len, own)))
            places.append(place | {"holds": asked.contents(array)})
            if places[-1]["in"] is None:
                own.append(array.tobytes())
        if sum(map(len, own)) > MAX_OWN:
            raise Forgotten("large constants of its own")
    except Forgotten:
        return
    text = json.dumps({"artifact": artifact, "result": result, "sources": places}).encode()
    asked.store.put(asked.key, b"".join((_HEAD.pack(len(text)), text, *own)))


# -- where constants come from -------------------------------------------------------------


class _Places:
    """Finds the arrays that constants are views or copies of."""

    def __init__(self, asked: Question, captured: Sequence[Array]) -> None:
        self._spans = [
            (start, start + array.nbytes, number)
            for number, array in enumerate(asked.portrait.arrays)
            if array.flags.c_contiguous
            for start in [_address(array)]
        ]
        self._contents = asked.contents
        self._captured = [array for array in captured if self._view(array) is not None]
        self._copies: dict[str, Array] | None = None

    def place(self, array: Array, own: int) -> dict[str, Any]:
        """How to make a constant again; `own` is where its bytes go if it comes from nowhere."""
        view = self._view(array)
        if view is not None:
            return view | {"copy": False}
        if self._copies is None:
            made = ((np.ascontiguousarray(c).reshape(c.shape), c) for c in self._captured)
            self._copies = {self._contents(plain): c for plain, c in made}
        source = self._copies.get(self._contents(array))
        if source is not None:
            return (self._view(source) or {}) | {"copy": True}
        return {"in": None, "at": own, "dtype": str(dtype(array.dtype)), "shape": array.shape}

    def _view(self, array: Array) -> dict[str, Any] | None:
        """Where an array lies within one that the function reaches."""
        low, high = np.lib.array_utils.byte_bounds(array)
        for start, stop, number in self._spans:
            if start <= low and high <= stop and array.size:
                return {
                    "in": number, "at": _address(array) - start,
                    "dtype": str(dtype(array.dtype)), "shape": array.shape,
                    "strides": array.strides,
                }  # fmt: skip
        return None


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _source(place: Mapping[str, Any], arrays: Sequence[Array], own: memoryview) -> Array:
    """The constant that `_Places.place` described; raises ValueError for one out of bounds."""
    kind, shape, at = dtype(place["dtype"]).numpy, tuple(place["shape"]), int(place["at"])
    if place["in"] is None:
        return np.ndarray(shape, kind, own, at)
    whole = arrays[place["in"]].reshape(-1).view(np.uint8)
    found: Array = np.ndarray(shape, kind, whole, at, tuple(place["strides"]))
    if place["copy"]:
        found = np.array(found, order="C")
    found.flags.writeable = False
    return found


# -- structures ----------------------------------------------------------------------------


def _described(tree: Tree, classes: Sequence[type]) -> list[Any]:
    """A tree as JSON; a class by its number among those that the function reaches."""
    made = None
    if tree.made is not None:
        numbers = [n for n, known in enumerate(classes) if known is tree.made]
        if not numbers:
            raise Forgotten(f"a result of class {tree.made.__name__}")
        made = numbers[0]
    if any(type(key) not in (str, int) for key in tree.keys):
        raise Forgotten("a result with strange keys")
    return [tree.kind, list(tree.keys), made, [_described(part, classes) for part in tree.parts]]


def _tree(described: Sequence[Any], classes: Sequence[type]) -> Tree:
    kind, keys, made, parts = described
    made = None if made is None else classes[made]
    return Tree(kind, tuple(keys), tuple([_tree(part, classes) for part in parts]), made)
