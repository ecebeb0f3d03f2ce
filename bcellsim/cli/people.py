"""The subjects that options ask for, their covariates, and the doses they get in mg."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def population(model, subjects: int | None, patients: Path | None, covariates, seed: int | None):
    """Return the population of a run: sampled, from a table of patients, or the typical subject.

    Parameters
    ----------
    model : Model
        The model.
    subjects : int or None
        How many to sample.
    patients : Path or None
        Table of covariates, a row a subject.
    covariates : mapping or str
        Covariates given beside it, or ``"study"``.
    seed : int or None
        Seed.

    Raises
    ------
    ValueError
        If what is asked for contradicts itself.
    """
    from bcellsim.covariates import BODY_SIZE, read_covariates
    from bcellsim.names import unknown
    from bcellsim.population import sample_population, typical_subject

    if patients is None and subjects is None:
        return typical_subject(model, covariates)
    if patients is None:
        return sample_population(model, subjects, covariates=covariates or "reference", seed=seed)
    if subjects is not None:
        raise ValueError("give --subjects or --patients, not both")
    known = {**BODY_SIZE, **model.covariates}
    table = read_covariates(patients, known)
    for name, value in covariates.items() if not isinstance(covariates, str) else ():
        if name not in known:
            raise ValueError(f"model {model.name}: {unknown('covariate', name, known)}")
        if name in table:
            raise ValueError(f"--covariate {name}: it is a column of {patients} already")
        table[name] = value
    if "study" in (covariates if isinstance(covariates, str) else covariates.values()):
        raise ValueError("--covariate study: the patients have covariates of their own")
    return sample_population(model, covariates=table, seed=seed)


def dose_table(plans, until, people):
    """Return a row a dose, with the amounts in mg: of the subject, or their spread."""
    import pandas as pd

    from bcellsim.covariates import amounts

    tables = []
    for plan in plans:
        table = plan.table(until).assign(regimen=plan.name)
        mg = amounts(plan.doses(until), people.covariates, len(people))
        spread = {"mg_median": np.median, "mg_lowest": np.min, "mg_highest": np.max}
        for name, statistic in spread.items() if len(people) > 1 else (("mg", np.min),):
            values = statistic(mg, axis=0) if mg.shape[1] else []
            table.loc[table["dose"].notna(), name] = values
        tables.append(table)
    return pd.concat(tables)


def dose_lines(plans, until, people) -> list[str]:
    """Return a line for each dose per body size: what it is in mg, and where BSA comes from."""
    from bcellsim.covariates import amounts, origin_of_body_surface

    lines = {}
    for plan in plans:
        for dose in plan.doses(until):
            if dose.unit == "mg" or str(dose) in lines:
                continue
            mg = np.sort(amounts([dose], people.covariates, len(people))[:, 0])
            spread = f", {mg[0]:.4g} to {mg[-1]:.4g}" if len(mg) > 1 else ""
            what = "median " if len(mg) > 1 else ""
            lines[str(dose)] = f"{dose}: {what}{np.median(mg):.4g} mg{spread}"
            if dose.unit == "mg/m2":
                lines[str(dose)] += f"; BSA: {origin_of_body_surface(people.covariates)}"
    return list(lines.values())


def pairs(given, option, *, bare=False):
    """Return the name and value of each "name=value"; the value of a bare name is None."""
    found = {}
    for text in given or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not (value if equals else bare):
            raise ValueError(f'{option} {text}: "name=value" is wanted')
        if name in found:
            raise ValueError(f"{option} {text}: {name} is given twice")
        found[name] = value or None
    return found


def numbers(given, words):
    """Return the covariates given: numbers, or one of the words."""
    found = {}
    for name, value in pairs(given, "--covariate").items():
        try:
            found[name] = value if value in words else float(value)
        except ValueError:
            raise ValueError(f"--covariate {name}={value}: a number is wanted") from None
    return found
