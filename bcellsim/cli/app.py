"""The verbs of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcellsim.cli import data, verbs
from bcellsim.cli import fitting as of

app = typer.Typer(
    help="Predict B-cell depletion and return under anti-CD20 antibodies. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Write tables, figures and run.json to this directory.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an output directory of an earlier run.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed; drawn and recorded if not given.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads; results do not depend on it.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
Subjects = Annotated[
    int | None, typer.Option("--subjects", min=1, help="Number of virtual patients.")
]
Patients = Annotated[
    Path | None,
    typer.Option(
        "--patients", help="CSV table of covariates, a row a patient, instead of --subjects."
    ),
]
Covariates = Annotated[
    list[str] | None,
    typer.Option(
        "--covariate",
        help='A covariate, as in "WT=82" or "BSA=study"; repeatable. "study" samples them all.',
    ),
]
Structures = Annotated[
    list[Path] | None,
    typer.Option(
        "--structure", help="Python file with a structure of your own, which a .toml file names."
    ),
]
ModelName = Annotated[str, typer.Option("--model", help="A name of `models`, or a .toml file.")]
Unit = Annotated[str, typer.Option("--unit", help="Unit of the counts of a data file.")]
Lloq = Annotated[
    str | None, typer.Option("--lloq", help='Lower limit of quantification, as in "5" or "0.1 %".')
]
TimeUnit = Annotated[str, typer.Option("--time-unit", help="Unit of TIME, II and DUR.")]
Skip = Annotated[
    str | None, typer.Option("--skip", help="Column that marks the rows to leave out.")
]
AlcUnit = Annotated[str, typer.Option("--alc-unit", help="Unit of ALC, the lymphocyte count.")]
Drawn = Annotated[list[str] | None, typer.Option("--below", help="Threshold to draw; repeatable.")]
Below = Annotated[
    list[str], typer.Option("--below", help="Threshold of the count [cells/uL]; repeatable.")
]

Loading = Annotated[str | None, typer.Option("--loading", help="Loading doses as a shorthand.")]
Start = Annotated[str | None, typer.Option("--start", help="Time of the first maintenance dose.")]


def _version(value: bool):
    if value:
        typer.echo(verbs.installed_version())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
):
    pass


@app.command()
def models(json: Json = False):
    """List the published models."""
    verbs.models(json)


@app.command()
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A model, regimen, drug or structure by name, a .toml file, or doses; "
            "without it all are listed."
        ),
    ] = None,
    structure: Structures = None,
    json: Json = False,
):
    """Print a model card, the doses of a regimen, a drug, the equations of a structure."""
    verbs.show(name, structure, json)


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(help="A model, a .toml or a .csv file.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Check the whole library.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="Model whose states a .csv file numbers.")
    ] = None,
    unit: Unit = "cells/uL",
    lloq: Lloq = None,
    time_unit: TimeUnit = "d",
    alc_unit: AlcUnit = "10^9/L",
    skip: Skip = None,
    events: Annotated[
        bool, typer.Option("--events", help="List every dose of a .csv file as --model takes it.")
    ] = False,
    structure: Structures = None,
    json: Json = False,
    quiet: Quiet = False,
):
    """Check a model (units, equations, variability, published results) or a data file."""
    if name and name.lower().endswith(".csv"):
        reading = {"unit": unit, "lloq": lloq, "time_unit": time_unit, "alc_unit": alc_unit,
                   "skip": skip}  # fmt: skip
        if events:
            data.events(name, model, reading, json)
        else:
            data.check(name, model, reading, json)
    else:
        verbs.check(name, every, structure, json, quiet)


@app.command()
def simulate(
    model: Annotated[str, typer.Argument(help="A name of `models`, or a .toml file.")],
    regimen: Annotated[
        list[str],
        typer.Option("--regimen", help="A named regimen, or doses as a shorthand; repeatable."),
    ],
    until: Annotated[str, typer.Option("--until", help='End, as in "2y".')],
    subjects: Subjects = None,
    patients: Patients = None,
    every: Annotated[str, typer.Option("--every", help="Spacing of the output.")] = "1 d",
    covariate: Covariates = None,
    structure: Structures = None,
    below: Drawn = None,
    seed: Seed = None,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Simulate counts under one or several regimens, for a typical subject or a population."""
    settings = {key: value for key, value in locals().items() if key != "json"}
    verbs.simulate(settings, json)


@app.command()
def fit(
    file: Annotated[Path, typer.Argument(metavar="DATA", help="CSV table of doses and counts.")],
    model: ModelName,
    prior: of.Prior = "model",
    fix: of.Fix = None,
    start: of.Start = None,
    bound: of.Bound = None,
    tie: of.Tie = None,
    error: of.Error = None,
    sigma: of.Sigma = None,
    volume: of.Volume = None,
    censored: of.Censored = "M3",
    starts: of.Starts = 8,
    draws: of.Draws = None,
    method: of.Method = "importance",
    profile: of.Profile = None,
    covariate: Covariates = None,
    structure: Structures = None,
    subject: of.Subject = None,
    lloq: Lloq = None,
    unit: Unit = "cells/uL",
    time_unit: TimeUnit = "d",
    alc_unit: AlcUnit = "10^9/L",
    skip: Skip = None,
    covariate_rule: of.CovariateRule = "locf",
    below: Drawn = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the starts of the search, and of the draws.")
    ] = 0,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
):
    """Fit a model to the observed counts of one patient."""
    settings = {key: value for key, value in locals().items() if key not in ("file", "json")}
    settings = {"data": file, **settings}
    verbs.fit(settings, json)


@app.command()
def redose(
    model: ModelName,
    dose: Annotated[str, typer.Option("--dose", help='The dose to give again: "20 mg sc".')],
    below: Annotated[str, typer.Option("--below", help="Threshold of the count [cells/uL].")],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="CSV table of doses and counts; without it the first dose of a patient with "
            "these covariates.",
        ),
    ] = None,
    probability: Annotated[
        float, typer.Option("--probability", help="Wanted probability of a count below it.")
    ] = 0.9,
    until: Annotated[str, typer.Option("--until", help="Horizon, from now.")] = "1 y",
    now: Annotated[
        str | None,
        typer.Option("--now", help="The present: a day, or a date in data with dates."),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Number of draws.")] = 1000,
    induction: Annotated[
        str, typer.Option("--induction", help="Time a dose has to act on a count above it.")
    ] = "28 d",
    label: Annotated[
        str | None, typer.Option("--label", help="Labelled regimen to compare with.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--first", help="First course, where no DATA are given.")
    ] = None,
    disease: Annotated[
        str | None, typer.Option("--disease", help="The patient's, to compare with the model's.")
    ] = None,
    method: of.Method = "importance",
    prior: of.Prior = "model",
    fix: of.Fix = None,
    start: of.Start = None,
    bound: of.Bound = None,
    tie: of.Tie = None,
    error: of.Error = None,
    sigma: of.Sigma = None,
    volume: of.Volume = None,
    censored: of.Censored = "M3",
    starts: of.Starts = 8,
    covariate: Covariates = None,
    structure: Structures = None,
    subject: of.Subject = None,
    lloq: Lloq = None,
    unit: Unit = "cells/uL",
    time_unit: TimeUnit = "d",
    alc_unit: AlcUnit = "10^9/L",
    skip: Skip = None,
    covariate_rule: of.CovariateRule = "locf",
    seed: Seed = None,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
    threads: Threads = None,
):
    """Advise when to dose a patient again. Research use; not medical advice."""
    settings = {key: value for key, value in locals().items() if key not in ("file", "json")}
    settings = {"data": file, **settings}
    verbs.redose(settings, json)


@app.command()
def explore(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            help="A name of `models`, or a .toml file; repeatable, for several drugs.",
        ),
    ],
    below: Below,
    until: Annotated[str, typer.Option("--until", help='Horizon, as in "2y".')],
    subjects: Subjects = None,
    patients: Patients = None,
    dose: Annotated[
        list[str] | None,
        typer.Option("--dose", help='A maintenance dose, as in "20 mg sc"; repeatable.'),
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", help="Intervals, as in 4w,8w,12w.")
    ] = None,
    loading: Loading = None,
    start: Start = None,
    regimen: Annotated[
        list[str] | None, typer.Option("--regimen", help="A regimen to compare; repeatable.")
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help='Count-guided doses, as in "dose=20 mg sc; visit_every=4 w; at_or_above=10; '
            'lloq=1"; repeatable.',
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="Give differences from this regimen.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help='Group by quartiles or cuts: "WT", "WT=60,80"; repeatable.'),
    ] = None,
    find: Annotated[
        str | None,
        typer.Option("--find", help="longest_interval, smallest_dose or fewest_doses."),
    ] = None,
    probability: Annotated[
        float | None, typer.Option("--probability", help="Wanted share, for --find.")
    ] = None,
    mc_error: Annotated[
        float, typer.Option("--mc-error", help="Wanted Monte-Carlo error of it, for --find.")
    ] = 0.02,
    survival: Annotated[
        bool, typer.Option("--survival", help="Also write Kaplan-Meier tables to --out.")
    ] = False,
    induction: Annotated[
        str, typer.Option("--induction", help="The window opens this long after the first dose.")
    ] = "28 d",
    recovery: Annotated[
        str | None, typer.Option("--recovery", help="Level of the time to repletion.")
    ] = None,
    follow_up: Annotated[
        str, typer.Option("--follow-up", help="Time simulated on without doses.")
    ] = "0 d",
    covariate: Covariates = None,
    structure: Structures = None,
    seed: Seed = None,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Compare dosing schedules on the same virtual patients."""
    settings = {key: value for key, value in locals().items() if key != "json"}
    if subjects is None and patients is None and find is None:
        raise typer.BadParameter("give --subjects or --patients; only --find can choose the number")
    verbs.explore(settings, json)


@app.command()
def sweep(
    design: Annotated[Path, typer.Argument(help="Design file (.toml).")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Directory to write; one that was begun is finished."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", help='Dask scheduler, as in "tcp://10.0.0.1:8786".'),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many scenarios, time, memory and disk.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Compute more than 10,000,000 scenarios.")
    ] = False,
    json: Json = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Compute every scenario of a design, in chunks; the same command goes on after a stop."""
    settings = dict(locals())
    if out is None and not dry_run:
        raise typer.BadParameter("give --out DIR, or --dry-run")
    verbs.sweep(settings)
