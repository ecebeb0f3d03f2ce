"""Observed counts and doses: NONMEM-style tables, every mistake named by line and column."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.names import unknown
from bcellsim.regimen import Event, Regimen
from bcellsim.structures import OUTPUTS
from bcellsim.units import convert

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = ("TIME", "AMT", "RATE", "DUR", "EVID", "ADDL", "II", "MDV", "CENS", "LIMIT", "BLQ",
            "LLOQ")  # fmt: skip
_TEXTS = ("ID", "DV", "CMT", "DVID", "UNIT")
_REFUSED = {
    "SS": "steady-state doses are not supported; write the doses out",
    "OCC": "occasions are not supported yet",
    "DATE": "dates are not read yet; give TIME in days",
}
_MISSING = {"", ".", "NA", "nan", "NaN"}


def read_observations(
    path: str | Path, *, unit: str = "cells/uL", lloq: float | None = None
) -> pd.DataFrame:
    """Read a table of doses and observations.

    Columns (without regard to case): ID and TIME [day], DV, and where needed AMT [mg], EVID (0 or
    1), CMT (a route, ``sc`` or ``iv``), RATE [mg/day] or DUR [day], ADDL and II, MDV, DVID (an
    output, ``bcell`` by default), UNIT of DV, CENS (0 or 1), LIMIT, BLQ, LLOQ. A DV of ``<5`` is a
    count below 5. Every other column is a covariate, carried through.

    Parameters
    ----------
    path : str or Path
        The CSV file.
    unit : str
        Unit of DV of counts where there is no UNIT column.
    lloq : float, optional
        Lower limit of quantification [cells/uL] of every count; a count below it is censored.

    Returns
    -------
    pandas.DataFrame
        Columns ID, TIME, EVID, AMT, DUR, CMT, ADDL, II, DVID, DV, CENS, LIMIT, LINE, then the
        covariates; DV in internal units.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        For the first thing that is wrong, with file, line and column.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no data file {path}")
    table = _read_text(path)
    reader = _Reader(path, table)
    rows = [reader.row(i, unit, lloq) for i in range(len(table))]
    _check_subjects(path, rows)
    import pandas as pd

    result = pd.DataFrame(rows)
    for name in reader.covariates:
        result[name] = [reader.number(i, name) for i in range(len(table))]
    result.attrs["source"] = str(path)
    return result


def _read_text(path):
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True,
                            encoding="utf-8-sig")  # fmt: skip
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path}: the file is empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a CSV table: {str(error).strip()}") from None
    table.columns = [str(column).strip().upper() for column in table.columns]
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise ValueError(f"{path}, line 1: column {repeated[0]} stands there twice")
    if not len(table):
        raise ValueError(f"{path}: the table has no rows")
    for column in ("ID", "TIME"):
        if column not in table.columns:
            raise ValueError(
                f"{path}, line 1: there is no column {column}; columns are "
                f"{', '.join(table.columns)}"
            )
    for column, why in _REFUSED.items():
        if column in table.columns and set(table[column]) - _MISSING - {"0"}:
            raise ValueError(f"{path}, column {column}: {why}")
    return table


class _Reader:
    """Reads the rows of one table, with the file, line and column in every message."""

    def __init__(self, path, table):
        self.path, self.table = path, table
        self.covariates = [c for c in table.columns if c not in (*_NUMBERS, *_TEXTS, *_REFUSED)]

    def fail(self, i, column, message):
        raise ValueError(f"{self.path}, line {i + 2}, column {column}: {message}")

    def text(self, i, column):
        given = self.table[column].iloc[i].strip() if column in self.table.columns else ""
        return "" if given in _MISSING else given

    def number(self, i, column, default=math.nan):
        given = self.text(i, column)
        if not given:
            return default
        try:
            value = float(given)
        except ValueError:
            hint = "; write decimals with a point" if re.fullmatch(r"-?\d+,\d+", given) else ""
            self.fail(i, column, f'"{given}" is not a number{hint}')
        if not math.isfinite(value):
            self.fail(i, column, f"{given} is not a finite number")
        return value

    def row(self, i, unit, lloq):
        time = self.number(i, "TIME")
        if math.isnan(time):
            self.fail(i, "TIME", "the time is missing")
        if not self.text(i, "ID"):
            self.fail(i, "ID", "the subject is missing")
        amount = self.number(i, "AMT", 0.0)
        rate = self.number(i, "RATE", 0.0)
        event = self.number(i, "EVID", 1.0 if amount or rate else 0.0)
        if event not in (0, 1):
            self.fail(i, "EVID", f"{event:g} is not supported; 0 (observation) and 1 (dose) are")
        common = {"ID": self.text(i, "ID"), "TIME": time, "EVID": int(event)}
        dose = self._dose(i, amount, rate) if event else self._no_dose(i, amount)
        seen = self._nothing() if event else self._observation(i, unit, lloq)
        return {**common, **dose, **seen, "LINE": i + 2}

    def _no_dose(self, i, amount):
        if amount:
            self.fail(i, "AMT", f"an observation (EVID 0) has a dose of {amount:g}")
        return {"AMT": 0.0, "DUR": 0.0, "CMT": self.text(i, "CMT"), "ADDL": 0, "II": 0.0}

    def _dose(self, i, amount, rate):
        if amount <= 0:
            self.fail(i, "AMT", f"a dose of {amount:g}; it must be above 0")
        if rate < 0:
            self.fail(i, "RATE", f"{rate:g}: a rate above 0, or DUR, is wanted")
        duration = self.number(i, "DUR", 0.0)
        if duration < 0:
            self.fail(i, "DUR", f"{duration:g} is negative")
        if rate and duration:
            self.fail(i, "DUR", "both RATE and DUR are given; give one")
        further, interval = self.number(i, "ADDL", 0.0), self.number(i, "II", 0.0)
        if further < 0 or further != int(further):
            self.fail(i, "ADDL", f"{further:g}: a whole number of 0 or more is wanted")
        if bool(further) != (interval > 0):
            self.fail(i, "II", f"ADDL = {further:g} and II = {interval:g} contradict each other")
        if self.number(i, "MDV", 1.0) != 1:
            self.fail(i, "MDV", "a dose row has MDV = 0; it must be 1")
        return {
            "AMT": amount,
            "DUR": amount / rate if rate else duration,
            "CMT": self.text(i, "CMT"),
            "ADDL": int(further),
            "II": interval,
        }

    def _nothing(self):
        return {"DVID": "", "DV": math.nan, "CENS": 0, "LIMIT": math.nan}

    def _observation(self, i, unit, lloq):
        output = self.text(i, "DVID") or "bcell"
        if output not in OUTPUTS:
            self.fail(i, "DVID", unknown("output", output, OUTPUTS))
        given = self.text(i, "DV")
        if not given or self.number(i, "MDV", 0.0) == 1:
            return {**self._nothing(), "DVID": output}
        below = given.startswith("<")
        value = self._value(i, given.lstrip("< "), output, unit)
        censored = below or self.number(i, "CENS", 0.0) == 1
        if self.number(i, "CENS", 0.0) not in (0, 1):
            self.fail(i, "CENS", "only 0 and 1 (below DV) are supported")
        limit = self.number(i, "LLOQ", math.nan if lloq is None or output != "bcell" else lloq)
        if self.number(i, "BLQ", 0.0) == 1 or (not censored and value < limit):
            if math.isnan(limit):
                self.fail(i, "BLQ", "BLQ = 1 needs the limit in column LLOQ")
            value, censored = limit, True
        if value <= 0:
            self.fail(
                i, "DV",
                f"{given}: a count or concentration must be above 0; write an unquantifiable one "
                'as "<5", or declare LLOQ',
            )  # fmt: skip
        return {
            "DVID": output,
            "DV": value,
            "CENS": int(censored),
            "LIMIT": self.number(i, "LIMIT") if censored else math.nan,
        }

    def _value(self, i, given, output, unit):
        try:
            value = float(given)
        except ValueError:
            self.fail(i, "DV", f'"{given}" is not a number')
        if not math.isfinite(value):
            self.fail(i, "DV", f"{given} is not a finite number")
        stated = self.text(i, "UNIT") or (unit if output == "bcell" else OUTPUTS[output].unit)
        try:
            return convert(value, stated, OUTPUTS[output].unit)
        except ValueError as error:
            self.fail(i, "UNIT", str(error))


def _check_subjects(path, rows):
    """Rows of a subject stand together and its times do not go back."""
    seen, previous = set(), None
    for row in rows:
        if previous is None or row["ID"] != previous["ID"]:
            if row["ID"] in seen:
                raise ValueError(
                    f"{path}, line {row['LINE']}, column ID: subject {row['ID']} stands in two "
                    "separate blocks"
                )
            seen.add(row["ID"])
        elif row["TIME"] < previous["TIME"]:
            raise ValueError(
                f"{path}, line {row['LINE']}, column TIME: times out of order, {row['TIME']:g} "
                f"comes after {previous['TIME']:g}"
            )
        previous = row


def one_subject(table: pd.DataFrame, subject: str | None = None) -> pd.DataFrame:
    """Return the rows of one subject; it must be named where there are several."""
    subjects = list(dict.fromkeys(table["ID"]))
    if subject is None:
        if len(subjects) > 1:
            raise ValueError(
                f"the data hold {len(subjects)} subjects ({', '.join(subjects[:5])}...); "
                "an individual fit takes one: name it"
            )
        return table
    if str(subject) not in subjects:
        raise ValueError(unknown("subject", str(subject), subjects))
    return table[table["ID"] == str(subject)]


def regimen_of(table: pd.DataFrame, *, default_route: str) -> Regimen:
    """Return the doses of one subject's rows as a regimen.

    Parameters
    ----------
    table : DataFrame
        Rows of `read_observations`, of one subject.
    default_route : str
        Route of doses whose CMT is empty.
    """
    events = tuple(
        Event(
            kind="dose",
            time=float(row.TIME),
            amount=float(row.AMT),
            route=str(row.CMT).lower() or default_route,
            duration=float(row.DUR),
            every=float(row.II) or None,
            count=int(row.ADDL) + 1,
        )
        for row in table[table["EVID"] == 1].itertuples()
    )
    if not events:
        raise ValueError("the data hold no dose (a row with AMT above 0, EVID 1)")
    return Regimen(events, label="doses given")


def covariates_of(table: pd.DataFrame) -> dict[str, float]:
    """Return the covariates of one subject: its first value of each column that has one."""
    fixed = {"ID", "TIME", "EVID", "AMT", "DUR", "CMT", "ADDL", "II", "DVID", "DV", "CENS",
             "LIMIT", "LINE"}  # fmt: skip
    found = {}
    for name in table.columns:
        values = [] if name in fixed else table[name].dropna().unique()
        if len(values) > 1:
            raise ValueError(
                f"covariate {name} changes in time ({values[0]:g}, {values[1]:g}); covariates that "
                "change are not supported yet"
            )
        if len(values):
            found[name] = float(np.asarray(values)[0])
    return found
