"""What a function's trace can depend on beside its arguments, as a text that other processes share.

`guards.Watch` notices within one process that something has changed, by identity. A portrait says
what it is: the code of all functions that are reached by name, what they read by name, and so on
down to numbers and text; arrays by their places, for their contents are read apart. Two processes
with equal portraits and equal contents trace the same. What has no such text, or what a trace could
read past it (files, clocks, random numbers, the environment, names made up at run time), makes it
`Unclear`: then there is nothing for it but to trace.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from graphmill.runtime.guards import names_in

Array = np.ndarray[Any, Any]

_MAX_PARTS = 20_000
_PLAIN = frozenset(
    (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented), range)
)
_CODE_FIELDS = (
    "co_name", "co_qualname", "co_filename", "co_firstlineno", "co_flags", "co_argcount",
    "co_posonlyargcount", "co_kwonlyargcount", "co_names", "co_varnames", "co_freevars",
    "co_cellvars", "co_code", "co_linetable", "co_exceptiontable",
)  # fmt: skip
# libraries whose functions give the same for the same, but for `_IMPURE`
_PURE = frozenset((
    "numpy", "math", "cmath", "operator", "_operator", "functools", "_functools", "itertools",
    "collections", "dataclasses", "numbers", "reprlib", "typing", "ml_dtypes",
))  # fmt: skip
# of Graphmill, what only adds to a trace
_OURS = ("graphmill.frontend",)
_BUILTINS = frozenset((
    "abs", "all", "any", "ascii", "bool", "bytes", "callable", "chr", "complex", "dict", "divmod",
    "enumerate", "filter", "float", "format", "frozenset", "int", "isinstance", "issubclass",
    "iter", "len", "list", "map", "max", "min", "next", "object", "ord", "pow", "property",
    "range", "repr", "reversed", "round", "set", "slice", "sorted", "staticmethod",
    "classmethod", "str", "sum", "super", "tuple", "type", "zip", "__build_class__",
    "__debug__",
))  # fmt: skip
# by name, for some are loaded only when they are named
_IMPURE = frozenset((
    "random", "load", "loads", "save", "savez", "savez_compressed", "savetxt", "loadtxt",
    "fromfile", "genfromtxt", "fromregex", "memmap", "open_memmap", "DataSource", "ctypeslib",
    "f2py", "testing", "test", "attrgetter", "methodcaller", "geterr", "seterr", "errstate",
    "geterrcall", "getbufsize", "get_printoptions", "printoptions", "set_printoptions", "info",
    "show_config", "show_runtime", "get_include", "sys", "os", "warnings", "builtins", "knobs",
    "dump", "profile", "devices", "device", "threads", "set_num_threads", "num_threads",
    "build", "Variable", "datetime64",
))  # fmt: skip
# attributes by which code gets at things that it does not name
_DEEP = frozenset((
    "__dict__", "__globals__", "__builtins__", "__getattribute__", "__annotations__", "__doc__",
    "__subclasses__", "__code__", "__closure__", "tofile", "f_globals", "f_back", "cell_contents",
))  # fmt: skip
_SKIPPED_MEMBERS = frozenset((
    "__dict__", "__weakref__", "__doc__", "__annotations__", "__annotate__", "__annotate_func__",
    "__annotations_cache__", "__orig_bases__", "__parameters__", "__dataclass_params__",
))  # fmt: skip
_UNBOUND = object()


class Unclear(Exception):
    """Something has no text that stands for all that a trace could read of it."""


class Portrait:
    """`text` tells two functions apart wherever their traces could differ.

    `arrays` and `classes` are those that it reaches, in an order that equal portraits share. With
    `could_draw`, some code names NumPy's random numbers: all this holds if a trace draws none.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        """Raises `Unclear`."""
        self.arrays: list[Array] = []
        self.could_draw = False
        self.classes: list[type] = []
        self._parts: list[str] = []
        # what is known by number, kept alive so that no other gets its id
        self._known: dict[int, tuple[int, object]] = {}
        self._of_module: set[tuple[int, str]] = set()
        # modules that are passed around, and all that any code names as attributes
        self._passed: dict[int, types.ModuleType] = {}
        self._attributes: dict[str, None] = {}
        try:
            for value in values:
                self._value(value)
            self._passed_modules()
        except RecursionError:
            raise Unclear("too deep") from None
        self.text = "\n".join(self._parts)

    def _say(self, *parts: object) -> None:
        if len(self._parts) > _MAX_PARTS:
            raise Unclear("too much")
        self._parts.append(repr(parts))

    def _first_time(self, value: object, what: str) -> bool:
        known = self._known.get(id(value))
        if known is not None:
            self._say("again", known[0])
            return False
        self._known[id(value)] = (len(self._known), value)
        self._say(what)
        return True

    # -- values ----------------------------------------------------------------------------
    def _value(self, value: Any) -> None:
        kind = type(value)
        if kind in _PLAIN:
            self._say(kind.__name__, repr(value))
            return
        describe = _BY_TYPE.get(kind)
        if describe is not None:
            describe(self, value)
        elif isinstance(value, np.generic) and not value.dtype.hasobject:
            self._say("number", repr(value.dtype), value.tobytes())
        elif isinstance(value, np.dtype):
            self._say("dtype", repr(value))
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, tuple) and hasattr(kind, "_fields"):
            self._class(kind)
            self._sequence(value)
        else:
            self._other(value, kind)

    def _sequence(self, value: Sequence[Any]) -> None:
        self._say(type(value).__name__, len(value))
        for item in value:
            self._value(item)

    def _list(self, value: list[Any]) -> None:
        if self._first_time(value, "list"):
            self._sequence(value)

    def _dict(self, value: dict[Any, Any]) -> None:
        if not self._first_time(value, type(value).__name__):
            return
        self._say(len(value))
        for key, item in list(value.items()):
            self._value(key)
            self._value(item)

    def _frozenset(self, value: frozenset[Any]) -> None:
        # of what code compares with: their order is another one in each process
        if not all(type(item) in _PLAIN for item in value):
            raise Unclear("a set")
        self._say("frozenset", *sorted((type(item).__name__, repr(item)) for item in value))

    def _slice(self, value: slice) -> None:
        self._sequence((value.start, value.stop, value.step))

    def _array(self, value: Array) -> None:
        if value.dtype.hasobject:
            raise Unclear("an array of objects")
        if self._first_time(value, "array"):
            self._say(repr(value.dtype), value.shape, value.strides)
            self.arrays.append(value)

    def _partial(self, value: functools.partial[Any]) -> None:
        self._say("partial")
        for part in (value.func, value.args, value.keywords, vars(value)):
            self._value(part)

    def _method(self, value: types.MethodType) -> None:
        self._say("method")
        self._value(value.__func__)
        self._value(value.__self__)

    def _wrapper(self, value: Any) -> None:
        """A static method, a class method, a cached property."""
        self._say(type(value).__name__)
        self._value(value.func if isinstance(value, functools.cached_property) else value.__func__)

    def _module_value(self, value: types.ModuleType) -> None:
        """A module that some code gets as a value: which code, and what that names, is open."""
        self._say("module", value.__name__)
        self._passed[id(value)] = value

    def _passed_modules(self) -> None:
        seen = -1
        while seen != (seen := len(self._attributes) + len(self._passed)):
            names = tuple(self._attributes)
            for module in list(self._passed.values()):
                self._module(module, names)

    def _property(self, value: property) -> None:
        self._say("property")
        for part in (value.fget, value.fset, value.fdel):
            self._value(part)

    def _builtin(self, value: types.BuiltinFunctionType) -> None:
        owner = value.__self__
        if isinstance(owner, type):
            self._class(owner)
            self._say("method", value.__name__)
            return
        if owner is not None and not isinstance(owner, types.ModuleType):
            raise Unclear(f"a method of a {type(owner).__name__}")
        self._library(value.__module__ or getattr(owner, "__module__", ""), value.__qualname__)

    def _ufunc(self, value: np.ufunc) -> None:
        if vars(np).get(value.__name__) is not value:
            raise Unclear(f"the ufunc {value.__name__}")
        self._say("ufunc", value.__name__)

    def _other(self, value: Any, kind: type) -> None:
        module = kind.__module__ or ""
        if kind.__name__ == "_ArrayFunctionDispatcher" and module.startswith("numpy"):
            inner = getattr(value, "_implementation", None)
            space = getattr(inner, "__globals__", {"__name__": value.__module__})
            self._library(space["__name__"], value.__qualname__)
        elif kind.__name__ == "_tuplegetter":
            self._say("field", value.__reduce__()[1][0])
        elif kind is dataclasses.Field:
            self._say("field", value.name, repr(value.type))
            for part in (value.default, value.default_factory, dict(value.metadata)):
                self._value(part)
        elif module == "dataclasses":  # what stands for no default
            self._say("dataclasses", kind.__name__)
        elif module == "graphmill.ir.dtypes":
            self._say("dtype", str(value))
        elif module.startswith("graphmill.") and hasattr(value, "__wrapped__"):
            self._say(module, kind.__qualname__)
            for part in (value.__wrapped__, vars(value).get("function")):
                self._value(part)
        else:
            self._instance(value, kind)

    def _instance(self, value: Any, kind: type) -> None:
        """An object of a class with Python code alone: its class, and its attributes."""
        plain = all(_is_users(base) and "__slots__" not in vars(base) for base in kind.__mro__[:-1])
        attributes = getattr(value, "__dict__", None)
        if not plain or type(attributes) is not dict:
            raise Unclear(f"a {kind.__module__}.{kind.__qualname__}")
        if self._first_time(value, "object"):
            self._class(kind)
            self._dict(attributes)

    # -- functions and classes -------------------------------------------------------------
    def _library(self, module: str, name: str) -> None:
        """A library's function or class, by name."""
        last = name.rpartition(".")[2]
        known = last in _BUILTINS if module == "builtins" else _is_pure(module)
        if not known or last in _IMPURE or "<locals>" in name:
            raise Unclear(f"{module}.{name}")
        self._say("library", module, name)

    def _function(self, value: types.FunctionType) -> None:
        home = value.__globals__.get("__name__") or ""
        if _is_pure(home):
            self._library(home, value.__qualname__)
            for cell in value.__closure__ or ():
                if type(_content(cell)) is not set:  # of `reprlib`: who is being written
                    self._held(_content(cell), ())
            return
        if home.startswith("graphmill.") and not home.startswith(_OURS):
            raise Unclear(home)
        if not self._first_time(value, "function"):
            return
        self._say(value.__name__, value.__qualname__, value.__module__)
        self._code(value.__code__)
        self._value(value.__defaults__)
        self._value(value.__kwdefaults__)
        names = names_in(value.__code__)
        self._attributes.update(dict.fromkeys(names.attributes))
        if _DEEP.intersection(names.attributes):
            raise Unclear(f"{value.__qualname__} looks behind names")
        for cell in value.__closure__ or ():
            self._held(_content(cell), names.attributes)
        for name in names.loaded:
            inherited = _builtins_of(value).get(name, _UNBOUND)
            self._held(value.__globals__.get(name, inherited), names.attributes)
        for module in names.imported:
            if module not in sys.modules:
                raise Unclear(f"{module} is not loaded yet")
            self._held(sys.modules[module], names.attributes)
        self._dict(vars(value))

    def _code(self, code: types.CodeType) -> None:
        self._say("code", *(getattr(code, name, None) for name in _CODE_FIELDS))
        for constant in code.co_consts:
            self._value(constant)

    def _class(self, value: type) -> None:
        module, name = value.__module__ or "", value.__qualname__
        if module == "builtins" and issubclass(value, BaseException | type(None)):
            self._say("builtin", name)
        elif not _is_users(value):
            self._library(module, name)
        elif type(value) is not type:
            raise Unclear(f"the metaclass of {name}")
        elif self._first_time(value, "class"):
            self.classes.append(value)
            self._say(module, name)
            for base in value.__bases__:
                self._class(base)
            for member, held in list(vars(value).items()):
                if member not in _SKIPPED_MEMBERS:
                    self._member(member, held)

    def _member(self, name: str, held: Any) -> None:
        self._say("member", name)
        code = getattr(held, "__code__", None)
        if name == "__hash__" and code is not None and code.co_filename == "<string>":
            return  # a dataclass's, of its fields
        if not isinstance(held, types.MemberDescriptorType | types.GetSetDescriptorType):
            self._value(held)

    # -- names -----------------------------------------------------------------------------
    def _held(self, value: Any, attributes: Sequence[str]) -> None:
        """What a name stands for; of a module, what the code may name of it."""
        if value is _UNBOUND:
            self._say("nothing")
        elif not isinstance(value, types.ModuleType):
            self._value(value)
        else:
            self._say("module", value.__name__)
            self._module(value, attributes)

    def _module(self, module: types.ModuleType, attributes: Sequence[str]) -> None:
        library = _is_library_module(module.__name__)
        if not library and "__getattr__" in vars(module):
            raise Unclear(f"{module.__name__} makes its names up")
        impure = _IMPURE.intersection(attributes)
        if module is np and "random" in impure and _is_numpys_random():
            self.could_draw = True
            impure -= {"random"}
            attributes = [name for name in attributes if name != "random"]
        if "__getattr__" not in vars(module):
            impure = impure.intersection(vars(module))  # others are names of other things
        if library and impure:
            raise Unclear(f"{module.__name__}: {sorted(impure)}")
        for name in attributes:
            value = vars(module).get(name, _UNBOUND)
            # what a library loads when it is named may or may not be there
            if (id(module), name) in self._of_module or value is _UNBOUND:
                continue
            self._of_module.add((id(module), name))
            if not library:
                self._say("attribute", module.__name__, name)
                self._held(value, attributes)
            elif isinstance(value, types.ModuleType):
                if _is_library_module(value.__name__):
                    self._module(value, attributes)
                else:
                    self._held(value, attributes)
            elif not _is_of_library(value, name):
                self._say("attribute", module.__name__, name)
                self._value(value)


def _is_numpys_random() -> bool:
    """Whether `numpy.random` is what NumPy makes it, or will be once it is named."""
    found = vars(np).get("random", _UNBOUND)
    loaded = sys.modules.get("numpy.random", _UNBOUND)
    return found is loaded or (found is _UNBOUND and "random" not in vars(np))


def _builtins_of(function: Any) -> dict[str, Any]:
    found: dict[str, Any] = function.__builtins__
    return found


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _UNBOUND


def _is_pure(module: str) -> bool:
    return module.partition(".")[0] in _PURE or module.startswith(_OURS)


def _is_library_module(name: str) -> bool:
    """Whether a module is a library that traces may read; raises `Unclear` for other libraries."""
    root = name.partition(".")[0]
    if name.rpartition(".")[2] in _IMPURE and root in ("numpy", "graphmill"):
        raise Unclear(name)
    if _is_pure(name) or name == "graphmill":
        return True
    if root == "graphmill" or (root in sys.stdlib_module_names and root != "__main__"):
        raise Unclear(name)
    return False


def _is_users(value: type) -> bool:
    """Whether a class is written in Python and no library's."""
    root = (value.__module__ or "").partition(".")[0]
    library = root in _PURE or root == "graphmill" or root in sys.stdlib_module_names
    return root == "__main__" or not library


def _is_of_library(value: Any, name: str) -> bool:
    """Whether an attribute of a library's module is what the library put there."""
    kind = type(value)
    if getattr(value, "__name__", name) != name or isinstance(value, np.generic | np.ndarray):
        return False
    if kind is types.FunctionType:
        inner = getattr(value, "__wrapped__", value)
        return all(_is_pure(f.__globals__.get("__name__") or "") for f in (value, inner))
    if isinstance(value, type) or kind is types.BuiltinFunctionType:
        return _is_pure(value.__module__ or "")
    return kind is not np.vectorize and kind.__module__.partition(".")[0] in ("numpy", "graphmill")


_BY_TYPE: dict[type, Callable[[Portrait, Any], None]] = {
    tuple: Portrait._sequence, list: Portrait._list, dict: Portrait._dict,
    frozenset: Portrait._frozenset, slice: Portrait._slice, np.ndarray: Portrait._array,
    functools.partial: Portrait._partial, types.MethodType: Portrait._method,
    staticmethod: Portrait._wrapper, classmethod: Portrait._wrapper,
    functools.cached_property: Portrait._wrapper, collections.OrderedDict: Portrait._dict,
    property: Portrait._property, types.BuiltinFunctionType: Portrait._builtin,
    np.ufunc: Portrait._ufunc, types.FunctionType: Portrait._function,
    types.CodeType: Portrait._code, types.ModuleType: Portrait._module_value,
}  # fmt: skip
