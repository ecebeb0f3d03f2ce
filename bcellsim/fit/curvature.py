"""The curvature of the objective at its minimum, and the standard errors that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bcellsim.fit.problem import FINE, Problem

# Change of a coordinate for second differences. On the steps of one solution the objective is a
# smooth function: rounding leaves 1e-13 of it over the square. Counts near a steep threshold (a
# Hill exponent of 10) can have valleys as narrow as 3e-3, which larger changes would step across.
# Where the objective with a prior seems to fall at its minimum, the valley is narrower yet and
# bent, so that differences along the coordinates leave it: then smaller changes are tried. (Without
# a prior a direction may be flat, of which smaller changes would show the rounding alone.)
_CHANGES = (3e-4, 1e-4, 3e-5)
# Of the curvature scaled to a unit diagonal: directions flatter than this are not determined, and
# parameters that lie in them by more than a hundredth.
_FLAT, _SHARE = 1e-6, 1e-2
# A coordinate this close to a bound, relative to the bounds' distance, lies on it.
_ON_BOUND = 1e-6


@dataclass(frozen=True, eq=False)
class Curvature:
    """The objective about a point, to second order.

    Parameters
    ----------
    point : float array (n,)
        The point.
    objective : float
        Its objective.
    gradient : float array (n,)
        First derivatives there.
    hessian : float array (n, n)
        Second derivatives.
    covariance : float array (n, n)
        Twice the inverse of the second derivatives (-2 log L is twice the negative log
        likelihood); NaN where it could not be computed.
    condition : float
        Condition number of the second derivatives, scaled to a unit diagonal; inf where flat.
    at_bound : bool array (n,)
        Coordinates at a bound, for which curvature says nothing.
    """

    point: np.ndarray
    objective: float
    gradient: np.ndarray
    hessian: np.ndarray
    covariance: np.ndarray
    condition: float
    at_bound: np.ndarray

    @property
    def decrement(self) -> float:
        """Return by how much the objective could still fall, to second order; NaN if unknown."""
        known = np.isfinite(np.diag(self.covariance))
        step = np.where(known, self.gradient, 0.0)
        inner = self.covariance[np.ix_(known, known)]
        return float(step[known] @ inner @ step[known] / 4.0)

    @property
    def complete(self) -> bool:
        """Whether every standard error could be computed."""
        return bool(np.all(np.isfinite(np.diag(self.covariance))))


def curvature(problem: Problem, point: np.ndarray) -> Curvature:
    """Return the curvature of the objective at a point, by differences on one sequence of steps."""
    low, high = problem.coordinates.bounds()
    width = np.where(np.isfinite(high - low), high - low, 1.0)
    at_bound = np.minimum(point - low, high - point) < _ON_BOUND * width
    for change in _CHANGES if problem.prior else _CHANGES[:1]:
        middle, gradient, hessian = _differences(problem, point, change)
        if not _falls(hessian, ~at_bound):
            break
    covariance, condition = covariance_of(hessian, ~at_bound)
    return Curvature(point, middle, gradient, hessian, covariance, condition, at_bound)


def _differences(problem, point, change):
    """Return the objective at a point, its first and its second derivatives."""
    n = len(point)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    unit = change * np.eye(n)
    shifts = [np.zeros((1, n)), unit, -unit]
    shifts += [np.array([unit[i] + unit[j] for i, j in pairs]).reshape(-1, n)]
    shifts += [-shifts[-1]]
    trials = point + np.concatenate(shifts)
    predicted = problem.predict_beside(point, trials, rtol=FINE)
    values = problem.objective(trials, predicted)
    middle, plus, minus = values[0], values[1 : n + 1], values[n + 1 : 2 * n + 1]
    both = values[2 * n + 1 :].reshape(2, -1).sum(axis=0)
    hessian = np.diag((plus - 2.0 * middle + minus) / change**2)
    single = plus + minus
    for k, (i, j) in enumerate(pairs):
        # f(++) + f(--) - f(+0) - f(-0) - f(0+) - f(0-) + 2 f(00) is 2 h^2 times the mixed one.
        cross = both[k] - single[i] - single[j] + 2.0 * middle
        hessian[i, j] = hessian[j, i] = cross / (2.0 * change**2)
    return float(middle), (plus - minus) / (2.0 * change), hessian


def _falls(hessian, use):
    """Return whether second derivatives, scaled to a unit diagonal, have a falling direction."""
    inner = hessian[np.ix_(use, use)]
    diagonal = np.diag(inner)
    if not len(inner) or not np.all(np.isfinite(inner)):
        return False
    if np.any(diagonal <= 0):
        return True
    values = np.linalg.eigvalsh(inner / np.sqrt(np.outer(diagonal, diagonal)))
    return bool(values[0] < -_FLAT * max(values[-1], 1.0))


def covariance_of(hessian: np.ndarray, use: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Return the covariance that second derivatives of -2 log L give, and their condition.

    Parameters
    ----------
    hessian : float array (n, n)
        Second derivatives.
    use : bool array (n,), optional
        Coordinates to use; the others, and those in a flat or falling direction, are NaN.
    """
    n = len(hessian)
    use = np.ones(n, dtype=bool) if use is None else use
    curved = use & np.isfinite(np.diag(hessian)) & (np.diag(hessian) > 0)
    covariance, condition = np.full((n, n), np.nan), np.inf
    if not curved.any():
        return covariance, condition
    inner = hessian[np.ix_(curved, curved)]
    scale = 1.0 / np.sqrt(np.diag(inner))
    values, vectors = np.linalg.eigh(inner * np.outer(scale, scale))
    flat = values < _FLAT * max(values[-1], 1.0)
    lost = np.sqrt((vectors[:, flat] ** 2).sum(axis=1)) > _SHARE
    steep = vectors[:, ~flat]
    found = 2.0 * np.outer(scale, scale) * ((steep / values[~flat]) @ steep.T)
    found[lost], found[:, lost] = np.nan, np.nan
    covariance[np.ix_(curved, curved)] = found
    if curved.sum() == use.sum() and not flat.any():
        condition = float(values[-1] / values[0])
    return covariance, condition
