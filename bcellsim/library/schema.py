"""The schema of a model file: what may stand in it, checked key by key."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ParameterEntry(_Table):
    value: FiniteFloat
    unit: str
    fixed: bool = False
    source: str = ""


class VariabilityEntry(_Table):
    value: FiniteFloat = Field(gt=0)
    scale: Literal["sd", "variance", "cv_lognormal", "cv_approx"]
    distribution: Literal["lognormal", "logit"] = "lognormal"
    source: str = ""


class CorrelationEntry(_Table):
    pair: tuple[str, str]
    value: FiniteFloat = Field(gt=-1, lt=1)

    @field_validator("pair", mode="before")
    @classmethod
    def _pair(cls, value):
        return tuple(value) if isinstance(value, list) else value


class CovariateEntry(_Table):
    unit: str = ""
    meaning: str
    reference: FiniteFloat
    default: FiniteFloat | None = None
    follows: str | None = None
    route: str | None = None
    study: dict[Literal["median", "low", "high", "share", "n"], FiniteFloat] = {}
    source: str = ""


class CovariateEffectEntry(_Table):
    parameter: str
    covariate: str
    form: Literal["power", "exponential", "linear"]
    reference: FiniteFloat
    value: FiniteFloat
    source: str = ""


class ResidualErrorEntry(_Table):
    prop_sd: FiniteFloat = Field(default=0.0, ge=0)
    add_sd: FiniteFloat = Field(default=0.0, ge=0)
    form: Literal["combined1", "combined2"] = "combined2"
    source: str = ""


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
    covariates: dict[str, FiniteFloat | str] = {}
    relative_to: dict[str, FiniteFloat] | None = None
    population: PopulationEntry | None = None
    window: tuple[str, str] | None = None
    threshold: FiniteFloat | None = None
    note: str = ""

    @field_validator("window", mode="before")
    @classmethod
    def _window(cls, value):
        return tuple(value) if isinstance(value, list) else value


class VariantEntry(_Table):
    description: str
    correlations: list[CorrelationEntry]


class ModelFile(_Table):
    """A published model: one TOML file, numbers exactly as printed in the paper."""

    name: str
    title: str
    structure: str
    drug: str
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
    iiv: dict[str, VariabilityEntry] = {}
    correlations: list[CorrelationEntry] = []
    covariates: dict[str, CovariateEntry] = {}
    covariate_effects: list[CovariateEffectEntry] = []
    residual_error: dict[str, ResidualErrorEntry] = {}
    variants: dict[str, VariantEntry] = {}
    checks: list[CheckEntry] = []

    @model_validator(mode="before")
    @classmethod
    def _correlations(cls, data):
        if "correlations" in data:
            raise ValueError("correlations stand in [iiv], beside the variances they belong to")
        iiv = data.get("iiv", {})
        if isinstance(iiv, dict) and "correlations" in iiv:
            rest = {key: value for key, value in iiv.items() if key != "correlations"}
            return {**data, "iiv": rest, "correlations": iiv["correlations"]}
        return data


class DrugFile(_Table):
    """An antibody."""

    name: str
    target: str
    routes: list[Literal["sc", "iv"]]
    molar_mass: FiniteFloat | None = Field(default=None, gt=0)
    source: str
    notes: str = ""


class RegimenFile(_Table):
    """A named dosing schedule."""

    name: str
    title: str
    drug: str
    shorthand: str
    source: str
    notes: str = ""
