"""Regimens: what is done to the patient and when, and the shorthand clinicians write."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, pairwise

from bcellsim.event import (
    ROUTES,
    Event,
    format_time,
    require,
    require_known,
    whole_number,
)
from bcellsim.units import convert, days, split_quantity

MAX_OCCURRENCES = 100_000  # of one event; beyond it an interval was mistyped

_MASS_UNITS = {"mg": "mg", "g": "g", "ug": "ug", "mcg": "ug"}  # as written: as in `units`
_UNITS = _MASS_UNITS | {"mg/kg": None, "mg/m2": None}
_WORD = re.compile(r"\b(max|over|at|from|every|sc|iv|[qx](?=[\s\d.+-]|$))(?![a-z])")


@dataclass(frozen=True)
class Regimen:
    """A sequence of events on one clock; doses are numbered from 1 in time order.

    Examples
    --------
    >>> plan = Regimen.parse("20 mg sc at 0 d, 7 d, 14 d; 20 mg sc q4w x 12 from 4 w")
    >>> plan.n_doses(), plan.cumulative_dose()
    (15, 300.0)
    """

    events: tuple[Event, ...]
    label: str = ""  # shown in tables; see `name`
    drug: str | None = None
    source: str | None = None
    dose: str | None = None  # filled by a grid, as in "20 mg sc"
    interval: float | None = None  # filled by a grid [day]
    notes: str = ""

    def __post_init__(self):
        object.__setattr__(self, "events", tuple(self.events))

    @classmethod
    def parse(
        cls, text: str, *, label: str = "", drug: str | None = None, source: str | None = None
    ) -> Regimen:
        """Read the shorthand: items of doses separated by semicolons.

        An item is ``<dose> [max <mass>] sc|iv [over <time>]``, then ``at <time>, <time>, ...`` or
        ``q<interval> [x <number of doses>] [from <time>]`` (also ``every <interval>``) or nothing:
        one dose at 0. Without ``x`` it is open-ended, without ``from`` it begins at 0. A bare
        number is in days, but in an ``at`` list it takes the unit of the next time that has one:
        ``at 0, 1, 2 w``. Co-therapies are built from `Event` objects.
        """
        events = []
        for item in filter(None, (" ".join(item.split()) for item in text.split(";"))):
            try:
                events += _parse_item(item.lower())
            except ValueError as error:
                raise ValueError(f'in "{item}": {error}') from None
        require(events, 'the regimen is empty; write doses, as in "20 mg sc q4w x 12"')
        return cls(tuple(events), label=label, drug=drug, source=source)

    @property
    def name(self) -> str:
        """The label, or else the shorthand and what is done besides."""
        others = dict.fromkeys(str(event) for event in self.events if event.kind != "dose")
        return self.label or " + ".join([self.shorthand() or "no doses", *others])

    @property
    def is_open(self) -> bool:
        """Whether an event is repeated without end."""
        return any(event.count is None for event in self.events)

    @property
    def first_dose(self) -> float | None:
        """Day of the first dose, or None without doses."""
        return min((event.time for event in self.events if event.kind == "dose"), default=None)

    def __add__(self, other: Regimen) -> Regimen:
        """Return the union of both on one clock."""
        if not isinstance(other, Regimen):
            return NotImplemented
        require(
            self.drug == other.drug or None in (self.drug, other.drug),
            f'regimens of two drugs cannot be added: "{self.drug}" and "{other.drug}"',
        )
        return Regimen(
            self.events + other.events,
            label=f"{self.name} + {other.name}" if self.label or other.label else "",
            drug=self.drug or other.drug,
            source="; ".join(dict.fromkeys(filter(None, (self.source, other.source)))) or None,
            notes="; ".join(dict.fromkeys(filter(None, (self.notes, other.notes)))),
        )

    def shift(self, by: float | str) -> Regimen:
        """Return it with every event moved by a time, later if positive."""
        by = days(by, "shift")
        return self._with(_shifted(self.events, by), f", shifted by {format_time(by)}")

    def delay(self, dose: int, by: float | str, shift_later: bool = False) -> Regimen:
        """Return it with dose number `dose` given later by a time; it may pass later doses.

        A negative time is earlier, but not before the first dose. With `shift_later` the doses
        after it move too. Co-therapies stay on their days.
        """
        by = days(by, "delay")
        passed, which, day = self._locate(dose)
        require(
            day + by >= self.first_dose,
            f"dose {dose} cannot come {format_time(-by)} earlier: "
            f"it would fall before the first dose, on day {self.first_dose:g}",
        )
        events = []
        for i, event in enumerate(self.events):
            k = passed[i]
            if event.kind != "dose" or (i != which and not shift_later):
                events.append(event)
            elif shift_later:
                events += event.piece(0, k) + _shifted(event.piece(k), by)
            else:
                moved = _shifted(event.piece(k, k + 1), by)
                events += event.piece(0, k) + moved + event.piece(k + 1)
        later = " and later" if shift_later else ""
        return self._with(events, f", dose {dose}{later} delayed by {format_time(by)}")

    def drop(self, dose: int) -> Regimen:
        """Return it without dose number `dose`; the others stay on their days."""
        passed, i, _ = self._locate(dose)
        event, k = self.events[i], passed[i]
        kept = (*event.piece(0, k), *event.piece(k + 1))
        return self._with(self.events[:i] + kept + self.events[i + 1 :], f", without dose {dose}")

    def repeat(self, n: int, every: float | str) -> Regimen:
        """Return `n` courses of it, each begun `every` after the one before."""
        n, every = whole_number(n, "the number of courses"), days(every, "interval")
        require(every > 0, "the interval must be longer than 0 d")
        require(not self.is_open, f'"{self.name}" is open-ended and cannot be repeated; add "x N"')
        events = [event for k in range(n) for event in _shifted(self.events, k * every)]
        again = f", {n} times every {format_time(every)}"
        return replace(self._with(events, again), dose=None, interval=None)

    def expand(self, until: float | str | None = None) -> list[Event]:
        """Return single events in time order (at equal times as given), those before `until`."""
        until = math.inf if until is None else days(until, "until")
        require(
            until < math.inf or not self.is_open,
            'the regimen is open-ended; give until="2 y", or "x N" with the number of doses',
        )
        return list(_single(self.events, until))

    def doses(self, until: float | str | None = None) -> list[Event]:
        """Return single doses in time order, those before `until`."""
        return Regimen(tuple(e for e in self.events if e.kind == "dose")).expand(until)

    def day_of(self, dose: int) -> float:
        """Return the day of dose number `dose`."""
        return self._locate(dose)[2]

    def n_doses(self, until: float | str | None = None) -> int:
        """Return the number of doses before `until`."""
        return len(self.doses(until))

    def cumulative_dose(self, until: float | str | None = None) -> float | None:
        """Return the sum of the doses before `until` [mg]; None if one is per kg or m2."""
        doses = self.doses(until)
        sized = any(dose.unit != "mg" for dose in doses)
        return None if sized else math.fsum(dose.amount for dose in doses)

    def shorthand(self) -> str:
        """Return the doses as text that `parse` reads back exactly; co-therapies are left out."""
        items: list[tuple[str, list[float], str]] = []  # dose, days of an `at` list, repetition
        for event in (event for event in self.events if event.kind == "dose"):
            if event.count != 1:
                n = "" if event.count is None else f" x {event.count}"
                start = f" from {format_time(event.time)}" if event.time else ""
                items.append(
                    (str(event), [], f"q{format_time(event.every).replace(' ', '')}{n}{start}")
                )
            elif items and items[-1][0] == str(event) and [] < items[-1][1][-1:] < [event.time]:
                items[-1][1].append(event.time)
            else:
                items.append((str(event), [event.time], ""))
        return "; ".join(f"{dose} {again or _at(times)}" for dose, times, again in items)

    def table(self, until: float | str | None = None):
        """Return a DataFrame with one row an event.

        `dose` is its number, `interval` the days since the dose before; co-therapies add `target`
        and `factor`. Without `until` an open-ended event is shown to its third occurrence.
        """
        import pandas as pd

        rows = []
        for number, since, event in self._rows(until):
            row = vars(event) if number else vars(event) | {"amount": math.nan, "unit": None}
            row = row | {"dose": number, "day": event.time, "interval": since}
            rows.append(row | {"duration_h": event.duration * 24})
        columns = ["dose", "day", "kind", "amount", "unit", "route", "duration_h", "interval"]
        if any(event.kind != "dose" for event in self.events):
            columns += ["target", "factor"]
        table = pd.DataFrame(rows, columns=columns)
        return table.astype({"dose": "Int64", "day": float, "amount": float, "interval": float})

    def __str__(self):
        lines = [" | ".join(filter(None, (self.name, self.drug)))]
        lines += filter(None, (self.label and self.shorthand(), self.source, self.notes))
        lines.append(f"{'dose':>5}{'day':>10}{'week':>8}{'after':>11}  event")
        for number, since, event in self._rows(None):
            week = f"{event.time / 7:.1f}".removesuffix(".0")
            after = "" if math.isnan(since) else format_time(round(since, 3))
            lines.append(f"{number or '':>5}{event.time:>10.8g}{week:>8}{after:>11}  {event}")
        endless = [event for event in self.events if event.count is None]
        for event in endless:
            what = f"{event} " if len(endless) > 1 else ""
            lines.append(
                f"    …  {what}every {format_time(event.every)}, open-ended (cut at `until`)"
            )
        return "\n".join(lines)

    def _rows(self, until):
        """Yield the number, the days since the dose before, and the event, of each to print."""
        if until is None and self.is_open:
            last = max(event.day((event.count or 3) - 1) for event in self.events)
            until = math.nextafter(last, math.inf)
        number, last = 0, math.nan
        for event in self.expand(until):
            if event.kind == "dose":
                number += 1
                yield number, event.time - last, event
                last = event.time
            else:
                yield None, math.nan, event

    def _with(self, events, suffix):
        return replace(self, events=events, label=self.label and self.label + suffix)

    def _locate(self, dose):
        """Return how many doses of each event precede a dose, its event's index, and its day."""
        number = whole_number(dose, "the number of a dose")
        doses = sorted(
            (day, i)
            for i, event in enumerate(self.events)
            if event.kind == "dose"
            for day in islice(event.occurrences(), number)
        )[:number]
        require(len(doses) == number, f"there is no dose {number}; number of doses: {len(doses)}")
        return Counter(i for _, i in doses[:-1]), doses[-1][1], doses[-1][0]


# A schedule is expanded by everything that asks about it, one after the other.
@lru_cache(maxsize=16)
def _single(events, until):
    """Return single events in time order, those before `until`."""
    single = []
    for event in events:
        times = list(islice(event.occurrences(until), MAX_OCCURRENCES + 1))
        require(len(times) <= MAX_OCCURRENCES, f'"{event}" is repeated too often to list')
        every = event.every if event.kind == "steady" else None
        single += [replace(event, time=time, count=1, every=every) for time in times]
    return tuple(sorted(single, key=lambda event: event.time))


def single_dose(text: str) -> Event:
    """Return the event of a dose without a time of its own, such as ``"20 mg sc"``."""
    events = Regimen.parse(text).events
    if len(events) != 1 or events[0].every is not None or events[0].time:
        raise ValueError(f'dose "{text}": one dose and its route is wanted, without a time (at)')
    return events[0]


def maintained(
    dose: Event, every: float, loading: Regimen | None = None, start: float | str | None = None
) -> Regimen:
    """Return loading doses, then a dose repeated every so many days without end.

    Parameters
    ----------
    dose : Event
        The maintenance dose.
    every : float
        Interval [day].
    loading : Regimen, optional
        Doses before it.
    start : float or str, optional
        Time of the first maintenance dose [day]; by default `every` after the first loading dose,
        or 0 without loading.

    Raises
    ------
    ValueError
        If the first maintenance dose is before 0 or not later than the last loading dose.
    """
    begin = (loading.first_dose + every if loading else 0.0) if start is None else start
    begin = days(begin, "start")
    require(begin >= 0, f"start = {begin:g} d is before 0")
    repeated = Regimen((replace(dose, time=begin, every=every, count=None),))
    if loading is None:
        return repeated
    require(not loading.is_open, "the loading doses are open-ended; write them with `at` or `x N`")
    last = loading.doses()[-1].time
    require(
        begin > last,
        f"every {format_time(every)}: the first maintenance dose at {begin:g} d is not later than "
        f"the last loading dose at {last:g} d; give start",
    )
    return loading + repeated


def _parse_item(item):
    """Return the events of one item of the shorthand."""
    head, *rest = _WORD.split(item.replace("×", " x "))
    amount, unit = _parse_amount(head, _UNITS)
    when, route = {}, None
    for word, text in zip(rest[::2], map(str.strip, rest[1::2]), strict=True):
        word = "q" if word == "every" else word
        require(word not in when and not (route and word in ROUTES), f'"{word}" is one too many')
        when[word] = text
        if word in ROUTES:
            route = word
            require(not text, f'"{text}" is not understood; after {word} write over, at or q')
    duration = days(when["over"], "over") if "over" in when else 0.0
    cap = _parse_amount(when["max"], _MASS_UNITS)[0] if "max" in when else None
    dose = Event("dose", 0.0, amount, unit, cap, route, duration)
    if "q" not in when:
        require(when.keys().isdisjoint(("x", "from")), "x and from need an interval, as in q4w x 2")
        return [replace(dose, time=time) for time in _parse_times(when.get("at", "0"))]
    require("at" not in when, "give times (at) or an interval (q), not both")
    n = whole_number(when["x"], "the number of doses (x)") if "x" in when else None
    return [replace(dose, time=days(when.get("from", 0), "from"), every=when["q"], count=n)]


def _parse_amount(text, units):
    """Return an amount, masses in mg, and its unit."""
    try:
        amount, unit = split_quantity(text)
    except ValueError:
        raise ValueError(f'"{text.strip()}" is not a dose, such as "20 mg"') from None
    unit, _, more = re.sub(r"\s*/\s*", "/", unit).partition(" ")
    unit = unit.replace("m^2", "m2").replace("m²", "m2").replace("µ", "u").replace("μ", "u")
    require(unit, f'the dose has no unit; write mg, mg/kg or mg/m2, as in "{amount:g} mg sc"')
    require(not more, f'unknown route "{more}"; write sc or iv')
    require_known("dose unit", unit, units)
    return (convert(amount, units[unit], "mg"), "mg") if units[unit] else (amount, unit)


def _parse_times(text):
    """Return the days of an ``at`` list; a bare number takes the unit of the next that has one."""
    times, unit = [], ""
    for number, own in map(split_quantity, reversed(re.split(r",|\band\b", text))):
        require(
            unit or not times or not own or days(f"1 {own}") == 1,
            f'the last time in "at {text}" has no unit; write it, as in "at 0, 1, 2 w"',
        )
        unit = own or unit
        times.insert(0, (days(f"{number} {unit}", "at"), f"{number:g} {unit or 'd'}"))
    for (day, first), (later, second) in pairwise(times):
        require(day != later, f'time {second} is given twice in "at {text}"')
        require(day < later, f'times out of order in "at {text}": {first} comes before {second}')
    return [day for day, _ in times]


def _at(times):
    """Write an ``at`` list, in weeks or days throughout where they are whole."""
    unit = "w" if all(day % 7 == 0 for day in times) and max(times) > 14 else "d"
    return "at " + ", ".join(format_time(day, (unit, 0)) for day in times)


def _shifted(events, by):
    return [replace(event, time=event.time + by) for event in events]
