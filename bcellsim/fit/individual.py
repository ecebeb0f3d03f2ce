"""Fit one patient's (or one mean) series of counts: MAP with the model as prior, or least squares.

lmfit minimises the sum of squares of: the whitened random effects (MAP only), the standardised
residuals, and sqrt(-2 log P) of each censored row. The Jacobian comes from central differences of
all parameters, which the engine solves on one sequence of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from bcellsim.draws import normals
from bcellsim.engine import follow, solve
from bcellsim.fit.likelihood import standardised_residuals
from bcellsim.fit.result import Fit
from bcellsim.library import load_model
from bcellsim.model import Model
from bcellsim.names import unknown
from bcellsim.observations import (
    covariates_of,
    fitted_rows,
    one_subject,
    read_observations,
    regimen_of,
)
from bcellsim.population import BODY_SIZE, Population, individual_subject
from bcellsim.schedule import compile_events
from bcellsim.structures import PARAMETERS
from bcellsim.units import quantity


class _Search(NamedTuple):
    rtol: float
    stop: float


# The engine's tolerance, and when lmfit stops. To find the minimum among several a coarse search
# will do; the best is then refined.
_COARSE, _FINE = _Search(1e-6, 1e-4), _Search(1e-8, 1e-10)
# Change of the central differences on the log (or logit) scale: their error is its square.
_CHANGE = 1e-4
# Least squares without prior keeps a parameter within this factor of its typical value.
_WIDEST = 1e4
# A posterior can have several minima: of this many points drawn from the prior (without one, with
# an SD of 1 on the log scale), the best few start a search each, beside the start itself.
_DRAWN, _STARTS, _SPREAD = 128, 3, 1.0


def fit_individual(
    model: Model | str,
    observations,
    *,
    prior: str | None = "model",
    fixed: Mapping | Iterable[str] = (),
    start: Mapping | None = None,
    sigma: float | Mapping | None = None,
    covariates: Mapping | None = None,
    subject: str | None = None,
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
        None: plain least squares of the parameters that are not fixed.
    fixed : mapping or iterable of str
        Parameters held, at a value given (``{"b0": 225}``) or at the typical one (``["emax"]``);
        without a prior, those the model file marks as fixed are held too.
    start : mapping, optional
        Where the search begins, for some parameters.
    sigma : float or mapping, optional
        SD of the log-normal error, or one per output; the model's proportional SD by default.
    covariates : mapping, optional
        Covariates of the subject, beside those of the data.
    subject : str, optional
        Which subject, where the data hold several.

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
    table = observations if hasattr(observations, "columns") else read_observations(observations)
    problem = _Problem(model, one_subject(table, subject), prior, fixed, sigma, covariates)
    problem.begin(start or {})
    problem.require_rows()
    runs = [_minimise(problem, point, _COARSE) for point in problem.starting_points()]
    best = problem.vector(min(runs, key=lambda run: run.chisqr).params)
    return Fit.of(problem, _minimise(problem, best, _FINE), runs)


def _minimise(problem, point, search):
    """Run lmfit's least squares from one point."""
    import lmfit

    problem.search = search
    params = lmfit.Parameters()
    for name, value in zip(problem.names, point, strict=True):
        free = name in problem.free
        limits = {} if problem.prior else {"min": -np.log(_WIDEST), "max": np.log(_WIDEST)}
        params.add(f"eta_{name}", value=value, vary=free, **(limits if free else {}))
    minimiser = lmfit.Minimizer(
        lambda p: problem.residuals(problem.vector(p)), params, scale_covar=False
    )
    return minimiser.leastsq(
        Dfun=lambda p: problem.jacobian(problem.vector(p)), ftol=search.stop, xtol=search.stop
    )


class _Problem:
    """The least-squares problem of one subject: from deviations eta to residuals."""

    def __init__(self, model, table, prior, fixed, sigma, covariates):
        self.model, self.table, self.prior = model, table, prior
        self.covariates = self._covariates(covariates or {})
        sigma = self._sigmas(sigma)
        self.search = _FINE
        self.fixed = self._fixed(fixed)
        self.names, self.free = self._choose()
        self.rows = self._rows()
        self.outputs = list(dict.fromkeys(self.rows["DVID"]))
        self.sigmas = {output: self._sigma(output, sigma) for output in self.outputs}
        self.sigma = self.rows["DVID"].map(self.sigmas).to_numpy(dtype=np.float64)
        routes = [r for r in model.drug.routes if r in model.routes()] or model.routes()
        self.regimen = regimen_of(table, default_route=routes[0])
        self._prepare()

    def _covariates(self, given):
        known = {**self.model.covariates, **BODY_SIZE}
        found = covariates_of(self.table, known)
        for name, value in given.items():
            if found.setdefault(name, value) != value:
                raise ValueError(f"covariate {name} = {value}, but the data have {found[name]:g}")
        for name in given:
            if name not in known:
                raise ValueError(f"model {self.model.name}: {unknown('covariate', name, known)}")
        self.model.require_covariates(found, "give it as a column of the data or with covariates")
        return found

    def _fixed(self, fixed):
        names = self.model.structure.parameters
        fixed = [fixed] if isinstance(fixed, str) else fixed
        given = dict(fixed) if isinstance(fixed, Mapping) else dict.fromkeys(fixed)
        for name, value in given.items():
            if name not in names:
                raise ValueError(f"model {self.model.name}: {unknown('parameter', name, names)}")
            if value is not None:
                given[name] = quantity(value, PARAMETERS[name].unit, what=name)
        return given

    def _choose(self):
        """Return the parameters that have a deviation, and those of them that are searched."""
        effects, published = self.model.random_effects, self.model.parameters
        if self.prior:
            if not effects.names:
                raise ValueError(
                    f"model {self.model.name} has no published variability to serve as prior; "
                    "use prior=None"
                )
            names = list(effects.names)
        else:
            names = [name for name in published if not published[name].fixed]
            names += [name for name in self.fixed if name not in names]
        for name, value in self.fixed.items():
            if name not in names and value is not None:
                names.append(name)
        free = [n for n in names if n not in self.fixed and (not self.prior or n in effects.names)]
        for lag in {route.lag for route in self.model.structure.routes.values()} & set(names):
            if lag in free or self.fixed[lag] is not None:  # its doses would move
                raise ValueError(
                    f"model {self.model.name}: a fit keeps {lag} at its typical value; give "
                    f'fixed=["{lag}"]'
                )
        if not free:
            raise ValueError("every parameter is fixed; there is nothing to fit")
        return names, free

    def _rows(self):
        rows = fitted_rows(self.table)
        if not len(rows):
            raise ValueError("the data hold no observation to fit (a row with DV, EVID 0)")
        for output in rows["DVID"].unique():
            self.model.require_output(output)
        for row in rows[(rows["CENS"] == -1) | rows["SCALE"].isna()].itertuples():
            what = "a right-censored value" if row.CENS == -1 else "a percentage of baseline"
            raise ValueError(f"line {row.LINE} of the data: {what} cannot be fitted yet")
        return rows

    def _sigmas(self, sigma):
        """Return the SD given for each output."""
        outputs = self.model.structure.outputs
        given = sigma if isinstance(sigma, Mapping) else dict.fromkeys(outputs, sigma)
        for name, value in given.items():
            if name not in outputs:
                raise ValueError(f"sigma: {unknown('output', name, outputs)}")
            if value is not None and quantity(value, "", what="sigma") <= 0:
                raise ValueError(f"sigma = {value}: a finite number above 0 is wanted")
        return {n: quantity(v, "", what="sigma") for n, v in given.items() if v is not None}

    def _sigma(self, output, given):
        """Return the SD of an output: the one given, or the model's proportional one."""
        error = self.model.residual_error.get(output)
        if output not in given and not (error and error.prop_sd):
            raise ValueError(
                f"model {self.model.name} has no published error of {output}; give sigma, the SD "
                "of its logarithm"
            )
        return given.get(output) or error.prop_sd

    def _prepare(self):
        rows, outputs = self.rows, self.model.structure.outputs
        self.times, self.at = np.unique(rows["CLOCK"].to_numpy(), return_inverse=True)
        self.which = np.array([outputs.index(output) for output in rows["DVID"]])
        self.observed = rows["DV"].to_numpy(dtype=np.float64)
        self.censored = rows["CENS"].to_numpy() == 1
        self.scale = rows["SCALE"].to_numpy(dtype=np.float64)
        self.limit = rows["LIMIT"].to_numpy(dtype=np.float64)
        self.typical = individual_subject(
            self.model, self.covariates, np.zeros((1, len(self.model.random_effects.names)))
        )
        self.last = float(self.times[-1])
        # One schedule serves every trial vector: doses depend on the covariates only.
        self.events = compile_events(self.model, self.regimen, self.typical, self.last)
        if self.prior:
            self.whiten = np.linalg.inv(self.model.random_effects.factor())

    def begin(self, start):
        """Set the starting deviations: those given, those of fixed values, otherwise 0."""
        for name in set(start) & set(self.fixed):
            raise ValueError(f"start: {name} is fixed")
        given = {**start, **{k: v for k, v in self.fixed.items() if v is not None}}
        self.start = dict.fromkeys(self.names, 0.0)
        for name, value in given.items():
            if name not in self.start:
                raise ValueError(f"start: {unknown('parameter', name, self.names)}")
            j = self.model.structure.parameters.index(name)
            reference = self.typical.parameters[0, j]
            value = quantity(value, PARAMETERS[name].unit, what=name)
            if value <= 0 or (self._logit(name) and value >= 1):
                raise ValueError(f"{name} = {value:g} is outside its range")
            scale = logit if self._logit(name) else np.log
            self.start[name] = float(scale(value) - scale(reference))

    def require_rows(self) -> None:
        """Raise ValueError if least squares has fewer rows than parameters."""
        if not self.prior and len(self.rows) < len(self.free):
            raise ValueError(
                f"{len(self.rows)} observations are fewer than the {len(self.free)} parameters to "
                f"fit ({', '.join(self.free)}): fix some, or use the prior"
            )

    def starting_points(self) -> list[np.ndarray]:
        """Return where to search from: the start, and the best of points drawn around it."""
        start = np.array([self.start[name] for name in self.names])
        z = normals(0, "start", np.arange(_DRAWN), len(self.names))
        if self.prior:
            effects = self.model.random_effects
            spread = np.zeros_like(z)
            columns = [self.names.index(name) for name in effects.names]
            spread[:, columns] = effects.correlate(z[:, : len(columns)])
        else:
            spread = _SPREAD * z
        points = start + spread * np.array([name in self.free for name in self.names])
        self.search = _COARSE
        objective = (self.residuals_of(points) ** 2).sum(axis=1)
        return [start, *points[np.argsort(objective, kind="stable")[:_STARTS]]]

    def _logit(self, name):
        effects = self.model.random_effects
        scales = dict(zip(effects.names, effects.distributions, strict=True))
        return scales.get(name) == "logit"

    def vector(self, params) -> np.ndarray:
        """Return the deviations in the order of `names` from lmfit's parameters."""
        return np.array([params[f"eta_{name}"].value for name in self.names])

    def parameters(self, deviations: np.ndarray) -> np.ndarray:
        """Return individual parameters of deviations (n, n_names), shape (n, n_parameters)."""
        n = len(deviations)
        effects = self.model.random_effects.names
        if self.prior:
            eta = np.zeros((n, len(effects)))
            for j, name in enumerate(effects):
                eta[:, j] = deviations[:, self.names.index(name)]
            values = individual_subject(self.model, self.covariates, eta).parameters
        else:
            values = np.repeat(self.typical.parameters, n, axis=0)
        for j, name in enumerate(self.names):
            if self.prior and name in effects:
                continue
            column = self.model.structure.parameters.index(name)
            if self._logit(name):
                values[:, column] = expit(logit(values[:, column]) + deviations[:, j])
            else:
                values[:, column] *= np.exp(deviations[:, j])
        return values

    def centre(self) -> np.ndarray:
        """Return the deviations of the typical subject, fixed ones at their values."""
        return np.array([0.0 if n in self.free else self.start[n] for n in self.names])

    def outputs_at(self, times: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        """Return every output for deviations (n, n_names), shape (n, n_times, n_outputs)."""
        schedule = np.zeros(len(deviations), dtype=np.int64)
        return solve(
            self.model.structure, self.parameters(deviations),
            replace(self.events, schedule=schedule), times,
            until=max(self.last, times[-1]), backend="compiled", **self._tolerances(),
        ).values  # fmt: skip

    def _tolerances(self):
        return {"rtol": self.search.rtol, "atol": 1e-2 * self.search.rtol}

    def predict(self, deviations: np.ndarray) -> np.ndarray:
        """Return predictions of every row for deviations (n, n_names), shape (n, n_rows)."""
        return self._at_rows(self.outputs_at(self.times, deviations))

    def _at_rows(self, outputs):
        return outputs[:, self.at, self.which] * self.scale

    def residuals_of(self, deviations: np.ndarray) -> np.ndarray:
        """Return the residual vectors of several deviations, shape (n, n_residuals)."""
        return self._residuals(deviations, self.outputs_at(self.times, deviations))

    def _residuals(self, deviations, outputs):
        rows = standardised_residuals(
            self.observed, self._at_rows(outputs), self.sigma, self.censored, self.limit
        )
        # A trial step so far out that the prediction is not a number must not be attractive.
        rows = np.nan_to_num(rows, nan=1e6, posinf=1e6, neginf=-1e6)
        if not self.prior:
            return rows
        positions = [self.names.index(name) for name in self.model.random_effects.names]
        return np.concatenate([deviations[:, positions] @ self.whiten.T, rows], axis=1)

    def residuals(self, deviation: np.ndarray) -> np.ndarray:
        """Return the residual vector of one deviation."""
        return self.residuals_of(deviation[None, :])[0]

    def jacobian(self, deviation: np.ndarray) -> np.ndarray:
        """Return the derivatives with respect to the free deviations (n_residuals, n_free)."""
        free = [self.names.index(name) for name in self.free]
        change = np.zeros((len(free), len(deviation)))
        change[np.arange(len(free)), free] = _CHANGE
        trials = np.concatenate([deviation + change, deviation - change])
        outputs = follow(
            self.model.structure, self.parameters(deviation[None]), self.parameters(trials)[None],
            self.events, self.times, until=self.last, **self._tolerances(),
        )[0, 1:]  # fmt: skip
        plus, minus = np.split(self._residuals(trials, outputs), 2)
        return (plus - minus).T / (2.0 * _CHANGE)

    def subject(self, deviation: np.ndarray) -> Population:
        """Return the fitted subject, for `simulate`."""
        return Population(
            self.model, np.arange(1), self.typical.covariates,
            np.zeros((1, 0)), self.parameters(deviation[None, :]), None,
        )  # fmt: skip
