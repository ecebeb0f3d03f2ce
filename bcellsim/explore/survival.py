"""Times to an event with right-censoring: Kaplan-Meier tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bcellsim.explore.summary import Z95
from bcellsim.names import unknown

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ("regimen", "model", "threshold", "recovery", "induction")


def survival(table: pd.DataFrame, event: str = "time_to_escape") -> pd.DataFrame:
    """Return the Kaplan-Meier estimate of a time to an event, for each schedule and threshold.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `explore` with ``per_subject=True``. Rows chosen from it give a subgroup.
    event : str
        ``"time_to_escape"``: remaining suppressed from the opening of the window;
        ``"time_to_repletion"``: remaining depleted from the last dose;
        ``"time_to_depletion"``: not yet depleted since the first dose.

    Returns
    -------
    pandas.DataFrame
        A row for each time [day] at which an event or a censoring falls, and for time 0: ``time
        at_risk events censored share low high`` (share without the event, 95 % interval by
        Greenwood's formula on the log-log scale), ``n_subjects``, and ``n_undefined``, the number
        of subjects for whom the time is not defined (never depleted), who are left out.

    Raises
    ------
    ValueError
        If the table is not one of subjects, or the event is unknown.
    """
    import pandas as pd

    events = [c.removesuffix("_censored_at") for c in table if c.endswith("_censored_at")]
    if "subject" not in table or not events:
        raise ValueError("a table of subjects is wanted: explore(..., per_subject=True)")
    if event not in events:
        raise ValueError(unknown("time to an event", event, events))
    keys = [key for key in _KEYS if key in table]
    frames = []
    for values, rows in table.groupby(keys, sort=False, dropna=False):
        curve = pd.DataFrame(kaplan_meier(rows[event].to_numpy(), rows[f"{event}_censored_at"]))
        for position, key in enumerate(keys):
            curve.insert(position, key, values[position])
        frames.append(curve.assign(event=event))
    found = pd.concat(frames, ignore_index=True)
    found.attrs = dict(table.attrs)
    return found


def kaplan_meier(time: np.ndarray, censored_at: np.ndarray) -> dict[str, np.ndarray]:
    """Return the product-limit estimate (Kaplan & Meier 1958, doi:10.2307/2281868).

    Parameters
    ----------
    time : float array (n_subjects,)
        Time of the event [day]; infinite where it was not reached, NaN where not defined.
    censored_at : float array (n_subjects,)
        When each subject is censored without it [day].
    """
    time, censored_at = np.asarray(time, dtype=float), np.asarray(censored_at, dtype=float)
    defined = ~(np.isnan(time) | np.isnan(censored_at))
    n, n_all = int(defined.sum()), len(time)
    happened = np.isfinite(time[defined])
    last = np.where(happened, time[defined], censored_at[defined])
    times, place = np.unique(np.append(0.0, last), return_inverse=True)
    events = np.bincount(place[1:], happened, len(times)).astype(int)
    ended = np.bincount(place[1:], minlength=len(times))
    at_risk = n - np.concatenate([[0], np.cumsum(ended)[:-1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.cumprod(np.where(at_risk > 0, 1.0 - events / at_risk, 1.0))
        greenwood = np.cumsum(np.where(events > 0, events / (at_risk * (at_risk - events)), 0.0))
        half = Z95 * np.sqrt(greenwood) / np.abs(np.log(share))
        low, high = share ** np.exp(half), share ** np.exp(-half)
    sure = (share == 1.0) | (share == 0.0)
    return {
        "time": times,
        "at_risk": at_risk,
        "events": events,
        "censored": ended - events,
        "share": share if n else np.full(len(times), np.nan),
        "low": np.where(sure, share, low) if n else np.full(len(times), np.nan),
        "high": np.where(sure, share, high) if n else np.full(len(times), np.nan),
        "n_subjects": np.full(len(times), n),
        "n_undefined": np.full(len(times), n_all - n),
    }
