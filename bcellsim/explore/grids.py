"""Grids of schedules: every combination of dose and interval."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real

from bcellsim.event import format_time
from bcellsim.regimen import Regimen, maintained, single_dose
from bcellsim.units import days


def grid(
    *,
    dose: str | Sequence[str],
    every: str | Sequence[str],
    loading: str | None = None,
    start: float | str | None = None,
    drug: str | None = None,
) -> list[Regimen]:
    """Return a regimen for every combination of dose and interval.

    Parameters
    ----------
    dose : str or sequence of str
        Maintenance doses with route, such as ``"20 mg sc"``.
    every : str or sequence of str
        Intervals, such as ``"4 w"``.
    loading : str, optional
        Loading doses as a shorthand, such as ``"20 mg sc at 0 d, 7 d, 14 d"``.
    start : float or str, optional
        Time of the first maintenance dose [day]. By default maintenance doses fall at k x every
        after the first dose, k = 1, 2, ...; without loading the first dose is at 0.
    drug : str, optional
        The drug, if only its models may be simulated with them.

    Raises
    ------
    ValueError
        If a dose or interval cannot be read, or the first maintenance dose is not later than the
        last loading dose.

    Examples
    --------
    >>> [plan.name for plan in grid(dose="20 mg sc", every=["4 w", "8 w"])]
    ['20 mg sc q4w', '20 mg sc q8w']
    """
    doses = [dose] if isinstance(dose, str) else list(dose)
    intervals = [every] if isinstance(every, (str, Real)) else list(every)
    if not doses or not intervals:
        raise ValueError("a grid needs at least one dose and one interval")
    first = Regimen.parse(loading) if loading else None
    plans = []
    for amount, interval in itertools.product(doses, intervals):
        single, step = single_dose(amount), days(interval, "every")
        plan = maintained(single, step, first, start)
        label = f"{single} q{format_time(step).replace(' ', '')}"
        plans.append(replace(plan, label=label, drug=drug, dose=str(single), interval=step))
    return plans
