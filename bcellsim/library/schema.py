"""The schema of a model file: what may stand in it, checked key by key."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

#: Scales on which papers print a variability.
Scale = Literal["sd", "variance", "cv_lognormal", "cv_approx"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ParameterEntry(_Table):
    value: FiniteFloat
    unit: str
    fixed: bool = False
    source: str = ""
    read_in: str = ""


class VariabilityEntry(_Table):
    value: FiniteFloat = Field(gt=0)
    scale: Scale
    distribution: Literal["lognormal", "logit"] = "lognormal"
    source: str = ""


class CorrelationEntry(_Table):
    pair: tuple[str, str]
    value: FiniteFloat = Field(gt=-1, lt=1)

    @field_validator("pair", mode="before")
    @classmethod
    def _pair(cls, value):
        return tuple(value) if isinstance(value, list) else value


class CovarianceEntry(CorrelationEntry):
    value: FiniteFloat


class VariabilityTable(BaseModel):
    """``[iiv]`` or ``[iov]``: a variability a parameter, and how they go together."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, VariabilityEntry] = Field(init=False)

    correlations: list[CorrelationEntry] = []
    covariances: list[CovarianceEntry] = []


class CovariateEntry(_Table):
    unit: str = ""
    meaning: str
    reference: FiniteFloat
    default: FiniteFloat | None = None
    follows: str | None = None
    route: str | None = None
    occasion: bool = False
    study: dict[Literal["median", "low", "high", "share", "n"], FiniteFloat] = {}
    source: str = ""


class CovariateEffectEntry(_Table):
    parameter: str
    covariate: str
    form: Literal["power", "log_power", "exponential", "linear", "factor"]
    reference: FiniteFloat = 0.0
    value: FiniteFloat
    source: str = ""

    @model_validator(mode="after")
    def _reference(self):
        if self.form != "factor" and "reference" not in self.model_fields_set:
            raise ValueError(f"the form {self.form} needs the reference of the covariate")
        if self.form in ("power", "log_power") and self.reference <= (self.form == "log_power"):
            raise ValueError(f"the form {self.form} needs a larger reference")
        if self.form == "factor" and (self.value <= 0 or self.reference):
            raise ValueError("a factor is above 0, and its reference is 0")
        return self


class ResidualErrorEntry(_Table):
    """The error of an output as printed: SD, CV in %, or variance; add_sd in `unit`."""

    prop_sd: FiniteFloat | None = Field(default=None, ge=0)
    prop_cv: FiniteFloat | None = Field(default=None, ge=0)
    prop_variance: FiniteFloat | None = Field(default=None, ge=0)
    add_sd: FiniteFloat | None = Field(default=None, ge=0)
    add_variance: FiniteFloat | None = Field(default=None, ge=0)
    log_sd: FiniteFloat | None = Field(default=None, gt=0)
    low_sd: FiniteFloat | None = Field(default=None, gt=0)
    high_sd: FiniteFloat | None = Field(default=None, gt=0)
    half: FiniteFloat | None = Field(default=None, gt=0)
    form: Literal["combined1", "combined2", "declining"] = "combined2"
    unit: str | None = None
    iiv: VariabilityEntry | None = None
    factors: dict[str, FiniteFloat] = {}
    source: str = ""

    @model_validator(mode="after")
    def _one_form(self):
        declining = [self.low_sd, self.high_sd, self.half]
        usual = [
            self.prop_sd, self.prop_cv, self.prop_variance, self.add_sd, self.add_variance,
            self.log_sd,
        ]  # fmt: skip
        if self.form == "declining":
            if None in declining or any(value is not None for value in usual):
                raise ValueError("the form declining has low_sd, high_sd and half, and no other SD")
            return self
        if any(value is not None for value in declining):
            raise ValueError("low_sd, high_sd and half belong to the form declining")
        if sum(value is not None for value in usual[:3]) > 1 or None not in usual[3:5]:
            raise ValueError("an SD is given once: as SD, CV or variance")
        if self.log_sd is not None and any(value is not None for value in usual[:5]):
            raise ValueError("log_sd, the SD of the logarithm, stands alone")
        if all(value is None for value in usual):
            raise ValueError("an SD is wanted: prop_sd, add_sd or log_sd")
        return self


class PopulationEntry(_Table):
    n: int = Field(gt=0)
    seed: int = Field(ge=0)


class CheckEntry(_Table):
    id: str
    metric: str
    source: str
    expected: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    unit: str = ""
    gate: bool = True
    regimen: str = ""
    endpoint: str = "bcell"
    statistic: Literal["typical", "median", "geometric_mean"] = "typical"
    formula: str = ""
    covariates: dict[str, FiniteFloat | str | tuple[FiniteFloat, ...]] = {}
    relative_to: dict[str, FiniteFloat] | None = None
    population: PopulationEntry | None = None
    window: tuple[str, str] | None = None
    threshold: FiniteFloat | None = None
    note: str = ""

    @field_validator("window", mode="before")
    @classmethod
    def _window(cls, value):
        return tuple(value) if isinstance(value, list) else value

    @field_validator("covariates", mode="before")
    @classmethod
    def _covariates(cls, value):
        if not isinstance(value, dict):
            return value
        return {key: tuple(x) if isinstance(x, list) else x for key, x in value.items()}

    @model_validator(mode="before")
    @classmethod
    def _tolerance(cls, data):
        if isinstance(data, dict) and "expected" in data and not {"low", "high"} <= set(data):
            raise ValueError("a check needs its tolerance: low and high, about expected")
        return data

    @model_validator(mode="after")
    def _order(self):
        if not self.low <= self.expected <= self.high:
            raise ValueError(
                f"expected {self.expected:g} does not lie between low {self.low:g} and high "
                f"{self.high:g}"
            )
        return self


class VariantEntry(_Table):
    description: str
    correlations: list[CorrelationEntry]


class DrugFile(_Table):
    """An antibody."""

    name: str
    target: str
    routes: list[Literal["sc", "iv"]]
    molar_mass: FiniteFloat | None = Field(default=None, gt=0)
    source: str
    notes: str = ""


class ModelFile(_Table):
    """A published model: one TOML file, numbers exactly as printed in the paper.

    - ``[parameters]``: value, unit, whether fixed, and its own `source` and `read_in` where they
      differ from those of the file. Names are those of the register, of the structure or not.
    - ``[definitions]``: parameters of the structure that the paper does not print, each a formula
      of those it does: ``cl = "kel * vc"``. Variability, covariates and fits act on the printed.
    - ``[iiv]`` and ``[iov]``: variability between subjects and between occasions as a `value` on
      its `scale`, with `correlations` and `covariances` of pairs.
    - ``[covariates.NAME]`` and ``[[covariate_effects]]``: what acts on which parameter.
    - ``[residual_error]``: SDs, CVs in % or variances of each output.
    - `missing`: what was not found, each ``"name"`` or ``"name: what is known"``. A name is that of
      a parameter, ``pk`` (all of the PK: a response to be combined with one), ``variability``,
      ``residual_error`` or ``covariate_effects``.
    - ``[[checks]]``: published results, with the bounds `low` and `high` about `expected`.
    """

    name: str
    title: str
    structure: str
    drug: str | DrugFile
    citation: str
    source: str
    read_in: str
    status: Literal["transcribed", "reproduced"]
    context_of_use: str
    not_for: str
    experimental: bool = False
    missing: list[str] = []
    notes: str = ""
    study: dict[str, str | int | float] = {}
    parameters: dict[str, ParameterEntry]
    definitions: dict[str, str] = {}
    iiv: VariabilityTable = VariabilityTable()
    iov: VariabilityTable = VariabilityTable()
    covariates: dict[str, CovariateEntry] = {}
    covariate_effects: list[CovariateEffectEntry] = []
    residual_error: dict[str, ResidualErrorEntry] = {}
    variants: dict[str, VariantEntry] = {}
    checks: list[CheckEntry] = []


class RegimenFile(_Table):
    """A named dosing schedule."""

    name: str
    title: str
    drug: str
    shorthand: str
    source: str
    notes: str = ""
