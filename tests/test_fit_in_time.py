"""Fits of patients whose covariates change in time, or who deviate by occasion."""

from dataclasses import replace

import numpy as np
import pytest
from patient import DAYS, IIV, KPD, model_of

import bcellsim as bc
from bcellsim.fit.problem import Problem
from bcellsim.fit.search import gradient
from bcellsim.model import RandomEffects
from bcellsim.observations import regimen_of
from bcellsim.pieces import pieces_of

# Invented: a strong effect of weight, so that it tells.
WEIGHT = """
[covariates.WT]
unit = "kg"
meaning = "body weight"
reference = 20
study = { low = 5, high = 100, median = 20 }

[[covariate_effects]]
parameter = "kel"
covariate = "WT"
form = "power"
reference = 20
value = -0.5

[[covariate_effects]]
parameter = "b0"
covariate = "WT"
form = "power"
reference = 20
value = -0.3
"""
GROWTH = {day: 20.0 * 2.0 ** (day / 400.0) for day in DAYS}  # doubles within the data
RULES = ("locf", "nocb", "linear")
ETA = np.array([0.3, -0.4, 0.2])

# A change of 1e-4 in central differences on steps at a tolerance of 1e-8, against a quotient of
# fourth order at 1e-11.
SLOPE = 1e-4
SAME = 1e-6  # two ways of solving at 1e-8
OBJECTIVE = 1e-4  # where two searches end, of -2 log L


@pytest.fixture
def child(tmp_path):
    return model_of(tmp_path, KPD + IIV + WEIGHT)


def rows_of(weights, values, occasions=None):
    """Return rows of doses on days 0 and 14 and 200, and of counts on `DAYS`."""
    doses = (0.0, 14.0, 200.0)
    events = [(day, 0, f".,{value:.6g}") for day, value in zip(DAYS, values, strict=True)]
    events += [(day, 1, "1000,.") for day in doses]
    weight = dict(zip(DAYS, weights, strict=True))
    near = {day: weight[max(d for d in DAYS if d <= day)] for day, _, _ in events}
    occ = {day: 1 if day < 200.0 else 2 for day, _, _ in events}
    return [f"1,{day},{text},{near[day]:.6g},{occ[day] if occasions else 1}"
            for day, _, text in sorted(events)]  # fmt: skip


def read(folder, rows, rule="locf", header="ID,TIME,AMT,DV,WT,OCC"):
    path = folder / "data.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return bc.read_observations(path, covariates=rule)


def data(folder, model, rule="locf", weights=None, sd=0.0, eta=ETA):
    """Return the counts of a patient whose weight changes, as the model predicts them."""
    weights = list(GROWTH.values()) if weights is None else weights
    blank = read(folder, rows_of(weights, np.ones(len(DAYS))), rule)
    truth = bc.predict(model, blank, eta=eta, rtol=1e-9, atol=1e-11)["PRED"].to_numpy()
    noise = np.random.default_rng(5).standard_normal(len(truth))
    return read(folder, rows_of(weights, truth * np.exp(sd * noise)), rule)


def within(model, sd=0.3):
    """Return the model with variability of kel between occasions."""
    effects = RandomEffects(("kel",), ("lognormal",), np.array([[sd**2]]), ("invented",))
    return replace(model, occasion_effects=effects)


def quotient(problem, point, step=2e-3):
    """Return the gradient by differences of fourth order, solved anew at a tight tolerance."""
    moves = np.concatenate([k * step * np.eye(len(point)) for k in (1, -1, 2, -2)])
    values = problem.objective(point + moves, rtol=1e-11).reshape(4, -1)
    return (8.0 * (values[0] - values[1]) - (values[2] - values[3])) / (12.0 * step)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("occasions", [False, True])
def test_gradient_against_a_high_precision_quotient(tmp_path, child, rule, occasions):
    rows = rows_of(list(GROWTH.values()), 100.0 + 50.0 * np.cos(DAYS), occasions)
    model = within(child) if occasions else child
    problem = Problem(model, read(tmp_path, rows, rule))
    assert len(problem.pieces) > 5
    point = problem.coordinates.start() + np.linspace(-0.3, 0.3, len(problem.coordinates.variables))
    wanted = quotient(problem, point)
    assert np.abs(wanted).min() > 0.01
    scale = np.abs(wanted).max()
    assert gradient(problem, point) == pytest.approx(wanted, rel=SLOPE, abs=SLOPE * scale)


@pytest.mark.parametrize("rule", RULES)
def test_rows_are_predicted_as_predict_does(tmp_path, child, rule):
    table = data(tmp_path, child, rule)
    problem = Problem(child, table)
    point = problem.points_of(ETA[None])[0]
    wanted = bc.predict(child, table, eta=problem.eta(point[None])[0], rtol=1e-9, atol=1e-11)
    assert problem.eta(point[None])[0] == pytest.approx(ETA)
    assert problem.predict(point[None])[0] == pytest.approx(wanted["PRED"].to_numpy(), rel=SAME)


def test_a_covariate_that_changes_nothing_changes_nothing(tmp_path, child):
    table = data(tmp_path, child, weights=[30.0] * len(DAYS), sd=0.2)
    plain = bc.fit_individual(child, table, starts=2)
    moving = table.assign(HT=np.linspace(100.0, 140.0, len(table)))
    moving.attrs = table.attrs
    fit = bc.fit_individual(child, moving, starts=2)
    assert len(fit.problem.pieces) == len(table)
    assert fit.objective == pytest.approx(plain.objective, abs=OBJECTIVE)
    assert fit.params["value"].to_numpy() == pytest.approx(plain.params["value"], rel=1e-4)
    assert fit.params["log_se"].to_numpy(float) == pytest.approx(
        plain.params["log_se"].to_numpy(float), rel=1e-3, nan_ok=True)  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_a_child_whose_weight_doubles_is_recovered(tmp_path, child, rule):
    table = data(tmp_path, child, rule, sd=0.1)
    fit = bc.fit_individual(child, table, sigma=0.1, starts=3)
    assert fit.converged
    names = list(child.random_effects.names)
    found = fit.problem.eta(fit.curvature.point[None])[0]
    errors = fit.params.loc[names, "log_se"].to_numpy()
    assert np.all(np.abs(found - ETA) < 3.0 * errors)
    assert np.all(errors < 0.2)
    # Taken to weigh all along what it weighed first, it does not.
    still = bc.fit_individual(child, table.drop(columns="WT"), sigma=0.1, starts=3,
                              covariates={"WT": 20.0})  # fmt: skip
    assert still.objective > fit.objective + 20.0


# --- forecasts, advice and reports ------------------------------------------------------------


@pytest.fixture
def grown(tmp_path, child):
    return bc.fit_individual(child, data(tmp_path, child, sd=0.1), sigma=0.1, starts=2)


def test_the_forecast_keeps_and_says_the_last_weight(grown, child):
    ahead = bc.forecast(grown, None, until="60 d", draws=20, seed=1)
    assert ahead.attrs["covariates"] == "WT 40 kg (from day 400 on)"
    assert "WT changes in time, from 20 to 40 kg (locf); 40 holds from day 400 on" in grown.report()
    people = grown.population(20, 1)
    assert people.parameters.shape == (20, len(grown.problem.pieces), 6)
    # From the last row on the draws go on as subjects who weigh 40 kg.
    b0 = child.structure.parameters.index("b0")
    eta = people.eta[:, child.random_effects.names.index("b0")]
    assert people.parameters[:, -1, b0] == pytest.approx(200 * 2**-0.3 * np.exp(eta))
    assert people.covariates["WT"] == pytest.approx(40.0)


def test_a_planned_dose_per_kg_is_of_the_last_weight(grown):
    per_kg = bc.forecast(grown, "10 mg/kg iv at 0 d", until="60 d", draws=20, seed=1)
    in_mg = bc.forecast(grown, "400 mg iv at 0 d", until="60 d", draws=20, seed=1)
    assert per_kg.bcell.values == pytest.approx(in_mg.bcell.values, rel=SAME)


@pytest.mark.parametrize("per", ["mg/kg", "mg/m2"])
def test_doses_per_body_size_follow_it(tmp_path, child, per):
    """Height and weight give BSA at each dose (Mosteller), which no column holds."""
    rows = ["1,0,10,.,20,110," + per, "1,50,.,90,20,110,", "1,100,10,.,40,140," + per,
            "1,160,.,50,40,140,"]  # fmt: skip
    table = read(tmp_path, rows, header="ID,TIME,AMT,DV,WT,HT,UNIT")
    problem = Problem(child, table)
    sizes = [20.0, 40.0] if per == "mg/kg" else [(20 * 110 / 3600) ** 0.5, (40 * 140 / 3600) ** 0.5]
    assert [e.amount for e in problem.regimen.doses()] == pytest.approx([10 * s for s in sizes])
    given = bc.event_list(child, table)
    assert list(given["amount"]) == pytest.approx([10 * s for s in sizes])
    fit = bc.fit_individual(child, table, starts=1)
    assert "BSA is computed: sqrt(HT [cm] x WT [kg] / 3600) m2, Mosteller 1987" in fit.report()


def test_advice_takes_the_last_weight(grown):
    advice = bc.redose(grown, dose="10 mg/kg iv", below=40, until="200 d", draws=200, seed=3)
    assert "WT 40" in advice.report()
    once = advice.alternatives[advice.alternatives["n_doses"] == 1]
    assert once["cumulative_dose"].to_numpy() == pytest.approx(400.0)


def test_what_is_given_beside_the_data_is_not_called_missing(tmp_path, child):
    rows = ["1,0,1000,.", "1,50,.,90"]
    fit = bc.fit_individual(child, read(tmp_path, rows, header="ID,TIME,AMT,DV"), starts=1,
                            covariates={"WT": 25})  # fmt: skip
    assert "no column WT" not in fit.report()
    assert "covariates: WT 25 kg" in fit.report()
    assert "BSA" not in fit.report()


# --- occasions --------------------------------------------------------------------------------

KAPPA = 0.5  # of kel, in the second occasion


def occasions(folder, model, sd=0.1):
    """Return the counts of a patient whose drug goes faster in the second occasion."""
    weights = [20.0] * len(DAYS)
    blank = read(folder, rows_of(weights, np.ones(len(DAYS)), occasions=True))
    pieces = pieces_of(model, blank)
    assert pieces.occasions == (1, 2)
    names = model.random_effects.names
    deviations = {name: np.array([value]) for name, value in zip(names, ETA, strict=True)}
    parameters = pieces.individual(deviations, 1, np.array([[[0.0], [KAPPA]]]))
    problem = Problem(model, blank)
    truth = problem.at_rows(problem.outputs_at(problem.times, parameters), parameters)[0]
    noise = np.random.default_rng(5).standard_normal(len(truth))
    return read(folder, rows_of(weights, truth * np.exp(sd * noise), occasions=True))


def test_an_occasion_has_deviations_of_its_own(tmp_path, child):
    model = within(child)
    table = occasions(tmp_path, model)
    fit = bc.fit_individual(model, table, sigma=0.1, starts=3)
    assert fit.converged
    row = fit.params.loc["kel_occ2"]
    first = fit.params.loc["kel_occ1"]
    apart = np.log(row["value"] / first["value"])
    assert abs(apart - KAPPA) < 3.0 * np.hypot(row["log_se"], first["log_se"])
    assert apart > 0.2
    assert (row["prior_sd"], row["typical"]) == (0.3, 1.0)
    assert "occasions (OCC) 1, 2: each with its own deviations" in fit.report()
    # The objective has the prior of each occasion's deviation.
    point = fit.curvature.point
    kappas = fit.problem.kappa(point[None])[0, :, 0]
    eta = fit.problem.eta(point[None])[0]
    prior = eta @ np.linalg.solve(model.random_effects.covariance, eta) + (kappas**2).sum() / 0.09
    assert fit.objective - fit.minus_two_log_l == pytest.approx(prior)
    assert fit.draws(50, 1)[["kel_occ1", "kel_occ2"]].shape == (50, 2)
    assert (
        fit.profile("kel_occ2").attrs["low"] < row["value"] < fit.profile("kel_occ2").attrs["high"]
    )


def test_variability_between_occasions_alone_is_the_wider_prior(tmp_path, child):
    """In one occasion nothing tells eta and kappa apart: together they have both variances."""
    wide = replace(child.random_effects, covariance=child.random_effects.covariance.copy())
    at = wide.names.index("kel")
    wide.covariance[at, at] += 0.3**2
    table = data(tmp_path, child, weights=[20.0] * len(DAYS), sd=0.3)
    one = bc.fit_individual(within(child), table, starts=2)
    other = bc.fit_individual(replace(child, random_effects=wide), table, starts=2)
    assert one.objective == pytest.approx(other.objective, abs=OBJECTIVE)
    kel = one.params.loc["kel", "value"] * one.params.loc["kel_occ1", "value"]
    assert kel == pytest.approx(other.params.loc["kel", "value"], rel=1e-3)


def test_a_plan_begins_a_new_occasion_drawn_from_the_prior(tmp_path, child):
    model = within(child)
    fit = bc.fit_individual(model, occasions(tmp_path, model), sigma=0.1, starts=2)
    n = 400
    people = fit.population(n, 4, anew=fit.problem.end + 10.0)
    kel = model.structure.parameters.index("kel")
    drawn = fit.draws(n, 4)
    before, after = people.parameters[:, -2, kel], people.parameters[:, -1, kel]
    assert before == pytest.approx(drawn["kel"] * drawn["kel_occ2"])
    fresh = np.log(after / drawn["kel"])
    # The SE of an SD of 400 draws is 3.5 %.
    assert np.std(fresh) == pytest.approx(0.3, rel=0.12)
    assert people.occasions[-1] == fit.problem.end + 10.0
    # Without doses the last occasion goes on: the same forecast as without a new one.
    none = bc.forecast(fit, None, until="100 d", draws=30, seed=4)
    planned = bc.forecast(fit, "1000 mg iv at 50 d", until="100 d", draws=30, seed=4)
    early = none.days_from_now.values <= 50.0
    assert planned.bcell.values[:, early] == pytest.approx(none.bcell.values[:, early], rel=SAME)
    advice = bc.redose(fit, dose="1000 mg iv", below=60, until="200 d", draws=100, seed=3,
                       now=230)  # fmt: skip
    assert advice.latest.status == "found"


def test_without_a_prior_occasions_are_one(tmp_path, child):
    model = within(child)
    table = occasions(tmp_path, model)
    fit = bc.fit_individual(model, table, prior=None, sigma=0.1, starts=2,
                            fixed=["emax", "a50", "kout"])  # fmt: skip
    assert not fit.problem.kappas
    assert "occasions (OCC) 1, 2: taken as one, as there is no prior" in fit.report()


# --- rows that are easily read wrongly ---------------------------------------------------------


def test_a_row_is_predicted_with_the_covariates_it_states(tmp_path, child):
    """``locf``: what a count on the day of a change is a percentage of, say, is of its own row."""
    rows = ["1,0,1000,.,20,1", "1,30,.,50,20,1", "1,60,.,60,40,2"]
    pieces = pieces_of(child, read(tmp_path, rows))
    assert pieces.covariates["WT"][pieces.at([30.0, 60.0, 61.0])].tolist() == [20, 40, 40]


def test_a_row_without_occasion_is_of_the_one_before(tmp_path):
    rows = ["1,0,1000,.,20,1", "1,30,.,50,20,", "1,60,1000,.,20,2", "1,90,.,50,20,"]
    assert read(tmp_path, rows)["OCC"].tolist() == [1, 1, 2, 2]


def test_a_reset_ends_further_doses_by_body_size(tmp_path):
    header = "ID,TIME,AMT,DV,WT,EVID,II,ADDL,UNIT"
    rows = ["1,0,10,.,20,1,21,5,mg/kg", "1,50,10,.,20,4,,,mg/kg", "1,90,.,50,20,0,,,"]
    events = regimen_of(read(tmp_path, rows, header=header), default_route="iv").events
    assert [(e.kind, e.time) for e in events] == [
        ("dose", 0), ("dose", 21), ("dose", 42), ("reset", 50), ("dose", 50),
    ]  # fmt: skip


def test_after_a_reset_rows_stand_on_one_clock(tmp_path, child):
    header = "ID,TIME,AMT,DV,WT,EVID"
    rows = ["1,0,1000,.,20,1", "1,30,.,50,20,0", "1,100,.,90,20,0", "1,0,1000,.,20,4",
            "1,30,.,70,20,0"]  # fmt: skip
    table = read(tmp_path, rows, header=header)
    assert table["REP"].max() == 1  # days 30 of two courses are no replicates
    fit = bc.fit_individual(child, table, starts=1)
    assert fit.residuals["TIME"].tolist() == [30, 100, 30]
    assert fit.residuals["CLOCK"].tolist() == [30, 100, 130]


def test_a_dose_on_the_last_row_after_a_steady_state_is_given(tmp_path, child):
    header = "ID,TIME,AMT,DV,WT,II,SS"
    rows = ["1,0,1000,.,20,28,1", "1,1,.,5,20,,", "1,27,.,9,20,,", "1,28,1000,.,20,0,0"]
    fit = bc.fit_individual(child, read(tmp_path, rows, header=header), starts=1)
    ahead = bc.forecast(fit, None, until="1 d", draws=20, every="1 d", seed=1)
    amount = ahead.amount_credible.sel(quantile=0.5)
    assert float(amount[1]) > 900
    with pytest.raises(ValueError, match="now = -1 d lies before the data"):
        bc.forecast(fit, None, until="1 d", draws=20, now=-1)


def test_a_count_long_before_the_first_dose_has_a_report(tmp_path, child):
    fit = bc.fit_individual(child, read(tmp_path, ["1,-120,.,200,20,1", "1,0,1000,.,20,1"]))
    assert "every dose is given after the last observation" in fit.report()


def test_draws_outside_the_bounds_are_refused(tmp_path, child):
    table = read(tmp_path, ["1,0,1000,.,20,1", "1,30,.,2,20,1", "1,200,.,60,20,1"])
    bounds = {"b0": {"value": 900, "min": 899.9, "max": 900.1}}
    fit = bc.fit_individual(child, table, starts=1, parameters=bounds)
    with pytest.raises(ValueError, match="lie within the bounds: widen or remove a bound"):
        fit.draws(50, 1)
