"""Which parameters drive an outcome over a population: rank correlations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bcellsim.explore.groups import values_of
from bcellsim.explore.summary import Z95
from bcellsim.metrics import METRICS
from bcellsim.names import unknown
from bcellsim.population import Population

if TYPE_CHECKING:
    import pandas as pd

#: Fewer subjects have no interval.
_FEWEST = 10


def drivers(
    table: pd.DataFrame, population: Population, *, of: str = "time_to_repletion"
) -> pd.DataFrame:
    """Rank the parameters and covariates of subjects by their rank correlation with an outcome.

    Each is looked at alone: parameters that vary together share an effect. What is not reached is
    longer than all that is, whenever it was censored.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `explore` on these subjects with ``per_subject=True``; of several models the rows
        of the model of `population`.
    population : Population
        The subjects.
    of : str
        The metric.

    Returns
    -------
    pandas.DataFrame
        ``regimen threshold parameter rank_correlation low high n_subjects n_defined reached_share
        of``: Spearman's coefficient with its 95 % interval (Bonett & Wright 2000,
        doi:10.1007/BF02294183), over the subjects for whom the metric is defined, strongest first.
        Parameters that do not vary are left out; NaN where the metric does not vary, or fewer than
        ten subjects have it.

    Raises
    ------
    ValueError
        If the table is not one of these subjects, the metric is unknown, or nothing varies.
    """
    import pandas as pd

    if "subject" not in table:
        raise ValueError("a table of subjects is wanted: explore(..., per_subject=True)")
    if of not in table or of not in METRICS:
        raise ValueError(unknown("metric", of, [name for name in METRICS if name in table]))
    if "model" in table:
        table = table[table["model"] == population.model.name]
    names = [*population.model.structure.parameters, *population.covariates]
    values = {name: values_of(population, name) for name in names}
    varying = {name: value for name, value in values.items() if np.ptp(value) > 0}
    if not varying:
        raise ValueError("no parameter or covariate varies between the subjects")
    frames = []
    for (regimen, threshold), rows in table.groupby(["regimen", "threshold"], sort=False):
        if not np.array_equal(rows["subject"], population.subjects):
            raise ValueError(f"the rows of {regimen} are not those of the subjects of population")
        frame = pd.DataFrame([{"parameter": name, **_correlation(value, rows[of].to_numpy(float))}
                              for name, value in varying.items()])  # fmt: skip
        frame.insert(0, "regimen", regimen)
        frame.insert(1, "threshold", threshold)
        frames.append(frame.sort_values("rank_correlation", key=abs, ascending=False))
    found = pd.concat(frames, ignore_index=True).assign(of=of)
    found.attrs = dict(table.attrs)
    return found


def _correlation(value, outcome):
    """Return Spearman's coefficient, its interval, and over whom."""
    from scipy.stats import rankdata

    defined = ~np.isnan(outcome)
    x, y = rankdata(value[defined]), rankdata(outcome[defined])
    n, r, half = len(x), np.nan, np.nan
    if n >= _FEWEST and np.ptp(x) > 0 and np.ptp(y) > 0:
        r = float(np.corrcoef(x, y)[0, 1])
        half = Z95 * np.sqrt((1.0 + r**2 / 2.0) / (n - 3))
    z = np.arctanh(np.clip(r, -1.0 + 1e-12, 1.0 - 1e-12))
    reached = np.isfinite(outcome[defined]).mean() if n else np.nan
    return {
        "rank_correlation": r, "low": float(np.tanh(z - half)), "high": float(np.tanh(z + half)),
        "n_subjects": len(outcome), "n_defined": n, "reached_share": float(reached),
    }  # fmt: skip
