"""TIME as numbers or as dates, and the clock on which rows are predicted."""

from __future__ import annotations

import math
import re
from datetime import datetime

from bcellsim.observations.cells import Row

#: What separates a prediction from the dose just before it [day]: a tenth of a millisecond, in
#: which nothing a model knows changes by more than 1e-7 of itself.
AFTER = 1e-9

_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)(.*))?", re.ASCII)
_LIKE_A_DATE = re.compile(r"\d+[-/.]\d+[-/.]\d+|\d+[- ]?[A-Za-z]{3,9}[- ]?\d+", re.ASCII)
_ZONE = re.compile(r"\s*(Z|UTC|GMT|[-+]\d\d:?(\d\d)?|[A-Z]{3,4})", re.ASCII)


def read_times(rows: list[Row], factor: float) -> list[float | datetime]:
    """Return the time of each row: days (`factor` to a number) or, where the file has them, dates.

    A row whose time cannot be read, or is not of the kind of the first one, has NaN and a fault.
    """
    times = [_read_time(row, factor) for row in rows]
    kinds = [_kind(row, time) for row, time in zip(rows, times, strict=True)]
    first = next((i for i, kind in enumerate(kinds) if kind), None)
    for row, kind in zip(rows, kinds, strict=True):
        if kind and kind != kinds[first]:
            row.error("TIME", "mixed-times", f"{kind}, but line {rows[first].line} has "
                      f"{kinds[first]}", "write all times of a file in one way")  # fmt: skip
    return [
        time if kind and kind == kinds[first] else math.nan
        for time, kind in zip(times, kinds, strict=True)
    ]


def _kind(row, time):
    """Return what kind of time it is, in words; none where it could not be read."""
    if isinstance(time, float):
        return "" if math.isnan(time) else "a number"
    return "a date with a clock time" if ":" in row.text("TIME") else "a date without a clock time"


def _read_time(row, factor):
    text = row.text("TIME")
    if not text:
        row.error("TIME", "time-missing", "the time is missing")
        return math.nan
    match = _ISO.fullmatch(text)
    if match:
        return _date(row, *match.groups())
    if _LIKE_A_DATE.match(text):
        row.error("TIME", "date-format", f'"{text}" is not a date in the form 2024-05-31 or '
                  "2024-05-31T08:30")  # fmt: skip
        return math.nan
    return row.number("TIME") * factor


def _date(row, day, clock, rest):
    if rest:
        if _ZONE.fullmatch(rest):
            row.error("TIME", "time-zone", f'"{row.text("TIME")}" has a time zone '
                      f"({rest.strip()})", "write local time without a zone")  # fmt: skip
        else:
            row.error("TIME", "date-format", f'"{rest}" after the time of day is not understood')
        return math.nan
    try:
        return datetime.fromisoformat(f"{day}T{clock}" if clock else day)
    except ValueError as error:
        row.error("TIME", "date-format", f'"{row.text("TIME")}" is no date: {error}')
        return math.nan


def set_clocks(rows: list[Row], records: list[dict]) -> None:
    """Set TIME [day], DATE, CLOCK and OCC of the records of one subject, in the order of the file.

    Dates count from the first dose (the first row, where there is none). After a reset TIME may go
    back; CLOCK then goes on from the row before. A row without OCC is of that of the row before it.
    """
    occasion = 1
    for record in records:
        occasion = record["OCC"] = record["OCC"] or occasion
    dated = [r for r in records if isinstance(r["TIME"], datetime)]
    if dated:
        zero = next((r for r in dated if r["EVID"] in (1, 4)), dated[0])["TIME"]
        for record in dated:
            record["DATE"] = record["TIME"]
            record["TIME"] = (record["TIME"] - zero).total_seconds() / 86400.0
    offset, last, after, dosed = 0.0, None, 0, False
    for row, record in zip(rows, records, strict=True):
        time = record["TIME"]
        if math.isnan(time):
            record["CLOCK"] = time
            continue
        if last is not None and time < last:
            offset = _go_back(row, record, last, offset)
        if last is None or time != last:
            after, dosed = 0, False
        if record["EVID"] in (1, 3, 4):
            dosed = True
        elif dosed:
            after, dosed = after + 1, False
        record["CLOCK"] = time + offset + after * AFTER
        last = time


def _go_back(row, record, last, offset):
    """Return the offset of the clock after a time that goes back, which only a reset allows."""
    if record["EVID"] not in (3, 4):
        row.error("TIME", "time-order",
                  f"times out of order, {record['TIME']:g} comes after {last:g}",
                  "sort the rows of a subject; only EVID 3 and 4 restart TIME")  # fmt: skip
        return offset
    row.fault("note", "TIME", "time-restart", f"TIME restarts at {record['TIME']:g} d after "
              f"{last:g} d", "the clock of the model goes on")  # fmt: skip
    return offset + last - record["TIME"]
