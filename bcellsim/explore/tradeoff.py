"""Trade-off of drug against suppression: which schedules no other one beats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bcellsim.metrics import METRICS
from bcellsim.names import unknown

if TYPE_CHECKING:
    import pandas as pd

#: What a schedule costs.
COSTS = ("cumulative_dose", "n_doses", "n_visits")
_PANEL = ("threshold", "recovery", "induction", "by", "group")


def common_cost(table: pd.DataFrame) -> str:
    """Return the cost by which all schedules of a table can be compared.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `explore`.

    Returns
    -------
    str
        ``"cumulative_dose"``, or ``"n_doses"`` where doses are per kg or m2, or of several drugs.
    """
    summed = len(_drugs(table)) <= 1 and table["cumulative_dose"].notna().all()
    return "cumulative_dose" if summed else "n_doses"


def pareto(
    table: pd.DataFrame, *, cost: str = "cumulative_dose", gain: str = "suppressed_throughout"
) -> pd.DataFrame:
    """Mark the schedules that no other one beats in both cost and gain.

    Estimates are compared as they are: look at the Monte-Carlo error before calling a schedule
    dominated that is close to another.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `explore`.
    cost : str
        A column of which less is wanted: ``"cumulative_dose"`` [mg], ``"n_doses"`` or
        ``"n_visits"``.
    gain : str
        A column of a metric, such as ``"suppressed_throughout"`` or ``"days_above_mean"``; whether
        more or less of it is wanted is a property of the metric.

    Returns
    -------
    pandas.DataFrame
        The table with two columns more: ``pareto``, False where another schedule of the same
        threshold (and group) costs no more and gains no less, and one of them strictly; and
        ``dominated_by``, the name of the cheapest such schedule with the largest gain.

    Raises
    ------
    ValueError
        If a column is unknown, has no direction, or holds no number for a schedule, or amounts of
        several drugs are the cost.
    """
    if cost not in COSTS:
        raise ValueError(unknown("cost", cost, COSTS))
    if cost == "cumulative_dose" and len(drugs := _drugs(table)) > 1:
        raise ValueError(
            f"{cost}: amounts of {' and of '.join(drugs)} are not comparable; use n_doses or "
            "n_visits"
        )
    sign = _sign(gain, table)
    for column in (cost, gain):
        lacking = table["regimen"][table[column].isna()]
        if len(lacking):
            more = "; doses per kg or m2 have no sum: use n_doses" if column == cost else ""
            raise ValueError(f"{column} of {lacking.iloc[0]} is not defined{more}")
    found = table.assign(pareto=True, dominated_by="")
    panel = [key for key in _PANEL if key in table]
    for _, rows in table.groupby(panel, sort=False, dropna=False):
        costs, gains = rows[cost].to_numpy(float), sign * rows[gain].to_numpy(float)
        for i, index in enumerate(rows.index):
            beats = (costs <= costs[i]) & (gains >= gains[i])
            beats &= (costs < costs[i]) | (gains > gains[i])
            if beats.any():
                best = np.lexsort((costs, -gains, ~beats))[0]
                found.loc[index, "pareto"] = False
                found.loc[index, "dominated_by"] = rows["regimen"].iloc[best]
    return found


def _drugs(table):
    """Return the drugs of a table of several models."""
    return list(table["drug"].unique()) if "drug" in table else []


def _sign(gain, table):
    """Return 1 where more of a column is wanted, -1 where less."""
    if gain not in table:
        raise ValueError(unknown("column", gain, [str(column) for column in table]))
    names = [name for name in METRICS if gain == name or gain.startswith(f"{name}_")]
    goal = METRICS[max(names, key=len)].goal if names else None
    if goal is None:
        known = [name for name, metric in METRICS.items() if metric.goal]
        raise ValueError(
            f'it is not said whether more or less of "{gain}" is wanted; it is of '
            f"{', '.join(known)}"
        )
    return 1.0 if goal == "max" else -1.0
