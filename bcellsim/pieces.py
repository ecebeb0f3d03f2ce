"""One subject's covariates and occasions in time: pieces within which its parameters are constant.

Predicting a data file, fitting it and forecasting from the fit all take them from here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.covariates import BODY_SIZE, PER, amounts, outside_study
from bcellsim.model import Model
from bcellsim.names import unknown
from bcellsim.observations import covariate_course
from bcellsim.observations.clock import AFTER
from bcellsim.population import Population, individual_subject
from bcellsim.regimen import Regimen

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Pieces:
    """Covariates of one subject, piece by piece of time.

    Parameters
    ----------
    model : Model
        The model.
    start : float array (n_pieces,)
        CLOCK at which each piece begins; what is before the first one belongs to it. A change by
        ``nocb`` comes just after the events and observations of its moment, any other just before
        them, so that every row has the covariates that it states.
    covariates : dict of str to float array (n_pieces,)
        Covariates in each piece: those of the table, those given beside them, defaults, and BSA
        where it follows from weight and height.
    occasion : int array (n_pieces,)
        Position of the OCC of each piece among `occasions`.
    occasions : tuple of int
        The numbers of OCC, in the order of the table.
    stated : tuple of str
        Covariates of the table, or given beside it.
    rule : str
        How covariates hold between their records.
    counted : tuple of str
        Covariates that count the occasions.
    """

    model: Model
    start: np.ndarray
    covariates: dict[str, np.ndarray]
    occasion: np.ndarray
    occasions: tuple[int, ...]
    stated: tuple[str, ...]
    rule: str
    counted: tuple[str, ...] = ()

    def __len__(self):
        return len(self.start)

    @property
    def shown(self) -> list[str]:
        """Return the covariates of the table, or given, and BSA where it follows from them."""
        follows = ["BSA"] if "BSA" in self.covariates and "BSA" not in self.stated else []
        follows = [name for name in follows if "HT" in self.stated]
        return [*dict.fromkeys([*self.stated, *follows, *self.counted])]

    @property
    def changing(self) -> list[str]:
        """Return the covariates that change."""
        return [name for name in self.shown if np.ptp(self.covariates[name]) > 0]

    def at(self, days) -> np.ndarray:
        """Return the position of the piece in force at each day of CLOCK."""
        return np.searchsorted(self.start[1:], days, side="right")

    def individual(
        self, deviations: Mapping[str, np.ndarray], n: int, kappa: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the structure's parameters of subjects that deviate, in each piece.

        Parameters
        ----------
        deviations : mapping of str to float array (n,)
            As for `Model.deviated`.
        n : int
            Number of subjects.
        kappa : float array (n, n_occasions, n_occasion_effects), optional
            Deviations of each occasion.

        Returns
        -------
        float array (n, n_pieces, n_parameters)
        """
        m = len(self)
        known = {name: np.tile(values, n) for name, values in self.covariates.items()}
        many = {name: np.repeat(values, m) for name, values in deviations.items()}
        for j, name in enumerate(self.model.occasion_effects.names if kappa is not None else ()):
            many[name] = many.get(name, 0.0) + kappa[:, self.occasion, j].reshape(-1)
        return self.model.deviated(known, many, n * m).reshape(n, m, -1)

    def people(
        self, eta: np.ndarray, parameters: np.ndarray, *, seed: int | None = None
    ) -> Population:
        """Return subjects with these parameters in each piece (n, n_pieces, n_parameters).

        Their covariates are those of the last piece, which hold from then on; their occasions are
        on CLOCK.
        """
        n = len(parameters)
        last = {name: np.repeat(values[-1:], n) for name, values in self.covariates.items()}
        return Population(
            self.model, np.arange(n), last, eta,
            parameters[:, 0] if len(self) == 1 else parameters, seed,
            (0.0,) if len(self) == 1 else tuple(self.start.tolist()),
        )  # fmt: skip

    def typical(self) -> Population:
        """Return the typical subject with these covariates."""
        eta = np.zeros((1, len(self.model.random_effects.names)))
        return self.people(eta, self.individual({}, 1))

    def in_mg(self, regimen: Regimen) -> Regimen:
        """Return a regimen with the doses per body size in mg, by the size at the time of each."""
        if len(self) == 1 or not any(event.unit in PER for event in regimen.events):
            return regimen
        events = []
        for event in regimen.events:
            if event.unit not in PER:
                events.append(event)
                continue
            own = replace(event, every=event.every if event.kind == "steady" else None, count=1)
            for day in event.occurrences():
                k = self.at([day])
                size = {name: values[k] for name, values in self.covariates.items()}
                mg = float(amounts([event], size, 1)[0, 0])
                events.append(replace(own, time=day, amount=mg, unit="mg", cap=None))
        return replace(regimen, events=tuple(events))

    def anew(self, day: float) -> Pieces:
        """Return the pieces with a new occasion from a day of CLOCK on."""
        start = np.unique(np.append(self.start, day))
        at = np.maximum(np.searchsorted(self.start, start, side="right") - 1, 0)
        later, number = start >= day, len(self.occasions)
        covariates = {name: values[at] for name, values in self.covariates.items()}
        for name in self.counted:
            next_one = self.covariates[name].max() + 1
            covariates[name] = np.where(later, next_one, covariates[name])
        return replace(
            self, start=start, covariates=covariates,
            occasion=np.where(later, number, self.occasion[at]),
            occasions=(*self.occasions, max(self.occasions) + 1),
        )  # fmt: skip

    def ahead(self) -> str:
        """Return the covariates that hold after the last row, in words."""
        found = []
        for name in self.shown:
            since = np.flatnonzero(np.diff(self.covariates[name]))
            when = f" (from day {self.start[since[-1] + 1]:.6g} on)" if len(since) else ""
            found.append(f"{name} {self.covariates[name][-1]:.4g}{self._unit(name)}{when}")
        return ", ".join(found) or "none"

    def _unit(self, name):
        entry = self.model.covariates.get(name)
        unit = entry.unit if entry else BODY_SIZE.get(name, "")
        return f" {unit}" if unit else ""

    def told(self) -> list[str]:
        """Return a sentence for each covariate that changes: from, to, and what holds after it."""
        found = []
        for name in self.changing:
            values = self.covariates[name]
            since = self.start[1 + np.flatnonzero(np.diff(values))[-1]]
            found.append(
                f"{name} changes in time, from {values[0]:.4g} to {values[-1]:.4g}"
                f"{self._unit(name)} ({self.rule}); {values[-1]:.4g} holds from day {since:.6g} on"
            )
        return found


def pieces_of(
    model: Model, table: pd.DataFrame, given: Mapping[str, float] | None = None
) -> Pieces:
    """Return the pieces of one subject's rows.

    Parameters
    ----------
    model : Model
        The model.
    table : DataFrame
        Rows of `read_observations`, of one subject.
    given : mapping of str to float, optional
        Covariates that the table does not have.

    Raises
    ------
    ValueError
        If the model does not know a covariate, needs one that is not there, or a covariate given
        contradicts the table.
    """
    known = {**model.covariates, **BODY_SIZE}
    course = covariate_course(table, known)
    stated = _with_given(model, course, given or {}, known)
    apart = AFTER / 2 if course.closed else -AFTER / 2
    start = np.where(np.isinf(course.start), course.start, course.start + apart)
    begins, numbers = _occasions(model, table)
    every = np.unique(np.concatenate([start, begins]))
    at = np.searchsorted(start, every, side="right") - 1
    which = np.searchsorted(begins, every, side="right") - 1
    names = tuple(dict.fromkeys(numbers))
    occasion = np.array([names.index(number) for number in numbers])[which]
    values = {name: found[at] for name, found in stated.items()}
    covariates = _covariates(model, values, len(every))
    counted = tuple(n for n, c in model.covariates.items() if c.occasion and n not in course.values)
    for name in counted:  # from a number given for the first one on, or as OCC counts them
        count = occasion if name in values else np.array(numbers)[which] - 1
        covariates[name] = covariates[name] + count
    every[0] = min(0.0, float(table["CLOCK"].iloc[0]) if len(table) else 0.0)
    rule = table.attrs.get("covariate_rule", "locf")
    return Pieces(model, every, covariates, occasion, names, tuple(stated), rule, counted)


def _with_given(model, found, given, known):
    """Return covariates by piece of time: those of the table, and those given beside them."""
    n = len(found.start)
    values = dict(found.values)
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"model {model.name}: {unknown('covariate', name, known)}")
        try:
            value = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"covariate {name} = {value!r}: a number is wanted") from None
        if np.any(values.setdefault(name, np.full(n, value)) != value):
            other = values[name][values[name] != value][0]
            raise ValueError(f"covariate {name} = {value:g}, but the data have {other:g}")
    model.require_covariates(values, "give it as a column of the data or with covariates")
    return values


def _occasions(model, table):
    """Return when each run of one OCC begins, the first at -inf, and its number.

    OCC holds from its first row on, whatever the rule for covariates is: a dose belongs to the
    occasion of its own row. Where nothing depends on occasions all is one.
    """
    depends = model.occasion_effects.names or any(c.occasion for c in model.covariates.values())
    if not depends or not len(table):
        return np.array([-math.inf]), (1,)
    numbers = table["OCC"].to_numpy()
    first = np.flatnonzero(np.append(True, np.diff(numbers) != 0))
    begins = table["CLOCK"].to_numpy(float)[first] - AFTER / 2
    begins[0] = -math.inf
    return begins, tuple(int(number) for number in numbers[first])


def _covariates(model, values, n):
    """Return the covariates in each piece, checked; warn once of each outside the study."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        none = np.zeros((n, len(model.random_effects.names)))
        people = individual_subject(model, values, none)
    said = {}
    follows = [*values, *(["BSA"] if "HT" in values and "BSA" not in values else [])]
    for k in range(n - 1, -1, -1):
        one = {name: people.covariates[name][k : k + 1] for name in follows}
        for name in follows:
            for sentence in outside_study(model, one, [name]):
                said.setdefault(name, sentence)
    for sentence in said.values():
        warnings.warn(sentence, stacklevel=4)
    return people.covariates
