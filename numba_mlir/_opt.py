"""Run MLIR's passes and those of this project over a module, in the given order.

    python -m numba_mlir opt FILE --pass-pipeline='builtin.module(canonicalize,cse)'
    python -m numba_mlir opt - --numba-pass=fusion --numba-pass='identity{cleanup=false}'

The ``numba`` dialect is loaded, operations of unregistered dialects are taken.  Errors
go to stderr as MLIR's diagnostics; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numba_mlir import mlir
from numba_mlir.errors import MLIRRoundtripError
from numba_mlir.passes.base import MLIRPass

SPLIT = "// -----"
_WORDS = {"true": True, "false": False}


class UsageError(Exception):
    """Wrong arguments or unreadable files; the message is for the user."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", help="MLIR text, or - for standard input")
    steps: dict[str, Any] = {"dest": "steps", "action": "append", "default": []}
    add("--pass-pipeline", metavar="TEXT", type=lambda t: ("pipeline", t), **steps)
    add("--numba-pass", metavar="NAME", type=lambda t: ("pass", t), **steps)
    add("-o", dest="output", metavar="FILE", default="-", help="where to write (-: stdout)")
    add("--split-input-file", action="store_true", help=f"one module between lines '{SPLIT}'")
    add("--mlir-print-debuginfo", action="store_true", help="write locations")
    add("--remarks", action="store_true", help="our passes' remarks, to stderr")


def run(options: argparse.Namespace) -> int:
    """The command; 0, or 1 after an error that is on stderr."""
    try:
        text = _read(options.file)
        parts = _split(text) if options.split_input_file else [text]
        results = [_one(part, options) for part in parts]
        _write(options.output, f"\n{SPLIT}\n\n".join(results))
    except (UsageError, MLIRRoundtripError) as exc:
        return _fail(str(exc))
    except Exception as exc:
        if not hasattr(exc, "error_diagnostics"):
            raise
        # the bindings parse text under the name "-"
        return _fail(str(exc).replace('"-":', f'"{options.file}":'))
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"{message.rstrip()}\n")
    return 1


def _read(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"error: cannot read {path}: {exc}") from exc


def _write(path: str, text: str) -> None:
    try:
        sys.stdout.write(text) if path == "-" else Path(path).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"error: cannot write {path}: {exc}") from exc


def _split(text: str) -> Iterator[str]:
    """The parts, each behind as many empty lines as make its line numbers right."""
    line = 0
    for part in re.split(rf"^{SPLIT}[^\n]*$", text, flags=re.MULTILINE):
        yield "\n" * line + part
        line += part.count("\n")


def _one(text: str, options: argparse.Namespace) -> str:
    ir = mlir.ir
    with mlir.context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        for kind, value in options.steps:
            if kind == "pipeline":
                _run_pipeline(module, value)
            else:
                _run_pass(module, _pass(value), options.remarks)
        asm = module.operation.get_asm(enable_debug_info=options.mlir_print_debuginfo)
    return str(asm)


def _run_pipeline(module: Any, pipeline: str) -> None:
    try:
        mlir.run_pipeline(module.operation, pipeline)
    except ValueError as exc:  # the pipeline's text
        raise UsageError(str(exc)) from exc


def _run_pass(module: Any, one: MLIRPass, remarks: bool) -> None:
    result = one.run(module)
    module.operation.verify()
    if remarks:
        sys.stderr.write("".join(f"{remark}\n" for remark in result.remarks))


def _pass(text: str) -> MLIRPass:
    """A pass from ``name`` or ``name{option=value option=value}``."""
    from numba_mlir.roundtrip.pipeline import PASSES

    match = re.fullmatch(r"([\w-]+)(?:\{(.*)\})?", text)
    if match is None or match[1] not in PASSES:
        raise UsageError(f"error: no pass {text!r}; there are {', '.join(sorted(PASSES))}")
    made = PASSES[match[1]](True)
    fields = {field.name for field in dataclasses.fields(made)}
    options = dict(_option(item, fields) for item in (match[2] or "").split())
    return dataclasses.replace(made, **options)


def _option(text: str, fields: set[str]) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    name = name.replace("-", "_")
    if name not in fields or not equals:
        there = ", ".join(sorted(fields)) or "none"
        raise UsageError(f"error: no pass option {text!r}; options: {there}")
    try:
        return name, _WORDS[value] if value in _WORDS else ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
