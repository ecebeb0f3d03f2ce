"""Which residual error each endpoint has: from the model, the words given, or both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bcellsim.fit.likelihood import FAMILIES, ErrorModel
from bcellsim.model import Model
from bcellsim.names import unknown
from bcellsim.units import quantity

#: Fewest uncensored rows of an endpoint from which its error is estimated (design, section 8).
FEWEST = 6
#: Where the search for an SD or a dispersion begins when neither user nor model gives one.
_START = 0.3
_WORDS = (*FAMILIES, "published")
_UNIT_OF = {"volume": "uL"}


def error_models(
    model: Model, outputs: list[str], *, error=None, sigma=None, volume=None
) -> dict[str, ErrorModel]:
    """Return the residual error of each endpoint.

    Parameters
    ----------
    model : Model
        Its published errors are used where nothing else is said.
    outputs : list of str
        The endpoints observed.
    error : str or mapping, optional
        A word (a family, or ``"published"``) for all, or by endpoint a word or settings such as
        ``{"form": "combined2", "add_sd": 2, "prop_sd": "estimate"}``.
    sigma : float, str or mapping, optional
        The SD of a family that has one, or ``"estimate"``; for all, or by endpoint.
    volume : float or str, optional
        Counted volume [uL] of a counting family.

    Raises
    ------
    ValueError
        If a word or endpoint is unknown, or a number is missing or impossible.
    """
    known = model.structure.outputs
    words, sigmas = (_by_output(given, known, what)
                     for given, what in ((error, "error"), (sigma, "sigma")))  # fmt: skip
    return {
        output: _error(model, output, words.get(output), sigmas.get(output), volume)
        for output in outputs
    }


def _by_output(given, outputs, what):
    """Return a value by endpoint; a mapping that names endpoints says it for each."""
    if not isinstance(given, Mapping) or (what == "error" and "form" in given):
        return dict.fromkeys(outputs, given)
    for name in given:
        if name not in outputs:
            raise ValueError(f"{what}: {unknown('output', name, outputs)}")
    return dict(given)


def _error(model, output, given, sigma, volume):
    settings = dict(given) if isinstance(given, Mapping) else {"form": given or "log-normal"}
    form = settings.pop("form", "log-normal")
    if form not in _WORDS:
        raise ValueError(f"error of {output}: {unknown('residual error', str(form), _WORDS)}")
    published = model.residual_error.get(output)
    origin = "given"
    if form == "published":
        form, settings = _published(model, output, published), {**settings}
    family = FAMILIES[form]
    for name in settings:
        if name not in family.parameters:
            raise ValueError(
                f"error of {output}: {unknown('setting', name, ('form', *family.parameters))}"
            )
    if "volume" in family.parameters:
        if output != "bcell":
            raise ValueError(f"error of {output}: {form} is for counts of cells, bcell")
        settings.setdefault("volume", volume)
    if sigma is not None:
        _spread(settings, family, sigma, output, form)
    values, estimated = {}, []
    for name in family.parameters:
        said = settings.get(name)
        known = _from_model(model, output, published, name, said)
        if said is None and known:
            values[name], origin = known, f"published for {model.name}"
        elif isinstance(said, str) and said == "estimate" and name != "volume":
            values[name] = known or _START
            estimated.append(name)
        else:
            values[name] = _number(model, output, form, name, said)
    return ErrorModel(form, values, tuple(estimated), "estimated" if estimated else origin)


def _spread(settings, family, sigma, output, form):
    """Put the SD given as `sigma` among the settings; "estimate" stands for all of them."""
    own = [name for name in family.parameters if name != "volume"]
    if isinstance(sigma, str) and sigma == "estimate":
        settings.update({name: sigma for name in own if name not in settings})
        return
    if len(own) != 1 or own[0] == "dispersion":
        raise ValueError(
            f"sigma is not a number of the {form} error of {output}; give "
            f"error={{...}} with {', '.join(own) or 'volume'}"
        )
    if isinstance(sigma, bool) or quantity(sigma, "", what="sigma") <= 0:
        raise ValueError(f"sigma = {sigma}: a finite number above 0 is wanted")
    settings[own[0]] = quantity(sigma, "", what="sigma")


def _published(model, output, published):
    if published is not None and published.form == "declining":
        raise ValueError(
            f"model {model.name}, error of {output}: its SD falls with the concentration, which no "
            "fit takes yet; give error= and its SD"
        )
    if published is None or not (published.add_sd or published.prop_sd or published.log_sd):
        raise ValueError(
            f"model {model.name} has no published error of {output}; give error= and its SD"
        )
    if published.log_sd:
        return "log-normal"
    if published.add_sd and published.prop_sd:
        return published.form
    return "additive" if published.add_sd else "proportional"


def _from_model(model, output, published, name, said):
    """Return the published value of an error parameter, if any.

    The SD of the log-normal error is the published SD of the logarithm, or else the proportional
    one (design, section 8).
    """
    if published is None:
        return None
    if name != "sd":
        return {"prop_sd": published.prop_sd, "add_sd": published.add_sd}.get(name) or None
    try:
        return published.log_normal_sd()
    except ValueError as reason:
        if said is not None:
            return None
        raise ValueError(
            f"model {model.name}, error of {output}: {reason}; give sigma, the SD of its logarithm"
        ) from None


def _number(model, output, form, name, said):
    if said is None:
        what = {
            "sd": f"model {model.name} has no published error of {output}; give sigma, the SD of "
            "its logarithm",
            "volume": f'error="{form}" counts cells: give volume=, the counted volume [uL]',
        }
        raise ValueError(
            what.get(name, f"the {form} error of {output} needs {name}: give it with error={{...}}")
        )
    value = quantity(said, _UNIT_OF.get(name, ""), what=f"{name} of {output}") if not isinstance(
        said, (int, float)) else float(said)  # fmt: skip
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name} of {output} = {said}: a finite number above 0 is wanted")
    return value


def stated_volume(rows) -> float | None:
    """Return the counted volume [uL] that the rows state, None if they state none.

    Raises
    ------
    ValueError
        If it is not the same for all.
    """
    stated = np.unique(rows.volume[~np.isnan(rows.volume)])
    if len(stated) > 1:
        raise ValueError(
            f"the rows state {len(stated)} counted volumes (VOLUME {stated[0]:g} to "
            f"{stated[-1]:g} uL); a counting error takes one"
        )
    return float(stated[0]) if len(stated) else None


def require_rows_for_errors(errors: dict[str, ErrorModel], rows) -> None:
    """Raise ValueError if an error is to be estimated from fewer than `FEWEST` uncensored rows."""
    for output, error in errors.items():
        exact = int(((rows.output == output) & (rows.cens == 0)).sum())
        if error.estimated and exact < FEWEST:
            raise ValueError(
                f"the error of {output} cannot be estimated from {exact} uncensored observations; "
                f"at least {FEWEST} are wanted: give sigma"
            )
