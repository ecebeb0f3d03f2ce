"""Comparing schedules: paired differences, subgroups, several models, survival, trade-off."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bcellsim as bc
from bcellsim import DosingRule, explore, pareto, sample_population, survival
from bcellsim.explore import common_cost
from bcellsim.explore.groups import groups, read_by
from bcellsim.explore.summary import differences
from bcellsim.explore.survival import kaplan_meier
from bcellsim.metrics import METRICS
from bcellsim.population import individual_subject

YU, CHEN = "yu2022_ofatumumab", "chen2024_rituximab"
LABEL, OTHER = "ofatumumab_rms", "20 mg sc at 0 d, 7 d, 14 d; 20 mg sc q6w from 6 w"
LOADING = "20 mg sc at 0 d, 7 d, 14 d"


@pytest.fixture(scope="module")
def people():
    return sample_population(YU, 100, covariates="study", seed=1)


def run(people, regimens=(LABEL, OTHER), model=YU, **options):
    return explore(model, regimens, people, **{"below": 10, "until": "40 w", **options})


# --- differences ---------------------------------------------------------------------------------


def test_differences_are_those_of_the_subjects(people):
    table = run(people, reference=LABEL, below=[10, 40])
    each = run(people, per_subject=True, below=[10, 40])
    for row in table.itertuples():
        mine, base = (
            each[(each.regimen == name) & (each.threshold == row.threshold)]
            for name in (row.regimen, LABEL)
        )
        for name in ("days_above", "nadir", "auc"):
            pairs = mine[name].to_numpy() - base[name].to_numpy()
            half = 1.96 * pairs.std(ddof=1) / 10
            found = [getattr(row, f"{name}_difference{end}") for end in ("", "_low", "_high")]
            wanted = [pairs.mean(), pairs.mean() - half, pairs.mean() + half]
            assert found == pytest.approx(wanted, rel=1e-3, abs=1e-12)
        shares = [group.suppressed_throughout.mean() for group in (mine, base)]
        assert row.suppressed_throughout_difference == pytest.approx(shares[0] - shares[1])
        low, high = (
            getattr(row, f"suppressed_throughout_difference_{end}") for end in ("low", "high")
        )
        assert (low < high) == (row.regimen != LABEL)
        assert row.n_doses_difference == mine.n_doses.iloc[0] - base.n_doses.iloc[0]


def test_a_reference_changes_nothing_else(people):
    plain, compared = run(people), run(people, reference=OTHER)
    assert compared[list(plain)].equals(plain)
    assert list(compared.regimen) == list(plain.regimen)
    as_plan = run(people, reference=bc.load_regimen(OTHER))
    assert as_plan.equals(compared)


@pytest.mark.parametrize(
    ("name", "times"),
    # Of a share the gain is less, as it has no more than the pairs that differ to go by.
    [("suppressed_fraction", 3), ("days_above", 3), ("auc", 3), ("suppressed_throughout", 2)],
)
def test_paired_intervals_are_narrower_than_those_of_separate_subjects(name, times):
    people, others = (sample_population(YU, 300, seed=seed) for seed in (1, 2))
    plans = [f"{LOADING}; 20 mg sc q{n}w from {n} w" for n in (4, 5)]
    options = {"until": "1 y", "below": 40}
    paired = run(people, plans, reference=plans[0], **options).iloc[1]
    width = paired[f"{name}_difference_high"] - paired[f"{name}_difference_low"]
    tables = [run(people, plans[0], **options), run(others, plans[1], **options)]
    apart = 2 * 1.96 * np.hypot(*(float(table[f"{name}_mc_se"].iloc[0]) for table in tables))
    assert apart > times * width


def test_intervals_of_differences_of_shares():
    """Agresti & Min 2005: 1/2 is added to each cell of the table of pairs."""
    one, other = np.zeros(100), np.zeros(100)
    one[:20], other[15:30] = 1, 1  # 15 gained, 10 lost
    found = differences({"suppressed_throughout": one}, {"suppressed_throughout": other})
    se = np.sqrt(15.5 + 10.5 - 5**2 / 102) / 102
    wanted = 0.05, 5 / 102 - 1.96 * se, 5 / 102 + 1.96 * se
    assert list(found.values()) == pytest.approx(wanted, rel=1e-4)
    same = differences({"suppressed_throughout": one}, {"suppressed_throughout": one})
    assert same["suppressed_throughout_difference_low"] < 0 < 0.02
    assert same["suppressed_throughout_difference_high"] > 0


def test_a_difference_of_times_that_are_not_reached_is_not_given():
    times = np.array([3.0, np.inf]), np.array([2.0, 4.0])
    found = differences({"time_to_escape": times[0]}, {"time_to_escape": times[1]})
    assert np.isnan(list(found.values())).all()
    both = differences({"time_to_escape": times[1]}, {"time_to_escape": times[1] - 1})
    assert both["time_to_escape_difference"] == 1


def test_coverage_of_the_interval(people):
    """Of the mean difference in one large population, by the intervals of its parts."""
    large = run(sample_population(YU, 4000, seed=3), per_subject=True, below=40)
    parts = [g.days_above.to_numpy() for _, g in large.groupby("regimen", sort=False)]
    truth, inside = (parts[1] - parts[0]).mean(), 0
    for k in range(40):
        rows = slice(100 * k, 100 * (k + 1))
        found = differences({"days_above": parts[1][rows]}, {"days_above": parts[0][rows]})
        inside += found["days_above_difference_low"] <= truth <= found["days_above_difference_high"]
    assert inside >= 33  # of 40 at 95 %; fewer than 33 have a probability of 1e-3


# --- subgroups -----------------------------------------------------------------------------------


def test_groups_are_those_of_the_table_of_subjects(people):
    table = run(people, by=["WT", "b0"], reference=LABEL)
    assert list(table)[:11] == [
        "regimen", "dose", "interval", "n_subjects", "threshold", "recovery", "induction", "by",
        "group", "group_low", "group_high",
    ]  # fmt: skip
    assert len(table) == 2 * (1 + 4 + 4)
    each = run(people, by=["WT", "b0"], per_subject=True)
    assert np.array_equal(each.WT[:100], people.covariates["WT"])
    whole = run(people)
    everybody = table[table.group == "all"]
    assert list(everybody.suppressed_fraction_mean) == list(whole.suppressed_fraction_mean)
    for row in table[table.by != ""].itertuples():
        column, mine = each[row.by], each[each.regimen == row.regimen]
        mine = mine[(mine[row.by] >= row.group_low) & (mine[row.by] <= row.group_high)]
        if row.group_low > column.min():
            mine = mine[mine[row.by] > row.group_low]
        assert len(mine) == row.n_subjects == 25
        assert mine.days_above.mean() == pytest.approx(row.days_above_mean)
        assert mine.suppressed_throughout.mean() == pytest.approx(row.suppressed_throughout)


def test_cuts_and_indicators():
    people = individual_subject(
        bc.load_model(YU), {"WT": [50.0, 60, 70, 80], "APLIOS": [0, 1, 1, 0]}, np.zeros((4, 16))
    )
    found = groups(people, read_by({"WT": [60, 75]}))
    assert [g.label for g in found] == ["all", "WT 50-60", "WT 60-75", "WT 75-80"]
    assert [list(np.flatnonzero(g.members)) for g in found[1:]] == [[0, 1], [2], [3]]
    found = groups(people, read_by("APLIOS"))
    assert [(g.label, int(g.members.sum())) for g in found[1:]] == [
        ("APLIOS 0", 2),
        ("APLIOS 1", 2),
    ]


@pytest.mark.parametrize(
    ("by", "sentence"),
    [
        ("AGES", 'unknown covariate or parameter "AGES"; did you mean "AGE"?'),
        ("IV", "all subjects have IV = 0; sample them, as in IV=study"),
        ({"WT": [60, 50]}, "cuts are finite numbers in ascending order"),
        ({"WT": []}, "cuts are finite numbers in ascending order"),
        ({"WT": [500]}, "no subject lies between 500 and"),
    ],
)
def test_what_groups_refuse(people, by, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run(people, by=by)


# --- several models and kinds of subjects --------------------------------------------------------

TABLE = pd.DataFrame({"WT": [50.0, 70, 90], "AGE": [30.0, 40, 50], "BSA": [1.5, 1.8, 2.1]})


def test_models_by_drug():
    plans = [LABEL, "rituximab_ae_600mg"]
    table = run(TABLE, plans, [YU, CHEN], seed=3, below=50)
    assert list(table.model) == [YU, CHEN]
    assert list(table.regimen) == plans
    assert list(table.n_subjects) == [3, 3]
    alone = [
        run(TABLE, plan, model, seed=3, below=50)
        for plan, model in zip(plans, (YU, CHEN), strict=True)
    ]
    for i, single in enumerate(alone):
        assert table.suppressed_fraction_mean[i] == single.suppressed_fraction_mean[0]
    assert table.attrs["model"] == f"{YU}; {CHEN}"
    assert table.attrs["seed"] == "3" or table.attrs["seed"] == 3


def test_a_model_for_each_regimen():
    plans = {LABEL: YU, "375 mg/m2 iv": CHEN}
    table = run(TABLE, plans, None, seed=3, below=50, reference=LABEL)
    assert list(table.model) == [YU, CHEN]
    assert table.days_above_difference[0] == 0


def test_variants_of_a_model_with_the_same_regimen():
    table = run(40, LABEL, [YU, f"{YU}:reading_b"], seed=1, reference=LABEL)
    assert list(table.regimen) == [LABEL, LABEL]
    assert table.model.nunique() == 2
    assert list(table.days_above_difference) == [0, 0]  # each with that of its own model
    people = {name: sample_population(name, 40, seed=1) for name in table.model}
    again = run(people, LABEL, list(table.model), reference=LABEL)
    assert np.array_equal(again.days_above_mean, table.days_above_mean)


def test_draws_of_one_patient_are_subjects():
    model = bc.load_model(YU)
    eta = 0.1 * np.random.default_rng(1).standard_normal((50, 16))
    table = run(individual_subject(model, {"WT": 82}, eta), OTHER, below=10)
    assert table.n_subjects[0] == 50
    assert 0 <= table.suppressed_throughout[0] <= 1


def test_a_table_of_patients():
    table = run(TABLE, per_subject=True, seed=1, by="WT")
    assert list(table.WT[:3]) == [50, 70, 90]


def without_counts():
    model = bc.load_model(CHEN)
    structure = replace(model.structure, outputs=("conc",))
    return replace(model, name="concentrations_only", structure=structure)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": [YU], "regimens": "rituximab_ae_600mg"}, "the models are for ofatumumab"),
        ({"model": [], "regimens": LABEL}, "no model is given"),
        ({"model": YU, "regimens": {LABEL: YU}}, "regimens give a model each"),
        ({"model": None, "regimens": LABEL}, "no model is given"),
        ({"people": {CHEN: 5}}, f'population: unknown model "{YU}"'),
        ({"reference": "20 mg sc q5w"}, 'reference: unknown regimen "20 mg sc q5w"'),
        ({"reference": "ofatumumab_rrms"}, f'did you mean "{LABEL}"?'),
        ({"regimens": "20 mg sc q1y"}, "the interval of 365.25 d is longer than the horizon"),
        ({"model": [YU, without_counts()], "regimens": "20 mg sc"}, "which is not a common output"),
    ],
)  # fmt: skip
def test_what_is_refused(arguments, sentence):
    given = {"people": 5, "seed": 1, **arguments}
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        run(given.pop("people"), **given)
    assert "\n" not in str(caught.value)


def test_sizes_of_several_models():
    people = {YU: 5, CHEN: 6}
    with pytest.raises(ValueError, match="the same number of subjects is wanted for every model"):
        run(people, {LABEL: YU, "375 mg/m2 iv": CHEN}, None)


def test_a_threshold_above_the_baseline_is_said(people, recwarn):
    run(people, below=10)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="at or above the baseline count of 100% of the subjects"):
        table = run(people, below=2000)
    assert table.suppressed_throughout[0] == 1


# --- survival ------------------------------------------------------------------------------------


def test_kaplan_meier_by_hand():
    """Six subjects: events at 2, 2 and 5, censored at 3, 5 and 9; one not defined."""
    time = np.array([2.0, np.inf, 2.0, 5.0, np.inf, np.inf, np.nan])
    curve = kaplan_meier(time, np.array([9.0, 3.0, 9.0, 9.0, 5.0, 9.0, 9.0]))
    assert list(curve["time"]) == [0, 2, 3, 5, 9]
    assert list(curve["at_risk"]) == [6, 6, 4, 3, 1]
    assert list(curve["events"]) == [0, 2, 0, 1, 0]
    assert list(curve["censored"]) == [0, 0, 1, 1, 1]
    assert list(curve["share"]) == pytest.approx([1, 2 / 3, 2 / 3, 4 / 9, 4 / 9])
    assert set(curve["n_undefined"]) == {1}
    greenwood = 2 / (6 * 4) + 1 / (3 * 2)
    half = 1.96 * np.sqrt(greenwood) / abs(np.log(4 / 9))
    wanted = (4 / 9) ** np.exp(half), (4 / 9) ** np.exp(-half)
    assert (curve["low"][3], curve["high"][3]) == pytest.approx(wanted, rel=1e-4)


def test_curves_without_censoring_are_shares():
    time = np.random.default_rng(1).exponential(10, 200)
    curve = kaplan_meier(time, np.full(200, 1e3))
    for at, share in zip(curve["time"], curve["share"], strict=True):
        assert share == pytest.approx(np.mean(time > at), abs=1e-12)


def test_curves_with_none_and_nobody():
    none = kaplan_meier(np.full(4, np.inf), np.full(4, 7.0))
    assert list(none["share"]) == [1, 1]
    assert list(none["low"]) == [1, 1]
    nobody = kaplan_meier(np.full(3, np.nan), np.full(3, 7.0))
    assert np.isnan(nobody["share"]).all()


def test_survival_of_schedules(people):
    guided = DosingRule(visit_every="4 w", dose="20 mg sc", at_or_above=20, loading=LOADING)
    plans = [LABEL, OTHER, guided]
    each = run(people, plans, per_subject=True, follow_up="10 w", seed=2)
    table = run(people, plans, follow_up="10 w", seed=2)
    for event in ("time_to_escape", "time_to_repletion", "time_to_depletion"):
        curves = survival(each, event)
        assert set(curves.regimen) == set(table.regimen)
        for row in table.itertuples():
            curve = curves[curves.regimen == row.regimen]
            assert np.all(np.diff(curve.share) <= 0)
            assert curve.n_subjects.iloc[0] + curve.n_undefined.iloc[0] == 100
            if row.regimen != guided.name:  # all are censored at the same time
                reached = getattr(row, f"{event}_reached_share")
                assert 1 - curve.share.iloc[-1] == pytest.approx(reached)
    remaining = survival(each)
    last = remaining.groupby("regimen", sort=False).share.last()
    assert list(last) == pytest.approx(list(table.suppressed_throughout))


@pytest.mark.parametrize(
    ("per_subject", "event", "sentence"),
    [
        (False, "time_to_escape", "a table of subjects is wanted"),
        (True, "time_to_escpe", 'did you mean "time_to_escape"?'),
    ],
)
def test_what_survival_refuses(per_subject, event, sentence):
    table = run(3, seed=1, per_subject=per_subject)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        survival(table, event)


# --- trade-off -----------------------------------------------------------------------------------


def rows(costs, shares, thresholds=10.0):
    names = [f"s{i}" for i in range(len(costs))]
    return pd.DataFrame(
        {
            "regimen": names, "threshold": thresholds, "recovery": 10.0, "induction": 28.0,
            "cumulative_dose": costs, "n_doses": costs, "suppressed_throughout": shares,
            "days_above_mean": 100 * (1 - np.array(shares)),
        }
    )  # fmt: skip


def test_pareto_by_hand():
    table = rows([100, 200, 200, 300, 100], [0.2, 0.5, 0.4, 0.5, 0.2])
    found = pareto(table)
    assert list(found.pareto) == [True, True, False, False, True]
    assert list(found.dominated_by) == ["", "", "s1", "s1", ""]
    assert list(pareto(table, gain="days_above_mean").pareto) == list(found.pareto)
    assert list(pareto(table, cost="n_doses").pareto) == list(found.pareto)
    apart = pareto(table.assign(threshold=[1, 2, 3, 4, 5.0]))
    assert apart.pareto.all()
    assert "pareto" not in table


def test_pareto_of_random_schedules_is_what_nothing_beats():
    rng = np.random.default_rng(4)
    table = rows(rng.integers(1, 12, 40), rng.integers(0, 12, 40) / 12)
    for row in pareto(table).itertuples():
        beats = table[
            (table.n_doses <= row.n_doses)
            & (table.suppressed_throughout >= row.suppressed_throughout)
            & (
                (table.n_doses < row.n_doses)
                | (table.suppressed_throughout > row.suppressed_throughout)
            )
        ]
        assert row.pareto == (not len(beats))
        assert row.pareto or row.dominated_by in set(beats.regimen)


def test_pareto_of_a_comparison(people):
    plans = bc.grid(dose=["10 mg sc", "20 mg sc"], every=["4 w", "8 w"], loading=LOADING)
    found = pareto(run(people, plans, by="WT"))
    assert found.pareto.any()
    assert not found.pareto[(found.regimen == "10 mg sc q8w") & (found.cumulative_dose > 1e3)].any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cost": "doses"}, 'unknown cost "doses"; did you mean "n_doses"?'),
        ({"gain": "suppressed"}, 'unknown column "suppressed"'),
        ({"gain": "threshold"}, 'whether more or less of "threshold" is wanted'),
    ],
)
def test_what_pareto_refuses(options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        pareto(rows([1.0], [0.5]), **options)


def test_pareto_of_doses_without_a_sum():
    table = rows([2, 3], [0.5, 0.4]).assign(cumulative_dose=np.nan)
    with pytest.raises(ValueError, match=r"cumulative_dose of s0 is not defined.*use n_doses"):
        pareto(table)
    assert list(pareto(table, cost="n_doses").pareto) == [True, False]


def test_every_metric_has_a_direction_or_none():
    assert {metric.goal for metric in METRICS.values()} <= {"min", "max", None}


def test_amounts_of_two_drugs_are_not_compared():
    table = run(TABLE, [LABEL, "rituximab_ae_600mg"], [YU, CHEN], seed=3, below=50)
    assert list(table.drug) == ["ofatumumab", "rituximab"]
    with pytest.raises(ValueError, match="amounts of ofatumumab and of rituximab are not"):
        bc.pareto(table)
    assert common_cost(table) == "n_doses"
    assert list(bc.pareto(table, cost="n_doses").pareto) == [True, True]


def test_facts_that_only_one_of_two_models_has():
    table = run(3, [LABEL, "rituximab_ae_600mg"], [CHEN, YU], seed=3, below=50)
    assert table.attrs["body_surface"] == "taken as a covariate"


def test_a_schedule_does_not_differ_from_itself():
    table = run(TABLE, [LABEL, OTHER], seed=3, below=50, reference=LABEL)
    assert table.suppressed_throughout_difference_low[0] == 0
    assert table.suppressed_throughout_difference_high[0] == 0
