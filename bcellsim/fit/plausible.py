"""Estimates at the edge of reason: a minimum may lie where no patient can."""

from __future__ import annotations

import numpy as np

from bcellsim.fit.coordinates import WIDEST
from bcellsim.fit.curvature import Curvature
from bcellsim.fit.problem import Problem
from bcellsim.fit.tables import labels_of
from bcellsim.structures import PARAMETERS

#: One in 16,000 of a normal population lies farther than this many SD from its middle.
FAR = 4.0
#: A parameter whose variability the model does not give is implausible this many times off: wider
#: than 4 SD of all but the widest SD in the library (2.16, of the logarithm).
MANY_FOLD = 100.0


def at_edge(problem: Problem, about: Curvature) -> list[str]:
    """Return the searched parameters that ran to the edge of the search, no bound of the user's."""
    coordinates = problem.coordinates
    low, _ = coordinates.bounds()
    found = []
    for name, key in coordinates.searched.items():
        column = coordinates.variables.index(key)
        if about.at_bound[column]:
            side = "min" if about.point[column] - low[column] < 1.0 else "max"
            found += [name] if (key, side) in coordinates.assumed else []
    return found


def implausible(problem: Problem, about: Curvature) -> dict[str, str]:
    """Return the searched parameters whose estimate is implausible, with how far off it is.

    Far from what the covariates predict: more than `FAR` SD of the model's population, or, where
    the model gives no variability, more than `MANY_FOLD` of it either way.
    """
    names = [name for name in problem.coordinates.searched if name in problem.model.parameters]
    sd, found = problem.model.random_effects.sd(), {}
    if not names:
        return found
    value = problem.natural(about.point[None], names)[0]
    usual = problem.predicted(names)[0]
    for name, here, typical in zip(names, value, usual, strict=True):
        shift = _moved(problem, name, here, typical)
        if name in sd and abs(shift) > FAR * sd[name]:
            found[name] = f"{abs(shift) / sd[name]:.2g} SD of the model's population"
        elif name not in sd and abs(shift) > np.log(MANY_FOLD):
            found[name] = f"{np.exp(abs(shift)):.2g} times"
    return found


def _moved(problem, name, here, typical):
    """Return how far a value lies from the typical one, on the scale of its distribution."""
    if problem.model.is_logit(name):
        here, typical = here / (1.0 - here), typical / (1.0 - typical)
    return float(np.log(here / typical))


def warnings_of(problem: Problem, about: Curvature) -> list[str]:
    """Return a sentence for each estimate at a bound, at the edge, or far from any patient."""
    edge = at_edge(problem, about)
    bound = [name for name, on in zip(labels_of(problem), about.at_bound, strict=True)
             if on and name not in edge]  # fmt: skip
    found = []
    if bound:
        found.append(f"{', '.join(bound)} ended at a bound: its standard error is missing")
    for name in edge:
        found.append(
            f"{_shown(problem, about, name)} is where the search ends without bounds, "
            f"{WIDEST:g} times from its start, and no estimate: fix {name}, bound it, or use the "
            "prior"
        )
    for name, far in implausible(problem, about).items():
        if name not in edge:
            usual = problem.predicted([name])[0, 0]
            found.append(
                f"{_shown(problem, about, name)} lies {far} from the {usual:.3g} of a typical "
                "subject: an implausible value, however well it fits"
            )
    return found


def _shown(problem, about, name):
    value = problem.natural(about.point[None], [name])[0, 0]
    return f"{name} = {value:.3g} {PARAMETERS[name].unit}".rstrip()
