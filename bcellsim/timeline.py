"""Steady states as doses: every regimen on one axis of plain events, for the engine.

A steady state at day T becomes a reset and as many doses before it as it takes. These days are put
in at T: what comes later is moved by their length, which no model without a clock of its own can
tell. A steady state that is superposed (SS = 2) is also preceded by all that was given since the
last reset, once more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bcellsim.engine import events as ev
from bcellsim.engine import solve
from bcellsim.model import Model
from bcellsim.population import Population
from bcellsim.regimen import Event, Regimen
from bcellsim.schedule import compile_events

#: A steady state is reached when every state, at the end of a cycle, is within this of its limit,
#: relative to itself, as estimated from the last changes.
TOLERANCE = 1e-6
#: Cycles tried in turn; the solver of these is much more exact than the tolerance.
_CYCLES, _SOLVER = (8, 32, 128, 512, 2048), {"rtol": 1e-9, "atol": 1e-11}
# A state below this share of its largest value is as good as empty.
_EMPTY = 1e-12
#: A constant infusion has no cycle: its states are compared this often [day].
_INFUSED = 7.0


class Timeline(NamedTuple):
    """A regimen without steady states, and how its days follow from those of the data.

    Parameters
    ----------
    regimen : Regimen
        Doses, resets and co-therapies.
    moved : tuple of (float, float)
        For each steady state its day, and by how much what comes after it is later [day].
    cycles : tuple of int
        Number of doses by which each steady state was reached.
    """

    regimen: Regimen
    moved: tuple[tuple[float, float], ...] = ()
    cycles: tuple[int, ...] = ()

    def days(self, times) -> np.ndarray:
        """Return days of this timeline of days of the data."""
        times = np.asarray(times, dtype=np.float64)
        return times + sum((by * (times > day) for day, by in self.moved), np.zeros(times.shape))


def timeline(model: Model, regimen: Regimen, people: Population, until: float) -> Timeline:
    """Return a regimen with its steady states written out as doses.

    Parameters
    ----------
    model : Model
        The model to be dosed.
    regimen : Regimen
        Events up to the day `until`; later ones are left out.
    people : Population
        Subjects for all of which a steady state is to be reached; their occasions are on its clock.
    until : float
        End of the simulation [day].

    Raises
    ------
    ValueError
        If the model has no steady state, or what is superposed does not add up, by name.
    """
    expanded = regimen.expand(until)
    if not any(event.kind == "steady" for event in expanded):
        return Timeline(regimen)
    _require_steady(model, expanded, people)
    out, since, moved, cycles = [], 0, [], []
    for event in expanded:
        now = event.time + sum(by for _, by in moved)
        if event.kind != "steady":
            out.append(replace(event, time=now))
            since = len(out) if event.kind == "reset" else since
            continue
        n = _cycles_needed(model, event, _on(people, event.time))
        before = out[since:] if event.superposed else []
        length = max([n * (event.every or _INFUSED), *(now - e.time for e in before)])
        out.append(Event("reset", now, line=event.line))
        since = len(out)
        again = [replace(e, time=e.time + length) for e in before]
        out += sorted([*again, *_train(event, now + length, n)], key=lambda e: e.time)
        moved.append((event.time, length))
        cycles.append(n)
    return Timeline(replace(regimen, events=tuple(out)), tuple(moved), tuple(cycles))


def _on(people, day):
    """Return the subjects with the parameters of one day for all time."""
    if people.parameters.ndim == 2:
        return people
    k = int(np.searchsorted(people.occasions[1:], day, side="right"))
    return replace(people, parameters=people.parameters[:, k], occasions=(0.0,), kappa=None)


def _train(event, end, n):
    """Return the doses of `n` cycles that end on a day."""
    dose = replace(event, kind="dose", count=1, every=None, superposed=False)
    if event.every is None:
        length = n * _INFUSED
        return [replace(dose, time=end - length, amount=event.amount * length, duration=length)]
    return [replace(dose, time=end - k * event.every) for k in range(n, 0, -1)]


def _cycles_needed(model, event, people):
    """Return after how many cycles every state of every subject is within `TOLERANCE`."""
    cycle = event.every or _INFUSED
    for n in _CYCLES:
        end = n * cycle
        given = Regimen(tuple(_train(event, end, n)))
        saves = [(k * cycle, ev.SAVE, k, 0.0, -1) for k in range(n + 1)]
        events = compile_events(model, given, people, end).preceded(saves)
        found = solve(model.structure, people.parameters, events, [end], **_SOLVER)
        reached = _reached(np.abs(found.saved), found.saved)
        if reached is not None:
            return reached
    raise ValueError(
        f"model {model.name}: no {event} in {_CYCLES[-1]} cycles (every state within "
        f"{TOLERANCE:g} of its limit); write the doses out"
    )


def _reached(size, states):
    """Return the first cycle from which on what is left to change is below the tolerance."""
    scale = np.maximum(size[:, 1:], _EMPTY * size.max(axis=1, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.nan_to_num(np.abs(np.diff(states, axis=1)) / scale)
        change = change.max(axis=(0, 2))  # of each cycle, the largest
        ratio = np.clip(change[1:] / change[:-1], 0.0, 1.0 - 1e-12)
        left = np.nan_to_num(change[1:] * ratio / (1.0 - ratio))
    good = (left[:-1] <= TOLERANCE) & (left[1:] <= TOLERANCE)
    return int(np.argmax(good)) + 3 if good.any() else None


def _require_steady(model, expanded, people):
    structure = model.structure
    one = people.parameters[0].ravel()[: len(structure.parameters)]
    if _keeps_time(structure, one):
        raise ValueError(
            f"model {model.name} changes with the time since the first dose: it has no steady "
            "state; write the doses out"
        )
    if any(event.kind in ("modify", "multiply") for event in expanded):
        raise ValueError("a steady state cannot be combined with a co-therapy; write the doses out")
    for event in (event for event in expanded if event.kind == "steady"):
        if event.superposed and not _is_linear(structure, one):
            raise ValueError(
                f"model {model.name} has nonlinear kinetics: SS = 2 adds up only where they are "
                "linear; write the doses out"
            )
        scale = structure.routes[event.route].bioavailability if event.every is None else None
        if scale:
            raise ValueError(
                f'a constant infusion by route "{event.route}" is not supported: {scale} has no '
                "meaning there; write iv in CMT"
            )


def _is_linear(structure, parameters):
    """Return whether the drug of a structure with these parameters is linear."""
    named = dict(zip(structure.parameters, parameters, strict=True))
    return all(structure.states[i] in structure.linear for i in structure.drug_states()) and all(
        named[name] == value for name, value in structure.linear_when.items()
    )


def _keeps_time(structure, parameters):
    """Return whether a structure with these parameters changes with the time since first dose."""
    p, n = parameters.tolist(), len(structure.states)
    y, slopes = [0.0] * n, []
    structure.initial(p, y)
    for i in structure.drug_states():
        y[i] += 1.0
    for day in (0.0, 1.0, 1000.0):
        dy = [0.0] * n
        structure.rhs(day, y, p, [0.0] * n, dy)
        slopes.append(dy)
    return slopes[0] != slopes[1] or slopes[0] != slopes[2]
