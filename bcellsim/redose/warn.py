"""What to know before following an advice: of the patient, the model and the draws."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from bcellsim.covariates import outside_study
from bcellsim.fit.posterior import FEW
from bcellsim.redose.case import Case

#: A patient is called an outlier if fewer than one in twenty of the model's population lie as far.
_RARE = 0.05
_FAR = 2.0  # of one parameter, in SD of the population
_MISFIT = 2.5  # of one count, in SD of the residual error
_MINUTE = 1.0 / 1440.0  # a count just after a dose of its day is of that day [day]
_SUPPRESSED = 0.05  # share of the draws with a baseline at or below the threshold


def warnings_of(case: Case, disease: str | None) -> list[str]:
    """Return sentences, the most serious first."""
    found = [*_of_level(case), *_of_model(case, disease), *_of_covariates(case)]
    if case.result:
        found += [*_of_patient(case.result), *_of_rows(case), *case.result.warnings]
        if not case.result.converged:
            found.append("the search of the fit did not converge")
    if case.effective < FEW:
        found.append(f"only {case.effective:.0f} effective draws: shares and intervals are rough")
    return list(dict.fromkeys(found))


def _of_level(case):
    names = case.model.structure.parameters
    if "b0" not in names:
        return []
    baseline = case.people.parameters[..., names.index("b0")].reshape(len(case.people), -1)[:, 0]
    share = np.mean(baseline <= case.level)
    if share < _SUPPRESSED:
        return []
    who = "draws" if case.result else "patients"
    return [
        f"the threshold of {case.level:g} cells/uL is at or above the baseline count of "
        f"{share:.0%} of the {who} (median {np.median(baseline):.4g} cells/uL): they are "
        "suppressed without a dose"
    ]


def _of_model(case, disease):
    model, found = case.model, []
    of = model.study.get("disease", "")
    if disease and not (of and (disease.lower() in of.lower() or of.lower() in disease.lower())):
        found.append(
            f"the model was built in {of or 'a disease that its file does not name'}, not in "
            f"{disease}: nothing here shows that it holds there"
        )
    if model.label() != "reproduced":
        found.append(f"the status of the model is {model.label()}, not reproduced")
    return found


def _of_covariates(case):
    one = {name: values[:1] for name, values in case.people.covariates.items()}
    return outside_study(case.model, one, one)


def _of_patient(fit):
    """Say where the patient stands in the model's population."""
    if not fit.prior:
        return []
    effects, point = fit.model.random_effects, fit.curvature.point[None]
    distance = float((fit.problem.random_effects(point) ** 2).sum())
    by_sd = dict(zip(effects.names, fit.problem.eta(point)[0] / list(effects.sd().values()),
                     strict=True))  # fmt: skip
    far = [f"{name} {z:+.1f} SD" for name, z in by_sd.items() if abs(z) > _FAR]
    rare = chi2.sf(distance, len(fit.problem.factor)) < _RARE
    if not far and not rare:
        return []
    return [
        "the patient is an outlier of the model's population"
        + (f" ({', '.join(far)} from what its covariates predict)" if far else "")
        + ": the model may not hold for it"
    ]


def _of_rows(case):
    rows, found = case.result.residuals, []
    far = rows[rows["IWRES"].abs() > _MISFIT]
    if len(far):
        days = ", ".join(f"{time:g}" for time in far["TIME"])
        found.append(
            f"{len(far)} of {len(rows)} observations lie more than {_MISFIT:g} SD from the fit "
            f"(day {days})"
        )
    later = int((case.result.problem.rows.clock > case.now + _MINUTE).sum())
    if later:
        found.append(f"{later} observations after now = {case.now:g} d were used in the fit")
    return found
