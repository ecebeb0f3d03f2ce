"""Structures of one's own: a Python file is run, and the structures it defines are registered."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from bcellsim.structures import STRUCTURES, Structure, register_structure


def load_structures(path: str | Path) -> list[Structure]:
    """Run a Python file and register the structures that it defines.

    Parameters
    ----------
    path : str or Path
        The file; each `Structure` it makes becomes known by its name to model files.

    Returns
    -------
    list of Structure
        In the order of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not Python, fails, or defines no structure; with file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no structure file {path}")
    present = list(STRUCTURES.values())
    module = ModuleType("bcellsim_structures_of_" + re.sub(r"\W", "_", str(path.resolve())))
    module.__file__ = str(path)
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file (UTF-8)") from None
    # The equations are looked up in their module when they are compiled.
    sys.modules[module.__name__] = module
    _located(path, lambda: exec(compile(source, str(path), "exec"), vars(module)))
    made = [value for value in vars(module).values() if isinstance(value, Structure)]
    found = [s for s in dict.fromkeys(made) if s not in present]
    if not found:
        raise ValueError(f"{path}: it defines no Structure; see `bcellsim show kpd` for one")
    for structure in found:
        _located(path, lambda s=structure: _try_equations(s))
        _located(path, lambda s=structure: register_structure(s))
    return found


def _try_equations(structure):
    """Compute every equation once, at made-up values, so that a slip in one shows at once."""
    # A logarithm or quotient may not exist at such values; a wrong name or index shows anyway.
    with contextlib.suppress(ArithmeticError, ValueError):
        _compute(structure)


def _compute(structure):
    p = [1.0 + 0.1 * k for k in range(len(structure.parameters))]
    y, dy = [0.0] * len(structure.states), [0.0] * len(structure.states)
    structure.initial(p, y)
    y = [value + 1.0 + 0.1 * k for k, value in enumerate(y)]
    structure.rhs(1.0, y, p, [0.0] * len(y), dy)
    structure.observe(1.0, y, p, [0.0] * len(structure.outputs))
    structure.elimination(1.0, y, p)


def _located(path: Path, run: Callable) -> None:
    """Turn whatever goes wrong into a ValueError with the line of the file."""
    try:
        run()
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno or 1}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        line, trace = None, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(path):
                line = trace.tb_lineno
            trace = trace.tb_next
        where = f"{path}, line {line}" if line else f"{path}"
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{where}: {said}") from None
