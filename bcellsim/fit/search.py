"""The search for the minimum by lmfit, from several starts.

A sum of squares goes to lmfit's least squares with its Jacobian; an error that depends on the
prediction, is estimated, or counts cells makes the objective a scalar, which goes to BFGS with its
gradient. Both derivatives are central differences on one sequence of the engine's steps.
"""

from __future__ import annotations

import numpy as np

from bcellsim.draws import normals
from bcellsim.fit.curvature import curvature
from bcellsim.fit.problem import COARSE, FINE, Problem

# Change of a coordinate for derivatives: the error of a central difference is its square.
CHANGE = 1e-4
# When lmfit stops: to find the minimum among several a coarse search will do, the best is refined.
# MINPACK's are relative changes; BFGS's is the largest slope, in units of -2 log L.
_STOP = {COARSE: 1e-4, FINE: 1e-10}
_SLOPE = {COARSE: 0.1, FINE: 1e-3}
# Of the coarse ends, those within this much of the best objective, and this far from those already
# chosen in a coordinate, are refined as well.
_NEAR, _ELSEWHERE, _REFINED = 0.1, 0.05, 3
# Curvature that BFGS begins with: a slope of one is a step of one in the logarithm at most.
_CURVED = (1.0, 1e6)
# A posterior can have several minima: of this many points drawn from the prior (without one, with
# an SD of 1 on the log scale), the best start a search each, beside the start itself.
_DRAWN, _SPREAD = 128, 1.0


def starting_points(problem: Problem, n: int, seed: int) -> np.ndarray:
    """Return where to search from: the start, and the best of points drawn around it."""
    start = problem.coordinates.start()
    if n <= 1:
        return start[None]
    numbers = np.arange(_DRAWN)
    if problem.prior:
        drawn = problem.points_from(normals(seed, "start", numbers, len(problem.factor)))
        points = start + drawn - problem.points_from(np.zeros((1, len(problem.factor))))
    else:
        points = start + _SPREAD * normals(seed, "start", numbers, len(start))
    low, high = problem.coordinates.bounds()
    inside = np.all((points > low) & (points < high), axis=1)
    points = points[inside]
    order = np.argsort(problem.objective(points, rtol=COARSE), kind="stable")
    return np.concatenate([start[None], points[order[: n - 1]]])


def minimise(problem: Problem, point: np.ndarray, rtol: float, *, held: str | None = None):
    """Search from a point by lmfit; return its result.

    Parameters
    ----------
    problem : Problem
        The problem.
    point : float array (n_coordinates,)
        Where to begin.
    rtol : float
        Tolerance of the engine, `COARSE` or `FINE`.
    held : str, optional
        A coordinate that stays where it is.
    """
    import lmfit

    coordinates = problem.coordinates
    params = coordinates.params(point)
    if held:
        params[held].vary = False
    moving = [j for j, name in enumerate(coordinates.variables) if name != held]
    options = {"scale_covar": False, "calc_covar": False}
    if problem.sums_squares:
        minimiser = lmfit.Minimizer(
            lambda p: problem.residuals(coordinates.vector(p)[None], rtol=rtol)[0],
            params, **options,
        )  # fmt: skip
        stop = {"ftol": _STOP[rtol], "xtol": _STOP[rtol]}

        def slopes(p):
            return jacobian(problem, coordinates.vector(p), rtol)[:, moving]

        if coordinates.bounded_by_user:  # MINPACK's transformed coordinates stall at a bound
            return minimiser.least_squares(jac=slopes, **stop)
        return minimiser.leastsq(Dfun=slopes, **stop)
    minimiser = lmfit.Minimizer(
        lambda p: problem.objective(coordinates.vector(p)[None], rtol=rtol)[0], params, **options
    )
    spread = _spread(problem, point)[np.ix_(moving, moving)]
    return minimiser.scalar_minimize(
        "BFGS",
        Dfun=lambda p: gradient(problem, coordinates.vector(p), rtol)[moving],
        options={"gtol": _SLOPE[rtol], "hess_inv0": spread},
    )


def refined(problem: Problem, ends: np.ndarray):
    """Refine the best of where coarse searches ended; return lmfit's result of the lowest.

    Ends nearly as low but elsewhere may be other minima, and are refined too, `_REFINED` at most.
    """
    objective = problem.objective(ends)
    order = np.argsort(objective, kind="stable")
    chosen = [order[0]]
    for i in order[1:]:
        apart = np.abs(ends[i] - ends[chosen]).max(axis=1).min()
        near = objective[i] - objective[order[0]] < _NEAR
        if near and apart > _ELSEWHERE and len(chosen) < _REFINED:
            chosen.append(i)
    results = [minimise(problem, ends[i], FINE) for i in chosen]
    found = np.array([problem.coordinates.vector(result.params) for result in results])
    return results[int(np.argmin(problem.objective(found)))]


def _spread(problem, point):
    """Return the inverse curvature that BFGS begins with: that of the objective, made positive."""
    values, vectors = np.linalg.eigh(curvature(problem, point).hessian)
    found = (vectors / np.clip(np.abs(values), *_CURVED)) @ vectors.T
    return 0.5 * (found + found.T)


def _trials(point):
    change = CHANGE * np.eye(len(point))
    return np.concatenate([point + change, point - change])


def _at_trials(problem, point, rtol):
    trials = _trials(point)
    return trials, problem.predict_beside(point, trials, rtol=rtol)


def jacobian(problem: Problem, point: np.ndarray, rtol: float = FINE) -> np.ndarray:
    """Return the derivatives of the residuals at a point (n_residuals, n_coordinates)."""
    trials, predicted = _at_trials(problem, point, rtol)
    plus, minus = np.split(problem.residuals(trials, predicted), 2)
    return (plus - minus).T / (2.0 * CHANGE)


def gradient(problem: Problem, point: np.ndarray, rtol: float = FINE) -> np.ndarray:
    """Return the derivatives of the objective at a point (n_coordinates,)."""
    trials, predicted = _at_trials(problem, point, rtol)
    plus, minus = np.split(problem.objective(trials, predicted), 2)
    return (plus - minus) / (2.0 * CHANGE)
