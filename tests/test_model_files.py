"""Model files: definitions, occasions, printed scales, partial models, and mistakes in them."""

import re

import numpy as np
import pytest

import bcellsim as bc
from bcellsim import load_model, sample_population, simulate
from bcellsim.population import typical_subject
from bcellsim.structures import PARAMETERS

EXACT = 1e-12  # the same numbers by another order of operations
#: Between the reference backend at rtol 1e-10 and the closed form.
SOLVED = 1e-7

HEAD = """\
name = "{name}"
title = "Invented model of a test"
structure = "turnover"
drug = "rituximab"
citation = ""
source = "invented"
read_in = "nowhere"
status = "transcribed"
context_of_use = "tests"
not_for = "anything else"
"""
RATES = """
[parameters]
kel = { value = 0.11, unit = "1/day" }
k12 = { value = 0.42, unit = "1/day" }
k21 = { value = 0.25, unit = "1/day" }
vc = { value = 4.1, unit = "L" }
b0 = { value = 200, unit = "cells/uL" }
kout = { value = 0.05, unit = "1/day" }
emax = { value = 30, unit = "" }
ec50 = { value = 5, unit = "mg/L" }

[definitions]
cl = "kel * vc"
q = "k12 * vc"
vp = "k12 * vc / k21"

[iiv]
kel = { value = 0.24, scale = "sd" }
vc = { value = 0.0484, scale = "variance" }
b0 = { value = 40, scale = "cv_lognormal" }
correlations = [{ pair = ["kel", "b0"], value = 0.3 }]
covariances = [{ pair = ["kel", "vc"], value = 0.01 }]

[iov]
vc = { value = 0.33, scale = "sd" }
kel = { value = 8, scale = "cv_approx" }

[covariates.COURSE]
meaning = "number of the course"
reference = 1
default = 1
occasion = true

[covariates.IGG]
unit = "g/L"
meaning = "serum IgG"
reference = 10

[covariates.FEMALE]
meaning = "female"
reference = 0
default = 0

[covariates.LEVEL]
unit = "ng/mL"
meaning = "residual antibody"
reference = 500

[[covariate_effects]]
parameter = "vc"
covariate = "COURSE"
form = "power"
reference = 1
value = 0.41

[[covariate_effects]]
parameter = "kel"
covariate = "IGG"
form = "power"
reference = 10
value = 0.5

[[covariate_effects]]
parameter = "vc"
covariate = "FEMALE"
form = "factor"
value = 0.909

[[covariate_effects]]
parameter = "kel"
covariate = "LEVEL"
form = "log_power"
reference = 500
value = -0.573

[residual_error]
bcell = { log_sd = 0.259, factors = { EARLY = 1.42 } }

[residual_error.conc]
prop_variance = 0.0318
add_variance = 0.0271
iiv = { value = 0.274, scale = "variance" }
"""


def written(tmp_path, text, name="invented2020_rituximab", old="", new=""):
    """Return the path of a model file with this text behind the head."""
    text = HEAD.format(name=name) + text
    assert old in text
    path = tmp_path / f"{name}.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.fixture
def model(tmp_path):
    return load_model(written(tmp_path, RATES))


def column(values, model, name):
    """Return a parameter of the structure from (..., n_parameters)."""
    return values[..., model.structure.parameters.index(name)]


# --- definitions -------------------------------------------------------------------------------


def test_the_structure_has_what_the_definitions_give(model):
    found = model.typical()
    assert found["cl"] == pytest.approx(0.11 * 4.1, rel=EXACT)
    assert found["q"] == pytest.approx(0.42 * 4.1, rel=EXACT)
    assert found["vp"] == pytest.approx(0.42 * 4.1 / 0.25, rel=EXACT)
    assert model.parameters["k12"].printed == 0.42
    assert list(typical_subject(model).parameters[0]) == list(found.values())


def test_variability_and_covariates_act_on_what_is_printed(model):
    covariates = {"IGG": 20.0, "FEMALE": 1, "LEVEL": 5000.0, "COURSE": 3}
    people = sample_population(model, 50, covariates=covariates, seed=1)
    kel = 0.11 * 2**0.5 * (np.log(5000) / np.log(500)) ** -0.573
    vc = 4.1 * 3**0.41 * 0.909
    moved = people.eta[:, :2] + people.kappa[:, 0, ::-1]  # kel and vc; [iov] names vc first
    kel, vc = kel * np.exp(moved[:, 0]), vc * np.exp(moved[:, 1])
    assert column(people.parameters, model, "cl") == pytest.approx(kel * vc, rel=EXACT)
    assert column(people.parameters, model, "vp") == pytest.approx(0.42 * vc / 0.25, rel=EXACT)


def test_a_deviation_of_what_is_defined(model):
    covariates = {name: np.full(2, c.reference) for name, c in model.covariates.items()}
    found = model.deviated(covariates, {"cl": np.log([1.0, 2.0]), "k12": np.zeros(2)}, 2)
    assert column(found, model, "cl") == pytest.approx([0.451, 0.902], rel=EXACT)
    assert column(found, model, "q") == pytest.approx([1.722, 1.722], rel=EXACT)


def test_covariances_and_correlations_stand_side_by_side(model):
    effects = model.random_effects
    variance = np.diag(effects.covariance)
    assert variance == pytest.approx([0.24**2, 0.0484, np.log1p(0.16)], rel=EXACT)
    assert effects.covariance[0, 1] == 0.01
    assert effects.correlations()["kel", "b0"] == pytest.approx(0.3, rel=EXACT)
    assert model.occasion_effects.sd() == pytest.approx({"vc": 0.33, "kel": 0.08}, rel=EXACT)


def test_errors_as_printed(model):
    conc, bcell = model.residual_error["conc"], model.residual_error["bcell"]
    assert conc.prop_sd == pytest.approx(0.178, abs=5e-4)
    assert conc.add_sd == pytest.approx(0.165, abs=5e-4)
    assert conc.variance == 0.274
    assert bcell.log_normal_sd() == 0.259
    assert bcell.factors == {"EARLY": 1.42}


def test_the_card_says_it_all(model):
    card = " ".join(str(model).split())
    for text in ("cl = kel * vc", "vc 0.33, kel 0.08", "counts the occasions", "0.909^FEMALE",
                 "(ln LEVEL/ln 500)^-0.573", "variance of its logarithm 0.274", "EARLY x 1.42",
                 "SD of the logarithm 0.259"):  # fmt: skip
        assert text in card


# --- occasions ---------------------------------------------------------------------------------

BEGINS = ["0 d", "6 mo", 365]


def test_occasions_change_what_varies_between_them(model):
    people = sample_population(model, 30, occasions=BEGINS, seed=2)
    assert people.parameters.shape == (30, 3, len(model.structure.parameters))
    assert people.occasions == (0.0, 182.625, 365.0)
    vc = column(people.parameters, model, "vc")
    wanted = 4.1 * np.arange(1, 4) ** 0.41 * np.exp(people.eta[:, 1:2] + people.kappa[:, :, 0])
    assert vc == pytest.approx(wanted, rel=EXACT)
    assert np.all(np.ptp(column(people.parameters, model, "b0"), axis=1) == 0.0)


def test_draws_of_occasions_stay_put(model):
    one = sample_population(model, 10, seed=2)
    many = sample_population(model, 40, occasions=BEGINS, seed=2)
    assert np.array_equal(one.eta, many.eta[:10])
    assert np.array_equal(one.kappa[:, 0], many.kappa[:10, 0])
    assert np.array_equal(one.parameters, many.parameters[:10, 0])
    assert not np.any(many.kappa[:, 0] == many.kappa[:, 1])
    assert np.array_equal(many.part(slice(3, 7)).parameters, many.parameters[3:7])
    assert np.array_equal(many.part(slice(3, 7)).kappa, many.kappa[3:7])


def test_the_spread_of_occasions(model):
    kappa = sample_population(model, 20_000, occasions=BEGINS, seed=3).kappa[:, 1]
    error = 5 / np.sqrt(2 * len(kappa))  # five standard errors of an SD, relative
    assert kappa.std(axis=0) == pytest.approx([0.33, 0.08], rel=error)


def test_an_occasion_is_simulated_from_its_day_on(model):
    """The doses are so far apart that the later course is one of its own parameters alone."""
    people = sample_population(model, 2, occasions=["0 d", "400 d"], seed=4)
    plan = "1000 mg iv at 0 d; 1000 mg iv at 400 d"
    many = simulate(model, plan, people, times=[1.0, 30.0, 401.0, 430.0])
    for k, shift in ((0, 0.0), (1, 400.0)):
        alone = bc.Population(
            model, people.subjects, people.covariates, people.eta, people.parameters[:, k], 4
        )
        once = simulate(model, "1000 mg iv at 0 d", alone, times=[1.0, 30.0])
        found = many.conc.sel(time=[1.0 + shift, 30.0 + shift]).values
        assert found == pytest.approx(once.conc.values, rel=1e-4)  # what is left after 400 days
    assert many.attrs["occasions"] == [0.0, 400.0]


def test_an_occasion_that_begins_later_changes_nothing(model):
    people = sample_population(model, 2, occasions=["0 d", "400 d"], seed=4)
    plain = sample_population(model, 2, seed=4)
    plan = "1000 mg iv at 0 d"
    found, wanted = (simulate(model, plan, p, until="100 d", every="10 d") for p in (people, plain))
    assert found.conc.values == pytest.approx(wanted.conc.values, rel=SOLVED)


def test_a_table_of_occasions(model):
    people = sample_population(model, 2, occasions=["0 d", "400 d"], seed=4)
    table = people.table()
    assert table.index.names == ["subject", "occasion"]
    assert list(table["COURSE"]) == [1, 2, 1, 2]
    assert list(table.loc[(1, 2), ["vc", "b0"]]) == list(
        people.parameters[1, 1, [model.structure.parameters.index(n) for n in ("vc", "b0")]]
    )


def test_explore_takes_occasions(model):
    people = sample_population(model, 20, occasions=["0 d", "26 w"], seed=4)
    plan = "1000 mg iv at 0 d, 26 w"
    table = bc.explore(model, plan, people, below=10, until="1 y", per_subject=True)
    one = sample_population(model, 20, seed=4)
    other = bc.explore(model, plan, one, below=10, until="1 y", per_subject=True)
    assert list(table["time_to_depletion"]) == pytest.approx(list(other["time_to_depletion"]))
    assert not np.allclose(table["days_above"], other["days_above"])


@pytest.mark.parametrize(
    ("occasions", "sentence"),
    [
        (["1 d", "6 mo"], "the first one begins at 0 d"),
        ([], "the first one begins at 0 d"),
        (["0 d", "6 mo", "5 mo"], "occasions: 152.188 d does not come after 182.625 d"),
        (["0 d", "6 mou"], "unknown unit"),
    ],
)
def test_occasions_that_are_none(model, occasions, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        sample_population(model, 2, occasions=occasions, seed=1)


@pytest.mark.parametrize("course", [0.5, 1.5])
def test_the_number_of_a_course_is_whole(model, course):
    with pytest.raises(ValueError, match=r"covariate COURSE \(number of the course\): 1, 2, ..."):
        sample_population(model, 2, covariates={"COURSE": course}, seed=1)


def test_a_covariate_whose_logarithm_acts(model):
    with pytest.raises(ValueError, match="covariate LEVEL: a value is not above 1 ng/mL"):
        sample_population(model, 2, covariates={"LEVEL": 0.5}, seed=1)


# --- partial models ----------------------------------------------------------------------------

PARTIAL = RATES.replace("b0 = { value = 200", "#").replace(
    'b0 = { value = 40, scale = "cv_lognormal" }\n', ""
).replace('correlations = [{ pair = ["kel", "b0"], value = 0.3 }]\n', "")  # fmt: skip
MISSING = 'missing = ["b0: the figure shows about 200", "residual_error"]\n'


@pytest.fixture
def partial(tmp_path):
    return load_model(written(tmp_path, MISSING + PARTIAL.partition("[residual_error]")[0]))


def test_a_partial_model_loads_and_says_what_is_missing(partial):
    assert partial.label() == "transcribed (partial)"
    assert partial.absent() == ["b0"]
    card = " ".join(str(partial).split())
    assert "b0: the figure shows about 200; needed to simulate; a fit needs its start" in card
    assert "residual_error: a fit needs sigma" in card
    assert np.isnan(partial.typical()["b0"])


def test_a_partial_model_refuses_by_name(partial):
    wanted = f"model {partial.name}: b0 ({PARAMETERS['b0'].meaning}) not found in the publication"
    for run in (lambda: simulate(partial, "1 g iv at 0 d", until="1 w"),
                lambda: sample_population(partial, 3)):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(wanted)):
            run()


def test_a_partial_model_takes_ones_own_values(partial):
    whole = partial.completed({"b0": "0.2 10^9/L"})
    assert whole.absent() == []
    assert whole.typical()["b0"] == pytest.approx(200, rel=EXACT)
    assert whole.parameters["b0"].source == "given by the user"
    assert float(simulate(whole, "1000 mg iv at 0 d", until="2 w").bcell[-1]) < 200
    with pytest.raises(ValueError, match='unknown missing parameter "vc"'):
        partial.completed({"vc": 3})


CLEARANCES = """
[parameters]
cl = { value = 0.451, unit = "L/day", fixed = true }
vc = { value = 4.1, unit = "L", fixed = true }
q = { value = 1.722, unit = "L/day", fixed = true }
vp = { value = 6.888, unit = "L", fixed = true }
kout = { value = 0.05, unit = "1/day", fixed = true }
emax = { value = 30, unit = "", fixed = true }
ec50 = { value = 5, unit = "mg/L", fixed = true }
"""


def test_a_partial_model_can_be_fitted(tmp_path):
    partial = load_model(written(tmp_path, MISSING + CLEARANCES))
    path = tmp_path / "counts.csv"
    path.write_text(
        "ID,TIME,AMT,DUR,DVID,DV,EVID\n1,0,1000,0.2,,,1\n"
        + "".join(f"1,{t},,,bcell,{v},0\n" for t, v in [(0, 150), (60, 6), (200, 60)])
    )
    data = bc.read_observations(path)
    fit = bc.fit_individual(partial, data, prior=None, start={"b0": 120}, sigma=0.3)
    assert 100 < fit.params.loc["b0", "value"] < 250
    with pytest.raises(ValueError, match=r"b0 .* not found in the publication: fit or fix it"):
        bc.fit_individual(partial, data, prior=None, sigma=0.3)


def test_what_has_no_pk_cannot_miss_it(tmp_path):
    text = 'missing = ["pk"]\n[parameters]\nb0 = { value = 200, unit = "cells/uL" }\n'
    path = written(tmp_path, text, old='"turnover"', new='"kpd"')
    assert "structure kpd has no PK apart from its B cells" in refused(path, "missing.1", "missing")


def test_a_model_whose_variability_is_missing(tmp_path):
    text = 'missing = ["variability"]\n' + PARTIAL.replace("#, unit", "b0 = { value = 200, unit")
    start, end = text.index("[iiv]"), text.index("[covariates.COURSE]")
    model = load_model(written(tmp_path, text[:start] + text[end:]))
    assert float(simulate(model, "1000 mg iv at 0 d", until="2 w").bcell[-1]) < 200
    with pytest.raises(ValueError, match="has no published variability to sample a population"):
        sample_population(model, 3)


# --- mistakes ----------------------------------------------------------------------------------

VC, B0 = (
    'vc = { value = 0.0484, scale = "variance" }',
    'b0 = { value = 40, scale = "cv_lognormal" }',
)

#: What to replace by what, the key named, a part of the sentence, and the line marked in the text.
MISTAKES = {
    "large cv": (B0, B0.replace("40", "612"), "iiv.b0.value", "a CV of 612 % (cv_lognormal) is "
                 "implausible: is it a percentage of something else", "612"),
    "cv as a fraction": (B0, B0.replace("40", "0.4"), "iiv.b0.value", "is it a fraction (write 40) "
                         "or an SD or a variance?", "0.4,"),
    "cv as sd": ('kel = { value = 0.24', 'kel = { value = 24', "iiv.kel.value", "an SD of 24 (sd) "
                 "is implausible: is it a CV in %?", "= 24,"),
    "cv as variance": (VC, VC.replace("0.0484", "22"), "iiv.vc.value",
                       "a variance of 22 (variance) is implausible: is it a CV in %?", "22"),
    "sd as variance": (VC, VC.replace("0.0484", "9.5"), "iiv.vc.value", "is it a CV in %?", "9.5"),
    "tiny variance": (VC, VC.replace("0.0484", "0.00005"), "iiv.vc.value", "a variance of 5e-05",
                      "0.00005"),
    "correlation": ('"b0"], value = 0.3', '"b0"], value = -1.2', "iiv.correlations.1.value",
                    "greater than -1", "-1.2"),
    "covariance": ('"vc"], value = 0.01', '"vc"], value = 0.06', "iiv.covariances.1.value",
                   "a covariance of 0.06 makes a correlation of 1.14", "0.06"),
    "covariance of nobody": ('["kel", "vc"], value = 0.01', '["kel", "ec50"], value = 0.01',
                             "iiv.covariances.1", 'variability "ec50"', '"ec50"]'),
    "given as both": ('["kel", "vc"], value = 0.01', '["b0", "kel"], value = 0.01',
                      "iiv.covariances.1", "given twice", '["b0", "kel"]'),
    "iov of nobody": ('kel = { value = 8', 'kle = { value = 8', "iov.kle", 'mean "kel"?', "kle"),
    "key of iov": ('kel = { value = 8', 'kel = { vlaue = 8', "iov.kel.vlaue", '"value"?', "vlaue"),
    "definition": ('cl = "kel * vc"', 'clx = "kel * vc"', "definitions.clx", 'did you mean "cl"?',
                   "clx ="),
    "unknown name": ('cl = "kel * vc"', 'cl = "kle * vc"', "definitions.cl", 'mean "kel"?', "kle"),
    "unit": ('cl = "kel * vc"', 'cl = "kel / vc"', "definitions.cl",
             '"kel / vc" is in 1/day/L, but L/day is wanted', "kel / vc"),
    "no formula": ('cl = "kel * vc"', 'cl = "kel vc"', "definitions.cl", "is not a formula",
                   "kel vc"),
    "twice": ("k12 = {", 'cl = { value = 1, unit = "L/day" }\nk12 = {', "definitions.cl",
              "cl stands in [parameters] as well", 'cl = "kel'),
    "without use": ('q = "k12 * vc"\nvp = "k12 * vc / k21"', 'q = "kel * vc"\nvp = "vc"',
                    "parameters.k12", 'unknown parameter "k12"', "k12 ="),
    "form": ('form = "log_power"\nreference = 500', 'form = "log_power"', "covariate_effects.4",
             "the form log_power needs the reference of the covariate", None),
    "factor": ("value = 0.909", "value = -0.1", "covariate_effects.3", "a factor is above 0", None),
    "effect twice": ('parameter = "kel"\ncovariate = "LEVEL"', 'parameter = "kel"\n'
                     'covariate = "IGG"', "covariate_effects.4.covariate",
                     "the effect of IGG on kel is given twice", None),
    "sd twice": ("prop_variance = 0.0318", "prop_variance = 0.0318\nprop_sd = 0.2",
                 "residual_error.conc", "an SD is given once", "[residual_error.conc]"),
    "log sd": ("{ log_sd = 0.259,", "{ log_sd = 0.259, add_sd = 1,", "residual_error.bcell",
               "log_sd, the SD of the logarithm, stands alone", "log_sd"),
    "declining": ("{ log_sd = 0.259,", '{ form = "declining",', "residual_error.bcell",
                  "the form declining has low_sd, high_sd and half", "declining"),
    "missing": ("\n[parameters]", '\nmissing = ["hil"]\n[parameters]', "missing.1",
                'unknown thing to be missing "hil"; did you mean "hill"?', "missing ="),
    "not missing": ("\n[parameters]", '\nmissing = ["vc: not there"]\n[parameters]', "missing.1",
                    "vc is said to be missing, but stands in [parameters]", "missing ="),
    "variability": ("\n[parameters]", '\nmissing = ["variability"]\n[parameters]', "missing.1",
                    "the variability is said to be missing, but there is [iiv]", "missing ="),
    "not said": ("b0 = { value = 200", "# { value = 200", "iiv.b0", "unknown parameter",
                 "b0 = { value = 40"),
    "key twice": ("vc = { value = 4.1", 'vc = { value = 4, unit = "L" }\nvc = { value = 4.1', "vc",
                  "not valid TOML", "vc = { value = 4.1"),
    "syntax": ('k12 = { value = 0.42, unit = "1/day" }', 'k12 = { value = 0.42, unit = 1/day }',
               "k12", "not valid TOML", "1/day }"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_in_a_model_file(tmp_path, case):
    old, new, key, said, mark = MISTAKES[case]
    path = written(tmp_path, RATES, old=old, new=new)
    assert said in refused(path, key, mark)


def refused(path, key, mark=None):
    """Return the sentence with which a file is refused, after its file, line and key."""
    with pytest.raises(ValueError, match=re.escape(f"{key}: ")) as caught:
        load_model(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    line = r"\d+"
    if mark is not None:
        lines = path.read_text(encoding="utf-8").splitlines()
        line = next(i for i, text in enumerate(lines, start=1) if mark in text)
    assert re.match(rf"{re.escape(str(path))}, line {line}, {re.escape(key)}: ", sentence)
    return sentence


CHECK = """
[[checks]]
id = "one"
metric = "floor"
expected = 6.45
low = 6.4
high = 6.5
unit = "cells/uL"
source = "invented"
"""


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (CHECK.replace("low = 6.4\n", ""), "checks.1", "a check needs its tolerance: low and high"),
        (CHECK + CHECK, "checks.2.id", 'two checks are named "one"'),
        (CHECK.replace("6.45", "7"), "checks.1", "expected 7 does not lie between low 6.4 and"),
        (CHECK + 'formula = "b0 +"\n', "checks.1.formula", "is not a formula"),
    ],
)
def test_mistake_in_a_check(tmp_path, text, key, said):
    assert said in refused(written(tmp_path, RATES + text), key)


def test_a_fit_refuses_an_error_it_cannot_use(tmp_path):
    declining = 'conc = { form = "declining", low_sd = 0.81, high_sd = 0.134, half = 6.35 }\n'
    text = RATES.partition("[residual_error]")[0] + "[residual_error]\n" + declining
    model = load_model(written(tmp_path, text))
    assert "SD of the logarithm 0.81 - 0.676 f / (6.35 + f)" in str(model)
    path = tmp_path / "conc.csv"
    path.write_text(
        "ID,TIME,AMT,DVID,DV,EVID,IGG,LEVEL\n1,0,1000,,,1,10,500\n1,9,,conc,100,0,10,500\n"
    )
    with pytest.raises(ValueError, match="error of conc: its SD falls with the concentration, wh"):
        bc.fit_individual(model, path)
