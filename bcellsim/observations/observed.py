"""An observation row as a record."""

from __future__ import annotations

import math
import re

from bcellsim.names import unknown
from bcellsim.observations.cells import Row
from bcellsim.observations.columns import Reading, named, percentage
from bcellsim.structures import OUTPUTS
from bcellsim.units import convert

#: What CMT may name: an output, or a state that one shows.
_SEEN = {**{name: name for name in OUTPUTS}, "central": "conc"}
_BEYOND = re.compile(r"(<=|>=|<|>|≤|≥)\s*(.+)")


def observation(row: Row, how: Reading) -> dict:
    """Return what an observation row says of its observation."""
    output = output_of(row, how)
    seen = {"DVID": output, "CMT": row.text("CMT"), "VOLUME": row.number("VOLUME"),
            "ALC": row.number("ALC") * how.alc}  # fmt: skip
    mdv = int(row.one_of("MDV", (0, 1, 100, 101)))
    given = bool(row.text("DV")) or row.one_of("BLQ", (0, 1)) == 1
    if mdv in (1, 101) or not given:
        if given and row.text("DV") not in ("", "0"):
            row.fault("note", "DV", "dv-unused",
                      f"MDV = {mdv}: DV = {row.text('DV')} is not used")  # fmt: skip
        return seen
    if mdv == 100:
        row.fault("note", "MDV", "mdv-100", "MDV = 100: kept in the output, not fitted")
    factor, unit, basis = _unit(row, how, output)
    value, side, other = _censored(row, how, factor, unit, output)
    _check_value(row, value, unit, basis, seen)
    return {
        **seen, "MDV": mdv, "DV": value, "CENS": side, "LIMIT": other, "UNIT": unit,
        "BASIS": basis,
    }  # fmt: skip


def output_of(row: Row, how: Reading) -> str:
    """Return what is observed or to be predicted: DVID, or else what CMT names."""
    if row.text("CMT").startswith("-"):
        row.error("CMT", "cmt", f"{row.text('CMT')}: switching compartments off is not supported")
        return "bcell"
    outputs = how.model.structure.outputs if how.model else ()
    states = how.model.structure.states if how.model else ()
    stated = named(row, "DVID", outputs, "output") if row.text("DVID") else ""
    if stated and stated not in OUTPUTS:
        row.error("DVID", "dvid", unknown("output", row.text("DVID"), OUTPUTS))
        stated = None
    state = named(row, "CMT", states, "compartment") if row.text("CMT") else ""
    if state and state not in _SEEN:
        row.error("CMT", "cmt", unknown("output or observed state", row.text("CMT"), _SEEN))
    implied = _SEEN.get(state)
    if stated and implied and stated != implied:
        row.error("CMT", "cmt-dvid", f"{row.text('CMT')} contradicts DVID = {stated}")
    counted = not outputs or "bcell" in outputs
    return stated or implied or ("bcell" if counted else outputs[0])


def _unit(row, how, output):
    """Return the factor to the unit a value is held in, that unit, and a percentage's basis."""
    wanted = OUTPUTS[output].unit
    stated = row.text("UNIT") or (how.unit if output == "bcell" else wanted)
    percent = percentage(stated)
    if output == "bcell" and percent is not None:
        return 1.0, "%", _basis(row, percent)
    mass = how.model.drug.molar_mass if how.model else None
    try:
        return convert(1.0, stated, wanted, molar_mass=mass), wanted, ""
    except ValueError as error:
        row.error("UNIT", "unit", error)
        return math.nan, wanted, ""


def _basis(row, basis):
    """Return of what a count is a percentage, which needs the lymphocytes of the sample."""
    if basis != "baseline" and not row.text("ALC"):
        row.error("ALC" if basis else "UNIT", "percent-basis", "a count in % of lymphocytes needs "
                  "the lymphocyte count of its sample in column ALC",
                  'if it is of baseline, write the unit as "% of baseline"')  # fmt: skip
    return basis or "lymphocytes"


def _censored(row, how, factor, unit, output):
    """Return the value, the side censored (1, -1 or 0) and the other limit (NaN if none)."""
    text, stated = row.text("DV"), row.text("CENS")
    side, unquantified = int(row.one_of("CENS", (-1, 0, 1))), row.one_of("BLQ", (0, 1)) == 1
    beyond = _BEYOND.fullmatch(text)
    lower, upper = row.number("LLOQ") * factor, row.number("ULOQ") * factor
    if math.isnan(lower) and output == "bcell":
        lower = how.lloq_percent if unit == "%" else how.lloq
    if beyond:
        written = 1 if beyond[1] in "<=≤" else -1
        if stated and side != written:
            row.error("CENS", "cens-contradicts", f"CENS = {side} contradicts DV = {text}")
        side, text = written, beyond[2]
    if unquantified:
        if side == -1:
            row.error("BLQ", "cens-contradicts", f"BLQ = 1 contradicts a value above {text}")
        if math.isnan(lower):
            row.error("BLQ", "blq-limit", "BLQ = 1 needs the limit in column LLOQ")
        return lower, 1, 0.0
    value = factor * row.parsed("DV", text)
    if side == 0 and 0 <= value < lower:
        return lower, 1, math.nan
    if side == 0 and value > upper:
        return upper, -1, math.nan
    other = factor * row.number("LIMIT") if side else math.nan
    if side == 1 and (other < 0 or other >= value):
        row.error("LIMIT", "limit", f"{row.text('LIMIT')} must be 0 or more, and below DV")
    if side == -1 and other <= value:
        row.error("LIMIT", "limit", f"{row.text('LIMIT')} must be above DV, which CENS = -1 makes "
                  "the lower end")  # fmt: skip
    return value, side, other


def _check_value(row, value, unit, basis, seen):
    text = row.text("DV")
    if value == 0 and seen["VOLUME"] > 0:
        return  # cells counted in a stated volume: a count likelihood takes a zero as it is
    if value <= 0:
        row.error(
            "DV", "zero-count" if value == 0 else "negative",
            f"{text}: a count or concentration must be above 0; write an unquantifiable one as "
            '"<5", or declare LLOQ',
            "cells counted in a stated VOLUME [uL] may be 0 with a count likelihood" * (value == 0),
        )  # fmt: skip
    if unit == "%" and value > 100:
        if basis == "lymphocytes":
            row.error("DV", "percent", f"{text} % of lymphocytes is above 100",
                      "is it a count in cells/uL?")  # fmt: skip
        else:
            row.fault("warning", "DV", "percent", f"{text} % of baseline is above 100",
                      "is it a count in cells/uL?")  # fmt: skip
