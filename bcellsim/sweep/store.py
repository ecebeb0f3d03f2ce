"""The directory of a sweep: chunks that appear whole or not at all, and one manifest."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from bcellsim.sweep.design import Design

#: Version of the layout of a directory.
LAYOUT = 1
MANIFEST, METRICS, COURSES = "manifest.json", "metrics", "trajectories.zarr"
_PACKAGES = ("numpy", "scipy", "numba", "pandas", "pyarrow")
#: The manifest is written at most so often [s]; what it misses is found by the files.
_SELDOM = 2.0


@cache
def versions() -> dict[str, str]:
    """Return versions of the package, with a hash of its files, and of what results depend on."""
    found = {}
    for name in ("bcellsim", *_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    folder, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(p for kind in ("*.py", "*.toml") for p in folder.rglob(kind)):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    found["bcellsim"] += f"+{digest.hexdigest()[:12]}"
    return found


def encoded(table, facts: dict) -> bytes:
    """Return a table as the bytes of a Parquet file, the same for the same table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [column.name for column in table.schema if column.type == pa.string()]
    kept = {**(table.schema.metadata or {}), b"bcellsim": json.dumps(facts).encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(kept), sink, compression="zstd", use_dictionary=texts
    )
    return sink.getvalue().to_pybytes()


def digest_of(courses: dict[str, np.ndarray]) -> str:
    """Return a hash of trajectories; none of no trajectories."""
    if not courses:
        return ""
    digest = hashlib.sha256()
    for name in sorted(courses):
        digest.update(name.encode() + np.ascontiguousarray(courses[name]).tobytes())
    return digest.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name, and rename it when it is whole and on the disk."""
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@dataclass(eq=False)
class Store:
    """A directory that a sweep is written to.

    Parameters
    ----------
    folder : Path
        The directory.
    design : Design
        The design.
    chunks : dict of int to dict
        What the manifest says of each chunk that is there: rows, bytes, sha256, failed.
    """

    folder: Path
    design: Design
    chunks: dict[int, dict] = field(default_factory=dict)
    written: float = 0.0

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path, design: Design) -> Iterator[Store]:
        """Begin a directory, or go on with one, alone.

        Raises
        ------
        ValueError
            If it is the sweep of another design or version; the message says what differs.
        OSError
            If it cannot be written, or another sweep is writing it.
        """
        folder = Path(folder)
        try:
            if folder.is_dir() and not (folder / MANIFEST).exists() and _foreign(folder):
                raise FileExistsError(f"{folder} holds other files: give an empty or new directory")
            (folder / METRICS).mkdir(parents=True, exist_ok=True)
            with _alone(folder):
                store = cls(folder, design)
                store._go_on()
                yield store
        except OSError as error:
            raise _said(error, folder) from None

    def _go_on(self):
        path = self.folder / MANIFEST
        if path.exists():
            kept = read_manifest(self.folder)
            _require_same(self.folder, kept, self.manifest())
            self.chunks = {int(k): entry for k, entry in kept["chunks"].items()}
        for k in range(self.design.n_chunks):
            if not self._there(k):
                self.chunks.pop(k, None)
        self.save()  # first, so that a sweep killed from here on is known as this one
        names = ("time", *self.design.outputs)
        arrays = [self.folder / COURSES / name / "zarr.json" for name in names]
        if len(self.design.times) and not all(path.exists() for path in arrays):
            self._begin_courses()

    def _there(self, k):
        """Return whether a chunk is there whole; one that the manifest misses is added to it."""
        path = chunk_path(self.folder, k)
        if not path.exists():
            return False
        if k not in self.chunks:
            try:
                import pyarrow as pa
                import pyarrow.parquet as pq

                content = path.read_bytes()
                facts = json.loads(pq.read_schema(pa.BufferReader(content)).metadata[b"bcellsim"])
            except (ValueError, KeyError, TypeError, OSError):
                return False
            if facts["design"] != self.design.digest or facts["versions"] != versions():
                return False
            self.chunks[k] = entry_of(content, facts)
        return not wrong_with(self.folder, k, self.chunks[k], self.design.scenarios(k))

    def missing(self) -> list[int]:
        """Return the numbers of the chunks that are not there."""
        return [k for k in range(self.design.n_chunks) if k not in self.chunks]

    def add(self, k: int, content: bytes, facts: dict, courses: dict[str, np.ndarray]) -> None:
        """Write a chunk; the trajectories first, so that with its rows it is whole."""
        if courses:
            self._write_courses(k, courses)
        path = chunk_path(self.folder, k)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, content)
        self.chunks[k] = entry_of(content, facts)
        if time.monotonic() - self.written > _SELDOM:
            self.save()

    def manifest(self) -> dict:
        """Return what the manifest says."""
        design = self.design
        return {
            "layout": LAYOUT,
            "design_hash": design.digest,
            "design": design.spec,
            "versions": versions(),
            "seed": design.spec["seed"],
            "n_scenarios": design.n_scenarios,
            "n_subjects": design.n_subjects,
            "n_chunks": design.n_chunks,
            "crossed": design.spec["sampling"] == "factorial",
            "thresholds": list(design.levels),
            "factors": design.described(),
            "chunk": design.chunk,
            "rows": sum(entry["rows"] for entry in self.chunks.values()),
            "failed": sum(entry["failed"] for entry in self.chunks.values()),
            "complete": len(self.chunks) == design.n_chunks,
            "chunks": {str(k): self.chunks[k] for k in sorted(self.chunks)},
        }

    def save(self) -> None:
        """Write the manifest."""
        text = json.dumps(self.manifest(), indent=1, allow_nan=False) + "\n"
        write_whole(self.folder / MANIFEST, text.encode())
        self.written = time.monotonic()

    def _begin_courses(self):
        import dask.array as da
        import xarray as xr

        from bcellsim.structures import OUTPUTS

        design = self.design
        n, chunk = design.n_scenarios, min(design.chunk, design.n_scenarios)
        shape = n, len(design.times)
        empty = da.full(shape, np.nan, chunks=(chunk, shape[1]))
        data = {
            name: (("scenario", "time"), empty,
                   {"unit": OUTPUTS[name].unit, "units": OUTPUTS[name].unit,
                    "long_name": OUTPUTS[name].meaning})
            for name in design.outputs
        }  # fmt: skip
        about = {"unit": "day", "units": "day", "long_name": "Time since first dose"}
        dataset = xr.Dataset(data, {"time": ("time", design.times, about)})
        dataset.to_zarr(self.folder / COURSES, mode="w", compute=False, consolidated=False)

    def _write_courses(self, k, courses):
        import xarray as xr

        numbers = self.design.scenarios(k)
        data = {name: (("scenario", "time"), values) for name, values in courses.items()}
        xr.Dataset(data).to_zarr(
            self.folder / COURSES, region={"scenario": slice(numbers.start, numbers.stop)},
            mode="r+", consolidated=False,
        )  # fmt: skip


def chunk_path(folder: Path, k: int) -> Path:
    """Return the file of a chunk."""
    return Path(folder) / METRICS / f"chunk={k}" / "rows.parquet"


def wrong_with(folder: Path, k: int, entry: dict | None, numbers: range) -> str:
    """Say what is wrong with a chunk on disk, or nothing.

    Parameters
    ----------
    folder : Path
        The directory.
    k : int
        Number of the chunk.
    entry : dict or None
        What the manifest says of it.
    numbers : range
        Its scenarios.
    """
    path = chunk_path(folder, k)
    if entry is None:
        return f"{path} is not computed yet"
    if not path.is_file():
        return f"{path} is missing"
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
        return f"{path} is damaged: its checksum differs"
    if entry["trajectories"] and _digest_on_disk(folder, numbers) != entry["trajectories"]:
        where = f"{Path(folder) / COURSES}, scenarios {numbers.start} to {numbers.stop - 1},"
        return f"{where} is damaged or missing: its checksum differs"
    return ""


def _digest_on_disk(folder, numbers):
    """Return the hash of the trajectories of some scenarios as they are on disk."""
    import zarr

    try:
        group = zarr.open_group(Path(folder) / COURSES, mode="r")
        found = {name: group[name][numbers.start : numbers.stop]
                 for name in group.array_keys() if name != "time"}  # fmt: skip
    except Exception:  # a damaged file raises what its codec does
        return "unreadable"
    return digest_of(found)


def entry_of(content: bytes, facts: dict) -> dict:
    """Return what the manifest says of a chunk."""
    return {
        "rows": facts["rows"], "failed": facts["failed"], "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(), "trajectories": facts["trajectories"],
    }  # fmt: skip


def read_manifest(folder: Path) -> dict:
    """Return the manifest of a sweep; raise if there is none or it cannot be read."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no sweep: it has no {MANIFEST}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if found.get("layout") != LAYOUT:
        raise ValueError(f"{path}: layout {found.get('layout')}; this version reads {LAYOUT}")
    return found


def _require_same(folder, kept, now):
    """Raise ValueError if a sweep was begun with another design or version."""
    if kept["design_hash"] != now["design_hash"]:
        pairs = list(_different(kept["design"], now["design"], ""))
        what = "; ".join(f"{key} was {a}, is {b}" for key, a, b in pairs[:5])
        more = f"; and {len(pairs) - 5} more" if len(pairs) > 5 else ""
        raise ValueError(
            f"{folder} was begun with another design: {what}{more}; give another directory"
        )
    if kept["versions"] != now["versions"]:
        pairs = list(_different(kept["versions"], now["versions"], ""))
        what = "; ".join(f"{key} was {a}, is {b}" for key, a, b in pairs)
        raise ValueError(
            f"{folder} was begun with other versions: {what}; go on with those, or give another "
            "directory"
        )


def _different(a, b, key):
    """Yield the keys of two nested tables whose values differ, with both."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in dict.fromkeys([*a, *b]):
            inner = f"{key}.{name}" if key else name
            yield from _different(a.get(name), b.get(name), inner)
    elif json.dumps(a, sort_keys=True) != json.dumps(b, sort_keys=True):  # 10 is not 10.0 here
        yield (key, *("not there" if value is None else json.dumps(value) for value in (a, b)))


def _foreign(folder):
    own = (METRICS, ".lock", f".{MANIFEST}.writing")
    return any(path.name not in own for path in folder.iterdir())


@contextlib.contextmanager
def _alone(folder):
    """Hold the directory, so that two sweeps do not write it; a killed one lets go."""
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(f"{folder} is being written by another sweep") from None
        yield


def _said(error, folder):
    """Return the error with a sentence that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OSError(
            f"the disk of {folder} is full; free some space and give the same command: it goes on "
            "with what is missing"
        )
    if error.errno is None:  # a sentence of our own
        return error
    return type(error)(f"cannot write to {folder}: {error.strerror}")
