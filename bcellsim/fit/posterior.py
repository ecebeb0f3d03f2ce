"""Draws from the posterior of one subject's parameters.

Importance resampling of the Laplace approximation: proposals come from multivariate t about each
minimum found, from the prior, and, round by round, from a t with the mean and covariance that the
weights give; all are weighted against the mixture of everything proposed (adaptive multiple
importance sampling, Cornuet 2012, doi:10.1111/j.1467-9469.2011.00756.x). Where few effective draws
result, emcee can sample instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv, gammaln

from bcellsim.draws import normals, uniforms
from bcellsim.fit.problem import COARSE, Problem
from bcellsim.fit.tables import labels_of
from bcellsim.names import unknown

METHODS = ("importance", "laplace", "emcee")

#: Fewer effective draws than this say little about the ends of a 90 % interval.
FEW = 200

# Degrees of freedom of the proposals: heavier tails than a posterior is likely to have, and less so
# once its own mean and covariance are known.
_DF, _ADAPTED_DF = 5.0, 20.0
# Proposals a round, the most rounds, and of the first round the share from the prior.
_ROUND, _ROUNDS, _PRIOR_SHARE = 2048, 8, 0.25
# Weights are tempered until so many effective draws per coordinate make a covariance.
_PER_COORDINATE = 10
# A minimum whose objective is this much higher than the best has e^-6 of its weight at equal width.
_HIGHEST = 12.0
# emcee: walkers per coordinate, steps, and the share of them that is burnt.
_WALKERS, _STEPS, _BURN = 4, 1500, 0.4


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of the coordinates.

    Parameters
    ----------
    points : float array (n, n_coordinates)
        The draws.
    method : str
        One of `METHODS`.
    effective : float
        Effective number of draws behind them.
    n_proposed : int
        Proposals, or steps of all walkers, that were solved.
    seed : int
        Their seed.
    note : str
        What to know of them, for reports.
    """

    points: np.ndarray
    method: str
    effective: float
    n_proposed: int
    seed: int
    note: str = ""


class _Component(NamedTuple):
    """A proposal: a multivariate t, or (df None) the prior."""

    mean: np.ndarray
    factor: np.ndarray
    df: float | None


def draw(problem: Problem, curvatures: list, n: int, seed: int, method: str) -> Draws:
    """Draw from the posterior.

    Parameters
    ----------
    problem : Problem
        The problem; without prior, its likelihood on the scale of the coordinates.
    curvatures : list of Curvature
        About each minimum, the best first.
    n : int
        Number of draws.
    seed : int
        Seed; it gives the same draws for the same `n`.
    method : str
        One of `METHODS`.

    Raises
    ------
    ValueError
        If the method is unknown, or a coordinate of the best minimum has no standard error where
        the normal approximation or data without prior need one.
    """
    if method not in METHODS:
        raise ValueError(unknown("method of drawing", str(method), METHODS))
    proper = _prior_component(problem) is not None
    if not curvatures[0].complete and not (proper and method != "laplace"):
        bad = ~np.isfinite(np.diag(curvatures[0].covariance))
        names = [label for label, b in zip(labels_of(problem), bad, strict=True) if b]
        raise ValueError(
            f"these data do not determine {', '.join(names)}, so that nothing can be drawn: "
            + ('use method="importance"' if proper else "fix them, or use the prior")
        )
    if method == "laplace":
        best = _component(curvatures[0], None)
        z = normals(seed, "uncertainty", np.arange(n), len(best.mean))
        note = "normal approximation on the log scale, not weighted"
        return Draws(best.mean + z @ best.factor.T, method, float(n), 0, seed, note)
    found = _importance(problem, curvatures, n, seed)
    return found if method == "importance" else _emcee(problem, found, n, seed)


def _component(curvature, df=_DF):
    covariance = curvature.covariance
    shrink = 1.0 if df is None else (df - 2.0) / df  # a t of that scale has this covariance
    return _Component(curvature.point, np.linalg.cholesky(shrink * covariance), df)


def _importance(problem, curvatures, n, seed):
    best = curvatures[0].objective
    components = [_component(c) for c in curvatures
                  if c.complete and c.objective < best + _HIGHEST]  # fmt: skip
    prior = _prior_component(problem)
    # Without a curvature to propose from, the first round is of the prior alone.
    from_prior = int((_PRIOR_SHARE if components else 1.0) * _ROUND) if prior else 0
    counts = [(_ROUND - from_prior) // len(components)] * len(components) if components else []
    if prior:
        components, counts = [*components, prior], [*counts, from_prior]
    points, objective, used, numbers = [], [], [], []
    for _ in range(_ROUNDS):
        for component, count in zip(components, counts, strict=True):
            points.append(_propose(problem, component, count, seed, len(used)))
            objective.append(_target(problem, points[-1]))
            used.append(component)
            numbers.append(count)
        everything, height = np.concatenate(points), np.concatenate(objective)
        if np.isfinite(height).sum() <= everything.shape[1]:
            raise ValueError(
                f"of {len(everything):,} draws {np.isfinite(height).sum()} lie within the bounds: "
                "widen or remove a bound, or fix the parameter"
            )
        weights = _weights(problem, everything, height, used, numbers)
        effective = 1.0 / np.sum(weights**2)
        if effective >= n:
            break
        components, counts = [_adapted(everything, weights)], [_ROUND]
    kept = _resample(weights, n, seed)
    note = f"importance resampling of {len(everything):,} proposals"
    return Draws(everything[kept], "importance", float(effective), len(everything), seed, note)


def _prior_component(problem):
    """Return the prior as a proposal, where it covers every coordinate."""
    searched = [problem.names.index(name) for name in problem.coordinates.searched]
    whole = problem.prior and sorted(searched) == sorted(problem.effects)
    if not whole or len(problem.coordinates.variables) != len(problem.factor):
        return None
    middle = problem.points_from(np.zeros((1, len(problem.factor))))[0]
    return _Component(middle, problem.factor, None)


def _propose(problem, component, n, seed, replicate):
    d = len(component.mean)
    z = normals(seed, "uncertainty", np.arange(n), d, replicate=2 * replicate + 2)
    if component.df is None:
        return problem.points_from(z)
    u = uniforms(seed, "uncertainty", np.arange(n), 1, replicate=2 * replicate + 3)
    chi2 = 2.0 * gammaincinv(component.df / 2.0, u)
    return component.mean + (z @ component.factor.T) * np.sqrt(component.df / chi2)


def _target(problem, points):
    """Return the objective, infinite outside the bounds."""
    low, high = problem.coordinates.bounds()
    found = np.full(len(points), np.inf)
    inside = np.flatnonzero(np.all((points >= low) & (points <= high), axis=1))
    if len(inside):
        found[inside] = problem.objective(points[inside], rtol=COARSE)
    return found


def _log_proposal(problem, component, points):
    log_det = np.log(np.diag(component.factor)).sum()
    d = points.shape[1]
    if component.df is None:
        z = problem.random_effects(points)
        return -0.5 * (z**2).sum(axis=1) - log_det - 0.5 * d * np.log(2.0 * np.pi)
    z = np.linalg.solve(component.factor, (points - component.mean).T)
    df = component.df
    constant = gammaln((df + d) / 2.0) - gammaln(df / 2.0) - 0.5 * d * np.log(df * np.pi)
    return constant - log_det - 0.5 * (df + d) * np.log1p((z**2).sum(axis=0) / df)


def _weights(problem, points, objective, components, counts):
    """Return normalised weights of points proposed by a mixture."""
    logs = np.array([
        np.log(count) + _log_proposal(problem, component, points)
        for component, count in zip(components, counts, strict=True)
    ])  # fmt: skip
    log_weights = -0.5 * objective - np.logaddexp.reduce(logs, axis=0)
    weights = np.exp(log_weights - np.max(log_weights))
    return weights / weights.sum()


def _adapted(points, weights):
    """Return a t with the mean and covariance that the weights give."""
    weights = _tempered(weights, _PER_COORDINATE * points.shape[1])
    mean = weights @ points
    apart = points - mean
    covariance = (apart * weights[:, None]).T @ apart
    shrink = (_ADAPTED_DF - 2.0) / _ADAPTED_DF
    return _Component(mean, np.linalg.cholesky(shrink * covariance), _ADAPTED_DF)


def _tempered(weights, least):
    """Return the weights to the largest power that leaves `least` effective draws.

    A few heavy weights would give a covariance of a few points.
    """
    low, high = 0.0, 1.0
    for _ in range(30):
        power = high if low == 0.0 and high == 1.0 else 0.5 * (low + high)
        found = np.where(weights > 0, weights**power, 0.0)
        found /= found.sum()
        enough = 1.0 / np.sum(found**2) >= least
        if enough and power == 1.0:
            break
        low, high = (power, high) if enough else (low, power)
    return found


def _resample(weights, n, seed):
    """Return positions drawn in proportion to the weights: systematic, in random order."""
    u = uniforms(seed, "uncertainty", np.arange(n), 1, replicate=0)[:, 0]
    at = (np.arange(n) + uniforms(seed, "uncertainty", [0], 1, replicate=1)[0, 0]) / n
    return np.searchsorted(np.cumsum(weights), at * (1.0 - 1e-12))[np.argsort(u, kind="stable")]


def _emcee(problem, start, n, seed):
    """Sample with emcee's affine-invariant walkers, which begin at importance draws."""
    try:
        import emcee
    except ImportError:
        raise ImportError(
            'drawing with method="emcee" needs the package emcee: pip install "bcellsim[sampling]"'
        ) from None
    d = start.points.shape[1]
    n_walkers = max(_WALKERS * d, 32)
    jitter = 1e-3 * normals(seed, "uncertainty", np.arange(n_walkers), d, replicate=999)
    spread = np.std(start.points, axis=0)
    begin = start.points[np.arange(n_walkers) % len(start.points)] + jitter * spread
    sampler = emcee.EnsembleSampler(
        n_walkers, d, lambda points: -0.5 * _target(problem, points), vectorize=True,
        moves=[(emcee.moves.DEMove(), 0.8), (emcee.moves.DESnookerMove(), 0.2)],
    )  # fmt: skip
    state = emcee.State(begin, random_state=np.random.RandomState(seed % 2**32).get_state())
    sampler.run_mcmc(state, _STEPS, progress=False)
    burnt = int(_BURN * _STEPS)
    length = float(np.max(sampler.get_autocorr_time(discard=burnt, quiet=True, tol=0)))
    chain = sampler.get_chain(discard=burnt, flat=True)
    u = uniforms(seed, "uncertainty", np.arange(n), 1, replicate=1000)[:, 0]
    picked = chain[(u * len(chain)).astype(int)]
    note = (
        f"emcee, {n_walkers} walkers, {_STEPS} steps ({burnt} burnt), autocorrelation "
        f"{length:.0f} steps, {np.mean(sampler.acceptance_fraction):.0%} accepted"
    )
    return Draws(picked, "emcee", len(chain) / length, n_walkers * _STEPS, seed, note)
