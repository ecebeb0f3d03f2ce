"""What would determine the parameters that the data do not: found from the sensitivities.

At the estimate every further observation adds its expected information, (df/dx)(df/dx)' / SD^2, to
the curvature. Of candidates on a grid of days, under the doses of the data and no others, the ones
that lower a parameter's standard error most are named, by the kind of observation they are. A count
that the fit predicts below the data's limit of quantification is taken to tell nothing.
"""

from __future__ import annotations

import numpy as np

from bcellsim.fit.curvature import Curvature
from bcellsim.fit.errors import error_models
from bcellsim.fit.problem import FINE, Problem
from bcellsim.fit.search import CHANGE

#: Observations of one kind that are added together.
N_ADDED = 3
#: An observation is named only if it lowers the standard error to this share of what it is.
WORTH = 0.9
# Days of the grid, how far beyond the last observation it goes, and how far apart days are [day].
_GRID, _AHEAD, _APART = 60, (90.0, 365.0), 7.0
# Depleted: at or below this share of the baseline count.
_DEPLETED = 0.1
# A parameter without standard error counts with this one on the log scale.
_UNKNOWN = 10.0


def identify(problem: Problem, curvature: Curvature, weak: list[str]):
    """Return what would determine parameters.

    Parameters
    ----------
    problem : Problem
        The problem.
    curvature : Curvature
        About the estimate.
    weak : list of str
        Coordinates to look at.

    Returns
    -------
    DataFrame
        A row a coordinate and kind of observation: coordinate, observation, output, days (of up to
        `N_ADDED` observations, a week or more apart), se (inf where there is none), se_with, both
        on the coordinate's scale; the best kind of each first.
    """
    import pandas as pd

    # Where nothing is known of a coordinate its estimate may lie where nothing depends on it: there
    # the sensitivities are those of the start.
    known = np.isfinite(np.diag(curvature.covariance))
    point = np.where(known, curvature.point, problem.coordinates.start())
    times, kinds, outputs = _grid(problem, point)
    slopes, predicted = _sensitivities(problem, point, times)
    covariance = _covariance(curvature)
    moved = float(problem.line.days(problem.end)) - problem.end
    rows = []
    for (output, kind), at in kinds.items():
        o = outputs.index(output)
        information = _information(problem, output, predicted[:, o])[at]
        for name in weak:
            column = problem.coordinates.variables.index(name)
            days = times[at] - moved
            chosen, variance = _greedy(covariance, slopes[at, o], information, column, days)
            rows.append({
                "coordinate": name, "observation": kind, "output": output,
                "days": tuple(sorted(float(round(days[i])) for i in chosen)),
                "se": np.sqrt(covariance[column, column]) if known[column] else np.inf,
                "se_with": np.sqrt(variance),
            })  # fmt: skip
    columns = ["coordinate", "observation", "output", "days", "se", "se_with"]
    table = pd.DataFrame(rows, columns=columns)
    order = {name: k for k, name in enumerate(weak)}
    return table.sort_values(
        ["coordinate", "se_with"], key=lambda c: c.map(order) if c.name == "coordinate" else c,
        ignore_index=True,
    )  # fmt: skip


def _grid(problem, point):
    """Return days, and by (output, kind of observation) which of them belong to it."""
    outputs = list(problem.model.structure.outputs)
    first = problem.line.regimen.first_dose
    end = max(problem.last, first)
    ahead = np.clip(0.5 * (end - first), *_AHEAD)
    before = first - 1.0 - _APART * np.arange(N_ADDED)[::-1]
    times = np.concatenate([before, np.linspace(first + 1.0, end + ahead, _GRID)])
    kinds = {("conc", "drug concentrations"): times >= first}
    if "bcell" in outputs:
        kinds |= _counts(problem, point, times, first)
    usable = {o for o in outputs if o in problem.errors or _published(problem.model, o)}
    kinds = {key: np.flatnonzero(mask) for key, mask in kinds.items()
             if mask.any() and key[0] in usable}  # fmt: skip
    return times, kinds, outputs


def _counts(problem, point, times, first):
    """Return which days of the grid each kind of count belongs to."""
    output = problem.model.structure.outputs.index("bcell")
    count = problem.outputs_at(times, problem.parameters(point[None]))[0, :, output]
    before = times < first
    depleted = ~before & (count <= _DEPLETED * count[0])
    rising = ~before & ~depleted & (np.gradient(count, times) > 0)
    return {
        ("bcell", "counts before the first dose"): before,
        ("bcell", "counts while B cells fall"): ~before & ~depleted & ~rising,
        ("bcell", "counts while B cells are depleted"): depleted,
        ("bcell", "counts while B cells return"): rising,
    }


def _published(model, output):
    error = model.residual_error.get(output)
    return error is not None and error.form != "declining" and bool(error.prop_sd or error.log_sd)


def _sensitivities(problem, point, times):
    """Return derivatives (n_times, n_outputs, n_coordinates) and outputs (n_times, n_outputs)."""
    n = len(point)
    change = CHANGE * np.eye(n)
    trials = np.concatenate([point[None], point + change, point - change])
    values = problem.followed(point, trials, rtol=FINE, times=times)
    slopes = (values[1 : n + 1] - values[n + 1 :]) / (2.0 * CHANGE)
    return np.moveaxis(slopes, 0, -1), values[0]


def _covariance(curvature):
    """Return a covariance of all coordinates: `_UNKNOWN` is added where the data say nothing."""
    if curvature.complete:
        return curvature.covariance
    values, vectors = np.linalg.eigh(0.5 * curvature.hessian)
    precision = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return np.linalg.inv(precision + np.eye(len(values)) / _UNKNOWN**2)


def _information(problem, output, predicted):
    """Return the expected information of an observation about the prediction (n_times,)."""
    error = problem.errors.get(output) or error_models(problem.model, [output])[output]
    sd = error.family.sd(predicted, error.values)
    sd = sd * predicted if error.family.logarithmic else sd
    rows = problem.rows
    limits = rows.observed[(rows.output == output) & (rows.cens == 1)]
    seen = predicted > (limits.max() if len(limits) else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(seen & (sd > 0), 1.0 / sd**2, 0.0)


def _greedy(covariance, slopes, information, column, days):
    """Return the observations that lower one variance most, one after another, and what is left."""
    chosen = []
    covariance, information = covariance.copy(), information.copy()
    for _ in range(N_ADDED):
        moved = slopes @ covariance
        gain = information * moved[:, column] ** 2
        gain = gain / (1.0 + information * np.einsum("ij,ij->i", moved, slopes))
        i = int(np.argmax(gain))
        if gain[i] <= 0:
            break
        chosen.append(i)
        shrink = information[i] / (1.0 + information[i] * moved[i] @ slopes[i])
        covariance -= shrink * np.outer(moved[i], moved[i])
        information[np.abs(days - days[i]) < _APART] = 0.0
    return chosen, covariance[column, column]


def told(table, names: dict[str, str]) -> list[str]:
    """Return a sentence for each parameter: what would determine it best, if anything would."""
    lines = []
    for coordinate, rows in table.groupby("coordinate", sort=False):
        best = rows.iloc[0]
        name = names[coordinate]
        if not best["se_with"] <= WORTH * best["se"] or not best["days"]:
            lines.append(f"{name}: no further count or concentration under these doses would")
            continue
        days = ", ".join(f"{day:g}" for day in best["days"])
        now = f"from {best['se']:.2f} " if np.isfinite(best["se"]) else ""
        lines.append(
            f"{name}: {best['observation']} (day {days}) would bring its standard error {now}to "
            f"{best['se_with']:.2f}"
        )
    return lines
