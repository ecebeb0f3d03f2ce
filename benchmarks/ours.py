"""The engine's calls on the standard problems, all in this one place."""

from __future__ import annotations

import numpy as np

from bcellsim.engine import Tally, solve

#: Absolute tolerance as a multiple of the relative one, as in the engine's defaults.
ATOL = 1e-2


def counts(problem, params, rtol, *, threads=1, times=None) -> np.ndarray:
    """Return the counts (n_subjects, n_times) at the problem's output times, or at others."""
    solution = solve(
        problem.structure,
        params,
        problem.events(len(params)),
        problem.times if times is None else times,
        until=problem.times[-1],
        rtol=rtol,
        atol=ATOL * rtol,
        threads=threads,
    )
    return solution.values[..., problem.structure.outputs.index("bcell")]


def metrics(problem, params, rtol, *, threads=1) -> np.ndarray:
    """Return the tallies behind every metric of the counts, storing no trajectory."""
    end = problem.times[-1]
    asked = (
        Tally("above", "bcell", 28.0, end, level=10.0),
        Tally("below", "bcell", 0.0, end, level=10.0),
        Tally("below", "bcell", 0.9 * end, end, level=20.0),
        Tally("lowest", "bcell", 0.0, end),
        Tally("integral", "bcell", 0.0, end),
    )
    solution = solve(
        problem.structure,
        params,
        problem.events(len(params)),
        [],
        until=end,
        outputs=(),
        tallies=asked,
        rtol=rtol,
        atol=ATOL * rtol,
        threads=threads,
    )
    return solution.tallies
