"""Random cases of every structure: the error of the default tolerance, against the reference.

Each case has parameters log-uniform within three published standard deviations (`tests/cases.py`),
an irregular schedule of doses, infusions and every other kind of event, and output times of its
own, over up to a year. Its error is the largest |B - B_ref| / max(|B_ref|, 0.001 b0), in units of
the relative tolerance; where a structure has no count B, that of the drug. Ends with status 1 if
one is above 30, or unsolved without a status.

    python benchmarks/check_random.py 10000
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import cases
from harness import save, show

from bcellsim.engine import Events, solve
from bcellsim.engine.events import MARK, OCCASION, SAVE

RTOL = 1e-6
#: Largest error that is allowed, in units of `RTOL`.
ALLOWED = 30.0
#: The reference, and the tolerance that decides where it disagrees: with a low Hill exponent the
#: error of LSODA itself, at the tightest tolerance at which it does not stall, is up to 1e-5.
REFERENCE, TIGHT = cases.REFERENCE, {"rtol": 1e-11, "atol": 1e-13, "backend": "compiled"}
#: Standard deviations on each side, output times of a case, cases of one call.
SPAN, N_TIMES, CHUNK = 3.0, 40, 50
N_OCCASIONS, N_SAVED, WORST = 2, 2, 5


class Result(NamedTuple):
    """What came out for some cases of one structure, an array element a case."""

    seed: np.ndarray
    error: np.ndarray  # in units of RTOL
    against_reference: np.ndarray
    decided: np.ndarray  # by the tight solve
    status: np.ndarray
    stiff: np.ndarray
    silent: np.ndarray  # unsolved without a status
    reference_status: np.ndarray


def random_case(structure, seed):
    """Return parameters (n_occasions, n_parameters), rows, output times and end of one case."""
    rng = np.random.default_rng([seed, cases.ALL.index(structure)])
    names = structure.parameters
    own = cases.PUBLISHED_SD.get(structure.name, {})
    sd = np.array([own.get(name, cases.SD) for name in names])
    params = cases.typical(structure) * np.exp(rng.uniform(-SPAN, SPAN, len(names)) * sd)
    params = params * np.exp(0.2 * rng.standard_normal((N_OCCASIONS, len(names))))
    for name, largest in (("f_sc", 0.99), ("hill", cases.LARGEST_HILL)):
        column = cases.parameter(structure, name, params)
        if column is not None:
            column[:] = np.minimum(column, largest)
    end = rng.uniform(10.0, 365.0)
    rows = cases.random_rows(structure, rng, end)
    if rng.random() < 0.3:
        rows += [
            (rng.uniform(0.0, end), OCCASION, rng.integers(N_OCCASIONS), 0.0, -1) for _ in range(2)
        ]
    if rng.random() < 0.3:
        rows += [(rng.uniform(0.0, end), SAVE, i, 0.0, -1) for i in range(N_SAVED)]
        rows.append((rng.uniform(0.0, end), MARK, 0, 0.0, -1))
    # Some outputs at the moments of events, and soon after them.
    moments = rng.choice([row[0] for row in rows], 6)
    near = np.minimum(moments + 10.0 ** rng.uniform(-6.0, 0.0, 6), end)
    times = np.unique([*rng.uniform(0.0, end, N_TIMES), *moments[moments < end], *near])
    return params, rows, np.sort(rng.permutation(times)[:N_TIMES]), end


def run_chunk(structure, seeds) -> Result:
    """Solve the cases of some seeds and return how they came out."""
    params, rows, times, ends = zip(*(random_case(structure, s) for s in seeds), strict=True)
    params, times, ends = np.array(params), np.array(times), np.array(ends)
    events = Events.from_rows(rows, np.arange(len(seeds)))

    def solved(of=slice(None), **options):
        part = Events.from_rows(rows, np.arange(len(seeds))[of])
        return solve(structure, params[of], part, times[of], until=ends[of],
                     outputs=(cases.followed(structure),), threads=1, **options)  # fmt: skip

    solution, reference = (
        solved(rtol=RTOL, atol=RTOL / 100, backend="compiled"),
        solved(**REFERENCE),
    )
    assert events.n_saved == solution.saved.shape[1]
    b = solution.values[..., 0]
    b0 = cases.baseline(structure, params[:, 0])[1][:, cases.column(structure)]
    against = scaled(b, reference.values[..., 0], b0)
    error = np.where(reference.status == 0, against, np.inf)
    decided = (error > ALLOWED) & (solution.status == 0)
    if decided.any():
        error[decided] = scaled(b[decided], solved(decided, **TIGHT).values[..., 0], b0[decided])
    silent = (solution.status == 0) & ~np.isfinite(b).all(axis=1)
    error[solution.status != 0] = np.nan
    return Result(np.array(seeds), error, against, decided, solution.status, solution.stiff, silent,
                  reference.status)  # fmt: skip


def scaled(b, reference, b0):
    """Return each case's largest error in units of `RTOL`; infinite where a value is missing.

    Of a drug, where there is no count, its largest value takes the place of the baseline.
    """
    largest = np.where(b0 > 0, b0, np.nanmax(np.abs(reference), axis=1) + 1e-300)
    error = np.abs(b - reference) / np.maximum(np.abs(reference), 1e-3 * largest[:, None])
    return np.where(np.isnan(error), np.inf, error).max(axis=1) / RTOL


def _named_chunk(name, seeds):
    structure = next(s for s in cases.ALL if s.name == name)
    return run_chunk(structure, seeds)


def check(n: int, seed: int = 0, processes: int | None = None) -> dict[str, Result]:
    """Run n random cases, shared out over all structures; return the results by structure."""
    per_structure = -(-n // len(cases.ALL))
    seeds = np.arange(seed, seed + per_structure)
    jobs = [(structure.name, seeds[i : i + CHUNK].tolist())
            for structure in cases.ALL for i in range(0, per_structure, CHUNK)]  # fmt: skip
    processes = processes or len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(_named_chunk, *zip(*jobs, strict=True)))
    found = {structure.name: [] for structure in cases.ALL}
    for (name, _), part in zip(jobs, parts, strict=True):
        found[name].append(part)
    return {
        name: Result(*map(np.concatenate, zip(*parts, strict=True)))
        for name, parts in found.items()
    }


def summary(name: str, result: Result) -> dict:
    """Return what is printed and stored of one structure."""
    solved = result.error[np.isfinite(result.error)]
    return {
        "structure": name,
        "cases": len(result.seed),
        "median": float(np.median(solved)),
        "90 %": float(np.quantile(solved, 0.9)),
        "99 %": float(np.quantile(solved, 0.99)),
        "largest": float(np.nanmax(result.error)),
        "against reference": float(np.max(result.against_reference)),
        "decided at 1e-11": int(result.decided.sum()),
        "stiff": int(result.stiff.sum()),
        "unsolved": int(np.sum(result.status != 0)),
        "unsolved, no status": int(result.silent.sum()),
        "reference failed": int(np.sum(result.reference_status != 0)),
    }


def worst(result: Result) -> list[dict]:
    """Return seed and error of the worst cases, the unsolved ones first."""
    order = np.argsort(-np.nan_to_num(result.error, nan=np.inf), kind="stable")[:WORST]
    return [
        {
            "seed": int(result.seed[i]),
            "error": float(result.error[i]),
            "against reference": float(result.against_reference[i]),
            "status": int(result.status[i]),
        }
        for i in order
    ]


def passes(results: dict[str, Result]) -> bool:
    """Return whether every case is solved within what is allowed, or has a status."""
    return all(
        not np.any(result.error > ALLOWED) and not result.silent.any()
        for result in results.values()
    )


def main(n: int = 10_000, seed: int = 0, processes: int | None = None) -> int:
    """Run, print and store; return the exit status."""
    begun = time.perf_counter()
    results = check(n, seed, processes)
    rows = [summary(name, result) for name, result in results.items()]
    print(f"Errors in units of rtol = {RTOL:g} ({ALLOWED:g} allowed):\n")
    show(rows)
    print(
        "\nWhere the reference (LSODA at rtol 1e-10) says more than is allowed, its own error may "
        "be the limit:\nthere the compiled backend at rtol 1e-11 decides, in as many cases as "
        '"decided at 1e-11" says.\n'
    )
    content = {"rtol": RTOL, "allowed": ALLOWED, "first seed": seed, "summary": rows, "worst": {}}
    for name, result in results.items():
        content["worst"][name] = worst(result)
        listed = (f"seed {case['seed']} ({case['error']:.3g})" for case in content["worst"][name])
        print(f"worst of {name}:", ", ".join(listed))
    content["seconds"] = time.perf_counter() - begun
    good = passes(results)
    print(f"\n{content['seconds']:.0f} s; {'passed' if good else 'FAILED'}; "
          f"{save('check_random', content)}")  # fmt: skip
    return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("n", nargs="?", type=int, default=10_000, help="cases over all structures")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first case")
    parser.add_argument("--processes", type=int, help="all processors by default")
    sys.exit(main(**vars(parser.parse_args())))
