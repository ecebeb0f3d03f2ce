"""What each verb of the command line does: call the package, print, and write the results."""

from __future__ import annotations

import contextlib
import json as json_module
import math
import os
import sys

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def installed_version() -> str:
    """Return the version of the package."""
    from importlib.metadata import version

    return version("bcellsim")


def models(as_json: bool) -> None:
    """List the models."""
    import bcellsim as bc

    table = bc.list_models()
    if as_json:
        _print_json(_records(table))
    else:
        print(_text(table))


def show(name: str, as_json: bool) -> None:
    """Print a model card or the doses of a regimen."""
    import bcellsim as bc
    from bcellsim.library import model_names, regimen_names
    from bcellsim.names import unknown

    stem = name.partition(":")[0]
    if name in regimen_names() or any(c.isspace() for c in name.strip()):
        regimen = bc.load_regimen(name)
        if as_json:
            _print_json({"regimen": regimen.name, "doses": _records(regimen.table())})
        else:
            print(regimen)
        return
    if stem not in model_names() and ".toml" not in name:
        raise ValueError(unknown("model or regimen", name, [*model_names(), *regimen_names()]))
    model = bc.load_model(name)
    if as_json:
        _print_json({**model.summary(), "parameters": model.typical(), "card": str(model)})
    else:
        print(model)


def check(name: str | None, every: bool, as_json: bool, quiet: bool) -> None:
    """Run the checks of one model or of all; exit 1 when one that is gated fails."""
    import bcellsim as bc

    if (name is None) == (not every):
        raise ValueError("give a model, or --all")
    with _progress("checks", quiet) as progress:
        table = bc.check_library(progress=progress) if every else bc.check_model(
            name, progress=progress)  # fmt: skip
    failed = int((table["verdict"] == "FAILS").sum()) if len(table) else 0
    if as_json:
        rows = _records(table)
        _print_json(rows if every else {**table.attrs, "checks": rows})
    else:
        if len(table):
            print(_text(table.drop(columns=["source", "statistic", "claimed", "supported"])))
        print(f"{len(table)} checks, {failed} failed")
    wrong = table[table["claimed"] != table["supported"]].drop_duplicates("model")
    for row in wrong.itertuples():
        print(
            f"{row.model}: the file claims status {row.claimed}, its checks support "
            f"{row.supported}",
            file=sys.stderr,
        )
    if failed:
        sys.exit(1)


def simulate(settings: dict, as_json: bool) -> None:
    """Simulate and print quantiles of the counts."""
    import bcellsim as bc
    from bcellsim.simulate import described

    levels = _levels(settings)
    with _output(settings) as out:
        model = bc.load_model(settings["model"])
        plans = [bc.load_regimen(text) for text in settings["regimen"]]
        people = _population(model, settings)
        with _progress("subjects", settings["quiet"]) as progress:
            data = bc.simulate(
                model, plans, people, until=settings["until"], every=settings["every"],
                threads=settings["threads"], progress=progress,
            )  # fmt: skip
        summary = _summary(data)
        settings = {**settings, "seed": people.seed}
        if out:
            out.table("summary", summary, index=False)
            out.table("doses", _doses(plans, settings["until"]), index=False)
            data.to_netcdf(out.file("trajectories.nc"), engine="h5netcdf")
            out.figure("trajectories", bc.plot.trajectories(data, below=levels))
            out.record("simulate", settings, {"provenance": data.attrs}, [model.path])
    if as_json:
        rows = _records(summary)
        _print_json({**data.attrs, "n_subjects": len(people), "summary": rows})
        return
    shown = summary[summary["output"] == "bcell"].drop(columns=["output", "unit"])
    step = max(1, int(summary["time"].nunique() // 26))
    times = sorted(summary["time"].unique())[::step]
    print(f"{described(data.attrs)}, {_people(people)}; B cells [cells/uL]")
    print(_text(shown[shown["time"].isin(times)]))


def fit(settings: dict, as_json: bool) -> None:
    """Fit one subject and print the report."""
    import bcellsim as bc
    from bcellsim.simulate import provenance

    levels = _levels(settings)
    with _output(settings) as out:
        prior = {"model": "model", "none": None}
        if settings["prior"] not in prior:
            raise ValueError(f'--prior {settings["prior"]}: "model" or "none" is wanted')
        model = bc.load_model(settings["model"])
        observations = bc.read_observations(
            settings["data"], unit=settings["unit"], lloq=settings["lloq"],
            time_unit=settings["time_unit"], alc_unit=settings["alc_unit"],
            covariates=settings["covariate_rule"], skip=settings["skip"], model=model,
        )  # fmt: skip
        fitted = bc.fit_individual(
            model, observations, prior=prior[settings["prior"]],
            fixed=_pairs(settings["fix"], "--fix", bare=True),
            start=_pairs(settings["start"], "--start"), sigma=settings["sigma"],
            covariates=_numbers(settings["covariate"], ()), subject=settings["subject"],
        )  # fmt: skip
        if out:
            out.table("parameters", fitted.params)
            out.table("residuals", fitted.residuals, index=False)
            out.table("correlation", fitted.correlation)
            out.table("curves", fitted.curves, index=False)
            out.file("report.txt").write_text(fitted.report() + "\n", encoding="utf-8")
            out.figure("fit", bc.plot.fit(fitted, below=levels))
            out.record("fit", settings, {"provenance": provenance(model)},
                       [model.path, settings["data"]])  # fmt: skip
    if as_json:
        _print_json(fitted.to_json())
    else:
        print(fitted.report())


def explore(settings: dict, as_json: bool) -> None:
    """Compare schedules and print a row each."""
    import bcellsim as bc
    from bcellsim.simulate import described

    levels = _levels(settings)
    with _output(settings) as out:
        model = bc.load_model(settings["model"])
        plans = _plans(settings)
        people = _population(model, settings)
        with _progress("subjects", settings["quiet"]) as progress:
            table = bc.explore(
                model, plans, people, below=levels, until=settings["until"],
                induction=settings["induction"], recovery=settings["recovery"],
                follow_up=settings["follow_up"], threads=settings["threads"], progress=progress,
            )  # fmt: skip
        settings = {**settings, "seed": people.seed}
        if out:
            out.table("schedules", table, index=False)
            out.table("doses", _doses(plans, settings["until"]), index=False)
            if table["interval"].notna().any():
                out.figure("heatmap", bc.plot.heatmap(table))
            out.record("explore", settings, {"provenance": table.attrs}, [model.path])
    if as_json:
        about = {key: table.attrs[key] for key in ("model", "citation", "status", "until")}
        _print_json(_records(table.assign(seed=people.seed, **about)))
        return
    print(f"{described(table.attrs)}, {_people(people)}, until {settings['until']}")
    print(_text(_readable(table)))


def _levels(settings):
    """Return the thresholds, read before anything is computed."""
    from bcellsim.explore import thresholds

    return thresholds(settings["below"], "--below") if settings["below"] else []


def _plans(settings):
    import bcellsim as bc

    plans = [bc.load_regimen(text) for text in settings["regimen"] or ()]
    if bool(settings["dose"]) != bool(settings["every"]):
        raise ValueError("--dose and --every go together: they make the grid of schedules")
    if settings["dose"]:
        intervals = [part.strip() for part in settings["every"].split(",") if part.strip()]
        plans += bc.grid(dose=settings["dose"], every=intervals, loading=settings["loading"],
                         start=settings["start"])  # fmt: skip
    elif settings["loading"] or settings["start"]:
        raise ValueError("--loading and --start belong to a grid: give --dose and --every")
    if not plans:
        raise ValueError("give --dose and --every, or --regimen")
    return plans


def _population(model, settings):
    from bcellsim.population import sample_population, typical_subject

    if settings["subjects"] is None:
        return typical_subject(model, _numbers(settings["covariate"], ()))
    covariates = _numbers(settings["covariate"], ("study", "reference"))
    return sample_population(
        model, settings["subjects"], covariates=covariates or "reference", seed=settings["seed"]
    )


def _pairs(given, option, *, bare=False):
    """Return the name and value of each "name=value"; the value of a bare name is None."""
    pairs = {}
    for text in given or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not (value if equals else bare):
            raise ValueError(f'{option} {text}: "name=value" is wanted')
        if name in pairs:
            raise ValueError(f"{option} {text}: {name} is given twice")
        pairs[name] = value or None
    return pairs


def _numbers(given, words):
    """Return the covariates given: numbers, or one of the words."""
    numbers = {}
    for name, value in _pairs(given, "--covariate").items():
        try:
            numbers[name] = value if value in words else float(value)
        except ValueError:
            raise ValueError(f"--covariate {name}={value}: a number is wanted") from None
    return numbers


@contextlib.contextmanager
def _output(settings):
    """Yield the output directory asked for, or None."""
    if settings["out"] is None:
        yield None
        return
    from bcellsim.cli.output import OutputDirectory

    os.environ["MPLBACKEND"] = "Agg"  # figures go to files, whatever screen there is
    inputs = [settings[key] for key in ("model", "data") if key in settings]
    with OutputDirectory(settings["out"], overwrite=settings["overwrite"], inputs=inputs) as out:
        yield out
    print(f"wrote {settings['out']}", file=sys.stderr)


@contextlib.contextmanager
def _progress(what, quiet):
    """Yield a callable(done, total) that draws a bar on a terminal, and nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _summary(data):
    """Return quantiles over subjects: a row for each regimen, output and time."""
    import pandas as pd

    rows = []
    for regimen in data.regimen.values:
        for name in (n for n in data.data_vars if "time" in data[n].dims):
            values = data[name].sel(regimen=regimen)
            if values.sizes["subject"] > 1:
                quantiles = values.quantile(list(_QUANTILES), dim="subject").values
                columns = {f"p{round(100 * q)}": v for q, v in
                           zip(_QUANTILES, quantiles, strict=True)}  # fmt: skip
            else:
                columns = {"value": values.values[0]}
            rows.append(
                pd.DataFrame({"regimen": regimen, "output": name,
                              "unit": values.attrs["unit"], "time": data.time.values,
                              **columns})
            )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def _doses(plans, until):
    import pandas as pd

    return pd.concat([plan.table(until).assign(regimen=plan.name) for plan in plans])


def _readable(table):
    """Return the columns of a comparison that fit a terminal, as people read them."""
    import pandas as pd

    share = [
        f"{100 * s:.1f} ± {100 * e:.1f}"
        for s, e in zip(
            table["suppressed_throughout"], table["suppressed_throughout_mc_se"], strict=True
        )
    ]
    return pd.DataFrame(
        {
            "regimen": table["regimen"],
            "threshold": table["threshold"],
            "throughout [%]": share,
            "time at or below [%]": 100 * table["suppressed_fraction_mean"],
            "days above, median": table["days_above_median"],
            "p95": table["days_above_p95"],
            "repletion [d], median": table["time_to_repletion_median"],
            "reached [%]": 100 * table["time_to_repletion_reached_share"],
            "doses": table["n_doses"],
            "total [mg]": table["cumulative_dose"],
        }
    )


def _people(people):
    seed = f", seed {people.seed}" if people.seed is not None else ""
    return f"{len(people)} virtual patients{seed}" if len(people) > 1 else "typical subject"


def _text(table):
    table = table.replace({math.inf: "not reached"}) if len(table) else table
    return table.to_string(index=False, float_format=lambda x: f"{x:.4g}", na_rep="-")


def _records(table):
    """Return rows as plain data: not reached and not defined are None."""
    return [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def _plain(value):
    if hasattr(value, "item"):
        value = value.item()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return None if str(value) == "<NA>" else value


def _print_json(data):
    print(json_module.dumps(data, indent=2, default=str, allow_nan=False))
