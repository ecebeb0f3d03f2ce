"""An advice as text, in the order of dosing tools: target, state, options, uncertainty."""

from __future__ import annotations

import textwrap

import numpy as np

from bcellsim.event import format_time
from bcellsim.fit.censoring import METHODS
from bcellsim.fit.report import method, remarks_of
from bcellsim.simulate import described, provenance

NOT_ADVICE = "Research use; not medical advice."


def as_text(advice) -> str:
    """Return the report of an advice."""
    case = advice.case
    dated = f" ({advice.date(0.0)})" if advice.date(0.0) else ""
    lines = [
        f"Redose advice ({advice.mode}): {described(provenance(case.model))}",
        f"  target: count at or below {case.level:g} cells/uL with probability "
        f"{case.probability:g}, for {format_time(case.until)} from now",
        f"  dose asked about: {case.dose}",
        f"  now: {_now(advice)}{dated}",
        *_inputs(advice),
        "",
        f"  If nothing is given{' after the first course' if case.first else ''}",
        *_crossing(advice),
        "  Latest day to dose again",
        *_latest(advice),
        "  Longest fixed interval",
        *_interval(advice),
        "",
        *_window(advice),
        *_alternatives(advice.alternatives),
    ]
    lines += _checks(advice)
    lines += [""] * bool(advice.warnings)
    lines += [part for warning in advice.warnings for part in _wrapped(f"Warning: {warning}.")]
    lines += ["", f"  {NOT_ADVICE}", *_wrapped(f"Context of use: {case.model.context_of_use}"),
              *_wrapped(f"Not for: {case.model.not_for}")]  # fmt: skip
    return "\n".join(lines)


def _wrapped(text):
    return textwrap.wrap(text, 96, initial_indent="  ", subsequent_indent="    ",
                         break_on_hyphens=False)  # fmt: skip


def _now(advice):
    if advice.fit:
        return f"day {advice.case.now:g} of the data"
    return f"the day of the first dose ({advice.case.first.name})"


def _inputs(advice):
    """Return what the answers rest on: covariates, doses, counts used and unused, method."""
    case, fit = advice.case, advice.fit
    covariates = {name: values[0] for name, values in case.people.covariates.items()}
    said = ", ".join(f"{name} {value:g}" for name, value in covariates.items()) or "none"
    lines = [f"  covariates: {said}; disease of the model: "
             f"{case.model.study.get('disease') or 'not named'}"]  # fmt: skip
    draws = f"{len(case.people)} draws, seed {case.seed}"
    if fit is None:
        return [*lines, f"  method: the model's population with these covariates, {draws}; no "
                "count of the patient was used"]  # fmt: skip
    rows = fit.residuals
    counts = int((rows["DVID"] == "bcell").sum())
    censored = int((rows["CENS"] != 0).sum())
    of = fit.problem.rows.method
    lines += [
        f"  doses given: {fit.regimen.shorthand()}{_not_yet(fit, case.now)}",
        f"  counts used: {counts} ({len(rows)} observations, {censored} censored: {of}, "
        f"{METHODS[of]})",
        *(part for row in unused(fit) for part in _wrapped(f"not used: {row}")),
        *(part for remark in remarks_of(fit) for part in _wrapped(f"data: {remark}")),
        f"  method: {method(fit)}; {case.note}, {draws} ({case.effective:.0f} effective)",
    ]
    return lines


def _not_yet(fit, now):
    """Return how many of the doses of the data come after now."""
    later = fit.regimen.n_doses(fit.problem.end + 1e-9) - fit.regimen.n_doses(now + 1e-9)
    return f" (without the last {later}, after now)" if later else ""


def unused(fit) -> list[str]:
    """Return the observations of the data that were not used, and why."""
    table = fit.problem.table
    rows = table[(table["EVID"] == 0) & ~table["LINE"].isin(fit.problem.rows.line)]
    return [
        f"line {row.LINE}, day {row.TIME:g}: " + (
            "no value, or MDV = 1" if np.isnan(row.DV) else f"MDV = {row.MDV}" if row.MDV else
            f"{row.DVID} below {row.DV:g} is dropped ({fit.problem.rows.method})"
        ) for row in rows.itertuples()
    ]  # fmt: skip


def _day(advice, day):
    if not np.isfinite(day):
        return f"not within {format_time(advice.case.until)}"
    date = advice.date(day)
    return f"day {day:.0f}" + (f" ({date})" if date else "")


def _crossing(advice):
    """Say when the count crosses, and how sure that is."""
    found, case = advice.crossing, advice.case
    above, first = found["share_above_now"], f"{format_time(case.opens)} after the first dose"
    when = first if case.first else "now"
    lines = [] if above == 0 else [
        f"    probability that the count is above {case.level:g} already {when}: {above:.3f}"
    ]  # fmt: skip
    if found["p50"] <= case.opens and not case.first:
        return lines
    return [
        *lines,
        f"    the count rises above {case.level:g} on {_day(advice, found['p50'])} from now "
        "(median)",
        f"    50 % interval {_day(advice, found['p25'])} to {_day(advice, found['p75'])}, "
        f"90 % interval {_day(advice, found['p5'])} to {_day(advice, found['p95'])}",
        f"    probability of not rising above it within {format_time(case.until)}: "
        f"{found['share_not_crossed']:.3f}",
    ]


def _latest(advice):
    """Say the latest day, or why there is none."""
    found, case = advice.latest, advice.case
    share = f"{found.share:.3f} ± {found.error:.3f}"
    wanted = f"{case.probability:g}"
    if found.status == "now":
        return [f"    now: the count is above {case.level:g} cells/uL already (probability "
                f"{advice.crossing['share_above_now']:.3f})"]  # fmt: skip
    if found.status == "no need":
        return [f"    no need before the horizon: with probability {share} the count stays at or "
                f"below {case.level:g} for {format_time(case.until)}"]  # fmt: skip
    if found.status == "none":
        best = f"{_day(advice, found.day)} from now" if found.day else "now"
        above = advice.crossing["share_above_now"]
        why = (
            f"; it is above already with probability {above:.3f}"
            if above > 1 - case.probability
            else ""
        )
        return [f"    no day reaches probability {wanted}; the best is {best}, with {share}{why}"]
    clock = f" = day {case.now + found.day:g} of the data" if advice.fit and case.now else ""
    return [
        f"    {_day(advice, found.day)} from now{clock}: with probability {share} the count stays "
        f"at or below {case.level:g}",
        "    until this dose has acted (its nadir); other draws may give "
        f"{_day(advice, found.low)} to {_day(advice, found.high)} (95 %)",
    ]


def _interval(advice):
    facts, case = advice.intervals.attrs, advice.case
    share = f"{facts['share']:.3f} ± {case.error(facts['share']):.3f}"
    looked = advice.intervals["interval"]
    if advice.interval is None:
        best = advice.intervals.loc[advice.intervals["suppressed_throughout"].idxmax()]
        return [
            f"    none of {format_time(looked.min())} to {format_time(looked.max())} reaches "
            f"probability {case.probability:g}; the best is every {format_time(best['interval'])} "
            f"({share})"
        ]
    largest = ", the longest looked at" if advice.interval == looked.max() else ""
    start = "counted from the first dose" if case.first else "beginning now"
    return [f"    every {format_time(advice.interval)}, {start}: probability {share}{largest}"]


def _window(advice):
    case = advice.case
    opens = f"day {case.opens:g} (given for a dose to act)" if case.opens else "now"
    course = "; doses with those of the first course" if case.first else ""
    return _wrapped(f"Alternatives, from {opens} to day {case.until:g}; suppressed: probability of "
                    f"at or below {case.level:g} all that time{course}")  # fmt: skip


def _alternatives(table):
    """Return the rows of the alternatives."""
    width = max(len(plan) for plan in table["plan"])
    head = f"    {'plan':{width}} {'doses':>6} {'mg':>7} {'suppressed':>16}   "
    lines = [head + "days at or below: median (90 %)"]
    for row in table.itertuples():
        lines.append(
            f"    {row.plan:{width}} {row.n_doses:>6} {row.cumulative_dose:>7.4g} "
            f"{row.suppressed_throughout:>8.3f} ± {row.mc_se:.3f}   {row.days_below_median:.0f} "
            f"({row.days_below_p5:.0f} to {row.days_below_p95:.0f}) of {row.days:.0f}"
        )
    return lines


def _checks(advice):
    """Return the fit beside the advice: counts against prediction, prior against posterior."""
    fit = advice.fit
    if fit is None:
        return []
    shown = fit.residuals[["TIME", "DVID", "DV", "CENS", "PRED", "IPRED", "IWRES"]]
    lines = ["", "  Fit check: observed (DV; CENS 1: below it), typical (PRED), fitted (IPRED), "
             "SD between them (IWRES)", *_indented(shown)]  # fmt: skip
    if advice.parameters is not None:
        lines += ["", "  Prior and posterior: median and 90 % interval",
                  *_indented(advice.parameters)]  # fmt: skip
    return lines


def _indented(table):
    text = table.to_string(index=False, float_format=lambda x: f"{x:.4g}", na_rep="n/a")
    return [f"  {line}" for line in text.splitlines()]
