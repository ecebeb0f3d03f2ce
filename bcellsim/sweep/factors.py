"""Factors of a design: what each one changes, and its values at a point of the unit cube."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from bcellsim.covariates import BODY_SIZE
from bcellsim.event import Event, whole_number
from bcellsim.library import load_regimen
from bcellsim.model import Model
from bcellsim.regimen import Regimen, single_dose
from bcellsim.structures import PARAMETERS
from bcellsim.sweep.schema import FactorEntry, ScheduleEntry
from bcellsim.units import days, quantity

#: Factors that make the schedule.
SCHEDULE = tuple(ScheduleEntry.model_fields)
#: Factors that change the window.
WINDOW = ("induction", "until")
#: Of these, the ones that are times.
_TIMES = ("interval", "start", "visit_every", "min_gap", "first_visit", "delay", *WINDOW)
#: Sampled values of these need no schedule object of their own.
SAMPLED = ("dose", "interval")
_NEEDS = {
    "normal": ("mean", "sd"), "lognormal": ("median", "cv"), "uniform": ("low", "high"),
    "loguniform": ("low", "high"),
}  # fmt: skip
_SHAPE = ("low", "high", "mean", "sd", "median", "cv")


@dataclass(frozen=True)
class Factor:
    """A factor of a design.

    Parameters
    ----------
    name : str
        A part of the schedule or window, a parameter or a covariate.
    role : str
        ``"schedule"``, ``"window"``, ``"parameter"`` or ``"covariate"``.
    unit : str
        Unit of numbers.
    levels : tuple, optional
        Its values, one after the other; otherwise it is sampled:
    distribution : str
        Distribution of sampled values.
    first, second : float
        Low and high, mean and SD, or median and CV.
    how : str
        ``"multiply"`` or ``"replace"``, for a parameter.
    template : str
        For sampled doses, one of them.
    """

    name: str
    role: str
    unit: str = ""
    levels: tuple | None = None
    distribution: str = ""
    first: float = math.nan
    second: float = math.nan
    how: str = "replace"
    template: str = ""

    def at(self, u: np.ndarray) -> np.ndarray:
        """Return the positions in `levels`, or the sampled values, at shares u (n,) of [0, 1)."""
        if self.levels is not None:
            n = len(self.levels)
            return np.minimum((u * n).astype(np.int64), n - 1)
        a, b = self.first, self.second
        # A Sobol sequence may hold 0 itself.
        z = ndtri(np.clip(u, 2.0**-31, 1.0 - 2.0**-31))
        if self.distribution == "normal":
            return a + b * z
        if self.distribution == "lognormal":
            return a * np.exp(math.sqrt(math.log1p(b * b)) * z)
        if self.distribution == "loguniform":
            return np.exp(math.log(a) + u * (math.log(b) - math.log(a)))
        return a + u * (b - a)

    def values(self, found: np.ndarray) -> np.ndarray:
        """Return the values that `at`, or positions in `levels`, stand for."""
        if self.levels is None:
            return found
        texts = any(isinstance(level, str) for level in self.levels)
        of = np.array([str(v) for v in self.levels] if texts else self.levels,
                      dtype=object if texts else np.float64)  # fmt: skip
        return of[found]


def known_factors(models: list[Model]) -> dict[str, str]:
    """Return the names that may be factors of these models, with their roles."""
    roles = {}
    for model in models:
        names = dict.fromkeys([*model.parameters, *model.structure.parameters], "parameter")
        roles |= names | dict.fromkeys(model.covariates, "covariate")
    return {
        **roles, **dict.fromkeys(BODY_SIZE, "covariate"), **dict.fromkeys(SCHEDULE, "schedule"),
        **dict.fromkeys(WINDOW, "window"),
    }  # fmt: skip


def read_factor(name: str, role: str, entry: FactorEntry, sampled: bool) -> Factor:
    """Read a factor of a design.

    Parameters
    ----------
    name, role : str
        What it changes.
    entry : FactorEntry
        What the file says.
    sampled : bool
        Whether the points of the design are sampled, not a full factorial.

    Raises
    ------
    ValueError
        If values, range and distribution contradict each other, or one is empty or reversed.
    """
    if entry.how and role != "parameter":
        raise ValueError(f'how = "{entry.how}" belongs to a parameter, and {name} is a {role}')
    if role == "parameter" and not entry.how:
        raise ValueError(f'how = "multiply" or "replace" is wanted for parameter {name}')
    unit = _unit(name, role, entry.how)
    about = {"name": name, "role": role, "unit": unit, "how": entry.how or "replace"}
    if entry.values is not None:
        shape = (*_SHAPE, "levels", "distribution")
        given = [key for key in shape if getattr(entry, key) is not None]
        given += ["log"] if entry.log else []
        if given:
            raise ValueError(f"values are given, and {given[0]} as well")
        if not entry.values:
            raise ValueError("values is empty: at least one is wanted")
        levels = tuple(_value(name, role, unit, value) for value in entry.values)
        for value in levels:
            if levels.count(value) > 1:
                raise ValueError(f"the value {value} is given twice")
        return Factor(**about, levels=levels)
    kind = entry.distribution or ("loguniform" if entry.log else "uniform")
    first, second, template = _shape(name, role, unit, entry, kind)
    if sampled and entry.levels is None:
        if role == "window" or (role == "schedule" and name not in SAMPLED):
            raise ValueError(f"{name} is not sampled from a range: give values, or levels")
        if template:
            about["unit"] = single_dose(template).unit
        return Factor(**about, distribution=kind, first=first, second=second, template=template)
    return Factor(**about, levels=_spaced(kind, first, second, entry, template))


def _unit(name, role, how):
    if role == "parameter":
        return PARAMETERS[name].unit if how == "replace" and name in PARAMETERS else ""
    return "day" if name in _TIMES else BODY_SIZE.get(name, "")


def doses_in(name: str, value) -> list[Event]:
    """Return the doses that a part of the schedule says, or none; raise ValueError if it is wrong.

    Parameters
    ----------
    name : str
        A key of `SCHEDULE`.
    value : str or float
        What the design gives.
    """
    if name == "dose":
        return [single_dose(str(value))]
    if name == "regimen" or (name == "loading" and value != "none"):
        plan = load_regimen(value) if name == "regimen" else Regimen.parse(value)
        return [event for event in plan.events if event.kind == "dose"]
    if name in _TIMES:
        days(value, name)
    return []


def _value(name, role, unit, value):
    """Return a value as it is used: a number in internal units, or text."""
    if name in _TIMES:
        return days(value, name)
    if role in ("parameter", "covariate"):
        number = quantity(value, unit, what=name)
        if role == "parameter" and number <= 0:
            raise ValueError(f"{name} = {number:g}: a number above 0 is wanted")
        return number
    if name == "max_doses":
        return whole_number(value, name)
    doses_in(name, value)
    return value


def _shape(name, role, unit, entry, kind):
    """Return the two numbers of a range or distribution, and a dose as a template."""
    wanted = _NEEDS[kind]
    for key in _SHAPE:
        value = getattr(entry, key)
        if value is None and key in wanted:
            raise ValueError(f"{key} is missing: give values, or {wanted[0]} and {wanted[1]}")
        if value is not None and key not in wanted:
            raise ValueError(f"{key} does not belong to a {kind} factor")
    if entry.log and entry.distribution:
        raise ValueError("log belongs to a range without a distribution")
    given, template = [getattr(entry, key) for key in wanted], ""
    if name == "dose":
        numbers, template = _doses(given, wanted)
    elif name in SCHEDULE and name not in _TIMES:
        raise ValueError(f"{name} has no range: give values")
    else:
        own = [unit if key != "cv" else "" for key in wanted]
        pairs = zip(given, own, wanted, strict=True)
        numbers = [quantity(value, of, what=key) for value, of, key in pairs]
    first, second = numbers
    if wanted == ("low", "high"):
        if first == second:
            raise ValueError(f"the range from {given[0]} to {given[1]} is empty")
        if first > second:
            raise ValueError(f"the range is reversed: low = {given[0]} is above high = {given[1]}")
    elif second <= 0:
        raise ValueError(f"{wanted[1]} = {given[1]}: a number above 0 is wanted")
    positive = kind in ("loguniform", "lognormal") or role == "parameter" or name in SAMPLED
    if positive and (first <= 0 or kind == "normal"):
        ask = "a lognormal or uniform one is" if kind == "normal" else "numbers above 0 are"
        raise ValueError(f"{name} is above 0: {ask} wanted")
    return first, second, template


def _doses(given, wanted):
    """Return two doses as numbers, and the first as a template for those between."""
    if wanted != ("low", "high"):
        raise ValueError("doses are sampled from a range: give low and high")
    doses = [single_dose(str(value)) for value in given]
    kinds = {(dose.unit, dose.route, dose.duration, dose.cap) for dose in doses}
    if len(kinds) > 1:
        raise ValueError(f"{given[0]} and {given[1]} differ in more than the amount")
    if doses[0].duration:
        raise ValueError("infusions are not sampled from a range: give values")
    return [dose.amount for dose in doses], str(doses[0])


def _spaced(kind, first, second, entry, template):
    """Return evenly spaced values of a range."""
    if entry.levels is None:
        raise ValueError(
            'a full factorial needs values, or levels = the number of them; sampling = "lhs" or '
            '"sobol" draws from a range'
        )
    if entry.distribution:
        raise ValueError("a distribution has no levels: give low and high, or sample it")
    space = np.geomspace if kind == "loguniform" else np.linspace
    values = [float(v) for v in space(first, second, entry.levels)]
    if not template:
        return tuple(values)
    dose = single_dose(template)
    return tuple(str(replace(dose, amount=v)) for v in values)
