"""The command line: the package's verbs as words."""

from __future__ import annotations

import sys
import warnings

from bcellsim.cli.app import app

__all__ = ["app", "main"]

#: What bad input, a failed solve, or a full disk raise: one sentence for the user, no traceback.
_EXPECTED = (ValueError, OSError, RuntimeError)


def _warn(message, category, filename, lineno, file=None, line=None):
    print(f"bcellsim: warning: {' '.join(str(message).split())}", file=sys.stderr)


def main() -> None:
    """Run the command line; exit 0 when good, 1 with one sentence on standard error, 2 on usage."""
    warnings.showwarning = _warn
    try:
        app()
    except _EXPECTED as error:
        print(f"bcellsim: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("bcellsim: stopped; nothing was written", file=sys.stderr)
        sys.exit(130)
