"""Schedules of which every scenario has its own: sampled doses and intervals, as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bcellsim.covariates import PER, amounts
from bcellsim.engine import Events, Solution
from bcellsim.engine import events as ev
from bcellsim.event import Event
from bcellsim.explore.outcomes import Outcome, Span, answers
from bcellsim.metrics import Question
from bcellsim.population import Population
from bcellsim.regimen import Regimen, single_dose
from bcellsim.schedule import check_event
from bcellsim.simulate import solve_events
from bcellsim.sweep.design import Design
from bcellsim.units import days

_NO_TIMES = np.empty(0)


@dataclass(frozen=True, eq=False)
class OwnSchedules:
    """Loading doses that all have, then a dose and an interval of each scenario.

    Parameters
    ----------
    design : Design
        The design.
    settings : dict
        What the schedules have in common.
    span : Span
        Horizon, induction, follow-up.
    loading : tuple of Event
        Loading doses, single.
    dose : Event
        A maintenance dose; its amount is that of the scenario.
    amount, every : float array (n,)
        Amount [unit of the dose] and interval [day].
    rows : int array (n,)
        Which rows of the chunk they are.
    """

    design: Design
    settings: dict
    span: Span
    loading: tuple[Event, ...]
    dose: Event
    amount: np.ndarray
    every: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, design: Design, settings: dict, span: Span, factors, rows) -> OwnSchedules:
        """Read the schedules of some rows of a chunk."""
        common = {k: v for k, v in design.spec["schedule"].items() if v is not None} | settings
        sampled = {f.name: f for f in design.factors if f.levels is None}
        of_dose, n = sampled.get("dose"), len(rows)
        dose = single_dose(of_dose.template if of_dose else common["dose"])
        amount = factors["dose"][rows] if of_dose else np.full(n, dose.amount)
        if "interval" in sampled:
            every = factors["interval"][rows]
        else:
            every = np.full(n, days(common["interval"], "interval"))
        text = common.get("loading")
        loading = Regimen.parse(text) if text not in (None, "none") else None
        events = tuple(loading.expand(span.until)) if loading else ()
        return cls(design, common, span, events, dose, amount, every, rows)

    def part(self, which: slice | np.ndarray) -> OwnSchedules:
        """Return some of the schedules."""
        return replace(
            self, amount=self.amount[which], every=self.every[which], rows=self.rows[which]
        )

    @cached_property
    def begin(self) -> np.ndarray:
        """The day of the first maintenance dose."""
        if self.settings.get("start") is not None:
            return np.full(len(self.every), days(self.settings["start"], "start"))
        return self.loading[0].time + self.every if self.loading else np.zeros(len(self.every))

    @cached_property
    def _good(self):
        last = self.loading[-1].time if self.loading else -np.inf
        first = np.minimum(self.loading[0].time if self.loading else np.inf, self.begin)
        good = (self.begin >= 0) & (self.begin > last) & (self.every <= self.span.until)
        good &= first + self.span.induction < self.span.until
        most = self.settings.get("max_doses")
        return good & (most is None or most >= max(len(self.loading), 1))

    def refused(self) -> Iterator[tuple[int, str]]:
        """Yield the row and the sentence of each schedule that cannot be."""
        for i in np.flatnonzero(~self._good):
            dose = str(replace(self.dose, amount=float(self.amount[i])))
            try:
                plan = self.design.plan(
                    self.settings | {"dose": dose, "interval": float(self.every[i])}
                )
                self.span.check(plan)
                sentence = f"max_doses = {self.settings['max_doses']} leaves no maintenance dose"
            except ValueError as error:
                sentence = str(error)
            yield self.rows[i], sentence

    def accepted(self) -> OwnSchedules:
        """Return the schedules that can be."""
        return self.part(self._good)

    @cached_property
    def n_repeated(self) -> np.ndarray:
        """The number of maintenance doses (n,)."""
        until = self.span.until
        n = np.ceil((until - self.begin) / self.every).astype(np.int64)
        # The quotient may round to the other side of a whole number.
        n += self.begin + n * self.every < until
        n -= (n > 0) & (self.begin + (n - 1) * self.every >= until)
        most = self.settings.get("max_doses")
        return np.maximum(n if most is None else np.minimum(n, int(most) - len(self.loading)), 0)

    def times(self) -> np.ndarray:
        """Return the days of the doses, ascending, then NaN (n, n_doses)."""
        k = np.arange(self.n_repeated.max(initial=0))
        later = self.begin[:, None] + k * self.every[:, None]
        later[k >= self.n_repeated[:, None]] = np.nan
        first = np.broadcast_to([event.time for event in self.loading],
                                (len(self.every), len(self.loading)))  # fmt: skip
        return np.hstack([first, later])

    def mg(self, people: Population) -> np.ndarray:
        """Return the maintenance dose of each subject [mg]."""
        size = PER.get(self.dose.unit)
        amounts([self.dose], people.covariates, len(people))  # refuses what is missing
        mg = self.amount * (people.covariates[size] if size else 1.0)
        return mg if self.dose.cap is None else np.minimum(mg, self.dose.cap)

    def events(self, people: Population, end: float) -> Events:
        """Return the doses as the engine's events, those that arrive by day `end`."""
        structure = people.model.structure
        for event in (*self.loading, self.dose):  # refuses what does not fit the model
            check_event(people.model, event, people)
        n, times = len(people), self.times()
        mg = np.empty_like(times)
        mg[:, : len(self.loading)] = amounts(self.loading, people.covariates, n)
        mg[:, len(self.loading) :] = self.mg(people)[:, None]
        who, which = np.nonzero(np.isfinite(times))
        given = [*self.loading, *[self.dose] * (times.shape[1] - len(self.loading))]
        routes = [structure.routes[event.route] for event in given]
        state = np.array([structure.states.index(route.state) for route in routes])
        scale = np.array(
            [structure.parameters.index(r.bioavailability) if r.bioavailability else -1
             for r in routes]
        )  # fmt: skip
        time = times[who, which] + self._lags(people, routes)[who, which]
        kept = time <= end
        who, which, time = who[kept], which[kept], time[kept]
        rows = time, np.full(len(who), ev.DOSE), state[which], mg[who, which], scale[which]
        return Events.of_subjects(n, who, rows, np.nanmin(times, axis=1))

    def _lags(self, people, routes):
        structure = people.model.structure
        columns = [
            people.parameters[:, structure.parameters.index(route.lag)]
            if route.lag else np.zeros(len(people))
            for route in routes
        ]  # fmt: skip
        return np.nan_to_num(np.column_stack(columns), posinf=0.0)

    def solve(self, people: Population, times: np.ndarray, *, until: float, **options) -> Solution:
        """Solve the schedules; `options` are those of `bcellsim.engine.solve`."""
        events = self.events(people, until)
        return solve_events(people, events, times, until=until, **options)

    def outcomes(self, people: Population, levels, recovery, *, names, **options) -> list[Outcome]:
        """Return the outcomes for every threshold, as of `bcellsim.explore.outcomes`."""
        times, span = self.times(), self.span
        # Loading doses are common to all, and without them the first maintenance dose is.
        opens = float(np.nanmin(times[0])) + span.induction
        questions = [
            Question(level, recovery or level, opens, span.until, times, span.follow_up)
            for level in levels
        ]
        loaded = amounts(self.loading, people.covariates, len(people)).sum(axis=1)
        n_doses = self.n_repeated + len(self.loading)
        dosing = {
            "n_doses": n_doses,
            "cumulative_dose": loaded + self.n_repeated * self.mg(people),
            "n_visits": n_doses,
        }

        def solve(**wanted):
            return self.solve(people, _NO_TIMES, **wanted, **options)

        return [
            Outcome(people.model, None, people, question, values, dosing, status)
            for question, values, status in answers(questions, people, solve, names)
        ]
