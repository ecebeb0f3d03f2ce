"""The coordinates a search moves in, and the parameters they stand for.

A parameter that is searched has the coordinate ``log_<name>`` (``logit_<name>`` where it varies on
the logit scale); others are held, or tied to them by an expression of lmfit in natural units.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import expit, logit

from bcellsim.model import Model
from bcellsim.names import unknown
from bcellsim.structures import PARAMETERS
from bcellsim.units import quantity

#: Least squares without prior keeps a parameter within this factor of where it starts.
WIDEST = 1e4
_SETTINGS = ("value", "min", "max", "vary", "expr")
# Change of a natural parameter's coordinate for its derivative.
_CHANGE = 1e-5


class Coordinates:
    """The lmfit parameters of a search, and from their values the model's parameters.

    Parameters
    ----------
    model : Model
        The model.
    names : list of str
        The parameters that are searched, held at a value, or tied.
    start : mapping of str to float
        Where each searched parameter begins, natural units.
    settings : mapping of str to mapping
        By name, what is said of it: ``value min max vary expr``; names that are no parameters of
        the model are auxiliary parameters of expressions.
    errors : mapping of str to ErrorModel
        Those of the endpoints; what is estimated of them is searched too.
    bounded : bool
        Whether parameters without bounds stay within `WIDEST` of their start.
    kappas : sequence of str
        Names of the deviations of occasions, which are searched as they are.
    """

    def __init__(self, model: Model, names, start, settings, errors, *, bounded, kappas=()):
        import lmfit

        self.model, self.names = model, tuple(names)
        self.logit = np.array([model.is_logit(name) for name in names])
        self.held, self.tied, self.searched = {}, {}, {}
        #: Sides (coordinate, "min" or "max") bounded by `WIDEST`, of which nothing was said.
        self.assumed, self.bounded_by_user = set(), False
        self.template = lmfit.Parameters()
        auxiliary = [name for name in settings if name not in names]
        for name in auxiliary:
            self._add(name, settings[name])
        for name in names:
            said = settings.get(name, {})
            if said.get("expr"):
                self.tied[name] = said["expr"]
            elif said.get("vary", True):
                self.searched[name] = self._add_scaled(name, start[name], said, bounded)
            else:
                self.held[name] = start[name]
        self.spreads = [(o, p) for o, e in errors.items() for p in e.estimated]
        for output, parameter in self.spreads:
            value = errors[output].values[parameter]
            self.template.add(f"log_{output}_{parameter}", np.log(value))
        for name in kappas:
            self.template.add(name, 0.0)
        if self.tied:
            self._tie()
        self.variables = tuple(p.name for p in self.template.values() if p.vary and not p.expr)
        if not self.variables:
            raise ValueError("every parameter is fixed; there is nothing to fit")

    def _add(self, name, said):
        """Add an auxiliary parameter, on its own scale."""
        try:
            self.template.add(
                name, said.get("value"), said.get("vary", True), said.get("min", -np.inf),
                said.get("max", np.inf), said.get("expr") or None,
            )  # fmt: skip
        except (TypeError, ValueError, NameError, SyntaxError) as error:
            raise ValueError(f"parameters: {name}: {error}") from None
        if not said.get("expr") and said.get("value") is None:
            raise ValueError(
                f"parameters: {unknown('parameter', name, self.names)} An auxiliary parameter of "
                "expressions needs a value"
            )

    def _add_scaled(self, name, value, said, bounded):
        """Add the coordinate of a searched parameter; return its name."""
        scale = logit if self.model.is_logit(name) else np.log
        key = f"{'logit' if self.model.is_logit(name) else 'log'}_{name}"
        low, high = said.get("min"), said.get("max")
        limits = {"min": -np.inf, "max": np.inf}
        if bounded:
            limits = {side: float(scale(value)) + sign * np.log(WIDEST)
                      for side, sign in (("min", -1), ("max", 1))}  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore"):
            for side, given in (("min", low), ("max", high)):
                said_so = given is not None and np.isfinite(given)
                if bounded and not said_so:
                    self.assumed.add((key, side))
                if said_so:
                    self.bounded_by_user = True
                    limits[side] = float(scale(given)) if given > 0 else -np.inf
        least, most = ("none" if bound is None else f"{bound:g}" for bound in (low, high))
        if not limits["min"] < limits["max"]:
            raise ValueError(
                f"parameters: {name}: no value lies between min = {least} and max = {most}"
            )
        at = float(scale(value))
        if not limits["min"] <= at <= limits["max"]:
            raise ValueError(
                f"parameters: {name} begins at {value:g}, which is not between its bounds: min "
                f"{least}, max {most}"
            )
        self.template.add(key, at, True, **limits)
        return key

    def _tie(self):
        """Add the natural parameters, which expressions name, and the tied ones."""
        for name, key in self.searched.items():
            natural = f"1/(1+exp(-{key}))" if key.startswith("logit_") else f"exp({key})"
            self.template.add(name, expr=natural)
        for name, value in self.held.items():
            if value is not None:
                self.template.add(name, value, False)
        for name, expression in self.tied.items():
            try:
                self.template.add(name, expr=expression)
                value = self.template[name].value
            except Exception as error:  # asteval raises what the text makes it raise
                raise ValueError(f'parameters: {name}: expr "{expression}": {error}') from None
            if not np.isfinite(value) or value <= 0:
                raise ValueError(
                    f'parameters: {name}: expr "{expression}" gives {value:g} at the start; a '
                    "number above 0 is wanted"
                )

    def start(self) -> np.ndarray:
        """Return the coordinates of the start."""
        return np.array([self.template[name].value for name in self.variables])

    def bounds(self) -> np.ndarray:
        """Return the lower and upper bound of each coordinate (2, n_coordinates)."""
        return np.array([[self.template[name].min for name in self.variables],
                         [self.template[name].max for name in self.variables]])  # fmt: skip

    def params(self, point: np.ndarray):
        """Return lmfit's parameters at a point."""
        import copy

        params = copy.deepcopy(self.template)
        for name, value in zip(self.variables, point, strict=True):
            params[name].set(value=value)
        return params

    def vector(self, params) -> np.ndarray:
        """Return the coordinates of lmfit's parameters."""
        return np.array([params[name].value for name in self.variables])

    def natural(self, points: np.ndarray) -> np.ndarray:
        """Return natural values of `names` (n, n_names); NaN for one that no value is said of."""
        found = np.full((len(points), len(self.names)), np.nan)
        for j, name in enumerate(self.names):
            if name in self.searched:
                column = points[:, self.variables.index(self.searched[name])]
                found[:, j] = expit(column) if self.logit[j] else np.exp(column)
            elif self.held.get(name) is not None:
                found[:, j] = self.held[name]
        if self.tied:
            at = [self.names.index(name) for name in self.tied]
            for i, point in enumerate(points):
                for name, value in zip(self.variables, point, strict=True):
                    self.template[name].value = value
                self.template.update_constraints()
                found[i, at] = [self.template[name].value for name in self.tied]
        return found

    def scaled(self, natural: np.ndarray) -> np.ndarray:
        """Return natural values of `names` on the scale of their coordinates."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.logit, logit(natural), np.log(natural))

    def slopes(self, point: np.ndarray) -> np.ndarray:
        """Return d scaled natural / d coordinate at a point (n_names, n_coordinates)."""
        change = _CHANGE * np.eye(len(point))
        plus, minus = (self.scaled(self.natural(point + sign * change)) for sign in (1, -1))
        return (plus - minus).T / (2.0 * _CHANGE)

    def thetas(self, points: np.ndarray, errors) -> dict:
        """Return the parameters of each endpoint's error at points: numbers, or arrays (n, 1)."""
        found = {output: dict(error.values) for output, error in errors.items()}
        for output, parameter in self.spreads:
            column = self.variables.index(f"log_{output}_{parameter}")
            found[output][parameter] = np.exp(points[:, column : column + 1])
        return found


def named_values(given, names, what: str) -> dict[str, float | None]:
    """Return the values given by name, internal units; None where only the name is given.

    Parameters
    ----------
    given : str, iterable of str or mapping
        Names, or what each has.
    names : sequence of str
        Those that there are.
    what : str
        What a sentence about an unknown one begins with.

    Raises
    ------
    ValueError
        If a name is unknown, or a value is not one of its unit.
    """
    given = [given] if isinstance(given, str) else given
    given = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
    for name, value in given.items():
        if name not in names:
            raise ValueError(f"{what}: {unknown('parameter', name, names)}")
        if value is not None:
            given[name] = quantity(value, PARAMETERS[name].unit, what=name)
    return given


def read_settings(model: Model, names, given) -> dict[str, dict]:
    """Return what `parameters` says of each name, as plain settings in internal units.

    Parameters
    ----------
    model : Model
        The model.
    names : sequence of str
        Its parameters that can be searched.
    given : mapping or lmfit.Parameters
        By name a number (the start), or ``{value, min, max, vary, expr}``, or lmfit's own.

    Raises
    ------
    ValueError
        If a setting is unknown or contradicts another.
    """
    found = {}
    for name, said in (given or {}).items():
        if hasattr(said, "vary") and hasattr(said, "expr"):
            said = {key: getattr(said, key) for key in _SETTINGS}
            if said["expr"]:
                said = {"expr": said["expr"]}
        elif not isinstance(said, Mapping):
            said = {"value": said}
        for key in said:
            if key not in _SETTINGS:
                raise ValueError(f"parameters: {name}: {unknown('setting', key, _SETTINGS)}")
        said = {key: value for key, value in said.items() if value is not None}
        if "expr" in said and len(said) > 1:
            raise ValueError(
                f"parameters: {name} has an expr and {', '.join(sorted(set(said) - {'expr'}))}; "
                "what is tied by an expression has nothing else"
            )
        unit = PARAMETERS[name].unit if name in names and name in PARAMETERS else None
        for key in ("value", "min", "max"):
            if key in said and unit is not None and not np.isinf(_plain(said[key])):
                said[key] = quantity(said[key], unit, what=f"{name} {key}")
        found[name] = said
    return found


def _plain(value):
    return value if isinstance(value, (int, float)) else 0.0
