"""Covariates: body surface by its formula, doses in mg, tables of patients, and warnings."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcellsim import Event, Regimen, load_model, sample_population, simulate
from bcellsim.covariates import MOSTELLER, amounts, body_surface, read_covariates
from bcellsim.population import typical_subject

YU, CHEN = "yu2022_ofatumumab", "chen2024_rituximab"
ALGEBRA = 1e-12  # the same numbers by another order of operations


# --- body surface ------------------------------------------------------------------------------


def test_body_surface_by_mosteller():
    # By hand: 180 x 80 / 3600 = 4; 160 x 90 / 3600 = 4; 100 x 16 / 3600 = 0.4444.
    assert body_surface([80.0, 90.0, 16.0], [180.0, 160.0, 100.0]) == pytest.approx(
        [2.0, 2.0, 2 / 3], rel=ALGEBRA
    )


def test_body_surface_from_weight_and_height():
    people = sample_population(CHEN, 2, covariates={"WT": [16, 80], "HT": [100, 180]}, seed=1)
    other = sample_population(CHEN, 2, covariates={"BSA": [2 / 3, 2.0]}, seed=1)
    assert people.parameters == pytest.approx(other.parameters, rel=ALGEBRA)
    given = sample_population(
        CHEN, 2, covariates={"WT": [16, 80], "HT": 180, "BSA": [0.7, 1.9]}, seed=1
    )
    assert list(given.covariates["BSA"]) == [0.7, 1.9]


def test_weight_may_be_that_of_the_model():
    people = sample_population(YU, 50, covariates={"WT": "study", "HT": 170}, seed=1)
    assert people.covariates["BSA"] == pytest.approx(
        np.sqrt(people.covariates["WT"] * 170 / 3600), rel=ALGEBRA
    )
    assert typical_subject(YU, {"HT": 170}).covariates["BSA"][0] == pytest.approx(1.818, abs=5e-4)


def test_the_formula_is_stated():
    plan = "375 mg/m2 iv"
    sized = sample_population(CHEN, 2, covariates={"WT": [16, 80], "HT": [100, 180]}, seed=1)
    assert simulate(CHEN, plan, sized, until=7).attrs["body_surface"] == MOSTELLER
    plain = simulate(CHEN, plan, sample_population(CHEN, 2, seed=1), until=7)
    assert plain.attrs["body_surface"] == "taken as a covariate"
    assert "body_surface" not in simulate(YU, "20 mg sc", until=7).attrs


@pytest.mark.parametrize(
    ("covariates", "sentence"),
    [
        ({"HT": 120}, "covariate HT is given without WT"),
        ({"WT": 20, "HT": 0}, "covariate HT: a value is not above 0"),
        ({"WT": -20, "HT": 120}, "covariate WT: a value is not above 0"),
    ],
)
def test_impossible_body_size(covariates, sentence):
    with pytest.raises(ValueError, match=sentence):
        typical_subject(CHEN, covariates)


# --- doses in mg -------------------------------------------------------------------------------


def test_doses_in_mg():
    doses = Regimen.parse("375 mg/m2 max 500 mg iv; 2 mg/kg iv at 7 d; 20 mg iv at 14 d").doses()
    values = {"WT": np.array([20.0, 80.0]), "BSA": np.array([0.8, 2.0])}
    assert amounts(doses, values, 2).tolist() == [[300, 40, 20], [500, 160, 20]]
    assert amounts([], values, 2).shape == (2, 0)


@given(
    st.floats(0.1, 1000), st.floats(1, 2000), st.lists(st.floats(0.2, 3.0), min_size=1, max_size=5)
)
def test_a_cap_is_never_passed(amount, cap, sizes):
    dose = Event("dose", 0.0, amount, "mg/m2", cap=cap, route="iv")
    mg = amounts([dose], {"BSA": np.array(sizes)}, len(sizes))[:, 0]
    assert mg == pytest.approx([min(cap, amount * size) for size in sizes])


def test_a_result_shows_doses_per_area_in_mg():
    people = sample_population(CHEN, 3, covariates={"BSA": [0.8, 1.2, 2.0]}, seed=1)
    result = simulate(CHEN, "rituximab_children_750mgm2_x2", people, until=28)
    assert result.dose_amount.dims == ("subject", "dose")
    assert result.dose_amount.values.tolist() == [[600] * 2, [900] * 2, [1000] * 2]


# --- a table of patients -------------------------------------------------------------------------

PATIENTS = "ID,WT,AGE,SITE\nA1,60,30,x\nB2,80,40,y\n"


@pytest.fixture
def write(tmp_path):
    def written(text, name="patients.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


def test_a_table_from_a_file(write):
    path = write(PATIENTS)
    table = pd.DataFrame({"ID": ["A1", "B2"], "WT": [60.0, 80.0], "AGE": [30.0, 40.0]})
    wanted = sample_population(YU, covariates=table, seed=4)
    for file in (path, str(path), write("\ufeff" + PATIENTS + "\n")):
        people = sample_population(YU, covariates=file, seed=4)
        assert np.array_equal(people.parameters, wanted.parameters)
        assert list(people.subjects) == ["A1", "B2"]
    assert list(simulate(YU, "20 mg sc", wanted, until=7).subject.values) == ["A1", "B2"]


def test_subjects_without_an_id_are_numbered():
    people = sample_population(YU, covariates=pd.DataFrame({"WT": [60.0], "AGE": [30.0]}), seed=1)
    assert list(people.subjects) == [0]
    numbered = pd.DataFrame({"ID": [7.0], "WT": [60.0], "AGE": [30.0]})
    assert list(sample_population(YU, covariates=numbered, seed=1).subjects) == ["7"]


def test_a_file_may_give_weight_and_height_for_the_body_surface(write):
    path = write("WT,HT\n16,100\n80,180\n")
    people = sample_population(CHEN, covariates=path, seed=1)
    assert people.covariates["BSA"] == pytest.approx([2 / 3, 2.0], rel=ALGEBRA)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the file is empty"),
        ("ID,WT,AGE\n", "the table has no rows"),
        (b"\xff\xfe\x00", "not a CSV table (text in UTF-8)"),
        (PATIENTS.replace("80,", "eighty,"), 'line 3, column WT: "eighty" is not a number'),
        (PATIENTS.replace("80,", ".,"), "line 3, column WT: the value is missing"),
        (PATIENTS.replace("80,", "inf,"), "line 3, column WT: inf is not a finite number"),
        (PATIENTS.replace("80,", '"80,5",'), 'line 3, column WT: "80,5" is not a number'),
        (PATIENTS.replace("80,", "80,5,"), "line 3: 5 values, but the header has 4 columns"),
        (PATIENTS.replace("SITE", "WT"), "line 1: a column WT is there twice"),
        (PATIENTS.replace("SITE", ""), "line 1: a column has no name"),
        (PATIENTS.replace("B2", "A1"), "2 rows of ID A1; one a subject is wanted"),
        (PATIENTS.replace("AGE", "YEARS"), "needs covariate AGE (age, y; reference 38)"),
        (PATIENTS.replace(",", ";"), "the table has the columns ID;WT;AGE;SITE"),
        (PATIENTS.replace("SITE", "APLIO"), 'a column "APLIO" but none "APLIOS"'),
    ],
)
def test_a_table_that_is_none(write, text, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        sample_population(YU, covariates=write(text), seed=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.csv", "folder.csv"])
def test_a_file_that_is_not_there(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileNotFoundError, match="no table of patients"):
        sample_population(YU, covariates=tmp_path / name, seed=1)


def test_text_stays_where_no_number_is_wanted(write):
    table = read_covariates(write(PATIENTS), ["WT"])
    assert table.WT.tolist() == [60.0, 80.0]
    assert table.SITE.tolist() == ["x", "y"]


# --- outside what the study covered -------------------------------------------------------------


def warned(ask):
    """Return the sentences of the warnings that a function gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask()
    return [str(warning.message) for warning in caught]


def test_a_warning_outside_the_range_of_the_study():
    table = pd.DataFrame({"WT": [30.0, 70.0, 200.0], "AGE": [60.0, 40.0, 40.0]})
    found = warned(lambda: sample_population(YU, covariates=table, seed=1))
    of = f"of the patients behind model {YU}"
    assert found == [
        f"covariate WT: 2 of 3 subjects lie outside the 40.5 to 171.6 kg {of}",
        f"covariate AGE: 1 of 3 subjects lie outside the 18 to 56 y {of}",
    ]
    found = warned(lambda: typical_subject(CHEN, {"WT": 80, "HT": 195}))
    assert len(found) == 0  # sqrt(80 x 195 / 3600) = 2.08 m2
    found = warned(lambda: typical_subject(CHEN, {"BSA": 2.5}))
    assert found[0].startswith("covariate BSA: 2.5 m2 lies outside the 0.6 to 2.1 m2")
    found = warned(lambda: typical_subject(CHEN, {"WT": 120, "HT": 190}))
    assert found[0].startswith("covariate BSA: 2.51661 m2 lies outside")


@pytest.mark.parametrize("name", [YU, CHEN])
@pytest.mark.parametrize("covariates", ["reference", "study"])
def test_no_warning_for_what_the_model_itself_says(name, covariates):
    assert warned(lambda: sample_population(name, 200, covariates=covariates, seed=1)) == []
    reference = {c.name: c.reference for c in load_model(name).covariates.values()}
    assert warned(lambda: typical_subject(name, reference)) == []
