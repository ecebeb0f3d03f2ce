"""The columns of a table, and what its file does not say of them."""

from __future__ import annotations

import math
from typing import NamedTuple

from bcellsim.model import Model
from bcellsim.observations.cells import Row

#: A record of nothing: the columns of a table, in their order.
NOTHING = {
    "ID": "", "TIME": math.nan, "CLOCK": math.nan, "DATE": None, "EVID": 0, "AMT": 0.0, "PER": "",
    "RATE": 0.0, "DUR": 0.0, "CMT": "", "ADDL": 0, "II": 0.0, "SS": 0, "MDV": 1, "DVID": "",
    "DV": math.nan, "CENS": 0, "LIMIT": math.nan, "UNIT": "",
    "BASIS": "", "ALC": math.nan, "VOLUME": math.nan, "OCC": 1, "REP": 1, "LINE": 0,
}  # fmt: skip
#: Columns of a file that are read; the others are carried through.
READ = {*NOTHING, "BLQ", "LLOQ", "ULOQ"}
_PERCENT = {
    "%": "", "% of lymphocytes": "lymphocytes", "% lymphocytes": "lymphocytes",
    "% of baseline": "baseline", "% baseline": "baseline",
}  # fmt: skip


class Reading(NamedTuple):
    """How a file is read: what its columns do not say."""

    unit: str = "cells/uL"
    lloq: float = math.nan  # of counts [cells/uL]
    lloq_percent: float = math.nan
    day: float = 1.0  # days in a unit of time
    alc: float = 1e3  # cells/uL in a unit of ALC
    skip: str = ""
    model: Model | None = None


def percentage(unit: str) -> str | None:
    """Return of what a unit is a percentage (empty: not said); None where it is none."""
    return _PERCENT.get(" ".join(unit.lower().replace("percent", "%").replace("_", " ").split()))


def named(row: Row, column: str, choices: tuple[str, ...], what: str) -> str | None:
    """Return a name without regard to case, or what a number counts; None, and a fault, if none.

    `choices` are the names in the order in which numbers count them; none without a model.
    """
    given = row.text(column)
    if not given.isdecimal():
        return given.lower()
    if not choices:
        row.error(
            column, "number-of-name", f'unknown {what} "{given}": a number counts those of a model',
            f"read the file with its model, or write the {what} by name",
        )  # fmt: skip
        return None
    if not 1 <= int(given) <= len(choices):
        row.error(
            column, "number-of-name",
            f"{given}: the model has {len(choices)}, {', '.join(choices)}",
        )  # fmt: skip
        return None
    return choices[int(given) - 1]


def whole(row: Row, column: str, default: int, *, least: int) -> int:
    """Return a whole number; the default, and a fault, where it is none."""
    value = row.number(column, default)
    if value >= least and value == int(value):
        return int(value)
    if not math.isnan(value):
        row.error(column, column.lower(), f"{value:g}: a whole number of {least} or more is wanted")
    return default
