"""The result of `redose`: answers, with what they rest on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.fit.report import as_json, plain
from bcellsim.observations import day_zero
from bcellsim.redose.case import Case
from bcellsim.redose.dates import Latest
from bcellsim.redose.words import NOT_ADVICE, as_text, unused
from bcellsim.simulate import provenance

if TYPE_CHECKING:
    import pandas as pd

    from bcellsim.fit import Fit

_PRIOR, _POSTERIOR = "prior_median", "posterior_median"


@dataclass(frozen=True, eq=False)
class Advice:
    """When to dose again.

    Parameters
    ----------
    case : Case
        Who was asked for, and what.
    crossing : dict of str to float
        When the count crosses the threshold without a further dose, from now [day]: ``p5 p25 p50
        p75 p95``, infinite where not by the horizon; ``share_above_now``, ``share_not_crossed``.
    latest : Latest
        The latest day to dose again, from now.
    intervals : DataFrame
        The fixed intervals looked at; ``attrs["value"]`` is the longest that does [day] or None.
    alternatives : DataFrame
        Plans side by side: doses, cumulative mg, share suppressed, days at or below the threshold.
    courses : DataFrame
        Quantiles of the count without a further dose, and with one on the day of the answer.
    warnings : tuple of str
        What to know before following it.
    disease : str or None
        Disease of the patient, as given.
    """

    case: Case = field(repr=False)
    crossing: dict[str, float]
    latest: Latest
    intervals: pd.DataFrame = field(repr=False)
    alternatives: pd.DataFrame = field(repr=False)
    courses: pd.DataFrame = field(repr=False)
    warnings: tuple[str, ...]
    disease: str | None = None

    @property
    def fit(self) -> Fit | None:
        """The fit it was made from; None in first-dose mode."""
        return self.case.result

    @property
    def mode(self) -> str:
        """``"next dose"`` or ``"first dose"``."""
        return "next dose" if self.case.result else "first dose"

    @property
    def day(self) -> float | None:
        """The latest day to dose again, from now; None where no day is needed or none does."""
        return self.latest.day if self.latest.status in ("found", "now") else None

    @property
    def interval(self) -> float | None:
        """The longest fixed interval that does [day]; None if none does."""
        return self.intervals.attrs["value"]

    @property
    def parameters(self) -> pd.DataFrame | None:
        """What the data say of each parameter: prior and posterior median and 90 % interval."""
        fit = self.case.result
        if fit is None or not fit.prior:
            return None
        import pandas as pd
        from scipy.special import expit, logit

        rows = fit.params[fit.params["prior_sd"].notna()]
        draws = fit.draws(len(self.case.people), self.case.seed, self.case.method)
        found = []
        for name, row in rows.iterrows():
            steps = np.array([-1.6449, 1.6449]) * row["prior_sd"]
            on_logit = fit.model.is_logit(name)
            prior = (expit(logit(row["typical"]) + steps) if on_logit
                     else row["typical"] * np.exp(steps))  # fmt: skip
            after = np.quantile(draws[name], [0.5, 0.05, 0.95])
            found.append((name, row["unit"], row["typical"], *prior, *after, row["determined"]))
        return pd.DataFrame(found, columns=[
            "parameter", "unit", _PRIOR, "prior_p5", "prior_p95",
            _POSTERIOR, "posterior_p5", "posterior_p95", "determined",
        ])  # fmt: skip

    def date(self, day: float) -> str:
        """Return the calendar date of a day from now; empty where the data have no dates."""
        zero = day_zero(self.case.result.problem.table) if self.case.result else None
        if zero is None or not np.isfinite(day):
            return ""
        return f"{zero + timedelta(days=self.case.now + day):%Y-%m-%d}"

    def report(self) -> str:
        """Return the advice in words: target, what it rests on, answers, options, checks."""
        return as_text(self)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return its tables by name."""
        found = {
            "alternatives": self.alternatives, "days": self.latest.looked_at,
            "intervals": self.intervals, "courses": self.courses,
        }  # fmt: skip
        if self.case.result:
            found["counts"] = self.case.result.residuals
        if self.parameters is not None:
            found["parameters"] = self.parameters
        return found

    def to_json(self) -> dict:
        """Return the advice as plain data, missing numbers as None."""
        case, found = self.case, self.latest
        columns = ["interval", "n_doses", "suppressed_throughout", "reaches"]
        return {
            **provenance(case.model),
            "mode": self.mode,
            "method": case.note,
            "seed": case.seed,
            "draws": len(case.people),
            "effective_draws": case.effective,
            "dose": str(case.dose),
            "below": case.level,
            "probability": case.probability,
            "now": case.now,
            "until": case.until,
            "window_opens": case.opens,
            "crossing": {k: _number(v) for k, v in self.crossing.items()},
            "latest": {
                "status": found.status, "days_from_now": _number(found.day),
                "day": _number(case.now + found.day), "date": self.date(found.day) or None,
                "share": found.share, "mc_se": found.error,
                "low": _number(found.low), "high": _number(found.high),
            },
            "longest_interval": {
                "days": self.interval, "share": self.intervals.attrs["share"],
                "mc_se": self.intervals.attrs["mc_se"],
            },
            "alternatives": plain(self.alternatives),
            "days_looked_at": plain(found.looked_at),
            "intervals_looked_at": plain(self.intervals[columns]),
            "parameters": None if self.parameters is None else plain(self.parameters),
            "fit": as_json(case.result) if case.result else None,
            "not_used": unused(case.result) if case.result else [],
            "warnings": list(self.warnings),
            "context_of_use": case.model.context_of_use,
            "not_for": case.model.not_for,
            "notice": NOT_ADVICE,
        }  # fmt: skip


def _number(value):
    return float(value) if np.isfinite(value) else None
