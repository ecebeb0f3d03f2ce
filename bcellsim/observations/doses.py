"""A dose row as a record."""

from __future__ import annotations

import math

from bcellsim.names import unknown
from bcellsim.observations.cells import Row
from bcellsim.observations.columns import Reading, named, percentage, whole
from bcellsim.structures import OUTPUTS
from bcellsim.units import convert

#: What CMT may name: the route of a dose by its state.
_ROUTES = {"sc": "sc", "iv": "iv", "depot": "sc", "central": "iv"}


def no_observation(row: Row, what: str) -> None:
    """Check that a row which is no observation does not say that it is one; tell of its DV."""
    mdv = row.number("MDV", 1.0)
    if mdv == 0:
        row.error("MDV", "mdv-event", f"{what} has MDV = 0; it must be 1")
    elif mdv != 1 and not math.isnan(mdv):
        row.error("MDV", "mdv-event", f"{what} has MDV = {mdv:g}, which is not supported; only 0 "
                  "and 1 are, and here it must be 1")  # fmt: skip
    if row.text("DV") not in ("", "0"):
        row.fault("note", "DV", "dv-unused", f"{what} has DV = {row.text('DV')}, which is not an "
                  "observation and not used")  # fmt: skip


def dose(row: Row, how: Reading) -> dict:
    """Return what a dose row says of its dose."""
    amount, rate = row.number("AMT", 0.0), row.number("RATE", 0.0)
    duration = row.number("DUR", 0.0) * how.day
    steady = int(row.one_of("SS", (0, 1, 2)))
    further, interval = _repetition(row, steady, amount, rate)
    _infusion(row, how, rate, duration)
    constant = steady and rate > 0 and not interval and amount == 0
    if amount <= 0 and not constant:
        row.error("AMT", "amount", f"a dose of {amount:g}; it must be above 0")
    no_observation(row, "a dose row")
    factor, per = _dose_unit(row, how)
    amount, rate = amount * factor, rate * factor / how.day if rate > 0 else rate
    return {
        "AMT": amount,
        "PER": per,
        "RATE": rate,
        "DUR": amount / rate if rate > 0 else duration,
        "CMT": _route(row, how),
        "ADDL": further,
        "II": interval * how.day,
        "SS": steady,
    }


def _repetition(row, steady, amount, rate):
    """Return ADDL and II, which go together; a constant infusion in steady state has neither."""
    further, interval = row.number("ADDL", 0.0), row.number("II", 0.0)
    if further < 0:
        row.error("ADDL", "addl", f"{further:g}: a whole number of 0 or more is wanted (NONMEM's "
                  "empirical steady state is not supported)")  # fmt: skip
        return 0, 0.0
    further = whole(row, "ADDL", 0, least=0)
    if interval < 0:
        row.error("II", "addl-ii", f"ADDL = {further:g} and II = {interval:g} contradict each "
                  "other; an interval is above 0")  # fmt: skip
    elif steady and amount == 0 and rate > 0:
        if further or interval:
            row.error("II", "ss-constant", "a constant infusion in steady state (AMT 0) has ADDL = "
                      f"{further:g} and II = {interval:g}; both must be 0")  # fmt: skip
    elif steady and not interval:
        row.error("II", "ss-ii", f"SS = {steady} needs the interval II of its doses")
    elif not steady and bool(further) != (interval > 0) and not math.isnan(interval):
        row.error("II", "addl-ii", f"ADDL = {further:g} and II = {interval:g} contradict each "
                  "other", "give both, or neither")  # fmt: skip
    return further, max(interval, 0.0)


def _infusion(row, how, rate, duration):
    if duration < 0:
        row.error("DUR", "infusion", f"{row.text('DUR')} is negative")
    if rate and duration:
        row.error("DUR", "infusion", "both RATE and DUR are given; give one")
    if rate in (-1, -2):
        _modelled(row, how, "rate" if rate == -1 else "duration")
    elif rate < 0:
        row.error("RATE", "infusion", f"{rate:g}: a rate above 0, or DUR, is wanted")


def _modelled(row, how, what):
    """Check that the model has the rate or duration of an infusion, which a file leaves to it."""
    text = f"RATE = {row.text('RATE')}: the {what} of the infusion is to be one of the model"
    if how.model is None:
        row.fault("note", "RATE", "rate-code", text, "check the file with its model")
        return
    route = how.model.structure.routes.get(_route(row, how) or next(iter(how.model.routes())))
    if route is not None and not getattr(route, what):
        row.error(
            "RATE", "rate-code", f"{text}, but model {how.model.name} defines no {what} of "
            f"infusion for compartment {route.state}", "give a rate above 0, or DUR",
        )  # fmt: skip


def _dose_unit(row, how):
    """Return the factor to mg, or to mg per size, and the unit; UNIT may be that of DV."""
    unit = row.text("UNIT")
    if unit in ("mg/kg", "mg/m2"):
        return 1.0, unit
    if not unit or percentage(unit) is not None:
        return 1.0, "mg"
    mass = how.model.drug.molar_mass if how.model else None
    try:
        return convert(1.0, unit, "mg", molar_mass=mass), "mg"
    except ValueError as error:
        for output in ("bcell", "conc"):
            try:
                convert(1.0, unit, OUTPUTS[output].unit, molar_mass=1.0)
                return 1.0, "mg"
            except ValueError:
                continue
        row.error("UNIT", "unit", error)
        return 1.0, "mg"


def _route(row, how):
    """Return the route of a dose, empty for the model's first."""
    if not row.text("CMT"):
        return ""
    states = how.model.structure.states if how.model else ()
    name = named(row, "CMT", states, "route")
    routes = {r.state: name for name, r in how.model.structure.routes.items()} if how.model else {}
    known = {**_ROUTES, **routes}
    if name is not None and name not in known:
        row.error("CMT", "cmt", unknown("route", row.text("CMT"), known))
    return known.get(name, "")
