"""One subject of a table: its doses as a regimen, what to fit, and its covariates in time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bcellsim.names import unknown
from bcellsim.observations.cells import is_missing, number
from bcellsim.observations.columns import NOTHING
from bcellsim.regimen import Event, Regimen

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = [name for name in NOTHING if name != "DATE"]
_MODELLED = {-1: "rate", -2: "duration"}
_SIZES = {"mg/kg": "WT", "mg/m2": "BSA"}
#: How a covariate holds between its records.
_HELD = {
    "locf": "holds its last value", "nocb": "has its next value", "linear": "changes linearly",
}  # fmt: skip
_OF_COVARIATES = ("covariate-of-model", "covariate-missing")
# A covariate that changes linearly is cut into pieces within which it changes by this share.
_PIECE = 0.01
_MOST_PIECES = 1000  # between two records, where a value falls to a small part of itself


class Course(NamedTuple):
    """Covariates in time, piece by piece.

    Parameters
    ----------
    start : float array (n_pieces,)
        CLOCK at which each piece begins; the first one is -inf.
    values : dict of str to float array (n_pieces,)
        Value of each covariate in each piece.
    closed : bool
        Whether a piece holds at its end (``nocb``) rather than at its start.
    """

    start: np.ndarray
    values: dict[str, np.ndarray]
    closed: bool


def _require_columns(table):
    for name in _COLUMNS:
        if name not in table.columns:
            raise ValueError(
                f"the table must come from read_observations: column {name} is missing"
            )


def one_subject(table: pd.DataFrame, subject: str | None = None) -> pd.DataFrame:
    """Return the rows of one subject; it must be named where there are several."""
    _require_columns(table)
    subjects = list(dict.fromkeys(table["ID"]))
    if subject is None:
        if len(subjects) > 1:
            raise ValueError(
                f"the data hold {len(subjects)} subjects ({', '.join(subjects[:5])}"
                f"{'...' if len(subjects) > 5 else ''}); an individual fit takes one: name its "
                "subject (--subject)"
            )
        return table
    if str(subject) not in subjects:
        raise ValueError(unknown("subject", str(subject), subjects))
    return table[table["ID"] == str(subject)]


def scaled_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows to predict, of EVID 0 and 2, and SCALE.

    A prediction of a row is that of its DVID at its CLOCK times SCALE: 1, or of a percentage of
    lymphocytes 100 / ALC. Of a percentage of baseline SCALE is NaN: 100 / the predicted baseline.
    """
    _require_columns(table)
    rows = table[table["EVID"].isin((0, 2))]
    scale = np.where(rows["BASIS"] == "lymphocytes", 100.0 / rows["ALC"], 1.0)
    return rows.assign(SCALE=np.where(rows["BASIS"] == "baseline", np.nan, scale))


def fitted_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the observations to compare with predictions, with SCALE as of `scaled_rows`.

    LOWER and UPPER are the bounds of a censored row, infinite where there is none; of an exact row
    both are DV.
    """
    rows = scaled_rows(table)
    rows = rows[(rows["EVID"] == 0) & (rows["MDV"] == 0) & rows["DV"].notna()]
    value, side, other = (rows[name].to_numpy(np.float64) for name in ("DV", "CENS", "LIMIT"))
    none = np.isnan(other)
    return rows.assign(
        LOWER=np.where(side == 1, np.where(none, -math.inf, other), value),
        UPPER=np.where(side == -1, np.where(none, math.inf, other), value),
    )


def regimen_of(table: pd.DataFrame, *, default_route: str) -> Regimen:
    """Return the doses of one subject's rows, resets and steady states as a regimen on CLOCK.

    A reset, and a steady state that replaces the state, cancel the further doses (ADDL) of the rows
    before them. A dose per body size is given in mg where the table has WT or BSA, by its value
    at the time of each dose.

    Parameters
    ----------
    table : DataFrame
        Rows of `read_observations`, of one subject.
    default_route : str
        Route of doses whose CMT is empty.

    Raises
    ------
    ValueError
        If there is no dose.
    """
    _require_columns(table)
    events: list[Event] = []
    for row in table[table["EVID"].isin((1, 3, 4))].itertuples():
        time = float(row.CLOCK)
        if row.EVID in (3, 4):
            events = [*_cut(events, time), Event("reset", time, line=int(row.LINE))]
        if row.EVID == 3:
            continue
        dose = _dose(row, time, default_route)
        if row.SS:
            events = _cut(events, time) if row.SS == 1 else events
            events += _steady(table, dose, superposed=row.SS == 2)
        if row.AMT:
            events += _in_mg(table, dose)
    if not any(event.kind in ("dose", "steady") for event in events):
        raise ValueError("the data hold no dose (a row with AMT above 0, EVID 1)")
    return Regimen(tuple(events), label="doses given")


def _dose(row, time, default_route):
    return Event(
        kind="dose", time=time, amount=float(row.AMT or row.RATE), unit=row.PER,
        route=row.CMT or default_route, duration=float(row.DUR), every=float(row.II) or None,
        count=int(row.ADDL) + 1, fixed_rate=row.RATE > 0, modelled=_MODELLED.get(row.RATE, ""),
        line=int(row.LINE),
    )  # fmt: skip


def _cut(events: list[Event], time: float) -> list[Event]:
    """Return events without those of an earlier row that are to come at or after a time."""
    kept = []
    for event in events:
        if event.count > 1:
            n = sum(1 for day in event.occurrences() if day < time)
            kept += event.piece(0, max(n, 1))
        elif event.time <= time:  # one of a row's doses by body size may be still to come
            kept.append(event)
    return kept


def _steady(table, dose, *, superposed):
    steady = replace(dose, kind="steady", count=1, superposed=superposed)
    return [replace(part, kind="steady", every=dose.every) for part in _in_mg(table, steady)]


def _in_mg(table, dose):
    """Return a dose in mg: as it is, or its occurrences by the body size at the time of each."""
    size = _SIZES.get(dose.unit)
    if not size or size not in table.columns:
        return [dose]
    times = np.array(list(dose.occurrences()))
    sizes = covariate_at(table, size, times)
    if np.isnan(sizes).any():
        raise ValueError(f"{_source(table)}: a dose in {dose.unit} needs {size}, which is missing")
    return [
        replace(dose, time=float(t), amount=dose.amount * float(x), unit="mg", count=1, every=None)
        for t, x in zip(times, sizes, strict=True)
    ]


def _source(table):
    return table.attrs.get("source", "the data")


def _records(table, name):
    """Return (clock, value, line) of each record of a covariate."""
    found = []
    for clock, line, cell in table[["CLOCK", "LINE", name]].itertuples(index=False):
        if is_missing(cell):
            continue
        try:
            found.append((clock, number(str(cell)), line))
        except ValueError as error:
            raise ValueError(f"{_source(table)}, line {line}, column {name}: {error}") from None
    return found


def _names(table, names):
    return table.columns.intersection(list(names)).difference(list(NOTHING), sort=False)


def covariate_at(table: pd.DataFrame, name: str, clocks: np.ndarray) -> np.ndarray:
    """Return one covariate of one subject at times, by the rule of the table.

    ``locf`` holds the last record, ``nocb`` the next one, ``linear`` what lies between; before the
    first and after the last record it is that record's. NaN where there is none.
    """
    clocks = np.asarray(clocks, dtype=np.float64)
    records = _records(table, name)
    if not records:
        return np.full(clocks.shape, math.nan)
    times, values, _ = np.array(records, dtype=np.float64).T
    rule = table.attrs.get("covariate_rule", "locf")
    if rule == "linear":
        return np.interp(clocks, *_last_of_each(times, values))
    if rule == "nocb":
        return values[np.minimum(np.searchsorted(times, clocks, side="left"), len(times) - 1)]
    return values[np.maximum(np.searchsorted(times, clocks, side="right") - 1, 0)]


def _last_of_each(times, values):
    last = np.append(np.diff(times) > 0, True)
    return times[last], values[last]


def covariate_course(table: pd.DataFrame, names: Iterable[str]) -> Course:
    """Return the covariates of one subject in time, piece by piece, by the rule of the table.

    A ``linear`` covariate is cut into pieces within which it changes by at most 1 %, each with its
    value in the middle.

    Parameters
    ----------
    table : DataFrame
        Rows of `read_observations`, of one subject.
    names : iterable of str
        The covariates wanted, those of a model; the others of the table are left out.

    Raises
    ------
    ValueError
        If one is text.
    """
    _require_columns(table)
    rule = table.attrs.get("covariate_rule", "locf")
    records = {name: _records(table, name) for name in _names(table, names)}
    records = {name: found for name, found in records.items() if found}
    cuts = sorted({t for found in records.values() for t in _cuts(found, rule)})
    start = np.array([-math.inf, *cuts])
    if rule == "linear":
        end = np.append(cuts, math.inf)
        with np.errstate(invalid="ignore"):  # where both ends are infinite
            middle = np.where(np.isinf(end), start, 0.5 * (start + end))
        at = np.where(np.isinf(start), end, middle)
    elif rule == "nocb":  # what holds at the end of each piece
        at = np.append(cuts, math.inf)
    else:
        at = start
    at = np.clip(at, -1e12, 1e12)
    values = {name: covariate_at(table, name, at) for name in records}
    return Course(start, values, rule == "nocb")


def _cuts(found, rule):
    """Return the clocks at which a covariate takes another value."""
    times, values, _ = np.array(found, dtype=np.float64).T
    if rule == "linear":
        times, values = _last_of_each(times, values)
    changes = np.flatnonzero(np.diff(values))
    if rule == "locf":
        return times[changes + 1].tolist()
    if rule == "nocb":
        return times[changes].tolist()
    cuts = []
    for i in changes:
        ends = np.abs(values[i : i + 2])
        n = math.ceil(abs(values[i + 1] - values[i]) / (_PIECE * (ends.min() or ends.max())))
        n = min(n, _MOST_PIECES)
        cuts += np.linspace(times[i], times[i + 1], n + 1).tolist()
    return cuts


def day_zero(table: pd.DataFrame) -> datetime | None:
    """Return the date of TIME 0 of one subject's rows; None where the file has no dates."""
    if "DATE" not in table.columns or not len(table):
        return None
    first = table.iloc[0]
    return first["DATE"].to_pydatetime() - timedelta(days=float(first["TIME"]))


def remarks(table: pd.DataFrame, given: Iterable[str] = ()) -> list[str]:
    """Return what a report must say of one subject's rows: sentences, each on its own.

    Rows that are not fitted and why, replicates, several counts before the first dose, percentages
    and lymphocyte counts used, the rule for covariates that change, dates. That a covariate is
    missing is not said of those `given` beside the table.
    """
    _require_columns(table)
    rows, lines = fitted_rows(table), set(table["LINE"])
    said = []
    for basis, some in rows[rows["BASIS"] != ""].groupby("BASIS"):
        through = (
            f"the lymphocyte count of the sample ({some['ALC'].min():g} to {some['ALC'].max():g} "
            "per uL)" if basis == "lymphocytes" else "the predicted baseline"
        )  # fmt: skip
        what = "count is" if len(some) == 1 else "counts are"
        said.append(f"{len(some)} {what} % of {basis}, compared through {through}")
    repeats = int((rows["REP"] > 1).sum())
    if repeats:
        what = "observation repeats" if repeats == 1 else "observations repeat"
        said.append(f"{repeats} {what} another of the same time")
    if day_zero(table) is not None:
        said.append(f"day 0 is {day_zero(table):%Y-%m-%d}")
    rule = table.attrs.get("covariate_rule", "locf")
    said.append(f"between its records a covariate {_HELD[rule]} ({rule})")
    for fault in table.attrs.get("faults", ()):
        if fault["rule"] in _OF_COVARIATES and fault["column"] in given:
            continue
        if fault["line"] is None:
            said.append(fault["message"])
        elif fault["line"] in lines:
            said.append(f"line {fault['line']}: {fault['message']}")
    return said
