"""One harness for the benchmarks: medians over repeats, error beside every time, JSON out."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"


def timed(function, repeats: int = 5) -> dict:
    """Call a function once unmeasured, then `repeats` times; return seconds and its last result."""
    begun = time.perf_counter()
    result = function()
    warm_up = time.perf_counter() - begun
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - begun)
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "warm_up_s": warm_up,
        "result": result,
    }


def scaled_error(counts: np.ndarray, reference: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Return each subject's largest |B - B_ref| / max(|B_ref|, 1e-3 b0)."""
    scale = np.maximum(np.abs(reference), 1e-3 * baseline[:, None])
    return np.max(np.abs(counts - reference) / scale, axis=1)


def environment() -> dict:
    """Return machine, versions and commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parent,
    ).stdout.strip()  # fmt: skip
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("bcellsim", "numpy", "scipy", "numba")},
        "commit": commit,
    }


def _processor():
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = info.read_text(encoding="utf-8").splitlines()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def save(name: str, rows: list[dict]) -> None:
    """Print the rows and write them with the environment to ``results/<name>.json``."""
    for row in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                        for k, v in row.items()))  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"environment": environment(), "rows": rows}, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
