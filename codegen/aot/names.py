"""Names in C: what is an identifier, and what the language and its library have taken."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = """
alignas alignof and and_eq asm atomic auto bitand bitor bool break case catch char class compl
complex concept const const_cast constexpr continue decltype default delete do double
dynamic_cast else enum explicit export extern false float for friend goto if imaginary inline
int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected
public register reinterpret_cast requires restrict return short signed sizeof static
static_assert static_cast struct switch template this thread_local throw true try typedef
typeid typename typeof union unsigned using virtual void volatile wchar_t while xor xor_eq
main errno linux unix NULL stdin stdout stderr assert
"""
_RESERVED = frozenset(_WORDS.split())

# Functions of the C library (C99 and the most used of POSIX). A library that exported one of these
# names would take the place of the C library's in every program that links it.
_FUNCTIONS = """
abort abs accept access acos acosh aligned_alloc asctime asin asinh atan atan2 atanh atexit atof
atoi atol atoll bind bsearch cabs cacos calloc carg casin catan cbrt ccos ceil cexp chdir chmod
cimag clearerr clock clog close conj connect copysign cos cosh cpow creal csin csqrt ctan ctime
difftime div dlclose dlopen dlsym dup erf erfc execve exit exp exp2 expm1 fabs fclose fdim feof
ferror fflush fgetc fgets floor fma fmax fmin fmod fopen fork fprintf fputc fputs fread free
freopen frexp fscanf fseek ftell fwrite getc getchar getenv getpid gets gmtime hypot ilogb index
ioctl isalnum isalpha isdigit isfinite isinf isnan isspace isupper j0 j1 jn kill labs ldexp ldiv
lgamma listen llabs lldiv llrint llround localtime log log10 log1p log2 logb longjmp lrint lround
lseek malloc memchr memcmp memcpy memmove memset mkdir mktime mmap modf munmap nan nearbyint
nextafter open perror pipe poll pow printf putc putchar puts qsort raise rand random read realloc
recv remainder remove remquo rename rewind rint rmdir round scalbn scanf select send setjmp signal
sin sinh sleep snprintf socket sprintf sqrt srand sscanf stat strcat strchr strcmp strcpy strlen
strncmp strncpy strstr strtod strtol system tan tanh tgamma time tolower toupper trunc ungetc
unlink usleep vprintf wait write y0 y1 yn
"""
_TAKEN = frozenset(_FUNCTIONS.split())


def taken(symbol: str) -> str:
    """Why a library must not export `symbol`; empty where it may."""
    base = symbol.removesuffix("f").removesuffix("l")
    if symbol in _TAKEN or base in _TAKEN:
        return f"{symbol} is a function of the C library"
    return "names with gml_ are Graphmill's own" if symbol.startswith("gml_") else ""


def identifier(text: str) -> str:
    """`text` as a C and C++ identifier: `params['w']` becomes `params_w`."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "x"
    if name[0].isdigit() or name in _RESERVED:
        name = f"a_{name}"
    return name


def unique(names: Iterable[str], taken: set[str]) -> list[str]:
    """The names as identifiers, numbered where two are equal; `taken` grows."""
    found = []
    for text in names:
        base = name = identifier(text)
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        found.append(name)
    return found
