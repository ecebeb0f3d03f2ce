"""What `explore --out` shows: the figures of a comparison or a search, and the page that has all.

Schedules are drawn one by one for a few of them only: the reference, the rules, and those that no
other beats. Tables have all.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_MOST = 6  # schedules drawn one by one
_MOST_DRIVEN = 4
_MOST_DRAWN = 1_000  # subjects whose courses are simulated for a figure
_POINTS = 250  # of a course
_FEWEST = 10  # subjects whose parameters are ranked
_LEAST_REACHED = 0.1  # share of subjects that reach repletion under a schedule that is ranked


class Shown(NamedTuple):
    """A figure, made when asked for, and what it shows."""

    name: str
    draw: Callable
    caption: str


def of_search(table: pd.DataFrame) -> list[Shown]:
    """Return the figure of a search: the curve from which its answer was read."""
    from bcellsim import plot

    caption = (
        "Share of patients suppressed throughout for every candidate, with the answer and its "
        "neighbours; bars are 95 % intervals of the Monte-Carlo error."
    )
    return [Shown("search", lambda: plot.search(table), caption)]


def of_comparison(settings: dict, table, runs, frames) -> list[Shown]:
    """Return the figures of a comparison."""
    from bcellsim import plot
    from bcellsim.explore import common_cost
    from bcellsim.plot.style import everybody

    few = chosen(settings, table, runs)
    some = table[_rows_of(table, few)]
    some.attrs = table.attrs
    found = []
    of_grid = everybody(table)[everybody(table)["interval"].notna()]
    if len(of_grid) and len({run.model.name for run in runs}) == 1:
        found.append(Shown("heatmap", lambda: plot.heatmap(of_grid), _HEATMAP))
    found.append(Shown("counts", lambda: _counts(settings, few), _COUNTS + _of(few, runs)))
    if len(runs) > 1:
        cost = common_cost(table)
        found.append(Shown("pareto", lambda: plot.pareto(table, cost=cost), _PARETO))
    each = _per_subject(settings, few)
    found.append(Shown("survival_curves", lambda: _survival(each), _SURVIVAL + _of(few, runs)))
    found += _swimmers(runs, frames)
    if "group" in table:
        found.append(Shown("forest", lambda: plot.forest(some), _FOREST + _of(few, runs)))
    ranked = _drivers(each, few[0].people)
    if ranked is not None:
        drawn = f" {ranked['regimen'].nunique()} of {len(runs)} schedules are drawn: "
        found.append(Shown("drivers", lambda: plot.tornado(ranked), _DRIVERS + drawn + _REACHED))
    return found


_HEATMAP = "Share of patients suppressed throughout, by interval and dose."
_COUNTS = "Counts under each schedule: median, 50 and 90 % bands of patients, and doses."
_PARETO = (
    "Drug or doses against the share suppressed throughout: the schedules that no other beats "
    "are joined; bars are 95 % intervals of the Monte-Carlo error."
)
_SURVIVAL = (
    "Kaplan-Meier curves of remaining suppressed since the window opened, and of the time from "
    "the last dose to the recovery level; bands (of up to four schedules) are 95 % intervals, "
    "+ marks censoring."
)
_FOREST = "Subgroups: share suppressed throughout, with 95 % intervals of the Monte-Carlo error."
_DRIVERS = (
    "Which parameters and covariates go with a longer time to repletion: Spearman's rank "
    "correlation over the patients, at the lowest threshold; hatched where the interval holds 0."
)
_REACHED = (
    f"up to {_MOST_DRIVEN} under which {_LEAST_REACHED:.0%} of the patients or more reach it."
)
_SWIMMER = "Visits and doses of patients under {}: a line a patient, sorted by number of doses."


def _of(few, runs):
    return f" {len(few)} of {len(runs)} schedules are drawn." if len(few) < len(runs) else ""


def chosen(settings: dict, table, runs) -> list:
    """Return the schedules drawn one by one: reference, rules, front, then others; in order."""
    from bcellsim.explore import common_cost, pareto
    from bcellsim.plot.style import everybody
    from bcellsim.rule import DosingRule

    rows = everybody(table)
    rows = rows[rows["threshold"] == rows["threshold"].iloc[0]]
    rows = rows.reset_index(drop=True)  # a row a run, in their order
    front = pareto(rows, cost=common_cost(rows))

    def rank(i):
        run = runs[i]
        first = run.plan.name == settings["reference"] or isinstance(run.plan, DosingRule)
        return (not first, not front["pareto"][i], -front["suppressed_throughout"][i])

    return [runs[i] for i in sorted(sorted(range(len(runs)), key=rank)[:_MOST])]


def _rows_of(table, few):
    names = {(run.model.name, run.plan.name) for run in few}
    models = table["model"] if "model" in table else [few[0].model.name] * len(table)
    return [pair in names for pair in zip(models, table["regimen"], strict=True)]


def _counts(settings, few):
    """Simulate the courses of some schedules, and draw them."""
    import bcellsim as bc
    from bcellsim.rule import DosingRule
    from bcellsim.units import days

    until = days(settings["until"], "until")
    options = {
        "until": until, "every": float(max(1, round(until / _POINTS))),
        "threads": settings["threads"],
    }  # fmt: skip
    courses = []
    for run in few:
        people = run.people.part(slice(0, _MOST_DRAWN))
        simulate = bc.simulate_rule if isinstance(run.plan, DosingRule) else bc.simulate
        seed = {"seed": run.seed} if simulate is bc.simulate_rule else {}
        courses.append(simulate(run.model, run.plan, people, **options, **seed))
    return bc.plot.ribbons(courses, below=settings["below"], output="bcell")


def _per_subject(settings, few):
    """Return the outcomes of every subject under some schedules."""
    import pandas as pd

    import bcellsim as bc

    tables = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said by the comparison of all
        for run in few:
            each = bc.explore(
                run.model, run.plan, run.people, below=settings["below"], until=settings["until"],
                induction=settings["induction"], recovery=settings["recovery"],
                follow_up=settings["follow_up"], seed=run.seed, per_subject=True,
                threads=settings["threads"],
            )  # fmt: skip
            tables.append(each.assign(model=run.model.name))
    found = pd.concat(tables, ignore_index=True)
    found.attrs = tables[0].attrs
    if len(set(found["model"])) > 1:
        facts = [table.attrs for table in tables]
        for key in ("model", "citation", "status"):
            found.attrs[key] = "; ".join(dict.fromkeys(str(fact[key]) for fact in facts))
    return found


def _survival(each):
    import pandas as pd

    import bcellsim as bc
    from bcellsim.cli.explorer import EVENTS

    curves = pd.concat([bc.survival(each, event) for event in EVENTS])
    curves.attrs = each.attrs
    return bc.plot.survival(curves)


def _swimmers(runs, frames):
    """Return a figure for each rule."""
    from bcellsim import plot
    from bcellsim.rule import DosingRule

    found = []
    for run in (run for run in runs if isinstance(run.plan, DosingRule)):
        parts = [
            frame[(frame["regimen"] == run.plan.name) & (frame["model"] == run.model.name)]
            for frame in (frames["decisions"], frames["ledger"])
        ]
        name = f"swimmer_{len(found) + 1}"
        title = f"{run.plan.name}; {run.model.name}"
        found.append(
            Shown(name, lambda parts=parts, title=title: plot.swimmer(*parts, title=title),
                  _SWIMMER.format(run.plan.name))
        )  # fmt: skip
    return found


def _drivers(each, people):
    """Return the drivers of the time to repletion; None where none can be ranked."""
    import bcellsim as bc

    if len(set(each["model"])) > 1 or len(people) < _FEWEST:
        return None
    if not np.ptp(people.parameters, axis=0).any():
        return None
    rows = each[each["threshold"] == each["threshold"].min()]
    rows.attrs = each.attrs
    found = bc.drivers(rows, people)
    ranked = found[found["rank_correlation"].notna() & (found["reached_share"] >= _LEAST_REACHED)]
    ranked = ranked[ranked["regimen"].isin(ranked["regimen"].unique()[:_MOST_DRIVEN])]
    ranked.attrs = found.attrs
    return ranked if len(ranked) else None


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """Yield a list that gets the warnings shown meanwhile, which are shown all the same."""
    notes, show = [], warnings.showwarning

    def note(message, *about, **more):
        notes.append(" ".join(str(message).split()))
        show(message, *about, **more)

    warnings.showwarning = note
    try:
        yield notes
    finally:
        warnings.showwarning = show


def write(out, settings: dict, table, models, pictures: Sequence[Shown], inputs, notes) -> None:
    """Write the figures, each with the table of what it draws, the page, and `run.json`."""
    from bcellsim import plot, report

    embedded = []
    for shown in pictures:
        figure = shown.draw()
        data = f"{shown.name}_data"
        out.table(data, plot.data(figure), index=False)
        out.figure(shown.name, figure)
        svg = (out.folder / f"{shown.name}.svg").read_bytes()
        embedded.append(report.Picture(svg, shown.caption, f"{data}.csv"))
    files = [path for model in models for path in model.files()] + list(inputs)
    if report.available():
        text = _page(settings, table, models, embedded, files, notes)
        out.file("report.html").write_text(text, encoding="utf-8")
    else:
        print(report.MISSING, file=sys.stderr)
    out.record("explore", settings, {"provenance": table.attrs}, files)


def _page(settings, table, models, embedded, files, notes):
    """Return the page of a comparison or a search."""
    from bcellsim import report
    from bcellsim.cli.explorer import readable, trade_off
    from bcellsim.cli.output import reproduction
    from bcellsim.report import words

    facts = reproduction(files)
    seed = {"seed": str(settings["seed"])}
    tables = {
        "Schedules and their outcomes": readable(table).rename(columns={"p95": "days above, p95"})
    }
    if "probability" not in table.attrs:
        tables["Trade-off: drug against suppression"] = trade_off(table)
    return report.page(
        title=f"Dosing schedules of {', '.join(model.drug.name for model in models)}",
        question=words.question(table), answer=words.answer(table),
        settings=words.rests_on(table, settings), tables=tables, pictures=embedded,
        models=models, limits=words.limits(table, models, notes),
        reproduction={"Seed": seed, "Versions": facts["versions"], "Inputs (SHA-256)": {
            name: value.removeprefix("sha256:") for name, value in facts["inputs"].items()}},
        command=shlex.join(["bcellsim", *sys.argv[1:]]),
    )  # fmt: skip
