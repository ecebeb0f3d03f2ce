"""Simulation: shapes, provenance, events and the sentences for what cannot be simulated."""

import inspect
import re
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from bcellsim import Event, Regimen, load_model, load_regimen, sample_population, simulate
from bcellsim.engine import STATUS
from bcellsim.population import typical_subject
from bcellsim.schedule import compile_events
from bcellsim.units import days

YU, CHEN = "yu2022_ofatumumab", "chen2024_rituximab"
LABEL = "ofatumumab_rms"
OUTPUTS = {"conc", "bcell"}
TIGHT = {"rtol": 1e-9, "atol": 1e-11}
# Two solves at rtol 1e-9 that take other steps (the engine's tests hold it to 90 rtol).
SOLVER = 1e-7
DEFAULT = 1e-4  # the same at the default rtol of 1e-6


def bolus(amount=500.0, time=0.0, **more):
    return Event("dose", time, amount, route="iv", **more)


# --- shapes and what a result says ---------------------------------------------------------------


@pytest.mark.parametrize("regimens", [LABEL, [LABEL], [LABEL, "20 mg sc q8w"]])
@pytest.mark.parametrize("population", [None, 1, 3])
def test_dimensions(regimens, population):
    result = simulate(YU, regimens, population, until=28, every=7, seed=1)
    wanted = {"time": 5}
    if isinstance(regimens, list):
        wanted["regimen"] = len(regimens)
    if population:
        wanted["subject"] = population
    for name in load_model(YU).structure.outputs:
        assert dict(result[name].sizes) == wanted
        assert result[name].dims == tuple(d for d in ("regimen", "subject", "time") if d in wanted)
    assert result.dose_time.dims[-1] == "dose"
    assert "time" not in result.status.dims


def test_attributes():
    result = simulate(YU, LABEL, 2, until=28, seed=5)
    units = {"conc": "mg/L", "conc_free": "mg/L", "bcell": "cells/uL", "dose_amount": "mg"}
    units |= {"dose_time": "day", "time": "day"}
    for name, unit in units.items():
        assert result[name].attrs["unit"] == unit
        assert result[name].attrs["long_name"]
    model = load_model(YU)
    for key in ("citation", "doi", "title"):
        assert result.attrs[key] == getattr(model, key)
    assert result.attrs["model"] == YU
    assert result.attrs["seed"] == 5
    assert model.status in result.attrs["status"]
    assert {"backend", "rtol", "atol", "bcellsim", "regimen"} <= set(result.attrs)
    assert list(result.dose_time) == [0, 7, 14]
    assert list(result.dose_amount) == [20, 20, 20]


def test_results_of_several_regimens_are_those_of_each():
    people = sample_population(YU, 5, seed=1)
    plans = [LABEL, "20 mg sc q8w", "10 mg sc at 3 d"]
    many = simulate(YU, plans, people, until=60)
    for i, plan in enumerate(plans):
        assert np.array_equal(many.bcell[i], simulate(YU, plan, people, until=60).bcell)


@pytest.mark.parametrize(("until", "every"), [
    (28, 7), (28, 1), ("4 w", "1 w"), ("1 y", "1 h"), (1, 0.1), ("1 d", "10 min"),
])  # fmt: skip
def test_time_grid_contains_its_end(until, every):
    result = simulate(YU, "20 mg sc", until=until, every=every)
    assert result.time[0] == 0
    assert float(result.time[-1]) == pytest.approx(days(until), rel=1e-12)
    assert np.isfinite(result.bcell).all()


def test_the_last_time_is_not_lost_to_rounding():
    for until, every in ((0.3, 0.1), (0.7, 0.1), (1.2, 0.4)):
        assert np.isfinite(simulate(YU, "20 mg sc", until=until, every=every).bcell).all()


def test_times_beyond_until_are_refused():
    with pytest.raises(ValueError, match="until"):
        simulate(YU, "20 mg sc", times=[0, 10, 100], until=50)


def test_times_given():
    times = [0, 0.5, 3, 28]
    result = simulate(YU, LABEL, times=times)
    assert list(result.time) == times
    daily = simulate(YU, LABEL, until=28)
    assert result.bcell.sel(time=3) == pytest.approx(float(daily.bcell.sel(time=3)), rel=DEFAULT)


def test_an_output_on_a_dose_day_is_the_trough():
    result = simulate(CHEN, "500 mg iv at 0 d, 7 d", times=[0, 7, 7 + 1e-6])
    assert result.conc[0] == 0
    assert result.conc[2] - result.conc[1] == pytest.approx(500 / 1.86, rel=1e-4)


# --- the same schedule said in two ways ----------------------------------------------------------

SAME = [
    ("20 mg sc q4w x 4 from 2 w", "20 mg sc at 14 d, 42 d, 70 d, 98 d"),
    ("20 mg sc q28d x 4", "20 mg sc q4w x 4"),
    ("20 mg sc q28d x 4", "20 mg sc q672h x 4"),
    ("20000 ug sc at 0, 7 d; 0.02 g sc at 2 w", "20 mg sc at 0 w, 1 w, 2 w"),
    (LABEL, "20 mg sc at 0 d, 7 d, 14 d; 20 mg sc at 28, 56, 84, 112 d"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_ways_of_writing_a_schedule(one, other):
    people = sample_population(YU, 20, seed=2)
    results = [simulate(YU, plan, people, until=120) for plan in (one, other)]
    for name in OUTPUTS:
        assert np.array_equal(*[result[name] for result in results])


def test_the_units_of_until_and_every_do_not_matter():
    one, other = (simulate(YU, LABEL, until=u, every=e) for u, e in ((56, 7), ("8 w", "1 w")))
    assert np.array_equal(one.time, other.time)
    assert np.array_equal(one.bcell, other.bcell)


@pytest.mark.parametrize("by", [-40.0, 17.0, 365.25])
@pytest.mark.parametrize(("model", "plan"), [
    (YU, LABEL), (CHEN, "375 mg/m2 max 500 mg iv over 4.75 h at 0 d, 7 d"),
])  # fmt: skip
def test_the_clock_counts_from_the_first_dose(model, plan, by):
    people, plan = sample_population(model, 5, seed=3), load_regimen(plan)
    times = np.arange(0.0, 100.0, 5.0)
    one = simulate(model, plan, people, times=times, until=100, **TIGHT)
    moved = simulate(model, plan.shift(by), people, times=times + by, until=100 + by, **TIGHT)
    for name in OUTPUTS:
        assert moved[name].values == pytest.approx(one[name].values, rel=SOLVER, abs=1e-10)


def test_before_the_first_dose_is_baseline():
    people = sample_population(YU, 20, seed=2)
    result = simulate(YU, "20 mg sc at 100 d", people, until=101, every=10)
    b0 = people.parameters[:, people.model.structure.parameters.index("b0")]
    assert result.bcell.values == pytest.approx(np.repeat(b0[:, None], 11, axis=1), rel=DEFAULT)


def test_doses_at_or_after_the_end_are_not_given():
    result = simulate(YU, LABEL, until=28)
    assert list(result.dose_time) == [0, 7, 14]


@pytest.mark.parametrize("model", [YU, CHEN])
def test_threads_and_order_change_no_bit(model):
    plan = LABEL if model == YU else "375 mg/m2 max 500 mg iv over 4.75 h at 0 d, 7 d"
    people = sample_population(model, 150, seed=6)
    one, four = (simulate(model, plan, people, until=60, threads=n) for n in (1, 4))
    order = np.random.default_rng(1).permutation(150)[:60]
    part = replace(
        people, subjects=people.subjects[order], eta=people.eta[order],
        parameters=people.parameters[order],
        covariates={name: values[order] for name, values in people.covariates.items()},
    )  # fmt: skip
    some = simulate(model, plan, part, until=60)
    for name in OUTPUTS:
        assert np.array_equal(one[name], four[name])
        assert np.array_equal(one[name][order], some[name])


# --- doses ---------------------------------------------------------------------------------------


def test_a_dose_per_area_is_the_dose_in_mg():
    areas = np.array([0.6, 1.0, 4 / 3, 1.5, 2.1])
    people = sample_population(CHEN, 5, covariates={"BSA": areas}, seed=1)
    result = simulate(CHEN, "375 mg/m2 max 500 mg iv over 4.75 h at 0 d, 7 d", people, until=60)
    for i, dose in enumerate([225.0, 375.0, 500.0, 500.0, 500.0]):
        single = simulate(CHEN, f"{dose} mg iv over 4.75 h at 0 d, 7 d", people, until=60)
        assert np.array_equal(result.bcell[i], single.bcell[i])
        assert np.array_equal(result.conc[i], single.conc[i])


def test_a_dose_per_kg_needs_only_the_weight():
    people = sample_population(CHEN, 2, covariates={"WT": [20.0, 50.0]}, seed=1)
    result = simulate(CHEN, "10 mg/kg iv", people, until=10)
    single = simulate(CHEN, "500 mg iv", people, until=10)
    assert np.array_equal(result.conc[1], single.conc[1])
    assert (result.conc[0, 1:] < single.conc[0, 1:]).all()


def test_infusion():
    """Chen 2024 is linear: an infusion is the mean of boluses spread over its duration."""
    hours = 4.75
    times = [hours / 24, 1, 3, 10, 40]
    infused = simulate(CHEN, f"500 mg iv over {hours} h", times=times, **TIGHT).conc
    n = 400  # midpoint rule: error of order 1 / n^2
    at = (np.arange(n) + 0.5) / n * hours / 24
    parts = Regimen([bolus(500 / n, t) for t in at])
    spread = simulate(CHEN, parts, times=times, **TIGHT).conc.values
    assert infused.values == pytest.approx(spread, rel=1e-5)
    early = simulate(CHEN, "500 mg iv over 4 h", times=[0, 1 / 24, 4 / 24])
    assert float(early.conc[1] / early.conc[2]) == pytest.approx(0.25, rel=0.02)


def test_infusions_overlap_and_add():
    times = np.arange(0.0, 8.0, 0.5)
    one = simulate(CHEN, "100 mg iv over 2 d", times=times, **TIGHT).conc.values
    late = simulate(CHEN, "300 mg iv over 3 d at 1 d", times=times, **TIGHT).conc.values
    both = "100 mg iv over 2 d; 300 mg iv over 3 d at 1 d"
    both = simulate(CHEN, both, times=times, **TIGHT).conc.values
    assert both == pytest.approx(one + late, rel=SOLVER, abs=1e-9)


# --- co-therapies --------------------------------------------------------------------------------


def test_multiply_removes_a_share_of_the_drug():
    regimen = Regimen([bolus(), Event("multiply", 10, target="central", factor=0.3)])
    result = simulate(CHEN, regimen, times=[0, 10, 10 + 1e-7], **TIGHT)
    assert float(result.conc[2] / result.conc[1]) == pytest.approx(0.3, rel=1e-6)
    assert float(result.bcell[2] / result.bcell[1]) == pytest.approx(1, rel=1e-5)


def test_multiply_of_total_drug_with_a_target():
    """In Yu 2022 the central state is free drug; what is multiplied is the total amount."""
    regimen = load_regimen("20 mg sc") + Regimen(
        [Event("multiply", 5, target="central", factor=0.3)]
    )
    result = simulate(YU, regimen, times=[0, 5, 5 + 1e-9], **TIGHT)
    assert float(result.conc[2] / result.conc[1]) == pytest.approx(0.3, rel=1e-6)


def test_modify_acts_for_its_duration():
    """Without drug, production k times as large brings the count towards k b0; then back."""
    kout, b0 = 0.051, 395.0
    regimen = Regimen([Event("modify", 10, target="kout", factor=3, duration=20), bolus(1e-12, 0)])
    model = load_model(CHEN)
    index = model.structure.parameters.index("kout")
    events = compile_events(model, regimen, typical_subject(model), 100.0)
    changes = [(t, v) for t, i, v in zip(events.time, events.index, events.value, strict=True)
               if i == index and t in (10.0, 30.0)]  # fmt: skip
    assert changes == [(10.0, 3.0), (30.0, 1.0)]
    half = Regimen([Event("multiply", 10, target="bcell", factor=0.5), *regimen.events])
    result = simulate(CHEN, half, times=[9, 20, 30, 40], **TIGHT).bcell
    # Turnover: the distance to b0 shrinks at 3 kout while modified, at kout thereafter.
    wanted = [b0 * (1 - 0.5 * np.exp(-kout * x)) for x in (3 * 10, 3 * 20, 3 * 20 + 10)]
    assert result[0] == pytest.approx(b0, rel=1e-9)
    assert result[1:].values == pytest.approx(wanted, rel=1e-6)


def test_overlapping_modifications_multiply():
    two = [Event("modify", 0, target="cl", factor=2, duration=10),
           Event("modify", 5, target="cl", factor=3, duration=10)]  # fmt: skip
    written = [Event("modify", t, target="cl", factor=f, duration=5)
               for t, f in ((0, 2), (5, 6), (10, 3))]  # fmt: skip
    results = [simulate(CHEN, Regimen([bolus(), *m]), until=30) for m in (two, written)]
    assert np.array_equal(*[result.conc for result in results])
    assert not np.array_equal(results[0].conc, simulate(CHEN, "500 mg iv", until=30).conc)


def test_reset_returns_to_baseline():
    regimen = Regimen([bolus(), bolus(500, 3, duration=10), Event("reset", 5)])
    result = simulate(CHEN, regimen, times=[0, 5, 5.001, 6, 50])
    assert result.conc[1] > 0
    assert result.conc[2:].values == pytest.approx(0, abs=1e-12)
    assert result.bcell[2:].values == pytest.approx(395, rel=1e-9)


def test_reset_ends_overlapping_infusions():
    regimen = Regimen([bolus(500, 0, duration=10), bolus(500, 1, duration=19), Event("reset", 5)])
    result = simulate(CHEN, regimen, times=[0, 5, 6, 11, 15])
    assert result.conc[2:].values == pytest.approx(0, abs=1e-12)


# --- what cannot be simulated --------------------------------------------------------------------

MULTIPLY = Regimen([bolus(), Event("multiply", 1, target="depo", factor=0.5)])
MODIFY = Regimen([bolus(), Event("modify", 1, target="kot", factor=0.5, duration=3)])
IV = "give covariate IV = 1 to every subject dosed iv"

REFUSED = [
    (YU, "100 mg iv", {}, IV),
    (YU, "20 mg sc; 100 mg iv over 1 h at 7 d", {"population": 3, "seed": 1}, IV),
    (YU, "rituximab_ae_600mg", {}, "is for rituximab; model yu2022_ofatumumab is for ofatumumab"),
    (CHEN, "20 mg sc", {}, 'cannot be dosed by route "sc"; it can by iv'),
    (YU, "375 mg/m2 sc", {}, "needs covariate BSA, which the subjects do not have"),
    (CHEN, "10 mg/kg iv", {}, "needs covariate WT"),
    (CHEN, MULTIPLY, {}, 'unknown state "depo"; did you mean "depot"?'),
    (CHEN, MODIFY, {}, 'unknown parameter "kot"; did you mean "kout"?'),
    (CHEN, "500 mg iv", {"times": [0, 5, 3]}, "times out of order: 5 d comes before 3 d"),
    (CHEN, "500 mg iv", {"times": [0, 5, 5]}, "times: 5 d is given twice"),
    (CHEN, "500 mg iv", {"times": [0, np.nan]}, "a list of finite numbers"),
    (CHEN, "500 mg iv", {"times": []}, "a list of finite numbers"),
    (CHEN, "500 mg iv", {"until": None}, 'give until="2 y"'),
    (CHEN, "500 mg iv", {"until": 0}, "must be above 0"),
    (CHEN, "500 mg iv", {"every": 0}, "must be above 0"),
    (CHEN, "500 mg iv", {"until": "3 mm"}, 'unknown unit "mm"'),
    (CHEN, "500 mg iv", {"on_failure": "raze"}, 'did you mean "raise"?'),
    (
        CHEN,
        "500 mg iv",
        {"backend": "compile"},
        'unknown backend "compile"; did you mean "compiled"?',
    ),
    (CHEN, [], {}, "no regimen is given"),
    (CHEN, ["500 mg iv", "500 mg iv"], {}, 'two regimens are named "500 mg iv at 0 d"'),
    (CHEN, "rituximab_600mg", {}, 'unknown regimen "rituximab_600mg"; did you mean "rituximab_ae'),
    ("chen2024", "500 mg iv", {}, 'did you mean "chen2024_rituximab"?'),
]


@pytest.mark.parametrize(("model", "regimen", "options", "sentence"), REFUSED)
def test_what_is_refused(model, regimen, options, sentence):
    options = {"until": 10, **options}
    if "times" in options:
        options["until"] = None
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        simulate(model, regimen, **options)
    assert "\n" not in str(caught.value)


def test_a_population_of_another_model_is_refused():
    for other in (CHEN, f"{YU}:reading_b"):
        people = sample_population(other, 2, seed=1)
        with pytest.raises(ValueError, match=f"was sampled from model {other}, not {YU}"):
            simulate(YU, LABEL, people, until=10)


def test_iv_doses_with_the_covariate():
    people = sample_population(YU, 3, covariates={"IV": 1}, seed=1)
    result = simulate(YU, "100 mg iv over 1 h", people, until=10)
    assert np.isfinite(result.bcell).all()
    people = sample_population(YU, 3, covariates={"IV": [1, 0, 1]}, seed=1)
    with pytest.raises(ValueError, match=re.escape(IV)):
        simulate(YU, "100 mg iv", people, until=10)


# --- failures and files --------------------------------------------------------------------------


def with_nan():
    people = sample_population(YU, 5, seed=1)
    parameters = people.parameters.copy()
    parameters[2, 0] = np.nan
    return people, replace(people, parameters=parameters)


def test_failure_raises_by_default():
    with pytest.raises(RuntimeError, match=r"1 of 5 subjects .* subject 2: .* not a finite number"):
        simulate(YU, LABEL, with_nan()[1], until=28)


def test_failure_may_be_marked():
    whole, people = with_nan()
    result = simulate(YU, [LABEL], people, until=28, on_failure="mark")
    assert result.status.values.tolist() == [[0, 0, 3, 0, 0]]
    assert "3: a parameter" in result.status.attrs["codes"]
    assert np.isnan(result.bcell[0, 2]).all()
    rest = [0, 1, 3, 4]
    expected = simulate(YU, [LABEL], whole, until=28)
    assert np.array_equal(result.bcell[:, rest], expected.bcell[:, rest])


@pytest.mark.parametrize("sentence", STATUS.values())
def test_what_a_status_advises_is_an_argument(sentence):
    advised = re.findall("`(.*?)`", sentence)
    assert set(advised) <= set(inspect.signature(simulate).parameters)


@pytest.mark.parametrize("regimens", [LABEL, [LABEL, "20 mg sc q12w"]])
@pytest.mark.parametrize("population", [None, 4])
def test_netcdf_round_trip(tmp_path, regimens, population):
    result = simulate(YU, regimens, population, until=60, seed=1)
    result.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf", decode_times=False) as again:
        again.load()
    xr.testing.assert_equal(again, result)
    assert {k: again.attrs[k] for k in result.attrs} == result.attrs
    for name in result.variables:
        for key in ("unit", "long_name"):
            assert again[name].attrs.get(key) == result[name].attrs.get(key)


def test_netcdf_opened_plainly(tmp_path):
    result = simulate(YU, LABEL, until=60)
    result.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again.load(), result)


def test_progress_counts_every_subject_of_every_regimen():
    seen = []
    simulate(YU, [LABEL, "20 mg sc"], 70, until=5, seed=1, threads=1,
             progress=lambda *done: seen.append(done))  # fmt: skip
    assert seen[-1] == (140, 140)
    assert seen == sorted(seen)


def test_subjects_with_the_parameters_of_a_route_are_dosed_by_it():
    people = sample_population(YU, 2, covariates={"IV": 1}, seed=1)
    assert np.isfinite(simulate(YU, "100 mg iv", people, until=7).bcell).all()
    with pytest.raises(ValueError, match="a subject with IV = 1 is dosed iv, not sc"):
        simulate(YU, "20 mg sc", people, until=7)
