"""Records: what `@dataclass(frozen=True, slots=True)` makes, without writing and compiling source.

`dataclass` compiles the text of half a dozen methods for each class. That takes half a millisecond,
and for all classes a fifth of a small function's time to the first result. Here the methods are
closures over the fields. The one module that every layer may import; it imports none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")
Method = Callable[..., Any]


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
    own = set(cls.__dict__)
    cls.__doc__ = cls.__doc__ or cls.__name__  # or `dataclass` makes one of the signature
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    methods: dict[str, Any] = {"__init__": _initialiser(made), "__repr__": _representation(made)}
    if eq:
        methods |= _comparison(made, frozen)
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    if frozen:
        made.__setattr__ = _refuse_to_set
        made.__delattr__ = _refuse_to_delete
    result: type[T] = made
    return result


def _initialiser(made: Any) -> Method:
    """`__init__`: values by place or name, and the defaults of what is left out."""
    taken = [f for f in fields(made) if f.init]
    setters = [getattr(made, f.name).__set__ for f in taken]
    # a field that is no argument, with a default
    others = [(getattr(made, f.name).__set__, f) for f in fields(made) if not f.init and _has(f)]
    count = len(taken)
    after = hasattr(made, "__post_init__")

    def __init__(self: Any, *values: Any, **named: Any) -> None:
        if named or len(values) != count:
            values = _completed(made, taken, values, named)
        for put, value in zip(setters, values):  # noqa: B905  (as many, and this is quicker)
            put(self, value)
        if others:
            for put, of in others:
                put(self, _default(of))
        if after:
            self.__post_init__()

    return __init__


def _completed(
    made: Any, taken: list[Field[Any]], values: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Any, ...]:
    """The values in the order of the fields, with those given by name and the defaults."""
    found = list(values)
    for of in taken[len(values) :]:
        if of.name in named:
            found.append(named.pop(of.name))
        elif _has(of):
            found.append(_default(of))
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


def _representation(made: Any) -> Method:
    names = [f.name for f in fields(made) if f.repr]

    def __repr__(self: Any) -> str:
        shown = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{type(self).__qualname__}({shown})"

    return __repr__


def _comparison(made: Any, frozen: bool) -> dict[str, Method | None]:
    """`__eq__` by the fields within one class; a hash where they cannot change."""
    names = [f.name for f in fields(made) if f.compare]
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
