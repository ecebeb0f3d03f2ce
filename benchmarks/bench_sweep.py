"""A million subject-scenarios in chunks: time, memory, disk, and the cost beside the engine."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from harness import (
    RESULTS,
    clock,
    forget_peak_memory,
    in_fresh_process,
    memory_mb,
    save,
    show,
    spread,
)

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

#: Scenarios of a chunk.
CHUNK = 50_000
COMMON = f"""
model = "{MODEL}"
seed = 1
until = "2 y"
induction = "28 d"
thresholds = 10
chunk = {CHUNK}
[schedule]
loading = "{LOADING}"
"""
#: The same hundred points for ever more patients, and ever more points for the same ten patients.
DESIGNS = {
    "50 schedules, more patients": COMMON + f"""
[population]
n = {{hundreds}}
[factors.dose]
values = {DOSES}
[factors.interval]
values = {INTERVALS}
[factors.emax]
values = {list(FACTORS)}
how = "multiply"
""",
    "sampled schedules, 10 patients": 'sampling = "sobol"\npoints = {tens}' + COMMON + f"""
[population]
n = 10
[factors.dose]
low = "{DOSES[0]}"
high = "{DOSES[-1]}"
[factors.interval]
low = "{INTERVALS[0]}"
high = "{INTERVALS[-1]}"
[factors.emax]
low = {FACTORS[0]}
high = {FACTORS[-1]}
how = "multiply"
""",
}  # fmt: skip
CROSSED = "50 schedules, more patients"
#: The smallest sweep of a design, of which the cost is taken as fixed; and repeats of small ones.
SMALLEST, REPEATS = 100, {100: 5, 1_000: 5, 10_000: 3}


def designed(folder: Path, name: str, n_scenarios: int) -> Path:
    """Write the design of so many scenarios."""
    text = DESIGNS[name].format(hundreds=n_scenarios // 100, tens=n_scenarios // 10)
    path = folder / "design.toml"
    path.write_text(text, encoding="utf-8")
    return path


def swept(name: str, n_scenarios: int, threads: int) -> dict:
    """Run a sweep, compiled before; return seconds, memory and disk."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bc.sweep(designed(folder, name, 100), out=folder / "warm-up", threads=threads)
        path, timings = designed(folder, name, n_scenarios), []
        idle = memory_mb()
        forget_peak_memory()
        for i in range(REPEATS.get(n_scenarios, 1)):
            out = folder / f"out-{i}"
            timings.append(clock(lambda out=out: bc.sweep(path, out=out, threads=threads)))
        timing = sorted(timings, key=lambda one: one.wall)[len(timings) // 2]
        facts = timing.result.manifest
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        return {
            "scenarios": n_scenarios, "chunk": CHUNK, "threads": threads, "seconds": timing.wall,
            "us_each": 1e6 * timing.wall / n_scenarios, "per_second": n_scenarios / timing.wall,
            "cores": timing.cpu / timing.wall, "idle_mb": idle,
            "added_mb": memory_mb(peak=True) - idle, "bar_mb": MEGABYTES, "disk_mb": size / 1e6,
            "rows": facts["rows"], "failed": facts["failed"], "complete": facts["complete"],
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


def costs(name: str, n_scenarios: int, threads: int, known: dict) -> list[dict]:
    """Return a row a size: the cost of a scenario, whole and beyond that of the smallest sweep."""
    sizes = [n for n in (SMALLEST, 1_000, 10_000, 100_000) if n < n_scenarios]
    rows = [in_fresh_process(swept, name, n, threads) for n in sizes]
    rows.append(known or in_fresh_process(swept, name, n_scenarios, threads))
    first, rest = rows[0], []
    for row in rows[1:]:
        beyond = 1e6 * (row["seconds"] - first["seconds"]) / (row["scenarios"] - SMALLEST)
        rest.append({"fixed_s": first["seconds"], "us_beyond": beyond, **row})
    show(rest)
    return rest


def draw(cost: dict[str, list[dict]], engine: float) -> None:
    """Draw the cost of a scenario over their number, with what is fixed and without."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    colours = ("#0072B2", "#D55E00")
    for (name, rows), colour, marker in zip(cost.items(), colours, "os", strict=True):
        n, fixed = [row["scenarios"] for row in rows], rows[0]["fixed_s"]
        axis.plot(n, [row["us_each"] for row in rows], marker + "-", color=colour, label=name)
        beyond = [row["us_beyond"] for row in rows]
        axis.plot(n, beyond, marker + "--", color=colour, mfc="white",
                  label=f"  beyond {1e3 * fixed:.0f} ms for {SMALLEST} scenarios")  # fmt: skip
    axis.axhline(engine, color="0.4", lw=1, ls=":", label="the engine in memory")
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("Subject-scenarios (two years, all metrics)")
    axis.set_ylabel("Time of one [µs]")
    threads = next(iter(cost.values()))[0]["threads"]
    axis.set_title(f"Cost of a scenario on {threads} threads", fontsize="medium")
    axis.legend(fontsize="small")
    figure.savefig(RESULTS / "sweep.png", dpi=150)
    plt.close(figure)


def main(n_scenarios: int = 1_000_000, rounds: int = 2, threads: int = 2) -> None:
    """Run the benchmark; write ``results/sweep.json`` and ``results/sweep.png``."""
    pairs = []
    for _ in range(rounds):
        alone = in_fresh_process(in_memory, n_scenarios, threads)
        whole = in_fresh_process(swept, CROSSED, n_scenarios, threads)
        pairs.append((alone, whole))
        show([alone])
        show([whole])
    ratio = {**spread([whole["per_second"] / alone["per_second"] for alone, whole in pairs]),
             "bar": RATIO}  # fmt: skip
    show([ratio])
    known = {CROSSED: sorted((w for _, w in pairs), key=lambda row: row["seconds"])[rounds // 2]}
    cost = {name: costs(name, n_scenarios, threads, known.get(name)) for name in DESIGNS}
    RESULTS.mkdir(exist_ok=True)
    draw(cost, float(np.median([alone["us_each"] for alone, _ in pairs])))
    save("sweep", {"ratio": ratio, "engine": [a for a, _ in pairs],
                   "sweep": [w for _, w in pairs], "cost": cost})  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    main(given.scenarios, given.rounds, given.threads)
