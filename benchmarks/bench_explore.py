"""The explorer on two years of 60 schedules, a dosing rule, and what pairing is worth."""

from __future__ import annotations

import argparse

import numpy as np
from harness import (
    alternate,
    forget_peak_memory,
    in_fresh_process,
    memory_mb,
    save,
    show,
    spread,
    timed,
)

import bcellsim as bc

MODEL = "yu2022_ofatumumab"
LOADING = "20 mg sc at 0 d, 7 d, 14 d"
DOSES = [f"{mg} mg sc" for mg in (5, 10, 15, 20, 30, 60)]
INTERVALS = [f"{weeks} w" for weeks in (4, 5, 6, 7, 8, 10, 12, 16, 20, 24)]
#: The issue's bars: seconds and MB for the grid, and times the cost of the fixed schedule.
SECONDS, MEGABYTES, TIMES, NARROWER = 30.0, 1000.0, 3.0, 3.0


def grid_once(n_subjects: int, grids: int) -> dict:
    """Compare the grid once, compiled before; return seconds and memory added by it."""
    people = bc.sample_population(MODEL, n_subjects, seed=1)
    plans = bc.grid(dose=DOSES[:grids], every=INTERVALS, loading=LOADING)
    options = {"below": 10, "until": "2 y"}
    bc.explore(MODEL, plans[:1], people, **options)
    before = memory_mb()
    forget_peak_memory()
    measured = timed(lambda: bc.explore(MODEL, plans, people, **options), repeats=1)
    peak = memory_mb(peak=True)
    table = measured.pop("result")
    return {
        "what": f"{n_subjects} x {len(plans)} schedules x 2 y, all metrics",
        "seconds": min(measured["median_s"], measured["warm_up_s"]), "cores": measured["cores"],
        "bar_s": SECONDS, "peak_mb": peak, "added_mb": peak - before, "bar_mb": MEGABYTES,
        "rows": len(table),
    }  # fmt: skip


def rule_against_fixed(n_subjects: int, rounds: int) -> dict:
    """Time a rule and the fixed schedule on its visit grid in turns, over three years."""
    people = bc.sample_population(MODEL, n_subjects, seed=1)
    options = {"below": 10, "until": "3 y"}
    guided = bc.DosingRule(
        visit_every="4 w", dose="20 mg sc", at_or_above=10, lloq=1, loading=LOADING
    )
    (fixed,) = bc.grid(dose="20 mg sc", every="4 w", loading=LOADING)
    for plan in (guided, fixed):
        bc.explore(MODEL, plan, people, **options)
    _, pairs = alternate(
        lambda: bc.explore(MODEL, fixed, people, **options),
        {"rule": lambda: bc.explore(MODEL, guided, people, **options)},
        rounds,
    )
    ratios = [rule.wall / alone.wall for rule, alone in pairs["rule"]]
    found = {f"times_{key}": value for key, value in spread(ratios).items()}
    seconds = {
        "rule_s": float(np.median([rule.wall for rule, _ in pairs["rule"]])),
        "fixed_s": float(np.median([alone.wall for _, alone in pairs["rule"]])),
    }
    what = f"rule, {n_subjects} patients x 3 y, 4-weekly visits, against the fixed schedule"
    return {"what": what, **seconds, **found, "bar": TIMES}


def paired_against_separate(n_subjects: int) -> list[dict]:
    """Return how much narrower the interval of a difference is on common subjects.

    The gain is 1 / sqrt(1 - r) by the correlation r of the outcomes, so that schedules near each
    other gain much and those far apart little.
    """
    plans = bc.grid(dose="20 mg sc", every=["4 w", "5 w", "6 w", "8 w"], loading=LOADING)
    plans += bc.grid(dose=["30 mg sc", "60 mg sc"], every="4 w", loading=LOADING)
    options = {"below": 10, "until": "1 y", "reference": plans[0]}
    people, others = (bc.sample_population(MODEL, n_subjects, seed=seed) for seed in (1, 2))
    paired = bc.explore(MODEL, plans, people, **options)
    apart = bc.explore(MODEL, plans, others, **options)
    rows = []
    for i in range(1, len(plans)):
        for name in ("suppressed_throughout", "suppressed_fraction", "days_above", "auc"):
            ends = [paired[f"{name}_difference_{end}"][i] for end in ("low", "high")]
            errors = paired[f"{name}_mc_se"][0], apart[f"{name}_mc_se"][i]
            rows.append(
                {
                    "difference": f"{plans[i].name} - {plans[0].name}", "metric": name,
                    "narrower": float(2 * 1.96 * np.hypot(*errors) / (ends[1] - ends[0])),
                    "bar": NARROWER,
                }
            )  # fmt: skip
    return rows


def main(n_subjects: int = 2000, grids: int = len(DOSES), rounds: int = 5) -> None:
    """Run the benchmark and write ``results/explore.json``."""
    whole = in_fresh_process(grid_once, n_subjects, grids)
    show([whole])
    rule = rule_against_fixed(n_subjects, rounds)
    show([rule])
    pairing = paired_against_separate(n_subjects)
    show(pairing)
    save("explore", {"grid": whole, "rule": rule, "pairing": pairing})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=2000)
    parser.add_argument("--grids", type=int, default=len(DOSES), help="doses of the grid")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    main(given.subjects, given.grids, given.rounds)
