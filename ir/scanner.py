"""Reading characters of IR text: words, types, attribute values; errors with line and caret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from graphmill.ir.dims import DimLike, parse_dim
from graphmill.ir.dtypes import ALL, DType, dtype
from graphmill.ir.literals import read_float
from graphmill.ir.types import TensorType, TokenType, Type, parse_type

Array = np.ndarray[Any, Any]

_SPACE = re.compile(r"(?:\s|//[^\n]*)*")
_INLINE = re.compile(r"[ \t]*")
_WORD = re.compile(r"[^\W\d]\w*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_NUMBER = re.compile(r"-?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|inf\b|nan\b)")
_NAN = re.compile(r"nan\(0x[0-9a-fA-F]+\)")
_INTEGER = re.compile(r"-?\d+")
_TYPE = re.compile(r"\w+\s*\[[^\]\n]*\](?:\s*@\s*\w+)?(?:[ ]+on[ ]+[\w:]+)?|token\b")
_HASH = re.compile(r"dense<sha256:([0-9a-f]+)>")
_SHOWN = 200
_MOST_BYTES = 1 << 34
_DTYPES = frozenset(d.name for d in ALL)


class ParseError(ValueError):
    """Text that is no IR: `line` and `column` count from 1; the message shows the place."""

    def __init__(self, message: str, text: str, at: int, file: str) -> None:
        start = text.rfind("\n", 0, at) + 1
        end = text.find("\n", at)
        shown = text[start : len(text) if end < 0 else end]
        self.line = text.count("\n", 0, at) + 1
        self.column = at - start + 1
        self.reason = message
        first = max(at - start - _SHOWN // 2, 0) if len(shown) > _SHOWN else 0
        shown = shown[first : first + _SHOWN]
        margin = re.sub(r"[^\t]", " ", shown[: at - start - first])
        super().__init__(
            f"{file}:{self.line}:{self.column}: {message}\n  {shown}\n  {margin}^",
        )


class Scanner:
    """A place in a text, and what can be read there."""

    def __init__(self, text: str, file: str, constants: Mapping[str, Array]) -> None:
        self.text = text
        self.file = file
        self.at = 0
        self.constants = constants
        self.types: dict[str, Type] = {}

    def error(self, message: str, at: int | None = None) -> ParseError:
        return ParseError(message, self.text, self.at if at is None else at, self.file)

    def skip(self) -> None:
        """Go past white space and comments."""
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]

    def looking_at(self, token: str, inline: bool = False) -> bool:
        """Whether `token` comes next (on this line, if `inline`)."""
        start = (_INLINE if inline else _SPACE).match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text.startswith(token, start)

    def take(self, token: str, inline: bool = False) -> bool:
        """Read `token` if it comes next."""
        if not self.looking_at(token, inline):
            return False
        self.skip()
        self.at += len(token)
        return True

    def expect(self, token: str) -> None:
        if not self.take(token):
            self.skip()
            raise self.error(f"expected {token!r}, found {self.found()}")

    def found(self) -> str:
        """What stands here, for messages."""
        if self.at >= len(self.text):
            return "the end of the text"
        match = re.compile(r"[\w.]{1,60}|\S").match(self.text, self.at)
        return repr(match[0]) if match else "white space"

    def match(self, pattern: re.Pattern[str], what: str) -> str:
        """Read what the pattern matches."""
        self.skip()
        match = pattern.match(self.text, self.at)
        if not match:
            raise self.error(f"expected {what}, found {self.found()}")
        self.at = match.end()
        return match[0]

    def word(self, what: str = "a word") -> str:
        return self.match(_WORD, what)

    def keyword(self, word: str) -> bool:
        """Read this word if it comes next as a whole word."""
        self.skip()
        match = _WORD.match(self.text, self.at)
        if not match or match[0] != word:
            return False
        self.at = match.end()
        return True

    def integer(self, what: str = "an integer") -> int:
        start = self.at
        try:
            return int(self.match(_INTEGER, what))
        except ValueError as error:
            if isinstance(error, ParseError):
                raise
            raise self.error("the number is too long", start) from None

    def type(self) -> Type:
        """Read a type."""
        self.skip()
        start = self.at
        text = self.match(_TYPE, "a type such as f32[8, n]")
        if text in self.types:
            return self.types[text]
        name = _WORD.match(text)
        if text != "token" and (name is None or name[0] not in _DTYPES):
            word = name[0] if name else text
            raise self.error(f"{word!r} is no dtype{suggestion(word, _DTYPES)}", start)
        try:
            self.types[text] = parse_type(text)
            return self.types[text]
        except RecursionError:
            raise self.error("the type is nested too deeply", start) from None
        except (ValueError, ZeroDivisionError) as error:
            raise self.error(_short(str(error)), start) from None

    def string(self) -> str:
        start = self.at
        try:
            return str(json.loads(self.match(_STRING, "a string")))
        except json.JSONDecodeError as error:
            raise self.error(f"no string: {error.msg}", start) from None

    # ---- attribute values

    def value(self) -> Any:
        """Read any attribute value; lists become tuples."""
        self.skip()
        if self.looking_at('"'):
            return self.string()
        if self.take("["):
            return tuple(self.many("]", self.value))
        if self.take("{"):
            return dict(self.many("}", self._pair))
        if match := _HASH.match(self.text, self.at):
            raise self.error(f"{match[0]} stands only where the type is known")
        if self.take("dense<"):
            return self._dense()
        if _NAN.match(self.text, self.at) or _NUMBER.match(self.text, self.at):
            return float(self.element(dtype("f64")))
        match = _WORD.match(self.text, self.at)
        if match and match[0] != "nan":
            return self._word_value(match[0])
        return self.dim()

    def _word_value(self, word: str) -> Any:
        constants = {"true": True, "false": False, "none": None}
        after = self.text[self.at + len(word) : self.at + len(word) + 1]
        if word in constants:
            self.at += len(word)
            return constants[word]
        if word == "complex" and after == "(":
            return complex(self.element(dtype("c128")))
        if word == "token" or (word in _DTYPES and after == "["):
            return self.type()
        if word in _DTYPES:
            self.at += len(word)
            return dtype(word)
        if word == "opaque" and after == "<":
            raise self.error("an opaque value is shown but cannot be read back")
        return self.dim()

    def _pair(self) -> tuple[str, Any]:
        key = self.string()
        self.expect(":")
        return key, self.value()

    def _dense(self) -> Array:
        of = self.type()
        if not isinstance(of, TensorType):
            raise self.error("dense<…> needs a tensor type")
        self.expect(":")
        array = self.elements(of)
        self.expect(">")
        return array

    def many(self, end: str, read: Any) -> Iterable[Any]:
        """Items separated by commas up to the closing bracket."""
        items: list[Any] = []
        if self.take(end):
            return items
        while True:
            items.append(read())
            if self.take(end):
                return items
            self.expect(",")

    def dim(self) -> DimLike:
        """Read a dim expression, which ends at a comma or a closing bracket."""
        self.skip()
        start, depth, end = self.at, 0, self.at
        while end < len(self.text):
            char = self.text[end]
            depth += (char == "(") - (char == ")")
            if char in "]}>\n=" or depth < 0 or (char == "," and depth == 0):
                break
            end += 1
        text = self.text[start:end].strip()
        if not text:
            raise self.error(f"expected a value, found {self.found()}")
        try:
            value = parse_dim(text)
        except RecursionError:
            raise self.error("the dim is nested too deeply") from None
        except (ValueError, ZeroDivisionError) as error:
            raise self.error(_short(str(error))) from None
        self.at = start + len(text)
        return value

    # ---- arrays

    def elements(self, of: TensorType) -> Array:
        """Read the elements of an array of a static type; the array is read-only."""
        self.skip()
        start = self.at
        if not of.is_static:
            raise self.error(f"a constant needs a fixed shape, not {of}")
        shape = tuple(int(d) for d in of.shape if isinstance(d, int))
        if match := _HASH.match(self.text, self.at):
            array = self._elided(match[1], of)
            self.at = match.end()
            return array
        count = int(np.prod(shape, dtype=object))
        if count * of.dtype.itemsize > _MOST_BYTES:
            raise self.error(f"{of} is too large for a constant")
        if self.keyword("splat"):
            self.expect("(")
            array = np.full(shape, self.element(of.dtype), of.dtype.numpy)
            self.expect(")")
        else:
            flat: list[Any] = []
            self._nested(shape, of.dtype, flat)
            array = np.array(flat, of.dtype.numpy).reshape(shape)
        if array.shape != shape:
            raise self.error(f"the elements do not make up {of}", start)
        array.flags.writeable = False
        return array

    def _nested(self, shape: tuple[int, ...], of: DType, into: list[Any]) -> None:
        if not shape:
            into.append(self.element(of))
            return
        self.skip()
        start = self.at
        self.expect("[")
        count = len(list(self.many("]", lambda: self._nested(shape[1:], of, into))))
        if count != shape[0]:
            raise self.error(f"{count} entries where the type has {shape[0]}", start)

    def _elided(self, key: str, of: TensorType) -> Array:
        if key not in self.constants:
            raise self.error("the text leaves this array out: pass it in constants={…}")
        array = self.constants[key]
        if dtype(array.dtype) is not of.dtype or array.shape != of.shape:
            has = TensorType(dtype(array.dtype), array.shape)
            raise self.error(f"the given array is {has}, not {of}")
        return array

    def element(self, of: DType) -> Any:
        """Read one scalar of a dtype."""
        self.skip()
        start = self.at
        if of.kind == "b":
            word = self.word("true or false")
            if word not in ("true", "false"):
                raise self.error(f"expected true or false, found {word!r}", start)
            return word == "true"
        if of.is_complex:
            return self._complex(of)
        if of.is_integer:
            number, info = self.integer(), np.iinfo(of.numpy)
            if not info.min <= number <= info.max:
                raise self.error(f"{number} does not fit into {of}", start)
            return number
        match = _NAN.match(self.text, start) or _NUMBER.match(self.text, start)
        match = match or _INTEGER.match(self.text, start)
        if not match:
            raise self.error(f"expected a number, found {self.found()}")
        self.at = match.end()
        try:
            with np.errstate(all="ignore"):
                return read_float(match[0], of)
        except (OverflowError, ValueError) as error:
            raise self.error(f"{match[0]} is no {of}: {error}", start) from None

    def _complex(self, of: DType) -> Any:
        for token in ("complex", "("):
            self.expect(token)
        real = self.element(of.real)
        self.expect(",")
        parts = np.array([real, self.element(of.real)], of.real.numpy)
        self.expect(")")
        return parts.view(of.numpy)[0]


def _short(message: str) -> str:
    return message if len(message) <= _SHOWN else f"{message[:_SHOWN]}…"


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'add'?` where a known word is close."""
    import difflib

    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


__all__ = ["ParseError", "Scanner", "TokenType", "suggestion"]
