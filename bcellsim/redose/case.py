"""What is asked for whom: draws of a patient with a history, or virtual patients without one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from bcellsim.event import Event
from bcellsim.explore.outcomes import Outcome, Span, outcomes
from bcellsim.fit import Fit
from bcellsim.forecast import continued, first_dose
from bcellsim.model import Model
from bcellsim.population import Population
from bcellsim.regimen import Regimen


@dataclass(frozen=True, eq=False)
class Case:
    """Who is to be dosed, with what, and what is wanted.

    Parameters
    ----------
    model : Model
        The model.
    people : Population
        Posterior draws of the patient, or virtual patients with its covariates.
    result : Fit or None
        The fit, in next-dose mode.
    first : Regimen or None
        The first course, in first-dose mode.
    dose : Event
        The dose to give again.
    level : float
        Threshold [cells/uL].
    probability : float
        Wanted probability of a count at or below it.
    now : float
        The present, on the clock of the data [day]; 0 in first-dose mode.
    until : float
        Horizon, from now [day].
    effective : float
        Effective number of draws.
    seed : int
        Their seed.
    note : str
        How they were drawn.
    method : str
        By which method of `Fit.draws`.
    opens : float
        From when on the count is to be at or below the threshold, from now [day].
    threads : int or None
        As for `bcellsim.engine.solve`.
    """

    model: Model
    people: Population
    result: Fit | None = field(repr=False)
    first: Regimen | None
    dose: Event
    level: float
    probability: float
    now: float
    until: float
    effective: float
    seed: int
    note: str
    method: str = ""
    opens: float = 0.0
    threads: int | None = None

    @property
    def clock(self) -> float:
        """Return now on the engine's clock [day]."""
        return float(self.result.problem.line.days(self.now)) if self.result else 0.0

    def regimen(self, plan: Regimen | None, until: float, *, anew: bool = False) -> Regimen:
        """Return what was given by now, then a plan whose day 0 is now, cut `until` after it.

        `anew`: in first-dose mode the plan takes the place of the first course.
        """
        if self.result:
            return continued(self.result, plan, now=self.now, until=self.now + until)
        first = () if anew else self.first.expand(until)
        coming = plan.expand(until) if plan else ()
        return Regimen((*first, *coming), drug=plan.drug if plan else self.first.drug)

    def given_on(self, day: float) -> Regimen:
        """Return the dose, given once so long after now."""
        return Regimen((replace(self.dose, time=day),))

    def people_on(self, plan: Regimen | None) -> Population:
        """Return the draws as they are under a plan from now on.

        Where parameters vary between occasions, its first dose begins a new one.
        """
        if self.result is None or plan is None or not self.result.problem.renews:
            return self.people
        day = first_dose(plan, self.now)
        return self.result.population(len(self.people), self.seed, self.method, anew=day)

    def span(self, regimen: Regimen) -> Span:
        """Return the window of the outcomes of a regimen: from `opens` to the horizon."""
        begins = self.clock + self.opens - regimen.first_dose
        return Span(self.clock + self.until, begins, 0.0)

    def outcome(self, plan: Regimen | None, *, anew: bool = False) -> Outcome:
        """Return the metrics of a plan in that window, of every draw."""
        regimen = self.regimen(plan, self.until, anew=anew)
        return outcomes(
            regimen,
            self.people_on(plan),
            [self.level],
            None,
            self.span(regimen),
            threads=self.threads,
        )[0]

    def error(self, share: float) -> float:
        """Return the Monte-Carlo standard error of a share of the draws."""
        return float(np.sqrt(share * (1.0 - share) / min(self.effective, len(self.people))))
