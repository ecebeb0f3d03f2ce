"""Global sensitivity: which factors a metric depends on, by Sobol indices or Morris screening."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bcellsim.names import unknown
from bcellsim.sweep.result import Sweep, point_means
from bcellsim.sweep.salib import OF_SENSITIVITY, problem_of, salib, shares

if TYPE_CHECKING:
    import pandas as pd

#: Bootstrap samples behind the confidence intervals.
_RESAMPLES = 1000


def sensitivity(done: Sweep, metric: str) -> pd.DataFrame:
    """Return how much each factor moves a metric, with 95 % confidence intervals.

    Parameters
    ----------
    done : Sweep
        A sweep whose design has ``sampling = "saltelli"`` or ``"morris"``.
    metric : str
        A metric of it; of each point the mean over the subjects is taken, a share for
        ``suppressed_throughout``.

    Returns
    -------
    pandas.DataFrame
        A row for each model, threshold and factor. Of Saltelli's design the Sobol indices: ``s1``
        and ``st``, the share of the variance that the factor explains alone, and with all its
        interactions. Of Morris's: ``mu_star`` (mean of the sizes of elementary effects), ``mu``
        and ``sigma``, in the unit of the metric. ``_ci`` is the half width of an interval.

    Raises
    ------
    ValueError
        If the design is another one, or the metric is not a finite number at every point.

    References
    ----------
    Saltelli et al. 2010 (doi:10.1016/j.cpc.2009.09.018); Morris 1991
    (doi:10.1080/00401706.1991.10484804); computed by SALib (Herman & Usher 2017,
    doi:10.21105/joss.00097).
    """
    import pandas as pd

    spec = done.manifest["design"]
    if spec["sampling"] not in OF_SENSITIVITY:
        raise ValueError(
            f'the design has sampling = "{spec["sampling"]}"; sensitivity needs "saltelli" or '
            '"morris"'
        )
    if metric not in done.metrics:
        raise ValueError(unknown("metric", metric, done.metrics))
    names = [name for name in done.manifest["factors"] if name != "model"]
    u = shares(spec["sampling"], len(names), spec["seed"], spec["points"])
    rows = []
    for level, means in point_means(done, metric).items():
        for k, model in enumerate(spec["model"]):
            values = means[k * len(u) : (k + 1) * len(u)]
            wrong = np.count_nonzero(~np.isfinite(values))
            if wrong:
                raise ValueError(
                    f"{metric} at threshold {level:g} is not a finite number at {wrong} of "
                    f"{len(u)} points (failed or not reached): choose another metric, or narrower "
                    "ranges"
                )
            for row in _indices(spec, names, u, values):
                rows.append({"model": model, "threshold": level, "metric": metric, **row})
    table = pd.DataFrame(rows)
    table = table if len(spec["model"]) > 1 else table.drop(columns="model")
    table.attrs["source"] = done.source
    return table


def _indices(spec, names, u, values):
    """Return a row a factor."""
    analyze, problem = salib().analyze, problem_of(names)
    if np.ptp(values) == 0:  # nothing varies, and shares of no variance are not defined
        keys = ("mu", "mu_star", "mu_star_ci", "sigma") if spec["sampling"] == "morris" else (
            "s1", "s1_ci", "st", "st_ci")  # fmt: skip
        none = 0.0 if spec["sampling"] == "morris" else np.nan
        return [{"factor": name, **dict.fromkeys(keys, none)} for name in names]
    options = {"num_resamples": _RESAMPLES, "seed": spec["seed"]}
    if spec["sampling"] == "morris":
        found = analyze.morris.analyze(problem, u, values, num_levels=4, **options)
        keys = {"mu": "mu", "mu_star": "mu_star", "mu_star_ci": "mu_star_conf", "sigma": "sigma"}
    else:
        found = analyze.sobol.analyze(problem, values, calc_second_order=False, **options)
        keys = {"s1": "S1", "s1_ci": "S1_conf", "st": "ST", "st_ci": "ST_conf"}
    return [
        {"factor": name, **{key: float(found[theirs][j]) for key, theirs in keys.items()}}
        for j, name in enumerate(names)
    ]
