"""The engine beside its peers on the standard problems, in one run, with the error of each.

Sections: W1 and W2 (subjects per second at equal achieved error, one core each, in alternating
calls, so that the noise of a shared machine cancels in the ratios), curves (speed against error,
for the figure), tolerance (achieved error by requested tolerance, with a hard corner), threads,
sizes, metrics, yu (1,000 patients of Yu 2022). `--scan` finds the tolerances of the peers anew.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import harness
import numpy as np
import ours
from compare import N_ERROR, at_equal_error, curves, long_enough, scan, solve_ours
from harness import clock, relative_error, scaled_error, show, spread
from plot_engine import draw
from work import HARD, W1, W2

#: What the engine is to reach: at least, and aimed at; where the aim is smaller, less is better.
BARS = {
    "W1 1e-04 against numbalsoda (LSODA)": (13.0, 30.0),
    "W1 1e-06 against numbalsoda (LSODA)": (12.0, 25.0),
    "W1 1e-04 against prototype": (0.9, 1.5),
    "W1 1e-06 against prototype": (0.9, 1.5),
    "W2 5e-07 against numbalsoda (LSODA)": (40.0, 200.0),
    "two threads against one": (1.8, 1.95),
    "metrics only against daily output": (1.1, 1.1),
    "largest error / rtol": (30.0, 10.0),
    "MB for 1,000,000 subject-scenarios, metrics only": (700.0, 200.0),
}


def tolerance(run) -> list[dict]:
    """Return the achieved error, scaled by max(B_ref, 1e-3 b0), for requested tolerances."""
    rows = []
    for problem, most in ((W1, N_ERROR), (W2, N_ERROR), (HARD, 320)):
        n = 32 if run.quick else most
        reference, params = problem.reference(n), problem.sample(n)
        for rtol in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
            found = solve_ours(problem, params, rtol)
            error = float(np.max(scaled_error(found, reference, reference[:, 0])))
            rows.append(
                {
                    "problem": problem.name,
                    "rtol": rtol,
                    "error_scaled": error,
                    "error_by_rtol": error / rtol,
                    "error": relative_error(found, reference),
                    "error_subjects": n,
                }
            )
            run.largest("largest error / rtol", error / rtol)
    return rows


def threads(run) -> list[dict]:
    """Return the speed on two threads against one."""
    one, n = long_enough(W1, 1e-6, seconds=0.5)
    params = W1.sample(n)
    two = partial(ours.counts, W1, params, 1e-6, threads=2)
    two()
    alone, pairs = harness.alternate(one, {"two": two}, run.rounds)
    ratio = spread([a.wall / b.wall for b, a in pairs["two"]])
    run.measured["two threads against one"] = ratio["median"]
    equal = np.array_equal(alone[-1].result, pairs["two"][-1][0].result)
    return [
        {
            "problem": "W1",
            "rtol": 1e-6,
            "subjects": n,
            "one_thread_per_s": n / statistics.median(a.wall for a in alone),
            "two_threads_per_s": n / statistics.median(b.wall for b, _ in pairs["two"]),
            "ratio": ratio["median"],
            "ratio_min": ratio["min"],
            "ratio_max": ratio["max"],
            "cores_of_two": statistics.median(b.cpu / b.wall for b, _ in pairs["two"]),
            "bitwise_equal": bool(equal),
        }
    ]


def sizes(run, longest=150.0) -> list[dict]:
    """Return speed and memory by number of subjects: fresh processes, three outputs a subject."""
    rows = []
    for n in (100, 1000, 10_000) if run.quick else (100, 1000, 10_000, 100_000, 1_000_000):
        if rows and (expected := n / rows[-1]["subjects_per_s"]) > longest:
            run.note(f"sizes: {n:,} subjects left out (about {expected:.0f} s)")
            break
        rows.append(harness.in_fresh_process(_solve_many, n))
    return rows


def _solve_many(n, chunk=100_000):
    params, times = W1.sample(n), np.array([0.0, 364.0, 728.0])
    ours.counts(W1, params[:2], 1e-6, times=times)
    ours.counts(W1, params[:64], 1e-6, threads=2, times=times)
    before = _memory_now()
    timing = clock(
        lambda: [
            ours.counts(W1, params[i : i + chunk], 1e-6, threads=2, times=times)
            for i in range(0, n, chunk)
        ]
    )
    return {
        "problem": "W1",
        "rtol": 1e-6,
        "threads": 2,
        "subjects": n,
        "wall_s": timing.wall,
        "subjects_per_s": n / timing.wall,
        "added_mb": harness.memory_mb(peak=True) - before,
        "nan": int(sum(np.isnan(part).sum() for part in timing.result)),
    }


def _memory_now():
    harness.forget_peak_memory()
    return harness.memory_mb()


def metrics(run) -> list[dict]:
    """Return what metrics inside the loop cost against daily output, and their memory."""
    try:
        ours.metrics(W1, W1.sample(64), 1e-6)
    except NotImplementedError as error:
        run.note(f"metrics skipped: {error}")
        return []
    daily, n = long_enough(W1, 1e-6)
    _, pairs = harness.alternate(
        daily, {"metrics": partial(ours.metrics, W1, W1.sample(n), 1e-6)}, run.rounds
    )
    ratio = spread([a.wall / b.wall for b, a in pairs["metrics"]])
    run.measured["metrics only against daily output"] = ratio["median"]
    many = 100_000 if run.quick else 1_000_000
    added = harness.in_fresh_process(_metrics_of_many, many)
    if many == 1_000_000:
        run.measured["MB for 1,000,000 subject-scenarios, metrics only"] = added
    return [{"subjects": n, **ratio, "many": many, "added_mb": added}]


def _metrics_of_many(n):
    params = W1.sample(n)
    ours.metrics(W1, params[:64], 1e-6, threads=2)
    before = _memory_now()
    ours.metrics(W1, params, 1e-6, threads=2)
    return harness.memory_mb(peak=True) - before


def yu(run, n_subjects=1000, n_reference=50, n_scipy=20) -> list[dict]:
    """Return speed and error for 1,000 patients of Yu 2022 on the label, daily for two years."""
    solve, b0 = _yu_solver(n_subjects)
    exact = solve(n_reference, backend="reference")
    rows = []
    for name, n, options in (
        ("bcellsim, one thread", n_subjects, {"threads": 1}),
        ("bcellsim, two threads", n_subjects, {"threads": 2}),
        ("scipy LSODA, one thread", n_scipy, {"atol": 1e-8, "backend": "reference"}),
    ):
        repeats = 1 if n < n_subjects or run.quick else 5
        timing = harness.timed(partial(solve, n, rtol=1e-6, **options), repeats)
        found, m = timing.pop("result"), min(n, n_reference)
        error = scaled_error(found[:m], exact[:m], b0[:m])
        rows.append(
            {
                "method": name,
                "rtol": 1e-6,
                "subjects": n,
                **timing,
                "subjects_per_s": n / timing["median_s"],
                "error_scaled": float(error.max()),
                "error_median": float(np.median(error)),
                "error_subjects": m,
            }
        )
    for row in rows:
        row["ratio_to_scipy"] = row["subjects_per_s"] / rows[-1]["subjects_per_s"]
    run.largest("largest error / rtol", rows[0]["error_scaled"] / 1e-6)
    return rows


def _yu_solver(n_subjects):
    """Return a function of (n, options) that gives the counts of the first n, and baselines."""
    import bcellsim as bc
    from bcellsim.engine import solve
    from bcellsim.schedule import compile_events

    people = bc.sample_population("yu2022_ofatumumab", n_subjects, seed=1)
    structure, times = people.model.structure, np.arange(0.0, 731.0)
    events = compile_events(people.model, bc.load_regimen("ofatumumab_rms"), people, until=730.5)
    count = structure.outputs.index("bcell")

    def part(n, **options):
        first = type(events)(**{**vars(events), "schedule": events.schedule[:n]})
        return solve(structure, people.parameters[:n], first, times, **options).values[..., count]

    return part, people.parameters[:, structure.parameters.index("b0")]


SECTIONS = {
    "W1": partial(at_equal_error, W1),
    "W2": partial(at_equal_error, W2),
    "curves": curves,
    "tolerance": tolerance,
    "threads": threads,
    "sizes": sizes,
    "metrics": metrics,
    "yu": yu,
}


class Run:
    """What one run of the benchmark found so far."""

    def __init__(self, quick):
        self.quick, self.rounds = quick, 2 if quick else 9
        self.notes, self.measured = [], {}

    def note(self, text):
        """Print a note and keep it for the file."""
        if text not in self.notes:
            print(f"note: {text}", flush=True)
            self.notes.append(text)

    def largest(self, bar, value):
        """Keep the largest value for a bar."""
        self.measured[bar] = max(value, self.measured.get(bar, value))


def judge(measured) -> list[dict]:
    """Return measured ratios beside the bars; what was not measured has no row."""
    rows = []
    for name, value in measured.items():
        at_least, aim = BARS.get(name, (None, None))
        less = at_least is not None and aim < at_least
        met = at_least is None or (value <= at_least if less else value >= at_least)
        reached = at_least is not None and (value <= aim if less else value >= aim)
        verdict = "" if at_least is None else "aim" if reached else "bar" if met else "MISSED"
        rows.append(
            {"what": name, "measured": value, "bar": at_least, "aim": aim, "reached": verdict}
        )
    return rows


def main() -> None:
    """Run the sections asked for and write their results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two rounds, few subjects, no curves")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="these sections only")
    parser.add_argument("--scan", action="store_true", help="find the tolerances of the peers")
    options = parser.parse_args()
    if options.scan:
        scan()
        return
    run, sections = Run(options.quick), {}
    for name in options.only or SECTIONS:
        if options.quick and name == "curves" and not options.only:
            continue
        function = getattr(SECTIONS[name], "func", SECTIONS[name])
        print(f"\n{name}: {function.__doc__}")
        sections[name] = SECTIONS[name](run)
        show(sections[name])
    bars = judge(run.measured)
    print("\nbars")
    show(bars)
    whole = not (options.quick or options.only)
    content = {"sections": sections, "bars": bars, "notes": run.notes}
    path = harness.save("engine" if whole else "engine-part", content)
    if sections.get("curves"):
        draw(sections["curves"], path.with_suffix(".png"))
    print(f"\nwritten: {path.parent.name}/{path.name}")


if __name__ == "__main__":
    main()
