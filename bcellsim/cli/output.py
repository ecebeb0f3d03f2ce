"""Writing an output directory: whole or not at all, and never over somebody's files."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

#: Version of the layout of `run.json`.
SCHEMA = 1
_PACKAGES = ("bcellsim", "numpy", "scipy", "numba", "xarray", "pandas", "lmfit")


class OutputDirectory:
    """A directory that appears under its name when everything in it is written.

    Parameters
    ----------
    path : Path
        Its name.
    overwrite : bool
        Replace a directory that an earlier run wrote (it holds a ``run.json``).
    inputs : iterable of path
        What the run reads; it is not overwritten.

    Raises
    ------
    FileExistsError
        If it exists, and is not to be or must not be overwritten.
    NotADirectoryError
        If what is to hold it is a file.
    """

    def __init__(self, path: Path, *, overwrite: bool, inputs: Iterable[str | Path] = ()):
        self.path, self.begun, self.files = Path(path), time.monotonic(), []
        # The files are written beside the directories to be made: a failed run makes none.
        above = (folder for folder in self.path.absolute().parents if folder.exists())
        self.home = next(above, self.path)
        self._check(overwrite, inputs)

    def _check(self, overwrite, inputs):
        if not self.home.is_dir():
            raise NotADirectoryError(f"output directory {self.path}: {self.home} is a file")
        if not self.path.exists():
            return
        if not overwrite:
            raise FileExistsError(
                f"output directory {self.path} exists; give another --out, or --overwrite"
            )
        if not (self.path / "run.json").is_file():
            raise FileExistsError(
                f"{self.path} was not written by bcellsim (it has no run.json): not overwritten"
            )
        for name in inputs:
            if Path(name).resolve().is_relative_to(self.path.resolve()):
                raise FileExistsError(f"{self.path} holds the input {name}: not overwritten")

    def __enter__(self) -> OutputDirectory:
        self.folder = Path(tempfile.mkdtemp(prefix=f".{self.path.name}-", dir=self.home))
        self.folder.chmod(0o755)
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        if self.path.exists():
            old = self.folder.with_name(self.folder.name + "-old")
            os.rename(self.path, old)
            os.rename(self.folder, self.path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.folder, self.path)

    def file(self, name: str) -> Path:
        """Return where to write a file, and list it in `run.json`."""
        self.files.append(name)
        return self.folder / name

    def table(self, name: str, table, **options) -> None:
        """Write a table as CSV."""
        table.to_csv(self.file(f"{name}.csv"), float_format="%.10g", **options)

    def figure(self, name: str, figure) -> None:
        """Write a figure as PNG and SVG, and close it."""
        from bcellsim import plot

        plot.save(figure, self.file(f"{name}.png"), self.file(f"{name}.svg"))

    def record(self, command: str, settings: dict, facts: dict, inputs: Iterable[str | Path]):
        """Write `run.json`: all that is needed to repeat the run."""
        run = {
            "schema": SCHEMA,
            "command": command,
            "settings": settings,
            **facts,
            **reproduction(inputs),
            "files": sorted(self.files),
            "seconds": round(time.monotonic() - self.begun, 3),
        }
        text = json.dumps(run, indent=2, default=str) + "\n"
        (self.folder / "run.json").write_text(text, encoding="utf-8")


def reproduction(inputs: Iterable[str | Path]) -> dict[str, dict[str, str]]:
    """Return the hashes of what a run read, and the versions that it ran with."""
    return {
        "inputs": {str(path): _digest(path) for path in inputs},
        "versions": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{name: version(name) for name in _PACKAGES},
        },
    }


def _digest(path):
    return "sha256:" + hashlib.sha256(Path(path).read_bytes()).hexdigest()
