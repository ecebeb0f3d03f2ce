"""Residual errors: density of an exact row, probability of a censored one, and simulation.

Every family is a registry entry. The normal ones are normal about the prediction, or its logarithm,
with an SD that may depend on it; the counting ones are laws of the whole number of cells in the
counted volume. A censored row contributes P(lower < y <= upper), Beal's M3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, gammainc, gammaincc, gammaln, log_ndtr, ndtri, xlogy

#: Regularised tails below this lose digits before they underflow; a series takes over.
_TINY = 1e-200
_HALF_LOG_2_PI = 0.5 * np.log(2.0 * np.pi)
_FUZZ = 1e-9  # a limit times the volume is a whole number of cells but for rounding


class Family(NamedTuple):
    """A family of residual errors.

    Parameters
    ----------
    parameters : tuple of str
        What it needs beside the prediction.
    log_density : callable(y, f, theta)
        Log density of values, log probability of a number of cells.
    log_probability : callable(lower, upper, closed, f, theta)
        Log of P(lower < y <= upper), or of P(lower <= y < upper) where `closed` is below 0.
    sample : callable(u, f, theta)
        The value at probability `u`.
    sd : callable(f, theta)
        SD at a prediction: of the logarithm for the log-normal family, otherwise of the value.
    logarithmic, counting : bool
        Whether it is normal on the logarithm; whether it is a law of cells counted.
    """

    parameters: tuple[str, ...]
    log_density: Callable
    log_probability: Callable
    sample: Callable
    sd: Callable
    logarithmic: bool = False
    counting: bool = False


def log_interval(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return log(Phi(b) - Phi(a)) of a standard normal for a <= b, precise in both tails."""
    flip = a > 0  # reflected, so that no difference of numbers near 1 is taken
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        high, low = log_ndtr(b), log_ndtr(a)
        return high + np.log1p(-np.exp(np.where(np.isneginf(low), -np.inf, low - high)))


def _normal(parameters, sd, *, logarithmic=False):
    def scale(x):
        with np.errstate(divide="ignore"):  # the logarithm of an open end
            return np.log(np.maximum(x, 0.0)) if logarithmic else x

    def log_density(y, f, theta):
        spread = sd(f, theta)
        z = (scale(y) - scale(f)) / spread
        return -0.5 * z**2 - np.log(spread) - _HALF_LOG_2_PI - (np.log(y) if logarithmic else 0.0)

    def log_probability(lower, upper, closed, f, theta):
        spread, middle = sd(f, theta), scale(f)
        return log_interval((scale(lower) - middle) / spread, (scale(upper) - middle) / spread)

    def sample(u, f, theta):
        value = scale(f) + sd(f, theta) * ndtri(u)
        return np.exp(value) if logarithmic else value

    return Family(parameters, log_density, log_probability, sample, sd, logarithmic)


def _counting(parameters, log_mass, lower_tail, upper_tail, ratio, quantile, variance):
    """Return a family of whole numbers of cells.

    `ratio(k, mean, theta)` is P(k + 1) / P(k), from which the series of the far tails are made.
    """

    def log_density(y, f, theta):
        return log_mass(y * theta["volume"], f * theta["volume"], theta)

    def log_tail(k, mean, theta, below):
        direct = (lower_tail if below else upper_tail)(np.maximum(k, 0.0), mean, theta)
        found = np.log(np.maximum(direct, 1e-320))
        far = (direct < _TINY) & np.isfinite(k) & (k >= 0)
        series = _far_tail(k, mean, theta, far, below)
        found = np.where(far, series, found)
        found = np.where(k < 0, -np.inf if below else 0.0, found)
        return np.where(np.isposinf(k), 0.0 if below else -np.inf, found)

    def _far_tail(k, mean, theta, far, below):
        if not np.any(far):
            return 0.0
        begin = np.where(far, k if below else k + 1.0, 1.0)
        term, total, at = np.ones_like(begin), np.ones_like(begin), begin
        for _ in range(1_000_000):
            with np.errstate(divide="ignore", invalid="ignore"):
                if below:
                    at = at - 1.0
                    term = np.where(at >= 0, term / ratio(np.maximum(at, 0.0), mean, theta), 0.0)
                else:
                    term = term * ratio(at, mean, theta)
                    at = at + 1.0
            term = np.where(far, term, 0.0)
            total = total + term
            if not np.any(term > 1e-17 * total):
                break
        return log_mass(begin, mean, theta) + np.log(total)

    def log_probability(lower, upper, closed, f, theta):
        mean = np.maximum(f * theta["volume"], 1e-300)
        first, last = (_cells(edge, closed, theta["volume"]) for edge in (lower, upper))
        first, last, mean = np.broadcast_arrays(first, last, mean)
        above = first > mean  # then the difference is taken between upper tails
        with np.errstate(invalid="ignore", divide="ignore"):
            high = np.where(above, log_tail(first, mean, theta, False),
                            log_tail(last, mean, theta, True))  # fmt: skip
            low = np.where(above, log_tail(last, mean, theta, False),
                           log_tail(first, mean, theta, True))  # fmt: skip
            open_above = np.isposinf(last) & ~above
            # P(y > lower) from its own tail: near 0 it would be lost in 1 - P.
            high = np.where(open_above, log_tail(first, mean, theta, False), high)
            low = np.where(open_above, -np.inf, low)
            share = np.where(np.isneginf(low), 0.0, np.exp(low - high))
            return high + np.log1p(-share)

    def sample(u, f, theta):
        return quantile(u, f * theta["volume"], theta) / theta["volume"]

    def sd(f, theta):
        return np.sqrt(variance(f * theta["volume"], theta)) / theta["volume"]

    names = ("volume", *parameters)
    return Family(names, log_density, log_probability, sample, sd, counting=True)


def _cells(edge, closed, volume):
    """Return the largest number of cells that lies at or below (closed < 0: below) an edge."""
    cells = np.where(np.isfinite(edge), edge, 0.0) * volume
    at = np.floor(cells + _FUZZ)
    below = np.ceil(cells - _FUZZ) - 1.0
    whole = np.where(closed < 0, below, at)
    return np.where(np.isneginf(edge), -1.0, np.where(np.isposinf(edge), np.inf, whole))


def _finite(k):
    return np.where(np.isfinite(k), k, 0.0)


def _poisson():
    def quantile(u, mean, theta):
        from scipy.stats import poisson

        return poisson.ppf(u, mean)

    return _counting(
        (),
        lambda k, mean, theta: xlogy(k, mean) - mean - gammaln(k + 1.0),
        lambda k, mean, theta: gammaincc(_finite(k) + 1.0, mean),
        lambda k, mean, theta: gammainc(_finite(k) + 1.0, mean),
        lambda k, mean, theta: mean / (k + 1.0),
        quantile,
        lambda mean, theta: mean,
    )


def _negative_binomial():
    def quantile(u, mean, theta):
        from scipy.stats import nbinom

        return nbinom.ppf(u, *parts(mean, theta)[:2])

    def parts(mean, theta):
        r = 1.0 / theta["dispersion"]
        return r, r / (r + mean), mean / (r + mean)

    def log_mass(k, mean, theta):
        r, p, q = parts(mean, theta)
        return gammaln(k + r) - gammaln(r) - gammaln(k + 1.0) + r * np.log(p) + xlogy(k, q)

    def lower(k, mean, theta):
        r, p, _ = parts(mean, theta)
        return betainc(r, _finite(k) + 1.0, p)

    def upper(k, mean, theta):
        r, _, q = parts(mean, theta)
        return betainc(_finite(k) + 1.0, r, q)

    def ratio(k, mean, theta):
        r, _, q = parts(mean, theta)
        return (k + r) / (k + 1.0) * q

    return _counting(
        ("dispersion",), log_mass, lower, upper, ratio, quantile,
        lambda mean, theta: mean + theta["dispersion"] * mean**2,
    )  # fmt: skip


#: Every family by the word that names it.
FAMILIES: Mapping[str, Family] = {
    "log-normal": _normal(("sd",), lambda f, t: t["sd"] + 0.0 * f, logarithmic=True),
    "additive": _normal(("add_sd",), lambda f, t: t["add_sd"] + 0.0 * f),
    "proportional": _normal(("prop_sd",), lambda f, t: t["prop_sd"] * f),
    "combined1": _normal(("add_sd", "prop_sd"), lambda f, t: t["add_sd"] + t["prop_sd"] * f),
    "combined2": _normal(
        ("add_sd", "prop_sd"), lambda f, t: np.hypot(t["add_sd"], t["prop_sd"] * f)
    ),
    "poisson": _poisson(),
    "negative-binomial": _negative_binomial(),
}


@dataclass(frozen=True)
class ErrorModel:
    """The residual error of one endpoint.

    Parameters
    ----------
    form : str
        A key of `FAMILIES`.
    values : mapping of str to float
        Its parameters; those estimated are where the search begins.
    estimated : tuple of str
        Parameters that are estimated.
    origin : str
        Where the values come from.
    """

    form: str
    values: Mapping[str, float]
    estimated: tuple[str, ...] = ()
    origin: str = "given"

    @property
    def family(self) -> Family:
        """Return the family."""
        return FAMILIES[self.form]

    @property
    def sums_squares(self) -> bool:
        """Whether -2 log L is a sum of squares but for a constant."""
        return self.form in ("log-normal", "additive") and not self.estimated

    def __str__(self):
        told = {"sd": "SD", "add_sd": "additive SD", "prop_sd": "proportional SD",
                "volume": "counted volume [uL]", "dispersion": "dispersion"}  # fmt: skip
        parts = [
            f"{told[name]} {value:.4g}{' (estimated)' if name in self.estimated else ''}"
            for name, value in self.values.items()
        ]
        return f"{self.form}, {', '.join(parts)}; {self.origin}"


@dataclass(frozen=True, eq=False)
class Rows:
    """Observed values as the likelihood takes them.

    Parameters
    ----------
    time, clock : float array (n_rows,)
        Time of each row as the data have it, and the one to predict it at [day].
    output : array of str (n_rows,)
        The endpoint of each row.
    observed : float array (n_rows,)
        The value; the limit of a censored row.
    lower, upper : float array (n_rows,)
        What a censored value lies between.
    cens : int array (n_rows,)
        0 exact, 1 left- or interval-censored (lower < y <= upper), -1 right (lower <= y < upper).
    scale : float array (n_rows,)
        By what its prediction is multiplied; NaN: 100 over the predicted count without drug.
    volume : float array (n_rows,)
        Volume counted [uL]; NaN where it is not stated.
    line : int array (n_rows,)
        The row's place in the table.
    method : str
        What was done with left-censored rows, in Beal's numbering.
    told : tuple of str
        What was dropped or replaced, in sentences.
    """

    time: np.ndarray
    clock: np.ndarray
    output: np.ndarray
    observed: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    cens: np.ndarray
    scale: np.ndarray
    volume: np.ndarray
    line: np.ndarray
    method: str = "M3"
    told: tuple[str, ...] = ()


def log_likelihood(
    rows: Rows, predicted: np.ndarray, errors: Mapping[str, ErrorModel], thetas: Mapping
) -> np.ndarray:
    """Return the log likelihood of every row, shape (n, n_rows).

    Parameters
    ----------
    rows : Rows
        What was observed.
    predicted : float array (n, n_rows)
        Predictions, without residual error.
    errors : mapping of str to ErrorModel
        The error of each endpoint.
    thetas : mapping of str to mapping
        By endpoint, the parameters of its error: numbers, or arrays (n, 1).
    """
    found = np.empty_like(predicted)
    for output, error in errors.items():
        at = np.flatnonzero(rows.output == output)
        exact, censored = at[rows.cens[at] == 0], at[rows.cens[at] != 0]
        family, theta = error.family, thetas[output]
        with np.errstate(all="ignore"):
            found[:, exact] = family.log_density(rows.observed[exact], predicted[:, exact], theta)
            found[:, censored] = family.log_probability(
                rows.lower[censored], rows.upper[censored], rows.cens[censored],
                predicted[:, censored], theta,
            )  # fmt: skip
    return found


def standardised(
    rows: Rows, predicted: np.ndarray, errors: Mapping[str, ErrorModel], thetas: Mapping
) -> np.ndarray:
    """Return the standardised residual of every row (n, n_rows), as if none were censored."""
    found = np.empty_like(predicted)
    for output, error in errors.items():
        at = np.flatnonzero(rows.output == output)
        y, f = rows.observed[at], predicted[:, at]
        with np.errstate(all="ignore"):
            apart = np.log(y) - np.log(f) if error.family.logarithmic else y - f
            found[:, at] = apart / error.family.sd(f, thetas[output])
    return found


def residuals(
    rows: Rows, predicted: np.ndarray, errors: Mapping[str, ErrorModel], thetas: Mapping
) -> np.ndarray:
    """Return numbers (n, n_rows) whose sum of squares is -2 log L, but for a constant.

    For errors that `sums_squares`: a censored row gives sqrt(-2 log P).
    """
    logs = log_likelihood(rows, predicted, errors, thetas)
    with np.errstate(invalid="ignore"):
        censored = np.sqrt(np.maximum(-2.0 * logs, 0.0))
    return np.where(rows.cens != 0, censored, standardised(rows, predicted, errors, thetas))
