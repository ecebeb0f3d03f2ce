"""What a structural model is, and the register of every name it may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import NamedTuple

from bcellsim.names import unknown


class Entry(NamedTuple):
    """A registered name: its internal unit, its meaning, and for a state its scale."""

    unit: str
    meaning: str
    scale: float = 1.0


#: Of the structures, and those that model files print in place of them (t_half_abs, k12, cl0 ...).
PARAMETERS = {
    "ka": Entry("1/day", "first-order absorption rate from the subcutaneous depot"),
    "f_sc": Entry("", "bioavailability of a subcutaneous dose"),
    "tlag": Entry("day", "lag between a subcutaneous dose and its arrival in the depot"),
    "rate_sc": Entry("mg/day", "rate of zero-order input of a subcutaneous dose"),
    "dur_sc": Entry("day", "duration of zero-order input of a subcutaneous dose"),
    "t_half_abs": Entry("day", "half-life of subcutaneous absorption"),
    "cl": Entry("L/day", "linear clearance, but for the part that decays"),
    "cl_t": Entry("L/day", "part of the clearance that decays from the first dose"),
    "cl0": Entry("L/day", "clearance at the first dose, with the part that decays"),
    "kdes": Entry("1/day", "decay rate, from the first dose, of what changes in time"),
    "t_half_cl": Entry("day", "half-life of the part of the clearance that decays"),
    "kel": Entry("1/day", "first-order elimination rate of the drug, or of its virtual amount"),
    "k12": Entry("1/day", "transfer rate from the central to the peripheral compartment"),
    "k21": Entry("1/day", "transfer rate from the peripheral to the central compartment"),
    "vmax": Entry("mg/day", "largest rate of the saturable elimination, at the first dose"),
    "km": Entry("mg/L", "drug concentration of half the largest saturable elimination"),
    "vc": Entry("L", "central volume"),
    "q": Entry("L/day", "inter-compartmental clearance of the drug"),
    "vp": Entry("L", "peripheral volume"),
    "kint": Entry("1/day", "internalisation of the drug-target complex"),
    "kd": Entry("mg/L", "equilibrium dissociation constant of drug and target"),
    "koff": Entry("1/day", "dissociation of the drug-target complex"),
    "kss": Entry("mg/L", "quasi-steady-state constant of drug and target"),
    "r0": Entry("mg/L", "target at baseline, as drug equivalents"),
    "ksyn0": Entry("mg/L/day", "target synthesis at the first dose, as drug equivalents"),
    "ksyn_inf": Entry("mg/L/day", "target synthesis after long treatment, as drug equivalents"),
    "ksyn": Entry("mg/L/day", "target synthesis, as drug equivalents"),
    "kdeg": Entry("1/day", "degradation of free target"),
    "cd20_per_cell": Entry("ng/cell", "CD20 on one B cell, as drug equivalents"),
    "b0": Entry("cells/uL", "B-cell count at baseline"),
    "kout": Entry("1/day", "loss rate of B cells without drug"),
    "emax": Entry("", "largest fold increase of the loss rate, added to 1"),
    "ec50": Entry("mg/L", "drug concentration of half the largest effect"),
    "hill": Entry("", "Hill exponent of the effect"),
    "qb": Entry("L/day", "exchange flow of B cells between blood and tissue"),
    "vb": Entry("L", "volume of the tissue B-cell pool"),
    "a50": Entry("mg", "virtual drug amount of half the largest effect"),
    "kmat": Entry("1/day", "maturation of pro-B cells into B cells"),
    "lifespan": Entry("day", "mean lifespan of B cells without drug"),
    "kill_slope": Entry("1/day", "removal of B cells for each e-fold of drug concentration"),
    "kill_conc": Entry("mg/L", "drug concentration at which log-linear removal sets in"),
    "kill_intercept": Entry("1/day", "log-linear removal of B cells at 1 mg/L of drug"),
}

# The scale of a state times `atol` is its absolute tolerance. An individual Hill exponent can be as
# low as 0.1 (Yu 2022), so that a drug concentration far below any assay still acts: drug states are
# followed in relative terms however small. With an absolute tolerance of 1e-20 the largest error of
# a count over 800 random subjects was 26 rtol, with 1e-40 it is 2 rtol, at 1 % more steps.
STATES = {
    "depot": Entry("mg", "drug at the injection site", 1e-32),
    "central": Entry("mg", "total drug in the central compartment", 1e-32),
    "peripheral": Entry("mg", "drug in the peripheral compartment", 1e-32),
    "target": Entry("mg/L", "total target, free and bound, as drug equivalents"),
    "bcell": Entry("cells/uL", "B cells in blood"),
    "bcell_tissue": Entry("cells/uL", "B cells in tissue, divided by the central volume"),
    "pro_bcell": Entry("cells/uL", "pro-B cells, as if in blood"),
    **{f"transit{i}": Entry("cells/uL", f"B cells in ageing stage {i}") for i in range(1, 5)},
    "virtual": Entry("mg", "virtual drug amount of a kinetic-pharmacodynamic model", 1e-32),
}

OUTPUTS = {
    "conc": Entry("mg/L", "Total drug concentration"),
    "conc_free": Entry("mg/L", "Free drug concentration"),
    "amount": Entry("mg", "Virtual drug amount"),
    "bcell": Entry("cells/uL", "B cells"),
}


class Route(NamedTuple):
    """Where a dose goes: its state, and the parameters that scale and delay it, if any.

    `rate` and `duration` name the parameters of an infusion for which a data file says that the
    model has one of them (RATE -1 or -2).
    """

    state: str
    bioavailability: str | None = None
    lag: str | None = None
    rate: str | None = None
    duration: str | None = None


@dataclass(frozen=True, eq=False)
class Structure:
    """A structural model: states, parameters, equations and outputs; code, no published numbers.

    The functions are plain scalar Python (floats, indexing, `math`, and calls to such functions),
    because every backend is made from their one source.

    Parameters
    ----------
    name : str
        Name in the registry and in model files.
    title : str
        One line for people.
    states, parameters, outputs : tuple of str
        Registered names, in the order in which the functions index them.
    rhs : callable(t, y, p, u, dy)
        Writes the time derivatives of the solver's states; `t` is the time since the first dose
        [day], `u` the rate of infusion into each state [mg/day].
    initial : callable(p, y)
        Writes the states at baseline, without drug.
    observe : callable(t, y, p, out)
        Writes the outputs.
    elimination : callable(t, y, p)
        Returns the rate at which drug leaves the body [mg/day]; with `rhs` it must balance.
    routes : mapping of str to Route
        The state that a dose by each route enters.
    defaults : mapping of str to float
        Neutral values (0 or 1) of the parameters a model may leave out.
    route_parameters : mapping of str to tuple of str
        Parameters that are needed only when a dose is given by that route.
    to_amounts, from_amounts : callable(y, p), optional
        Convert the solver's states, in place, to those of the register and back, where they differ.
    linear : tuple of str
        States whose equations are linear in these states and the rates of infusion, with
        coefficients of parameters alone. They have a closed form, so that only the one other state
        is integrated; its own equation must be linear in itself. If no state is left, all are
        integrated.
    linear_when : mapping of str to float
        Values of parameters under which that holds; with others every state is integrated.
    pk : str
        Name of the structure that is the PK of this one alone, where there is one. What this one
        has beyond the states and parameters of that one is its B-cell response.

    Raises
    ------
    ValueError
        If a name is not registered, a constant in capitals is not the position of its name, or
        `pk` has a name that is not here.
    """

    name: str
    title: str
    states: tuple[str, ...]
    parameters: tuple[str, ...]
    outputs: tuple[str, ...]
    rhs: Callable
    initial: Callable
    observe: Callable
    elimination: Callable
    routes: Mapping[str, Route]
    defaults: Mapping[str, float] = field(default_factory=dict)
    route_parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    to_amounts: Callable | None = None
    from_amounts: Callable | None = None
    linear: tuple[str, ...] = ()
    linear_when: Mapping[str, float] = field(default_factory=dict)
    pk: str = ""

    def __post_init__(self):
        self._require("state", self.states, STATES, once=True)
        self._require("parameter", self.parameters, PARAMETERS, once=True)
        self._require("output", self.outputs, OUTPUTS, once=True)
        self._require("state", self.linear, self.states)
        self._require("state", [route.state for route in self.routes.values()], self.states)
        used = [*self.linear_when, *self.defaults]
        used += [name for names in self.route_parameters.values() for name in names]
        used += [name for route in self.routes.values() for name in route[1:] if name]
        self._require("parameter", used, self.parameters)
        self._check_constants(self.states, "state")
        self._check_constants(self.parameters, "parameter")
        self._check_routes()
        if self.pk:
            self._check_pk(get_structure(self.pk))

    def _require(self, what, names, known, *, once=False):
        if isinstance(names, str):
            raise ValueError(f'structure {self.name}: {what}s are a tuple, as in ("{names}",)')
        for i, name in enumerate(names):
            if name not in known:
                raise ValueError(f"structure {self.name}: {unknown(what, name, known)}")
            if once and name in names[:i]:
                raise ValueError(f'structure {self.name}: {what} "{name}" is given twice')

    def _check_constants(self, names, what):
        for constant, value in _constants(self.functions()):
            name = constant.lower()
            if constant.isupper() and name in names and names.index(name) != value:
                raise ValueError(
                    f"structure {self.name}: constant {constant} = {value}, but {what} "
                    f'"{name}" is number {names.index(name)}'
                )

    def _check_routes(self):
        # An infusion sets the rate into a state, so that its routes must scale it alike.
        scales = {route.state: route.bioavailability for route in self.routes.values()}
        for name, route in self.routes.items():
            if STATES[route.state].unit not in ("mg", "nmol"):  # the engine knows no unit
                raise ValueError(
                    f'structure {self.name}: route "{name}" enters state "{route.state}", which '
                    "holds no drug"
                )
            if scales[route.state] != route.bioavailability:
                raise ValueError(
                    f'structure {self.name}: the routes into "{route.state}" must have one '
                    "bioavailability"
                )

    def _check_pk(self, pk):
        for what in ("states", "parameters", "outputs"):
            absent = [name for name in getattr(pk, what) if name not in getattr(self, what)]
            if absent:
                raise ValueError(
                    f'structure {self.name} has no {what[:-1]} "{absent[0]}", which its PK '
                    f"{pk.name} has"
                )

    def functions(self) -> list[Callable]:
        """Return the equations of this structure, those it has."""
        found = (self.rhs, self.initial, self.observe, self.elimination)
        return [*found, *(f for f in (self.to_amounts, self.from_amounts) if f is not None)]

    def drug_states(self) -> list[int]:
        """Return the positions of the states that hold an amount of drug [mg]."""
        return [i for i, name in enumerate(self.states) if STATES[name].unit == "mg"]

    def state_scales(self) -> list[float]:
        """Return the scale of each state, which times `atol` is its absolute tolerance."""
        return [STATES[name].scale for name in self.states]


def _constants(functions) -> set[tuple[str, int]]:
    """Return the whole-number globals that functions, and the functions they call, use."""
    found, waiting, seen = set(), list(functions), set()
    while waiting:
        function = waiting.pop()
        seen.add(function)
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, FunctionType) and value not in seen:
                waiting.append(value)
            elif isinstance(value, int):
                found.add((name, value))
    return found


#: Every structure by name.
STRUCTURES: dict[str, Structure] = {}


def register_structure(structure: Structure) -> Structure:
    """Add a structure to the registry, so that model files can name it.

    Raises
    ------
    ValueError
        If a structure of that name from another module stands there.
    """
    present = STRUCTURES.get(structure.name, structure)
    if present.rhs.__module__ != structure.rhs.__module__:
        raise ValueError(f'a structure named "{structure.name}" is registered already')
    STRUCTURES[structure.name] = structure
    return structure


def get_structure(name: str) -> Structure:
    """Return the structure of that name; raise ValueError naming the nearest one."""
    if name not in STRUCTURES:
        raise ValueError(unknown("structure", name, STRUCTURES))
    return STRUCTURES[name]
