"""The files beside a library: pkg-config, CMake, and an example program that runs as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphmill.codegen.aot.dimtext import C, translate
from graphmill.codegen.aot.signature import C_TYPES, Signature

_PKG_CONFIG = """\
prefix=${{pcfiledir}}

Name: {library}
Description: Functions compiled by Graphmill
Version: {version}
Libs: -L${{prefix}} -l{library}
Libs.private: -lm -lpthread
Cflags: -I${{prefix}}
"""

_CMAKE = """\
# find_package({library} CONFIG) with this folder in {library}_DIR, then link {library}::{library},
# or {library}::{library}_static to have the functions inside your program.
if(NOT TARGET {library}::{library})
  add_library({library}::{library} SHARED IMPORTED)
  set_target_properties({library}::{library} PROPERTIES
    IMPORTED_LOCATION "${{CMAKE_CURRENT_LIST_DIR}}/{shared}"
    IMPORTED_SONAME "{shared}"
    INTERFACE_INCLUDE_DIRECTORIES "${{CMAKE_CURRENT_LIST_DIR}}")
  add_library({library}::{library}_static INTERFACE IMPORTED)
  set_target_properties({library}::{library}_static PROPERTIES
    INTERFACE_LINK_LIBRARIES "${{CMAKE_CURRENT_LIST_DIR}}/{object};m;pthread"
    INTERFACE_INCLUDE_DIRECTORIES "${{CMAKE_CURRENT_LIST_DIR}}")
endif()
set({library}_VERSION "{version}")
"""

_MAIN = """\
/* Calls every function of {shared} once, on made-up numbers.
 *
 *   cc {name} -L. -l{library} -Wl,-rpath,'$ORIGIN' -o {stem} && ./{stem}
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "{library}.h"

static int failed(const char *what) {{
  fprintf(stderr, "%s: %s\\n", what, gml_{library}_last_error());
  return 1;
}}
{functions}
int main(void) {{
  printf("{library} %s\\n", gml_{library}_version());
{setup}{calls}  return 0;
}}
"""


def pkg_config(library: str, version: str) -> str:
    """Text of `<library>.pc`, which finds everything in its own folder."""
    return _PKG_CONFIG.format(library=library, version=version)


def cmake(library: str, version: str, shared: Path, object_file: Path) -> str:
    """Text of `<library>-config.cmake`."""
    return _CMAKE.format(
        library=library, version=version, shared=shared.name, object=object_file.name
    )


def example(
    library: str, signatures: Sequence[Signature], path: Path, shared: Path, weights_file: str
) -> str:
    """Text of the example program at `path`."""
    setup = ""
    if weights_file:
        setup = (
            f'  if (gml_{library}_load_weights("{weights_file}") != GML_OK) '
            'return failed("load_weights");\n'
        )
    calls = "".join(f"  if (run_{k}() != 0) return 1;\n" for k in range(len(signatures)))
    return _MAIN.format(
        library=library, shared=shared.name, name=path.name, stem=path.stem,
        functions="".join(_function(k, s) for k, s in enumerate(signatures)),
        setup=setup, calls=calls,
    )  # fmt: skip


def _function(index: int, signature: Signature) -> str:
    lines = [f"\nstatic int run_{index}(void) {{"]
    # a small size within the bounds, so that made-up numbers fit
    for name, spec in signature.dims:
        value = max(spec.lo, 3 if spec.hi is None else min(3, spec.hi))
        lines.append(f"  const int64_t {name} = {value};")
    for argument in signature.arrays:
        count = _count(argument.spec.shape, signature)
        parts = C_TYPES[argument.spec.dtype][1]
        lines.append(
            f"  const int64_t n_{argument.name} = {count}{f' * {parts}' if parts > 1 else ''};"
        )
        kind = argument.c_type
        lines.append(
            f"  {kind} *{argument.name} = "
            f"({kind} *)calloc((size_t)n_{argument.name} + 1, sizeof({kind}));"
        )
    missing = " || ".join(f"!{a.name}" for a in signature.arrays) or "0"
    lines.append(f"  if ({missing}) return 1;")
    for argument in signature.inputs:
        value = "0.125 * (double)(i % 17) - 1.0"
        if argument.c_type not in ("float", "double"):
            value = "i % 2"
        lines.append(
            f"  for (int64_t i = 0; i < n_{argument.name}; ++i) "
            f"{argument.name}[i] = ({argument.c_type})({value});"
        )
    names = [a.name for a in signature.arrays] + [name for name, _ in signature.dims]
    names += ["NULL" for _ in signature.strides]
    lines.append(f"  const int32_t status = {signature.symbol}({', '.join(names)});")
    lines.append(f'  if (status != GML_OK) return failed("{signature.symbol}");')
    for argument in signature.outputs:
        lines += _print(argument.name, argument.c_type)
    lines += [f"  free({a.name});" for a in signature.arrays]
    return "\n".join([*lines, "  return 0;", "}", ""])


def _print(name: str, c_type: str) -> list[str]:
    shown = f'" %g", (double){name}[i]'
    if c_type not in ("float", "double"):
        kind, cast = ("u", "uint64_t") if c_type.startswith("u") else ("d", "int64_t")
        shown = f'" %" PRI{kind}64, ({cast}){name}[i]'
    return [
        f'  printf("{name}:");',
        f"  for (int64_t i = 0; i < n_{name} && i < 8; ++i) printf({shown});",
        f'  printf("%s\\n", n_{name} > 8 ? " ..." : "");',
    ]


def _count(shape: Sequence[int | str], signature: Signature) -> str:
    """Elements of a shape as a C expression over the dims' names."""
    dims = {spec.name: name for name, spec in signature.dims}
    return " * ".join(translate(dim, dims, C) for dim in shape) or "1"
