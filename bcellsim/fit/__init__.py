"""Fitting observed series of counts."""

from bcellsim.fit.individual import fit_individual
from bcellsim.fit.result import Fit

__all__ = ["Fit", "fit_individual"]
