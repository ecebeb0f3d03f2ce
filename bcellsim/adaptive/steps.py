"""The first pass of a rule: from visit to visit for all subjects at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bcellsim.adaptive.followed import (
    BELOW,
    DOSE,
    GAP,
    LATE,
    MAXIMUM,
    MISSED,
    Doses,
    Followed,
    saved_rows,
)
from bcellsim.draws import normals, uniforms
from bcellsim.engine import Events
from bcellsim.population import Population
from bcellsim.regimen import Regimen
from bcellsim.rule import DosingRule
from bcellsim.schedule import compile_events
from bcellsim.simulate import solve_events

# A day that no dose arrives after [day].
_FAR = 1e6
# Rounding of the difference of two days.
_SAME_TIME = 1e-9


def follow(
    rule: DosingRule, people: Population, *, until: float, seed: int, threads: int | None = None
) -> Followed:
    """Return what a rule does with each subject.

    Parameters
    ----------
    rule : DosingRule
        The rule.
    people : Population
        The subjects; what the rule leaves to chance depends on (seed, visit, subject) only.
    until : float
        Horizon; visits and doses fall before it [day].
    seed : int
        Seed of measurement errors and missed visits.
    threads : int, optional
        As for `bcellsim.engine.solve`.

    Raises
    ------
    ValueError
        If the rule does not fit the model or the horizon.
    RuntimeError
        If a subject could not be solved.
    """
    rule.check_horizon(until)
    return _Pass(rule, people, until, seed, threads).run()


class _Pass:
    """The first pass, from moment to moment."""

    def __init__(self, rule, people, until, seed, threads):
        self.rule, self.people, self.until = rule, people, until
        self.seed, self.threads, self.numbers = seed, threads, people.numbers()
        self.structure, n = people.model.structure, len(people)
        people.model.require_output(rule.output)
        people.require_one_occasion(f"rule {rule.name}")
        self.templates = {}
        self.visits = rule.visits(until)
        loading = rule.loading.doses(until) if rule.loading else []
        planned = np.unique([*self.visits, *(event.time for event in loading)])
        dosed = _snapped(self.visits + rule.delay, planned)
        self.dose_day = np.where(dosed < until, dosed, np.nan)
        self.moments = np.unique([*planned, *dosed[dosed < until]])
        self.doses, self.clock = [], np.full(n, np.inf)
        self.n_doses, self.last = np.zeros(n, dtype=int), np.full(n, -np.inf)
        self._give(rule.event, np.arange(0), 0.0, True)  # refuses what does not fit
        for event in loading:
            self._give(event, np.arange(n), event.time, False)
        self.outputs = tuple({rule.output, "conc"} & set(self.structure.outputs))
        self.measured, self.reasons = np.full((2, n, len(self.visits)), np.nan)
        self._check_infusions()

    def _check_infusions(self):
        longest = max((dose.duration for dose in self.rule.fixed().events), default=0.0)
        gap = np.diff(self.moments).min(initial=np.inf)
        if longest > gap:
            raise ValueError(
                f"rule {self.rule.name}: an infusion over {longest:g} d does not end before the "
                f"next visit or dose, {gap:g} d later"
            )

    def run(self):
        """Go through the moments; after the last there is nothing to decide."""
        n, m = len(self.people), len(self.moments)
        before, states = np.empty((len(self.outputs), n, m)), None
        for j, day in enumerate(self.moments):
            states, before[:, :, j] = self._reach(j, states)
            visit = np.searchsorted(self.visits, day)
            if visit < len(self.visits) and self.visits[visit] == day:
                self._visit(visit, before[self.outputs.index(self.rule.output), :, j])
        return Followed(
            self.rule, self.people, self.visits, self.measured, self.reasons.astype(int),
            self.moments, dict(zip(self.outputs, before, strict=True)), Doses.joined(self.doses),
            self.seed,
        )  # fmt: skip

    def _give(self, event, subjects, day, ordered):
        """Put down the doses of one event given to some subjects on a day."""
        template, amounts = self._template(event)
        width = template.start[1]
        which = template.schedule[subjects]
        at = (template.start[which][:, None] + np.arange(width)).ravel()
        rows = (
            np.repeat(subjects, width), template.time[at] + day, template.kind[at],
            template.index[at], template.value[at], template.scale[at],
        )  # fmt: skip
        n = len(subjects)
        times, by_rule = np.full(n, day), np.full(n, ordered)
        self.doses.append(Doses(subjects, times, amounts[which], by_rule, rows))
        self.clock[subjects] = np.minimum(self.clock[subjects], day)
        self.n_doses[subjects] += 1
        self.last[subjects] = day

    def _template(self, event):
        """Return the engine's rows of a dose at day 0, and its amount, of each schedule."""
        single = replace(event, time=0.0, every=None, count=1)
        if single not in self.templates:
            plan = Regimen((single,), label=self.rule.name, drug=self.rule.fixed().drug)
            found = compile_events(self.people.model, plan, self.people, _FAR)
            value = found.value[found.start[:-1]]
            self.templates[single] = found, value * (single.duration or 1.0)
        return self.templates[single]

    def _reach(self, j, states):
        """Integrate from the moment before to this one; return states and outputs there."""
        n, day = len(self.people), self.moments[j]
        rows = [saved_rows(n, day)]
        times = [day]
        if j:
            begin = self.moments[j - 1]
            times = [begin, day]
            for doses in self.doses:
                subject, time = doses.rows[:2]
                if len(time) and time.min() < day and time.max() >= begin:
                    now = (time >= begin) & (time < day)
                    rows.insert(0, tuple(column[now] for column in doses.rows))
        subject, *columns = map(np.concatenate, zip(*rows, strict=True))
        events = Events.of_subjects(n, subject, tuple(columns), self.clock)
        solution = solve_events(
            self.people, events, np.array(times), until=day, states=states,
            outputs=self.outputs, threads=self.threads, backend="compiled",
        )  # fmt: skip
        return solution.saved[:, 0], solution.values[:, -1].T

    def _visit(self, k, count):
        """Measure, decide, and order the doses of visit k."""
        rule, n = self.rule, len(count)
        missed = uniforms(self.seed, "missed", self.numbers, 1, replicate=k)[:, 0] < rule.missed
        measured = measure(rule, self.people.model, count, self.seed, self.numbers, k)
        day = self.dose_day[k]
        wants = (rule.at_or_above == 0) | ((measured >= rule.at_or_above) & (measured >= rule.lloq))
        reason = np.full(n, DOSE)
        if np.isnan(day):
            reason[:] = LATE
        else:
            reason[day - self.last < rule.min_gap - _SAME_TIME] = GAP
        if rule.max_doses is not None:
            reason[self.n_doses >= rule.max_doses] = MAXIMUM
        reason[~wants] = BELOW
        reason[missed] = MISSED
        self.reasons[:, k] = reason
        self.measured[:, k] = np.where(missed, np.nan, measured)
        dosed = np.flatnonzero(reason == DOSE)
        if len(dosed):
            self._give(rule.event, dosed, day, True)


def measure(rule, model, count, seed, numbers, visit) -> np.ndarray:
    """Return what is measured of simulated values (n_subjects,) at a visit.

    Raises
    ------
    ValueError
        If the noise is the model's, and it has no residual error of that output.
    """
    z = normals(seed, "assay", numbers, 1, replicate=visit)[:, 0]
    if not isinstance(rule.noise, str):
        return count * np.exp(rule.noise * z)
    if rule.output not in model.residual_error:
        raise ValueError(
            f"model {model.name} has no published residual error of {rule.output}: give noise, an "
            "SD of the logarithm of what is measured"
        )
    error = model.residual_error[rule.output]
    if rule.noise == "model":
        return count * np.exp(error.prop_sd * z)
    if error.form not in ("combined1", "combined2"):
        raise ValueError(
            f"the residual error of {rule.output} in model {model.name} has the form {error.form}: "
            "give noise, an SD of the logarithm of what is measured"
        )
    add, proportional = error.add_sd, error.prop_sd * count
    sd = add + proportional if error.form == "combined1" else np.hypot(add, proportional)
    return count + sd * z


def _snapped(times, grid):
    """Return times, those that are one of the grid but for rounding as it has them."""
    nearest = grid[np.clip(np.searchsorted(grid, times - _SAME_TIME), 0, len(grid) - 1)]
    return np.where(np.abs(nearest - times) <= _SAME_TIME, nearest, times)
