"""One row of a data file as a record in our columns and units, with every fault noted."""

from __future__ import annotations

import math

from bcellsim.observations.cells import Row
from bcellsim.observations.columns import NOTHING, Reading, whole
from bcellsim.observations.doses import dose, no_observation
from bcellsim.observations.observed import observation, output_of

_NO_EVID = {
    5: "replacing an amount", 6: "multiplying an amount", 7: "a phantom dose",
    101: "a dose into the first compartment in classic RxODE coding; write EVID 1 and CMT",
}  # fmt: skip
_DOSE_ITEMS = ("AMT", "RATE", "DUR", "ADDL", "II", "SS")


def read_record(row: Row, how: Reading) -> dict:
    """Return the record of a row, but for what other rows decide: TIME, DATE, CLOCK and REP."""
    if not row.text("ID"):
        row.error("ID", "id-missing", "the subject is missing")
    if row.text("DATE") not in ("", "0"):
        row.error("DATE", "date-column", "dates are read from TIME", "write the date in TIME")
    evid = _evid(row)
    record = {**NOTHING, "ID": row.text("ID"), "LINE": row.line}
    record["OCC"] = whole(row, "OCC", 1, least=1) if row.text("OCC") else None
    if evid is None:
        return record
    record["EVID"] = evid
    if evid in (1, 4):
        return {**record, **dose(row, how)}
    for column in _DOSE_ITEMS:
        if row.number(column, 0.0):
            what = "an observation" if evid == 0 else f"a row of EVID {evid}"
            row.error(column, "dose-item", f"{what} (EVID {evid}) has {column} = "
                      f"{row.text(column)}", "a dose is a row of its own, EVID 1")  # fmt: skip
    if evid:
        no_observation(row, f"a row of EVID {evid}")
        return {**record, "DVID": output_of(row, how)} if evid == 2 else record
    return {**record, **observation(row, how)}


def _evid(row):
    given = row.number("AMT", 0.0) or row.number("RATE", 0.0)
    value = row.number("EVID", 1.0 if given else 0.0)
    if value in (0, 1, 2, 3, 4):
        return int(value)
    if not math.isnan(value):
        what = f" ({_NO_EVID[value]})" if value in _NO_EVID else ""
        row.error("EVID", "evid", f"{value:g}{what} is not supported; only 0, 1, 2, 3 and 4 are")
    return None
