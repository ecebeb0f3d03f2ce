"""A regimen as the engine's events: what is given to whom, where, when and how fast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bcellsim.arrival import arrival, changes_of, lags
from bcellsim.covariates import PER, amounts
from bcellsim.engine import Events
from bcellsim.engine import events as ev
from bcellsim.event import Event
from bcellsim.model import Model
from bcellsim.names import unknown
from bcellsim.population import Population
from bcellsim.regimen import Regimen

_CODES = {"rate": -1, "duration": -2}


def compile_events(
    model: Model,
    regimen: Regimen,
    population: Population,
    until: float,
    *,
    horizon: float | None = None,
) -> Events:
    """Turn a regimen into the engine's events, per subject where body sizes or lags differ.

    Doses at or after `until` are not given; of those given, some may arrive after `horizon`, the
    end of the integration (by default `until`), and are left out.

    Raises
    ------
    ValueError
        If the drug, a route, a state or a parameter is not one of the model, or a covariate that a
        dose needs is missing.
    """
    if regimen.drug and regimen.drug != model.drug.name:
        raise ValueError(
            f"regimen {regimen.name} is for {regimen.drug}; model {model.name} is for "
            f"{model.drug.name}"
        )
    expanded = regimen.expand(until)
    for event in expanded:
        check_event(model, event, population)
    doses = [event for event in expanded if event.kind == "dose"]
    own = {unit: population.covariates[PER[unit]] for unit in {e.unit for e in doses} & set(PER)}
    own |= lags(population, doses)
    own |= _parameters_of_infusions(model, expanded, population)
    subjects, schedule = [{}], np.zeros(len(population), dtype=np.int64)
    if own:
        columns = np.column_stack(list(own.values()))
        table, schedule = np.unique(columns, axis=0, return_inverse=True)
        subjects = [dict(zip(own, row, strict=True)) for row in table.tolist()]
    end = until if horizon is None else horizon
    changes = _occasion_rows(population, end)
    events = Events.from_rows(
        [changes + _rows(model, expanded, values, end) for values in subjects],
        schedule.reshape(-1),
    )
    # The model's clock counts from the first dose, also where that arrives with a lag.
    first = min((dose.time for dose in doses), default=np.inf)
    return replace(events, clock=np.full(len(subjects), first))


def _occasion_rows(population, until):
    """Return the changes of occasion; at a dose they come first, so that it belongs to the new."""
    begins = enumerate(population.occasions[1:], start=1)
    return [(day, ev.OCCASION, k, 0.0, -1) for k, day in begins if day <= until]


def _parameters_of_infusions(model, expanded, population):
    """Return parameters of each subject that decide how long infusions last, by name.

    The bioavailability, where the rate is given; rate or duration, where the model has it. Those of
    the first occasion: a dose record decides, not what changes later.
    """
    structure, names = model.structure, set()
    for event in expanded:
        if event.kind == "dose":
            route = structure.routes[event.route]
            names |= {getattr(route, event.modelled)} if event.modelled else set()
            if event.modelled == "rate" or (event.fixed_rate and event.duration):
                names |= {route.bioavailability} - {None}
    for event in expanded:
        if event.kind == "modify" and event.target in names:
            raise ValueError(
                f"how long an infusion lasts depends on {event.target}, which {event} changes: "
                "give its duration"
            )
    first = population.parameters.reshape(len(population), -1)[:, : len(structure.parameters)]
    return {name: first[:, structure.parameters.index(name)] for name in names}


def _infusion(event, route, amount, own):
    """Return rate, duration and whether the engine is to scale the rate by the bioavailability."""
    share = own.get(route.bioavailability, 1.0)
    if event.modelled == "rate":
        return own[route.rate], amount * share / own[route.rate], False
    duration = own[route.duration] if event.modelled == "duration" else event.duration
    if route.bioavailability not in own:
        return amount / duration, duration, True
    if event.fixed_rate:
        return amount / duration, duration * share, False
    return share * amount / duration, duration, False


def check_event(model: Model, event: Event, population: Population) -> None:
    """Raise ValueError if an event cannot be of this model and these subjects."""
    structure = model.structure
    if event.kind == "multiply" and event.target not in structure.states:
        raise ValueError(f"model {model.name}: {unknown('state', event.target, structure.states)}")
    if event.kind == "modify" and event.target not in structure.parameters:
        raise ValueError(
            f"model {model.name}: {unknown('parameter', event.target, structure.parameters)}"
        )
    if event.kind == "steady":
        raise ValueError(f"{event} is no single event; `bcellsim.timeline` writes it out as doses")
    if event.kind != "dose":
        return
    if event.route not in model.routes():
        raise ValueError(
            f'model {model.name} cannot be dosed by route "{event.route}"; it can by '
            f"{', '.join(model.routes())}"
        )
    if event.modelled and not getattr(structure.routes[event.route], event.modelled):
        where = f"line {event.line} of the data: " if event.line else ""
        raise ValueError(
            f"{where}model {model.name} defines no {event.modelled} of infusion for compartment "
            f"{structure.routes[event.route].state} (RATE {_CODES[event.modelled]}); give a "
            "rate or duration"
        )
    for covariate in model.covariates.values():
        if covariate.route == event.route and np.any(population.covariates[covariate.name] != 1):
            raise ValueError(
                f"model {model.name} has its own parameters for {event.route} dosing: give "
                f"covariate {covariate.name} = 1 to every subject dosed {event.route}"
            )
        if covariate.route not in (None, event.route) and np.any(
            population.covariates[covariate.name] == 1
        ):
            raise ValueError(
                f"model {model.name}: a subject with {covariate.name} = 1 is dosed "
                f"{covariate.route}, not {event.route}; its parameters do not cross routes"
            )
    amounts([event], population.covariates, len(population))


def _rows(model, expanded, own, end):
    """Return the engine's rows (time, kind, index, value, scale) of expanded events."""
    structure = model.structure
    rows, infusions, changes = [], {}, changes_of(structure, expanded)
    for event in expanded:
        if event.kind == "dose":
            route = structure.routes[event.route]
            state = structure.states.index(route.state)
            scale = -1
            if route.bioavailability:
                scale = structure.parameters.index(route.bioavailability)
            time, factor = arrival(structure, event, own, changes)
            amount = factor * _amount(event, own)
            if event.duration or event.modelled:
                rate, length, scaled = _infusion(event, route, amount, own)
                scale = scale if scaled else -1
                span = (time, time + length, rate)
                infusions.setdefault((state, scale), []).append(span)
            elif time <= end:
                rows.append((time, ev.DOSE, state, amount, scale))
        elif event.kind == "multiply":
            state = structure.states.index(event.target)
            rows.append((event.time, ev.MULTIPLY, state, event.factor, -1))
        elif event.kind == "reset":
            # It ends the infusions given before it, and cancels what has not arrived.
            rows = [row for row in rows if row[0] <= event.time]
            rows.append((event.time, ev.RESET, 0, 0.0, -1))
            for key, spans in infusions.items():
                infusions[key] = [(a, min(b, event.time), rate) for a, b, rate in spans]
    for (state, scale), spans in infusions.items():
        rows += [(t, ev.RATE, state, sum(on), scale) for t, on in _active(spans)]
    for index, spans in changes.items():
        rows += [(t, ev.FACTOR, index, float(np.prod(on)), -1) for t, on in _active(spans)]
    return rows


def _amount(event, own):
    """Return the dose [mg], per body size and capped where the event says so."""
    amount = event.amount * own.get(event.unit, 1.0)
    return amount if event.cap is None else min(amount, event.cap)


def _active(spans):
    """Yield each time at which something begins or ends, and the values in force from then on."""
    spans = [span for span in spans if span[0] < span[1]]
    for time in sorted({t for start, end, _ in spans for t in (start, end)}):
        yield time, [value for start, end, value in spans if start <= time < end]
