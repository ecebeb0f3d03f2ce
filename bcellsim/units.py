"""Units at the door: strings become numbers in day, mg, L, cells/uL and mg/L, once."""

from __future__ import annotations

import math
import re
from functools import cache

from bcellsim.names import unknown

DAYS_PER_MONTH = 30.4375
DAYS_PER_YEAR = 365.25

#: Unit -> (dimension, factor to the internal unit of that dimension).
_TABLE: dict[str, tuple[str, float]] = {}


def _add(dimension: str, factor: float, *spellings: str) -> None:
    for spelling in spellings:
        _TABLE[spelling] = (dimension, factor)


_add("time", 1 / 1440, "min", "minute", "minutes")
_add("time", 1 / 24, "h", "hr", "hour", "hours")
_add("time", 1.0, "d", "day", "days")
_add("time", 7.0, "w", "wk", "week", "weeks")
_add("time", DAYS_PER_MONTH, "mo", "month", "months")
_add("time", DAYS_PER_YEAR, "y", "yr", "year", "years")
_add("1/time", 1.0, "1/d", "1/day")
_add("1/time", 24.0, "1/h", "1/hour")
_add("1/time", 1 / DAYS_PER_YEAR, "1/y", "1/year")
_add("mass", 1.0, "mg")
_add("mass", 1e-3, "ug")
_add("mass", 1e3, "g")
_add("substance", 1.0, "nmol")
_add("mass/body weight", 1.0, "mg/kg")
_add("mass/body surface", 1.0, "mg/m2")
_add("volume", 1.0, "L")
_add("volume", 1e-3, "mL")
_add("volume/time", 1.0, "L/d", "L/day")
_add("volume/time", 24.0, "L/h")
_add("volume/time", 24e-3, "mL/h")
_add("volume/time", 1e-3, "mL/d", "mL/day")
_add("mass/volume", 1.0, "mg/L", "ug/mL")
_add("mass/volume", 1e-3, "ug/L", "ng/mL")
_add("mass/volume*time", 1.0, "mg/L*day", "ug/mL*day", "day*mg/L", "day*ug/mL")
_add("mass/volume*time", 1 / 24, "mg/L*h", "ug/mL*h", "h*mg/L", "h*ug/mL")
_add("mass/time", 1.0, "mg/d", "mg/day")
_add("mass/volume/time", 1.0, "mg/L/d", "mg/L/day")
_add("substance/volume", 1.0, "nmol/L")
_add("substance/volume/time", 1.0, "nmol/L/d", "nmol/L/day")
_add("mass/cells", 1.0, "ng/cell")
_add("substance/cells", 1.0, "fmol/cell")
_add("cells/volume", 1.0, "cells/uL", "10^6/L", "1e6/L", "cells/mm3")
_add("cells/volume", 1e3, "10^9/L", "1e9/L", "G/L")
_add("fraction", 1.0, "", "-", "1", "fraction")
_add("fraction", 0.01, "%", "percent")
_add("body weight", 1.0, "kg")
_add("body surface", 1.0, "m2", "m^2")
_add("molar mass", 1.0, "kDa", "kg/mol")

#: The internal unit of each dimension.
INTERNAL = {
    "time": "day",
    "1/time": "1/day",
    "mass": "mg",
    "volume": "L",
    "volume/time": "L/day",
    "mass/time": "mg/day",
    "mass/volume": "mg/L",
    "mass/volume/time": "mg/L/day",
    "mass/volume*time": "mg/L*day",
    "cells/volume": "cells/uL",
    "fraction": "",
    "substance/volume": "nmol/L",
    "substance/volume/time": "nmol/L/day",
    "mass/cells": "ng/cell",
    "substance/cells": "fmol/cell",
}

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*$")


@cache
def _pint_registry():
    import pint

    # Its own week and month are redefined; by default each time with a warning in the log.
    registry = pint.UnitRegistry(on_redefinition="ignore")
    registry.define(f"week = {7} * day = w = weeks")
    registry.define(f"month = {DAYS_PER_MONTH} * day = mo = months")
    registry.define("cells = [cell] = cell")
    registry.define("m2 = meter ** 2")
    return registry


@cache
def _lookup(unit: str, wanted: str = "") -> tuple[str, float]:
    """Return (dimension, factor to the internal unit), or raise ValueError.

    Units of the dimension `wanted` are named first as the valid choices.
    """
    unit = unit.strip().replace("µ", "u").replace("μ", "u").replace("m²", "m2")
    if unit in _TABLE:
        return _TABLE[unit]
    if re.search(r"[/*^ ]", unit):
        # A compound that is not in the table: let pint say to which of ours it is equal.
        registry = _pint_registry()
        try:
            given = registry.Quantity(1.0, unit)
            for dimension, ours in INTERNAL.items():
                if ours and given.is_compatible_with(ours):
                    return dimension, float(given.to(ours).magnitude)
        except Exception:  # pint raises many kinds; all mean that it is not a unit of ours
            pass
    choices = [name for name, (dimension, _) in _TABLE.items() if name and dimension == wanted]
    raise ValueError(unknown("unit", unit, choices or [name for name in _TABLE if name]))


def convert(value: float, unit: str, to: str, *, molar_mass: float | None = None) -> float:
    """Convert `value` from `unit` to `to`.

    Parameters
    ----------
    value : float
        The number as printed.
    unit, to : str
        Units by name, such as ``"mL/h"`` and ``"L/day"``.
    molar_mass : float, optional
        Molar mass of the drug [kDa], needed between nmol and mg: c[mg/L] = c[nmol/L] M / 1000.

    Raises
    ------
    ValueError
        If a unit is unknown, or the two measure different things.
    """
    target, target_factor = _lookup(to)
    dimension, factor = _lookup(unit, target)
    if dimension.startswith("substance") and target == dimension.replace("substance", "mass"):
        if molar_mass is None:
            raise ValueError(f'"{unit}" to "{to}" needs the molar mass of the drug')
        factor *= molar_mass * 1e-3
    elif dimension != target:
        raise ValueError(f'unit "{unit}" is a {dimension}, but "{to}" (a {target}) is wanted')
    return value * factor / target_factor


def split_quantity(text: str, like: str = "4 w") -> tuple[float, str]:
    """Split ``"26 w"`` into its number and its unit (``""`` if there is none)."""
    match = _QUANTITY.match(text)
    if not match:
        raise ValueError(f'"{text}" is not a number with a unit, such as "{like}"')
    return float(match[1]), match[2]


def quantity(given: float | int | str, to: str, *, what: str = "value") -> float:
    """Read a bare number (already in `to`) or a string with its unit, and return it in `to`.

    Parameters
    ----------
    given : float or str
        ``28``, ``"4 w"``, ``"1 g"``.
    to : str
        The internal unit wanted.
    what : str
        What the number is, for the message.

    Raises
    ------
    ValueError
        If it is not a finite number, or its unit is unknown or of another kind.
    """
    if isinstance(given, str):
        try:
            number, unit = split_quantity(given, "4 w" if to == "day" else f"10 {to}".strip())
            number = convert(number, unit, to) if unit else number
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
    else:
        number = float(given)
    if not math.isfinite(number):
        raise ValueError(f"{what}: {given} is not a finite number")
    return number


def days(given: float | int | str, what: str = "time") -> float:
    """Read a time as days: ``28``, ``"4 w"``, ``"2 y"``."""
    return quantity(given, "day", what=what)
