"""LLVM IR text of a newer LLVM, made readable for the older parser of llvmlite.

The bindings print the IR of their own LLVM.  Between that version and llvmlite's only the
literals of floating-point constants changed: ``0.1`` is printed for the nearest ``float``,
``+inf``, ``-qnan``, ``+nan(0x3)``, ``+snan(0x1)`` and ``f0x419D6F34...`` are new.  The older
parser takes the bits of a number for every one of them, so each literal becomes that.

The type of a literal is the last one that stands before it on its line: in LLVM's grammar
an operand without a type has the type of the operand before it.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

#: tokens that may contain what looks like a literal, then types, then literals
_TOKEN = re.compile(
    r"""
    (?P<skip> "[^"]*" | [%@$!\#^][-\w$.]* | ;[^\n]* )
  | (?P<type> \b(?:double|float|half|bfloat|x86_fp80|fp128|ppc_fp128)\b | \n )
  | (?P<literal> (?<![\w.]) (?:
        [+-]?\d+\.\d+(?:e[+-]?\d+)?
      | [+-](?:inf|qnan|s?nan\(0x[0-9A-Fa-f]+\))
      | f0x[0-9A-Fa-f]+ ) (?![\w.]) )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class _Format:
    """A binary floating-point format: bits of its exponent and mantissa."""

    exponent: int
    mantissa: int
    code: str

    @property
    def width(self) -> int:
        return 1 + self.exponent + self.mantissa

    def decimal(self, text: str) -> int:
        """The bits of the number nearest to a decimal."""
        if self.code:
            return int.from_bytes(struct.pack(">" + self.code, float(text)), "big")
        wide = int.from_bytes(struct.pack(">f", float(text)), "big")  # bfloat: half of a float
        return (wide + 0x7FFF + (wide >> 16 & 1)) >> 16

    def special(self, text: str) -> int:
        """The bits of an infinity or a NaN."""
        bits = ((1 << self.exponent) - 1) << self.mantissa
        quiet = 1 << (self.mantissa - 1)
        name = text[1:].partition("(")[0]
        if name != "inf":
            bits |= int(text.partition("(")[2].rstrip(")") or "0", 16)
            bits |= 0 if name == "snan" else quiet
        return bits | (text[0] == "-") << (self.width - 1)


_DOUBLE = _Format(11, 52, "d")
_FORMATS = {
    "double": _DOUBLE,
    "float": _Format(8, 23, "f"),
    "half": _Format(5, 10, "e"),
    "bfloat": _Format(8, 7, ""),
}


class UnknownLiteral(ValueError):
    """A floating-point literal of a type that has no counterpart."""


def readable(text: str) -> str:
    """``text`` with every floating-point literal in the old form.

    Raises UnknownLiteral for one without a type, or of another type than double, float,
    half and bfloat.
    """
    current = "\n"

    def replace(match: re.Match[str]) -> str:
        nonlocal current
        if match["type"]:
            current = match["type"]
        elif match["literal"]:
            return _rewritten(match["literal"], current)
        return match[0]

    return _TOKEN.sub(replace, text)


def _rewritten(literal: str, type_: str) -> str:
    format_ = _FORMATS.get(type_)
    if format_ is None:
        raise UnknownLiteral(f"the literal {literal} of type {type_!r}")
    return _old_form(_bits(literal, format_), type_, format_)


def _bits(literal: str, format_: _Format) -> int:
    if literal.startswith("f0x"):
        return int(literal[3:], 16)
    return format_.special(literal) if literal[1].isalpha() else format_.decimal(literal)


def _old_form(bits: int, type_: str, format_: _Format) -> str:
    if type_ == "half":
        return f"0xH{bits:04X}"
    if type_ == "bfloat":
        return f"0xR{bits:04X}"
    return f"0x{bits if type_ == 'double' else _widened(bits, format_):016X}"


def _widened(bits: int, format_: _Format) -> int:
    """The bits of the double of the same value; a NaN keeps its payload."""
    sign = bits >> (format_.width - 1)
    exponent = bits >> format_.mantissa & ((1 << format_.exponent) - 1)
    mantissa = bits & ((1 << format_.mantissa) - 1)
    if exponent == (1 << format_.exponent) - 1:
        bits = 0x7FF << 52 | mantissa << (_DOUBLE.mantissa - format_.mantissa)
    else:
        value = struct.unpack(">f", (bits & 0x7FFFFFFF).to_bytes(4, "big"))[0]
        bits = _DOUBLE.decimal(repr(value))
    return bits | sign << 63
