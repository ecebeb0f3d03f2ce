"""Speed at equal achieved error: the engine and its peers, and the tolerances this takes."""

from __future__ import annotations

import statistics
from functools import partial

import harness
import numpy as np
import ours
from harness import clock, relative_error, spread
from peers import PEERS
from work import W1, W2

#: Errors at which each problem is compared.
TARGETS = {W1: (1e-4, 1e-6), W2: (5e-7,)}

#: The (rtol, atol) of each peer that keep to the error at about the least cost, from two runs of
#: `--scan`; where these disagreed within their noise, one of them was picked by eye.
TOLERANCES = {
    ("W1", 1e-4): {
        "numbalsoda (LSODA)": (1.8e-5, 1.8e-9),
        "diffrax (Tsit5)": (1.8e-5, 1.8e-6),
        "libroadrunner (CVODE)": (2.4e-6, 2.4e-8),
        "scipy (LSODA)": (3.2e-5, 3.2e-7),
        "prototype": (1.8e-5, 1.8e-7),
    },
    ("W1", 1e-6): {
        "numbalsoda (LSODA)": (1.8e-7, 1.8e-11),
        "diffrax (Tsit5)": (1.8e-7, 1.8e-8),
        "libroadrunner (CVODE)": (2.4e-8, 2.4e-10),
        "scipy (LSODA)": (2.4e-7, 2.4e-11),
        "prototype": (1.8e-7, 1.8e-8),
    },
    ("W2", 5e-7): {
        "numbalsoda (LSODA)": (1e-8, 1e-9),
        "diffrax (Tsit5)": (1.3e-7, 1.3e-8),
        "libroadrunner (CVODE)": (7.5e-9, 7.5e-11),
        "scipy (LSODA)": (1e-8, 1e-10),
        "prototype": (1e-6, 1e-8),
    },
}

#: Subjects of W1 and W2 in a call of each method (whole batches of diffrax).
SUBJECTS = {
    "bcellsim": {"W1": 4000, "W2": 8000},
    "numbalsoda (LSODA)": {"W1": 300, "W2": 800},
    "diffrax (Tsit5)": {"W1": 500, "W2": 1000},
    "libroadrunner (CVODE)": {"W1": 60, "W2": 200},
    "scipy (LSODA)": {"W1": 40, "W2": 40},
    "prototype": {"W1": 6000, "W2": 100_000},
}
#: Subjects over which errors are taken, where a peer solves as many.
N_ERROR = 200


def at_equal_error(problem, run) -> list[dict]:
    """Time the engine and every peer at equal achieved error, one core each."""
    rows = []
    for target in TARGETS[problem]:
        rtol = loosest(partial(solve_ours, problem, problem.sample(N_ERROR)), problem, target)
        engine, n = long_enough(problem, rtol)
        peers = _warmed_peers(problem, target, run)
        alone, pairs = harness.alternate(engine, peers, run.rounds)
        row = {"target": target, "method": "bcellsim", "rtol": rtol, "atol": ours.ATOL * rtol}
        engine_speed = _speed(problem, n, alone)
        rows.append({**row, **engine_speed, **_ratio([(1.0, 1.0)]), "ratio_of_fastest": 1.0})
        for name, calls in pairs.items():
            n_peer, (rtol, atol) = subjects(name, problem), TOLERANCES[problem.name, target][name]
            row = {"target": target, "method": name, "rtol": rtol, "atol": atol}
            each = n / n_peer  # to ratios of times per subject
            ratio = _ratio([(c.wall / e.wall * each, c.cpu / e.cpu * each) for c, e in calls])
            speed = _speed(problem, n_peer, [c for c, _ in calls])
            ratio["ratio_of_fastest"] = engine_speed["fastest"] / speed["fastest"]
            rows.append({**row, **speed, **ratio})
            run.measured[f"{problem.name} {target:.0e} against {name}"] = ratio["engine_ratio"]
    for row in rows:
        if row["error"] > row["target"]:
            run.note(
                f"{problem.name}: {row['method']} misses {row['target']:g}: {row['error']:.2g}"
            )
    return rows


def _warmed_peers(problem, target, run):
    """Return a call of each peer there is, after a first one."""
    calls = {}
    for name, (rtol, atol) in TOLERANCES[problem.name, target].items():
        call = partial(PEERS[name], problem, problem.sample(subjects(name, problem)), rtol, atol)
        try:
            call()
        except ImportError as error:
            run.note(f"{problem.name}: {name} skipped: {error}")
        else:
            calls[name] = call
    return calls


def _speed(problem, n, calls):
    rate = spread([n / call.wall for call in calls])
    return {
        "error": relative_error(calls[-1].result, problem.reference(N_ERROR)),
        "error_subjects": min(n, N_ERROR),
        "subjects": n,
        "subjects_per_s": rate["median"],
        "slowest": rate["min"],
        "fastest": rate["max"],
        "cores": sum(call.cpu for call in calls) / sum(call.wall for call in calls),
    }


def _ratio(pairs):
    """Return how many times faster the engine is, by the clock and by processor time."""
    wall = spread([pair[0] for pair in pairs])
    return {
        "engine_ratio": wall["median"],
        "ratio_min": wall["min"],
        "ratio_max": wall["max"],
        "ratio_cpu": statistics.median(pair[1] for pair in pairs),
    }


def subjects(name, problem) -> int:
    """Return how many subjects a method is given in a call."""
    return SUBJECTS[name][problem.name]


def solve_ours(problem, params, rtol, atol=None):
    """Solve by the engine on one thread."""
    return ours.counts(problem, params, rtol)


def loosest(solve, problem, target, factor=ours.ATOL) -> float:
    """Return the largest rtol, in steps of 1/8 decade, whose `solve(rtol, atol)` is as exact."""

    def first(exponents):
        for exponent in exponents:
            rtol = float(f"{10.0**-exponent:.2g}")
            error = relative_error(solve(rtol, factor * rtol), problem.reference(N_ERROR))
            if error <= target:
                return exponent, rtol
        raise RuntimeError(f"{problem.name}: no tolerance gives an error of {target:g}")

    coarse, _ = first(np.arange(3.0, 12.1, 0.5))
    return first(np.arange(coarse - 0.375, coarse + 0.1, 0.125))[1]


def long_enough(problem, rtol, *, seconds=0.25, most=100_000):
    """Return a call of the engine that lasts about that long, and its number of subjects."""
    n, params = 256, problem.sample(most)
    solve_ours(problem, params[:n], rtol)
    while True:
        call = partial(solve_ours, problem, params[:n], rtol)
        wall = clock(call).wall
        if wall >= seconds or n == most:
            return call, n
        n = min(most, int(n * max(1.2, min(8.0, 1.1 * seconds / wall))))


def curves(run, passes=3) -> list[dict]:
    """Return error and speed of every method over a range of tolerances, the best of passes."""
    rows = {}
    for _ in range(passes):  # all of them in turn, so that a busy minute spoils one pass only
        for problem in TARGETS:
            for name, peer in {"bcellsim": solve_ours, **PEERS}.items():
                try:
                    for row in _curve(problem, name, peer):
                        key = (problem.name, name, row["error"])
                        rows[key] = max(row, rows.get(key, row), key=lambda x: x["subjects_per_s"])
                except ImportError as error:
                    run.note(f"{problem.name}: {name} skipped: {error}")
    return list(rows.values())


def _curve(problem, name, peer):
    n = subjects(name, problem)
    params = problem.sample(n)
    peer(problem, params, 1e-3, 1e-5)
    for rtol in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9):
        timing = clock(partial(peer, problem, params, rtol, 1e-2 * rtol))
        yield {
            "problem": problem.name,
            "method": name,
            "rtol": rtol,
            "error": relative_error(timing.result, problem.reference(N_ERROR)),
            "error_subjects": min(n, N_ERROR),
            "subjects": n,
            "subjects_per_s": n / timing.wall,
        }


def scan() -> None:
    """Print for each peer and error the cheapest tolerances that keep to it."""
    for problem, targets in TARGETS.items():
        for target in targets:
            for name, peer in PEERS.items():
                solve = partial(peer, problem, problem.sample(subjects(name, problem)))
                found = []
                for factor in (1.0, 1e-1, 1e-2, 1e-4):
                    try:
                        rtol = loosest(solve, problem, target, factor)
                    except ImportError as error:
                        print(f"{name} skipped: {error}")
                        break
                    atol = float(f"{factor * rtol:.2g}")
                    seconds = min(clock(partial(solve, rtol, atol)).cpu for _ in range(3))
                    found.append((seconds, (rtol, atol)))
                print(problem.name, target, name, *sorted(found), flush=True)
