"""What holds of any model: each finding, and that it fails where something is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from bcellsim import load_model
from bcellsim.model import CovariateEffect
from bcellsim.soundness import findings

CHEN, YU = "chen2024_rituximab", "yu2022_ofatumumab"
PRINTED = 5e-3  # models.md prints its derived numbers with two to four digits


def verdicts(model):
    return {(f.section, f.id): f.verdict for f in findings(model)}


def changed(model, **functions):
    """Return the model on its structure with some functions replaced."""
    return replace(model, structure=replace(model.structure, **functions))


def test_a_sound_model():
    found = verdicts(load_model(CHEN))
    assert set(found.values()) == {"passes", "note"}
    assert {section for section, _ in found} == {
        "file", "equations", "variability", "covariates", "baseline", "exposure",
    }  # fmt: skip


def test_half_life_and_exposure():
    found = {f.id: f for f in findings(load_model(CHEN))}
    assert found["terminal half-life"].obtained == pytest.approx(17.2, rel=PRINTED)  # models.md
    assert found["AUC"].obtained == pytest.approx(1.0, rel=1e-6)
    (note,) = (f for f in findings(load_model(YU)) if f.section == "exposure")
    assert note.verdict == "note"
    assert "not linear" in note.note


def test_a_number_without_a_source():
    model = load_model(CHEN)
    bare = {**model.parameters, "q": replace(model.parameters["q"], source="")}
    assert verdicts(replace(model, parameters=bare))["file", "numbers have sources"] == "FAILS"


def test_a_covariance_that_is_not_definite():
    model = load_model(YU)
    effects = model.random_effects
    covariance = effects.covariance.copy()
    i, j = effects.names.index("cl"), effects.names.index("vc")
    covariance[i, j] = covariance[j, i] = 1.5 * np.sqrt(covariance[i, i] * covariance[j, j])
    broken = replace(model, random_effects=replace(effects, covariance=covariance))
    found = [f for f in findings_of_variability(broken) if f.id == "positive definite"]
    assert [f.verdict for f in found] == ["FAILS"]


def findings_of_variability(model):
    from bcellsim.soundness import _variability

    return _variability(model)


def test_a_reference_that_is_not_typical():
    model = load_model(CHEN)
    effect = CovariateEffect("kout", "BSA", "power", 1.0, 0.5, "invented")  # reference is 0.9
    broken = replace(model, covariate_effects=(*model.covariate_effects, effect))
    assert verdicts(broken)["covariates", "reference is typical"] == "FAILS"


def test_a_baseline_that_drifts():
    model = load_model(CHEN)
    start, b0 = model.structure.initial, model.structure.parameters.index("b0")

    def initial(p, y):
        start(p, y)
        y[3] = 0.9 * p[b0]

    found = verdicts(changed(model, initial=initial))
    assert found["baseline", "bcell without drug"] == "FAILS"
    assert found["baseline", "conc without drug"] == "passes"


def test_clearance_that_is_not_the_stated_one():
    model = load_model(CHEN)
    rhs = model.structure.rhs

    def leaky(t, y, p, u, dy):
        rhs(t, y, p, u, dy)
        dy[1] = dy[1] - 0.1 * y[1]

    assert verdicts(changed(model, rhs=leaky, linear=()))["exposure", "AUC"] == "FAILS"


def test_a_partial_model_says_what_cannot_be_tried():
    model = load_model(CHEN)
    kept = {name: entry for name, entry in model.parameters.items() if name != "b0"}
    partial = replace(model, parameters=kept, missing={"b0": ""})
    (note,) = (f for f in findings(partial) if f.section == "baseline")
    assert note.verdict == "note"
    assert "b0 not found in the publication" in note.note


def test_equations_whose_units_do_not_agree():
    model = load_model(CHEN)
    rhs, kout = model.structure.rhs, model.structure.parameters.index("kout")

    def slipped(t, y, p, u, dy):
        rhs(t, y, p, u, dy)
        dy[3] = dy[3] + p[kout]  # a rate [1/day] added to cells/uL/day

    (wrong,) = (f for f in findings(changed(model, rhs=slipped)) if f.section == "equations")
    assert wrong.verdict == "FAILS"
    assert "`dy[3] + p[kout]`: adds" in wrong.note


def test_equations_that_cannot_be_read():
    model = load_model(CHEN)

    def initial(p, y):
        model.structure.initial(p, y)

    (wrong,) = (f for f in findings(changed(model, initial=initial)) if f.section == "equations")
    assert wrong.verdict == "FAILS"
