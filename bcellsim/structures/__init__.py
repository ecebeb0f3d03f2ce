"""Structural models: one short file each, entered in `STRUCTURES` when it is imported."""

import importlib
import pkgutil

from bcellsim.structures.base import (
    OUTPUTS,
    PARAMETERS,
    STATES,
    STRUCTURES,
    Route,
    Structure,
    get_structure,
    register_structure,
)

__all__ = [
    "OUTPUTS",
    "PARAMETERS",
    "STATES",
    "STRUCTURES",
    "Route",
    "Structure",
    "get_structure",
    "register_structure",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
