"""The C header of a library: C99 and C++, every shape, dtype, layout and error written down."""

from __future__ import annotations

from graphmill.codegen.aot.plan import Plan
from graphmill.codegen.aot.signature import C_TYPES, ERRORS, Argument, Signature
from graphmill.codegen.artifact import DimSpec

_TOP = """\
/* {library}: functions compiled by Graphmill for {target}.
 *
 * Arrays are C-contiguous (row-major) and aligned to their element type, unless said otherwise.
 * The caller owns all memory; arrays that are written must not overlap others. A pointer to an
 * array without elements may be NULL.
 *
 * Every function returns GML_OK (0) or an error code and then says more in
 * gml_{library}_last_error(); outputs are unspecified after an error. Nothing aborts, prints or
 * throws.
 *
 * Threads: every function may be called from any number of threads at once. A call runs on its
 * caller's thread alone until gml_{library}_set_threads allows more.
 *
 * Link with -l{library}; at run time the library needs libc, libm and libpthread. A call is
 *
 *   if ({call} != GML_OK)
 *     fprintf(stderr, "%s\\n", gml_{library}_last_error());
 */
#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#ifndef GML_ERROR_CODES
#define GML_ERROR_CODES
enum {{
{errors}
}};
#endif
"""

_CONTROL = """
/* Version of this library's functions, as given when it was built. */
const char *gml_{library}_version(void);

/* All that this header says and more, as JSON. */
const char *gml_{library}_metadata(void);

/* The last error's message in this thread; empty if there was none. Valid until the next error. */
const char *gml_{library}_last_error(void);

/* GML_OK if this CPU has what the functions were compiled for and the weights are there; every
 * function asks it first. */
int32_t gml_{library}_ready(void);

/* Let calls use up to n threads, 1 to 4096 (at first: 1). Worker threads start when first needed
 * and end when n falls; gml_{library}_threads says how many are allowed now. */
int32_t gml_{library}_set_threads(int32_t n);
int32_t gml_{library}_threads(void);

/* Give cached scratch memory back to the system. */
void gml_{library}_release_memory(void);

/* {weights} */
int32_t gml_{library}_load_weights(const char *path);

#ifdef __cplusplus
}}
#endif

#endif
"""


def header(plan: Plan) -> str:
    """Text of `<library>.h`."""
    width = max(len(name) for name, _ in ERRORS)
    codes = [
        f"  GML_{name} = {code}{',' if code + 1 < len(ERRORS) else ' '} "
        f"{' ' * (width - len(name))}/* {text} */"
        for code, (name, text) in enumerate(ERRORS)
    ]
    weights = "The weights are inside this library: this does nothing and returns GML_OK."
    if plan.side:
        weights = (
            f"Load the weights from {plan.weights_file} before any function is called; the file\n"
            " * is mapped, checked, and refused unless this library was built with it."
        )
    first = plan.signatures[0]
    top = _TOP.format(
        library=plan.library,
        target=plan.target_text,
        guard=f"GML_{plan.library.upper()}_H",
        errors="\n".join(codes),
        call=f"{first.symbol}({', '.join(first.parameters())})",
    )
    functions = [_function(signature) for signature in plan.signatures]
    return top + "".join(functions) + _CONTROL.format(library=plan.library, weights=weights)


def _function(signature: Signature) -> str:
    artifact = signature.artifact
    lines = [f"\n/* {_plain(artifact.name)}", " *"]
    for argument in signature.arrays:
        lines.append(f" *   {argument.name}: {_describe(argument)}")
    for name, spec in signature.dims:
        lines.append(f" *   {name}: {_bounds(spec)}")
    for name, argument in signature.strides:
        lines.append(
            f" *   {name}: {len(argument.spec.shape)} strides of {argument.name}, in elements, "
            "any sign; NULL if it is C-contiguous"
        )
    lines += [" */", f"{signature.prototype()};", ""]
    return "\n".join(lines)


def _describe(argument: Argument) -> str:
    way = "output" if argument.output else "input"
    if argument.becomes:
        way = f"input, overwritten with the output {_plain(argument.becomes)}"
    _, parts, note = C_TYPES[argument.spec.dtype]
    count = " * ".join(f"({d})" if " " in str(d) else str(d) for d in argument.spec.shape) or "1"
    count = f"2 * {count}" if parts == 2 else count
    size = f"{count} of {argument.c_type}"
    return f"{way}, {argument.shape_text()}, {size}{f' ({note})' if note else ''}"


def _bounds(spec: DimSpec) -> str:
    return f"at least {spec.lo}" + ("" if spec.hi is None else f", at most {spec.hi}")


def _plain(text: str) -> str:
    return text.replace("*/", "* /")
