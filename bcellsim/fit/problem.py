"""The estimation problem of one subject: from coordinates to predictions and the objective.

The objective is -2 log L of the rows, constants included, plus the square of the whitened random
effects where the model's variability is the prior.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.linalg import block_diag

from bcellsim.draws import normals
from bcellsim.engine import follow, solve
from bcellsim.fit.censoring import check_values, rows_of
from bcellsim.fit.coordinates import Coordinates, named_values, read_settings
from bcellsim.fit.errors import error_models, require_rows_for_errors, stated_volume
from bcellsim.fit.likelihood import log_likelihood, residuals
from bcellsim.model import Model
from bcellsim.observations import regimen_of
from bcellsim.observations.clock import AFTER
from bcellsim.pieces import pieces_of
from bcellsim.population import Population
from bcellsim.predict import baseline_count, default_route
from bcellsim.schedule import compile_events
from bcellsim.timeline import timeline

#: Relative tolerance of the engine in a coarse search, and to the end.
COARSE, FINE = 1e-6, 1e-8
# A prediction that is not a number must not attract the search: what such a row counts.
_IMPOSSIBLE = 1e6


class Problem:
    """The problem of one subject; see `fit_individual` for the arguments.

    Attributes
    ----------
    names : tuple of str
        Parameters that may deviate from what the covariates predict.
    free : list of str
        Those of them that are searched.
    coordinates : Coordinates
        What the search moves in.
    errors : dict of str to ErrorModel
        By endpoint.
    rows : Rows
        What was observed.
    n_solved : int
        Trajectories solved so far.
    """

    def __init__(
        self, model: Model, table, *, prior="model", fixed=(), start=None, parameters=None,
        error=None, sigma=None, volume=None, censored="M3", covariates=None,
    ):  # fmt: skip
        self.model, self.table, self.prior, self.n_solved = model, table, prior, 0
        #: The subject's covariates and occasions in time.
        self.pieces = pieces_of(model, table, covariates)
        #: Covariates of the data, or given, and BSA where it follows: those of the last row.
        self.covariates = {name: float(self.pieces.covariates[name][-1])
                           for name in self.pieces.shown}  # fmt: skip
        self.rows = rows_of(table, censored)
        self.outputs = list(dict.fromkeys(self.rows.output))
        for output in self.outputs:
            model.require_output(output)
        volume = stated_volume(self.rows) if volume is None else volume
        self.errors = error_models(model, self.outputs, error=error, sigma=sigma, volume=volume)
        check_values(self.rows, self.errors)
        require_rows_for_errors(self.errors, self.rows)
        self._schedule()
        self._coordinates(fixed, start or {}, parameters)
        if prior:
            blocks = [model.random_effects.factor()]
            blocks += [self.within.factor()] * (len(self.kappas) > 0) * len(self.pieces.occasions)
            #: Lower factor of the prior's covariance: of the subject, then of each occasion.
            self.factor = block_diag(*blocks)
            self.whiten = np.linalg.inv(self.factor)
        self._require_rows()

    # --- what the arguments say ----------------------------------------------------------

    def _schedule(self):
        model = self.model
        given = regimen_of(self.table, default_route=default_route(model))
        self.regimen = self.pieces.in_mg(given)
        first, last = self.regimen.first_dose, self.rows.clock[-1]
        self.late = (
            f"every dose is given after the last observation (day {last:g}; the first dose is on "
            f"day {first:g}): these data say nothing about the drug"
            if first is not None and first > last
            else ""
        )
        if self.late and not self.prior:
            raise ValueError(f"{self.late}; without a prior nothing does")
        #: The last row of the data, be it a count or a dose [day].
        self.end = float(self.table["CLOCK"].max())
        #: The doses on the engine's clock, steady states written out.
        typical = self.pieces.typical()
        doses = [e.time + (e.count - 1) * (e.every or 0.0) for e in self.regimen.events if e.count]
        self.line = timeline(model, self.regimen, typical, max(last, self.end, *doses) + AFTER)
        clock = self.line.days(self.rows.clock)
        self.times, self.at = np.unique(clock, return_inverse=True)
        self.which = np.array([model.structure.outputs.index(o) for o in self.rows.output])
        self.last = float(self.times[-1])
        # One schedule serves every trial vector: doses depend on the covariates only.
        self.events = compile_events(model, self.line.regimen, self._placed(typical), self.last)

    def _coordinates(self, fixed, start, parameters):
        model = self.model
        effects, published = model.random_effects, model.parameters
        fixed = named_values(fixed, list(published), f"model {model.name}")
        settings = read_settings(model, published, parameters)
        if self.prior and not effects.names:
            raise ValueError(
                f"model {model.name} has no published variability to serve as prior; use prior=None"
            )
        names = list(effects.names) if self.prior else [
            name for name in published if not published[name].fixed]  # fmt: skip
        names += [n for n in (*fixed, *settings) if n in published and n not in names]
        begins = named_values(start, names, "start")
        for name in set(fixed) & (set(begins) | set(settings)):
            raise ValueError(f"{'start' if name in begins else 'parameters'}: {name} is fixed")
        at = {**begins, **{n: s["value"] for n, s in settings.items() if n in names and
                           "value" in s}, **fixed}  # fmt: skip
        self._begin(names, at, fixed, settings)
        still = [n for n in names if settings.get(n, {}).get("expr")
                 or not settings.get(n, {}).get("vary", True)]  # fmt: skip
        within = model.occasion_effects
        #: Effects of an occasion: estimated where there is a prior, of what is not held.
        self.within = within.of([n for n in within.names if self.prior and n not in still])
        #: Their coordinates, by the name under which exp(kappa) is shown.
        self.kappas = {f"{name}_occ{k}": f"kappa_{name}_{k}" for k in self.pieces.occasions
                       for name in self.within.names}  # fmt: skip
        self.coordinates = Coordinates(
            model, names, at, settings, self.errors, bounded=not self.prior,
            kappas=self.kappas.values(),
        )  # fmt: skip
        self._keep_arrivals(at)
        self.names, self.free = self.coordinates.names, list(self.coordinates.searched)
        self.unmoved = np.array([at[n] is None and n not in self.coordinates.tied for n in names])
        self.effects = [self.names.index(n) for n in effects.names] if self.prior else []

    def _begin(self, names, at, fixed, settings):
        """Put into `at` where each parameter begins or is held, and into `settings` what is."""
        model = self.model
        predicted = dict(zip(names, self.predicted(names)[0], strict=True))
        for name in names:
            held = name in fixed or not settings.get(name, {}).get("vary", True)
            searched = not self.prior or name in model.random_effects.names or name in settings
            value = at.get(name)
            if value is not None and not 0 < value < (1 if model.is_logit(name) else np.inf):
                raise ValueError(f"{name} = {value:g} is outside its range")
            begins = not settings.get(name, {}).get("expr")
            if begins and (held or not searched):
                settings[name], begins = {"vary": False}, False
            # Held without a value: where the covariates put it.
            at[name] = predicted[name] if begins and value is None else value

    def _keep_arrivals(self, at):
        """Raise ValueError where a dose would move: those of all trials arrive together."""
        model, moved = self.model, {**self.coordinates.searched, **self.coordinates.tied}
        for event in self.line.regimen.events:
            share = event.fixed_rate and model.structure.routes[event.route].bioavailability
            if share and share in moved:
                raise ValueError(
                    f"a dose {event.route} has RATE, so that it lasts as {share} says, which a fit "
                    f'does not follow: give DUR instead, or fixed=["{share}"]'
                )
        for lag in {route.lag for route in model.structure.routes.values()} & set(at):
            if lag in moved or at[lag] is not None:
                raise ValueError(f"model {model.name}: a fit keeps {lag} at its typical value; "
                                 f'give fixed=["{lag}"]')  # fmt: skip

    def _require_rows(self):
        n = len(self.coordinates.variables)
        if not self.prior and len(self.rows.time) < n:
            raise ValueError(
                f"{len(self.rows.time)} observations are fewer than the {n} parameters to fit "
                f"({', '.join(self.free)}): fix some, or use the prior"
            )

    @property
    def beside(self) -> dict[str, str]:
        """Return the coordinates of errors and of factors exp(kappa), by the names shown."""
        spreads = {f"{o}_{p}": f"log_{o}_{p}" for o, p in self.coordinates.spreads}
        return {**spreads, **self.kappas}

    @property
    def shown(self) -> dict[str, str]:
        """Return every coordinate that is searched, by the name it is shown under."""
        return {**self.coordinates.searched, **self.beside}

    # --- from coordinates to the model's parameters -----------------------------------------

    def values(self, deviations: Mapping[str, np.ndarray], n: int, names) -> np.ndarray:
        """Return natural values of printed parameters of subjects that deviate (n, n_names).

        Where they change in time: those of the last row's covariates.
        """
        values = self.model.printed(self._known(n), deviations, n)
        return np.column_stack([values[name] for name in names])

    def _known(self, n):
        """Return the covariates of the last row, of `n` subjects."""
        return {name: np.repeat(v[-1:], n) for name, v in self.pieces.covariates.items()}

    def _individual(self, deviations, n, kappa=None):
        """Return the structure's parameters (n, n_parameters), of each piece where several."""
        found = self.pieces.individual(deviations, n, kappa)
        return found[:, 0] if len(self.pieces) == 1 else found

    def kappa(self, points: np.ndarray) -> np.ndarray | None:
        """Return the deviations of each occasion (n, n_occasions, n_occasion_effects), if any."""
        if not self.kappas:
            return None
        names = self.model.occasion_effects.names
        found = np.zeros((len(points), len(self.pieces.occasions), len(names)))
        own = points[:, self._at_kappas()].reshape(*found.shape[:2], -1)
        found[:, :, [names.index(name) for name in self.within.names]] = own
        return found

    def _at_kappas(self):
        return [self.coordinates.variables.index(key) for key in self.kappas.values()]

    def deviations(self, points: np.ndarray) -> np.ndarray:
        """Return the deviations of `names` at points (n, n_names), on their own scale."""
        scaled = self.coordinates.scaled(self.coordinates.natural(points))
        n = len(points)
        found = scaled - self.coordinates.scaled(self.predicted(self.names))
        found[:, self.unmoved] = 0.0
        # A covariate that follows a parameter moves another one with it.
        if any(covariate.follows for covariate in self.model.covariates.values()):
            moved = self.values(self._by_name(found), n, self.names)
            found += np.where(self.unmoved, 0.0, scaled - self.coordinates.scaled(moved))
        return found

    def _by_name(self, deviations):
        return dict(zip(self.names, deviations.T, strict=True))

    def parameters(self, points: np.ndarray) -> np.ndarray:
        """Return the structure's parameters at points (n, n_parameters).

        Where they change in time there is an axis of pieces before the last.
        """
        deviations = self._by_name(self.deviations(points))
        return self._individual(deviations, len(points), self.kappa(points))

    def eta(self, points: np.ndarray) -> np.ndarray:
        """Return the random effects at points (n, n_effects)."""
        return self.deviations(points)[:, self.effects]

    def natural(self, points: np.ndarray, names=None) -> np.ndarray:
        """Return natural values of parameters (by default `names`) at points (n, n_names)."""
        names = self.names if names is None else names
        return self.values(self._by_name(self.deviations(points)), len(points), names)

    def predicted(self, names) -> np.ndarray:
        """Return natural values of parameters as the covariates predict them (1, n_names)."""
        return self.values({}, 1, names)

    def typical_parameters(self) -> np.ndarray:
        """Return the structure's parameters as of one point: none that is searched deviates."""
        searched = np.array([name in self.free for name in self.names])
        none = np.zeros((1, len(self.effects)))
        point = self.points_of(none) if self.prior else self.coordinates.start()[None]
        deviations = np.where(searched, 0.0, self.deviations(point))
        return self._individual(self._by_name(deviations), 1)

    def points_of(self, eta: np.ndarray) -> np.ndarray:
        """Return the points of random effects (n, n_effects), other coordinates at the start."""
        points = np.repeat(self.coordinates.start()[None], len(eta), axis=0)
        deviations = {self.names[j]: eta[:, k] for k, j in enumerate(self.effects)}
        scaled = self.coordinates.scaled(self.values(deviations, len(eta), self.names))
        for name, key in self.coordinates.searched.items():
            if self.names.index(name) in self.effects:
                points[:, self.coordinates.variables.index(key)] = scaled[:, self.names.index(name)]
        return points

    def points_from(self, normals: np.ndarray) -> np.ndarray:
        """Return the points whose random effects have these standard normals (n, n_all)."""
        n = len(self.effects)
        points = self.points_of(self.model.random_effects.correlate(normals[:, :n]))
        if self.kappas:
            each = normals[:, n:].reshape(-1, len(self.within.names))
            points[:, self._at_kappas()] = self.within.correlate(each).reshape(len(points), -1)
        return points

    # --- predictions and objective ----------------------------------------------------------

    def outputs_at(self, times, parameters, *, rtol=FINE, events=None, until=None) -> np.ndarray:
        """Return every output of parameters (n, n_parameters), shape (n, n_times, n_outputs)."""
        schedule = np.zeros(len(parameters), dtype=np.int64)
        self.n_solved += len(parameters)
        return solve(
            self.model.structure, parameters, replace(events or self.events, schedule=schedule),
            times, until=max(self.last, times[-1]) if until is None else until,
            backend="compiled", rtol=rtol, atol=1e-2 * rtol,
        ).values  # fmt: skip

    def predict(self, points: np.ndarray, rtol: float = FINE) -> np.ndarray:
        """Return the predictions of every row (n, n_rows)."""
        parameters = self.parameters(points)
        return self.at_rows(self.outputs_at(self.times, parameters, rtol=rtol), parameters)

    def at_rows(self, outputs: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """Return predictions of every row, in its unit, from outputs (n, n_times, n_outputs)."""
        scale = self.rows.scale
        if np.isnan(scale).any():
            structure = self.model.structure
            first = parameters if parameters.ndim == 2 else parameters[:, 0]
            baseline = np.array([baseline_count(structure, vector) for vector in first])
            scale = np.where(np.isnan(scale), 100.0 / baseline[:, None], scale)
        return outputs[:, self.at, self.which] * scale

    def predict_beside(self, point, trials, *, rtol=FINE) -> np.ndarray:
        """Return the predictions of trials (n_trials, n_rows) on the steps of one point."""
        return self.at_rows(self.followed(point, trials, rtol=rtol), self.parameters(trials))

    def followed(self, point, trials, *, rtol=FINE, times=None) -> np.ndarray:
        """Return outputs of trials (n_trials, n_times, n_outputs) on the steps of one point."""
        self.n_solved += 1 + len(trials)
        return follow(
            self.model.structure, self.parameters(point[None]), self.parameters(trials)[None],
            self.events, self.times if times is None else times,
            until=self.last if times is None else None, rtol=rtol, atol=1e-2 * rtol,
        )[0, 1:]  # fmt: skip

    @property
    def sums_squares(self) -> bool:
        """Whether the objective is a sum of squares but for a constant."""
        return all(error.sums_squares for error in self.errors.values())

    def row_logs(self, points, predicted) -> np.ndarray:
        """Return the log likelihood of every row (n, n_rows)."""
        thetas = self.coordinates.thetas(points, self.errors)
        logs = log_likelihood(self.rows, predicted, self.errors, thetas)
        # An impossible row must not attract, a certain one has log 0.
        return np.nan_to_num(logs, nan=-_IMPOSSIBLE, neginf=-_IMPOSSIBLE, posinf=-_IMPOSSIBLE)

    def random_effects(self, points: np.ndarray) -> np.ndarray:
        """Return the whitened random effects, of the subject and then of each occasion (n, n_all).

        Without prior there are none.
        """
        if not self.prior:
            return np.empty((len(points), 0))
        found = self.eta(points)
        if self.kappas:
            found = np.concatenate([found, points[:, self._at_kappas()]], axis=1)
        return found @ self.whiten.T

    def objective(self, points: np.ndarray, predicted=None, rtol: float = FINE) -> np.ndarray:
        """Return the objective at points (n,)."""
        predicted = self.predict(points, rtol) if predicted is None else predicted
        squares = (self.random_effects(points) ** 2).sum(axis=1)
        return squares - 2.0 * self.row_logs(points, predicted).sum(axis=1)

    def residuals(self, points: np.ndarray, predicted=None, rtol: float = FINE) -> np.ndarray:
        """Return vectors (n, n_residuals) whose sum of squares is the objective but a constant."""
        predicted = self.predict(points, rtol) if predicted is None else predicted
        thetas = self.coordinates.thetas(points, self.errors)
        rows = residuals(self.rows, predicted, self.errors, thetas)
        rows = np.nan_to_num(rows, nan=_IMPOSSIBLE, posinf=_IMPOSSIBLE, neginf=-_IMPOSSIBLE)
        return np.concatenate([self.random_effects(points), rows], axis=1)

    @property
    def renews(self) -> bool:
        """Whether a further occasion would be another than those of the data."""
        return bool(self.kappas or self.pieces.counted)

    def people(
        self, points: np.ndarray, seed: int | None = None, anew: float | None = None
    ) -> Population:
        """Return the subject at points, each as a subject of its own, for `simulate`.

        From CLOCK `anew` on it is a new occasion, whose deviations are drawn from the prior.
        """
        eta = self.eta(points) if self.prior else np.zeros((len(points), 0))
        pieces, kappa = self.pieces, self.kappa(points)
        if anew is not None and self.renews:
            pieces = pieces.anew(anew)
        if anew is not None and self.kappas:
            effects = self.model.occasion_effects
            z = normals(seed, "occasion", np.arange(len(points)), len(effects.names))
            held = [name not in self.within.names for name in effects.names]
            coming = np.where(held, 0.0, effects.correlate(z))
            kappa = np.concatenate([kappa, coming[:, None]], axis=1)
        deviations = self._by_name(self.deviations(points))
        parameters = pieces.individual(deviations, len(points), kappa)
        return self._placed(pieces.people(eta, parameters, seed=seed))

    def _placed(self, people: Population) -> Population:
        """Return subjects whose occasions, on CLOCK, are put on the engine's clock."""
        begins = tuple(float(self.line.days(day)) for day in people.occasions)
        return replace(people, occasions=begins)
