"""One patient of a data file: the fit that options ask for, and the advice made from it."""

from __future__ import annotations

from bcellsim.cli.people import numbers, pairs

#: Options that say how counts are read and fitted: of no use without counts.
_OF_DATA = ("subject", "lloq", "error", "sigma", "fix", "skip")


def fitted(settings: dict):
    """Return the fit of a data file.

    Raises
    ------
    ValueError
        If an option is not valid, or they do not fit the data.
    """
    import bcellsim as bc

    prior = {"model": "model", "none": None}
    if settings["prior"] not in prior:
        raise ValueError(f'--prior {settings["prior"]}: "model" or "none" is wanted')
    model = bc.load_model(settings["model"])
    observations = bc.read_observations(
        settings["data"], unit=settings["unit"], lloq=settings["lloq"],
        time_unit=settings["time_unit"], alc_unit=settings["alc_unit"],
        covariates=settings["covariate_rule"], skip=settings["skip"], model=model,
    )  # fmt: skip
    return bc.fit_individual(
        model, observations, prior=prior[settings["prior"]],
        fixed=pairs(settings["fix"], "--fix", bare=True),
        start=pairs(settings["start"], "--start"), error=_error(settings["error"]),
        sigma=_sigma(settings["sigma"]), covariates=numbers(settings["covariate"], ()),
        subject=settings["subject"], starts=settings["starts"], seed=settings["seed"] or 0,
    )  # fmt: skip


def _error(given):
    """Return the residual error of all endpoints, or that of each."""
    if given and len(given) == 1 and "=" not in given[0]:
        return given[0]
    return pairs(given, "--error") or None


def _sigma(text):
    if text is None or text == "estimate":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'--sigma {text}: a number or "estimate" is wanted') from None


def advised(settings: dict):
    """Return the advice on a data file, or without one on the covariates given."""
    import bcellsim as bc

    ask = {key: settings[key] for key in (
        "dose", "below", "probability", "until", "draws", "now", "induction", "label", "first",
        "disease", "seed", "method", "threads",
    )}  # fmt: skip
    if settings["data"]:
        return bc.redose(fitted({**settings, "start": None, "seed": 0}), **ask)
    for key in _OF_DATA:
        if settings[key] is not None:
            raise ValueError(f"--{key} is for a data file, and none is given")
    covariates = numbers(settings["covariate"], ("study",))
    return bc.redose(settings["model"], covariates=covariates, **ask)
