"""Observed counts and doses: NONMEM-style tables, every mistake named by line and column."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bcellsim.names import unknown
from bcellsim.regimen import Event, Regimen
from bcellsim.structures import OUTPUTS
from bcellsim.units import convert, quantity

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("ID", "TIME", "EVID", "AMT", "DUR", "CMT", "ADDL", "II", "DVID", "DV", "CENS", "LIMIT",
            "LINE")  # fmt: skip
_REFUSED = {
    "SS": "steady-state doses are not supported; write the doses out",
    "OCC": "occasions are not supported yet",
    "DATE": "dates are not read yet; give TIME in days",
}
_READ = {*_COLUMNS, *_REFUSED, "RATE", "MDV", "UNIT", "BLQ", "LLOQ"}
_MISSING = ("", ".", "NA")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
#: What CMT may name: the route of a dose by its state, the output that shows a state.
_ROUTES = {"sc": "sc", "iv": "iv", "depot": "sc", "central": "iv"}
_SEEN = {**{name: name for name in OUTPUTS}, "central": "conc"}
#: A row without a dose and without an observation.
_NOTHING = {"AMT": 0.0, "DUR": 0.0, "CMT": "", "ADDL": 0, "II": 0.0,
            "DVID": "", "DV": math.nan, "CENS": 0, "LIMIT": math.nan}  # fmt: skip


def read_observations(
    path: str | Path, *, unit: str = "cells/uL", lloq: float | str | None = None
) -> pd.DataFrame:
    """Read a table of doses and observations.

    Columns (without regard to case): ID and TIME [day], DV, and where needed AMT [mg], EVID (0 or
    1), CMT (of a dose a route, ``sc`` or ``iv``, or the state ``depot`` or ``central``; of an
    observation an output or its state), RATE [mg/day] or DUR [day], ADDL and II, MDV, DVID (an
    output; by default that of CMT, or ``bcell``), CENS (0 or 1), LIMIT, BLQ (0 or 1), LLOQ, and the
    UNIT of DV, LIMIT and LLOQ. A DV of ``<5`` is a count below 5. Every other column is carried
    through: as numbers if all of it are, otherwise as the text it is.

    Parameters
    ----------
    path : str or Path
        The CSV file.
    unit : str
        Unit of counts where there is no UNIT column.
    lloq : float or str, optional
        Lower limit of quantification [cells/uL] of every count; a count below it is censored.

    Returns
    -------
    pandas.DataFrame
        Columns ID, TIME, EVID, AMT, DUR, CMT, ADDL, II, DVID, DV, CENS, LIMIT, LINE, then the
        others; DV and LIMIT in internal units.

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
    convert(1.0, unit, "cells/uL")  # an unknown unit is an error even where nothing is in it
    if lloq is not None:
        lloq = quantity(lloq, "cells/uL", what="lloq")
        if lloq <= 0:
            raise ValueError(f"lloq = {lloq:g}: a limit above 0 cells/uL is wanted")
    rows = _read_rows(path)
    records = [row.read(unit, lloq) for row in rows]
    _check_subjects(path, records)
    import pandas as pd

    table = pd.DataFrame(records)
    for name in rows[0].cells:
        if name not in _READ:
            table[name] = _carried(rows, name)
    table.attrs["source"] = str(path)
    return table


def _read_rows(path):
    """Return the rows under the header as `_Row`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells not in ([], [""])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a CSV table: {error}") from None
    if not lines:
        raise ValueError(f"{path}: the file is empty")
    (top, header), *lines = lines
    names = [cell.strip().upper() or f"COLUMN{i}" for i, cell in enumerate(header, 1)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path}, line {top}: column {name} stands there twice")
    for name in ("ID", "TIME"):
        if name not in names:
            raise ValueError(
                f"{path}, line {top}: there is no column {name}; columns are {', '.join(names)}"
            )
    if not lines:
        raise ValueError(f"{path}: the table has no rows")
    for line, cells in lines:
        if len(cells) > len(names):
            raise ValueError(
                f"{path}, line {line}: {len(cells)} values stand under {len(names)} columns"
            )
        cells += [""] * (len(names) - len(cells))
    return [
        _Row(path, line, dict(zip(names, map(str.strip, cells), strict=True)))
        for line, cells in lines
    ]


def _number(text):
    """Return a finite number, or raise ValueError saying why the text is none."""
    if not _NUMBER.fullmatch(text):
        if text.lstrip("+-").lower() in ("nan", "inf", "infinity"):
            raise ValueError(f"{text} is not a finite number")
        hint = "; write decimals with a point" if re.fullmatch(r"-?\d+,\d+", text) else ""
        raise ValueError(f'"{text}" is not a number{hint}')
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is not a finite number")
    return float(text)


def _carried(rows, name):
    """Return a column that is not ours: numbers if all of it are, otherwise the text as it is."""
    try:
        return [row.number(name) for row in rows]
    except ValueError:
        return [row.cells[name] for row in rows]


@dataclass(frozen=True)
class _Row:
    """Reads one row of a table, with the file, line and column in every message."""

    path: Path
    line: int
    cells: dict[str, str]

    def fail(self, column, message):
        raise ValueError(f"{self.path}, line {self.line}, column {column}: {message}")

    def text(self, column):
        given = self.cells.get(column, "")
        return "" if given in _MISSING else given

    def number(self, column, default=math.nan):
        given = self.text(column)
        return self.parsed(column, given) if given else default

    def parsed(self, column, text):
        try:
            return _number(text)
        except ValueError as error:
            self.fail(column, error)

    def flag(self, column, default=0.0):
        value = self.number(column, default)
        if value not in (0, 1):
            self.fail(column, f"{value:g} is not supported yet; only 0 and 1 are")
        return bool(value)

    def read(self, unit, lloq):
        """Return the row in our columns and units."""
        time = self.number("TIME")
        if math.isnan(time):
            self.fail("TIME", "the time is missing")
        if not self.text("ID"):
            self.fail("ID", "the subject is missing")
        for column, why in _REFUSED.items():
            if self.text(column) not in ("", "0"):
                self.fail(column, why)
        given = self.number("AMT", 0.0) or self.number("RATE", 0.0)
        dosed = self.flag("EVID", 1.0 if given else 0.0)
        common = {"ID": self.text("ID"), "TIME": time, "EVID": int(dosed)}
        items = self._dose() if dosed else self._observation(unit, lloq)
        row = {**_NOTHING, **common, **items, "LINE": self.line}
        return {column: row[column] for column in _COLUMNS}

    def _dose(self):
        amount, rate = self.number("AMT", 0.0), self.number("RATE", 0.0)
        if amount <= 0:
            self.fail("AMT", f"a dose of {amount:g}; it must be above 0")
        if rate < 0:
            self.fail("RATE", f"{rate:g}: a rate above 0, or DUR, is wanted")
        duration = self.number("DUR", 0.0)
        if duration < 0:
            self.fail("DUR", f"{duration:g} is negative")
        if rate and duration:
            self.fail("DUR", "both RATE and DUR are given; give one")
        further, interval = self.number("ADDL", 0.0), self.number("II", 0.0)
        if further < 0 or further != int(further):
            self.fail("ADDL", f"{further:g}: a whole number of 0 or more is wanted")
        if bool(further) != (interval > 0):
            self.fail("II", f"ADDL = {further:g} and II = {interval:g} contradict each other")
        if not self.flag("MDV", 1.0):
            self.fail("MDV", "a dose row has MDV = 0; it must be 1")
        route = self.text("CMT").lower()
        if route and route not in _ROUTES:
            self.fail("CMT", unknown("route", self.text("CMT"), _ROUTES))
        return {
            "AMT": amount,
            "DUR": amount / rate if rate else duration,
            "CMT": _ROUTES.get(route, ""),
            "ADDL": int(further),
            "II": interval,
        }

    def _observation(self, unit, lloq):
        for column in ("AMT", "RATE", "DUR", "ADDL", "II"):
            if self.number(column, 0.0):
                self.fail(column, f"an observation (EVID 0) has {column} = {self.text(column)}")
        output = self._output()
        seen = {"DVID": output, "CMT": self.text("CMT")}
        text, unquantified, censored = self.text("DV"), self.flag("BLQ"), self.flag("CENS")
        if self.flag("MDV") or not (text or unquantified):
            return seen
        factor = self._factor(output, unit)
        limit = self.number("LLOQ") * factor
        if math.isnan(limit) and lloq is not None and output == "bcell":
            limit = lloq
        if unquantified and math.isnan(limit):
            self.fail("BLQ", "BLQ = 1 needs the limit in column LLOQ")
        below = re.fullmatch(r"<\s*(.+)", text)
        value = limit if not text else factor * self.parsed("DV", below[1] if below else text)
        censored = censored or bool(below)
        if unquantified or (not censored and 0 <= value < limit):
            value, censored = limit, True
        if value <= 0:
            self.fail(
                "DV",
                f"{text}: a count or concentration must be above 0; write an unquantifiable one "
                'as "<5", or declare LLOQ',
            )
        lower = factor * self.number("LIMIT") if censored else math.nan
        if lower < 0 or lower >= value:
            self.fail("LIMIT", f"{self.text('LIMIT')} must be 0 or more, and below DV")
        return {**seen, "DV": value, "CENS": int(censored), "LIMIT": lower}

    def _output(self):
        """Return what is observed: DVID, or else what CMT names."""
        stated, state = self.text("DVID"), self.text("CMT")
        if stated and stated not in OUTPUTS:
            self.fail("DVID", unknown("output", stated, OUTPUTS))
        if state and state.lower() not in _SEEN:
            self.fail("CMT", unknown("output or observed state", state, _SEEN))
        implied = _SEEN.get(state.lower())
        if stated and implied and stated != implied:
            self.fail("CMT", f"{state} contradicts DVID = {stated}")
        return stated or implied or "bcell"

    def _factor(self, output, unit):
        """Return what turns DV, LLOQ and LIMIT into the unit of the output."""
        wanted = OUTPUTS[output].unit
        stated = self.text("UNIT") or (unit if output == "bcell" else wanted)
        try:
            return convert(1.0, stated, wanted)
        except ValueError as error:
            self.fail("UNIT", error)


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
                f"{'...' if len(subjects) > 5 else ''}); an individual fit takes one: name it"
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
    _require_columns(table)
    events = tuple(
        Event(
            kind="dose",
            time=float(row.TIME),
            amount=float(row.AMT),
            route=row.CMT or default_route,
            duration=float(row.DUR),
            every=float(row.II) or None,
            count=int(row.ADDL) + 1,
        )
        for row in table[table["EVID"] == 1].itertuples()
    )
    if not events:
        raise ValueError("the data hold no dose (a row with AMT above 0, EVID 1)")
    return Regimen(events, label="doses given")


def covariates_of(table: pd.DataFrame, names: Iterable[str]) -> dict[str, float]:
    """Return the covariates of one subject: its value of each column that has one.

    Parameters
    ----------
    table : DataFrame
        Rows of `read_observations`, of one subject.
    names : iterable of str
        The covariates wanted, those of a model.

    Raises
    ------
    ValueError
        If one is text, or changes in time.
    """
    _require_columns(table)
    found = {}
    for name in table.columns.intersection(list(names)).difference(_COLUMNS, sort=False):
        for line, cell in table[["LINE", name]].dropna().itertuples(index=False):
            if str(cell) in _MISSING:
                continue
            where = f"{table.attrs.get('source', 'the data')}, line {line}, column {name}"
            try:
                value = _number(str(cell))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            if found.setdefault(name, value) != value:
                raise ValueError(
                    f"{where}: covariate {name} changes in time ({found[name]:g}, {value:g}); "
                    "covariates that change are not supported yet"
                )
    return found
