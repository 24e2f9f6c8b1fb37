"""Layouts of the records shared with the native call path, as word positions and values.

`LAYOUT` is given to the compiler of the call path as constants, so both sides read one definition.
"""

from __future__ import annotations

from graphmill.runtime import dims

# what the whole process shares
HOST = [
    "HOST_NEW_FROM_DESCR",
    "HOST_ARRAY_TYPE",
    "HOST_HANDLER",
    "HOST_PARALLEL_FOR",
    "HOST_NOW",
    "HOST_THREADS",
    "HOST_SCOPE_OWNER",
    "HOST_SCOPE_THREADS",
    "HOST_BYPASS",
    "HOST_DIGEST",
]
MEMORY = [
    "MEMORY_LOCK",
    "MEMORY_CACHED",
    "MEMORY_LIMIT",
    "MEMORY_LIVE",
    "MEMORY_MAPPED",
    "MEMORY_REUSED",
]
# what compiled code is given; in its loops it counts down to a look for signals, and what a
# handler has raised is in three words from STOPPED on
CONTEXT = [
    "PARALLEL_FOR", "WORKERS", "ARENA", "ERROR", "PROFILE", "NOW", "COUNTDOWN", "POLL", "STOPPED",
    "STOPPED_VALUE", "STOPPED_TRACEBACK", "TURNS", "SEEN", "LOOKED",
]  # fmt: skip
CONTEXT_WORDS = 16
# one signature of one compiled function
ENTRY = [
    "ARGS",
    "GIVEN",
    "INPUTS",
    "OUTPUTS",
    "SYMBOLS",
    "CODE",
    "ARENA_CODE",
    "ARENA_BYTES",
    "THREADS",
    "RELEASE",
    "RESULT",
    "RESULT_COUNT",
    "ARG_RECORDS",
    "OUT_RECORDS",
    "BOUNDS",
    "BOUND_INPUTS",
    "LATER_DIMS",
    "FORM",
    "VARIABLES",
    "BUILD",
    "DONATED",
    "POLLED",
]
# one leaf of the arguments, or a variable's value; ARG_DIMS is the first of ARG_ND triples: a
# symbol, by how much it is multiplied, what is added (no symbol: the size)
ARG = ["ARG_SIZE", "ARG_KIND", "ARG_SLOT", "ARG_DESCR", "ARG_ND", "ARG_SHIFT", "ARG_DIMS"]
KINDS = [
    "KIND_ARRAY",
    "KIND_STRIDED",
    "KIND_FLOAT64",
    "KIND_FLOAT32",
    "KIND_INT64",
    "KIND_BOOL",
    "KIND_NUMBER",
]
# a form: numbers of its tables' rows, then positional nodes, (name, node), (slot, fixed leaf)
FORM = ["FORM_POSITIONAL", "FORM_NAMES", "FORM_FIXED", "FORM_TABLES"]
# one place in a structure; NODE_PARTS is the first of NODE_COUNT pairs (key, node)
NODE = ["NODE_KIND", "NODE_SUBJECT", "NODE_COUNT", "NODE_PARTS"]
NODE_KINDS = [
    "NODE_LEAF",
    "NODE_NONE",
    "NODE_STATIC",
    "NODE_TUPLE",
    "NODE_LIST",
    "NODE_DICT",
    "NODE_DATA",
]
# a function's variables: numbers of its tables' rows, then lists that hold the values read, lists
# that take those assigned, (acquire, release, locked) of their locks
VARIABLES = ["VARIABLE_READS", "VARIABLE_WRITES", "VARIABLE_LOCKS", "VARIABLE_TABLES"]
# one output; the argument that it is or -1; OUT_DIMS is the first of OUT_ND pairs (mode, value)
OUT = ["OUT_SIZE", "OUT_DESCR", "OUT_ND", "OUT_ITEM", "OUT_DONATED", "OUT_DIMS"]
# one function: its records, its guards, whether a guard has failed
STATE = ["STATE_TABLE", "STATE_GUARDS", "STATE_FAILED"]
DIM_MODES = ["DIM_STATIC", "DIM_SYMBOL", "DIM_PROGRAM"]
RESULTS = ["RESULT_SINGLE", "RESULT_TUPLE", "RESULT_TREE", "RESULT_CALL"]

LAYOUT: dict[str, int] = {
    name: position
    for group in (
        HOST, MEMORY, CONTEXT, ENTRY, ARG, KINDS, OUT, STATE, DIM_MODES, RESULTS,
        FORM, NODE, NODE_KINDS, VARIABLES,
    )
    for position, name in enumerate(group)
} | {
    "PUSH": dims.PUSH, "DIM": dims.DIM, "ADD": dims.ADD, "SUB": dims.SUB, "MUL": dims.MUL,
    "FLOORDIV": dims.FLOORDIV, "MOD": dims.MOD, "MAX": dims.MAX, "MIN": dims.MIN,
    # where CPython keeps a float's value and a tuple's items, the last fields of their heads
    "FLOAT_VALUE": float.__basicsize__ // 8 - 1, "TUPLE_ITEMS": tuple.__basicsize__ // 8,
    # where a number's value begins, in bytes; a list's items
    "NUMBER_VALUE": object.__basicsize__, "LIST_ITEMS": 3, "SIZED": 2,
    "NO_SYMBOL": -1, "LATER": -2,
    # watched pages: the epoch, where the process's word is, the kernel's struct, its answer
    "REGION_EPOCH": 0, "REGION_PROCESS": 1, "REGION_SCAN": 2, "REGION_FOUND": 14,
    "REGION_WORDS": 17,
    # limits of the native path; what is beyond them takes the Python path
    "POINTERS": 512, "DIMS": 256, "MAX_OUTPUTS": 64, "MAX_RANK": 64, "MAX_PROGRAM": 64,
}  # fmt: skip
