"""One harness for the benchmarks: medians over repeats, error beside every time, JSON out."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np

RESULTS = Path(__file__).parent / "results"

PACKAGES = ("bcellsim", "numpy", "scipy", "numba", "numbalsoda", "diffrax", "jax", "libroadrunner")


class Timing(NamedTuple):
    """One call: seconds by the clock, seconds of processor time, and what it returned."""

    wall: float
    cpu: float
    result: object


def clock(function) -> Timing:
    """Call a function once."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu, result)


def timed(function, repeats: int = 5) -> dict:
    """Call a function once unmeasured, then `repeats` times; return seconds and its last result."""
    warm_up = clock(function)
    calls = [clock(function) for _ in range(repeats)]
    seconds = [call.wall for call in calls]
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "cores": sum(call.cpu for call in calls) / sum(seconds),
        "warm_up_s": warm_up.wall,
        "result": calls[-1].result,
    }


def alternate(first, others: dict, rounds: int) -> tuple[list[Timing], dict[str, list]]:
    """Time a function in turn with each of others (A B A C A B A C ...), all warmed up before.

    Returns
    -------
    first : list of Timing
        Every call of the function.
    others : dict of str to list of (Timing, Timing)
        By name, the call of each round and the call of the function just before it. Only the last
        call of each function keeps its result.
    """
    alone, pairs = [], {name: [] for name in others}
    for _ in range(rounds):
        for name, other in others.items():
            alone = [*map(_without_result, alone), clock(first)]
            pairs[name] = [(_without_result(a), b) for a, b in pairs[name]]
            pairs[name].append((clock(other), _without_result(alone[-1])))
        if not others:
            alone = [*map(_without_result, alone), clock(first)]
    return alone, pairs


def _without_result(timing):
    return timing._replace(result=None)


def spread(values) -> dict[str, float]:
    """Return median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def relative_error(counts: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest |B - B_ref| / |B_ref| over the subjects there are; inf if one failed."""
    n = min(len(counts), len(reference))
    error = np.max(np.abs(counts[:n] - reference[:n]) / np.abs(reference[:n]))
    return float(error) if np.isfinite(error) else float("inf")


def scaled_error(counts: np.ndarray, reference: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Return each subject's largest |B - B_ref| / max(|B_ref|, 1e-3 b0)."""
    scale = np.maximum(np.abs(reference), 1e-3 * baseline[:, None])
    return np.max(np.abs(counts - reference) / scale, axis=1)


def in_fresh_process(function, *args):
    """Call a function of a module in a new process and return its result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def memory_mb(peak: bool = False) -> float:
    """Return the resident memory of this process, now or at most so far [MB]; NaN if unknown."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    key = "VmHWM:" if peak else "VmRSS:"
    lines = status.read_text(encoding="utf-8").splitlines()
    return next(int(x.split()[1]) * 1024 / 1e6 for x in lines if x.startswith(key))


def forget_peak_memory() -> None:
    """Let the largest memory so far count from now on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def environment() -> dict:
    """Return machine, versions and commit (with a + if files differ from it)."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "--short", "HEAD")
        + ("+" if _git("status", "--porcelain", "--", "../bcellsim", "*.py") else ""),
    }


def _git(*words):
    done = subprocess.run(
        ["git", *words], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip()


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor():
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = info.read_text(encoding="utf-8").splitlines()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def show(rows: list[dict]) -> None:
    """Print rows that have the same keys as a table."""
    if not rows:
        return
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        print("  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)).rstrip(), flush=True)


def _cell(value):
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def save(name: str, content: dict) -> Path:
    """Write a result with its environment to ``results/<name>.json``; return the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    text = json.dumps({"environment": environment(), **content}, indent=2) + "\n"
    path.write_text(text, encoding="utf-8")
    return path
