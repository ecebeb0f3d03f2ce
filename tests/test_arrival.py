"""A lag of subcutaneous doses: shifted schedules, what is in force at the dose, resets, the end."""

from dataclasses import replace

import cases
import numpy as np
import pytest

import bcellsim as bc
from bcellsim.event import Event
from bcellsim.library import load_model
from bcellsim.model import Parameter, RandomEffects
from bcellsim.population import Population, typical_subject
from bcellsim.regimen import Regimen
from bcellsim.schedule import compile_events
from bcellsim.simulate import simulate, solve_regimen
from bcellsim.structures import get_structure

LAG = 0.7
TIMES = np.array([0.5, 1.0, 2.0, 7.5, 8.0, 10.5, 11.0, 13.0, 20.0, 60.0])
ANALYTIC = 1e-6  # at an rtol of 1e-9, relative to the largest
TIGHT = {"rtol": 1e-9, "atol": 1e-11}

LAGGED = [s for s in cases.ALL if any(route.lag for route in s.routes.values())]
each = cases.on(LAGGED)


def model_of(structure, **values):
    """Return a model of a structure's typical test values, without a clock of its own."""
    vector = cases.changed(structure, **{"kdes": 0.0, "tlag": 0.0, **values}).tolist()
    return replace(
        load_model("yu2022_ofatumumab"),
        structure=structure,
        parameters={
            name: Parameter(value, value, "", False, "invented")
            for name, value in zip(structure.parameters, vector, strict=True)
        },
        random_effects=RandomEffects(),
        covariates={},
        covariate_effects=(),
    )


LINEAR = get_structure("pk_linear")


def sc(time, amount=100.0, duration=0.0):
    return Event("dose", time, amount, route="sc", duration=duration)


def conc(model, events, times=TIMES, **options):
    """Return the concentrations of the typical subject."""
    return simulate(model, Regimen(events), times=times, **options).conc.to_numpy()


@each
def test_a_lag_shifts_start_and_end(structure):
    doses = [sc(0.0), sc(7.0, 20.0), sc(10.0, 50.0, duration=2.0)]
    shifted = [replace(dose, time=dose.time + LAG) for dose in doses]
    iv = Event("dose", 3.0, 100.0, route="iv", duration=0.2)
    lagged, by_hand, at_once = (
        simulate(model_of(structure, tlag=lag), Regimen([*events, iv]), times=TIMES)
        for lag, events in ((LAG, doses), (0.0, shifted), (0.0, doses))
    )
    for output in structure.outputs:
        assert np.array_equal(lagged[output], by_hand[output])
    assert lagged.conc[0] == 0.0
    assert at_once.conc[0] > 0.0
    assert np.array_equal(lagged.dose_time, at_once.dose_time)  # when given, not when arrived


def test_against_the_closed_form():
    """One compartment: F D ka / (vc (ka - k)) (exp(-k s) - exp(-ka s)), s = t - lag."""
    model = model_of(LINEAR, tlag=LAG, q=0.0, cl=0.3, cl_t=0.0, vc=3.0, ka=0.2, f_sc=0.7)
    k, ka = 0.1, 0.2
    s = np.maximum(TIMES - LAG, 0.0)
    wanted = 0.7 * 100.0 * ka / (3.0 * (ka - k)) * (np.exp(-k * s) - np.exp(-ka * s))
    found = conc(model, [sc(0.0)], **TIGHT)
    assert found == pytest.approx(wanted, abs=ANALYTIC * wanted.max())


def test_every_subject_has_its_own_lag():
    model = model_of(LINEAR)
    vectors = np.repeat(cases.typical(LINEAR)[None], 12, axis=0)
    vectors[:, LINEAR.parameters.index("tlag")] = [*np.linspace(0.0, 2.0, 6)] * 2
    people = Population(model, np.arange(12), {}, np.zeros((12, 0)), vectors, None)
    plan = Regimen([sc(0.0), sc(7.0)])
    events = compile_events(model, plan, people, 60.0)
    assert len(events.start) - 1 == 6  # subjects of one lag share a schedule
    found = solve_regimen(plan, people, TIMES, until=60.0).values
    for i in range(12):
        alone = replace(people, subjects=people.subjects[[i]], parameters=vectors[[i]])
        one = solve_regimen(plan, alone, TIMES, until=60.0, backend="compiled").values
        assert np.array_equal(found[i], one[0])


def test_without_a_lag_all_subjects_share_one_schedule():
    model = model_of(LINEAR)
    people = bc.sample_population(model, 5, seed=1)
    events = compile_events(model, Regimen([sc(0.0)]), people, 60.0)
    assert events.schedule.tolist() == [0] * 5
    assert len(events.start) == 2


def test_the_clock_counts_from_the_dose_not_from_its_arrival():
    model = model_of(LINEAR, tlag=LAG, cl_t=2.0, kdes=0.5)
    events = compile_events(model, Regimen([sc(3.0)]), typical_subject(model), 60.0)
    assert events.clock.tolist() == [3.0]
    assert events.time.tolist() == [3.0 + LAG]
    none = compile_events(model, Regimen([]), typical_subject(model), 60.0)
    assert none.clock.tolist() == [np.inf]


@pytest.mark.parametrize("duration", [0.0, 3.0])
def test_a_reset_cancels_what_has_not_arrived(duration):
    model = model_of(LINEAR, tlag=2.0)
    early, late = sc(0.0, duration=duration), sc(5.0, duration=duration)
    before, after = (Event("reset", time) for time in (1.0, 2.5))
    assert np.all(conc(model, [early, before]) == 0.0)
    assert np.array_equal(conc(model, [early, before, late]), conc(model, [late]))
    arrived = conc(model, [early, after], times=[2.4, 2.6, 30.0])
    assert arrived[0] > 0.0
    assert np.all(arrived[1:] == 0.0)


def test_the_bioavailability_is_that_of_the_dose():
    model = model_of(LINEAR, tlag=2.0)
    plain, half = (conc(model, [sc(0.0, amount)]) for amount in (100.0, 50.0))
    begins = Event("modify", 1.0, target="f_sc", factor=0.5, duration=30.0)
    ends = Event("modify", -1.0, target="f_sc", factor=0.5, duration=2.0)
    assert conc(model, [sc(0.0), begins]) == pytest.approx(plain, rel=1e-5)  # ten times rtol
    assert conc(model, [sc(0.0), ends]) == pytest.approx(half, rel=1e-5)
    with pytest.raises(ValueError, match=r"dose of day 0 arrives on day 2, when f_sc is"):
        conc(model, [sc(0.0), replace(begins, factor=0.0)])
    assert np.all(conc(model, [sc(0.0), replace(ends, factor=0.0)]) == 0.0)


def test_the_lag_is_that_of_the_dose():
    model, other = model_of(LINEAR, tlag=2.0), model_of(LINEAR, tlag=1.0)
    longer = Event("modify", 3.0, target="tlag", factor=0.5, duration=10.0)
    assert conc(model, [sc(0.0), longer]) == pytest.approx(conc(model, [sc(0.0)]), rel=1e-5)
    assert conc(model, [sc(5.0), longer]) == pytest.approx(conc(other, [sc(5.0)]), rel=1e-5)


def test_what_arrives_after_the_end_is_left_out():
    model = model_of(LINEAR, tlag=2.0)
    plan, person = Regimen([sc(0.0), sc(5.0)]), typical_subject(model)
    short = solve_regimen(plan, person, TIMES[:3], until=6.0).values
    assert np.array_equal(short, solve_regimen(plan, person, TIMES[:3], until=60.0).values)
    # Given before `doses_until`, arriving after it: the follow-up sees the dose.
    late = solve_regimen(plan, person, TIMES, until=60.0, doses_until=6.0).values
    assert np.array_equal(late, solve_regimen(plan, person, TIMES, until=60.0).values)


def test_a_lag_that_varies_by_occasion_is_refused():
    model = model_of(LINEAR)
    vectors = np.repeat(cases.typical(LINEAR)[None, None], 2, axis=1)
    vectors[0, 1, LINEAR.parameters.index("tlag")] = 3.0
    people = Population(model, np.arange(1), {}, np.zeros((1, 0)), vectors, None)
    with pytest.raises(ValueError, match="tlag varies by occasion"):
        compile_events(model, Regimen([sc(0.0)]), people, 60.0)


@pytest.mark.parametrize("fixed", [(), {"tlag": 1.0}])
def test_a_fit_keeps_the_lag(fixed, tmp_path):
    structure = get_structure("turnover")
    path = tmp_path / "counts.csv"
    path.write_text("ID,TIME,AMT,EVID,DV\n1,0,20,1,.\n1,7,.,0,50\n1,30,.,0,60\n")
    free = [name for name in structure.parameters if name not in ("b0", "tlag")]
    fixed = {**dict.fromkeys(free), **dict(fixed)}
    with pytest.raises(ValueError, match=r'keeps tlag at its typical value; give fixed=\["tlag"\]'):
        bc.fit_individual(model_of(structure, tlag=LAG), path, prior=None, sigma=0.3, fixed=fixed)
