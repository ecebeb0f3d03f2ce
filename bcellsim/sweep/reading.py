"""Reading a design file: every mistake is named with its file, line and key."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from bcellsim.covariates import BODY_SIZE
from bcellsim.draws import check_seed
from bcellsim.explore import thresholds
from bcellsim.explore.outcomes import one_level
from bcellsim.library import load_model
from bcellsim.library.tables import located, read_table
from bcellsim.metrics import METRICS
from bcellsim.names import unknown
from bcellsim.population import typical_subject
from bcellsim.simulate import output_times
from bcellsim.sweep.design import Design, patients, sample, typical_value
from bcellsim.sweep.factors import Factor, doses_in, known_factors, read_factor
from bcellsim.sweep.salib import OF_SENSITIVITY
from bcellsim.sweep.schema import DesignFile, FactorEntry, with_constants
from bcellsim.units import days, split_quantity

#: Scenarios of a chunk by default, and numbers of its trajectories.
_CHUNK, _NUMBERS = 50_000, 10_000_000
#: Bytes that a scenario takes while its chunk is solved: parameters, tallies and metrics.
_BYTES = 3_000
#: A Latin hypercube is made whole, in every process; a Sobol sequence is made where it is needed.
_MOST_LHS = 10_000_000

_GRID = ("dose", "interval", "loading", "start", "max_doses")
_RULE = ("visit_every", "dose", "at_or_above", "min_gap", "loading", "first_visit", "max_doses",
         "lloq", "noise", "missed", "delay")  # fmt: skip
_NEEDED = {"grid": ("dose", "interval"), "rule": ("visit_every", "dose", "at_or_above")}

At = Callable[..., AbstractContextManager]


def read_design(path: str | Path) -> Design:
    """Read a design file.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or one that it names.
    ValueError
        For the first thing in it that is wrong: file, line, key, nearest valid choice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no design file {path}")
    spec = read_table(path, DesignFile, with_constants).model_dump(mode="json")
    for key in ("title", "constants"):
        del spec[key]
    spec["model"] = [spec["model"]] if isinstance(spec["model"], str) else spec["model"]
    spec["model"] = [_beside(path, name, ".toml") for name in spec["model"]]
    people = spec["population"]
    people["patients"] = people["patients"] and _beside(path, people["patients"], ".csv")
    return _design(spec, partial(located, path))


@lru_cache(maxsize=4)
def design_of(text: str) -> Design:
    """Return the design of a `Design.text`."""
    return _design(json.loads(text), lambda *keys: nullcontext())


def _beside(path, name, ending):
    """Return the absolute name of a file named in a design, which is looked for beside it."""
    return str((path.absolute().parent / name).resolve()) if name.endswith(ending) else name


def _design(spec: dict, at: At) -> Design:
    with at("model"):
        if not spec["model"]:
            raise ValueError("no model is given")
        models = tuple(load_model(name) for name in spec["model"])
        for model in models:
            model.require_output("bcell")
            if spec["model"].count(model.name) > 1:
                raise ValueError(f"{model.name} is given twice")
    with at("seed"):
        check_seed(spec["seed"])
    with at("thresholds"):
        given = spec["thresholds"]
        levels = tuple(thresholds(given, "thresholds"))
        if len(set(levels)) < len(levels):
            raise ValueError("a threshold is given twice")
    if spec["recovery"] is not None:
        with at("recovery"):
            spec["recovery"] = one_level(spec["recovery"], "recovery")
    factors = _factors(spec, models, at)
    kind = _kind(spec, factors, at)
    _check_routes(spec, models, factors, at)
    _check_sampling(spec, factors, at)
    _check_window(spec, factors, at)
    _check_names(spec, models, at)
    times = _times(spec, factors, at)
    n = _population_size(spec, models, at)
    outputs = len(spec["outputs"] or models[0].structure.outputs) if len(times) else 0
    chunk = spec["chunk"] = _chunk_size(spec, len(times) * outputs, at)
    spec["memory"] = None
    spec["files"] = _digests(spec, models)
    design = Design(spec, models, factors, kind, levels, n, times, chunk)
    _check_factors(design, at)
    return design


def _factors(spec, models, at) -> tuple[Factor, ...]:
    """Return the factors in the order of `Design.factors`, whatever that of the file."""
    known, sampled = known_factors(list(models)), spec["sampling"] != "factorial"
    found = []
    for name, entry in spec["factors"].items():
        with at("factors", name):
            if name in ("threshold", "thresholds"):
                raise ValueError("thresholds are no factor: thresholds = [10, 40] gives a row each")
            if name not in known:
                raise ValueError(unknown("factor", name, known))
            if spec["schedule"].get(name) is not None:
                raise ValueError(f"{name} is given twice: in [schedule] as well")
            found.append(read_factor(name, known[name], FactorEntry(**entry), sampled))
    order = ("schedule", "window", "parameter", "covariate")
    return tuple(sorted(found, key=lambda factor: (order.index(factor.role), factor.name)))


def _kind(spec, factors, at):
    """Return what kind of schedule is described; raise ValueError if it is not whole."""
    given = {name for name, value in spec["schedule"].items() if value is not None}
    given |= {factor.name for factor in factors if factor.role == "schedule"}
    kind = "grid"
    if "regimen" in given:
        kind = "regimen"
    elif given & {"visit_every", "at_or_above"}:
        kind = "rule"
    allowed = {"regimen": ("regimen",), "grid": _GRID, "rule": _RULE}[kind]
    with at("schedule"):
        for name in sorted(given - set(allowed)):
            raise ValueError(f"{name} does not belong to a schedule with {', '.join(allowed)}")
        for name in _NEEDED.get(kind, ()):
            if name not in given:
                raise ValueError(f"{name} is wanted, in [schedule] or as a factor")
        for factor in factors:
            if kind == "rule" and factor.role == "schedule" and factor.levels is None:
                raise ValueError(f"{factor.name} of a rule is not sampled: give values, or levels")
    return kind


def _check_routes(spec, models, factors, at):
    """Raise ValueError if a dose cannot be read, or a model cannot be dosed like that."""
    own = any(factor.role == "schedule" and factor.levels is None for factor in factors)
    parts = [(("schedule", k), k, v) for k, v in spec["schedule"].items() if v is not None]
    for factor in factors:
        values = (factor.template,) if factor.template else factor.levels or ()
        if factor.role == "schedule":
            parts += [(("factors", factor.name), factor.name, value) for value in values]
    for keys, name, value in parts:
        with at(*keys):
            for dose, model in itertools.product(doses_in(name, value), models):
                if own and (dose.duration or dose.modelled):
                    raise ValueError(
                        f"{dose} is an infusion, and these are not combined with a sampled dose or "
                        "interval: give values, or levels, of that"
                    )
                if dose.route not in model.routes():
                    raise ValueError(
                        f'model {model.name} cannot be dosed by route "{dose.route}"; it can by '
                        f"{', '.join(model.routes())}"
                    )


def _check_sampling(spec, factors, at):
    if spec["sampling"] == "factorial":
        if spec["points"] is not None:
            with at("points"):
                raise ValueError("a full factorial has its own number of points; leave it out")
        return
    with at("sampling"):
        if spec["points"] is None:
            raise ValueError(f'sampling = "{spec["sampling"]}" needs points = how many')
        if not factors:
            raise ValueError("there is no factor to sample")
    if spec["sampling"] in OF_SENSITIVITY:
        _check_sensitivity(spec, factors, at)
    with at("points"):
        most = 2**30 if spec["sampling"] == "sobol" else _MOST_LHS
        if spec["points"] > most:
            other = '; sampling = "sobol" takes more' if most == _MOST_LHS else ""
            raise ValueError(f"at most {most:,} points are sampled{other}")


def _check_sensitivity(spec, factors, at):
    with at("points"):
        n = spec["points"]
        if spec["sampling"] == "saltelli" and n & (n - 1):
            raise ValueError(f"points = {n}: base points of a saltelli design are a power of 2")
    for factor in factors if spec["sampling"] == "morris" else ():
        if factor.distribution in ("normal", "lognormal"):
            with at("factors", factor.name):
                raise ValueError(
                    f"a {factor.distribution} factor has no ends, which a morris design visits: "
                    "give low and high"
                )


def _check_window(spec, factors, at):
    for key in ("until", "induction", "follow_up"):
        with at(key):
            spec[key] = days(spec[key], key)
            if spec[key] < 0 or (key == "until" and not spec[key]):
                raise ValueError(f"{key} = {spec[key]:g} d is too short")
    names = {factor.name for factor in factors}
    if "until" in names and spec["trajectories"] is not None:
        with at("factors", "until"):
            raise ValueError("trajectories have one horizon: until cannot be a factor")
    if not names & {"until", "induction"} and spec["induction"] >= spec["until"]:
        with at("induction"):
            raise ValueError(
                f"the window opens at {spec['induction']:g} d, not before until = "
                f"{spec['until']:g} d"
            )


def _check_names(spec, models, at):
    known = {
        m.name for m in METRICS.values()
        if any(m.output in model.structure.outputs for model in models)
    }  # fmt: skip
    for name in spec["metrics"] or ():
        with at("metrics"):
            if name not in known:
                raise ValueError(unknown("metric", name, known))
    for name in spec["outputs"] or ():
        with at("outputs"):
            if spec["trajectories"] is None:
                raise ValueError('outputs belong to trajectories: give trajectories = "1 w"')
            for model in models:
                model.require_output(name)


def _times(spec, factors, at):
    if spec["trajectories"] is None:
        return np.empty(0)
    with at("trajectories"):
        return output_times(spec["until"], spec["trajectories"], None)[0]


def _chunk_size(spec, numbers, at):
    """Return the scenarios of a chunk; `numbers` are those of one scenario's trajectories."""
    if spec["chunk"] is not None:
        if spec["memory"] is not None:
            with at("memory"):
                raise ValueError("give chunk or memory, not both")
        return spec["chunk"]
    if spec["memory"] is None:
        return min(_CHUNK, max(1, _NUMBERS // numbers)) if numbers else _CHUNK
    with at("memory"):
        found, unit = split_quantity(spec["memory"], "500 MB")
        if unit not in ("MB", "GB") or found <= 0:
            raise ValueError(f'"{spec["memory"]}": memory of one chunk is wanted, as in "500 MB"')
        return max(1, int(found * (1e9 if unit == "GB" else 1e6) / (_BYTES + 24 * numbers)))


def _population_size(spec, models, at):
    people = spec["population"]
    with at("population"):
        if people["patients"] is None:
            if people["n"] is None and people["covariates"] == "study":
                raise ValueError('covariates = "study" are sampled: give n')
            return people["n"] or 1
        if people["n"] is not None or people["covariates"] != "reference":
            raise ValueError("patients have a number and covariates of their own")
        return len(patients(people["patients"], models[0]))


def _digests(spec, models):
    """Return the hash of every file that is not of the package."""
    named = [path for path in [*spec["model"], spec["population"]["patients"]] if path]
    files = [path for path in named if Path(path).is_file()]
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in files}


def _check_factors(design, at):
    """Raise ValueError where the first subject cannot have a value of a factor."""
    first = np.zeros(1, dtype=np.int64)
    for model in design.models:
        with at("population"):
            sample(design, model, first)
        known = known_factors([model])
        for factor in design.factors:
            with at("factors", factor.name):
                if factor.name not in known:
                    raise ValueError(f"model {model.name} has no {factor.role} {factor.name}")
                if factor.role == "covariate":
                    _check_given_once(design, model, factor)
                    _check_covariate(model, factor)
                elif factor.role == "parameter":
                    _check_parameter(model, factor)


def _check_given_once(design, model, factor):
    people = design.spec["population"]
    table = people["patients"]
    if isinstance(people["covariates"], dict) and factor.name in people["covariates"]:
        raise ValueError(f"{factor.name} is given twice: in [population] covariates as well")
    if table is not None and factor.name in patients(table, model):
        raise ValueError(f"{factor.name} is given twice: it is a column of {table} as well")


def _ends(factor):
    return factor.levels or list(factor.at(np.array([0.001, 0.999])))


def _check_covariate(model, factor):
    if factor.name not in {**model.covariates, **BODY_SIZE}:
        raise ValueError(unknown("covariate", factor.name, {**model.covariates, **BODY_SIZE}))
    if model.covariates.get(factor.name) and model.covariates[factor.name].follows:
        raise ValueError(f"{factor.name} follows {model.covariates[factor.name].follows}")
    for value in _ends(factor):
        typical_subject(model, {factor.name: float(value)})


def _check_parameter(model, factor):
    typical = typical_value(model, factor.name)
    if not typical > 0:
        raise ValueError(f"model {model.name} has {factor.name} = {typical:g}, not above 0")
    for value in _ends(factor) if model.is_logit(factor.name) else ():
        target = value * typical if factor.how == "multiply" else value
        if not 0 < target < 1:
            raise ValueError(f"{factor.name} = {target:g}: a number between 0 and 1 is wanted")
