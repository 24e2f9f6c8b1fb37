"""Linking: the system's compiler driver when there is one, else the `ziglang` wheel's linker.

Without a compiler there is no C library to link against, so the linker gets stand-ins: shared
objects with the C library's names, symbols and symbol versions, and nothing behind them. The
versions are the oldest of each symbol, so such a library runs on every glibc.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from graphmill.codegen.aot import elf
from graphmill.codegen.aot.cpu import architecture
from graphmill.codegen.aot.elf import ALLOC, DYNSYM, EXECUTE, Elf, Section
from graphmill.codegen.aot.files import mapped
from graphmill.codegen.aot.signature import BuildError
from graphmill.codegen.cpu.target import Target, native
from graphmill.records import record

_LIBM = """
acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp10 exp2 expm1
fabs fdim floor fma fmax fmin fmod frexp hypot ldexp lgamma llrint llround log log10 log1p log2
lrint lround modf nearbyint nextafter pow remainder rint round roundeven sin sincos sinh sqrt tan
tanh tgamma trunc
"""
_LIBC = """
memcpy memmove memset memcmp memchr bcmp strlen malloc calloc realloc free aligned_alloc
posix_memalign mmap munmap madvise open close lseek getpid clock_gettime sched_yield
sched_getaffinity sched_getcpu getauxval nanosleep sysconf syscall
"""
LIBM = frozenset(name + suffix for name in _LIBM.split() for suffix in ("", "f"))
LIBC = frozenset(_LIBC.split())
# from glibc's version tables: what is younger than the first version of the architecture
_FIRST = {"x86_64": "GLIBC_2.2.5", "aarch64": "GLIBC_2.17"}
_YOUNGER = {
    "x86_64": {
        "aligned_alloc": "GLIBC_2.16",
        "clock_gettime": "GLIBC_2.17",
        "getauxval": "GLIBC_2.16",
        "sched_getaffinity": "GLIBC_2.3.4",
        "sched_getcpu": "GLIBC_2.6",
        "pthread_setaffinity_np": "GLIBC_2.3.4",
        "roundeven": "GLIBC_2.25",
        "roundevenf": "GLIBC_2.25",
        **{
            f"pthread_cond_{name}": "GLIBC_2.3.2"
            for name in ("init", "destroy", "wait", "timedwait", "signal", "broadcast")
        },
    },
    "aarch64": {"roundeven": "GLIBC_2.25", "roundevenf": "GLIBC_2.25"},
}


@record
class Linker:
    """A linker to run: its command, and whether that is a compiler driver."""

    command: tuple[str, ...]
    driver: bool


def find(target: Target, which: str = "auto") -> Linker:
    """The linker for a target: `cc`, `lld`, or `auto` for the first that can."""
    if which not in ("auto", "cc", "lld"):
        raise BuildError(f"unknown linker {which!r}: choose auto, cc or lld")
    host = architecture(native()) == architecture(target)
    driver = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if which != "lld" and host and driver:
        return Linker((driver,), driver=True)
    zig = _zig()
    if which != "cc" and zig:
        return Linker((str(zig), "ld.lld"), driver=False)
    if which == "cc":
        raise BuildError(f"no system compiler (cc, gcc, clang) links for {target.name}")
    raise BuildError(
        f"nothing here links for {target.name}: install a C compiler, or `pip install ziglang`"
    )


def _zig() -> Path | None:
    spec = importlib.util.find_spec("ziglang")
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        for name in ("zig", "zig.exe"):
            if (Path(place) / name).exists():
                return Path(place) / name
    return None


def shared(
    linker: Linker, target: Target, objects: Sequence[Path], output: Path, public: Iterable[str],
    work: Path,
) -> None:  # fmt: skip
    """Link `output`; only `public` names leave it, and it may need only libc, libm, libpthread."""
    script = work / "public.map"
    script.write_text(f"{{ global: {' '.join(f'{name};' for name in public)} local: *; }};\n")
    options = [
        f"-soname={output.name}", "-Bsymbolic", "--gc-sections", "-s", "--build-id=none",
        "--no-undefined", f"--version-script={script}", "-z", "relro", "-z", "now",
        "-z", "noexecstack", "--as-needed",
    ]  # fmt: skip
    made = work / "linked.so"
    if linker.driver:
        passed = [f"-Wl,{option}" for option in options]
        command = ["-shared", "-nostartfiles", *passed, *map(str, objects), "-lm", "-lpthread"]
    else:
        stubs = _stand_ins(linker, target, objects, work)
        command = ["-shared", *options, *map(str, objects), *map(str, stubs)]
    run(linker, [*command, "-o", str(made)])
    _verify(made)
    made.replace(output)


def merge(linker: Linker, objects: Sequence[Path], output: Path) -> None:
    """One relocatable object out of several."""
    options = ["-r", "-nostdlib"] if linker.driver else ["-r"]
    run(linker, [*options, *map(str, objects), "-o", str(output)])


def run(linker: Linker, arguments: Sequence[str]) -> None:
    """Run the linker; its complaint becomes a BuildError."""
    done = subprocess.run(
        [*linker.command, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        command = " ".join(linker.command)
        raise BuildError(f"{command} could not link the library:\n{done.stderr.strip()}")


def allowed(name: str) -> bool:
    """Whether a library may ask the system for this symbol."""
    return name in LIBM or name in LIBC or name.startswith("pthread_")


def _verify(path: Path) -> None:
    """Refuse a library that needs more than libc, libm and libpthread."""
    with mapped(path) as data:
        linked = Elf(data)
        missing, needed = elf.undefined(linked, DYNSYM), linked.needed()
    foreign = sorted(name for name in missing if not allowed(name))
    if foreign:
        raise BuildError(f"the library would need {', '.join(foreign)}, which is not of libc")
    known = ("libc.so", "libc.musl", "libm.so", "libpthread.so", "ld-linux")
    others = [name for name in needed if not name.startswith(known)]
    if others:
        raise BuildError(f"the library would need {', '.join(others)}")


def _stand_ins(linker: Linker, target: Target, objects: Sequence[Path], work: Path) -> list[Path]:
    """Shared objects that offer, by name and version alone, what the objects leave undefined."""
    used: set[str] = set()
    defined: set[str] = set()
    for path in objects:
        with mapped(path) as data:
            parsed = Elf(data)
            missing = elf.undefined(parsed)
            used |= missing
            defined |= {name for name, *_ in parsed.symbols()} - missing
    groups: dict[str, list[str]] = {"libc.so.6": [], "libm.so.6": [], "libpthread.so.0": []}
    for name in sorted(used - defined):
        if not allowed(name):
            raise BuildError(f"the code uses {name}, which is neither its own nor of libc")
        pthread = name.startswith("pthread_")
        library = "libpthread.so.0" if pthread else "libm.so.6" if name in LIBM else "libc.so.6"
        groups[library].append(name)
    return [
        _stand_in(linker, target, library, names, work)
        for library, names in groups.items()
        if names
    ]


def _stand_in(
    linker: Linker, target: Target, library: str, names: Sequence[str], work: Path
) -> Path:
    machine = architecture(target)
    versions: dict[str, list[str]] = {}
    for name in names:
        versions.setdefault(_YOUNGER[machine].get(name, _FIRST[machine]), []).append(name)
    source, script, output = (work / f"{library}{end}" for end in (".o", ".map", ""))
    text = Section(".text", ALLOC | EXECUTE, [bytes(16)], dict.fromkeys(names, 0))
    elf.write_object(source, machine, [text], hidden=False)
    script.write_text(
        "".join(f"{v} {{ global: {' '.join(f'{n};' for n in g)} }};\n" for v, g in versions.items())
    )
    options = ["-shared", f"-soname={library}", f"--version-script={script}"]
    run(linker, [*options, str(source), "-o", str(output)])
    return output
