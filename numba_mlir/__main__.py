"""``python -m numba_mlir -s`` and ``python -m numba_mlir opt``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from numba_mlir import _opt, _sysinfo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m numba_mlir", description=__doc__)
    parser.add_argument(
        "-s", "--sysinfo", action="store_true", help="versions and settings, for bug reports"
    )
    commands = parser.add_subparsers(dest="command")
    _opt.add_arguments(
        commands.add_parser(
            "opt",
            help="run passes over MLIR text",
            description=_opt.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    chosen = parser.parse_args(arguments)
    if chosen.sysinfo:
        sys.stdout.write(_sysinfo.report())
        return 0
    if chosen.command == "opt":
        return _opt.run(chosen)
    parser.print_usage(sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
