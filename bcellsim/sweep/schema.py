"""The design file of a sweep: its keys, and the constants that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bcellsim.library.tables import located
from bcellsim.names import unknown

Value = int | float | str


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PopulationEntry(_Table):
    """The subjects: how many, or a table of them, and their covariates."""

    n: int | None = Field(default=None, ge=1)
    covariates: Literal["reference", "study"] | dict[str, Value] = "reference"
    patients: str | None = None


class ScheduleEntry(_Table):
    """What all schedules have in common; a factor gives the rest."""

    regimen: str | None = None
    dose: str | None = None
    interval: Value | None = None
    loading: str | None = None
    start: Value | None = None
    max_doses: int | None = None
    visit_every: Value | None = None
    at_or_above: Value | None = None
    min_gap: Value | None = None
    first_visit: Value | None = None
    lloq: Value | None = None
    noise: Value | None = None
    missed: float | None = None
    delay: Value | None = None


class FactorEntry(_Table):
    """The values of one factor: a list, a range, or a distribution."""

    values: list[Value] | None = None
    low: Value | None = None
    high: Value | None = None
    levels: int | None = Field(default=None, ge=2)
    log: bool = False
    distribution: Literal["normal", "lognormal", "uniform", "loguniform"] | None = None
    mean: Value | None = None
    sd: Value | None = None
    median: Value | None = None
    cv: float | None = None
    how: Literal["multiply", "replace"] | None = None


class DesignFile(_Table):
    """A design file."""

    title: str = ""
    model: str | list[str]
    seed: int
    until: Value
    induction: Value = "28 d"
    follow_up: Value = "0 d"
    thresholds: Value | list[Value]
    recovery: Value | None = None
    sampling: Literal["factorial", "lhs", "sobol", "saltelli", "morris"] = "factorial"
    points: int | None = Field(default=None, ge=1)
    metrics: list[str] | None = None
    trajectories: Value | None = None
    outputs: list[str] | None = None
    chunk: int | None = Field(default=None, ge=1)
    memory: str | None = None
    constants: dict[str, Value] = {}
    population: PopulationEntry = PopulationEntry()
    schedule: ScheduleEntry = ScheduleEntry()
    factors: dict[str, FactorEntry] = {}


_NAME = re.compile(r"\$(\w+)")


def with_constants(path: Path, data: Mapping) -> dict:
    """Return a design in which each ``"$name"`` is the constant of that name.

    Parameters
    ----------
    path : Path
        The file, for messages.
    data : mapping
        What the TOML parser read.

    Raises
    ------
    ValueError
        If there is no such constant: file, line, key.
    """
    constants = data.get("constants", {})
    if not isinstance(constants, dict):
        return dict(data)

    def of(name):
        if name not in constants:
            raise ValueError(unknown("constant", name, constants))
        return constants[name]

    def filled(value, keys):
        if isinstance(value, dict):
            return {key: filled(one, (*keys, key)) for key, one in value.items()}
        if isinstance(value, list):
            return [filled(one, keys) for one in value]
        if not isinstance(value, str):
            return value
        with located(path, *keys):
            whole = _NAME.fullmatch(value)
            return of(whole[1]) if whole else _NAME.sub(lambda found: str(of(found[1])), value)

    return {
        key: value if key == "constants" else filled(value, (key,)) for key, value in data.items()
    }
