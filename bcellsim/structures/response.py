"""What a drug does to B cells: plain scalar functions."""

import math

from bcellsim.structures.pk import saturation


def turnover(count, drug, b0, kout, emax, half, hill):
    """Return kout b0 - kout (1 + emax drug^hill / (half^hill + drug^hill)) count."""
    return kout * b0 - kout * (1.0 + emax * saturation(drug, half, hill)) * count


def log_linear_removal(conc, slope, onset):
    """Return slope ln(1 + conc / onset): the removal rate added by a drug [1/day]."""
    return slope * math.log(1.0 + conc / onset)
