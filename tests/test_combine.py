"""A PK of one paper with the B-cell response of another: what comes from where, what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest

from bcellsim import combine, load_model, sample_population, simulate
from bcellsim.cli.app import app
from bcellsim.structures import STRUCTURES

OCRELIZUMAB, CHEN, YU = "gibiansky2021_ocrelizumab", "chen2024_rituximab", "yu2022_ofatumumab"
DAVDA, INEBILIZUMAB = "davda2014_antibody", "yan2022_inebilizumab"
NAME = f"{OCRELIZUMAB}+{CHEN}"
RESPONSE = ["b0", "kout", "emax", "ec50"]


@pytest.fixture
def model():
    return load_model(NAME)


def test_each_block_is_whole_from_its_source(model):
    pk, response = load_model(OCRELIZUMAB), load_model(CHEN)
    assert model.structure is STRUCTURES["turnover"]
    for name, value in model.typical().items():
        source = response if name in RESPONSE else pk
        assert value == source.typical().get(name, value), name
    assert model.typical()["kdes"] == pk.typical()["kdes"]
    assert model.random_effects.names == ("b0", "kout")
    assert model.random_effects.sd() == {
        n: sd for n, sd in response.random_effects.sd().items() if n in RESPONSE
    }
    assert not model.covariate_effects
    assert not model.covariates
    assert list(model.residual_error) == ["bcell"]


def test_a_combination_says_what_it_is(model):
    assert model.name == NAME
    assert model.status == "unpublished combination"
    assert model.label() == "unpublished combination (partial)"
    card = " ".join(str(model).split())
    for text in (
        f"pk: {OCRELIZUMAB} (Gibiansky2021Ocrelizumab", f"response: {CHEN} (Chen2024",
        "differs more than tenfold between papers", f"{CHEN}, Table 2: ",
        f"{OCRELIZUMAB}, EU SmPC, section 5.2: ", "10.1111/bcp.14658 + 10.3389/fphar.2023.1319744",
        "The response was estimated with rituximab, the PK is of ocrelizumab",
        f"variability: of {OCRELIZUMAB}",
    ):  # fmt: skip
        assert text in card
    assert not model.checks
    assert len(model.files()) == 2
    assert model.summary()["disease"].startswith("relapsing and primary progressive multiple")


def test_the_concentrations_are_those_of_the_pk(model):
    times = [1.0, 30.0, 200.0, 400.0]
    wanted = simulate(OCRELIZUMAB, "ocrelizumab_ms", times=times).conc.values
    found = simulate(model, "ocrelizumab_ms", times=times)
    assert found.conc.values == pytest.approx(wanted, rel=1e-6)  # of another structure's steps
    assert float(found.bcell[1]) < 10
    assert found.attrs["status"] == "unpublished combination (partial)"


def test_a_pk_without_variability_borrows_it_on_request_only(model):
    with pytest.raises(ValueError, match="no published variability"):
        sample_population(model, 10, seed=1)
    lent = combine(OCRELIZUMAB, CHEN, pk_variability=DAVDA)
    assert lent.name == f"{OCRELIZUMAB}~{DAVDA}+{CHEN}"
    assert load_model(lent.name).random_effects.sd() == lent.random_effects.sd()
    assert lent.random_effects.names == ("cl", "vc", "vp", "q", "b0", "kout")
    davda = load_model(DAVDA).random_effects
    at = [davda.names.index(n) for n in ("cl", "vc", "vp", "q")]
    assert np.array_equal(lent.random_effects.covariance[:4, :4], davda.covariance[np.ix_(at, at)])
    assert not lent.random_effects.covariance[:4, 4:].any()
    assert sample_population(lent, 10, seed=1).table()["cl"].std() > 0
    text = " ".join(str(lent).split())
    assert f"The variability of cl, vc, vp, q is borrowed from {DAVDA}; cl_t, t_half_cl" in text
    assert f"{DAVDA}, Table 3: SD of cl, SD of vc" in text


def test_a_pk_alone_with_borrowed_variability():
    lent = load_model(f"{OCRELIZUMAB}~{DAVDA}")
    assert lent.structure is STRUCTURES["pk_linear"]
    assert lent.status == "unpublished combination"
    assert lent.random_effects.names == ("cl", "vc", "vp", "q")
    assert "variability" not in lent.missing
    assert sample_population(lent, 5, seed=1).parameters.shape[0] == 5


def test_a_response_on_a_saturable_pk():
    model = combine(INEBILIZUMAB, CHEN, name="mine")
    assert model.name == "mine"
    assert model.structure is STRUCTURES["michaelis_menten_turnover"]
    assert model.typical()["vmax"] == load_model(INEBILIZUMAB).typical()["vmax"]
    assert set(model.covariates) == {"WT", "MICP200"}
    assert model.random_effects.names == ("cl", "vc", "vp", "vmax", "b0", "kout")
    assert model.label() == "unpublished combination"


def test_a_partial_response_gets_its_pk():
    model = load_model(f"{INEBILIZUMAB}+{INEBILIZUMAB}_pd")
    assert model.structure is STRUCTURES["michaelis_menten_chain"]
    assert model.absent() == ["kmat", "kill_slope", "kill_conc"]
    with pytest.raises(ValueError, match=r"kmat .* not found in the publication"):
        simulate(model, "inebilizumab_nmosd", until="1 w")
    own = model.completed({"kmat": 0.1, "kill_slope": 0.05, "kill_conc": "0.01 mg/L"})
    counts = simulate(own, "inebilizumab_nmosd", until="8 w").bcell
    assert float(counts[0]) == pytest.approx(135)
    assert float(counts[-1]) < 20


def test_blocks_of_whole_models():
    """The PK block of a model with a response of its own, and the other way round."""
    model, whole = combine(YU, f"{YU}:reading_b"), load_model(f"{YU}:reading_b")
    assert model.structure is STRUCTURES["tmdd_qss"]
    assert model.typical() == whole.typical()
    assert model.covariates == whole.covariates
    assert set(model.covariate_effects) == {
        replace(e, source=f"{YU if e.parameter in PK else whole.name}, {e.source}")
        for e in whole.covariate_effects
    }
    assert model.random_effects.correlations() == pytest.approx(
        whole.random_effects.correlations(), rel=1e-12
    )


PK = STRUCTURES["pk_tmdd_qss"].parameters


OWN = """\
name = "my_response"
title = "Invented response"
structure = "turnover"
drug = "ocrelizumab"
citation = ""
source = "invented for a test"
read_in = "nowhere"
status = "transcribed"
missing = ["pk: of any model with a linear PK"]
context_of_use = "tests"
not_for = "anything else"

[parameters]
b0 = { value = 210, unit = "cells/uL" }
kout = { value = 0.03, unit = "1/day" }
emax = { value = 60, unit = "" }
ec50 = { value = 0.1, unit = "mg/L" }
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_response.toml").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return f"{OCRELIZUMAB}+my_response.toml"


def test_ones_own_response(own):
    model = load_model(own)
    assert model.name == f"{OCRELIZUMAB}+my_response"
    assert model.typical()["b0"] == 210
    assert model.typical()["cl"] == 0.17
    assert "no publication" in str(model)
    with pytest.raises(ValueError, match=r"model my_response: cl \(.*not found in the publication"):
        simulate("my_response.toml", "600 mg iv at 0 d", until="1 w")


def test_correlations_across_the_blocks_are_left_out_by_name(own, tmp_path):
    pk = "".join(
        f'{name} = {{ value = 1, unit = "{unit}" }}\n'
        for name, unit in (("cl", "L/day"), ("vc", "L"), ("q", "L/day"), ("vp", "L"))
    )
    varies = '[iiv]\ncl = { value = 0.2, scale = "sd" }\nb0 = { value = 0.4, scale = "sd" }\n'
    varies += 'correlations = [{ pair = ["cl", "b0"], value = 0.5 }]\n'
    text = (
        re.sub("missing = .*\n", "", OWN).replace("[parameters]\n", f"[parameters]\n{pk}") + varies
    )
    (tmp_path / "my_response.toml").write_text(text, encoding="utf-8")
    model = load_model(own)
    assert model.random_effects.sd() == {"b0": 0.4}
    assert model.typical()["cl"] == 0.17
    assert "Correlations of my_response across the blocks are left out: cl-b0." in model.notes


def test_on_the_command_line(own):
    from typer.testing import CliRunner

    run = CliRunner().invoke(app, ["show", own])
    assert run.exit_code == 0
    assert "unpublished combination" in run.output
    run = CliRunner().invoke(
        app, ["simulate", own, "--regimen", "ocrelizumab_ms", "--until", "4 w", "--out", "run"]
    )
    assert run.exit_code == 0, run.output
    with open("run/run.json", encoding="utf-8") as file:
        text = file.read()
    assert "my_response.toml" in text
    assert "gibiansky2021_ocrelizumab.toml" in text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (f"{OCRELIZUMAB}+chen2024_rituximb", 'unknown model "chen2024_rituximb"; did you mean'),
        (f"{OCRELIZUMAB}+{DAVDA}", f"model {DAVDA}: structure pk_linear has no B-cell response"),
        (f"{OCRELIZUMAB}+liang2024_rituximab", "structure tmdd_bcell has no B-cell response apart"),
        (f"pan2019_rituximab+{CHEN}", "structure kpd has no PK apart from its B cells"),
        (f"{YU}+{CHEN}", "no structure has the PK of pk_tmdd_qss and the response of turnover; "
                         "with that PK there are: tmdd_qss"),
        (f"{CHEN}+{CHEN}", f"both blocks are of model {CHEN}: use it alone"),
        (f"{INEBILIZUMAB}~{DAVDA}+{CHEN}", f"model {INEBILIZUMAB} has a variability of its own"),
        (f"{OCRELIZUMAB}~{INEBILIZUMAB}", f"the variability of {INEBILIZUMAB} is of structure"),
        (f"{OCRELIZUMAB}~{OCRELIZUMAB}", f"no parameter of the PK of {OCRELIZUMAB} varies in"),
        (f"+{CHEN}", "is not a combination"),
        (f"{OCRELIZUMAB}+", "is not a combination"),
        (f"{OCRELIZUMAB}+{CHEN}~{DAVDA}", "is not a combination"),
    ],
)  # fmt: skip
def test_what_cannot_be_combined(name, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load_model(name)


def test_a_combination_of_nothing():
    with pytest.raises(ValueError, match="needs a response, or a PK variability to borrow"):
        combine(OCRELIZUMAB)


def test_covariates_with_different_references_are_named(own, tmp_path):
    covariate = '[covariates.WT]\nunit = "{unit}"\nmeaning = "weight"\nreference = 80\n'
    effect = '[[covariate_effects]]\nparameter = "b0"\ncovariate = "WT"\nform = "power"\n'
    path = tmp_path / "my_response.toml"
    path.write_text(OWN + covariate.format(unit="kg") + effect + "reference = 80\nvalue = 0.3\n")
    model = load_model(f"{INEBILIZUMAB}+my_response.toml")
    assert model.covariates["WT"].reference == 66.2
    text = " ".join(str(model).split())
    assert "WT: the reference of the PK is 66.2, that of the response 80" in text
    path.write_text(OWN + covariate.format(unit="g") + effect + "reference = 80\nvalue = 0.3\n")
    with pytest.raises(ValueError, match=f"covariate WT is in kg in {INEBILIZUMAB} and in g in"):
        load_model(f"{INEBILIZUMAB}+my_response.toml")
