"""Virtual subjects: covariates and individual parameters, sampled once, used for every regimen."""

from __future__ import annotations

import difflib
import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from bcellsim.covariates import (
    BODY_SIZE,
    add_body_surface,
    read_covariates,
    subject_names,
    warn_outside,
)
from bcellsim.draws import check_seed, normals, uniforms
from bcellsim.library import load_model
from bcellsim.model import Covariate, Model
from bcellsim.names import unknown
from bcellsim.units import days


@dataclass(frozen=True, eq=False)
class Population:
    """Subjects of one model.

    Parameters
    ----------
    model : Model
        The model they were made for.
    subjects : array (n_subjects,)
        Subject numbers or names.
    covariates : dict of str to float array (n_subjects,)
        Covariates given or sampled.
    eta : float array (n_subjects, n_random_effects)
        Random effects.
    parameters : float array (n_subjects, n_parameters) or (n_subjects, n_occasions, n_parameters)
        Individual parameters in the structure's order, internal units; of each occasion where there
        are several.
    seed : int or None
        Seed of the random effects; None where there are none.
    occasions : tuple of float
        When they begin, on the clock of the regimens [day]; the first one at 0 (of a
        patient with data: at the first row).
    kappa : float array (n_subjects, n_occasions, n_occasion_effects), optional
        Deviations of each occasion.
    """

    model: Model
    subjects: np.ndarray
    covariates: dict[str, np.ndarray]
    eta: np.ndarray
    parameters: np.ndarray
    seed: int | None
    occasions: tuple[float, ...] = (0.0,)
    kappa: np.ndarray | None = None

    def __len__(self):
        return len(self.subjects)

    def part(self, which: slice | np.ndarray) -> Population:
        """Return some of the subjects, with their numbers and draws."""
        return replace(
            self,
            subjects=self.subjects[which],
            covariates={name: values[which] for name, values in self.covariates.items()},
            eta=self.eta[which],
            parameters=self.parameters[which],
            kappa=None if self.kappa is None else self.kappa[which],
        )

    def require_one_occasion(self, what: str) -> None:
        """Raise ValueError if parameters change between occasions, which `what` cannot follow."""
        if self.parameters.ndim > 2:
            raise ValueError(
                f"{what} cannot be followed in subjects whose parameters change by occasion; "
                "sample them without occasions"
            )

    def numbers(self) -> np.ndarray:
        """Return the numbers by which draws of the subjects are keyed: their own, or of names."""
        if np.issubdtype(self.subjects.dtype, np.integer) and np.all(self.subjects >= 0):
            return self.subjects
        return np.array([zlib.crc32(str(name).encode()) for name in self.subjects])

    def table(self):
        """Return a DataFrame: covariates, then individual parameters.

        It has a row a subject, or one for each (subject, occasion) where there are several
        occasions.
        """
        import pandas as pd

        names, n = self.model.structure.parameters, len(self.occasions)
        columns = {name: np.repeat(values, n) for name, values in self.covariates.items()}
        for name, covariate in self.model.covariates.items():
            if covariate.occasion:
                columns[name] = columns[name] + np.tile(np.arange(n), len(self))
        columns |= dict(zip(names, self.parameters.reshape(-1, len(names)).T, strict=True))
        index = pd.Index(self.subjects, name="subject")
        if n > 1:
            index = pd.MultiIndex.from_product(
                [self.subjects, range(1, n + 1)], names=["subject", "occasion"]
            )
        return pd.DataFrame(columns, index=index)


def sample_population(
    model: Model | str,
    n: int | None = None,
    *,
    covariates="reference",
    occasions: Sequence[float | str] | None = None,
    seed: int | None = None,
) -> Population:
    """Sample virtual subjects of a model, with its full between-subject covariance.

    Parameters
    ----------
    model : Model or str
        The model, or its name.
    n : int, optional
        Number of subjects; the rows of `covariates` when that is a table.
    covariates : str, mapping or DataFrame
        ``"reference"`` (default; a covariate with a default of its own has that), ``"study"``
        (sampled from the published median and range), a mapping of covariate to value (the others
        at reference) or to ``"study"``, or a table with a row a subject, which may be the path of
        a ``.csv`` file; its column ID names the subjects. BSA follows from WT and HT [cm] where it
        is not given (Mosteller 1987).
    occasions : sequence of float or str, optional
        When occasions begin on the clock of the regimens, such as ``["0 d", "6 mo"]``: in each,
        subjects deviate anew by the model's between-occasion variability, and a covariate that
        counts the occasions goes up by one. By default all is one occasion, with that variability.
    seed : int, optional
        Seed; one is drawn and recorded if none is given. The draws of subject k depend on the seed
        and k (and the number of the occasion) only.

    Returns
    -------
    Population

    Raises
    ------
    ValueError
        If a covariate is unknown, missing from the table or impossible, `n` is not positive,
        occasions are not in order, or the model is partial and misses what is needed.
    FileNotFoundError
        If the table is a file that does not exist.

    Warns
    -----
    UserWarning
        If a covariate that is given lies outside the range of the study behind the model.

    Examples
    --------
    >>> len(sample_population("yu2022_ofatumumab", 10, covariates={"WT": 82}, seed=1))
    10
    """
    model = load_model(model)
    covariates, n, names = _table(model, covariates, n)
    numbers = np.arange(_check_size(n))
    people = sample_subjects(
        model, numbers, covariates=covariates, occasions=occasions, seed=check_seed(seed)
    )
    return people if names is None else replace(people, subjects=names)


def sample_subjects(
    model: Model, numbers: np.ndarray, *, covariates, occasions=None, seed: int
) -> Population:
    """Sample the subjects of these numbers: those that a population of any size has.

    Parameters
    ----------
    model : Model
        The model.
    numbers : int array (n_subjects,)
        Numbers of the subjects, by which their draws are keyed.
    covariates, occasions, seed
        As for `sample_population`; a table has the rows of these subjects.
    """
    values = _covariates(model, _given(model, covariates), numbers, seed)
    model.require_parameters()
    model.require_variability()
    begins = _occasions(occasions)
    effects, within = model.random_effects, model.occasion_effects
    eta = effects.correlate(normals(seed, "eta", numbers, len(effects.names)))
    kappa = np.stack(
        [
            within.correlate(normals(seed, "occasion", numbers, len(within.names), replicate=k))
            for k in range(len(begins))
        ],
        axis=1,
    )
    return _population(model, numbers, values, eta, seed, begins, kappa)


def _table(model, covariates, n):
    """Return covariates, read if they are a file, the number of subjects and their names."""
    if isinstance(covariates, Path) or (
        isinstance(covariates, str) and covariates.endswith(".csv")
    ):
        covariates = read_covariates(covariates, {**BODY_SIZE, **model.covariates})
    if not hasattr(covariates, "columns"):
        return covariates, n, None
    if n not in (None, len(covariates)):
        raise ValueError(f"n = {n}, but the table of covariates has {len(covariates)} rows")
    if not len(covariates):
        raise ValueError("the table of covariates is empty")
    return covariates, len(covariates), subject_names(covariates)


def _population(model, subjects, values, eta, seed, begins, kappa):
    """Return the population of these random effects."""
    each = [model.individual(values, eta, kappa[:, k], k) for k in range(len(begins))]
    parameters = each[0] if len(begins) == 1 else np.stack(each, axis=1)
    return Population(model, subjects, values, eta, parameters, seed, begins, kappa)


def _occasions(given):
    """Return when the occasions begin [day]."""
    begins = tuple(days(time, "occasions") for time in ((0.0,) if given is None else given))
    if not begins or begins[0] != 0.0:
        raise ValueError("occasions: the first one begins at 0 d")
    for before, after in itertools.pairwise(begins):
        if after <= before:
            raise ValueError(f"occasions: {after:g} d does not come after {before:g} d")
    return begins


def typical_subject(model: Model | str, covariates: Mapping | None = None) -> Population:
    """Return the typical subject: no random effects, reference covariates unless given."""
    model = load_model(model)
    return individual_subject(model, covariates, np.zeros((1, len(model.random_effects.names))))


def individual_subject(model: Model, covariates: Mapping | None, eta: np.ndarray) -> Population:
    """Return subjects with the given random effects (n_subjects, n_random_effects)."""
    given = _given(model, "reference" if covariates is None else covariates)
    for name, value in given.items():
        if isinstance(value, str) and value == "study":
            raise ValueError(
                f"covariate {name}: a typical subject has no sampled covariates; give a number"
            )
    model.require_parameters()
    numbers = np.arange(len(eta))
    values = _covariates(model, given, numbers, 0)
    return Population(model, numbers, values, eta, model.individual(values, eta), None)


def with_covariate(population: Population, name: str, value: float) -> Population:
    """Return the same subjects, of whom all have another value of a covariate.

    Raises
    ------
    ValueError
        If it is not a covariate of the model, or no subject can have that value.
    """
    model = population.model
    population.require_one_occasion("another value of a covariate")
    known = {**dict.fromkeys(BODY_SIZE), **model.covariates}
    if name not in known:
        raise ValueError(f"model {model.name}: {unknown('covariate', name, known)}")
    values = {**population.covariates, name: _numbers(value, name, len(population))}
    _check_range(model, values)
    kappa = None if population.kappa is None else population.kappa[:, 0]
    parameters = model.individual(values, population.eta, kappa)
    return replace(population, covariates=values, parameters=parameters)


def _check_size(n):
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise ValueError(f"n = {n}: a number of subjects of 1 or more is wanted")
    return int(n)


def _given(model, covariates):
    """Return what is given for each covariate: a number a subject or one for all, or a word."""
    known = {**dict.fromkeys(BODY_SIZE), **model.covariates}
    if hasattr(covariates, "columns"):
        return _columns(model, covariates, known)
    if isinstance(covariates, str):
        if covariates not in ("reference", "study"):
            raise ValueError(unknown("kind of covariates", covariates, ["reference", "study"]))
        return dict.fromkeys(model.covariates, covariates)
    for name in covariates:
        if name not in known:
            raise ValueError(f"model {model.name}: {unknown('covariate', name, known)}")
    return dict(covariates)


def _columns(model, table, known):
    """Return the columns of a table that are covariates; the others say something else."""
    columns = [str(column) for column in table.columns]
    absent = [name for name in known if name not in columns]
    for column in columns:
        # "APLIO" is meant for APLIOS, which would silently stay at its default.
        near = difflib.get_close_matches(column.upper(), absent, n=1, cutoff=0.75)
        if column not in known and near:
            raise ValueError(
                f'the table of covariates has a column "{column}" but none "{near[0]}"; rename it'
            )
    model.require_covariates(columns, f"the table has the columns {', '.join(columns)}")
    return {str(name): table[name].to_numpy() for name in table.columns if str(name) in known}


def _covariates(model, given, subjects, seed):
    """Return the covariates of each subject, those of the model and those given beside them."""
    values = {}
    for i, (name, covariate) in enumerate(model.covariates.items()):
        value = given.get(name, "reference")
        if isinstance(value, str) and value in ("reference", "study"):
            if covariate.follows:
                continue
            if value == "study" and (covariate.study or covariate.default is None):
                values[name] = _sample_study(covariate, i, subjects, seed)
            else:
                usual = covariate.reference if covariate.default is None else covariate.default
                values[name] = np.full(len(subjects), usual)
        else:
            values[name] = _numbers(given[name], name, len(subjects))
    for name, value in given.items():
        if name in model.covariates:
            continue
        if isinstance(value, str) and value in ("reference", "study"):
            raise ValueError(
                f"model {model.name} has no {value} value of {name}, which is none of its "
                f"covariates ({', '.join(model.covariates) or 'it has none'}): give numbers"
            )
        values[name] = _numbers(value, name, len(subjects))
    numbers = [name for name, value in given.items() if not isinstance(value, str)]
    _check_range(model, values)
    numbers += add_body_surface(values, given)
    warn_outside(model, values, numbers)
    return values


def _numbers(given, name, n):
    try:
        values = np.broadcast_to(np.asarray(given, dtype=np.float64), (n,)).copy()
    except (TypeError, ValueError):
        raise ValueError(f"covariate {name}: numbers are wanted, not {given!r}") from None
    if not np.all(np.isfinite(values)):
        raise ValueError(f"covariate {name}: a value is missing or not finite")
    return values


def _check_range(model, values):
    """Raise ValueError where a covariate has a value that no subject can have."""
    powers = {effect.covariate for effect in model.covariate_effects if effect.form == "power"}
    logs = {effect.covariate for effect in model.covariate_effects if effect.form == "log_power"}
    for name, value in values.items():
        if (name in BODY_SIZE or name in powers) and np.any(value <= 0):
            raise ValueError(f"covariate {name}: a value is not above 0")
        if name in logs and np.any(value <= 1):
            raise ValueError(
                f"covariate {name}: a value is not above 1 {model.covariates[name].unit}, and its "
                "effect is one of its logarithm"
            )
        entry = model.covariates.get(name)
        indicator = entry and not entry.unit and entry.reference == 0 and entry.default == 0
        if entry and entry.occasion and np.any((value < 1) | (value % 1 != 0)):
            raise ValueError(f"covariate {name} ({entry.meaning}): 1, 2, ... is wanted")
        if indicator and not np.all(np.isin(value, (0.0, 1.0))):
            raise ValueError(f"covariate {name} ({entry.meaning}): 0 or 1 is wanted")


def _sample_study(covariate: Covariate, position, subjects, seed):
    """Sample the study's distribution of a covariate.

    Papers give a median and a range. The shape is an assumption: log-normal about the median, its
    two halves widened so that the largest of n subjects is expected at the ends of the range
    (Blom 1958), and cut there.
    """
    study = covariate.study
    u = uniforms(seed, "covariate", subjects, 1, replicate=position)[:, 0]
    if "share" in study:
        return (u < study["share"]).astype(np.float64)
    if not {"median", "low", "high"} <= set(study):
        raise ValueError(
            f"covariate {covariate.name}: the distribution of the study is not in the model file; "
            "give values"
        )
    extreme = ndtri((study["n"] - 0.375) / (study["n"] + 0.25)) if "n" in study else 3.0
    z = ndtri(u)
    low, high = (np.log(study[end] / study["median"]) / extreme for end in ("low", "high"))
    values = study["median"] * np.exp(np.where(z < 0, -low, high) * z)
    return np.clip(values, study["low"], study["high"])
