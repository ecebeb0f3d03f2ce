"""Profile likelihoods: the objective as one parameter is moved and the others are refitted."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from bcellsim.fit.curvature import Curvature
from bcellsim.fit.problem import FINE, Problem
from bcellsim.fit.search import minimise

# Steps outward, in standard errors; on, until the objective has risen enough or so many are made.
_STEP, _MOST = 0.6, 9
# A parameter without standard error is moved in steps of this much of its logarithm.
_BLIND = 0.5
# The profile is followed to this much above what the interval needs.
_BEYOND = 1.3


def profile(problem: Problem, curvature: Curvature, name: str, level: float):
    """Return the profile of one coordinate about the minimum.

    Parameters
    ----------
    problem : Problem
        The problem.
    curvature : Curvature
        About the minimum.
    name : str
        The coordinate.
    level : float
        Coverage of the interval.

    Returns
    -------
    points : float array (n, n_coordinates)
        The minimum at each value of the coordinate, ascending.
    rise : float array (n,)
        The objective above its minimum.
    interval : tuple of float
        Where it has risen by the quantile of chi-squared, on the scale of the coordinate; NaN at an
        end that was not reached.
    """
    column = problem.coordinates.variables.index(name)
    needed = float(chi2.ppf(level, 1))
    variance = curvature.covariance[column, column]
    step = _STEP * np.sqrt(variance) if np.isfinite(variance) else _BLIND
    low, high = problem.coordinates.bounds()[:, column]
    found = {float(curvature.point[column]): (curvature.objective, curvature.point)}
    for sign in (-1.0, 1.0):
        point = curvature.point
        for k in range(1, _MOST + 1):
            at = curvature.point[column] + sign * step * k * (1.0 if k <= 4 else 0.25 * k)
            if not low < at < high:
                break
            value, point = _refit(problem, curvature, point, column, at)
            found[at] = (value, point)
            if value - curvature.objective > _BEYOND * needed:
                break
    at = np.array(sorted(found))
    rise = np.array([found[a][0] for a in at]) - curvature.objective
    points = np.array([found[a][1] for a in at])
    return points, rise, _ends(at, rise, curvature.point[column], needed)


def _refit(problem, curvature, point, column, at):
    """Return the objective and the point where the coordinate is held and the others refitted."""
    begin = point.copy()
    if np.isfinite(curvature.covariance[column, column]):
        # To first order the others move with it as their covariance says.
        known = np.isfinite(np.diag(curvature.covariance))
        along = curvature.covariance[:, column] / curvature.covariance[column, column]
        begin = np.where(known, begin + (at - begin[column]) * along, begin)
    low, high = problem.coordinates.bounds()
    begin = np.clip(begin, low + 1e-6 * np.minimum(1.0, high - low),
                    high - 1e-6 * np.minimum(1.0, high - low))  # fmt: skip
    begin[column] = at
    if len(begin) == 1:
        return float(problem.objective(begin[None])[0]), begin
    name = problem.coordinates.variables[column]
    result = minimise(problem, begin, FINE, held=name)
    best = problem.coordinates.vector(result.params)
    return float(problem.objective(best[None])[0]), best


def _ends(at, rise, middle, needed):
    """Return where the profile crosses, by its signed root, which is nearly straight."""
    root = np.sign(at - middle) * np.sqrt(np.maximum(rise, 0.0))
    wanted = np.sqrt(needed)
    ends = []
    for sign in (-1.0, 1.0):
        side = (at - middle) * sign >= 0
        x, y = at[side], root[side] * sign
        order = np.argsort(x * sign)
        x, y = x[order], y[order]
        over = np.flatnonzero(y >= wanted)
        if not len(over):
            ends.append(np.nan)
            continue
        k = over[0]
        ends.append(x[k - 1] + (wanted - y[k - 1]) / (y[k] - y[k - 1]) * (x[k] - x[k - 1]))
    return tuple(float(end) for end in ends)
