"""The public face: `jit` and its stages, `build` and `load`."""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill import draws, driver, packed, recall
from graphmill.codegen.constants import sources
from graphmill.collector import no_collections
from graphmill.driver import Options
from graphmill.frontend.errors import GraphmillError, error, hide_internal_frames
from graphmill.frontend.spec import Spec, argument_spec, spec, with_dynamic, with_layout
from graphmill.frontend.state import tracing
from graphmill.frontend.trees import NONE, Tree, argument_paths, flatten
from graphmill.keys import Contents
from graphmill.keys import settings as key_settings
from graphmill.runtime import native, profiling
from graphmill.runtime.dispatch import Dispatcher
from graphmill.runtime.donation import DonationError
from graphmill.runtime.executable import CheckError
from graphmill.runtime.executable import Executable as Loaded
from graphmill.runtime.guards import Watch

if TYPE_CHECKING:
    from graphmill.codegen.aot.library import BuiltLibrary
    from graphmill.frontend.trace import Traced
    from graphmill.runtime.forms import Call
    from graphmill.runtime.library import Library
    from graphmill.stages import Executable, Graph, Lowered

KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
CHECKS = ("bounds", "nan")


class Jit(Dispatcher):
    """A function that compiles itself for each new signature of its arguments.

    A signature is the structure of the arguments, each array's dtype, shape (but for dims that
    `dynamic` names) and whether it is contiguous, and the static arguments.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        static: Sequence[str] = (),
        dynamic: Mapping[str, Any] | None = None,
        check: Sequence[str] = (),
        threads: int | None = None,
        pipeline: str | None = None,
        tune: float = 0,
        winograd: int = 0,
        donate: Sequence[str] = (),
    ) -> None:
        functools.update_wrapper(self, function)
        self.__name__: str = getattr(function, "__name__", type(function).__name__)
        self.__qualname__: str = getattr(function, "__qualname__", self.__name__)
        self.function = function
        self.static = tuple(static)
        self.dynamic = dict(dynamic or {})
        self.donate = tuple(donate)
        self.threads = threads
        self.tune = tune
        self.options = Options(check=tuple(check), winograd=winograd)
        if pipeline is not None:
            self.options = replace(self.options, pipeline=pipeline)
        self._signature = inspect.signature(function)
        self._known_arguments()
        self._pending = threading.local()
        self._out_trees: dict[Any, Tree] = {}
        self._paths: dict[Tree, tuple[str, ...]] = {}  # of the leaves, where some are donated
        at_once = functools.partial(recall.at_once, options=self.options, threads=threads)
        # an edit to the function, or to what it calls or reads by name, compiles again
        super().__init__(
            self._compile_flat,
            watch=functools.partial(Watch, function, native.digest, at_once),
        )

    def _known_arguments(self) -> None:
        names = self._signature.parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in names.values())
        options = {"static": self.static, "dynamic": self.dynamic, "donate": self.donate}
        for what, given in options.items():
            for name in given:
                if name not in names and not open_ended:
                    raise error(
                        "GM044", f"{what}= names {name!r}, which {self.__name__} does not take",
                        hint=f"its parameters are {', '.join(names)}.",
                    )  # fmt: skip
        rest = next((p.name for p in names.values() if p.kind is p.VAR_POSITIONAL), None)
        if rest and any(n in names and names[n].kind is not KEYWORD_ONLY for n in self.static):
            raise error(
                "GM044", f"{self.__name__} takes *{rest} behind static parameters",
                hint=f"put the static ones behind *{rest}, to be passed by name.",
            )  # fmt: skip

    # ---- calling

    def general(self, *args: Any, **kwargs: Any) -> Any:
        """The Python path of a call; inside another function's trace it becomes part of that."""
        if tracing():
            return self.function(*args, **kwargs)
        given, keywords, static = self._split(args, kwargs)
        leaves, tree = flatten((given, keywords))
        key = (tree, self._static_key(static))
        if self.donate:
            if tree not in self._paths:
                self._paths[tree] = argument_paths(self.function, tree)
            from graphmill.donation import check_leaves

            check_leaves(leaves, self._paths[tree], self.donate)
        self._pending.call = (tree, static, key)
        way = len(args), tuple(kwargs)

        def describe(executable: Loaded) -> Call | None:
            from graphmill.forms import Way, call

            return call(Way(*way), tree, static, self._signature, self._out_trees[key])

        try:
            outputs = self.call_flat(leaves, key=key, way=(key, way), describe=describe)
        except GraphmillError as problem:
            raise hide_internal_frames(problem) from None
        except (CheckError, DonationError) as problem:
            from graphmill.checks import told

            raise told(problem) from None
        return self._out_trees[key].unflatten(outputs)

    def _split(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Positional and keyword arguments that are traced, and the static ones by name."""
        if not self.static:
            return args, kwargs, {}
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as problem:
            raise error("GM044", f"{self.__name__}: {problem}") from None
        bound.apply_defaults()
        static = {name: bound.arguments.pop(name) for name in self.static}
        keywords = dict(bound.kwargs)
        if any(p.kind is p.VAR_POSITIONAL for p in self._signature.parameters.values()):
            return bound.args, keywords, static
        traced = [n for n in bound.arguments if n not in keywords]
        for name, value in zip(traced, bound.args, strict=False):
            keywords[name] = value
        return (), keywords, static

    def _static_key(self, static: dict[str, Any]) -> Any:
        try:
            hash(key := tuple((name, type(v), v) for name, v in static.items()))
        except TypeError:
            bad = next(name for name, v in static.items() if not _hashable(v))
            raise error(
                "GM042", f"the static argument {bad!r} is a {type(static[bad]).__name__}",
                hint="pass a tuple instead of a list, or a frozen dataclass.",
            ) from None  # fmt: skip
        return key

    def signature(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Dtype, shape and contiguity of arrays, types of numbers."""
        return tuple([
            (x.dtype.num, x.shape, x.flags.c_contiguous) if type(x) is np.ndarray else type(x)
            for x in args
        ])  # fmt: skip

    def group(self, args: tuple[Any, ...]) -> Any:
        """Signatures that differ in sizes of dynamic dims only are one."""
        if not self.dynamic:
            return self.signature(args)
        tree, static, _ = self._pending.call
        return tuple(map(str, self._specs(args, tree, static)[0]))

    # ---- compiling

    @no_collections
    def _compile_flat(self, args: tuple[Any, ...]) -> Loaded:
        loaded, contents, read = self._compile_once(args, self.covers)
        if read and not self.undisturbed():
            # an array that was read in place has been written to meanwhile: read copies instead
            return self._compile_once(args, None)[0]
        packed.keep(loaded.artifact, contents)
        return loaded

    def _compile_once(
        self, args: tuple[Any, ...], stays: Callable[[Any], bool] | None
    ) -> tuple[Loaded, Sequence[str], bool]:
        """What to run, what the sources of its constants hold where that is known, and whether
        arrays have been read since the watch knows what they hold."""
        tree, static, key = self._pending.call
        options, contents = self.options, Contents()
        if profiling.active() is not None:
            options = replace(options, profiled=True)
        ask = functools.partial(self._question, args, tree, static, options, contents)
        asked = ask() if stays is not None and not self.tune else None
        self.watch_values(static.values())
        answer = recall.find(asked) if asked is not None else None
        if answer is not None:
            self._out_trees[key] = answer.out_tree
            loaded = Loaded(answer.artifact, threads=self.threads)
            return loaded, answer.contents, not packed.is_mapped(answer.artifact)
        could_draw = asked is not None and asked.portrait.could_draw
        with draws.watched(could_draw) as has_drawn:
            traced = self._trace(args, tree, static, stays)
        if traced.multiples:
            from graphmill.frontend.multiples import misfit

            problem = misfit(traced.specs, [np.shape(x) for x in args], traced.multiples)
            if problem is not None:
                raise problem
        self.watch_arrays(traced.captured)
        self._out_trees[key] = traced.out_tree
        if self.tune:
            from graphmill.tuning import sizes_of, tune_once

            tune_once(traced.function, options, self.tune, sizes_of(traced.function, args))
        if traced.variables:
            from graphmill.stages import load as load_compiled

            loaded = load_compiled(traced.function, traced.variables, options, self.threads)
            return loaded, (), True
        artifact, name = driver.compiled(traced.function, options, contents)
        # a trace that has changed what it depends on would do so again
        if asked and name and not has_drawn() and self.undisturbed():
            again = ask()
            if again is not None and again.key == asked.key:
                recall.keep(asked, traced, name)
        held = [contents(array) for array in sources(traced.function)] if name is not None else ()
        return Loaded(artifact, threads=self.threads), held, True

    def _question(
        self,
        leaves: Sequence[Any],
        tree: Tree,
        static: Mapping[str, Any],
        options: Options,
        contents: Contents,
    ) -> recall.Question | None:
        """What to ask the compile cache before tracing."""
        specs, _ = self._specs(leaves, tree, static)
        settings = key_settings(options, driver.target(options))
        call = (tree, static, self.donate)

        def watch(arrays: Sequence[np.ndarray[Any, Any]]) -> None:
            self.watch_arrays(arrays)
            for array in arrays:
                if (number := self.digest_of(array)) is not None:
                    contents.know(array, number)

        return recall.question(self.function, call, specs, settings, contents, watch)

    def _trace(
        self,
        leaves: Sequence[Any],
        tree: Tree,
        static: Mapping[str, Any],
        stays: Callable[[Any], bool] | None = None,
    ) -> Traced:
        specs, paths = self._specs(leaves, tree, static)
        args, kwargs = tree.unflatten(specs)
        # only where no earlier process has traced it
        from graphmill.frontend.trace import trace

        traced = trace(self.function, args, kwargs, static=static, paths=paths, stays=stays)
        return self.donated(traced)

    def donated(self, traced: Traced) -> Traced:
        """The traced function with results that take over the memory of donated arguments."""
        if not self.donate:
            return traced
        from graphmill.donation import with_donated

        return with_donated(traced, self.donate)

    def _specs(
        self, leaves: Sequence[Any], tree: Tree, static: Mapping[str, Any]
    ) -> tuple[list[Spec], tuple[str, ...]]:
        paths = argument_paths(self.function, tree)
        specs = []
        for leaf, path in zip(leaves, paths, strict=True):
            made = argument_spec(leaf, path)
            wanted = self.dynamic.get(path)
            if wanted is not None:
                made = with_dynamic(made, wanted, path)
            specs.append(with_layout(made, leaf))
        return specs, paths

    # ---- stages

    def trace(self, *args: Any, **kwargs: Any) -> Graph:
        """The traced IR for these arguments (arrays, specs or spec texts)."""
        from graphmill.stages import Graph

        traced = self._traced(args, kwargs)
        return Graph(traced.function, self.options, traced.variables)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The function in every form on its way to machine code."""
        from graphmill.stages import Lowered

        traced = self._traced(args, kwargs)
        return Lowered(traced.function, self.options, traced.variables)

    def compile(self, *args: Any, **kwargs: Any) -> Executable:
        """An executable for these arguments, ready to run."""
        return self.lower(*args, **kwargs).compile(self.threads)

    def _traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
        given, keywords, static = self._split(args, kwargs)
        leaves, tree = flatten((given, keywords))
        try:
            return self._trace(leaves, tree, static)
        except GraphmillError as problem:
            raise hide_internal_frames(problem) from None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: `self` is the first argument (make it static unless it is a structure)."""
        return self if instance is None else functools.partial(self, instance)

    def __reduce__(self) -> str | tuple[Any, ...]:
        from graphmill.pickling import reduced

        return reduced(self)

    def __repr__(self) -> str:
        return f"<gm.jit {self.__module__}.{self.__qualname__}>"


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def jit(
    function: Callable[..., Any] | None = None,
    *,
    static: str | Sequence[str] = (),
    dynamic: Mapping[str, Any] | None = None,
    check: str | Sequence[str] = (),
    threads: int | None = None,
    pipeline: str | None = None,
    tune: float = 0,
    winograd: bool | int = False,
    donate: str | Sequence[str] = (),
) -> Any:
    """Compile a NumPy-style function when it is called; usable as `@gm.jit` or `@gm.jit(…)`.

    `static` names arguments that are Python values to be compiled in. `dynamic` keeps dims
    symbolic, so that one compilation serves all sizes: `{"x": ("batch", None)}`. `check` takes
    `"bounds"`, `"nan"` or both: the function then reports the user's line at the first bad index
    or value. `threads` fixes the number of threads. `tune` gives the first compilation about so
    many seconds to find better schedules for its kernels by measuring them; what it finds
    stays in the compile cache and serves all functions with the same kernels.

    `winograd` lets 3 × 3 convolutions use Winograd's algorithm where that is faster: 2 for tiles
    of 2 × 2 results, 4 or True for up to 4 × 4. Rounding differs (docs/numerics.md): over 64 to 512
    channels in f32 the largest error, as a share of the largest result, is 0.9e-6 to 2.0e-6
    without it, 0.3e-6 to 1.0e-6 with 2 and 1.4e-6 to 4.0e-6 with 4. An infinity or NaN makes
    neighbours in its tile NaN, too, and so do elements within a factor of 1000 of overflow.

    `donate` names arguments whose arrays a call may overwrite: each becomes a result of its dtype
    and shape, is updated in place where that is possible, and is returned itself, so that a cache
    is not copied.

    Raises `GraphmillError` at the first call for what cannot be compiled.
    """
    names = tuple(c.strip() for c in check.split(",")) if isinstance(check, str) else tuple(check)
    names = tuple(name for name in names if name)
    for name in names:
        if name not in CHECKS:
            raise error("GM025", f"check= has {name!r}", hint='it takes "bounds", "nan" or both.')
    if not isinstance(tune, int | float) or not 0 <= tune < float("inf"):
        raise error("GM025", f"tune={tune!r}", hint="it takes seconds, such as tune=10.")
    statics = (static,) if isinstance(static, str) else tuple(static)
    options: dict[str, Any] = {
        "static": statics, "dynamic": dynamic, "check": names, "threads": threads,
        "pipeline": pipeline, "tune": tune, "winograd": _tile(winograd),
        "donate": (donate,) if isinstance(donate, str) else tuple(donate),
    }  # fmt: skip
    if function is None:
        return lambda f: Jit(f, **options)
    return Jit(function, **options)


def _tile(winograd: bool | int) -> int:
    """The largest tile that may be used; 0 for none."""
    if winograd == 0:
        return 0
    from graphmill.passes.winograd import TILES

    if winograd not in (True, *TILES):
        raise error("GM025", f"winograd={winograd!r}", hint="it takes False, 2, 4 or True.")
    return max(TILES) if winograd is True else int(winograd)


Buildable = Callable[..., Any]


def build(
    function: Buildable | Mapping[str, tuple[Buildable, Sequence[Any]]],
    specs: Sequence[Any] | None = None,
    path: str | os.PathLike[str] = "",
    *,
    target: str = "native",
    schedules: str | os.PathLike[str] | None = None,
    **options: Any,
) -> BuiltLibrary:
    """Compile ahead of time to a shared object with a C header that needs no Python.

    `build(f, [gm.spec("f32[batch, 784]")], "libf.so")`, or several functions in one library:
    `build({"f": (f, specs), "g": (g, specs)}, path="lib.so")`. The library keeps no state: what a
    function reads of variables are inputs behind its arguments, what it assigns outputs behind its
    results. Options of a `gm.jit` function (`check`, `pipeline`, `winograd`) hold for its code.
    For `native` kernels have the schedules that were measured here; `schedules` names a file of
    `graphmill tune --export`, from here or another machine. Returns what was written.
    `options` are those of `build_library`: `embed_weights`, `weights_path`, `prefix`, `version`,
    `linker`.
    """
    from graphmill.codegen.aot.library import build_library
    from graphmill.frontend.trace import trace
    from graphmill.passes.state import state
    from graphmill.schedules import read_file

    own = read_file(Path(schedules)) if schedules is not None else ()
    if isinstance(specs, str):
        raise TypeError(f"specs is a list with a spec for each argument, such as [{specs!r}]")
    functions = (
        function
        if isinstance(function, Mapping)
        else {getattr(function, "__name__", "function"): (function, specs or [])}
    )
    artifacts = []
    built_with: dict[str, Any] = {}
    for name, (one, arguments) in functions.items():
        plain = one.function if isinstance(one, Jit) else one
        base = one.options if isinstance(one, Jit) else Options()
        try:
            traced = trace(plain, tuple(arguments), name=name)
            traced = one.donated(traced) if isinstance(one, Jit) else traced
        except GraphmillError as problem:
            raise hide_internal_frames(problem) from None
        chosen = replace(base, target=target, schedules=own)
        planned = state(traced.function)
        made = driver.compile_function(planned, chosen)
        # results are called what they are in the user's structure: out['loss'], out[1]
        outputs = [
            replace(output, name=place)
            for output, place in zip(
                made.outputs,
                (*traced.out_tree.paths("out"), *planned.attrs.get("writes", ())),
                strict=True,
            )
        ]
        artifacts.append(replace(made, outputs=tuple(outputs)))
        built_with[name] = {"pipeline": chosen.passes, "check": chosen.check}
    machine = driver.target(Options(target=target))
    options.setdefault("options", built_with)
    return build_library(artifacts, Path(path), target=machine, **options)


def load(
    path: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    verify: bool = True,
) -> Library:
    """Load a library that `build` wrote; its functions are attributes that take NumPy arrays.

    Weights in a file of their own are looked for beside it, or at `weights`; `verify=False` skips
    the checksum. Raises `LibraryError` saying what is wrong with the file.
    """
    from graphmill.runtime.library import load as load_library

    return load_library(path, weights=weights, verify=verify)


__all__ = ["NONE", "Jit", "build", "jit", "load", "spec"]
