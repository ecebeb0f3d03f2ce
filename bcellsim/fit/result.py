"""The result of an individual fit: estimates, their uncertainty, residuals, draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import expit

from bcellsim.draws import check_seed
from bcellsim.fit.curvature import Curvature, curvature
from bcellsim.fit.identify import identify
from bcellsim.fit.likelihood import ErrorModel
from bcellsim.fit.plausible import at_edge, implausible, warnings_of
from bcellsim.fit.posterior import FEW, Draws, draw
from bcellsim.fit.problem import Problem
from bcellsim.fit.profile import profile
from bcellsim.fit.report import as_json, as_text
from bcellsim.fit.tables import correlation_of, curves_of, params_of, residuals_of
from bcellsim.model import Model
from bcellsim.names import unknown
from bcellsim.population import Population
from bcellsim.regimen import Regimen

#: Searches that end within this much of the best objective (-2 log L) have found the same minimum.
SAME = 0.1
# By how much the objective may still fall, to second order, at what is called a minimum.
_CONVERGED = 0.02
# Other minima this much higher are looked at for proposals; so many of them at most.
_OTHERS, _HIGHEST = 3, 12.0


@dataclass(frozen=True, eq=False)
class Fit:
    """Fitted parameters of one subject.

    Parameters
    ----------
    model : Model
        The model that was fitted.
    params : DataFrame
        A row a parameter: value, unit, low_90, high_90, log_se (SE of its logarithm, or logit),
        typical, prior_sd (on the same scale), and `determined`: by what the value is determined.
        Where covariates change in time: with those of the last row. ``<name>_occ<k>`` is the
        factor exp(kappa) on a parameter in occasion k.
    residuals : DataFrame
        A row an observation: TIME, CLOCK (TIME, but for a reset after which TIME restarts), DVID,
        DV, CENS, LIMIT, PRED (typical), IPRED, IWRES, and TO_OUTPUT, which turns a percentage into
        the unit of the output (1 of other values).
    correlation : DataFrame
        Correlation of the estimates, on the scale of `log_se`.
    errors : dict of str to ErrorModel
        Residual error of each endpoint, at its estimate where it was estimated.
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
    starts : DataFrame
        A row a start of the search: objective it ended at, by how much above the best, whether it
        agrees, and evaluations.
    warnings : tuple of str
        What to know before using the result.
    result
        lmfit's own result of the best start.
    """

    model: Model
    params: object
    residuals: object
    correlation: object
    errors: dict[str, ErrorModel]
    prior: str | None
    regimen: Regimen
    subject: Population
    covariates: dict
    curves: object = field(repr=False)
    starts: object
    warnings: tuple[str, ...]
    result: object = field(repr=False)
    problem: Problem = field(repr=False)
    curvature: Curvature = field(repr=False)
    ends: np.ndarray = field(repr=False)
    _drawn: dict = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, problem: Problem, result, ends, evaluations) -> Fit:
        """Collect a fit from the problem, lmfit's best result, and where all starts ended.

        Parameters
        ----------
        problem : Problem
            The problem.
        result
            lmfit's result of the refined search.
        ends : float array (n_starts, n_coordinates)
            Where the searches ended.
        evaluations : list of int
            Evaluations of each search.
        """
        point = problem.coordinates.vector(result.params)
        about = curvature(problem, point)
        thetas = problem.coordinates.thetas(point[None], problem.errors)
        errors = {
            output: ErrorModel(
                error.form,
                {name: float(np.squeeze(value)) for name, value in thetas[output].items()},
                error.estimated,
                error.origin,
            )
            for output, error in problem.errors.items()
        }
        starts = _starts(problem, ends, evaluations, about.objective)
        params = params_of(problem, about)
        return cls(
            model=problem.model,
            params=params,
            residuals=residuals_of(problem, point),
            correlation=correlation_of(problem, about),
            errors=errors,
            prior=problem.prior,
            regimen=problem.regimen,
            subject=problem.people(point[None]),
            covariates=problem.covariates,
            curves=curves_of(problem, point),
            starts=starts,
            warnings=_warnings(problem, about, starts),
            result=result,
            problem=problem,
            curvature=about,
            ends=ends,
        )

    @property
    def converged(self) -> bool:
        """Whether the search ended at a minimum: the objective could fall no further.

        Not where a parameter without bounds ran to the edge of the search. A minimum may still be
        at an implausible value, see `implausible`.
        """
        if at_edge(self.problem, self.curvature):
            return False
        decrement = self.curvature.decrement
        if not self.curvature.complete:
            return bool(self.result.success) and not decrement > _CONVERGED
        return bool(decrement < _CONVERGED)

    @property
    def implausible(self) -> tuple[str, ...]:
        """Parameters whose estimate lies where hardly a patient does; the warnings say how far."""
        return tuple(implausible(self.problem, self.curvature))

    @property
    def objective(self) -> float:
        """-2 log L of the rows, constants included, and the squared whitened random effects."""
        return self.curvature.objective

    @property
    def minus_two_log_l(self) -> float:
        """-2 log L of the rows, constants included."""
        effects = self.problem.random_effects(self.curvature.point[None])
        return self.objective - float((effects**2).sum())

    @property
    def aic(self) -> float:
        """Akaike's criterion; NaN with a prior, where the estimate does not maximise L."""
        if self.prior:
            return np.nan
        return self.minus_two_log_l + 2 * len(self.curvature.point)

    @property
    def laplace(self) -> float:
        """-2 log of the marginal likelihood by Laplace's approximation, constants included.

        The random effects are integrated out, where they are all that was searched; otherwise, or
        without curvature, NaN.
        """
        problem = self.problem
        searched = [problem.names.index(name) for name in problem.coordinates.searched]
        whole = self.prior and sorted(searched) == sorted(problem.effects)
        if not (whole and self.curvature.complete) or problem.coordinates.spreads:
            return np.nan
        prior = 2.0 * np.log(np.diag(problem.factor)).sum()
        half = 0.5 * self.curvature.hessian
        return float(self.objective + prior + np.linalg.slogdet(half)[1])

    def profile(self, parameter: str, level: float = 0.9):
        """Return the profile likelihood of a parameter.

        Parameters
        ----------
        parameter : str
            A parameter that was searched (or ``<endpoint>_<sd>``, where an error was estimated).
        level : float
            Coverage of the interval.

        Returns
        -------
        DataFrame
            value, rise (of the objective above its minimum), then the other parameters at each;
            attributes `low` and `high` are the interval (NaN at an end that was not reached),
            `level`, `parameter`, `unit`.

        Raises
        ------
        ValueError
            If the parameter was not searched, or the level is not between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level = {level}: a number between 0 and 1 is wanted")
        key = self._coordinate(parameter)
        points, rise, ends = profile(self.problem, self.curvature, key, level)
        table = self._table(points)
        table.insert(0, "rise", rise)
        table.insert(0, "value", table.pop(parameter))
        back = expit if key.startswith("logit_") else np.exp
        low, high = (float(back(end)) for end in ends)
        unit = self.params.loc[parameter, "unit"]
        table.attrs.update(parameter=parameter, unit=unit, low=low, high=high, level=level)
        return table

    def _coordinate(self, parameter):
        """Return the coordinate of a searched parameter, an estimated error, or an occasion."""
        known = self.problem.shown
        if parameter not in known:
            raise ValueError(unknown("parameter that was searched", str(parameter), known))
        return known[parameter]

    def _table(self, points):
        """Return the parameters at points, and estimated errors and factors of occasions."""
        import pandas as pd

        problem = self.problem
        table = pd.DataFrame(problem.natural(points), columns=list(problem.names))
        for name, key in problem.beside.items():
            table[name] = np.exp(points[:, problem.coordinates.variables.index(key)])
        return table

    def drawn(self, n: int = 1000, seed: int | None = None, method: str = "importance") -> Draws:
        """Return draws of the coordinates; `draws` and `population` show them as parameters."""
        if isinstance(n, bool) or int(n) != n or n < 1:
            raise ValueError(f"n = {n}: a number of draws of 1 or more is wanted")
        seed = check_seed(seed)
        key = (int(n), seed, method)
        if key not in self._drawn:
            self._drawn[key] = draw(self.problem, self.minima, int(n), seed, method)
            _warn_if_few(self._drawn[key])
        return self._drawn[key]

    def draws(self, n: int = 1000, seed: int | None = None, method: str = "importance"):
        """Draw parameters from their posterior, with the prior's correlations and the data's.

        Parameters
        ----------
        n : int
            Number of draws.
        seed : int, optional
            Seed; one is drawn and recorded if none is given.
        method : str
            ``"importance"``: resampling of the Laplace approximation; ``"laplace"``: that
            approximation itself; ``"emcee"``: Markov chains, for when resampling leaves few
            effective draws (needs the package emcee).

        Returns
        -------
        DataFrame
            A row a draw, a column a parameter; attributes `method`, `effective` (number of draws),
            `n_proposed`, `seed`, `note`.

        Raises
        ------
        ValueError
            If the data leave a parameter without standard error.
        ImportError
            If emcee is wanted and not installed.
        """
        found = self.drawn(n, seed, method)
        table = self._table(found.points).rename_axis("draw")
        table.attrs.update(method=found.method, effective=found.effective, note=found.note,
                           n_proposed=found.n_proposed, seed=found.seed)  # fmt: skip
        return table

    def population(
        self,
        n: int = 1000,
        seed: int | None = None,
        method: str = "importance",
        *,
        anew: float | None = None,
    ) -> Population:
        """Return draws of this one patient as a population, for `simulate` and `explore`.

        Its subjects are draws: what varies between them is the uncertainty of the parameters. The
        arguments are those of `draws`. Where parameters vary between occasions, `anew` is the day
        of the data's clock from which on it is a new one, drawn from the prior.
        """
        found = self.drawn(n, seed, method)
        return self.problem.people(found.points, found.seed, anew)

    @cached_property
    def minima(self) -> list[Curvature]:
        """The curvature about each minimum found, the best first."""
        found = [self.curvature]
        order = np.argsort(self.starts["above_best"].to_numpy(), kind="stable")
        for i in order:
            point, above = self.ends[i], self.starts["above_best"].iloc[i]
            if above > _HIGHEST or len(found) > _OTHERS:
                break
            sd = np.sqrt(np.diag(self.curvature.covariance))
            if all(np.nanmax(np.abs(point - c.point) / sd) > 1.0 for c in found):
                found.append(curvature(self.problem, point))
        return found

    def identify(self):
        """Return what would determine the parameters that the data do not.

        Returns
        -------
        DataFrame
            As `bcellsim.fit.identify.identify`: of each kind of further observation the days that
            tell most, and the standard error with them.
        """
        weak = [
            self.problem.coordinates.searched[name]
            for name, by in self.params["determined"].items()
            if by in ("prior", "nothing") and name in self.problem.coordinates.searched
        ]
        return identify(self.problem, self.curvature, weak)

    def report(self) -> str:
        """Return the fit as text: data, method, estimates, what is determined, fit of the rows."""
        return as_text(self)

    def to_json(self) -> dict:
        """Return the fit as plain data, missing numbers as None."""
        return as_json(self)


def _starts(problem, ends, evaluations, best):
    import pandas as pd

    objective = problem.objective(ends)
    lowest = min(best, objective.min())
    return pd.DataFrame(
        {
            "objective": objective,
            "above_best": objective - lowest,
            "agrees": objective - lowest < SAME,
            "evaluations": evaluations,
        }
    ).rename_axis("start")


def _warnings(problem, about, starts):
    found = [*problem.rows.told, *filter(None, [problem.late])]
    found += warnings_of(problem, about)
    if starts["above_best"].min() > SAME:
        found.append("the refined search left the minimum of its start")
    if len(starts) > 1 and starts["agrees"].sum() == 1:
        found.append(
            f"only 1 of {len(starts)} starts ended at the best minimum; more starts may find better"
        )
    if problem.rows.cens.all():
        found.append("every observation is censored: only limits are known")
    return tuple(found)


def _warn_if_few(draws):
    if draws.effective < min(FEW, len(draws.points)):
        import warnings

        warnings.warn(
            f"only {draws.effective:.0f} effective draws ({draws.note}); the ends of intervals are "
            'rough: try method="emcee" (pip install "bcellsim[sampling]")',
            stacklevel=4,
        )
