"""1,000 virtual patients of Yu 2022 on the ofatumumab label, two years, daily output.

Compiled backend on one and on two threads, and scipy's LSODA at the same tolerance through the
reference backend (fewer subjects), in one run; the error is against LSODA at 1e-10.
"""

from __future__ import annotations

import argparse

import numpy as np
from harness import save, scaled_error, timed

import bcellsim as bc
from bcellsim.engine import solve
from bcellsim.simulate import compile_events

RTOL = 1e-6


def main(n_subjects: int = 1000, n_reference: int = 50, n_scipy: int = 20, repeats: int = 5):
    """Run the benchmark and write ``results/engine.json``."""
    people = bc.sample_population("yu2022_ofatumumab", n_subjects, seed=1)
    regimen = bc.load_regimen("ofatumumab_rms")
    structure = people.model.structure
    times = np.arange(0.0, 731.0)
    events = compile_events(people.model, regimen, people, until=730.5)
    b0 = people.parameters[:, structure.parameters.index("b0")]
    count = structure.outputs.index("bcell")

    def run(n, **options):
        part = type(events)(**{**vars(events), "schedule": events.schedule[:n]})
        return solve(structure, people.parameters[:n], part, times, **options)

    exact = run(n_reference, backend="reference").values[..., count]
    rows = []
    for name, n, options in (
        ("tsit5, 1 thread", n_subjects, {"rtol": RTOL, "threads": 1}),
        ("tsit5, 2 threads", n_subjects, {"rtol": RTOL, "threads": 2}),
        (
            "scipy LSODA, 1 thread",
            n_scipy,
            {"rtol": RTOL, "atol": 1e-2 * RTOL, "backend": "reference"},
        ),
    ):
        timing = timed(lambda n=n, options=options: run(n, **options), repeats if n > 100 else 1)
        solution = timing.pop("result")
        m = min(n, n_reference)
        error = scaled_error(solution.values[:m, :, count], exact[:m], b0[:m])
        rows.append(
            {
                "method": name,
                "rtol": RTOL,
                "subjects": n,
                **timing,
                "subjects_per_s": n / timing["median_s"],
                "error_max": float(error.max()),
                "error_median": float(np.median(error)),
                "error_subjects": m,
                "steps_mean": float(solution.steps.mean()),
            }
        )
    for row in rows:
        row["ratio_to_scipy"] = row["subjects_per_s"] / rows[-1]["subjects_per_s"]
    save("engine", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=1000)
    main(parser.parse_args().subjects)
