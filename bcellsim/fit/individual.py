"""Fit one patient's (or one mean) series of counts: MAP with the model as prior, or likelihood."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from bcellsim.draws import check_seed
from bcellsim.fit.problem import COARSE, Problem
from bcellsim.fit.result import Fit
from bcellsim.fit.search import minimise, refined, starting_points
from bcellsim.library import load_model
from bcellsim.model import Model
from bcellsim.observations import one_subject, read_observations


def fit_individual(
    model: Model | str,
    observations,
    *,
    prior: str | None = "model",
    fixed: Mapping | Iterable[str] = (),
    start: Mapping | None = None,
    parameters: Mapping | None = None,
    error: str | Mapping | None = None,
    sigma: float | str | Mapping | None = None,
    volume: float | str | None = None,
    censored: str = "M3",
    covariates: Mapping | None = None,
    subject: str | None = None,
    starts: int = 8,
    seed: int = 0,
) -> Fit:
    """Fit the parameters of one subject to its counts.

    Parameters
    ----------
    model : Model or str
        The model, its name, or the path of a model file.
    observations : DataFrame or path
        Doses and counts, from `read_observations`.
    prior : str or None
        ``"model"``: maximum a posteriori with the model's between-subject covariance as prior;
        None: least squares, or maximum likelihood, of the parameters that are not fixed.
    fixed : mapping or iterable of str
        Parameters held, at a value given (``{"b0": 225}``) or at the typical one (``["emax"]``);
        without a prior, those the model file marks as fixed are held too.
    start : mapping, optional
        Where the search begins, for some parameters.
    parameters : mapping or lmfit.Parameters, optional
        By name ``{"value": ..., "min": ..., "max": ..., "vary": ..., "expr": ...}`` in natural
        units. An ``expr`` ties a parameter to others by an expression of lmfit; other names are
        auxiliary parameters of such expressions.
    error : str or mapping, optional
        Residual error, for all endpoints or by endpoint: ``"log-normal"`` (default),
        ``"additive"``, ``"proportional"``, ``"combined1"``, ``"combined2"``, ``"poisson"`` or
        ``"negative-binomial"`` (of cells counted), ``"published"`` (the model's own form), or
        settings such as ``{"form": "combined2", "add_sd": 2, "prop_sd": "estimate"}``.
    sigma : float, str or mapping, optional
        SD of an error that has one (of the logarithm, for log-normal), for all endpoints or by
        endpoint; ``"estimate"`` estimates it, from six uncensored rows or more. By default the
        model's proportional SD.
    volume : float, optional
        Counted volume [uL] of the counting errors: count times volume is the number of cells.
    censored : str
        ``"M3"``: censored rows contribute their probability; ``"M1"`` (dropped), ``"M5"`` (half the
        limit), ``"M6"``, ``"M7"`` (0) are there for comparison, and biased.
    covariates : mapping, optional
        Covariates of the subject, beside those of the data.
    subject : str, optional
        Which subject, where the data hold several.
    starts : int
        Searches: one from the start, the others from the best of points drawn from the prior.
    seed : int
        Seed of these points.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If data, model and arguments do not fit together; the sentence says what is missing.
    """
    model = load_model(model)
    if prior not in ("model", None):
        raise ValueError(f'prior = {prior!r}: "model" or None is wanted')
    if isinstance(starts, bool) or not isinstance(starts, int) or starts < 1:
        raise ValueError(f"starts = {starts}: a whole number of 1 or more is wanted")
    model = _completed(model, fixed, start or {}, parameters or {})
    table = observations
    if not hasattr(table, "columns"):
        table = read_observations(table, model=model)
    problem = Problem(
        model, one_subject(table, subject), prior=prior, fixed=fixed, start=start,
        parameters=parameters, error=error, sigma=sigma, volume=volume, censored=censored,
        covariates=covariates,
    )  # fmt: skip
    _warn(problem)
    points = starting_points(problem, starts, check_seed(seed))
    runs = [minimise(problem, point, COARSE) for point in points]
    ends = np.array([problem.coordinates.vector(run.params) for run in runs])
    result = refined(problem, ends)
    return Fit.of(problem, result, ends, [run.nfev for run in runs])


def _completed(model, fixed, start, parameters):
    """Return a partial model with what is missing in it: values that are fixed, or their start."""
    values = {
        name: said.value if hasattr(said, "vary") else
        said.get("value") if isinstance(said, Mapping) else said
        for name, said in parameters.items()
    }  # fmt: skip
    values |= {**start, **(dict(fixed) if isinstance(fixed, Mapping) else {})}
    model = model.completed({name: values[name] for name in model.absent() if values.get(name)})
    model.require_parameters()
    return model


def _warn(problem):
    """Warn of what makes the estimates biased."""
    import warnings

    for told in problem.rows.told:
        warnings.warn(told, stacklevel=3)
