"""Dosing rules: the next dose waits for a measured count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Real

import numpy as np

from bcellsim.event import Event, format_number, format_time, require, require_known, whole_number
from bcellsim.names import unknown
from bcellsim.regimen import Regimen, maintained, single_dose
from bcellsim.structures import OUTPUTS
from bcellsim.units import days, quantity

#: Kinds of measurement noise that are the model's: log-normal with its proportional SD, and the
#: form of the residual error that the publication has.
NOISE = ("model", "published")
MAX_VISITS = 10_000  # beyond it the interval was mistyped


@dataclass(frozen=True, kw_only=True)
class DosingRule:
    """Count-guided redosing: measure at visits, and dose where the count is at or above a trigger.

    At a visit the value is measured before any dose of that day; the dose follows `delay` later.
    Times may be text, such as ``"4 w"``.

    Parameters
    ----------
    visit_every : float or str
        Interval of the visits [day].
    dose : str
        The dose, such as ``"20 mg sc"``.
    at_or_above : float or str
        Trigger, in the unit of the output; 0 doses at every visit that is not missed.
    min_gap : float or str
        Least time from any dose before to a dose of the rule [day].
    loading : str or Regimen, optional
        Doses that are given whatever the count.
    first_visit : float or str, optional
        Time of the first visit [day]; by default `visit_every` after the first loading dose, or 0
        without loading.
    max_doses : int, optional
        Largest number of doses, loading included.
    lloq : float or str
        Lower limit of quantification, in the unit of the output: what is measured below it is
        below the trigger.
    noise : float or str
        Error of the measurement: an SD of its logarithm, ``"model"`` (log-normal with the model's
        published proportional SD), or ``"published"`` (the form of the publication, which can go
        below 0). 0 is exact.
    missed : float
        Probability that a visit is missed: nothing is measured and no dose ordered.
    delay : float or str
        From the visit to the dose it orders [day].
    output : str
        The output that is measured.
    label : str
        Shown in tables; see `name`.
    drug : str, optional
        The drug, if only its models may be dosed.

    Raises
    ------
    ValueError
        If an argument is not valid, the trigger is above 0 and below the LLOQ, or the first visit
        is not later than the last loading dose.

    Examples
    --------
    >>> rule = DosingRule(visit_every="4 w", dose="20 mg sc", at_or_above=10, lloq=1)
    >>> rule.name
    '20 mg sc if bcell >= 10 cells/uL, q4w'
    """

    visit_every: float | str
    dose: str
    at_or_above: float | str
    min_gap: float | str = 0.0
    loading: str | Regimen | None = None
    first_visit: float | str | None = None
    max_doses: int | None = None
    lloq: float | str = 0.0
    noise: float | str = "model"
    missed: float = 0.0
    delay: float | str = 0.0
    output: str = "bcell"
    label: str = ""
    drug: str | None = None

    def __post_init__(self):
        require_known("output", self.output, OUTPUTS)
        unit = OUTPUTS[self.output].unit
        for name in ("visit_every", "min_gap", "delay"):
            self._set(name, days(getattr(self, name), name))
        for name in ("at_or_above", "lloq"):
            self._set(name, quantity(getattr(self, name), unit, what=name))
        if self.first_visit is not None:
            self._set("first_visit", days(self.first_visit, "first_visit"))
        if isinstance(self.loading, str):
            self._set("loading", Regimen.parse(self.loading))
        if self.max_doses is not None:
            self._set("max_doses", whole_number(self.max_doses, "max_doses"))
        self._check()
        self._check_noise()
        self._check_loading()

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def _check(self):
        require(self.visit_every > 0, "visit_every must be longer than 0 d")
        for name in ("min_gap", "delay", "lloq", "at_or_above"):
            value = getattr(self, name)
            require(value >= 0, f"{name} must not be negative, not {value:g}")
        require(
            self.at_or_above == 0 or self.at_or_above >= self.lloq,
            f"at_or_above = {self.at_or_above:g} is above 0 and below the LLOQ of {self.lloq:g}: a "
            "count there cannot be told from none; give 0, or the LLOQ or more",
        )
        given = isinstance(self.missed, Real) and 0 <= self.missed < 1
        require(given, f"missed = {self.missed}: a probability from 0 to below 1 is wanted")

    def _check_noise(self):
        if isinstance(self.noise, str) and self.noise not in NOISE:
            try:
                self._set("noise", float(self.noise))
            except ValueError:
                message = unknown("noise", self.noise, NOISE)
                raise ValueError(f"{message}, or give an SD of the logarithm") from None
        if not isinstance(self.noise, str):
            right = 0 <= self.noise < np.inf
            require(right, f"noise = {self.noise}: an SD of the logarithm of 0 or more is wanted")

    def _check_loading(self):
        if self.loading is not None:
            require(
                all(event.kind == "dose" for event in self.loading.events),
                "the loading of a rule consists of doses only",
            )
            n = 0 if self.loading.is_open else self.loading.n_doses()
            require(
                self.max_doses is None or self.max_doses >= n,
                f"max_doses = {self.max_doses}, but the loading alone has {n} doses",
            )
        self.fixed()

    @classmethod
    def parse(cls, text: str) -> DosingRule:
        """Read ``"dose=20 mg sc; visit_every=4 w; at_or_above=10; min_gap=8 w"``.

        Raises
        ------
        ValueError
            If a name is not one of the parameters, is given twice or misses its value.
        """
        known = [field.name for field in fields(cls)]
        given = {}
        for item in filter(None, (part.strip() for part in text.split(";"))):
            name, _, value = (part.strip() for part in item.partition("="))
            require_known("part of a rule", name, known)
            require(value, f'in the rule: "{item}" has no value; write {name}=...')
            require(name not in given, f"in the rule: {name} is given twice")
            given[name] = value
        for name in ("visit_every", "dose", "at_or_above"):
            require(name in given, f'the rule "{text}" has no {name}')
        if "missed" in given:
            given["missed"] = quantity(given["missed"], "", what="missed")
        return cls(**given)

    @property
    def name(self) -> str:
        """The label, or else dose, trigger and visits."""
        if self.label:
            return self.label
        unit = OUTPUTS[self.output].unit
        every = format_time(self.visit_every).replace(" ", "")
        trigger = f"{self.output} >= {format_number(self.at_or_above)} {unit}".strip()
        loading = f"{self.loading.name}; then " if self.loading else ""
        return f"{loading}{self.event} if {trigger}, q{every}"

    @property
    def interval(self) -> None:
        """None: the count decides."""
        return None

    @cached_property
    def event(self) -> Event:
        """The dose, without a time of its own."""
        return single_dose(self.dose)

    def fixed(self) -> Regimen:
        """Return the schedule that doses at every visit, loading first."""
        plan = maintained(self.event, self.visit_every, self.loading, self.first_visit)
        return replace(plan, drug=self.drug or plan.drug)

    @property
    def first_dose(self) -> float:
        """Return the first day that is planned: of the loading, or of the visits."""
        return self.fixed().first_dose

    def visits(self, until: float) -> np.ndarray:
        """Return the days of the visits before day `until`."""
        repeated = self.fixed().events[-1]
        return np.array(list(repeated.occurrences(until)))

    def check_horizon(self, until: float) -> None:
        """Raise ValueError if the visits do not fit the horizon [day]."""
        require(
            self.visit_every <= until,
            f"rule {self.name}: visits every {self.visit_every:g} d, longer than the horizon, "
            f"until = {until:g} d; give a later until",
        )
        require(
            until / self.visit_every <= MAX_VISITS,
            f"rule {self.name}: more than {MAX_VISITS:,} visits before until = {until:g} d",
        )

    def triggers(self, levels: Iterable[float | str]) -> list[DosingRule]:
        """Return this rule with each of several triggers, for a trade-off curve."""
        rules = [replace(self, at_or_above=level, label="") for level in levels]
        if not self.label:
            return rules
        return [
            replace(rule, label=f"{self.label}, >= {format_number(rule.at_or_above)}")
            for rule in rules
        ]
