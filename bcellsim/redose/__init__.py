"""When to dose a patient again: with counts (next dose), or from covariates alone (first dose)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bcellsim.draws import check_seed
from bcellsim.explore.outcomes import one_level
from bcellsim.fit import Fit
from bcellsim.forecast import moment
from bcellsim.library import load_model, load_regimen
from bcellsim.model import Model
from bcellsim.population import Population, sample_population
from bcellsim.redose.advice import Advice
from bcellsim.redose.case import Case
from bcellsim.redose.dates import crossings, latest, quantiles
from bcellsim.redose.plans import alternatives, courses, longest_interval
from bcellsim.redose.warn import warnings_of
from bcellsim.regimen import Regimen, single_dose
from bcellsim.units import days

__all__ = ["Advice", "redose"]


def redose(
    fit_or_model: Fit | Model | str,
    *,
    dose: str,
    below: float | str,
    probability: float = 0.9,
    until: float | str = "1 y",
    draws: int = 1000,
    now: float | str | None = None,
    induction: float | str = "28 d",
    label: Regimen | str | None = None,
    first: Regimen | str | None = None,
    covariates: Mapping | None = None,
    disease: str | None = None,
    seed: int | None = None,
    method: str = "importance",
    threads: int | None = None,
) -> Advice:
    """Advise when to dose one patient again.

    A fit gives the next dose: what is unknown of the patient are posterior draws. A model gives the
    first dose: its virtual patients with these covariates get the first course on day 0, and the
    question is when the next one is due.

    Parameters
    ----------
    fit_or_model : Fit, Model or str
        Result of `fit_individual`, or a model (or its name).
    dose : str
        The dose to give again, such as ``"20 mg sc"``.
    below : float or str
        Threshold of the count [cells/uL].
    probability : float
        Wanted probability of a count at or below it.
    until : float or str
        Horizon, from now [day].
    draws : int
        Number of posterior draws, or of virtual patients.
    now : float or str, optional
        The present, on the clock of the data [day], or a date where the data have dates; by default
        their last row.
    induction : float or str
        How long a dose is given to act where the count is above the threshold: of a patient now,
        and of every patient after the first dose [day].
    label : Regimen or str, optional
        The labelled regimen to compare with; by default the licensed one of the library. Of a
        patient with doses only what is repeated without end, from now.
    first : Regimen or str, optional
        The first course in first-dose mode, its first dose on day 0; by default the dose.
    covariates : mapping, optional
        Covariates of the patient in first-dose mode; the others are at their reference.
    disease : str, optional
        Disease of the patient: a warning says if the model was built in another one.
    seed : int, optional
        Seed of the draws; one is drawn and recorded if none is given.
    method : str
        How parameters are drawn, as for `Fit.draws`.
    threads : int, optional
        As for `bcellsim.engine.solve`.

    Returns
    -------
    Advice
        The answers; `report()` says them in words.

    Raises
    ------
    ValueError
        If an argument is not valid, no dose was given by `now`, or the model has no count.
    """
    if not isinstance(probability, float) or not 0.0 < probability < 1.0:
        raise ValueError(f"probability = {probability}: a number above 0 and below 1 is wanted")
    length, wait = days(until, "until"), days(induction, "induction")
    if not 0.0 <= wait < length:
        raise ValueError(f"induction = {wait:g} d: 0 d or more and less than until is wanted")
    common = {
        "dose": single_dose(dose), "level": one_level(below, "below"), "probability": probability,
        "until": length, "threads": threads,
    }  # fmt: skip
    if isinstance(fit_or_model, Fit):
        for name, given in (("covariates", covariates), ("first", first)):
            if given is not None:
                raise ValueError(f"{name} are those of the fit: give a model, or leave them out")
        case = _next_dose(fit_or_model, draws, now, seed, method, common)
    else:
        if now is not None:
            raise ValueError("now: a model alone has no clock of data; give a fit, or leave it out")
        case = _first_dose(fit_or_model, draws, wait, first, covariates or {}, seed, common)
    return _advice(case, wait, label, disease)


def _next_dose(fit, draws, now, seed, method, common):
    fit.model.require_output("bcell")
    now = moment(fit, now)
    if fit.regimen.first_dose is None or fit.regimen.first_dose > now:
        raise ValueError(
            f"no dose was given by now = {now:g} d: ask for the first dose, with the model alone"
        )
    found = fit.drawn(draws, seed, method)
    return Case(
        fit.model, fit.population(draws, found.seed, method), fit, None, now=now,
        effective=found.effective, seed=found.seed, note=found.note, method=method, **common,
    )  # fmt: skip


def _first_dose(model, draws, wait, first, covariates, seed, common):
    model, seed = load_model(model), check_seed(seed)
    model.require_output("bcell")
    people: Population = sample_population(model, draws, covariates=covariates, seed=seed)
    course = Regimen((common["dose"],)) if first is None else load_regimen(first)
    if course.is_open or course.first_dose != 0.0:
        raise ValueError(
            f'first = "{course.name}": a course that begins on day 0 and ends is wanted, as in '
            '"20 mg sc at 0 d, 7 d, 14 d"'
        )
    return Case(
        model, people, None, course, now=0.0, effective=float(len(people)), seed=seed,
        note="virtual patients", opens=wait, **common,
    )  # fmt: skip


def _advice(case, wait, label, disease):
    crossed = crossings(case)
    share_above = float(np.mean(crossed <= case.opens))
    above = case.result is not None and share_above > 0.5
    found = latest(replace(case, opens=wait) if above else case, crossed, above=above)
    window = replace(case, opens=wait) if above else case
    intervals = longest_interval(window)
    table = alternatives(window, found, intervals, label)
    day = found.day if np.isfinite(found.day) else case.until
    return Advice(
        case=window,
        crossing={
            **quantiles(crossed), "share_above_now": share_above,
            "share_not_crossed": float(np.mean(np.isinf(crossed))),
        },
        latest=found,
        intervals=intervals,
        alternatives=table,
        courses=courses(case, day),
        warnings=tuple(warnings_of(case, disease)),
        disease=disease,
    )  # fmt: skip
