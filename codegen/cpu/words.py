"""A word language: functions over 64-bit words, in Python's syntax, translated to LLVM IR text.

The native part of the runtime (worker pool, call path) is small and low, so it is written in the
smallest language that serves: every value is one 64-bit word, `p[k]` is the k-th word at address
p, a called variable is a function pointer. Python's parser reads the source; this file translates
it; LLVM makes the object, for any target, with no C compiler.

    from libc import malloc          an external function or datum; its bare name is its address
    from weak import sched_getcpu    the same, but 0 where the system has none
    LIMIT = 1 << 20                  a constant
    table = words(16)                zeroed global memory; its name is its address
    "text"                           address of the text's bytes and a zero byte
    def gm_f(a, b): ...              a function; only names with the prefix gm_ are exported

Statements: assignment (also `+=` and `p[k] = v`), if, while, break, continue, pass, return, calls.
`//`, `%`, `>>` and the comparisons are the signed ones of the machine, `and`/`or` short-circuit.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import field

from graphmill.records import record

_BINARY = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.FloorDiv: "sdiv", ast.Mod: "srem",
    ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor", ast.LShift: "shl", ast.RShift: "ashr",
}  # fmt: skip
_COMPARE = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "slt", ast.LtE: "sle", ast.Gt: "sgt", ast.GtE: "sge",
}  # fmt: skip
# how a thread that watches a word tells the processor so
_RELAX = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
}

# name: (number of arguments, lines; {0} {1} {2} arguments, {t} fresh prefix), value is %{t}
_INTRINSICS: dict[str, tuple[int, str]] = {
    "load": (1, "%{t}p = inttoptr i64 {0} to ptr\n%{t} = load i64, ptr %{t}p, align 8"),
    "load32": (
        1,
        "%{t}p = inttoptr i64 {0} to ptr\n%{t}v = load i32, ptr %{t}p, align 4\n"
        "%{t} = sext i32 %{t}v to i64",
    ),
    "load8": (
        1,
        "%{t}p = inttoptr i64 {0} to ptr\n%{t}v = load i8, ptr %{t}p\n%{t} = zext i8 %{t}v to i64",
    ),
    "store": (
        2,
        "%{t}p = inttoptr i64 {0} to ptr\nstore i64 {1}, ptr %{t}p, align 8\n%{t} = add i64 0, 0",
    ),
    "store8": (
        2,
        "%{t}p = inttoptr i64 {0} to ptr\n%{t}v = trunc i64 {1} to i8\n"
        "store i8 %{t}v, ptr %{t}p\n%{t} = add i64 0, 0",
    ),
    "store32": (
        2,
        "%{t}p = inttoptr i64 {0} to ptr\n%{t}v = trunc i64 {1} to i32\n"
        "store i32 %{t}v, ptr %{t}p, align 4\n%{t} = add i64 0, 0",
    ),
    "i32": (1, "%{t}v = trunc i64 {0} to i32\n%{t} = sext i32 %{t}v to i64"),
    # bits of the float nearest to the double with these bits
    "f32": (
        1,
        "%{t}d = bitcast i64 {0} to double\n%{t}f = fptrunc double %{t}d to float\n"
        "%{t}v = bitcast float %{t}f to i32\n%{t} = zext i32 %{t}v to i64",
    ),
    "atomic_load": (
        1,
        "%{t}p = inttoptr i64 {0} to ptr\n%{t} = load atomic i64, ptr %{t}p seq_cst, align 8",
    ),
    "atomic_store": (
        2,
        "%{t}p = inttoptr i64 {0} to ptr\nstore atomic i64 {1}, ptr %{t}p seq_cst, align 8\n"
        "%{t} = add i64 0, 0",
    ),
    "atomic_add": (
        2,
        "%{t}p = inttoptr i64 {0} to ptr\n%{t} = atomicrmw add ptr %{t}p, i64 {1} seq_cst",
    ),
    "atomic_swap": (
        2,
        "%{t}p = inttoptr i64 {0} to ptr\n%{t} = atomicrmw xchg ptr %{t}p, i64 {1} seq_cst",
    ),
    # 1 if the word held {1} and now holds {2}
    "compare_and_swap": (
        3,
        "%{t}p = inttoptr i64 {0} to ptr\n"
        "%{t}x = cmpxchg ptr %{t}p, i64 {1}, i64 {2} seq_cst seq_cst\n"
        "%{t}b = extractvalue {{i64, i1}} %{t}x, 1\n%{t} = zext i1 %{t}b to i64",
    ),
    "min": (2, "%{t} = call i64 @llvm.smin.i64(i64 {0}, i64 {1})"),
    "max": (2, "%{t} = call i64 @llvm.smax.i64(i64 {0}, i64 {1})"),
    "leading_zeros": (1, "%{t} = call i64 @llvm.ctlz.i64(i64 {0}, i1 false)"),
    "relax": (0, "{relax}\n%{t} = add i64 0, 0"),
    # of memory that is read soon; any address will do
    "prefetch": (
        1,
        "%{t}p = inttoptr i64 {0} to ptr\n"
        "call void @llvm.prefetch.p0(ptr %{t}p, i32 0, i32 3, i32 1)\n%{t} = add i64 0, 0",
    ),
}


class WordsError(SyntaxError):
    """Source outside the word language, with the line it stands on."""


@record(frozen=False)
class _Names:
    constants: dict[str, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)
    externs: dict[str, int | None] = field(default_factory=dict)
    weak: set[str] = field(default_factory=set)
    globals: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def to_llvm(source: str, triple: str, constants: Mapping[str, int] | None = None) -> str:
    """LLVM IR text of a word module; `constants` stand before and below the source's own."""
    names = _Names(constants=dict(constants or {}))
    bodies: list[ast.FunctionDef] = []
    for node in ast.parse(source).body:
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                pass
            case ast.ImportFrom(module=module, names=aliases):
                names.externs.update({alias.name: None for alias in aliases})
                names.weak.update(alias.name for alias in aliases if module == "weak")
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="words"), args=[size]),
            ):
                names.globals[name] = _constant(size, names)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names.constants.setdefault(name, _constant(value, names))
            case ast.FunctionDef(name=name, args=arguments):
                names.functions[name] = len(arguments.args)
                bodies.append(node)
            case _:
                raise WordsError(f"line {node.lineno}: not allowed at the top of a word module")
    declaration, relax = _RELAX.get(triple.split("-")[0], ("", ""))
    functions = [_Function(node, names, relax).text() for node in bodies]
    return "\n".join(
        [f'target triple = "{triple}"', declaration, *_declarations(names), *functions, ""]
    )


def to_object(
    source: str,
    triple: str = "",
    cpu: str = "",
    features: str = "",
    constants: Mapping[str, int] | None = None,
    effort: int = 1,
) -> bytes:
    """A relocatable object of a word module, for the machine here when no triple is given.

    `effort` is LLVM's code generation level: 0 takes a sixth of the time of 1.
    """
    from graphmill.codegen.cpu import bindings, llvm
    from graphmill.codegen.cpu.target import Target

    triple = triple or bindings.told(bindings.llvm().GetProcessTriple)
    target = Target(triple, triple, cpu, features, vector_bits=0, registers=0)
    # the three passes of straight code do nearly all of O2's good in a tenth of its time
    return llvm.compile_ir(
        to_llvm(source, triple, constants), target, kind="straight", effort=effort
    ).object


def _declarations(names: _Names) -> list[str]:
    lines = [
        "declare i64 @llvm.smin.i64(i64, i64)",
        "declare i64 @llvm.smax.i64(i64, i64)",
        "declare i64 @llvm.ctlz.i64(i64, i1)",
        "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
    ]
    for name, size in names.globals.items():
        linkage = "" if name.startswith("gm_") else "internal "
        lines.append(f"@{name} = {linkage}global [{size} x i64] zeroinitializer, align 64")
    for text, name in names.texts.items():
        data = text.encode() + b"\0"
        array = f"[{len(data)} x i8] c" + '"' + "".join(f"\\{byte:02X}" for byte in data) + '"'
        lines.append(f"@{name} = private unnamed_addr constant {array}")
    for name, arity in names.externs.items():
        weak = name in names.weak
        if arity is None:
            lines.append(f"@{name} = {'extern_weak' if weak else 'external'} global i8")
        else:
            types = ", ".join(["i64"] * arity)
            lines.append(f"declare {'extern_weak ' if weak else ''}i64 @{name}({types}) nounwind")
    return lines


def _constant(node: ast.expr, names: _Names) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name) if name in names.constants:
            return names.constants[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_constant(operand, names)
        case ast.BinOp(op=op, left=left, right=right):
            a, b = _constant(left, names), _constant(right, names)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.LShift():
                    return a << b
                case ast.BitOr():
                    return a | b
    raise WordsError(f"line {node.lineno}: {ast.unparse(node)!r} is not a constant")


class _Function:
    """Translation of one function: locals are stack slots, which LLVM turns into registers."""

    def __init__(self, node: ast.FunctionDef, names: _Names, relax: str) -> None:
        self.node, self.names, self.relax = node, names, relax
        self.lines: list[str] = []
        self.entry: list[str] = []
        self.locals: set[str] = set()
        self.fresh = 0
        self.loops: list[tuple[str, str]] = []
        self.open = True

    def text(self) -> str:
        arguments = [a.arg for a in self.node.args.args]
        for name in arguments:
            self.slot(name)
            self.entry.append(f"store i64 %{name}.in, ptr %{name}")
        self.block(self.node.body)
        if self.open:
            self.terminate("ret i64 0")
        linkage = "" if self.node.name.startswith("gm_") else "internal "
        parameters = ", ".join(f"i64 %{name}.in" for name in arguments)
        body = "\n".join(line if line.endswith(":") else f"  {line}" for line in self.lines)
        entry = "\n".join(f"  {line}" for line in [*self.entry, "br label %start"])
        return (
            f"define {linkage}i64 @{self.node.name}({parameters}) nounwind {{\n{entry}\n"
            f"start:\n{body}\n}}"
        )

    # -- pieces ----------------------------------------------------------------------------
    def name(self, hint: str = "t") -> str:
        self.fresh += 1
        return f"{hint}{self.fresh}"

    def add(self, text: str) -> None:
        self.lines.extend(text.split("\n"))

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.open = True

    def terminate(self, text: str) -> None:
        if self.open:
            self.add(text)
        self.open = False

    def slot(self, name: str) -> None:
        if name not in self.locals:
            self.locals.add(name)
            self.entry.append(f"%{name} = alloca i64, align 8")

    def emit(self, text: str) -> str:
        name = self.name()
        self.add(f"%{name} = {text}")
        return f"%{name}"

    def fail(self, node: ast.AST, why: str) -> WordsError:
        line = getattr(node, "lineno", self.node.lineno)
        return WordsError(f"line {line}, in {self.node.name}: {why}: {ast.unparse(node)}")

    # -- statements ------------------------------------------------------------------------
    def block(self, body: list[ast.stmt]) -> None:
        for node in body:
            if not self.open:
                raise self.fail(node, "never reached")
            self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case ast.Expr(value=value):
                self.value(value)
            case ast.Assign(targets=[target], value=value):
                self.assign(target, self.value(value))
            case ast.AugAssign(target=target, op=op, value=value):
                # the target of an augmented assignment is read like any expression
                current = self.value(ast.parse(ast.unparse(target), mode="eval").body)
                result = f"{_BINARY[type(op)]} i64 {current}, {self.value(value)}"
                self.assign(target, self.emit(result))
            case ast.Return(value=value):
                self.terminate(f"ret i64 {self.value(value) if value else 0}")
            case ast.If():
                self.if_(node)
            case ast.While(test=test, body=body, orelse=[]):
                self.while_(test, body)
            case ast.Break() if self.loops:
                self.terminate(f"br label %{self.loops[-1][1]}")
            case ast.Continue() if self.loops:
                self.terminate(f"br label %{self.loops[-1][0]}")
            case _:
                raise self.fail(node, "not in the word language")

    def assign(self, target: ast.expr, value: str) -> None:
        match target:
            case ast.Name(id=name):
                self.slot(name)
                self.add(f"store i64 {value}, ptr %{name}")
            case ast.Subscript(value=base, slice=index):
                self.intrinsic("store", [self.address(base, index), value])
            case _:
                raise self.fail(target, "cannot be assigned")

    def if_(self, node: ast.If) -> None:
        then, other, end = self.name("then"), self.name("else"), self.name("end")
        self.branch(node.test, then, other)
        self.label(then)
        self.block(node.body)
        falls = self.open
        self.terminate(f"br label %{end}")
        self.label(other)
        self.block(node.orelse)
        falls = falls or self.open
        self.terminate(f"br label %{end}")
        if falls:
            self.label(end)

    def while_(self, test: ast.expr, body: list[ast.stmt]) -> None:
        head, inside, end = self.name("head"), self.name("body"), self.name("end")
        self.terminate(f"br label %{head}")
        self.label(head)
        self.branch(test, inside, end)
        self.label(inside)
        self.loops.append((head, end))
        self.block(body)
        self.loops.pop()
        self.terminate(f"br label %{head}")
        self.label(end)

    def branch(self, test: ast.expr, yes: str, no: str) -> None:
        """Jump on a condition, `and`/`or`/`not` by control flow."""
        match test:
            case ast.BoolOp(op=op, values=values):
                for value in values[:-1]:
                    following = self.name("next")
                    targets = (following, no) if isinstance(op, ast.And) else (yes, following)
                    self.branch(value, *targets)
                    self.label(following)
                self.branch(values[-1], yes, no)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.branch(operand, no, yes)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                pair = f"{self.value(left)}, {self.value(right)}"
                self.jump(self.emit(f"icmp {_COMPARE[type(op)]} i64 {pair}"), yes, no)
            case _:
                self.jump(self.emit(f"icmp ne i64 {self.value(test)}, 0"), yes, no)

    def jump(self, bit: str, yes: str, no: str) -> None:
        self.terminate(f"br i1 {bit}, label %{yes}, label %{no}")

    # -- expressions -----------------------------------------------------------------------
    def value(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=int(value)):
                return str(int(value))
            case ast.Constant(value=str(text)):
                name = self.names.texts.setdefault(text, f"text.{len(self.names.texts)}")
                return self.emit(f"ptrtoint ptr @{name} to i64")
            case ast.Name(id=name):
                return self.named(node, name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.emit(f"sub i64 0, {self.value(operand)}")
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return self.emit(f"xor i64 {self.value(operand)}, -1")
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _BINARY:
                pair = f"{self.value(left)}, {self.value(right)}"
                return self.emit(f"{_BINARY[type(op)]} i64 {pair}")
            case ast.Subscript(value=base, slice=index):
                return self.intrinsic("load", [self.address(base, index)])
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.call(node, name, arguments)
            case ast.BoolOp() | ast.Compare() | ast.UnaryOp(op=ast.Not()):
                one, zero = ast.Constant(value=1), ast.Constant(value=0)
                return self.choose(ast.IfExp(test=node, body=one, orelse=zero))
            case ast.IfExp():
                return self.choose(node)
        raise self.fail(node, "not in the word language")

    def named(self, node: ast.expr, name: str) -> str:
        if name in self.locals:
            return self.emit(f"load i64, ptr %{name}")
        if name in self.names.constants:
            return str(self.names.constants[name])
        known = (self.names.functions, self.names.globals, self.names.externs)
        if any(name in table for table in known):
            return self.emit(f"ptrtoint ptr @{name} to i64")
        raise self.fail(node, "unknown name")

    def choose(self, node: ast.IfExp) -> str:
        result = self.name("choice")
        self.slot(result)
        yes, no, end = self.name("then"), self.name("else"), self.name("end")
        self.branch(node.test, yes, no)
        for label, value in ((yes, node.body), (no, node.orelse)):
            self.label(label)
            self.add(f"store i64 {self.value(value)}, ptr %{result}")
            self.terminate(f"br label %{end}")
        self.label(end)
        return self.emit(f"load i64, ptr %{result}")

    def address(self, base: ast.expr, index: ast.expr) -> str:
        offset = self.emit(f"shl i64 {self.value(index)}, 3")
        return self.emit(f"add i64 {self.value(base)}, {offset}")

    def call(self, node: ast.expr, name: str, arguments: list[ast.expr]) -> str:
        if name == "stack":
            return self.stack(_constant(arguments[0], self.names))
        values = [self.value(a) for a in arguments]
        if name in _INTRINSICS and name not in self.locals:
            if len(values) != _INTRINSICS[name][0]:
                raise self.fail(node, "wrong number of arguments")
            return self.intrinsic(name, values)
        typed = ", ".join(f"i64 {v}" for v in values)
        if name in self.locals:
            pointer = self.emit(f"inttoptr i64 {self.named(node, name)} to ptr")
            return self.emit(f"call i64 {pointer}({typed})")
        if name in self.names.externs:
            if self.names.externs[name] not in (None, len(values)):
                raise self.fail(node, "called with another number of arguments before")
            self.names.externs[name] = len(values)
        elif self.names.functions.get(name) != len(values):
            raise self.fail(node, "unknown function or wrong number of arguments")
        return self.emit(f"call i64 @{name}({typed})")

    def intrinsic(self, name: str, values: list[str]) -> str:
        fresh = self.name()
        self.add(_INTRINSICS[name][1].format(*values, t=fresh, relax=self.relax))
        return f"%{fresh}"

    def stack(self, size: int) -> str:
        memory = self.name("stack")
        self.entry.append(f"%{memory} = alloca [{size} x i64], align 64")
        return self.emit(f"ptrtoint ptr %{memory} to i64")
