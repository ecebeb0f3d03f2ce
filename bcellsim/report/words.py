"""What the page of a comparison says in words: the question, the answer in two, the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bcellsim.event import format_number, format_time
from bcellsim.explore import common_cost, pareto
from bcellsim.plot.style import everybody

if TYPE_CHECKING:
    import pandas as pd

    from bcellsim.model import Model


def question(table: pd.DataFrame) -> str:
    """Return the question of a comparison or a search in a sentence."""
    rows = everybody(table)
    levels = " or ".join(format_number(level) for level in rows["threshold"].unique())
    n, subjects = rows["regimen"].nunique(), int(rows["n_subjects"].max())
    window = (
        f"at or below {levels} cells/uL from {format_time(rows['induction'].iloc[0])} after the "
        f"first dose to {format_time(table.attrs['until'])}"
    )
    names = table.attrs["model"].split("; ")
    each = " each" if len(names) > 1 else ""
    who = f"{subjects:,} virtual patients{each} of {' and '.join(names)}"
    if "probability" in table.attrs:
        asked = {"interval": "What is the longest interval", "amount": "What is the smallest dose",
                 "n_doses": "How few doses are there"}[table.attrs["what"]]  # fmt: skip
        share = f"{100 * table.attrs['probability']:g} %"
        return f"{asked} that keeps the counts of {share} {window}, in {who}?"
    if n == 1:
        return f"In how many of {who} does {rows['regimen'].iloc[0]} keep the count {window}?"
    return f"Which of {n} schedules keeps the count {window}, in {who}?"


def answer(table: pd.DataFrame) -> list[str]:
    """Return the answer of a comparison or a search in two sentences."""
    if "probability" in table.attrs:
        n = len(table)
        said = table.attrs["answer"]
        return [
            said[0].upper() + said[1:] + ".",
            f"It is one of {n} candidates, all simulated on the same patients; ± is the "
            "Monte-Carlo standard error.",
        ]
    rows = everybody(table)
    cost = common_cost(rows)
    marked = pareto(rows, cost=cost)
    return [_best(marked, cost), _cheapest(marked, cost)]


def _best(marked, cost):
    parts = {}
    for level, rows in marked.groupby("threshold", sort=False):
        best = rows.sort_values(["suppressed_throughout", cost], ascending=[False, True]).iloc[0]
        under = f"{best['regimen']} ({_spent(best)})"
        parts.setdefault(under, []).append(
            f"{_share(best)} at or below {format_number(level)} cells/uL"
        )
    said = "; ".join(f"under {under}, {', '.join(shares)}" for under, shares in parts.items())
    if len(set(marked["regimen"])) == 1:
        return f"So many patients stay suppressed throughout {said}."
    return f"The largest share of patients stays suppressed throughout {said}."


def _cheapest(marked, cost):
    first = marked[marked["threshold"] == marked["threshold"].iloc[0]]
    level = format_number(first["threshold"].iloc[0])
    if len(first) == 1:
        only = first.iloc[0]
        return f"The count is at or below {level} cells/uL during {_time(only)} (mean)."
    least = first.sort_values([cost, "suppressed_throughout"], ascending=[True, False]).iloc[0]
    beaten = int((~first["pareto"]).sum())
    said = {0: "none is", 1: "1 is"}.get(beaten, f"{beaten} are")
    what = "doses" if cost == "n_doses" else "drug"
    return (
        f"The least is given under {least['regimen']} ({_spent(least)}), which keeps "
        f"{_share(least)} at or below {level} cells/uL throughout and {_time(least)} (mean); of "
        f"the {len(first)} schedules {said} beaten by another that needs no more {what} and keeps "
        "no fewer suppressed."
    )


def _share(row):
    share, error = row["suppressed_throughout"], row["suppressed_throughout_mc_se"]
    return f"{100 * share:.1f} ± {100 * error:.1f} %"


def _time(row):
    return f"{100 * row['suppressed_fraction_mean']:.0f} % of the time"


def _spent(row):
    doses = f"{row['n_doses']:.3g} doses"
    amount = row["cumulative_dose"]
    return doses if amount != amount else f"{doses}, {amount:.4g} mg"


def rests_on(table: pd.DataFrame, settings: Mapping) -> dict[str, str]:
    """Return what a comparison rests on: threshold, window, patients, and their origin."""
    rows, facts = everybody(table), table.attrs
    levels = ", ".join(f"{format_number(level)} cells/uL" for level in rows["threshold"].unique())
    recovery = ", ".join(f"{format_number(r)} cells/uL" for r in rows["recovery"].unique())
    of_each = " of each model" if "model" in rows else ""
    found = {
        "Marker": "B cells of the model (its card says which count it was fitted to)",
        "Suppressed": f"at or below {levels}, as given by the user, at every moment of the window",
        "Window": f"from {format_time(rows['induction'].iloc[0])} after the first dose to "
        f"{format_time(facts['until'])}",
        "Time to repletion": f"from the last dose to {recovery}; follow-up without doses "
        f"{settings.get('follow_up') or '0 d'}",
        "Patients": f"{int(rows['n_subjects'].max()):,}{of_each}, the same under every schedule; "
        f"seed {facts.get('seed', 'not needed')}",
        "Covariates": _covariates(settings),
    }
    if facts.get("body_surface"):
        found["Body surface"] = str(facts["body_surface"])
    return found


def _covariates(settings):
    given = ", ".join(settings.get("covariate") or ())
    if settings.get("patients"):
        return f"of {settings['patients']}" + (f"; {given}" if given else "")
    return given or "the reference values of the model"


def limits(table: pd.DataFrame, models: Sequence[Model], warnings: Sequence[str]) -> list[str]:
    """Return what the answer does not say, the warnings of the run among it."""
    found = [
        "Research use only; not medical advice.",
        "± and intervals are the Monte-Carlo error of so many virtual patients. The uncertainty of "
        "the published parameters, and of the equations, is not in them.",
        "Counts are those of the model, without the error of a laboratory; a rule sees them with "
        "the error that it states.",
    ]
    if len(models) > 1:
        found.append(
            "The schedules are those of several models: a difference between two models is that of "
            "drug, disease, patients and equations together, and not of the drug alone."
        )
    found += [f"Warning of the run: {text}" for text in warnings]
    if (table["time_to_repletion_reached_share"] < 0.5).any():
        found.append(
            "Under some schedules fewer than half of the patients are seen to reach the recovery "
            "level before the end; a longer --follow-up shows more of them."
        )
    for model in models:
        if model.context_of_use:
            found.append(f"{model.name} is for: {model.context_of_use}")
        if model.not_for:
            found.append(f"{model.name} is not for: {model.not_for}")
        if model.missing or model.experimental:
            found.append(f"{model.name} is {model.label()}: its card says what is not known.")
    if len(set(table["regimen"])) > 1:
        found.append(
            "Estimates are compared as they are: schedules closer than their Monte-Carlo errors "
            "are not told apart; with --reference differences are paired."
        )
    return found
