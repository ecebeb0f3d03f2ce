"""What each verb of the command line does: call the package, print, and write the results."""

from __future__ import annotations

import contextlib
import functools
import itertools
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
    from bcellsim.cli.cards import aligned

    table = bc.list_models()
    if as_json:
        _print_json(_records(table))
    else:
        print(aligned(table))


def show(name: str | None, structures, as_json: bool) -> None:
    """Print the card of a model, regimen, drug or structure; without a name list them all."""
    from bcellsim.cli.cards import aligned, card, listing

    _register(structures)
    if name is None:
        tables = listing()
        if as_json:
            _print_json({kind: _records(table) for kind, table in tables.items()})
        else:
            print("\n\n".join(f"{kind}\n{aligned(table)}" for kind, table in tables.items()))
        return
    text, facts = card(name)
    if as_json:
        _print_json({key: _jsonable(value) for key, value in facts.items()})
    else:
        print(text)


def check(name: str | None, every: bool, structures, as_json: bool, quiet: bool) -> None:
    """Check one model or all; exit 1 when a check fails or a status is not true."""
    import bcellsim as bc
    from bcellsim.cli.checks import failures, report, untrue

    _register(structures)
    if (name is None) == (not every):
        raise ValueError("give a model, or --all")
    with _progress("checks", quiet) as progress:
        table = bc.check_library(progress=progress) if every else bc.check_model(
            name, progress=progress)  # fmt: skip
    if as_json:
        rows = _records(table)
        _print_json(rows if every else {**table.attrs, "checks": rows})
    else:
        print(report(table))
    wrong = untrue(table)
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    if wrong or failures(table):
        sys.exit(1)


def simulate(settings: dict, as_json: bool) -> None:
    """Simulate and print quantiles of the counts."""
    import bcellsim as bc
    from bcellsim.cli.people import dose_lines, dose_table
    from bcellsim.simulate import described

    levels = _levels(settings)
    with _output(settings) as out:
        model = bc.load_model(settings["model"])
        if levels:  # of the count
            model.require_output("bcell")
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
            out.table("doses", dose_table(plans, settings["until"], people), index=False)
            data.to_netcdf(out.file("trajectories.nc"), engine="h5netcdf")
            out.figure("trajectories", bc.plot.trajectories(data, below=levels))
            facts = {"provenance": data.attrs}
            out.record("simulate", settings, facts, model.files() + _files(settings))
    if as_json:
        rows = _records(summary)
        _print_json({**data.attrs, "n_subjects": len(people), "summary": rows})
        return
    followed = "bcell" if "bcell" in data else str(summary["output"].iloc[0])
    shown = summary[summary["output"] == followed].drop(columns=["output", "unit"])
    step = max(1, int(summary["time"].nunique() // 26))
    times = sorted(summary["time"].unique())[::step]
    about = data[followed].attrs
    print(f"{described(data.attrs)}, {_people(people)}; {about['long_name']} [{about['unit']}]")
    _print_lines(dose_lines(plans, settings["until"], people))
    print(_text(shown[shown["time"].isin(times)]))


def fit(settings: dict, as_json: bool) -> None:
    """Fit one subject and print the report."""
    from bcellsim.cli import patient
    from bcellsim.simulate import provenance

    levels = _levels(settings)
    with _output(settings) as out:
        fitted = patient.fitted(settings)
        profiles = patient.shown(settings, fitted)
        draws = None
        if settings["draws"]:
            draws = fitted.draws(settings["draws"], settings["seed"], settings["method"])
        text = "\n".join([fitted.report(), *patient.further_lines(profiles, draws)])
        if out:
            for name, table in patient.tables(fitted, profiles, draws).items():
                out.table(name, table, index=name in ("parameters", "correlation"))
            out.file("report.txt").write_text(text + "\n", encoding="utf-8")
            for name, figure in patient.figures(fitted, profiles, draws, levels).items():
                out.figure(name, figure)
            facts = {"provenance": provenance(fitted.model)}
            out.record("fit", settings, facts, fitted.model.files() + _files(settings))
    if as_json:
        _print_json({**fitted.to_json(), **patient.as_json(profiles, draws)})
    else:
        print(text)


def redose(settings: dict, as_json: bool) -> None:
    """Advise when to dose again, from a patient's counts or from covariates alone."""
    import bcellsim as bc
    from bcellsim.cli import patient
    from bcellsim.simulate import provenance

    with _output(settings) as out:
        advice = patient.advised(settings)
        if out:
            for name, table in advice.tables().items():
                out.table(name, table, index=False)
            out.file("report.txt").write_text(advice.report() + "\n", encoding="utf-8")
            out.figure("redose", bc.plot.redose(advice))
            model = advice.case.model
            facts = {"provenance": provenance(model), "seed": advice.case.seed}
            out.record("redose", settings, facts, model.files() + _files(settings))
    if as_json:
        _print_json(advice.to_json())
    else:
        print(advice.report())


def explore(settings: dict, as_json: bool) -> None:
    """Compare schedules, or search for one, and print a row each."""
    from bcellsim.cli import explorer
    from bcellsim.simulate import described

    _levels(settings)
    settings["model"] = settings["model"][0] if len(settings["model"]) == 1 else settings["model"]
    with _output(settings) as out:
        table, lines = (_found if settings["find"] else _compared)(settings, out)
    facts = table.attrs
    if as_json:
        keys = ("model", "citation", "status", "until", "body_surface")
        about = {key: facts[key] for key in keys if key in facts}
        rows = _records(table.assign(seed=settings["seed"], **about))
        answer = {key: facts.get(key) for key in ("answer", "value", "share", "mc_se")}
        _print_json({**answer, "candidates": rows} if settings["find"] else rows)
        return
    n = table["n_subjects"].max()
    print(f"{described(facts)}, {n} virtual patients, seed {settings['seed']}, "
          f"until {settings['until']}")  # fmt: skip
    _print_lines(lines)
    print(_text(explorer.readable(table)))
    if settings["find"]:
        print(facts["answer"])


def sweep(settings: dict) -> None:
    """Run or plan a sweep."""
    from bcellsim.cli import sweeps

    sweeps.sweep(settings, _print_json)


def _found(settings, out):
    """Run the search asked for, and write its curve."""
    import bcellsim as bc
    from bcellsim.cli import explorer, gallery

    if not isinstance(settings["model"], str):
        raise ValueError("--find takes one --model")
    model = bc.load_model(settings["model"])
    given = settings["subjects"] or settings["patients"]
    people = _population(model, settings) if given else None
    with gallery.noted() as notes:
        table = explorer.search(settings, model, people)
    settings["seed"] = table.attrs.get("seed")
    if out:
        out.table("candidates", table, index=False)
        pictures = gallery.of_search(table)
        gallery.write(out, settings, table, [model], pictures, _files(settings), notes)
    return table, []


def _compared(settings, out):
    """Compare the schedules asked for, and write the tables."""
    import bcellsim as bc
    from bcellsim.cli import explorer, gallery
    from bcellsim.cli.people import dose_lines
    from bcellsim.draws import check_seed
    from bcellsim.explore.compare import read_runs

    if settings["probability"] is not None:
        raise ValueError("--probability belongs to --find")
    if settings["survival"] and not settings["out"]:
        raise ValueError("--survival writes tables to --out: give a directory")
    given = settings["model"]
    models = [bc.load_model(name) for name in ([given] if isinstance(given, str) else given)]
    plans = explorer.plans(settings)
    settings["seed"] = check_seed(settings["seed"])
    people = {model.name: _population(model, settings) for model in models}
    ask = functools.partial(
        bc.explore, models, plans, people, below=settings["below"], until=settings["until"],
        induction=settings["induction"], recovery=settings["recovery"],
        follow_up=settings["follow_up"], by=explorer.by(settings), seed=settings["seed"],
        threads=settings["threads"],
    )  # fmt: skip
    with gallery.noted() as notes, _progress("subjects", settings["quiet"]) as progress:
        table = ask(reference=settings["reference"], progress=progress)
    runs = read_runs(models, plans, people, settings["seed"])
    if out:
        frames = explorer.tables(settings, table, runs, ask)
        for name, frame in frames.items():
            out.table(name, frame, index=False)
        pictures = gallery.of_comparison(settings, table, runs, frames)
        gallery.write(out, settings, table, models, pictures, _files(settings), notes)
    groups = {}
    for run in runs:
        if isinstance(run.plan, bc.Regimen):
            groups.setdefault(run.model.name, (run.people, []))[1].append(run.plan)
    lines = [dose_lines(some, settings["until"], them) for them, some in groups.values()]
    return table, list(dict.fromkeys(itertools.chain.from_iterable(lines)))


def _print_lines(lines):
    for line in lines:
        print(line)


def _files(settings):
    """Return the files, beside that of the model, that a run reads."""
    named = [settings[key] for key in ("data", "patients") if settings.get(key)]
    return [*named, *(settings["structure"] or ())]


def _levels(settings):
    """Return the thresholds, read before anything is computed."""
    from bcellsim.explore import thresholds

    return thresholds(settings["below"], "--below") if settings["below"] else []


def _population(model, settings):
    from bcellsim.cli.people import numbers, population

    given = settings["covariate"]
    sampled = settings["subjects"] or settings["patients"]
    words = ("study", "reference") if sampled else ()
    covariates = "study" if given == ["study"] else numbers(given, words)
    return population(
        model, settings["subjects"], settings["patients"], covariates, settings["seed"]
    )


def _register(structures):
    """Make the structures of the user's own files known."""
    from bcellsim.scripts import load_structures

    for path in structures or ():
        load_structures(path)


@contextlib.contextmanager
def _output(settings):
    """Yield the output directory asked for, or None."""
    _register(settings["structure"])
    if settings["out"] is None:
        yield None
        return
    from bcellsim.cli.output import OutputDirectory

    os.environ["MPLBACKEND"] = "Agg"  # figures go to files, whatever screen there is
    named = settings["model"]
    inputs = [*([named] if isinstance(named, str) else named), *_files(settings)]
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


def _people(people):
    if people.seed is None:
        return "typical subject"
    return f"{len(people)} virtual patient{'s' * (len(people) > 1)}, seed {people.seed}"


def _text(table):
    table = table.replace({math.inf: "not reached"}) if len(table) else table
    return table.to_string(index=False, float_format=lambda x: f"{x:.4g}", na_rep="-")


def _records(table):
    """Return rows as plain data: not reached and not defined are None."""
    return [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def _jsonable(value):
    """Return a table as rows, a mapping with what is not known as None, or the value itself."""
    if hasattr(value, "columns"):
        return _records(value)
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _plain(value):
    if hasattr(value, "item"):
        value = value.item()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return None if str(value) == "<NA>" else value


def _print_json(data):
    print(json_module.dumps(data, indent=2, default=str, allow_nan=False))
