"""Guards: noticing, at every call, that what a function was traced from has changed.

A `Watch` walks a function and all user functions it reaches by name, and remembers what each
global, closure cell, default and code object was; lists, dicts and objects by their items. All are
compared by identity, but arrays (those found, and those that a trace captured, by `add_arrays`) by
their contents (`contents.py`).

`valid()` compares in Python. For the native call path `words()` says the same as pairs (address,
word that must be there), such as the slot of a global in its dict after the dict's table itself, so
that a stale slot is never read, and `memory()` names the memory that must stay as it is.
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.records import record
from graphmill.runtime import facts
from graphmill.runtime.cpython import (
    ABSENT,
    FUNCTION_FIELDS,
    Pair,
    dict_slots,
    known_interpreter,
    name_loads,
)
from graphmill.runtime.digests import MANY_BYTES, Task
from graphmill.runtime.forks import renewed

if TYPE_CHECKING:
    from graphmill.runtime.contents import AtOnce, Bytes, Form, Frozen, Memory
    from graphmill.runtime.native import Digest

# library code is taken as it is
_LIBRARIES = frozenset((*sys.stdlib_module_names, "numpy", "graphmill", "ml_dtypes", "scipy")) - {
    "__main__"
}
# items of lists, dicts and objects that one function is watched by; beyond, they are not
_MAX_ITEMS = 2000
_MAX_FOREIGN = 500  # the same of objects of installed packages
# classes of Python's own whose objects programs keep their settings in
_HOLDERS = frozenset(("types", "argparse", "collections"))
# what nothing can change within
_PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes, types.CodeType))
# functions by which code reads what it has the name of as a text
_BY_TEXT = frozenset(("getattr", "hasattr", "globals", "vars", "attrgetter", "__dict__"))


def _in_turn(tasks: Iterable[Task]) -> None:
    for task in tasks:
        task()


class Watch:
    """What a function's meaning depends on beside its arguments, as it was when this was made."""

    def __init__(
        self,
        function: Any,
        digest: Callable[[], Digest | None] | None = None,
        at_once: AtOnce = _in_turn,
    ) -> None:
        """`digest()` gives a function that digests memory fast, if there is any.

        `at_once` does several tasks, each of which may leave the interpreter lock alone for long,
        and begins with them before it takes further ones.
        """
        self._fast, self._at_once = digest or (lambda: None), at_once
        # where the walk begins: the function, and what `add_values` names
        self._roots: list[Any] = [function]
        self._arrays: dict[int, Bytes | Frozen] = {}
        self._forms: dict[int, Form] = {}  # of the same, and looked at before their memory is
        # changes whenever there is more or other to look at
        self.version = 0
        self._facts: list[facts.Fact] = []
        self._looking = renewed(threading.Lock())
        self.look()

    def look(self) -> None:
        """Remember names, items and code as they are now, and arrays not known before."""
        with self._looking:
            self._found: list[facts.Fact] = []
            # ids of what was visited; all of it is kept alive by the facts
            self._seen: set[int] = set()
            self._of_module: dict[int, set[str]] = {}  # names noted of each user's module
            self._room, self._foreign = _MAX_ITEMS, _MAX_FOREIGN
            self._held: list[np.ndarray[Any, Any]] = []
            for root in self._roots:
                self._visit(root)
            self.add_arrays(self._held)
            # another thread may be going through the facts: it keeps the list it has
            self._facts = self._found
            self.version += 1

    def add_arrays(self, arrays: Iterable[np.ndarray[Any, Any]]) -> None:
        """Watch the contents of arrays that a trace has captured."""
        new = {id(a): a for a in arrays if not a.dtype.hasobject and id(a) not in self._arrays}
        if not new:
            return
        # only for functions that hold arrays
        from graphmill.runtime.contents import Bytes, Form, frozen

        found: dict[int, Bytes | Frozen] = {}
        few: list[int] = []
        many: list[int] = []
        for number, array in new.items():
            if (still := frozen(array)) is not None:
                found[number] = still
            else:
                (many if array.nbytes >= MANY_BYTES and array.flags.forc else few).append(number)
        fast = self._fast() if many else None

        def and_few(tasks: Iterable[Task]) -> Iterator[Task]:
            yield from tasks
            # while other threads are at the large ones
            found.update({number: Bytes(new[number], None) for number in few})

        if fast is None:
            few += many
            self._at_once(and_few(()))
        else:
            many.sort(key=lambda number: -new[number].nbytes)
            large = [new[number] for number in many]
            read = Bytes.of_all(large, fast, lambda tasks: self._at_once(and_few(tasks)))
            found.update(zip(many, read, strict=True))
        for number, array in new.items():
            self._forms[number] = Form(array)
            self._arrays[number] = found[number]
        self.version += 1

    def covers(self, array: np.ndarray[Any, Any]) -> bool:
        """Whether a write to this array's memory would be noticed."""
        while isinstance(array, np.ndarray):
            if id(array) in self._arrays:
                return True
            array = array.base  # type: ignore[assignment]
        return False

    def digest_of(self, array: np.ndarray[Any, Any]) -> int | bytes | None:
        """The digest of a watched array's contents, which it has while this is valid.

        A number is the native one, of an array's memory in the order of its elements.
        """
        known = getattr(self._arrays.get(id(array)), "digest", None)
        if isinstance(known, int) and not array.flags.c_contiguous:
            return None
        return known

    def arrays_valid(self) -> bool:
        """Whether nobody has written to a watched array."""
        forms, arrays = list(self._forms.values()), list(self._arrays.values())
        return all(known.valid() for known in (*forms, *arrays))

    def add_values(self, values: Iterable[Any]) -> None:
        """Watch what is in these values (static arguments) too, from the next `look` on."""
        known = {id(root) for root in self._roots}
        self._roots += [value for value in values if id(value) not in known]

    def valid(self) -> bool:
        """Whether everything is still as it was."""
        return all(fact.valid() for fact in self._facts) and self.arrays_valid()

    def words(self) -> list[Pair] | None:
        """The same for the native path; None where this interpreter's structs are unknown."""
        from graphmill.runtime.contents import Bytes

        if not known_interpreter():
            return None
        # a dict is looked through once for all of its names
        spaces: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        pairs: list[Pair] = []
        for fact in (*self._facts, *self._forms.values(), *self._arrays.values()):
            if isinstance(fact, facts.Name):
                spaces.setdefault(id(fact.space), (fact.space, {}))[1][fact.name] = fact.value
            elif not isinstance(fact, Bytes):
                words = fact.words()
                if words is None:
                    return None
                pairs += words
        for space, wanted in spaces.values():
            words = dict_slots(space, wanted)
            if words is None:
                return None
            pairs += words
        return list(dict.fromkeys(pairs))

    def memory(self, digest: Callable[[], Digest | None]) -> Memory | None:
        """Memory that must keep its contents.

        `digest()` gives the function that digests, if there is any. None if it is needed and
        missing, or if contents have changed already.
        """
        from graphmill.runtime.contents import Bytes, Memory

        watched = [x for x in self._arrays.values() if isinstance(x, Bytes)]
        function = digest() if watched else None
        if function is None:
            return None if watched else Memory([], [])
        found = Memory([], [])
        for one in watched:
            memory = one.memory(function)
            if memory is None:
                return None
            found.blocks.extend(memory.blocks)
            found.regions.extend(memory.regions)
        # several arrays may view the same memory
        return Memory(list(dict.fromkeys(found.blocks)), list(dict.fromkeys(found.regions)))

    # -- walking ---------------------------------------------------------------------------
    def _visit(self, value: Any) -> None:
        """Note a function and walk on; anything else leads to the functions in it."""
        if type(value) in _PLAIN:
            return
        value = _unwrapped(value)
        if id(value) in self._seen:
            return
        if isinstance(value, types.FunctionType):
            if not _is_library(value.__module__):
                self._visit_function(value)
        elif isinstance(value, type):
            if not _is_library(value.__module__):
                self._visit_class(value)
        elif isinstance(value, types.MethodType):
            self._visit(value.__func__)
            self._visit(value.__self__)
        elif isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self._visit(part)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self._held.append(value)
        elif isinstance(value, tuple):
            self._seen.add(id(value))
            for item in value[: self._room]:
                self._visit(item)
        elif not isinstance(value, types.ModuleType):
            self._visit_object(value)

    def _visit_function(self, value: types.FunctionType) -> None:
        self._seen.add(id(value))
        if hasattr(value, "__wrapped__"):
            self._visit(value.__wrapped__)
        self._found.append(facts.Function(value, tuple(getattr(value, f) for f in FUNCTION_FIELDS)))
        names = names_in(value.__code__)
        for default in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()):
            self._visit(default)
        for cell in value.__closure__ or ():
            content = facts.cell_value(cell)
            self._found.append(facts.Cell(cell, content))
            self._visit_held(content, names.attributes)
        self._visit_names(value.__globals__, names.loaded, names.attributes)
        for module in names.imported:
            self._visit_held(sys.modules.get(module), names.attributes)

    def _visit_class(self, value: type) -> None:
        self._seen.add(id(value))
        members = dict(vars(value))
        self._found.append(facts.Class(value, members))
        for member in (type(value), *value.__bases__, *members.values()):
            self._visit(getattr(member, "__func__", member))

    def _visit_names(
        self, space: dict[str, Any], names: Sequence[str], attributes: Sequence[str]
    ) -> None:
        """Note globals by name, those that are not there too: a builtin may be hidden later."""
        for name in names:
            value = space.get(name, ABSENT)
            self._found.append(facts.Name(space, name, value))
            self._visit_held(value, attributes)

    def _visit_held(self, value: Any, attributes: Sequence[str]) -> None:
        """Visit what a name stands for; of a module, what the code names as attributes."""
        if not isinstance(value, types.ModuleType):
            self._visit(value)
        else:
            known = self._of_module.setdefault(id(value), set())
            new = [name for name in attributes if name not in known and name in vars(value)]
            known.update(new)
            if _is_library(value.__name__):
                self._note_names(vars(value), new, attributes)
            else:
                self._visit_names(vars(value), new, attributes)

    def _note_names(
        self, space: dict[str, Any], names: Sequence[str], attributes: Sequence[str]
    ) -> None:
        """Note a library's names, for somebody may replace its functions."""
        for name in names:
            self._found.append(facts.Name(space, name, space[name]))
            if isinstance(space[name], types.ModuleType):
                self._visit_held(space[name], attributes)

    def _visit_object(self, value: Any) -> None:
        """Note what a container holds, and an object's attributes, and walk on."""
        self._seen.add(id(value))
        module = type(value).__module__
        if not _is_library(module):
            self._visit(type(value))
            self._visit_held_by(value, attributes=True)
        elif module in _HOLDERS or _is_installed(module):
            self._room, self._foreign = self._foreign, self._room
            self._visit_held_by(value, attributes=True)
            self._room, self._foreign = self._foreign, self._room
        else:
            self._visit_held_by(value, attributes=False)

    def _visit_held_by(self, value: Any, attributes: bool) -> None:
        for fact in facts.held(value, attributes):
            if isinstance(fact, facts.Buffer):
                self._found.append(fact)
                continue
            pairs = isinstance(fact.holder, dict)
            count = len(fact.items) // 2 if pairs else len(fact.items)
            if count <= self._room:
                self._room -= count
                self._found.append(fact)
                for item in fact.items:
                    self._visit(item)


def _unwrapped(value: Any) -> Any:
    """The function in a wrapper; code of the wrapper's class is not asked for it."""
    while not isinstance(value, types.FunctionType | type):
        try:
            value = object.__getattribute__(value, "__wrapped__")
        except AttributeError:
            break
    return value


@record
class _Names:
    """Names in code: loaded as globals, as attributes, and of the modules it imports."""

    loaded: tuple[str, ...]
    attributes: tuple[str, ...]
    imported: tuple[str, ...]


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> _Names:
    """The names in code and in the code inside of it."""
    found: dict[str, dict[str, None]] = {"global": {}, "attribute": {}, "import": {}}
    codes = [code]
    for one in codes:
        codes += [x for x in one.co_consts if isinstance(x, types.CodeType)]
        for table, position in name_loads(one):
            found[table][one.co_names[position]] = None
    if not _BY_TEXT.isdisjoint((*found["global"], *found["attribute"])):
        texts = [x for one in codes for x in one.co_consts if isinstance(x, str)]
        for table in ("global", "attribute"):
            found[table] |= dict.fromkeys(text for text in texts if text.isidentifier())
    return _Names(*map(tuple, found.values()))


def _is_library(module: object) -> bool:
    """Whether a `__module__` is a library's; classes of C extensions may have anything there."""
    if not isinstance(module, str):
        return module is not None
    return _is_library_package(module.partition(".")[0])


def _is_installed(module: object) -> bool:
    """Whether a library is an installed one, not Python's own, NumPy or ours."""
    if not isinstance(module, str) or not _is_library(module):
        return False
    return module.partition(".")[0] not in _LIBRARIES | {"builtins"}


@functools.cache
def _is_library_package(name: str) -> bool:
    """Whether a package is not the user's to edit: Python's own, ours, or installed."""
    where = getattr(sys.modules.get(name), "__file__", None) or ""
    return name in _LIBRARIES or "site-packages" in where or "dist-packages" in where
