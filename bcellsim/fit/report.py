"""A fit as text and as plain data."""

from __future__ import annotations

import numpy as np

from bcellsim.covariates import MOSTELLER
from bcellsim.fit.identify import told
from bcellsim.observations import remarks
from bcellsim.simulate import described, provenance

#: By what a parameter is determined when the data say nothing of it.
WEAK = ("prior", "nothing")


def as_text(fit) -> str:
    """Return the report of a fit."""
    rows, problem = fit.residuals, fit.problem
    lines = [
        f"Fit of {described(provenance(fit.model))}",
        f"  data: {_counted(fit)}, {_given(fit)}",
        *(f"  data: {remark}" for remark in remarks_of(fit)),
        f"  covariates: {problem.pieces.ahead()}",
        f"  method: {method(fit)}",
        *(f"  error of {output}: {error}" for output, error in fit.errors.items()),
        f"  search: {_search(fit)}",
        f"  objective: {_objective(fit)}",
        f"  curvature: {_curvature(fit)}",
        "",
        _table(fit.params.reset_index()),
        "",
        _table(rows.drop(columns=["CLOCK", "TO_OUTPUT"])),
    ]
    lines += _undetermined(fit)
    lines += [f"  Warning: {warning}." for warning in fit.warnings]
    return "\n".join(lines)


def _given(fit):
    """Return the doses given, and the steady states that they begin with."""
    regimen = fit.regimen
    n = regimen.n_doses(fit.problem.end + 1e-9)
    said = [f"{_number(n, 'dose')}, {regimen.shorthand()}"] if n else []
    steady = [f"day {e.time:g}" for e in regimen.events if e.kind == "steady"]
    return "; ".join([*said, *([f"a steady state on {', '.join(steady)}"] if steady else [])])


def remarks_of(fit) -> list[str]:
    """Return what a report must say of the data: sentences, each on its own."""
    pieces = fit.problem.pieces
    said = remarks(fit.problem.table, pieces.covariates) + pieces.told()
    if "BSA" in pieces.shown and "BSA" not in pieces.stated:
        said.append(f"BSA is computed: {MOSTELLER}")
    if len(pieces.occasions) > 1:
        numbers = ", ".join(map(str, pieces.occasions))
        how = ("each with its own deviations" if fit.problem.kappas
               else "taken as one, as there is no prior")  # fmt: skip
        said.append(f"occasions (OCC) {numbers}: {how}")
    return said


def method(fit) -> str:
    """Say how the parameters were estimated."""
    if fit.prior:
        return "maximum a posteriori, the model's between-subject variability as prior"
    estimated = any(error.estimated for error in fit.errors.values())
    if estimated or not fit.problem.sums_squares:
        return "maximum likelihood, no prior"
    return "least squares, no prior"


def _counted(fit):
    """Say how many observations of each endpoint there are, and how many are censored."""
    rows = fit.problem.rows
    parts = []
    for output in fit.problem.outputs:
        own = rows.output == output
        censored = int((rows.cens[own] != 0).sum())
        seen = _number(int(own.sum()), "observation")
        parts.append(f"{seen} of {output}, {censored} censored")
    return "; ".join(parts) + f" ({rows.method})"


def _number(n, what):
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _search(fit):
    ended = "converged" if fit.converged else "DID NOT CONVERGE"
    if fit.implausible:
        ended += f", at an implausible value of {', '.join(fit.implausible)} (see the warnings)"
    agreeing = int(fit.starts["agrees"].sum())
    others = fit.starts.loc[~fit.starts["agrees"], "above_best"]
    higher = f"; the next minimum is {others.min():.2f} higher" if len(others) else ""
    return (
        f"{ended}; {agreeing} of {len(fit.starts)} starts ended at the best minimum{higher}; "
        f"{fit.problem.n_solved:,} trajectories solved"
    )


def _objective(fit):
    text = f"-2 log L {fit.minus_two_log_l:.4f} (constants included)"
    if fit.prior:
        return f"{text}, with the prior {fit.objective:.4f}"
    return f"{text}, AIC {fit.aic:.4f}"


def _curvature(fit):
    condition = fit.curvature.condition
    told_condition = f"{condition:.3g}" if np.isfinite(condition) else "not available (flat)"
    return f"condition number {told_condition}, could fall by {fit.curvature.decrement:.1e}"


def _table(table):
    return table.to_string(
        index=False, float_format=lambda x: f"{x:.4g}", na_rep="n/a", justify="right"
    )


def undetermined(fit) -> list[str]:
    """Return the searched parameters that the data do not determine."""
    return [name for name, by in fit.params["determined"].items() if by in WEAK]


def _undetermined(fit):
    weak = undetermined(fit)
    if not weak:
        return []
    lines = ["", f"  Not determined by these data: {', '.join(weak)}."]
    names = {key: name for name, key in fit.problem.coordinates.searched.items()}
    sentences = told(fit.identify(), names)
    if sentences:
        lines.append("  What would determine them (expected from the sensitivities at the fit):")
        lines += [f"    {sentence}" for sentence in sentences]
    return lines


def as_json(fit) -> dict:
    """Return a fit as plain data, missing numbers as None."""
    return {
        **provenance(fit.model),
        "doses": fit.regimen.shorthand(),
        "prior": fit.prior,
        "method": method(fit),
        "errors": {output: {"form": e.form, **e.values, "estimated": list(e.estimated)}
                   for output, e in fit.errors.items()},
        "covariates": fit.covariates,
        "converged": fit.converged,
        "implausible": list(fit.implausible),
        "objective": fit.objective,
        "minus_two_log_l": fit.minus_two_log_l,
        "aic": _plain(fit.aic),
        "condition": _plain(fit.curvature.condition),
        "starts": plain(fit.starts),
        "n_observations": len(fit.residuals),
        "n_censored": int((fit.residuals["CENS"] != 0).sum()),
        "censored_method": fit.problem.rows.method,
        "n_trajectories": fit.problem.n_solved,
        "params": plain(fit.params.reset_index()),
        "residuals": plain(fit.residuals),
        "undetermined": undetermined(fit),
        "remarks": remarks_of(fit),
        "warnings": list(fit.warnings),
    }  # fmt: skip


def plain(table) -> list[dict]:
    """Return the rows of a table as plain data, numbers that are not finite as None."""
    return [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict("records")]


def _plain(value):
    return None if isinstance(value, float) and not np.isfinite(value) else value
