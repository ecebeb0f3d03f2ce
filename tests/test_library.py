"""The library: every file loads and says where its numbers come from; mistakes get a sentence."""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

import bcellsim.catalog
from bcellsim import check_model, list_models, list_regimens, load_model, load_regimen, simulate
from bcellsim.catalog import PAGE, catalog
from bcellsim.check import PUBLISHED, run_check
from bcellsim.library import _FOLDER, load_drug, model_names, reference, regimen_names
from bcellsim.model import Check
from bcellsim.population import typical_subject
from bcellsim.structures import PARAMETERS, STRUCTURES
from bcellsim.units import convert

YU, CHEN = "yu2022_ofatumumab", "chen2024_rituximab"
MODELS = model_names()
VARIANTS = [f"{name}:{v}" for name in MODELS for v in load_model(name).variants]
DRUGS = sorted(path.stem for path in (_FOLDER / "drugs").glob("*.toml"))

PRINTED = 5e-3  # models.md prints its derived numbers with two to four digits
SOLVED = 1e-5  # ten times the default tolerance of what is simulated
ALGEBRA = 1e-12  # the same numbers by another order of operations


# --- what is in the library --------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS + VARIANTS)
def test_model_file(name):
    model = load_model(name)
    assert model.name == name
    assert model.structure is STRUCTURES[model.structure.name]
    assert model.doi == reference(model.citation)["doi"]
    assert re.fullmatch(r"10\.\d{4,}/\S+", model.doi)
    assert model.read_in
    assert model.context_of_use
    assert model.not_for
    for key, parameter in model.parameters.items():
        unit = PARAMETERS[key].unit
        mass = model.drug.molar_mass
        assert parameter.value == convert(parameter.printed, parameter.unit, unit, molar_mass=mass)
        assert parameter.source, key
    assert all(model.random_effects.sources)
    assert all(effect.source for effect in model.covariate_effects)
    assert all(error.source for error in model.residual_error.values())


@pytest.mark.parametrize("name", MODELS + VARIANTS)
def test_covariance(name):
    effects = load_model(name).random_effects
    assert np.array_equal(effects.covariance, effects.covariance.T)
    assert np.linalg.eigvalsh(effects.covariance).min(initial=np.inf) > 0
    assert effects.factor() @ effects.factor().T == pytest.approx(effects.covariance, abs=ALGEBRA)
    assert set(effects.names) <= set(load_model(name).parameters)


@pytest.mark.parametrize("name", MODELS + VARIANTS)
def test_reference_covariates_give_the_typical_values(name):
    model = load_model(name)
    if model.absent():
        with pytest.raises(ValueError, match="not found in the publication"):
            typical_subject(model)
    else:
        assert typical_subject(model).parameters[0].tolist() == list(model.typical().values())


#: Models that can be simulated, with each of their routes.
DOSED = [(n, r) for n in MODELS if not load_model(n).absent() for r in load_model(n).routes()]


@pytest.mark.parametrize(("name", "route"), DOSED)
def test_a_typical_subject_is_dosed(name, route):
    model = load_model(name)
    people = typical_subject(model, {n: 1 for n, c in model.covariates.items() if c.route == route})
    course = simulate(model, f"100 mg {route} at 0 d", people, until="4 w", every="1 w")
    for output in model.structure.outputs:
        assert np.all(np.isfinite(course[output]))
        assert np.all(course[output] >= 0)
    if "conc" in model.structure.outputs:
        assert np.all(course.conc[..., 1:] > 0)


LINEAR = [n for n in MODELS if load_model(n).structure.name == "pk_linear"]


@pytest.mark.parametrize("name", [n for n in LINEAR if not load_model(n).gives("cl_t")])
def test_exposure_is_dose_by_clearance(name):
    """All of the drug leaves by the clearance: AUC = dose / CL, whatever the volumes."""
    model = load_model(name)
    wanted = 1000 / model.typical()["cl"]
    check = Check("auc", "auc_window", "", 0, 1, 0.5, unit="mg/L*day", endpoint="conc",
                  regimen="1000 mg iv at 0 d", window=("0 d", "4 y"))  # fmt: skip
    assert run_check(model, check).obtained == pytest.approx(wanted, rel=SOLVED)


@pytest.mark.parametrize(("name", "half_life"), [
    ("lioger2017_rituximab", 18.7), ("gibiansky2014_obinutuzumab", 31.7),
    ("gibiansky2021_rituximab", 32.0), ("rozman2017_rituximab", 40.4),
    ("candelaria2018_rituximab", 21.2), ("gibiansky2021_ocrelizumab", 25.8),
    ("davda2014_antibody", 23.2), ("liang2024_rituximab", 21.5), (CHEN, 17.2),
])  # fmt: skip
def test_terminal_half_lives(name, half_life):
    """As worked out elsewhere from the same parameters, to the digits given there."""
    check = Check("t", "half_life_terminal", "", 0, 1, 0.5, unit="day")
    assert run_check(load_model(name), check).obtained == pytest.approx(half_life, abs=0.06)


@pytest.mark.parametrize("name", MODELS + VARIANTS)
def test_card(name):
    model, card = load_model(name), str(load_model(name))
    stated = [name, model.drug.name, model.doi, model.status, model.structure.name]
    for text in [*stated, *model.parameters, *model.covariates, *model.variants]:
        assert text in card
    plain = " ".join(card.split())
    for text in (model.context_of_use, model.not_for, model.notes):
        assert " ".join(text.split()) in plain


def test_list_of_models():
    table = list_models()
    assert list(table.name) == MODELS
    columns = ["name", "drug", "disease", "structure", "outputs", "status", "citation"]
    assert set(columns) <= set(table)
    assert table[columns].notna().all(axis=None)


@pytest.mark.parametrize("name", DRUGS)
def test_drug_file(name):
    drug = load_drug(name)
    assert drug.name == name
    assert drug.source
    assert drug.molar_mass is None or 140 < drug.molar_mass < 155  # [kDa] an IgG1


@pytest.mark.parametrize("name", regimen_names())
def test_regimen_file(name):
    regimen = load_regimen(name)
    assert regimen.name == name
    assert regimen.source
    assert load_drug(regimen.drug)
    assert {dose.route for dose in regimen.doses("1 y")} <= set(load_drug(regimen.drug).routes)
    assert load_regimen(regimen.shorthand()).doses("3 y") == regimen.doses("3 y")


#: Written by hand from the labels and papers: day, amount and hours of the first doses, in which
#: unit, and the number of doses in two years.
REGIMENS = {
    "ofatumumab_rms": ("mg", [(0, 20, 0), (7, 20, 0), (14, 20, 0), (28, 20, 0), (56, 20, 0)], 29),
    "ofatumumab_ae_ruijin": ("mg", [(0, 20, 0), (7, 20, 0), (42, 20, 0), (84, 20, 0)], 4),
    "ocrelizumab_ms": ("mg", [(0, 300, 2.5), (14, 300, 2.5), (168, 600, 3.5), (336, 600, 3.5)], 6),
    "ublituximab_rms": ("mg", [(0, 150, 4), (14, 450, 1), (168, 450, 1), (336, 450, 1)], 6),
    "inebilizumab_nmosd": ("mg", [(0, 300, 1.5), (14, 300, 1.5), (182.625, 300, 1.5)], 5),
    "obinutuzumab_cll": ("mg", [(0, 100, 4), (1, 900, 4), (7, 1000, 3.25), (14, 1000, 3.25),
                                (28, 1000, 3.25), (56, 1000, 3.25)], 9),
    "rituximab_1000mg_x2": ("mg", [(0, 1000, 4.25), (14, 1000, 3.25)], 2),
    "rituximab_375mgm2_x4": ("mg/m2", [(0, 375, 0), (7, 375, 0), (14, 375, 0), (21, 375, 0)], 4),
    "rituximab_children_750mgm2_x2": ("mg/m2", [(0, 750, 0), (14, 750, 0)], 2),
    "rituximab_ae_600mg": ("mg", [(0, 600, 0)], 1),
    "rituximab_ae_100mg": ("mg", [(0, 100, 0), (7, 100, 0), (14, 100, 0), (182.625, 100, 0)], 6),
}  # fmt: skip


@pytest.mark.parametrize("name", REGIMENS)
def test_doses_of_a_regimen(name):
    unit, first, n = REGIMENS[name]
    doses = load_regimen(name).doses("2 y")
    found = [(dose.time, dose.amount, 24 * dose.duration) for dose in doses]
    assert found[: len(first)] == [pytest.approx(dose) for dose in first]
    assert len(doses) == n
    assert {dose.unit for dose in doses} == {unit}
    assert {dose.cap for dose in doses} == {1000.0 if "children" in name else None}


def test_list_of_regimens():
    assert list(list_regimens().name) == regimen_names()


checks_of = cache(check_model)  # run once, for this test and for the page


@pytest.mark.parametrize("name", MODELS)
def test_checks_support_the_status(name):
    table = checks_of(name)
    general, published = (table[(table.section == PUBLISHED) == which] for which in (False, True))
    assert "FAILS" not in set(general.verdict)
    assert {"file", "equations", "variability", "baseline"} <= set(general.section)
    checks = {check.id: check for check in load_model(name).checks}
    assert list(published.id) == list(checks)
    gated = [checks[key].gate for key in published.id]
    inside = (published.low <= published.obtained) & (published.obtained <= published.high)
    wanted = np.where(gated, np.where(inside, "passes", "FAILS"), "note")
    assert list(published.verdict) == list(wanted)
    supported = "reproduced" if any(gated) and "FAILS" not in wanted else "transcribed"
    assert table.attrs["supported"] == supported
    assert load_model(name).status == supported


def test_the_page_of_all_models_is_current():
    table = pd.concat([checks_of(name) for name in MODELS], ignore_index=True)
    assert catalog(table) == PAGE.read_text(encoding="utf-8"), "run python -m bcellsim.catalog"


def test_the_page_is_written_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(bcellsim.catalog, "PAGE", tmp_path / "MODELS.md")
    monkeypatch.setattr(bcellsim.catalog, "check_library", lambda: checks_of(MODELS[0]))
    monkeypatch.setattr(
        bcellsim.catalog, "list_models", lambda: list_models().query("name == @MODELS[0]")
    )
    bcellsim.catalog.write()
    assert [path.name for path in tmp_path.iterdir()] == ["MODELS.md"]
    assert f"## {MODELS[0]}" in (tmp_path / "MODELS.md").read_text(encoding="utf-8")


# --- published numbers (models.md) -------------------------------------------------------------


def test_variant_swaps_two_correlations():
    default, other = (load_model(n).random_effects for n in (YU, f"{YU}:reading_b"))
    assert default.names == other.names
    sd = np.sqrt(np.diag(default.covariance))
    differs = np.argwhere(np.triu(default.covariance != other.covariance))
    pairs = {frozenset((default.names[i], default.names[j])): (i, j) for i, j in differs}
    assert pairs.keys() == {frozenset(("kout", "vb")), frozenset(("kout", "emax"))}
    for pair, values in ((("kout", "vb"), (-0.336, 0.423)), (("kout", "emax"), (0.423, -0.336))):
        i, j = pairs[frozenset(pair)]
        found = [effects.covariance[i, j] / sd[i] / sd[j] for effects in (default, other)]
        assert found == pytest.approx(values, rel=ALGEBRA)


@pytest.mark.parametrize("name", [YU, f"{YU}:reading_b"])
def test_determinant_of_the_correlation_block(name):
    effects = load_model(name).random_effects
    block = [effects.names.index(n) for n in ("kout", "vb", "emax")]
    covariance = effects.covariance[np.ix_(block, block)]
    sd = np.sqrt(np.diag(covariance))
    assert np.linalg.det(covariance / np.outer(sd, sd)) == pytest.approx(0.550, abs=5e-4)


def test_derived_numbers_of_yu():
    model = load_model(YU)
    p, nmol = model.typical(), model.drug.molar_mass * 1e-3  # mg/L per nmol/L
    kss = p["kd"] * (p["kint"] + p["koff"]) / p["koff"]
    assert kss / nmol == pytest.approx(0.2066, rel=PRINTED)
    assert kss == pytest.approx(0.030, abs=5e-4)
    assert p["ec50"] / nmol == pytest.approx(0.039, abs=5e-4)
    assert p["ksyn0"] / p["r0"] == pytest.approx(0.0303, rel=PRINTED)
    iv = dict(zip(p, typical_subject(model, {"IV": 1}).parameters[0], strict=True))
    assert iv["cl"] == pytest.approx(0.117, abs=5e-4)
    assert p["b0"] / (1 + p["emax"]) == pytest.approx(1.21, abs=5e-3)


# --- mistakes ----------------------------------------------------------------------------------

TEXT = (_FOLDER / "models" / f"{CHEN}.toml").read_text(encoding="utf-8")
LAST_IIV = 'kout = { value = 65.4, scale = "cv_lognormal" }\n'


def correlations(*pairs):
    """Return the lines that give [iiv] these correlations."""
    entries = [f'  {{ pair = ["{a}", "{b}"], value = {value} }},' for a, b, value in pairs]
    return LAST_IIV + "\n".join(["correlations = [", *entries, "]"]) + "\n"


FIRST = ("cl", "vc", 0.1)
FIXED = 'fixed = true, source = "Table 2, fixed to Chen 2021" }'

#: What to replace by what, the key named, a part of the sentence, and what marks the line that is
#: wrong (in the broken text).
MISTAKES = {
    "table": ("[parameters]", "[paramters]", "paramters", 'did you mean "parameters"?', "[paramt"),
    "key": ("vc = { value = 1", "vc = { vlaue = 1", "parameters.vc.vlaue", '"value"?', "vlaue"),
    "key unit": ("q = { value = 7.5, unit", "q = { value = 7.5, unti", "q.unti", '"unit"?', "unti"),
    "unit": ('q = { value = 7.5, unit = "mL/h"', 'q = { value = 7.5, unit = "L/dy"',
             "parameters.q.unit", 'unknown unit "L/dy"; did you mean', "L/dy"),
    "kind of unit": ('emax = { value = 99.6, unit = ""', 'emax = { value = 99.6, unit = "mg"',
                     "parameters.emax.unit", "is a mass", "emax ="),
    "structure": ('"turnover"', '"turnovr"', "structure", 'did you mean "turnover"?', "turnovr"),
    "drug": ('"rituximab"', '"rituximb"', "drug", 'did you mean "rituximab"?', "rituximb"),
    "citation": ('"Chen2024"', '"Chen2042"', "citation", 'mean "Chen2024"?', "Chen2042"),
    "parameter": ("ec50 =", "koff =", "parameters.koff", 'unknown parameter "koff"', "koff ="),
    "type": ("0.051", '"0.051"', "parameters.kout.value", "number", '"0.051"'),
    "nan": ("value = 395", "value = nan", "parameters.b0.value", "finite", "nan"),
    "negative": ("value = 99.6", "value = -99.6", "emax.value", "negative", "-99.6"),
    "type of text": ('name = "chen', 'name = 7 # "chen', "name", "string", "name = 7"),
    "required": ('title = "Rituximab IV, childhood nephrotic syndrome"\n', "", "title", "required",
                 None),
    "required inside": ('vp = { value = 1.9, unit = "L",', "vp = { value = 1.9,",
                        "parameters.vp.unit", "required", "vp = { value = 1.9"),
    "scale": ('65.8, scale = "cv_lognormal"', '65.8, scale = "cv"', "iiv.b0.scale",
              'unknown scale "cv"; known: cv_approx, cv_lognormal, sd, variance', '"cv"'),
    "near scale": ('65.8, scale = "cv_lognormal"', '0.36, scale = "var"', "iiv.b0.scale",
                   'unknown scale "var"; did you mean "variance"?', '"var"'),
    "correlation": (LAST_IIV, correlations(FIRST, ("cl", "ec50", 0.1)), "correlations.2",
                    'unknown parameter with variability "ec50"', '"cl", "ec50"'),
    "first correlation": (LAST_IIV, correlations(("cl", "b", 0.1)), "correlations.1",
                          'did you mean "b0"?', '"cl", "b"'),
    "large correlation": (LAST_IIV, correlations(FIRST, ("cl", "b0", 1.5)), "correlations.2.value",
                          "less than 1", '"cl", "b0"'),
    "not definite": (LAST_IIV, correlations(("cl", "vc", 0.9), ("cl", "b0", 0.9),
                     ("vc", "b0", -0.9)), "iiv", "not positive definite", "[iiv]"),
    "with itself": (LAST_IIV, correlations(("cl", "cl", 0.5)), "correlations.1", "cl",
                    '"cl", "cl"'),
    "twice": (LAST_IIV, correlations(FIRST, ("vc", "cl", 0.3)), "correlations.2", "cl",
              '"vc", "cl"'),
    "syntax": ("[iiv]", "[iiv", "", "not valid TOML", "[iiv"),
    "name": (f'name = "{CHEN}"', 'name = "chen2025"', "name", "not the name of the file",
             "chen2025"),
    "study": ("median = 0.9", "medain = 0.9", "covariates.BSA.study.medain", '"median"?', "medain"),
    "effect": ('parameter = "vc"', 'parameter = "vcc"', "covariate_effects.2.parameter",
               'did you mean "vc"?', '"vcc"'),
    "covariate": ('parameter = "vc"\ncovariate = "BSA"', 'parameter = "vc"\ncovariate = "BAS"',
                  "covariate_effects.2.covariate", 'did you mean "BSA"?', '"BAS"'),
    "output": ("conc = {", "cnoc = {", "residual_error.cnoc", 'did you mean "conc"?', "cnoc"),
    "check": ("expected = 10.8", "expectd = 10.8", "checks.4.expectd", '"expected"?', "expectd"),
    "status": ('"reproduced"', '"reproducd"', "status", '"reproduced"?', "reproducd"),
}  # fmt: skip


OWN = "my_rituximab"


def broken(tmp_path, old, new):
    assert old in TEXT
    path = tmp_path / f"{OWN}.toml"
    path.write_text(TEXT.replace(old, new, 1).replace(f'"{CHEN}"', f'"{OWN}"'), encoding="utf-8")
    return path


def refused(path):
    """Return the sentence with which a model file is refused."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (each case tests the sentence)
        load_model(path)
    return str(caught.value)


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_in_a_model_file(tmp_path, case):
    old, new, key, said, mark = MISTAKES[case]
    path = broken(tmp_path, old, new)
    sentence = refused(path)
    assert "\n" not in sentence
    assert sentence.startswith(str(path))
    assert f"{key}: " in sentence
    assert said in sentence
    if mark is not None:  # a key that is not there at the top of the file has no line
        lines = path.read_text(encoding="utf-8").splitlines()
        right = next(i for i, line in enumerate(lines, start=1) if mark in line)
        assert re.search(rf"\bline {right}\b", sentence)


@pytest.mark.parametrize(
    ("old", "new", "key", "mark"),
    [
        ('["kout", "emax"], value = -0.336', '["kout", "kout"], value = -0.3',
         "variants.reading_b.correlations.9", '["kout", "kout"]'),
        ('pair = ["cl", "kdes"], value = 0.642', 'pair = ["cl", 7], value = 0.642',
         "iiv.correlations.3.pair.2", '"cl", 7]'),
        ('description = "the other', 'descriptoin = "the other', "variants.reading_b.descriptoin",
         "descriptoin"),
        ("n_subjects = 1486", "n_subjects = [1486]", "study.n_subjects", "[1486]"),
        ('route = "iv"', 'route = 1', "covariates.IV.route", "route = 1"),
    ],
)  # fmt: skip
def test_mistake_in_a_larger_model_file(tmp_path, old, new, key, mark):
    text = (_FOLDER / "models" / f"{YU}.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / f"{OWN}.toml"
    path.write_text(text.replace(old, new, 1).replace(f'"{YU}"', f'"{OWN}"'), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(f"{key}: ")) as caught:
        load_model(f"{path}:reading_b")
    lines = path.read_text(encoding="utf-8").splitlines()
    right = next(i for i, line in enumerate(lines, start=1) if mark in line)
    assert str(caught.value).startswith(f"{path}, line {right}, {key}: ")


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert refused(path) == f"{path}: not a text file (UTF-8)"


def test_a_variant_of_a_file_of_ones_own(tmp_path):
    path = tmp_path / f"{YU}.toml"
    path.write_text((_FOLDER / "models" / path.name).read_text(encoding="utf-8"), encoding="utf-8")
    own, published = load_model(f"{path}:reading_b"), load_model(f"{YU}:reading_b")
    assert own.name == published.name
    assert np.array_equal(own.random_effects.covariance, published.random_effects.covariance)
    with pytest.raises(ValueError, match='unknown variant "reading_c"; did you mean "reading_b"'):
        load_model(f"{path}:reading_c")


def test_a_copy_of_a_model_file_is_the_same_model(tmp_path):
    copy = load_model(broken(tmp_path, "", ""))
    assert copy.typical() == load_model(CHEN).typical()


def test_an_altered_model_does_not_go_by_the_name_of_the_published_one(tmp_path):
    path = tmp_path / f"{CHEN}.toml"
    path.write_bytes((_FOLDER / "models" / path.name).read_bytes())
    assert load_model(path).name == CHEN
    path.write_text(TEXT.replace("value = 395", "value = 396"), encoding="utf-8")
    said = "is a model of the library, and this file differs from it; name yours otherwise"
    assert refused(path) == f'{path}, line 1, name: "{CHEN}" {said}'


@pytest.mark.parametrize(
    ("load", "given", "sentence"),
    [
        (load_model, "yu2022_ofatumumb", f'unknown model "yu2022_ofatumumb"; did you mean "{YU}"?'),
        (load_model, f"{YU}:reading_c", 'unknown variant "reading_c"; did you mean "reading_b"?'),
        (load_regimen, "ofatumumab_rrms", 'unknown regimen "ofatumumab_rrms"; did you mean "ofat'),
        (load_drug, "ritoximab", 'unknown drug "ritoximab"; did you mean "rituximab"?'),
        (reference, "Yu2021", 'unknown citation "Yu2021"; did you mean "Yu2022"?'),
    ],
)
def test_unknown_name(load, given, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load(given)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"no model file nowhere\.toml"):
        load_model("nowhere.toml")


@pytest.mark.parametrize("name", MODELS)
def test_checks_have_units_and_ordered_bounds(name):
    for check in load_model(name).checks:
        assert check.low <= check.expected <= check.high
        assert check.source
        assert convert(1.0, check.unit, check.unit) == pytest.approx(1)


# --- checks of a file of one's own -------------------------------------------------------------


def checked(tmp_path, entry):
    """Return the table of the checks of a file with this one check instead of its own."""
    path = tmp_path / f"{OWN}.toml"
    text = TEXT[: TEXT.index("[[checks]]")].replace(CHEN, OWN, 1)
    path.write_text(text + entry, encoding="utf-8")
    return check_model(path)


CHECK = """\
[[checks]]
id = "one"
regimen = "375 mg/m2 iv over 4 h at 0 d"
metric = "days_above"
threshold = 0
window = ["0 d", "20 d"]
expected = 20
low = 19.999
high = 20.001
unit = "d"
source = "a count is above 0 at every moment"
"""


def test_a_model_file_without_checks(tmp_path):
    table = checked(tmp_path, "")
    assert list(table.columns) == list(check_model(CHEN).columns)
    assert PUBLISHED not in set(table.section)
    assert table.attrs == {"model": OWN, "claimed": "reproduced", "supported": "transcribed"}


def test_a_threshold_of_zero(tmp_path):
    table = checked(tmp_path, CHECK)
    assert list(table[table.section == PUBLISHED].verdict) == ["passes"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"days_above"', '"days_abov"', 'unknown metric "days_abov"; did you mean "days_above"?'),
        ('"days_above"', '"flor"', 'did you mean "floor"?'),
        ('"375 mg/m2 iv over 4 h at 0 d"', '"ofatumumab_rrms"', "unknown regimen"),
        ('unit = "d"', 'unit = "d"\ncovariates = { BAS = 1 }', 'did you mean "BSA"?'),
        ('unit = "d"', 'unit = "d"\ncovariates = { BSA = "study" }', "no sampled covariates"),
        ('unit = "d"', 'unit = "d"\nendpoint = "bcel"', 'did you mean "bcell"?'),
        ('unit = "d"', 'unit = "d"\nstatistic = "median"', "needs population"),
        ('unit = "d"', 'unit = "mg"', "is a time"),
    ],
)
def test_a_check_that_cannot_be_run(tmp_path, old, new, sentence):
    assert old in CHECK
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        checked(tmp_path, CHECK.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path / OWN}.toml, check one: ")
    assert "\n" not in str(caught.value)


def test_the_floor_needs_a_full_effect():
    model = load_model(CHEN)
    parameters = {name: value for name, value in model.parameters.items() if name != "emax"}
    floor = next(check for check in model.checks if check.metric == "floor")
    with pytest.raises(ValueError, match=r"check P15: metric floor needs parameter emax"):
        run_check(replace(model, parameters=parameters), floor)


def test_a_regimen_says_what_its_source_does_not():
    assert "entered as a bolus" in str(load_regimen("rituximab_ae_600mg"))


def test_the_card_names_the_source_of_every_number():
    card = str(load_model(CHEN))
    assert "Table 2: all other numbers" in card
    assert "Table 2, fixed to Chen 2021: cl, vc, q, vp" in card


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (CHEN, "conc: proportional 0.18 bcell: proportional 0.84"),
        (YU, "conc: proportional 0.278, additive 0.0316 mg/L (combined2)"),
        ("rozman2017_rituximab", "cl x (1 - 0.0082 (AGE - 60)), kdes x (1 - 0.822 PROGRESSED)"),
        (YU, "cl x exp(-1.07 IV)"),
        ("liang2024_rituximab", "94000 molecules/cell = 2.246e-05 ng/cell fixed"),
    ],
)
def test_lines_of_cards(name, line):
    assert line in " ".join(str(load_model(name)).split())
