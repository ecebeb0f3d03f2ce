"""The result of an individual fit: estimates, their uncertainty, residuals, and a report."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, logit

from bcellsim.model import Model
from bcellsim.population import Population
from bcellsim.regimen import Regimen
from bcellsim.simulate import described, provenance
from bcellsim.structures import PARAMETERS

_CURVE_POINTS = 401
_SAME = 1e-2  # sums of squares this close (relative and absolute) are one minimum
_Z90 = 1.6448536269514722


@dataclass(frozen=True, eq=False)
class Fit:
    """Fitted parameters of one subject.

    Parameters
    ----------
    model : Model
        The model that was fitted.
    params : DataFrame
        A row a parameter: value, unit, low_90, high_90, log_se (SE of its logarithm, or logit),
        typical, prior_sd, and `determined`: by what the value is determined.
    residuals : DataFrame
        A row an observation: TIME, DVID, DV, CENS, LIMIT, PRED (typical), IPRED, IWRES.
    correlation : DataFrame
        Correlation of the estimates.
    sigma : dict
        SD of the log-normal error of each output.
    prior : str or None
        The prior used.
    regimen : Regimen
        The doses of the data.
    subject : Population
        The fitted subject, for `simulate`.
    covariates : dict
        Covariates used.
    curves : DataFrame
        The fitted course on a fine grid: TIME, then each output, and each ``<output>_typical``.
    objectives : tuple of float
        Sum of squares that the search from each start ended at.
    result
        lmfit's own result of the best start.
    """

    model: Model
    params: object
    residuals: object
    correlation: object
    sigma: dict
    prior: str | None
    regimen: Regimen
    subject: Population
    covariates: dict
    curves: object = field(repr=False)
    objectives: tuple[float, ...]
    result: object = field(repr=False)

    @classmethod
    def of(cls, problem, result, runs) -> Fit:
        """Collect a fit from the problem, lmfit's best result, and those of all starts."""
        import pandas as pd

        estimate = problem.vector(result.params)
        covariance = _covariance(result, len(problem.free))
        se = np.sqrt(np.diag(covariance))
        correlation = pd.DataFrame(
            covariance / np.outer(se, se), index=problem.free, columns=problem.free
        )
        return cls(
            model=problem.model,
            params=_params_table(problem, estimate, dict(zip(problem.free, se, strict=True))),
            residuals=_residuals_table(problem, estimate),
            correlation=correlation,
            sigma=problem.sigmas,
            prior=problem.prior,
            regimen=problem.regimen,
            subject=problem.subject(estimate),
            covariates=problem.covariates,
            curves=_curves(problem, estimate),
            objectives=tuple(float(run.chisqr) for run in runs),
            result=result,
        )

    @property
    def converged(self) -> bool:
        """Return whether the search ended at a minimum."""
        return bool(self.result.success)

    def report(self) -> str:
        """Return the fit as text: data, method, estimates, what is determined, fit of the rows."""
        rows = self.residuals
        censored = int(rows["CENS"].sum())
        method = (
            "maximum a posteriori, the model's between-subject variability as prior"
            if self.prior
            else "least squares, no prior"
        )
        sigmas = ", ".join(f"{name} {value:g}" for name, value in self.sigma.items())
        covariates = ", ".join(f"{name} {value:g}" for name, value in self.covariates.items())
        lines = [
            f"Fit of {described(provenance(self.model))}",
            f"  data: {len(rows)} observations, {censored} censored (M3), "
            f"{len(self.regimen.expand())} doses, {self.regimen.shorthand()}",
            f"  covariates: {covariates or 'none'}",
            f"  method: {method}; log-normal error, SD {sigmas}, fixed",
            f"  search: {'converged' if self.converged else 'DID NOT CONVERGE'}, "
            f"sum of squares {self.result.chisqr:.4g}, reached from {self._agreeing()} of "
            f"{len(self.objectives)} starts",
            "",
            self._params_text(),
            "",
            rows.to_string(index=False, float_format=lambda x: f"{x:.4g}"),
        ]
        weak = [name for name, by in self.params["determined"].items() if by in _WEAK]
        if weak:
            lines += ["", f"  Not determined by these data: {', '.join(weak)}."]
        return "\n".join(lines)

    def _agreeing(self):
        best = min(self.objectives)
        return sum(value <= best * (1.0 + _SAME) + _SAME for value in self.objectives)

    def _params_text(self):
        table = self.params.reset_index()
        return table.to_string(
            index=False, float_format=lambda x: f"{x:.4g}", na_rep="n/a", justify="right"
        )

    def to_json(self) -> dict:
        """Return the fit as plain data, missing numbers as None."""

        def plain(table):
            return [
                {str(k): None if isinstance(v, float) and not np.isfinite(v) else v
                 for k, v in row.items()}
                for row in table.to_dict("records")
            ]  # fmt: skip

        return {
            **provenance(self.model),
            "doses": self.regimen.shorthand(),
            "prior": self.prior,
            "sigma": self.sigma,
            "covariates": self.covariates,
            "converged": self.converged,
            "sum_of_squares": float(self.result.chisqr),
            "sum_of_squares_by_start": list(self.objectives),
            "n_observations": len(self.residuals),
            "n_censored": int(self.residuals["CENS"].sum()),
            "params": plain(self.params.reset_index()),
            "residuals": plain(self.residuals),
        }


_WEAK = ("prior", "nothing")


def _covariance(result, n):
    """Return lmfit's covariance of the estimates; NaN where it could not be computed."""
    covariance = getattr(result, "covar", None)
    if covariance is None:
        return np.full((n, n), np.nan)
    variance = np.diag(covariance)
    usable = np.isfinite(variance) & (variance > 0)
    return np.where(np.outer(usable, usable), covariance, np.nan)


def _params_table(problem, estimate, se):
    import pandas as pd

    structure, effects = problem.model.structure, problem.model.random_effects
    prior_sd = dict(zip(effects.names, np.sqrt(np.diag(effects.covariance)), strict=True))
    values = problem.parameters(estimate[None, :])[0]
    typical = problem.typical.parameters[0]
    rows = []
    for j, name in enumerate(structure.parameters):
        if name not in problem.model.parameters:
            continue
        error = se.get(name, np.nan)
        spread = _interval(values[j], error, problem.model.is_logit(name))
        rows.append(
            {
                "parameter": name,
                "value": values[j],
                "unit": PARAMETERS[name].unit,
                "low_90": spread[0],
                "high_90": spread[1],
                "log_se": error,
                "typical": typical[j],
                "prior_sd": prior_sd.get(name, np.nan) if problem.prior else np.nan,
                "determined": _determined(name, problem, error, prior_sd),
            }
        )
    return pd.DataFrame(rows).set_index("parameter")


def _interval(value, error, is_logit):
    if not np.isfinite(error):
        return np.nan, np.nan
    if is_logit:
        return tuple(expit(logit(value) + sign * _Z90 * error) for sign in (-1, 1))
    return tuple(value * np.exp(sign * _Z90 * error) for sign in (-1, 1))


def _determined(name, problem, error, prior_sd):
    """Say by what an estimate is determined.

    With a prior: by the data where its SD is below half of the prior's, by the prior above nine
    tenths. Without: by the data where the SE of its logarithm is below 0.5, by nothing above 1.
    """
    if name not in problem.free:
        return "fixed"
    if not np.isfinite(error):
        return "nothing"
    weak, strong = (0.9, 0.5) if problem.prior else (1.0, 0.5)
    share = error / prior_sd[name] if problem.prior else error
    if share <= strong:
        return "data"
    if share <= weak:
        return "data and prior" if problem.prior else "data, weakly"
    return "prior" if problem.prior else "nothing"


def _curves(problem, estimate):
    import pandas as pd

    times = np.unique(np.linspace(min(problem.times[0], 0.0), problem.times[-1], _CURVE_POINTS))
    typical, fitted = problem.outputs_at(times, np.stack([problem.centre(), estimate]))
    table = {"TIME": times}
    for j, name in enumerate(problem.model.structure.outputs):
        table[name], table[f"{name}_typical"] = fitted[:, j], typical[:, j]
    return pd.DataFrame(table)


def _residuals_table(problem, estimate):
    import pandas as pd

    pred, ipred = problem.predict(np.stack([problem.centre(), estimate]))
    rows = problem.rows
    iwres = (np.log(problem.observed) - np.log(ipred)) / problem.sigma
    return pd.DataFrame(
        {
            "TIME": rows["TIME"].to_numpy(),
            "DVID": rows["DVID"].to_numpy(),
            "DV": problem.observed,
            "CENS": rows["CENS"].to_numpy(),
            "LIMIT": problem.limit,
            "PRED": pred,
            "IPRED": ipred,
            "IWRES": np.where(problem.censored, np.nan, iwres),
        }
    )
