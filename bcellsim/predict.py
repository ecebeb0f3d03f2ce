"""From a table of doses and observations to the predictions of its rows, one subject at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bcellsim.engine import Events, solve
from bcellsim.library import load_model
from bcellsim.model import Model
from bcellsim.observations import one_subject, read_observations, regimen_of, scaled_rows
from bcellsim.pieces import Pieces, pieces_of
from bcellsim.regimen import Regimen
from bcellsim.schedule import compile_events
from bcellsim.timeline import timeline

if TYPE_CHECKING:
    import pandas as pd


_KEPT = ("ID", "TIME", "DATE", "CLOCK", "EVID", "DVID", "DV", "UNIT", "LINE")


class Course(NamedTuple):
    """One subject's doses, covariates and rows, ready for the engine.

    Parameters
    ----------
    model : Model
        The model.
    subject : str
        The subject.
    rows : DataFrame
        Rows to predict, with SCALE.
    regimen : Regimen
        What the table says was given, on its clock.
    given : Regimen
        The same on the engine's clock, steady states written out as doses.
    pieces : Pieces
        Covariates in each piece of time, those of the table and those given.
    events : Events
        Schedule of the engine, with an `OCCASION` at the beginning of each further piece.
    times : float array (n_times,)
        Distinct times to predict at, on the engine's clock.
    at, which : int array (n_rows,)
        Position of each row among `times`, and of its output.
    cycles : tuple of int
        Doses by which each steady state was reached.
    """

    model: Model
    subject: str
    rows: pd.DataFrame
    regimen: Regimen
    given: Regimen
    pieces: Pieces
    events: Events
    times: np.ndarray
    at: np.ndarray
    which: np.ndarray
    cycles: tuple[int, ...]

    def parameters(self, eta: np.ndarray) -> np.ndarray:
        """Return individual parameters of random effects (n, n_effects), by piece of time.

        Shape (n, n_pieces, n_parameters).
        """
        names = self.model.random_effects.names
        return self.pieces.individual(dict(zip(names, eta.T, strict=True)), len(eta))

    def at_rows(self, outputs: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """Return predictions of the rows in their units, shape (n, n_rows).

        Parameters
        ----------
        outputs : float array (n, n_times, n_outputs)
            Outputs of the engine.
        parameters : float array (n, n_pieces, n_parameters)
            Parameters they were made with.
        """
        scale = self.rows["SCALE"].to_numpy(float)
        if np.isnan(scale).any():
            baseline = np.array([baseline_count(self.model.structure, p[0]) for p in parameters])
            scale = np.where(np.isnan(scale), 100.0 / baseline[:, None], scale)
        return outputs[:, self.at, self.which] * scale

    def event_list(self) -> pd.DataFrame:
        """Return what is done to the subject, a row an event, in the order in which it is done.

        `time` is on the clock of the engine (steady states are written out as doses), `f` and `lag`
        are those of the typical subject, `fixed` says what of an infusion a bioavailability leaves
        as it is, and `line` is that of the data file; `attrs["sha256"]` is a digest of the list.
        """
        import hashlib

        import pandas as pd

        names, effects = self.model.structure.parameters, self.model.random_effects.names
        typical = self.parameters(np.zeros((1, len(effects))))[0, 0]
        values = dict(zip(names, typical, strict=True))
        rows = [_listed(self.model, event, values) for event in self.given.expand()]
        table = pd.DataFrame(rows)
        table.insert(0, "id", self.subject)
        text = table.to_csv(index=False, float_format="%.17g")
        table.attrs["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        return table


def _listed(model, event, parameters):
    """Return the row of an event in the list: what is given where, how fast, by which factors."""
    route = model.structure.routes.get(event.route)
    rate = event.amount / event.duration if event.duration else math.nan
    return {
        "time": event.time,
        "kind": event.kind,
        "cmt": route.state if route else event.target,
        "amount": event.amount if route else math.nan,
        "unit": event.unit if route else None,
        "rate": rate,
        "duration": event.duration,
        "f": parameters.get(route.bioavailability, 1.0) if route else math.nan,
        "lag": parameters.get(route.lag, 0.0) if route else math.nan,
        "fixed": ("rate" if event.fixed_rate else "duration") if event.duration else None,
        "line": event.line,
    }


def baseline_count(structure, parameters: np.ndarray) -> float:
    """Return the count without drug."""
    y, out = [0.0] * len(structure.states), [0.0] * len(structure.outputs)
    structure.initial(parameters.tolist(), y)
    structure.observe(0.0, y, parameters.tolist(), out)
    return out[structure.outputs.index("bcell")]


def course_of(
    model: Model, table: pd.DataFrame, *, covariates: Mapping[str, float] | None = None
) -> Course:
    """Return the doses, covariates and rows of one subject, ready for the engine.

    Parameters
    ----------
    model : Model
        The model.
    table : DataFrame
        Rows of `read_observations`, of one subject.
    covariates : mapping of str to float, optional
        Covariates that the table does not have.

    Raises
    ------
    ValueError
        If there is no dose, an output or covariate the model does not know, or none it needs.
    """
    rows = scaled_rows(table)
    for output in rows["DVID"].unique():
        model.require_output(output)
    pieces = pieces_of(model, table, covariates)
    regimen = pieces.in_mg(regimen_of(table, default_route=default_route(model)))
    people = pieces.typical()
    last = float(rows["CLOCK"].max()) if len(rows) else regimen.first_dose
    line = timeline(model, regimen, people, last)
    people = replace(people, occasions=tuple(line.days(people.occasions).tolist()))
    clock = line.days(rows["CLOCK"].to_numpy(float))
    times, at = np.unique(clock, return_inverse=True)
    events = compile_events(model, line.regimen, people, float(line.days(last)))
    which = [model.structure.outputs.index(output) for output in rows["DVID"]]
    return Course(
        model, table["ID"].iloc[0], rows, regimen, line.regimen, pieces, events, times, at,
        np.array(which, dtype=np.int64), line.cycles,
    )  # fmt: skip


def default_route(model: Model) -> str:
    """Return the route of doses of which the data do not say one."""
    routes = [route for route in model.drug.routes if route in model.routes()]
    return (routes or model.routes())[0]


def event_list(
    model: Model | str, observations, *, covariates: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Return what a data file says is done to its subjects, as `Course.event_list`, one by one.

    Parameters
    ----------
    model : Model or str
        The model, its name, or the path of a model file.
    observations : DataFrame or path
        Doses and observations, from `read_observations`.
    covariates : mapping of str to float, optional
        Covariates that the data do not have.

    Raises
    ------
    ValueError
        If data and model do not fit together.
    """
    import pandas as pd

    model = load_model(model)
    table = _table(model, observations)
    lists = [
        course_of(model, one_subject(table, name), covariates=covariates).event_list()
        for name in dict.fromkeys(table["ID"])
    ]
    result = pd.concat(lists, ignore_index=True)
    result.attrs["sha256"] = [part.attrs["sha256"] for part in lists]
    return result


def _table(model, observations):
    if hasattr(observations, "columns"):
        return observations
    return read_observations(observations, model=model)


def predict(
    model: Model | str,
    observations,
    *,
    subject: str | None = None,
    eta: np.ndarray | None = None,
    covariates: Mapping[str, float] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> pd.DataFrame:
    """Predict the observations of a data file: every row of EVID 0 or 2.

    Parameters
    ----------
    model : Model or str
        The model, its name, or the path of a model file.
    observations : DataFrame or path
        Doses and observations, from `read_observations`.
    subject : str, optional
        The subject to predict; by default all, one after the other.
    eta : float array (n_random_effects,), optional
        Random effects; by default 0, the typical subject with these covariates.
    covariates : mapping of str to float, optional
        Covariates that the data do not have.
    rtol, atol : float, optional
        As for `bcellsim.engine.solve`.

    Returns
    -------
    DataFrame
        ID, TIME, DATE (where the data have dates), CLOCK, EVID, DVID, DV, UNIT, LINE and PRED, in
        the unit of DV; `attrs` holds
        `cycles`, how many doses the steady states of each subject took, and `covariate_rule`.

    Raises
    ------
    ValueError
        If data and model do not fit together.
    """
    import pandas as pd

    model = load_model(model)
    table = _table(model, observations)
    subjects = dict.fromkeys(table["ID"]) if subject is None else [subject]
    parts, cycles = [], {}
    for name in subjects:
        course = course_of(model, one_subject(table, name), covariates=covariates)
        one = np.zeros((1, len(model.random_effects.names))) if eta is None else np.atleast_2d(eta)
        parameters = course.parameters(one)
        columns = course.rows[[name for name in _KEPT if name in course.rows]]
        values = np.empty((1, 0))
        if len(columns):
            solution = solve(model.structure, parameters, course.events, course.times,
                             rtol=rtol, atol=atol)  # fmt: skip
            values = course.at_rows(solution.values, parameters)
        parts.append(columns.assign(PRED=values[0]))
        cycles[name] = course.cycles
    result = pd.concat(parts, ignore_index=True)
    result.attrs.update(cycles=cycles, covariate_rule=table.attrs.get("covariate_rule", "locf"))
    return result
