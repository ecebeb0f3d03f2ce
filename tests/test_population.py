"""Virtual subjects: the published covariance, covariate effects, and draws that stay put."""

import doctest
import re
from dataclasses import replace
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from bcellsim import load_model, sample_population
from bcellsim.library import model_names
from bcellsim.model import RandomEffects
from bcellsim.population import individual_subject, typical_subject, with_covariate

YU, CHEN = "yu2022_ofatumumab", "chen2024_rituximab"
MANY = 20_000
STANDARD_ERRORS = 5.0  # of a sample (co)variance; some 150 of them are tested, with fixed seeds
ALGEBRA = 1e-12  # the same numbers by another order of operations


def column(population, name):
    """Return an individual parameter (n_subjects,)."""
    return population.parameters[:, population.model.structure.parameters.index(name)]


def untouched(model):
    """Return the model without covariate effects and occasions: parameters show eta alone."""
    return replace(model, covariate_effects=(), occasion_effects=RandomEffects())


def whole(name):
    """Return whether a population of the model can be sampled."""
    model = load_model(name)
    return not model.absent() and "variability" not in model.missing


# --- random effects ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*filter(whole, model_names()), f"{YU}:reading_b"])
def test_the_full_covariance_is_recovered(name):
    model = untouched(load_model(name))
    people = sample_population(model, MANY, seed=11)
    effects = model.random_effects
    deviations = dict(zip(effects.names, people.eta.T, strict=True))
    printed = model.printed(people.covariates, deviations, MANY)
    found = np.empty((MANY, len(effects.names)))
    for j, (parameter, kind) in enumerate(zip(effects.names, effects.distributions, strict=True)):
        scale = logit if kind == "logit" else np.log
        found[:, j] = scale(printed[parameter]) - scale(model.parameters[parameter].value)
        if parameter in model.structure.parameters:
            assert np.array_equal(column(people, parameter), printed[parameter])
    wanted = effects.covariance
    sd = np.sqrt(np.diag(wanted))
    assert np.all(np.abs(found.mean(axis=0)) < STANDARD_ERRORS * sd / np.sqrt(MANY))
    # Variance of a sample covariance of normal variables: (s_ii s_jj + s_ij^2) / n.
    error = np.sqrt((np.outer(sd**2, sd**2) + wanted**2) / MANY)
    assert np.all(np.abs(np.cov(found.T) - wanted) < STANDARD_ERRORS * error)
    assert found == pytest.approx(people.eta, abs=1e-9)  # logit near 1 loses digits


def test_bioavailability_stays_a_fraction():
    f_sc = column(sample_population(YU, MANY, seed=1), "f_sc")
    assert f_sc.min() > 0
    assert f_sc.max() < 1
    assert np.median(f_sc) == pytest.approx(0.685, abs=0.01)


def test_parameters_without_variability_are_typical():
    model = load_model(YU)
    people = sample_population(model, 50, seed=1)
    for name in set(model.parameters) - set(model.random_effects.names):
        assert set(column(people, name)) == {model.typical()[name]}


# --- draws -------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariates", ["reference", "study", {"WT": "study", "AGE": 50}])
def test_enlarging_a_population_changes_nobody(covariates):
    small, large = (sample_population(YU, n, covariates=covariates, seed=3) for n in (20, 500))
    assert np.array_equal(small.parameters, large.parameters[:20])
    assert np.array_equal(small.eta, large.eta[:20])
    assert np.array_equal(small.subjects, large.subjects[:20])
    for name, values in small.covariates.items():
        assert np.array_equal(values, large.covariates[name][:20])


def test_seeds():
    one, same, other = (sample_population(YU, 30, seed=s).eta for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.any(one == other)
    drawn = sample_population(YU, 30)
    assert np.array_equal(sample_population(YU, 30, seed=drawn.seed).eta, drawn.eta)


def test_random_effects_do_not_depend_on_the_covariates():
    etas = [
        sample_population(YU, 30, covariates=c, seed=1).eta
        for c in ("reference", "study", {"WT": 90})
    ]
    assert np.array_equal(etas[0], etas[1])
    assert np.array_equal(etas[0], etas[2])


@pytest.mark.parametrize("seed", [-1, 1.5, 2**63, True])
def test_bad_seed(seed):
    with pytest.raises(ValueError, match="a whole number from 0"):
        sample_population(YU, 2, seed=seed)


# --- covariates --------------------------------------------------------------------------------

EFFECTS = [(e.parameter, e.covariate) for e in load_model(YU).covariate_effects]


@pytest.mark.parametrize(("parameter", "power"), [
    ("ka", -0.457), ("vc", 1.2), ("ksyn0", -1.52), ("cl", 1.52), ("b0", 0.271), ("kout", -0.624),
])  # fmt: skip
def test_weight_follows_the_published_powers(parameter, power):
    weights = np.array([45.0, 70.0, 110.0])
    plain = sample_population(YU, 3, seed=1)
    people = sample_population(YU, 3, covariates={"WT": weights}, seed=1)
    ratio = column(people, parameter) / column(plain, parameter)
    assert ratio == pytest.approx((weights / 70) ** power, rel=ALGEBRA)


def test_weight_changes_no_other_parameter():
    plain, heavy = (sample_population(YU, 3, covariates={"WT": w}, seed=1) for w in (70, 110))
    names = np.array(plain.model.structure.parameters)
    changed = names[np.any(plain.parameters != heavy.parameters, axis=0)]
    # emax by way of the baseline count, which follows b0.
    assert set(changed) == {"ka", "vc", "ksyn0", "cl", "b0", "kout", "emax"}


@pytest.mark.parametrize(("covariate", "factors"), [
    ("IV", {"r0": 0.987, "cl": -1.07, "q": -2.31, "ksyn_inf": 2.49}),
    ("AUTOINJECTOR", {"kint": 0.713, "r0": -0.544}),
    ("APLIOS", {"emax": 0.503}),
    ("MIRROR", {"kout": -0.554}),
])  # fmt: skip
def test_indicators_act_exponentially(covariate, factors):
    plain = sample_population(YU, 3, seed=1)
    people = sample_population(YU, 3, covariates={covariate: 1}, seed=1)
    for name in plain.model.structure.parameters:
        wanted = column(plain, name) * np.exp(factors.get(name, 0.0))
        assert column(people, name) == pytest.approx(wanted, rel=ALGEBRA)


def test_baseline_count_follows_the_individual_baseline():
    people = sample_population(YU, 200, covariates="study", seed=4)
    position = people.model.random_effects.names.index("emax")
    eta = people.eta[:, position]
    wanted = 159 * np.exp(eta) * (column(people, "b0") / 194) ** 0.275
    assert column(people, "emax") == pytest.approx(wanted, rel=ALGEBRA)


@pytest.mark.parametrize("given", [150.0, [150.0, 300.0, 20.0]])
def test_a_baseline_count_that_is_given_is_used(given):
    people = sample_population(YU, 3, covariates={"BCELL0": given}, seed=4)
    eta = people.eta[:, people.model.random_effects.names.index("emax")]
    wanted = 159 * np.exp(eta) * (np.asarray(given) / 200) ** 0.275
    assert column(people, "emax") == pytest.approx(wanted, rel=ALGEBRA)


@pytest.mark.parametrize("given", [[150.0, 300.0], np.array([150.0, 300.0])])
def test_a_baseline_count_may_come_as_a_list_or_an_array(given):
    people = sample_population(YU, 2, covariates={"BCELL0": given}, seed=4)
    assert list(people.covariates["BCELL0"]) == [150.0, 300.0]


def test_a_table_may_hold_the_baseline_count():
    table = pd.DataFrame({"WT": [60.0, 80], "AGE": [30.0, 40], "BCELL0": [150.0, 300]})
    people = sample_population(YU, covariates=table, seed=4)
    assert list(people.covariates["BCELL0"]) == [150.0, 300.0]


def test_a_table_is_the_same_as_a_mapping():
    table = pd.DataFrame({"ID": [7, 9], "WT": [60.0, 80], "AGE": [30.0, 40], "IV": [0, 1]})
    people = sample_population(YU, covariates=table, seed=4)
    given = {name: table[name].to_numpy() for name in ("WT", "AGE", "IV")}
    other = sample_population(YU, 2, covariates=given, seed=4)
    assert len(people) == 2
    assert np.array_equal(people.parameters, other.parameters)


def test_body_size_may_be_given_beside_the_covariates_of_the_model():
    people = sample_population(YU, 2, covariates={"BSA": [1.5, 2.0]}, seed=1)
    assert list(people.covariates["BSA"]) == [1.5, 2.0]
    assert np.array_equal(people.parameters, sample_population(YU, 2, seed=1).parameters)


@pytest.mark.parametrize(("model", "covariate"), [(YU, "WT"), (YU, "AGE"), (CHEN, "BSA")])
def test_study_covariates(model, covariate):
    study = load_model(model).covariates[covariate].study
    values = sample_population(model, MANY, covariates="study", seed=8).covariates[covariate]
    assert values.min() >= study["low"]
    assert values.max() <= study["high"]
    # Five standard errors of a median, of a width of the range over six.
    width = (study["high"] - study["low"]) / 6
    error = STANDARD_ERRORS * 1.2533 * width / np.sqrt(MANY)
    assert np.median(values) == pytest.approx(study["median"], abs=error)
    assert (values.min(), values.max()) == pytest.approx((study["low"], study["high"]), rel=0.05)


def test_study_covariates_are_independent():
    values = sample_population(YU, MANY, covariates="study", seed=8).covariates
    assert abs(np.corrcoef(values["WT"], values["AGE"])[0, 1]) < STANDARD_ERRORS / np.sqrt(MANY)


TABLE = pd.DataFrame({"WT": [60.0, 80.0], "AGE": [30.0, 40.0]})


@pytest.mark.parametrize(
    ("covariates", "n", "sentence"),
    [
        ("studdy", 2, 'unknown kind of covariates "studdy"; did you mean "study"?'),
        ({"wt": 70}, 2, 'unknown covariate "wt"; did you mean "WT"?'),
        ({"WT": np.nan}, 2, "covariate WT: a value is missing or not finite"),
        ({"WT": [70, np.inf]}, 2, "covariate WT: a value is missing or not finite"),
        ({"WT": 0}, 2, "covariate WT: a value is not above 0"),
        ({"HT": "study"}, 2, "no study value of HT, which is none of its covariates (WT, "),
        ({"WT": "heavy"}, 2, "covariate WT: numbers are wanted, not 'heavy'"),
        ({"WT": [70, 80, 90]}, 2, "covariate WT: numbers are wanted"),
        (
            TABLE[["WT"]],
            None,
            "needs covariate AGE (age, y; reference 38): the table has",
        ),
        (TABLE.assign(WT=[60, None]), None, "covariate WT: a value is missing"),
        (TABLE, 3, "n = 3, but the table of covariates has 2 rows"),
        (TABLE[:0], None, "the table of covariates is empty"),
        ("reference", None, "a number of subjects of 1 or more is wanted"),
        ("reference", 0, "n = 0: a number of subjects of 1 or more is wanted"),
        ("reference", 2.5, "n = 2.5: a number"),
        ("reference", True, "n = True: a number"),
    ],
)
def test_bad_covariates(covariates, n, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        sample_population(YU, n, covariates=covariates, seed=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("covariates", [{"AGE": -5}, {"AGE": 0}, {"IV": 0.5}, {"BCELL0": -1}])
def test_impossible_covariates_are_refused(covariates):
    with pytest.raises(ValueError, match=f"covariate {next(iter(covariates))}"):
        sample_population(YU, 2, covariates=covariates, seed=1)
    with pytest.raises(ValueError, match=f"covariate {next(iter(covariates))}"):
        typical_subject(YU, covariates)


@pytest.mark.parametrize(("column", "meant"), [("APLIO", "APLIOS"), ("mirror", "MIRROR")])
def test_a_misspelt_column_is_refused(column, meant):
    with pytest.raises(ValueError, match=f'a column "{column}" but none "{meant}"'):
        sample_population(YU, covariates=TABLE.assign(**{column: 1}), seed=1)
    both = TABLE.assign(**{column: 0, meant: 1})
    people = sample_population(YU, covariates=both, seed=1)
    assert list(people.covariates[meant]) == [1, 1]
    assert column not in people.covariates


def test_other_columns_are_ignored():
    table = TABLE.assign(ID=[1, 2], SITE=["a", "b"], TIME=0, DV=[3, None], RATE=0)
    people, plain = (sample_population(YU, covariates=t, seed=1) for t in (table, TABLE))
    assert people.covariates.keys() == plain.covariates.keys()
    assert np.array_equal(people.parameters, plain.parameters)


def test_a_default_is_what_a_subject_gets():
    model = load_model(YU)
    changed = replace(model.covariates["IV"], default=1.0)
    model = replace(model, covariates={**model.covariates, "IV": changed})
    given = {"IV": [1, 1]}
    wanted = sample_population(YU, 2, covariates=given, seed=1).parameters
    for covariates in ("reference", {"WT": 70}, TABLE.assign(WT=70, AGE=38)):
        assert np.array_equal(
            sample_population(model, 2, covariates=covariates, seed=1).parameters, wanted
        )


# --- the rest ----------------------------------------------------------------------------------


def test_table_of_a_population():
    people = sample_population(YU, 5, covariates="study", seed=1)
    table = people.table()
    assert len(table) == 5
    assert list(table.index) == list(people.subjects)
    for name in people.model.structure.parameters:
        assert np.array_equal(table[name], column(people, name))
    assert {"WT", "AGE", "IV"} <= set(table)


def test_typical_subject():
    people = typical_subject(YU)
    assert people.seed is None
    assert not people.eta.any()
    heavy = typical_subject(YU, {"WT": 110})
    assert column(heavy, "cl")[0] == pytest.approx(0.34 * (110 / 70) ** 1.52, rel=ALGEBRA)


@pytest.mark.parametrize("covariates", ["study", {"WT": "study"}])
def test_a_typical_subject_is_not_sampled(covariates):
    with pytest.raises(ValueError, match="covariate WT: a typical subject has no sampled"):
        typical_subject(YU, covariates)
    with pytest.raises(ValueError, match="covariate WT: a typical subject has no sampled"):
        individual_subject(load_model(YU), covariates, np.zeros((1, 16)))


def test_examples_in_docstrings():
    assert doctest.testmod(import_module("bcellsim.population")).failed == 0


def test_another_covariate_keeps_the_deviations_of_the_occasion():
    people = sample_population("candelaria2018_rituximab", 5, seed=3)
    assert np.all(people.kappa != 0)
    same = with_covariate(people, "BSA", people.covariates["BSA"][0])
    assert np.array_equal(same.parameters, people.parameters)
    larger = with_covariate(people, "BSA", 1.1 * people.covariates["BSA"][0])
    cl = people.model.structure.parameters.index("cl")
    assert np.array_equal(larger.parameters[:, cl], people.parameters[:, cl])
