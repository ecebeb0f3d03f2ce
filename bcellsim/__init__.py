"""Predict what an anti-CD20 antibody does to B cells, and when to redose.

Research software: not medical advice.
"""

import sys
from importlib import import_module
from types import ModuleType

#: Where each public name lives; a module is imported when one of its names is first used.
_PUBLIC = {
    "DosingRule": "rule",
    "Event": "regimen",
    "Fit": "fit",
    "METRICS": "metrics",
    "Model": "model",
    "Population": "population",
    "Regimen": "regimen",
    "Structure": "structures",
    "across": "explore",
    "check_data": "observations",
    "check_library": "check",
    "check_model": "check",
    "combine": "library",
    "drivers": "explore",
    "event_list": "predict",
    "explore": "explore",
    "fewest_doses": "explore",
    "fit_individual": "fit",
    "follow_rule": "adaptive",
    "forecast": "forecast",
    "grid": "explore",
    "list_models": "library",
    "list_regimens": "library",
    "load_model": "library",
    "load_regimen": "library",
    "longest_interval": "explore",
    "pareto": "explore",
    "predict": "predict",
    "read_observations": "observations",
    "redose": "redose",
    "register_structure": "structures",
    "sample_population": "population",
    "sensitivity": "sweep",
    "simulate": "simulate",
    "simulate_rule": "adaptive",
    "smallest_dose": "explore",
    "open_sweep": "sweep",
    "plan_sweep": "sweep",
    "survival": "explore",
    "sweep": "sweep",
    "switch": "explore",
    "what_if": "explore",
}

__all__ = [*sorted(_PUBLIC), "plot"]


class _Package(ModuleType):
    """The package: public names are looked up when used, and no submodule hides a function."""

    def __getattr__(self, name):
        if name == "plot":
            return import_module("bcellsim.plot")
        if name in _PUBLIC:
            return getattr(import_module(f"bcellsim.{_PUBLIC[name]}"), name)
        raise AttributeError(f"module 'bcellsim' has no attribute {name!r}")

    def __setattr__(self, name, value):
        # Importing the module `simulate` would set it here in place of the function `simulate`.
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self):
        return __all__


sys.modules[__name__].__class__ = _Package
