"""A published model: typical values, variability, covariate effects and residual error as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit, logit

from bcellsim.card import model_card
from bcellsim.formula import Formula
from bcellsim.names import unknown
from bcellsim.published import (
    Check,
    Covariate,
    CovariateEffect,
    Drug,
    Parameter,
    RandomEffects,
    ResidualError,
)
from bcellsim.structures import OUTPUTS, PARAMETERS, Structure
from bcellsim.units import quantity

__all__ = [
    "Check",
    "Covariate",
    "CovariateEffect",
    "Drug",
    "Model",
    "Parameter",
    "RandomEffects",
    "ResidualError",
]


@dataclass(frozen=True, eq=False)
class Model:
    """A published parameter set on a structure. Printed, it is the model card.

    Use `bcellsim.load_model`; the fields are those of the model file, in internal units.
    `parameters` are those the paper prints; `definitions` give those of the structure that it does
    not print. `missing` holds what was not found in the publication, with what is known of it.
    """

    name: str
    title: str
    structure: Structure
    drug: Drug
    parameters: Mapping[str, Parameter]
    random_effects: RandomEffects
    covariates: Mapping[str, Covariate]
    covariate_effects: tuple[CovariateEffect, ...]
    residual_error: Mapping[str, ResidualError]
    citation: str
    doi: str
    read_in: str
    status: str
    study: Mapping
    context_of_use: str
    not_for: str
    notes: str = ""
    variant: str = ""
    variants: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    experimental: bool = False
    checks: tuple[Check, ...] = ()
    path: str = ""
    definitions: Mapping[str, Formula] = field(default_factory=dict)
    occasion_effects: RandomEffects = field(default_factory=RandomEffects)
    parts: Mapping[str, Model] = field(default_factory=dict)

    def routes(self) -> list[str]:
        """Return the routes by which this model can be dosed."""
        needed = self.structure.route_parameters
        return [
            route
            for route in self.structure.routes
            if all(self.gives(name) for name in needed.get(route, ()))
        ]

    def gives(self, name: str) -> bool:
        """Return whether a parameter of the structure is given, or defined by those that are."""
        if name in self.definitions:
            return all(used in self.parameters for used in self.definitions[name].names)
        return name in self.parameters

    def absent(self) -> list[str]:
        """Return the parameters without which it cannot be simulated and that it does not have."""
        structure, found = self.structure, []
        for name in structure.parameters:
            if name in structure.defaults and name not in self.definitions:
                continue
            if self.gives(name) or name in self._of_routes():
                continue
            used = self.definitions[name].names if name in self.definitions else [name]
            found += [n for n in used if n not in self.parameters and n not in found]
        return found

    def _of_routes(self):
        """Return the parameters that only doses by some route need."""
        return {n for names in self.structure.route_parameters.values() for n in names}

    def require_parameters(self) -> None:
        """Raise ValueError if a parameter that the publication does not give is needed."""
        absent = self.absent()
        if absent:
            names = ", ".join(f"{name} ({PARAMETERS[name].meaning})" for name in absent)
            raise ValueError(
                f"model {self.name}: {names} not found in the publication: fit or fix "
                f"{'it' if len(absent) == 1 else 'them'}, or give values with model.completed"
            )

    def require_variability(self) -> None:
        """Raise ValueError if the publication has a variability that was not found."""
        if "variability" in self.missing:
            raise ValueError(
                f"model {self.name} has no published variability to sample a population from; a PK "
                'may borrow that of another, by name: "PK~OTHER", "PK~OTHER+RESPONSE"'
            )

    def completed(self, values: Mapping[str, float | str]) -> Model:
        """Return the model with one's own values of parameters that are missing in it.

        Parameters
        ----------
        values : mapping of str to float or str
            Such as ``{"b0": 200, "a50": "10 mg"}``.

        Raises
        ------
        ValueError
            If the model gives one of them, or it is not one that is missing.
        """
        absent, parameters = self.absent(), dict(self.parameters)
        for name, value in values.items():
            if name not in absent:
                raise ValueError(f"model {self.name}: {unknown('missing parameter', name, absent)}")
            unit = PARAMETERS[name].unit
            number = quantity(value, unit, what=name)
            parameters[name] = Parameter(number, number, unit, False, "given by the user")
        missing = {name: what for name, what in self.missing.items() if name not in values}
        return replace(self, parameters=parameters, missing=missing) if values else self

    def typical(self) -> dict[str, float]:
        """Return the structure's typical values in internal units, NaN where one is missing."""
        values = {name: np.array([value]) for name, value in self._printed().items()}
        return dict(zip(self.structure.parameters, self._columns(values)[0].tolist(), strict=True))

    def _printed(self):
        """Return the typical values that are given, and the neutral ones of what is left out."""
        neutral = {**dict.fromkeys(self._of_routes(), 0.0), **self.structure.defaults}
        left_out = {name: value for name, value in neutral.items() if not self._defines(name)}
        given = {name: entry.value for name, entry in self.parameters.items()}
        return {**dict.fromkeys(self.absent(), np.nan), **left_out, **given}

    def _columns(self, values):
        """Return the structure's parameters from the printed ones (n_subjects, n_parameters)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.column_stack(
                [
                    self.definitions[name](values) if self._defines(name) else values[name]
                    for name in self.structure.parameters
                ]
            )

    def _defines(self, name):
        return name in self.definitions and (self.gives(name) or name not in self._of_routes())

    def individual(
        self,
        covariates: Mapping[str, np.ndarray],
        eta: np.ndarray,
        kappa: np.ndarray | None = None,
        occasion: int = 0,
    ) -> np.ndarray:
        """Return individual parameters, shape (n_subjects, n_parameters), internal units.

        Parameters
        ----------
        covariates : mapping of str to float array (n_subjects,)
            Every covariate that does not follow a parameter; those that do, where known.
        eta : float array (n_subjects, n_random_effects)
            Random effects, in the order of `random_effects.names`.
        kappa : float array (n_subjects, n_occasion_effects), optional
            Deviations of this occasion, in the order of `occasion_effects.names`; 0 by default.
        occasion : int
            Number of the occasion, from 0.
        """
        deviations = {name: eta[:, j] for j, name in enumerate(self.random_effects.names)}
        if kappa is not None:
            for j, name in enumerate(self.occasion_effects.names):
                deviations[name] = deviations.get(name, 0.0) + kappa[:, j]
        covariates = {
            name: values + occasion
            if name in self.covariates and self.covariates[name].occasion
            else values
            for name, values in covariates.items()
        }
        return self.deviated(covariates, deviations, len(eta))

    def deviated(
        self, covariates: Mapping[str, np.ndarray], deviations: Mapping[str, np.ndarray], n: int
    ) -> np.ndarray:
        """Return the parameters of subjects that deviate from the typical one.

        Parameters
        ----------
        covariates : mapping of str to float array (n_subjects,)
            As for `individual`.
        deviations : mapping of str to float array (n_subjects,)
            Deviation of any parameter, printed or of the structure, from the value that the
            covariates predict, on the scale of its distribution: the logarithm, or the logit where
            `random_effects` says so.
        n : int
            Number of subjects.

        Returns
        -------
        float array (n_subjects, n_parameters)
            In the structure's order, internal units.
        """
        values = self.printed(covariates, deviations, n)
        columns = self._columns(values)
        for name, deviation in deviations.items():
            if name not in values:
                j = self.structure.parameters.index(name)
                columns[:, j] = self._moved(name, columns[:, j], deviation)
        return columns

    def printed(
        self, covariates: Mapping[str, np.ndarray], deviations: Mapping[str, np.ndarray], n: int
    ) -> dict[str, np.ndarray]:
        """Return what `deviated` does before the definitions: the parameters the paper prints.

        Also those of the structure that have their neutral value, each (n_subjects,), internal
        units; arguments as for `deviated`.
        """
        typical = self._printed()
        values = {name: np.full(n, value) for name, value in typical.items()}
        derived = {name for name, c in self.covariates.items() if c.follows}
        for effect in self.covariate_effects:
            if effect.covariate not in derived:
                values[effect.parameter] *= effect.factor(covariates[effect.covariate])
        for name, deviation in deviations.items():
            if name in values:
                values[name] = self._moved(name, values[name], deviation)
        for effect in self.covariate_effects:
            if effect.covariate in derived:
                covariate = self.covariates[effect.covariate]
                following = values[covariate.follows] / typical[covariate.follows]
                x = covariates.get(effect.covariate, covariate.reference * following)
                values[effect.parameter] = values[effect.parameter] * effect.factor(x)
        return values

    def _moved(self, name, values, deviation):
        """Return values moved by a deviation on the scale of the parameter's distribution."""
        if self.is_logit(name):
            return expit(logit(values) + deviation)
        return values * np.exp(deviation)

    def is_logit(self, name: str) -> bool:
        """Return whether a parameter varies on the logit scale."""
        return any(
            dict(zip(effects.names, effects.distributions, strict=True)).get(name) == "logit"
            for effects in (self.random_effects, self.occasion_effects)
        )

    def sources(self) -> dict[str, list[str]]:
        """Return what was read where: each source, and the numbers from it."""
        between, within = self.random_effects, self.occasion_effects
        numbers = [
            *((name, p.source) for name, p in self.parameters.items()),
            *((f"SD of {name}", s) for name, s in zip(between.names, between.sources, strict=True)),
            *(
                (f"SD between occasions of {name}", s)
                for name, s in zip(within.names, within.sources, strict=True)
            ),
            *((f"{e.covariate} on {e.parameter}", e.source) for e in self.covariate_effects),
            *((f"error of {name}", e.source) for name, e in self.residual_error.items()),
            *((f"covariate {name}", c.source) for name, c in self.covariates.items() if c.source),
        ]
        found = {}
        for number, source in numbers:
            found.setdefault(source, []).append(number)
        return found

    def require_covariates(self, given, where: str) -> None:
        """Raise ValueError unless every covariate that has no default is among those given."""
        for name, covariate in self.covariates.items():
            if name in given or covariate.default is not None or covariate.follows:
                continue
            if name == "BSA" and {"WT", "HT"} <= set(given):
                continue
            unit = f", {covariate.unit}" if covariate.unit else ""
            raise ValueError(
                f"model {self.name} needs covariate {name} ({covariate.meaning}{unit}; reference "
                f"{covariate.reference:g}): {where}"
            )

    def require_output(self, output: str) -> None:
        """Raise ValueError unless the model's structure has that output."""
        outputs = self.structure.outputs
        if output not in outputs and output in OUTPUTS:
            raise ValueError(
                f"model {self.name} has no output {output}; it has {', '.join(outputs)}"
            )
        if output not in outputs:
            raise ValueError(f"model {self.name}: {unknown('output', output, outputs)}")

    def files(self) -> list[str]:
        """Return the files that its numbers come from."""
        parts = [path for part in self.parts.values() for path in part.files()]
        return list(dict.fromkeys(parts)) or [self.path]

    def label(self) -> str:
        """Return its status, with what a reader must know beside it."""
        marks = ["partial"] * bool(self.missing) + ["experimental"] * self.experimental
        return self.status + (f" ({', '.join(marks)})" if marks else "")

    def summary(self) -> dict:
        """Return the row of this model in `list_models`."""
        return {
            "name": self.name,
            "drug": self.drug.name,
            "disease": self.study.get("disease", ""),
            "structure": self.structure.name,
            "outputs": ", ".join(self.structure.outputs),
            "status": self.label(),
            "citation": self.citation,
        }

    def __repr__(self):
        return f"<Model {self.name}: {self.title}>"

    def __str__(self):
        return model_card(self)
