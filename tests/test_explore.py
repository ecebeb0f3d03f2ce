"""The explorer: grids of schedules, and rows that agree with the trajectories they summarise."""

import re
import resource
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

from bcellsim import Event, Regimen, explore, grid, load_regimen, sample_population, simulate
from bcellsim.explore import summarise
from bcellsim.metrics import METRICS

YU, CHEN = "yu2022_ofatumumab", "chen2024_rituximab"
LABEL = "ofatumumab_rms"
LOADING = "20 mg sc at 0 d, 7 d, 14 d"
MODULE = import_module("bcellsim.explore.outcomes")

# Design, section 4: at least these keys are in a row.
KEYS = [
    "regimen", "dose", "interval", "n_subjects", "threshold", "recovery", "suppressed_throughout",
    "suppressed_throughout_mc_se", "suppressed_fraction_mean", "suppressed_fraction_mc_se",
    "time_to_repletion_median", "time_to_repletion_p5", "time_to_repletion_p95",
    "time_to_repletion_reached_share", "n_doses", "cumulative_dose",
]  # fmt: skip
#: Steps differ where the end of the simulation does: two solves at rtol 1e-6.
SOLVER = 1e-3


@pytest.fixture(scope="module")
def people():
    return sample_population(YU, 80, seed=1)


def run(people, regimens=LABEL, **options):
    return explore(YU, regimens, people, **{"below": 10, "until": "40 w", **options})


# --- grids ---------------------------------------------------------------------------------------


def days_of(plan, until=700):
    return [event.time for event in plan.doses(until)]


def test_grid_names_and_order():
    plans = grid(dose=["10 mg sc", "20 mg sc"], every=["4 w", "21 d", "30 d"], loading=LOADING)
    intervals = ["4w", "3w", "30d"]
    wanted = [f"{dose} mg sc q{interval}" for dose in (10, 20) for interval in intervals]
    assert [plan.name for plan in plans] == wanted


def test_grid_with_loading_is_the_label():
    (plan,) = grid(dose="20 mg sc", every="4 w", loading=LOADING)
    assert days_of(plan, 1000) == days_of(load_regimen(LABEL), 1000)
    assert plan.dose == "20 mg sc"
    assert plan.interval == 28


@pytest.mark.parametrize(("every", "first"), [("4 w", 28), ("8 w", 56), ("24 w", 168)])
def test_maintenance_falls_at_multiples_from_the_first_dose(every, first):
    (plan,) = grid(dose="20 mg sc", every=every, loading=LOADING)
    assert days_of(plan) == [0, 7, 14, *np.arange(first, 700, first)]


def test_maintenance_counts_from_a_first_dose_that_is_not_on_day_0():
    (plan,) = grid(dose="20 mg sc", every="4 w", loading="20 mg sc at 7 d, 14 d, 21 d")
    assert days_of(plan, 92) == [7, 14, 21, 35, 63, 91]


def test_grid_without_loading_begins_at_0():
    assert days_of(grid(dose="20 mg sc", every="8 w")[0]) == list(np.arange(0, 700, 56))


def test_start_overrides():
    (plan,) = grid(dose="20 mg sc", every="8 w", loading=LOADING, start="4 w")
    assert days_of(plan) == [0, 7, 14, *np.arange(28, 700, 56)]
    assert days_of(grid(dose="20 mg sc", every="8 w", start=14)[0], 80) == [14, 70]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"every": "2 w", "loading": LOADING}, "at 14 d is not later than the last loading dose"),
        ({"every": "1 w", "loading": LOADING}, "at 7 d is not later than the last loading dose"),
        ({"start": 14, "loading": LOADING}, "not later than the last loading dose at 14 d"),
        ({"start": 3, "loading": LOADING}, "not later than the last loading dose"),
        ({"loading": "20 mg sc q1w"}, "the loading doses are open-ended"),
        ({"dose": []}, "at least one dose"),
        ({"every": []}, "at least one dose and one interval"),
        ({"dose": "20 mg"}, "no route"),
        ({"dose": "20 mg sc q4w"}, "its route is wanted"),
        ({"dose": "20 mg sc at 0, 7 d"}, "its route is wanted"),
        ({"every": "0 w"}, "longer than 0 d"),
        ({"every": "4 wks"}, 'unknown unit "wks"'),
    ],
)
def test_what_a_grid_refuses(options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        grid(**{"dose": "20 mg sc", "every": "4 w", **options})


def test_a_dose_of_a_grid_has_no_day_of_its_own():
    with pytest.raises(ValueError, match="at"):
        grid(dose="20 mg sc at 5 d", every="4 w")


# --- rows ----------------------------------------------------------------------------------------


def test_keys_of_a_row(people):
    table = run(people, grid(dose="20 mg sc", every=["4 w", "8 w"], loading=LOADING))
    assert set(KEYS) <= set(table)
    assert list(table)[: len(KEYS[:6])] == KEYS[:6]
    assert list(table.regimen) == ["20 mg sc q4w", "20 mg sc q8w"]
    assert list(table.interval) == [28, 56]
    assert set(table.dose) == {"20 mg sc"}
    assert set(table.n_subjects) == {80}
    assert table.attrs["model"] == YU
    assert table.attrs["seed"] == 1
    for name in set(METRICS) - {"suppressed_throughout"}:
        for suffix in ("mean", "median", "p5", "p95", "mc_se"):
            assert f"{name}_{suffix}" in table


def test_doses_are_counted_before_until(people):
    counts = [run(people, until=t) for t in (56, 57)]
    assert [int(t.n_doses[0]) for t in counts] == [4, 5]
    assert [float(t.cumulative_dose[0]) for t in counts] == [80, 100]


def test_doses_per_area_are_summed_in_mg():
    people = sample_population(CHEN, covariates=pd.DataFrame({"BSA": [0.8, 1.2, 2.0]}), seed=1)
    plan = "375 mg/m2 max 500 mg iv at 0 d, 7 d"
    row = explore(CHEN, plan, people, below=10, until=100).iloc[0]
    assert row.n_doses == 2
    assert row.cumulative_dose == pytest.approx((600 + 900 + 1000) / 3)
    each = explore(CHEN, plan, people, below=10, until=100, per_subject=True)
    assert list(each.cumulative_dose) == pytest.approx([600, 900, 1000])


def test_shares_agree_with_daily_trajectories(people):
    """Daily counts see all but what happens between days."""
    plans, until, opens, levels = [LABEL, "20 mg sc q8w"], 280, 56, [10, 40]
    table = explore(YU, plans, people, below=levels, until=until, induction=opens)
    per_subject = explore(
        YU, plans, people, below=levels, until=until, induction=opens, per_subject=True
    )
    counts = simulate(YU, plans, people, until=until, every=1).bcell.values
    for row in table.itertuples():
        i = 0 if row.regimen == LABEL else 1
        window = counts[i, :, opens:]
        highest = window.max(axis=1)
        # Subjects whose highest daily count is at the level to 2 % may be above it in between.
        unsure = np.mean(np.abs(highest / row.threshold - 1) < 0.02)
        share = np.mean(highest <= row.threshold)
        assert abs(row.suppressed_throughout - share) <= unsure + 1e-12
        assert row.suppressed_throughout_mc_se == pytest.approx(
            np.sqrt(row.suppressed_throughout * (1 - row.suppressed_throughout) / len(people))
        )
        above = np.trapezoid((window > row.threshold).astype(float), axis=1)
        mine = per_subject[
            (per_subject.regimen == row.regimen) & (per_subject.threshold == row.threshold)
        ]
        crossings = np.abs(np.diff(window > row.threshold, axis=1)).sum(axis=1)
        # Half a day for each crossing, and what rises and falls within a day near the level.
        near = (np.abs(window / row.threshold - 1) < 0.02).sum(axis=1)
        assert np.all(np.abs(mine.days_above - above) <= 0.5 * crossings + near + 1e-9)
        assert row.suppressed_fraction_mean == pytest.approx(
            1 - mine.days_above.mean() / (until - opens)
        )
        first = np.where((counts[i] <= row.threshold).any(axis=1),
                         (counts[i] <= row.threshold).argmax(axis=1), np.inf)  # fmt: skip
        reached = np.isfinite(first) & np.isfinite(mine.time_to_depletion)
        late = first[reached] - mine.time_to_depletion[reached]
        assert np.all((late >= -SOLVER) & (late <= 1 + SOLVER))
        assert np.all(mine.nadir <= counts[i].min(axis=1) * (1 + SOLVER))


def test_several_thresholds_are_those_of_each(people):
    both = run(people, below=[10, "0.04 10^9/L"])
    assert list(both.threshold) == [10, 40]
    assert list(both.recovery) == [10, 40]
    for i, level in enumerate((10, 40)):
        assert both.iloc[i].equals(run(people, below=level).iloc[0].rename(i))


def test_recovery(people):
    table = run(people, below=10, recovery=50, follow_up="1 y")
    assert table.recovery[0] == 50
    own = run(people, below=10, follow_up="1 y")
    assert own.recovery[0] == 10
    assert own.time_to_repletion_median[0] < table.time_to_repletion_median[0]
    assert own.suppressed_throughout[0] == table.suppressed_throughout[0]


def test_follow_up_affects_the_time_to_repletion_only(people):
    options = {"until": "20 w", "per_subject": True}
    short, long = run(people, **options), run(people, follow_up="1 y", **options)
    for name in METRICS:
        if name in ("time_to_repletion", "time_of_nadir", "suppressed_throughout"):
            continue  # the second sits on a flat minimum, the third is tested exactly below
        wanted = short[name].to_numpy()
        assert long[name].to_numpy() == pytest.approx(wanted, rel=SOLVER, abs=SOLVER), name
    assert np.array_equal(long.suppressed_throughout, short.suppressed_throughout)
    assert list(long.n_doses) == list(short.n_doses)
    returned, before = np.isfinite(long.time_to_repletion), np.isfinite(short.time_to_repletion)
    assert returned.sum() > before.sum()
    assert not (before & ~returned).any()


def test_a_run_without_later_doses_repletes():
    """Follow-up is without doses: an open-ended schedule stops at `until`."""
    people = sample_population(YU, 20, seed=1)
    open_ended = explore(YU, "20 mg sc q4w", people, below=10, until=84, follow_up="2 y")
    three = explore(YU, "20 mg sc q4w x 3", people, below=10, until=84, follow_up="2 y")
    assert open_ended.time_to_repletion_median[0] == three.time_to_repletion_median[0]


def test_per_subject(people):
    table = run(people, [LABEL, "20 mg sc q8w"], below=[10, 40], per_subject=True)
    assert len(table) == 2 * 2 * 80
    assert set(METRICS) <= set(table)
    rows = run(people, [LABEL, "20 mg sc q8w"], below=[10, 40])
    groups = table.groupby(["regimen", "threshold"])
    for row in rows.itertuples():
        group = groups.get_group((row.regimen, row.threshold))
        assert list(group.subject) == list(people.subjects)
        assert group.suppressed_throughout.mean() == row.suppressed_throughout
        assert group.days_above.mean() == pytest.approx(row.days_above_mean)
        assert group.nadir.median() == pytest.approx(row.nadir_median)


# --- reproducible --------------------------------------------------------------------------------


def test_seeds_chunks_and_threads(monkeypatch):
    def table(**options):
        return run(70, per_subject=True, **{"seed": 4, "until": 100, **options})

    plain = table()
    assert plain.equals(table())
    assert plain.equals(table(threads=1))
    assert not plain.equals(table(seed=5))
    monkeypatch.setattr(MODULE, "_CHUNK", 17)
    assert plain.equals(table(threads=3))


def test_a_larger_population_holds_the_smaller():
    small, large = (run(n, seed=4, per_subject=True, until=100) for n in (30, 60))
    columns = [c for c in small if c != "n_subjects"]
    assert small[columns].equals(large[columns].iloc[:30])


def test_progress(people, monkeypatch):
    monkeypatch.setattr(MODULE, "_CHUNK", 30)
    seen = []
    run(people, [LABEL, "20 mg sc q8w"], until=60, progress=lambda *done: seen.append(done))
    assert {(n, 160) for n in (30, 60, 80, 110, 140, 160)} <= set(seen)
    assert seen == sorted(seen)


# --- summaries -----------------------------------------------------------------------------------


def test_quantiles_with_infinite_values():
    times = np.r_[np.arange(1.0, 61.0), np.full(41, np.inf)]  # 101 values: quantiles are values
    row = summarise({"time_to_depletion": times})
    assert row["time_to_depletion_median"] == 51
    assert row["time_to_depletion_p5"] == 6
    assert row["time_to_depletion_p95"] == np.inf
    assert row["time_to_depletion_reached_share"] == 60 / 101
    assert row["time_to_depletion_mean"] == np.inf  # of the 60 who reach it, it would be 30.5
    assert np.isnan(row["time_to_depletion_mc_se"])
    none = summarise({"time_to_depletion": np.full(5, np.inf)})
    assert none["time_to_depletion_median"] == np.inf
    assert none["time_to_depletion_reached_share"] == 0
    assert none["time_to_depletion_mean"] == np.inf


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_quantiles_of_finite_values_are_those_of_numpy(n):
    values = np.random.default_rng(n).normal(size=n)
    row = summarise({"nadir": values})
    found = [row[f"nadir_{q}"] for q in ("p5", "median", "p95")]
    assert found == pytest.approx(np.quantile(values, [0.05, 0.5, 0.95]))


def test_reached_share_of_depletion_is_of_all_subjects():
    people = sample_population(YU, 100, seed=2)
    rows = run(people, "1 mg sc", below=3, until=60, per_subject=True)
    reached = np.isfinite(rows.time_to_depletion)
    assert 0 < reached.sum() < 100
    assert not rows.time_to_depletion.isna().any()
    summary = run(people, "1 mg sc", below=3, until=60).iloc[0]
    assert summary.time_to_depletion_reached_share == reached.mean()


def test_undefined_repletion_is_left_out_of_its_quantiles():
    values = np.array([np.nan, 5.0, 7.0, np.inf])
    row = summarise({"time_to_repletion": values})
    assert row["time_to_repletion_median"] == 7
    assert np.isnan(summarise({"time_to_repletion": np.full(3, np.nan)})["time_to_repletion_p5"])


# --- what is refused -----------------------------------------------------------------------------

EMPTY = Regimen([Event("reset", 3)])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"until": 28}, "the window of ofatumumab_rms is empty: it opens at 28 d"),
        ({"induction": "1 y"}, "the window of ofatumumab_rms is empty"),
        ({"induction": -1}, "must not be negative"),
        ({"follow_up": -1}, "must not be negative"),
        ({"until": 0}, "no dose before until = 0 d"),
        ({"below": 0}, "below = 0: a threshold above 0 cells/uL is wanted"),
        ({"below": -5}, "a threshold above 0 cells/uL is wanted"),
        ({"below": np.nan}, "nan is not a finite number"),
        ({"below": []}, "give a threshold"),
        ({"below": "10 mg"}, '"mg" is a mass'),
        ({"below": "10 cels/uL"}, 'mean "cells/uL"?'),
        ({"regimens": []}, "no regimen is given"),
        ({"regimens": "ofatumumab_rrms"}, 'did you mean "ofatumumab_rms"?'),
        ({"regimens": "rituximab_ae_600mg"}, "is for rituximab"),
        ({"regimens": "100 mg iv"}, "give covariate IV = 1"),
        ({"regimens": EMPTY}, "has no dose before until"),
        ({"model": "yu2022"}, 'did you mean "yu2022_ofatumumab"?'),
        ({"population": 0}, "a number of subjects of 1 or more"),
        ({"until": "40 ww"}, 'unknown unit "ww"'),
    ],
)
def test_what_explore_refuses(options, sentence):
    given = {"model": YU, "regimens": LABEL, "population": 2, "below": 10, "until": 280, **options}
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        explore(**given)
    assert "\n" not in str(caught.value)


def test_a_bad_recovery_level_is_named():
    with pytest.raises(ValueError, match="recovery"):
        run(2, recovery=-1)


def test_a_threshold_may_be_a_numpy_integer():
    assert run(2, seed=1, below=np.int64(10)).threshold[0] == 10


def test_two_regimens_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two regimens are named"):
        run(2, [LABEL, LABEL])


@pytest.mark.slow
def test_sixty_schedules_in_2000_patients():
    """In less than 1 GB (Linux counts the peak in kB)."""
    people = sample_population(YU, 2000, seed=1)
    weeks = (4, 5, 6, 7, 8, 10, 12, 16, 20, 24)
    doses = [f"{mg} mg sc" for mg in (5, 10, 15, 20, 30, 60)]
    plans = grid(dose=doses, every=[f"{n} w" for n in weeks], loading=LOADING)
    explore(YU, plans[0], people, below=10, until="2 y")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = explore(YU, plans, people, below=10, until="2 y")
    assert len(table) == 60
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert added < 1e6
