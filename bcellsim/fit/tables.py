"""Tables of a fit: parameters, correlation, residuals, and the fitted course."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from bcellsim.fit.curvature import Curvature
from bcellsim.fit.likelihood import standardised
from bcellsim.fit.problem import Problem
from bcellsim.structures import PARAMETERS

CURVE_POINTS = 401
Z90 = 1.6448536269514722
_CHANGE = 1e-5


def params_of(problem: Problem, about: Curvature):
    """Return the table of parameters; see `Fit.params`."""
    import pandas as pd

    coordinates, model = problem.coordinates, problem.model
    slopes = coordinates.slopes(about.point)
    slopes[problem.unmoved] = 0.0
    se = dict(zip(problem.names, _propagated(slopes, about.covariance), strict=True))
    prior_sd = _prior_sd(problem)
    shown = list(model.parameters)
    values = problem.natural(about.point[None], shown)[0]
    typical = problem.predicted(shown)[0]
    rows = []
    for name, value, usual in zip(shown, values, typical, strict=True):
        moved = name in coordinates.searched or name in coordinates.tied
        error = se[name] if moved else np.nan
        low, high = _interval(value, error, model.is_logit(name))
        rows.append(
            {
                "parameter": name,
                "value": value,
                "unit": PARAMETERS[name].unit,
                "low_90": low,
                "high_90": high,
                "log_se": error,
                "typical": usual,
                "prior_sd": prior_sd.get(name, np.nan),
                "determined": _determined(moved, error, prior_sd.get(name)),
            }
        )
    rows += _rows_beside(problem, about)
    return pd.DataFrame(rows).set_index("parameter")


def _rows_beside(problem, about):
    """Return the rows of what is estimated beside parameters: errors, factors of occasions."""
    coordinates, rows = problem.coordinates, []
    spread = problem.within.sd() if problem.kappas else {}
    for name, key in problem.beside.items():
        column = coordinates.variables.index(key)
        value = float(np.exp(about.point[column]))
        error = float(np.sqrt(about.covariance[column, column]))
        low, high = _interval(value, error, False)
        sd = spread.get(name.rpartition("_occ")[0]) if name in problem.kappas else None
        rows.append({
            "parameter": name, "value": value, "unit": "", "low_90": low, "high_90": high,
            "log_se": error, "typical": np.nan if sd is None else 1.0,
            "prior_sd": np.nan if sd is None else sd, "determined": _determined(True, error, sd),
        })  # fmt: skip
    return rows


def _propagated(slopes, covariance):
    """Return standard errors of what depends on the coordinates with these slopes."""
    found = np.full(len(slopes), np.nan)
    for i, slope in enumerate(slopes):
        used = np.abs(slope) > 1e-12
        inner = covariance[np.ix_(used, used)]
        if used.any() and np.all(np.isfinite(inner)):
            found[i] = np.sqrt(slope[used] @ inner @ slope[used])
    return found


def _prior_sd(problem):
    """Return the prior's SD of each natural parameter on its scale; {} without prior.

    A covariate that follows a parameter (Yu 2022: the count at baseline) widens another one.
    """
    if not problem.prior:
        return {}
    effects = problem.model.random_effects
    n = len(effects.names)
    change = _CHANGE * np.eye(n)
    moved = [dict(zip(effects.names, (sign * change).T, strict=True)) for sign in (1, -1)]
    plus, minus = (
        problem.coordinates.scaled(problem.values(eta, n, problem.names)) for eta in moved
    )
    slopes = (plus - minus).T / (2.0 * _CHANGE)
    spread = np.sqrt(np.einsum("ij,jk,ik->i", slopes, effects.covariance, slopes))
    found = dict(zip(problem.names, spread, strict=True))
    return {name: found[name] for name in effects.names}


def _interval(value, error, is_logit):
    if not np.isfinite(error):
        return np.nan, np.nan
    if is_logit:
        return tuple(float(expit(logit(value) + sign * Z90 * error)) for sign in (-1, 1))
    return tuple(float(value * np.exp(sign * Z90 * error)) for sign in (-1, 1))


def _determined(moved, error, prior_sd):
    """Say by what an estimate is determined.

    With a prior: by the data where its SD is below half of the prior's, by the prior above nine
    tenths. Without: by the data where the SE of its logarithm is below 0.5, by nothing above 1.
    """
    if not moved:
        return "fixed"
    if not np.isfinite(error):
        return "nothing"
    weak, strong = (0.9, 0.5) if prior_sd else (1.0, 0.5)
    share = error / prior_sd if prior_sd else error
    if share <= strong:
        return "data"
    if share <= weak:
        return "data and prior" if prior_sd else "data, weakly"
    return "prior" if prior_sd else "nothing"


def labels_of(problem: Problem) -> list[str]:
    """Return the name under which each coordinate is shown."""
    names = {key: name for name, key in problem.shown.items()}
    return [names.get(key, key) for key in problem.coordinates.variables]


def correlation_of(problem: Problem, about: Curvature):
    """Return the correlation of the estimates by parameter, NaN where there is none."""
    import pandas as pd

    labels, se = labels_of(problem), np.sqrt(np.diag(about.covariance))
    return pd.DataFrame(about.covariance / np.outer(se, se), index=labels, columns=labels)


def curves_of(problem: Problem, point: np.ndarray):
    """Return the fitted and the typical course on a fine grid."""
    import pandas as pd

    clock = problem.rows.clock
    times = np.unique(np.linspace(min(clock[0], 0.0), clock[-1], CURVE_POINTS))
    typical, fitted = problem.outputs_at(problem.line.days(times), _both(problem, point))
    table = {"TIME": times}
    for j, name in enumerate(problem.model.structure.outputs):
        table[name], table[f"{name}_typical"] = fitted[:, j], typical[:, j]
    return pd.DataFrame(table)


def _both(problem, point):
    """Return the structure's parameters of the typical subject, and of a point."""
    return np.concatenate([problem.typical_parameters(), problem.parameters(point[None])])


def residuals_of(problem: Problem, point: np.ndarray):
    """Return the table of residuals; see `Fit.residuals`."""
    import pandas as pd

    rows = problem.rows
    both = _both(problem, point)
    outputs = problem.outputs_at(problem.times, both)
    pred, ipred = problem.at_rows(outputs, both)
    plain = outputs[1, problem.at, problem.which]
    thetas = problem.coordinates.thetas(point[None], problem.errors)
    iwres = standardised(rows, ipred[None], problem.errors, thetas)[0]
    other = np.select([rows.cens == 1, rows.cens == -1], [rows.lower, rows.upper], np.nan)
    return pd.DataFrame(
        {
            "TIME": rows.time,
            "CLOCK": np.round(rows.clock, 6),  # TIME, but for a reset after which TIME restarts
            "DVID": rows.output,
            "DV": rows.observed,
            "CENS": rows.cens,
            "LIMIT": np.where(np.isfinite(other), other, np.nan),
            "PRED": pred,
            "IPRED": ipred,
            "IWRES": np.where(rows.cens != 0, np.nan, iwres),
            # What turns a percentage into the unit of the output, by this fit.
            "TO_OUTPUT": np.where(np.equal(rows.scale, 1.0), 1.0, plain / ipred),
        }
    )
