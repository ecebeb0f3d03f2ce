"""What a published model consists of: numbers with their sources, as data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Drug:
    """An antibody: its molar mass [kDa] and routes, with the source of each number."""

    name: str
    target: str
    routes: tuple[str, ...]
    molar_mass: float | None = None
    source: str = ""
    notes: str = ""


@dataclass(frozen=True)
class Parameter:
    """A typical value in internal units, and how the paper prints it."""

    value: float
    printed: float
    unit: str
    fixed: bool
    source: str


@dataclass(frozen=True)
class RandomEffects:
    """Variability between subjects, or occasions: eta ~ N(0, covariance) on each one's scale.

    Parameters
    ----------
    names : tuple of str
        Parameters that vary.
    distributions : tuple of str
        ``"lognormal"`` (typical x exp(eta)) or ``"logit"`` (logit(typical) + eta).
    covariance : float array (n, n)
        Covariance of eta.
    sources : tuple of str
        Source of each variance.
    """

    names: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    sources: tuple[str, ...] = ()

    def factor(self) -> np.ndarray:
        """Return the lower Cholesky factor of the covariance."""
        return np.linalg.cholesky(self.covariance)

    def correlate(self, normals: np.ndarray) -> np.ndarray:
        """Return eta from independent standard normals, both (n_subjects, n).

        Summed column by column: a matrix product rounds differently with the number of subjects.
        """
        eta = np.zeros_like(normals)
        for j, column in enumerate(self.factor().T):
            eta += normals[:, j, None] * column
        return eta

    def of(self, chosen: Collection[str]) -> RandomEffects:
        """Return the random effects of some parameters, with their covariances."""
        at = [i for i, name in enumerate(self.names) if name in chosen]
        return RandomEffects(
            tuple(self.names[i] for i in at),
            tuple(self.distributions[i] for i in at),
            self.covariance[np.ix_(at, at)],
            tuple(self.sources[i] for i in at),
        )

    def beside(self, other: RandomEffects) -> RandomEffects:
        """Return these and others, which are independent of them."""
        n = len(self.names)
        covariance = np.zeros((n + len(other.names),) * 2)
        covariance[:n, :n], covariance[n:, n:] = self.covariance, other.covariance
        return RandomEffects(
            self.names + other.names,
            self.distributions + other.distributions,
            covariance,
            self.sources + other.sources,
        )

    def sd(self) -> dict[str, float]:
        """Return the SD of each eta."""
        return dict(zip(self.names, np.sqrt(np.diag(self.covariance)), strict=True))

    def correlations(self) -> dict[tuple[str, str], float]:
        """Return the correlation of every pair that has one."""
        sd = list(self.sd().values())
        return {
            (a, b): float(self.covariance[i, j] / sd[i] / sd[j])
            for i, a in enumerate(self.names)
            for j, b in enumerate(self.names)
            if i < j and self.covariance[i, j]
        }


@dataclass(frozen=True)
class Covariate:
    """A covariate of a model: unit, reference value, and what the study had.

    Parameters
    ----------
    name, unit, meaning : str
        Column name, unit and meaning.
    reference : float
        Value at which the typical values hold.
    default : float or None
        Value of a subject for whom none is given (an indicator's 0); None where it must be given.
    follows : str or None
        Parameter whose individual value, relative to the typical one, sets the default.
    route : str or None
        Route of dosing for which this 0/1 covariate must be 1.
    occasion : bool
        Whether it counts the occasions: its value is that of the first one.
    study : mapping
        ``{median, low, high}`` of the study population, or ``{share}`` of an indicator.
    """

    name: str
    unit: str
    meaning: str
    reference: float
    default: float | None = None
    follows: str | None = None
    route: str | None = None
    occasion: bool = False
    study: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class CovariateEffect:
    """An effect of a covariate x on a parameter, as a factor.

    ``power``: (x / reference)^value; ``log_power``: (ln x / ln reference)^value;
    ``exponential``: exp(value (x - reference)); ``linear``: 1 + value (x - reference);
    ``factor``: value^x, for an indicator x.
    """

    parameter: str
    covariate: str
    form: str
    reference: float
    value: float
    source: str = ""

    def factor(self, x: np.ndarray) -> np.ndarray:
        """Return the factor on the parameter for covariate values `x` (n_subjects,)."""
        if self.form == "power":
            return (x / self.reference) ** self.value
        if self.form == "log_power":
            return (np.log(x) / np.log(self.reference)) ** self.value
        if self.form == "factor":
            return self.value**x
        if self.form == "exponential":
            return np.exp(self.value * (x - self.reference))
        return 1.0 + self.value * (x - self.reference)


@dataclass(frozen=True)
class ResidualError:
    """Residual error of an output, SDs in its unit.

    Parameters
    ----------
    prop_sd, add_sd : float
        ``combined2``: SD^2 = add_sd^2 + (prop_sd f)^2; ``combined1``: their sum.
    log_sd : float
        SD of the logarithm.
    form : str
        ``combined1``, ``combined2``, or ``declining``: the SD of the logarithm falls with the
        prediction f, low_sd - (low_sd - high_sd) f / (half + f).
    low_sd, high_sd, half : float
        Of the form ``declining``: SD at low and at high predictions, and where it is half way.
    variance : float
        Variance of the logarithm of the SD between subjects.
    factors : mapping of str to float
        Factors on the SD in some studies.
    """

    prop_sd: float = 0.0
    add_sd: float = 0.0
    log_sd: float = 0.0
    form: str = "combined2"
    low_sd: float = 0.0
    high_sd: float = 0.0
    half: float = 0.0
    variance: float = 0.0
    factors: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    def log_normal_sd(self) -> float:
        """Return the SD of the log-normal error that stands for it.

        Raises
        ------
        ValueError
            If it has neither an SD of the logarithm nor a proportional one.
        """
        if self.form == "declining":
            raise ValueError("its SD falls with the concentration, which no fit takes yet")
        if not (self.log_sd or self.prop_sd):
            raise ValueError("it has no proportional SD")
        return self.log_sd or self.prop_sd

    def described(self, unit: str) -> str:
        """Return it in words; `unit` is that of the output."""
        if self.form == "declining":
            text = (
                f"SD of the logarithm {self.low_sd:g} - {self.low_sd - self.high_sd:.4g} f / "
                f"({self.half:g} + f) at prediction f"
            )
        elif self.log_sd:
            text = f"SD of the logarithm {self.log_sd:g}"
        else:
            sds = {"proportional": (self.prop_sd, ""), "additive": (self.add_sd, f" {unit}")}
            given = [f"{what} {sd:.4g}{of}" for what, (sd, of) in sds.items() if sd]
            text = ", ".join(given) + (f" ({self.form})" if len(given) > 1 else "")
        if self.variance:
            text += f"; the SD varies between subjects, variance of its logarithm {self.variance:g}"
        factors = ", ".join(f"{name} x {value:g}" for name, value in self.factors.items())
        return text + (f"; {factors}" if factors else "")


@dataclass(frozen=True)
class Check:
    """A published result the model is compared with; `gate` says whether it counts."""

    id: str
    metric: str
    source: str
    low: float
    high: float
    expected: float
    unit: str = ""
    gate: bool = True
    regimen: str = ""
    endpoint: str = "bcell"
    statistic: str = "typical"
    formula: str = ""
    covariates: Mapping[str, float | str | tuple[float, ...]] = field(default_factory=dict)
    relative_to: Mapping[str, float] | None = None
    population: Mapping[str, int] = field(default_factory=dict)
    window: tuple[str, str] | None = None
    threshold: float | None = None
    note: str = ""
