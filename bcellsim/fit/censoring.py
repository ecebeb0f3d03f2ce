"""The rows of a table as the likelihood takes them, and what is done with censored ones.

The one place of the fit that reads the columns of an observation. Methods are numbered as by Beal
2001 (doi:10.1023/A:1012299115260).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bcellsim.fit.likelihood import ErrorModel, Rows
from bcellsim.names import unknown
from bcellsim.observations import fitted_rows

#: What each method does with left-censored rows.
METHODS = {
    "M1": "dropped",
    "M3": "kept, each with its probability",
    "M5": "replaced by half the limit",
    "M6": "of each run one replaced by half the limit, the others dropped",
    "M7": "replaced by 0",
}


_KEPT = ("time", "clock", "output", "scale", "volume", "line")


def rows_of(table, method: str = "M3") -> Rows:
    """Return the observed values of one subject.

    Parameters
    ----------
    table : DataFrame
        Rows of `read_observations`, of one subject.
    method : str
        A key of `METHODS`: what is done with left-censored rows.

    Raises
    ------
    ValueError
        If there is none, the method is unknown, or it cannot be used with these rows.
    """
    if method not in METHODS:
        raise ValueError(unknown("method for censored rows", str(method), METHODS))
    seen = fitted_rows(table)
    if not len(seen):
        raise ValueError("the data hold no observation to fit (a row with DV, EVID 0)")
    rows = Rows(
        time=seen["TIME"].to_numpy(dtype=np.float64),
        clock=seen["CLOCK"].to_numpy(dtype=np.float64),
        output=seen["DVID"].to_numpy(dtype=object),
        observed=seen["DV"].to_numpy(dtype=np.float64),
        lower=seen["LOWER"].to_numpy(dtype=np.float64),
        upper=seen["UPPER"].to_numpy(dtype=np.float64),
        cens=seen["CENS"].to_numpy(dtype=np.int64),
        scale=seen["SCALE"].to_numpy(dtype=np.float64),
        volume=seen["VOLUME"].to_numpy(dtype=np.float64),
        line=seen["LINE"].to_numpy(),
        method=method,
    )
    bad = np.flatnonzero((rows.cens != 0) & ~(rows.lower < rows.upper))
    if len(bad):
        raise ValueError(
            f"line {rows.line[bad[0]]}: a censored value between {rows.lower[bad[0]]:g} and "
            f"{rows.upper[bad[0]]:g}; LIMIT must be on the other side of DV"
        )
    return rows if method == "M3" else _substituted(rows, method)


def _substituted(rows, method):
    """Return the rows with the left-censored ones dropped or replaced."""
    left = rows.cens == 1
    other = (rows.cens == -1) | (left & (rows.lower > 0))
    if other.any():
        raise ValueError(
            f'censored="{method}" is for rows below a limit; line {rows.line[other][0]} is '
            'censored on the other side or between two limits: use "M3"'
        )
    keep = ~left
    put = {"M5": 0.5, "M6": 0.5, "M7": 0.0}.get(method)
    if method in ("M5", "M7"):
        keep = np.ones_like(left)
    elif method == "M6":
        for output in set(rows.output):
            keep[_one_a_run(rows, output)] = True
    if not keep.any():
        raise ValueError(f'censored="{method}": every observation is censored and would be dropped')
    replaced = keep & left
    value = np.where(replaced, (put or 0.0) * rows.observed, rows.observed)
    told = (
        f"{int(left.sum())} censored rows: {int((left & ~keep).sum())} dropped, "
        f"{int(replaced.sum())} replaced ({method}, for comparison only: the estimates are biased; "
        "M3 uses what the rows say)",
    )
    changed = {name: getattr(rows, name)[keep] for name in _KEPT}
    value = value[keep]
    return replace(
        rows, **changed, observed=value, lower=value, upper=value,
        cens=np.where(replaced, 0, rows.cens)[keep], told=told,
    )  # fmt: skip


def _one_a_run(rows, output):
    """Return of each run of censored rows the first, or the last where the run begins the data."""
    at = np.flatnonzero(rows.output == output)
    found, k = [], 0
    while k < len(at):
        end = k
        while end < len(at) and rows.cens[at[end]] == 1:
            end += 1
        if end > k:
            found.append(at[end - 1] if k == 0 else at[k])
        k = end + 1
    return found


def check_values(rows: Rows, errors: dict[str, ErrorModel]) -> None:
    """Raise ValueError for a value that its error model cannot have."""
    for output, error in errors.items():
        own = rows.output == output
        low = rows.observed < 0 if not _needs_positive(error) else rows.observed <= 0
        bad = np.flatnonzero(own & (rows.cens == 0) & low)
        if len(bad):
            advice = (
                'declare LLOQ, or take error="poisson" or "negative-binomial" with volume='
                if output == "bcell"
                else "declare LLOQ"
            )
            raise ValueError(
                f"line {rows.line[bad[0]]}: {output} = {rows.observed[bad[0]]:g} cannot be under a "
                f"{error.form} error; {advice}"
            )


def _needs_positive(error):
    return error.form in ("log-normal", "proportional")
