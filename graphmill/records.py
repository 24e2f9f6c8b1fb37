"""Records: what `@dataclass(frozen=True, slots=True)` makes, without writing and compiling source.

`dataclass` compiles the text of half a dozen methods for each class. That takes half a millisecond,
and for all classes a fifth of a small function's time to the first result. Here the methods are
closures over the fields; none may be a ClassVar or an InitVar. A module that every layer may
import; it imports none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, field
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")
_PLAIN = dataclasses._FIELD  # type: ignore[attr-defined]  # of a field that is no ClassVar
Method = Callable[..., Any]
Setter = Callable[[Any, Any], None]


@overload
def record(cls: type[T], /) -> type[T]: ...
@overload
def record(*, frozen: bool = True, eq: bool = True) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T] | None = None, /, *, frozen: bool = True, eq: bool = True) -> Any:
    """A dataclass with slots, which `replace`, `asdict` and the like take as one.

    `frozen` and `eq` are those of `dataclass`.
    """
    if cls is None:
        return lambda decorated: _made(decorated, frozen, eq)
    return _made(cls, frozen, eq)


def _made(cls: type[T], frozen: bool, eq: bool) -> type[T]:
    """The class again, with a slot for each field: what `dataclass(slots=True)` adds to it.

    It is made whole, for to change a type takes as long as to make one.
    """
    own = dict(cls.__dict__)
    found, added = _fields(cls, own)
    for name in ("__dict__", "__weakref__"):
        own.pop(name, None)
    put: dict[str, Setter] = {}
    content: dict[str, Any] = {"__repr__": _representation(found)}
    content["__init__"] = _initialiser(cls, found, put)
    if eq:
        content |= _comparison(found, frozen)
    content |= own
    if frozen:
        content |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
    content |= {
        "__slots__": added,
        "__match_args__": tuple([name for name, of in found.items() if of.init]),
        "__dataclass_fields__": found,
        "__qualname__": cls.__qualname__,
    }
    kind: Any = type(cls)
    made = kind(cls.__name__, cls.__bases__, content)
    put.update((name, getattr(made, name).__set__) for name in found)
    result: type[T] = made
    return result


def _fields(cls: Any, own: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """All fields by name, and the names of those that no base has; their defaults leave `own`."""
    found: dict[str, Any] = {}
    for base in cls.__mro__[:0:-1]:
        found |= base.__dict__.get("__dataclass_fields__", {})
    inherited = set(found)
    for name, kind in own.get("__annotations__", {}).items():
        value = own.pop(name, MISSING)
        of: Any = value if isinstance(value, Field) else field(default=value)
        of.name, of.type, of._field_type = name, kind, _PLAIN
        found[name] = of
    return found, tuple([name for name in found if name not in inherited])


def _initialiser(cls: Any, found: dict[str, Any], put: dict[str, Setter]) -> Method:
    """`__init__`: values by place or name, and the defaults of what is left out.

    It looks at what puts values into their slots when it is called first.
    """
    taken = [of for of in found.values() if of.init]
    # a field that is no argument, with a default
    others = [of for of in found.values() if not of.init and _has(of)]
    setters: list[Setter] = []
    count, last = len(taken), _last_defaults(taken)
    after = hasattr(cls, "__post_init__")

    def __init__(self: Any, *values: Any, **named: Any) -> None:
        if not setters:
            setters.extend([put[of.name] for of in taken])
        missing = count - len(values)
        if named or not 0 <= missing <= len(last):
            values = _completed(cls, taken, values, named)
        elif missing:
            values += last[-missing:]
        for store, value in zip(setters, values):  # noqa: B905  (as many, and this is quicker)
            store(self, value)
        if others:
            for of in others:
                put[of.name](self, _default(of))
        if after:
            self.__post_init__()

    return __init__


def _last_defaults(taken: list[Field[Any]]) -> tuple[Any, ...]:
    """The defaults of the last fields, as far as each has one that is a value."""
    found: list[Any] = []
    for of in reversed(taken):
        if of.default is MISSING:
            break
        found.insert(0, of.default)
    return tuple(found)


def _completed(
    made: Any, taken: list[Field[Any]], values: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Any, ...]:
    """The values in the order of the fields, with those given by name and the defaults."""
    found = list(values)
    for of in taken[len(values) :]:
        if of.name in named:
            found.append(named.pop(of.name))
        elif of.default is not MISSING:
            found.append(of.default)
        elif of.default_factory is not MISSING:
            found.append(of.default_factory())
        else:
            raise TypeError(f"{made.__qualname__} lacks the value of {of.name!r}")
    if named or len(found) > len(taken):
        wrong = ", ".join(map(repr, named)) or f"{len(values)} values"
        raise TypeError(f"{made.__qualname__} does not take {wrong}")
    return tuple(found)


def _has(of: Field[Any]) -> bool:
    return of.default is not MISSING or of.default_factory is not MISSING


def _default(of: Field[Any]) -> Any:
    return of.default if of.default_factory is MISSING else of.default_factory()


def _representation(found: dict[str, Any]) -> Method:
    names = [name for name, of in found.items() if of.repr]

    def __repr__(self: Any) -> str:
        shown = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{type(self).__qualname__}({shown})"

    return __repr__


def _comparison(found: dict[str, Any], frozen: bool) -> dict[str, Any]:
    """`__eq__` by the fields within one class; a hash where they cannot change."""
    names = [name for name, of in found.items() if of.compare]
    if len(names) > 1:
        values: Method = attrgetter(*names)
    else:

        def values(of: Any) -> tuple[Any, ...]:
            return tuple([getattr(of, name) for name in names])

    def __eq__(self: Any, other: Any) -> Any:
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(values(self))

    return {"__eq__": __eq__, "__hash__": __hash__ if frozen else None}


def _refuse_to_set(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
