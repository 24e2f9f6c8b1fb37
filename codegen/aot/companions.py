"""The files beside a library: pkg-config, CMake, and an example program that runs as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphmill.codegen.aot.dimtext import C, translate
from graphmill.codegen.aot.plan import Plan
from graphmill.codegen.aot.signature import C_TYPES, Argument, Signature

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
    INTERFACE_LINK_LIBRARIES "${{CMAKE_CURRENT_LIST_DIR}}/{library}.o;m;pthread"
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


def write(plan: Plan) -> tuple[Path, ...]:
    """Write them beside the library; returns their paths."""
    names = {"library": plan.library, "version": plan.version, "shared": plan.path.name}
    main = f"{plan.library}_main.c"
    texts = {
        f"{plan.library}.pc": _PKG_CONFIG.format(**names),
        f"{plan.library}-config.cmake": _CMAKE.format(**names),
        main: _example(plan, main),
    }
    paths = [plan.path.with_name(name) for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    return tuple(paths)


def _example(plan: Plan, name: str) -> str:
    setup = ""
    if plan.side:
        setup = (
            f'  if ({plan.control("load_weights")}("{plan.weights_file}") != GML_OK) '
            'return failed("load_weights");\n'
        )
    return _MAIN.format(
        library=plan.library,
        shared=plan.path.name,
        name=name,
        stem=name.removesuffix(".c"),
        functions="".join(_function(k, s) for k, s in enumerate(plan.signatures)),
        setup=setup,
        calls="".join(f"  if (run_{k}()) return 1;\n" for k in range(len(plan.signatures))),
    )


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
        real = argument.c_type in ("float", "double")
        number = "0.125 * (double)(i % 17) - 1.0" if real else "i % 2"
        lines.append(
            f"  for (int64_t i = 0; i < n_{argument.name}; ++i) "
            f"{argument.name}[i] = ({argument.c_type})({number});"
        )
    names = [a.name for a in signature.arrays] + [name for name, _ in signature.dims]
    names += ["NULL" for _ in signature.strides]
    lines.append(f"  const int32_t status = {signature.symbol}({', '.join(names)});")
    lines.append(f'  if (status != GML_OK) return failed("{signature.symbol}");')
    for argument in signature.outputs:
        lines += _print(f"{signature.artifact.name} {argument.name}", argument)
    lines += [f"  free({a.name});" for a in signature.arrays]
    return "\n".join([*lines, "  return 0;", "}", ""])


def _print(label: str, argument: Argument) -> list[str]:
    name, c_type = argument.name, argument.c_type
    shown = f'" %g", (double){name}[i]'
    if c_type not in ("float", "double"):
        kind, cast = ("u", "uint64_t") if c_type.startswith("u") else ("d", "int64_t")
        shown = f'" %" PRI{kind}64, ({cast}){name}[i]'
    return [
        f'  printf("{label}:");',
        f"  for (int64_t i = 0; i < n_{name} && i < 8; ++i) printf({shown});",
        f'  printf("%s\\n", n_{name} > 8 ? " ..." : "");',
    ]


def _count(shape: Sequence[int | str], signature: Signature) -> str:
    """Elements of a shape as a C expression over the dims' names."""
    dims = {spec.name: name for name, spec in signature.dims}
    return " * ".join(translate(dim, dims, C) for dim in shape) or "1"
