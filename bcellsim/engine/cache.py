"""Compiled kernels: made once, kept on disk, loaded when needed.

numba caches only code that stands in a file, and does not see a change in a file that the cached
one imports: so a whole kernel is one file, named by the hash of its text.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bcellsim.engine.lower_closed import ClosedSource
from bcellsim.engine.lower_split import source_of
from bcellsim.structures import Structure


def cache_directory() -> Path:
    """Return the folder of compiled kernels (`BCELLSIM_CACHE_DIR`, else the user's cache)."""
    import platformdirs

    given = os.environ.get("BCELLSIM_CACHE_DIR")
    folder = Path(given) if given else Path(platformdirs.user_cache_dir("bcellsim"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"bcellsim-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder


def _write_once(path: Path, text: str) -> None:
    # numba keys its cache by the file's time stamp: an existing file is left alone, and of two
    # processes that write at once the first wins.
    if path.exists():
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    try:
        os.link(file.name, path)
    except FileExistsError:
        pass
    except OSError:
        os.replace(file.name, path)
        return
    os.unlink(file.name)


class Kernel(NamedTuple):
    """A compiled kernel, and the states whose continuous solution each output needs.

    `needs` at a time, `follows` for tallies.
    """

    solve_block: Callable
    needs: list[set[int]]
    follows: list[set[int]]


@cache
def compiled_kernel(structure: Structure) -> Kernel:
    """Return the kernel that integrates all states, compiled or loaded from the cache."""
    return _made(source_of(structure), structure.name)


@cache
def closed_form_kernel(structure: Structure) -> Kernel:
    """Return the kernel for linear drug states in closed form; raise ValueError if they are not."""
    return _made(ClosedSource(structure), f"{structure.name}_closed")


def _made(source, name):
    import numba

    text, equations = source.text(), source.equations
    digest = hashlib.sha256(f"{numba.__version__}\n{text}".encode()).hexdigest()[:16]
    path = cache_directory() / f"{name}_{digest}.py"
    _write_once(path, text)
    if not any(path.parent.glob(f"__pycache__/{path.stem}.solve_block-*.nbi")):
        print(
            f'bcellsim: compiling structure "{source.equations.structure.name}" (once, about 20 s)',
            file=sys.stderr,
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # numba's cache imports the module by this name
    spec.loader.exec_module(module)
    needs = [equations.needs(o) for o in range(equations.m)]
    follows = [set() if source.combination(node) else states
               for node, states in zip(equations.outputs, needs, strict=True)]  # fmt: skip
    return Kernel(module.solve_block, needs, follows)
