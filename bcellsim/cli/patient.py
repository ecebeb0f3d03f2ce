"""One patient of a data file: the fit that options ask for, and the advice made from it."""

from __future__ import annotations

import numpy as np

from bcellsim.cli.people import numbers, pairs

#: Options that say how counts are read and fitted: of no use without counts.
_OF_DATA = ("subject", "lloq", "error", "sigma", "volume", "fix", "start", "bound", "tie", "skip")


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
        start=pairs(settings["start"], "--start"), parameters=_parameters(settings),
        error=_error(settings["error"]), sigma=_sigma(settings["sigma"]),
        volume=settings["volume"], censored=settings["censored"],
        covariates=numbers(settings["covariate"], ()), subject=settings["subject"],
        starts=settings["starts"], seed=settings["seed"] or 0,
    )  # fmt: skip


def _parameters(settings):
    """Return what bounds and ties say of each parameter."""
    found = {}
    for name, text in pairs(settings["bound"], "--bound").items():
        low, colon, high = (part.strip() for part in text.partition(":"))
        if not colon or not (low or high):
            raise ValueError(f'--bound {name}={text}: "name=min:max" is wanted')
        said = {"min": low, "max": high}
        found[name] = {side: _number_or_text(value) for side, value in said.items() if value}
    for name, text in pairs(settings["tie"], "--tie").items():
        if name in found:
            raise ValueError(f"--tie {name}={text}: what is tied has no bounds")
        found[name] = {"expr": text}
    return found


def _number_or_text(text):
    """Return a number, or a text that carries its unit."""
    try:
        return float(text)
    except ValueError:
        return text


def _error(given):
    """Return the residual error of all endpoints, or that of each."""
    if given and len(given) == 1 and "=" not in given[0].split(";")[0]:
        return _form(given[0])
    return {name: _form(text) for name, text in pairs(given, "--error").items()} or None


def _form(text):
    """Return a form of error, with what is said of its SDs: ``combined2; add_sd=2``."""
    form, *parts = (part.strip() for part in text.split(";"))
    return {"form": form, **_numbers(pairs(parts, f"--error {form};"))} if parts else form


def _numbers(texts):
    return {name: _number_or_text(text) for name, text in texts.items()}


def _sigma(given):
    """Return the SD of the error of all endpoints, or that of each."""
    if given and len(given) == 1 and "=" not in given[0]:
        return _sd(given[0], given[0])
    found = pairs(given, "--sigma")
    return {name: _sd(text, f"{name}={text}") for name, text in found.items()} or None


def _sd(text, said):
    value = _number_or_text(text)
    if isinstance(value, str) and value != "estimate":
        raise ValueError(f'--sigma {said}: a number or "estimate" is wanted')
    return value


def shown(settings: dict, fit) -> list:
    """Return the profiles asked for; those of every parameter that was searched for "all".

    Raises
    ------
    ValueError
        If a parameter was not searched.
    """
    names = settings["profile"] or ()
    if "all" in names:
        names = list(fit.problem.shown)
    return [fit.profile(name) for name in names]


def further_lines(profiles: list, draws) -> list[str]:
    """Return a line for each profile, its interval, and the quantiles of draws."""
    lines = [""] * bool(profiles)
    for table in profiles:
        facts = table.attrs
        ends = [f"{facts[end]:.4g}" if np.isfinite(facts[end]) else "not reached"
                for end in ("low", "high")]  # fmt: skip
        unit = f" {facts['unit']}" if facts["unit"] else ""
        lines.append(
            f"  profile of {facts['parameter']}: {facts['level']:.0%} interval {ends[0]} to "
            f"{ends[1]}{unit}"
        )
    if draws is not None:
        facts, table = draws.attrs, _quantiles(draws)
        lines += ["", f"  {len(draws)} draws, seed {facts['seed']}, {facts['effective']:.0f} "
                  f"effective: {facts['note']}"]  # fmt: skip
        lines.append(table.to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    return lines


def _quantiles(draws):
    """Return the quantiles of each parameter that varies among draws."""
    found = draws.quantile([0.05, 0.25, 0.5, 0.75, 0.95]).T
    found.columns = ["p5", "p25", "p50", "p75", "p95"]
    varies = draws.max() > draws.min()
    return found[varies].rename_axis("parameter").reset_index()


def tables(fit, profiles: list, draws) -> dict:
    """Return the tables of a fit by name."""
    import pandas as pd

    found = {"parameters": fit.params, "residuals": fit.residuals, "starts": fit.starts,
             "correlation": fit.correlation, "curves": fit.curves}  # fmt: skip
    if profiles:
        parts = [table.assign(parameter=table.attrs["parameter"]) for table in profiles]
        found["profiles"] = pd.concat(parts, ignore_index=True)
    if draws is not None:
        found["draws"] = draws
    return found


def figures(fit, profiles: list, draws, levels) -> dict:
    """Return the figures of a fit by name: one of each endpoint, and of what was asked for."""
    from bcellsim import plot

    found, several = {}, len(fit.errors) > 1
    for output in fit.errors:
        end = f"_{output}" if several else ""
        below = levels if output == "bcell" else ()
        found[f"fit{end}"] = plot.fit(fit, below=below, output=output)
        found[f"residuals{end}"] = plot.residuals(fit, output=output)
    if profiles:
        found["profiles"] = plot.profiles(profiles)
    if draws is not None and fit.prior:
        found["prior_posterior"] = plot.prior_posterior(fit, draws)
    return found


def as_json(profiles: list, draws) -> dict:
    """Return profiles and draws as plain data, what was not asked for left out."""
    from bcellsim.fit.report import plain

    found = {}
    if profiles:
        keys = ("parameter", "unit", "level", "low", "high")
        rows = [{key: table.attrs[key] for key in keys} for table in profiles]
        found["profiles"] = [{k: _finite(v) for k, v in row.items()} for row in rows]
    if draws is not None:
        facts = draws.attrs
        found["draws"] = {
            "n": len(draws), **{key: facts[key] for key in ("seed", "method", "effective", "note")},
            "quantiles": plain(_quantiles(draws)),
        }  # fmt: skip
    return found


def _finite(value):
    return None if isinstance(value, float) and not np.isfinite(value) else value


def advised(settings: dict):
    """Return the advice on a data file, or without one on the covariates given."""
    import bcellsim as bc

    ask = {key: settings[key] for key in (
        "dose", "below", "probability", "until", "draws", "now", "induction", "label", "first",
        "disease", "seed", "method", "threads",
    )}  # fmt: skip
    if settings["data"]:
        return bc.redose(fitted({**settings, "seed": 0}), **ask)
    for key in _OF_DATA:
        if settings[key] is not None:
            raise ValueError(f"--{key} is for a data file, and none is given")
    covariates = numbers(settings["covariate"], ("study",))
    return bc.redose(settings["model"], covariates=covariates, **ask)
