"""When a dose with a lag arrives, and with which bioavailability: those in force when it is given.

The engine scales a dose when it arrives. So what a regimen does to the bioavailability between the
dose and its arrival is put into the amount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from bcellsim.event import Event
from bcellsim.population import Population
from bcellsim.structures import Structure

#: Spans (start, end, factor) in which parameters are modified, by position of the parameter.
Changes = Mapping[int, Sequence[tuple[float, float, float]]]


def lags(population: Population, doses: Sequence[Event]) -> dict[str, np.ndarray]:
    """Return the lags of each subject that are not 0 for all, by parameter.

    Raises
    ------
    ValueError
        If a lag varies by occasion.
    """
    structure, found = population.model.structure, {}
    for name in {structure.routes[dose.route].lag for dose in doses} - {None}:
        values = population.parameters[..., structure.parameters.index(name)]
        # A subject whose lag is not a number is not solved; that is for the engine to say.
        values = np.nan_to_num(values.reshape(len(population), -1), posinf=0.0)
        if np.any(values != values[:, :1]):
            raise ValueError(f"{name} varies by occasion; a lag must be one per subject")
        if values.any():
            found[name] = values[:, 0]
    return found


def changes_of(structure: Structure, events: Sequence[Event]) -> dict[int, list]:
    """Return the spans in which events of kind ``"modify"`` change each parameter."""
    changes = {}
    for event in events:
        if event.kind == "modify":
            span = (event.time, event.time + event.duration, event.factor)
            changes.setdefault(structure.parameters.index(event.target), []).append(span)
    return changes


def arrival(
    structure: Structure, dose: Event, own: Mapping[str, float], changes: Changes
) -> tuple[float, float]:
    """Return the day on which a dose arrives, and the factor on its amount.

    Parameters
    ----------
    structure : Structure
    dose : Event
    own : mapping of str to float
        Lags of the subject [day], by parameter; 0 where there is none.
    changes : mapping
        From `changes_of`.

    Raises
    ------
    ValueError
        If the bioavailability is multiplied by 0 when the dose arrives, but not when it is given.
    """
    route = structure.routes[dose.route]
    if not own.get(route.lag):
        return dose.time, 1.0
    lag = own[route.lag] * _in_force(structure, route.lag, changes, dose.time)
    given, then = (
        _in_force(structure, route.bioavailability, changes, time)
        for time in (dose.time, dose.time + lag)
    )
    if given and not then:
        raise ValueError(
            f"the dose of day {dose.time:g} arrives on day {dose.time + lag:g}, when "
            f"{route.bioavailability} is multiplied by 0; let that begin later or end sooner"
        )
    return dose.time + lag, given / then if then else 1.0


def _in_force(structure, name, changes, time):
    """Return the factor on a parameter at doses of that time, which come before its changes."""
    spans = changes.get(structure.parameters.index(name), ()) if name else ()
    return prod(factor for start, end, factor in spans if start < time <= end)
