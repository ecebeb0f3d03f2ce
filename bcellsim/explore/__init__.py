"""The dosing-schedule explorer: compare schedules, and search for the one that is wanted."""

from bcellsim.explore.compare import explore
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
from bcellsim.explore.tradeoff import pareto

__all__ = [
    "explore",
    "fewest_doses",
    "grid",
    "longest_interval",
    "needed_subjects",
    "pareto",
    "smallest_dose",
    "summarise",
    "survival",
    "thresholds",
]
