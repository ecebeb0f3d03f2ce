"""Posteriors of a model without covariates, by weighing one large sample of its population.

Independent of the fits: no search, no curvature, no proposals. The sample is simulated once under
the doses of a setting; for the counts of a patient each member has the weight of its likelihood.
"""

from __future__ import annotations

import numpy as np
from recovery import LLOQ, measured
from scipy.stats import norm

import bcellsim as bc
from bcellsim.redose.case import Case
from bcellsim.redose.dates import crossings
from bcellsim.regimen import Regimen, single_dose

_AT_ONCE = 20_000  # members solved together


class Sample:
    """Members of the population, their counts, and when these cross without a further dose.

    Parameters
    ----------
    model : Model
        A model without covariates.
    setting : Setting
        Doses and count times.
    n, seed : int
        Number of members, and their seed.
    level, until : float
        Threshold [cells/uL], and horizon after the last count [day].
    """

    def __init__(self, model, setting, n, *, seed, level, until):
        people = bc.sample_population(model, n, seed=seed)
        now, plan = setting.times[-1], setting.plan()
        counts = bc.simulate(model, plan, people, times=setting.times).bcell.values
        parts = (people.part(slice(k, k + _AT_ONCE)) for k in range(0, n, _AT_ONCE))
        crossed = [crossings(Case(
            model, part, None, Regimen.parse(plan), single_dose(setting.dose), level, 0.5, 0.0,
            now + until, float(len(part)), seed, "", opens=now,
        )) for part in parts]  # fmt: skip
        self.counts, self.log = counts, np.log(counts)
        self.crossed = np.concatenate(crossed) - now
        self.order = np.argsort(self.crossed)
        self.sd = model.residual_error["bcell"].prop_sd

    def weights(self, seen) -> np.ndarray:
        """Return the weight of each member for the counts of a patient, some below `LLOQ`."""
        logs = np.zeros(len(self.log))
        for k, count in enumerate(seen):
            apart = (np.log(max(count, LLOQ)) - self.log[:, k]) / self.sd
            logs += norm.logcdf(apart) if count < LLOQ else -0.5 * apart**2
        found = np.exp(logs - logs.max())
        return found / found.sum()

    def advised(self, weights, probability) -> tuple[str, float]:
        """Return the status and the latest day to dose again, from now."""
        above = weights[self.crossed <= 0.0].sum()
        if above > 0.5 or above > 1.0 - probability:
            return ("now" if above > 0.5 else "none"), 0.0
        crossed = self.crossed[self.order]
        past = np.searchsorted(np.cumsum(weights[self.order]), 1.0 - probability, side="right")
        day = crossed[min(past, len(crossed) - 1)]
        return ("found", float(np.floor(day))) if np.isfinite(day) else ("no need", np.nan)

    def share(self, weights, day) -> float:
        """Return the posterior probability of not having crossed by a day from now."""
        return float(weights[self.crossed > day].sum())


def advice(patients: Sample, sample: Sample, *, seed, probability, until) -> list[dict]:
    """Return what the weights of a sample advise to patients, as the rows of `decisions`."""
    rows = []
    for i, true in enumerate(patients.counts):
        seen = measured(None, true, patients.sd, seed, i)
        weights = sample.weights(seen)
        status, day = sample.advised(weights, probability)
        inside = status == "found" and 0 < day < until
        rows.append({
            "status": status, "day": day, "claimed": sample.share(weights, day), "inside": inside,
            "kept": bool(patients.crossed[i] > day) if inside else None,
            "crossing": float(patients.crossed[i]), "effective": float(1.0 / np.sum(weights**2)),
            "censored": float(np.mean(np.array(seen) < LLOQ)),
        })  # fmt: skip
    return rows
