"""The dosing-schedule explorer: compare schedules, and search for the one that is wanted."""

from bcellsim.explore.compare import explore
from bcellsim.explore.drivers import drivers
from bcellsim.explore.grids import grid
from bcellsim.explore.inverse import (
    fewest_doses,
    longest_interval,
    needed_subjects,
    smallest_dose,
)
from bcellsim.explore.outcomes import thresholds
from bcellsim.explore.summary import summarise
from bcellsim.explore.survival import survival
from bcellsim.explore.switching import switch
from bcellsim.explore.tradeoff import common_cost, pareto
from bcellsim.explore.whatif import across, what_if

__all__ = [
    "across",
    "common_cost",
    "drivers",
    "explore",
    "fewest_doses",
    "grid",
    "longest_interval",
    "needed_subjects",
    "pareto",
    "smallest_dose",
    "summarise",
    "survival",
    "switch",
    "thresholds",
    "what_if",
]
