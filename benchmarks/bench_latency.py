"""How long a newcomer waits: whole processes, from start to exit, median of several.

`import bcellsim`, `bcellsim --help`, and `bcellsim simulate` of 1,000 patients over two years with
an empty folder of compiled kernels (cold) and with a filled one (cached).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import save, show, spread

COMMAND = (sys.executable, "-c", "from bcellsim.cli import main; main()")

SIMULATE = (
    *COMMAND, "simulate", "yu2022_ofatumumab", "--regimen", "ofatumumab_rms", "--subjects", "1000",
    "--until", "2y",
)  # fmt: skip

#: Seconds: at least, and aimed at (the design of the engine, section 4).
BARS = {"simulate, cached": (2.5, 1.6)}


def seconds(command, folder) -> float:
    """Run a command with that folder for compiled kernels and return how long it took."""
    begun = time.perf_counter()
    done = subprocess.run(
        command,
        env={**os.environ, "BCELLSIM_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    lasted = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
    return lasted


def cold(command, repeats) -> list[float]:
    """Return the seconds of each run, every one with an empty folder."""
    found = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            found.append(seconds(command, Path(folder)))
    return found


def main(repeats: int = 7, cold_repeats: int = 3) -> None:
    """Run the benchmark and write ``results/latency.json``."""
    with tempfile.TemporaryDirectory() as folder:
        warm = {
            "python -c pass": (sys.executable, "-c", "pass"),
            "import bcellsim": (sys.executable, "-c", "import bcellsim"),
            "bcellsim --help": (*COMMAND, "--help"),
            "simulate, cached": SIMULATE,
        }
        for command in warm.values():
            seconds(command, folder)
        times = {name: [] for name in warm}
        for _ in range(repeats):
            for name, command in warm.items():
                times[name].append(seconds(command, folder))
    times["simulate, cold"] = cold(SIMULATE, cold_repeats)
    rows = []
    for name, values in times.items():
        at_most, aim = BARS.get(name, (None, None))
        found = {f"{key}_s": value for key, value in spread(values).items()}
        rows.append({"what": name, **found, "runs": len(values), "bar_s": at_most, "aim_s": aim})
    show(rows)
    save("latency", {"command": f"bcellsim {' '.join(SIMULATE[3:])}", "rows": rows})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    main(parser.parse_args().repeats)
