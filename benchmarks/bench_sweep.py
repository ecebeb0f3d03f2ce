"""A million subject-scenarios in chunks: time, memory, disk, and the cost beside the engine."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from harness import RESULTS, clock, forget_peak_memory, in_fresh_process, memory_mb, save, show

import bcellsim as bc
from bcellsim.metrics import METRICS, Question, tallies
from bcellsim.simulate import solve_regimen

MODEL = "yu2022_ofatumumab"
LOADING = "20 mg sc at 0 d, 7 d, 14 d"
DOSES = [f"{mg} mg sc" for mg in (5, 10, 20, 40, 60)]
INTERVALS = [f"{weeks} w" for weeks in (4, 5, 6, 7, 8, 10, 12, 16, 20, 24)]
FACTORS = (0.5, 2.0)
#: The issue's bars: ratio to the engine, and MB above an idle process.
RATIO, MEGABYTES = 0.8, 1000.0

DESIGN = """
model = "{model}"
seed = 1
until = "2 y"
induction = "28 d"
thresholds = 10
chunk = {chunk}
[population]
n = {n}
[schedule]
loading = "{loading}"
[factors.dose]
values = {doses}
[factors.interval]
values = {intervals}
[factors.emax]
values = {factors}
how = "multiply"
"""


def designed(folder: Path, n_scenarios: int, chunk: int) -> Path:
    """Write the design of so many scenarios; its schedules are always the same."""
    n = max(1, n_scenarios // (len(DOSES) * len(INTERVALS) * len(FACTORS)))
    path = folder / "design.toml"
    path.write_text(
        DESIGN.format(
            model=MODEL, chunk=chunk, n=n, loading=LOADING, doses=DOSES, intervals=INTERVALS,
            factors=list(FACTORS),
        ),
        encoding="utf-8",
    )  # fmt: skip
    return path


def swept(n_scenarios: int, chunk: int, threads: int) -> dict:
    """Run a sweep, compiled before; return seconds, memory and disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bc.sweep(designed(folder, 100, 50), out=folder / "warm-up", threads=threads)
        path = designed(folder, n_scenarios, chunk)
        idle = memory_mb()
        forget_peak_memory()
        timing = clock(lambda: bc.sweep(path, out=folder / "out", threads=threads))
        done = timing.result
        n = done.manifest["n_scenarios"]
        size = sum(file.stat().st_size for file in (folder / "out").rglob("*") if file.is_file())
        return {
            "scenarios": n, "chunk": chunk, "threads": threads, "seconds": timing.wall,
            "us_each": 1e6 * timing.wall / n, "per_second": n / timing.wall,
            "cores": timing.cpu / timing.wall, "idle_mb": idle,
            "added_mb": memory_mb(peak=True) - idle, "bar_mb": MEGABYTES, "disk_mb": size / 1e6,
            "failed": done.manifest["failed"],
        }  # fmt: skip


def in_memory(n_scenarios: int, threads: int) -> dict:
    """Solve the same scenarios with the engine alone, subjects in memory."""
    n = max(1, n_scenarios // (len(DOSES) * len(INTERVALS) * len(FACTORS)))
    people = bc.sample_population(MODEL, n, seed=1)
    j = people.model.structure.parameters.index("emax")
    everyone = people.part(np.tile(np.arange(n), len(FACTORS)))
    everyone.parameters[:, j] *= np.repeat(FACTORS, n)
    plans = bc.grid(dose=DOSES, every=INTERVALS, loading=LOADING)
    outputs = {metric.output for metric in METRICS.values()}
    seconds = 0.0
    for i, plan in enumerate([plans[0], *plans]):
        given = np.array([dose.time for dose in plan.doses("2 y")])
        asked = tuple(tallies(Question(10.0, 10.0, 28.0, 730.5, given), outputs))
        timing = clock(
            lambda plan=plan, asked=asked: solve_regimen(
                plan, everyone, np.empty(0), until=730.5, outputs=(), tallies=asked,
                threads=threads, backend="compiled",
            )
        )  # fmt: skip
        seconds += timing.wall if i else 0.0  # the first call warms up
    total = len(plans) * len(everyone)
    return {"scenarios": total, "threads": threads, "seconds": seconds,
            "us_each": 1e6 * seconds / total, "per_second": total / seconds}  # fmt: skip


def draw(rows: list[dict]) -> None:
    """Draw the cost of a scenario over their number."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    axis.plot([r["scenarios"] for r in rows], [r["us_each"] for r in rows], "o-", color="#0072B2")
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("Subject-scenarios (two years, all metrics)")
    axis.set_ylabel("Time of one [µs]")
    axis.set_title(f"Cost of a scenario, {rows[0]['threads']} threads", fontsize="medium")
    figure.savefig(RESULTS / "sweep.png", dpi=150)
    plt.close(figure)


def main(n_scenarios: int = 1_000_000, rounds: int = 3, threads: int = 2) -> None:
    """Run the benchmark; write ``results/sweep.json`` and ``results/sweep.png``."""
    pairs = []
    for _ in range(rounds):
        alone = in_fresh_process(in_memory, n_scenarios, threads)
        whole = in_fresh_process(swept, n_scenarios, 50_000, threads)
        pairs.append((alone, whole))
        show([alone])
        show([whole])
    ratios = [whole["per_second"] / alone["per_second"] for alone, whole in pairs]
    ratio = {"median": float(np.median(ratios)), "min": min(ratios), "max": max(ratios),
             "bar": RATIO}  # fmt: skip
    show([ratio])
    sizes = [n for n in (1_000, 10_000, 100_000) if n < n_scenarios]
    cost = [in_fresh_process(swept, n, 50_000, threads) for n in sizes]
    cost.append(sorted((whole for _, whole in pairs), key=lambda row: row["seconds"])[rounds // 2])
    show(cost)
    RESULTS.mkdir(exist_ok=True)
    draw(cost)
    save("sweep", {"ratio": ratio, "engine": [a for a, _ in pairs],
                   "sweep": [w for _, w in pairs], "cost": cost})  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    main(given.scenarios, given.rounds, given.threads)
