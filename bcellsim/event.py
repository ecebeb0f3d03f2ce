"""Events: one thing done to the patient, once or repeated."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, takewhile

from bcellsim.names import unknown
from bcellsim.units import days

KINDS = ("dose", "multiply", "modify", "reset", "steady")
ROUTES = ("iv", "sc")
DOSE_UNITS = ("mg", "mg/kg", "mg/m2")
# Units tried in turn to write a time exactly, with the decimals allowed.
_TIME_UNITS = (("w", 0), ("d", 0), ("y", 0), ("mo", 0), ("d", 3), ("h", 2), ("min", 0))


@dataclass(frozen=True)
class Event:
    """One thing done to the patient, once or repeated; times may be text, such as ``"4 w"``."""

    # dose; multiply (a state, at once); modify (a parameter, for a while); reset (to baseline);
    # steady: the state becomes that of this dose given every `every` since ever, just before the
    # next one (without `every`: that of an infusion of `amount` a day, which ends now).
    kind: str
    time: float  # of the first occurrence [day]
    amount: float = 0.0  # dose, in `unit`
    unit: str = "mg"  # mg, mg/kg, mg/m2
    cap: float | None = None  # largest dose, for doses per kg or m2 [mg]
    route: str | None = None  # sc, iv
    duration: float = 0.0  # of the infusion, or of what is modified [day]
    target: str | None = None  # state multiplied or parameter modified
    factor: float = 1.0
    every: float | None = None  # interval of repetition [day]
    count: int | None = 1  # number of occurrences; None is open-ended
    fixed_rate: bool = False  # of an infusion: a bioavailability scales duration, not rate
    modelled: str = ""  # "rate" or "duration", where that of an infusion is one of the model
    superposed: bool = False  # of a steady state: added to the state, which it does not replace
    line: int | None = None  # of the data file it was read from

    def __post_init__(self):
        require_known("kind of event", self.kind, KINDS)
        for field, what in (("time", "time"), ("duration", "duration"), ("every", "interval")):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, days(getattr(self, field), what))
        require(self.duration >= 0, f"the duration must not be negative, not {self.duration:g} d")
        require(self.every is None or self.every > 0, "the interval must be longer than 0 d")
        if self.count is not None:
            object.__setattr__(self, "count", whole_number(self.count, "the number of doses"))
        require(self.count == 1 or self.every, 'what is repeated needs an interval, as in "q4w"')
        if self.kind in ("dose", "steady"):
            self._check_dose()
        elif self.kind != "reset":
            require(self.target, f'"{self.kind}" needs a target, a state or parameter by name')
            require(0 <= self.factor < math.inf, f"a factor must be 0 or more, not {self.factor:g}")
            require(
                self.kind == "multiply" or self.duration, '"modify" needs a duration, above 0 d'
            )

    def _check_dose(self):
        text = f"{format_number(self.amount)} {self.unit}"
        require(0 < self.amount < math.inf, f"a dose must be a number above 0, not {text}")
        require_known("dose unit", self.unit, DOSE_UNITS)
        require(self.route, f'dose "{text}" has no route; write sc or iv, as in "{text} sc"')
        require(self.route in ROUTES, f'unknown route "{self.route}"; write sc or iv')
        if self.cap is not None:
            require(self.unit != "mg", f'dose "{text}" cannot have a max; mg/kg and mg/m2 can')
            require(0 < self.cap < math.inf, f"max must be a number above 0, not {self.cap:g} mg")

    def occurrences(self, until: float = math.inf) -> Iterator[float]:
        """Return the days on which it happens, those before day `until`."""
        numbers = count() if self.count is None else range(self.count)
        return takewhile(lambda day: day < until, map(self.day, numbers))

    def day(self, k: int) -> float:
        """Return the day of occurrence `k`, from 0."""
        return self.time + k * self.every if k else self.time

    def piece(self, first: int, last: int | None = None) -> list[Event]:
        """Return occurrences `first` to `last` - 1 (to the end if None), as no or one event."""
        last = self.count if last is None else last
        n = None if last is None else max(last - first, 0)
        every = None if n == 1 and self.kind != "steady" else self.every
        return [] if n == 0 else [replace(self, time=self.day(first), count=n, every=every)]

    def __str__(self):
        if self.kind == "reset":
            return "reset"
        if self.kind not in ("dose", "steady"):
            length = f" for {format_time(self.duration)}" if self.kind == "modify" else ""
            return f"{self.kind} {self.target} x {format_number(self.factor)}{length}"
        cap = "" if self.cap is None else f" max {format_number(self.cap)} mg"
        over = f" over {format_time(self.duration, ('h', 2))}" if self.duration else ""
        dose = f"{format_number(self.amount)} {self.unit}{cap} {self.route}{over}"
        if self.kind == "dose":
            return dose
        often = f"every {format_time(self.every)}" if self.every else "a day, infused"
        return f"steady state of {dose} {often}{', added' if self.superposed else ''}"


def format_time(day: float, *first: tuple[str, int]) -> str:
    """Write a time exactly, in the unit that makes it shortest."""
    for unit, decimals in (*first, *_TIME_UNITS):
        text = f"{format_number(round(day / days(f'1 {unit}'), decimals))} {unit}"
        if days(text) == day:
            return text
    return f"{format_number(day)} d"


def format_number(value: float) -> str:
    """Write a number exactly, as short as it goes."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))


def require(right: object, message: str) -> None:
    """Raise ValueError with the message unless something holds."""
    if not right:
        raise ValueError(message)


def require_known(what: str, given: str, choices) -> None:
    """Raise ValueError naming the nearest choice unless it is one of them."""
    if given not in choices:
        raise ValueError(unknown(what, given, choices))


def whole_number(number, what: str) -> int:
    """Return a whole number of at least 1, or raise ValueError."""
    require(
        re.fullmatch(r"0*[1-9]\d*(\.0*)?", str(number)),
        f'{what} must be a whole number of at least 1, not "{number}"',
    )
    return int(float(number))
