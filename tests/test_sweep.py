"""Designs and what a sweep computes: against the explorer, the model, and other chunks."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri
from sweeps import DESIGNS, GRID, RULE, SAMPLED, assert_same, checksums, rows, written

import bcellsim as bc
from bcellsim.sweep import read_design
from bcellsim.sweep.chunks import solve_chunk

pa = pytest.importorskip("pyarrow")
#: The logarithm of a factor, added to a random effect, rounds otherwise than a typical value that
#: is multiplied: relative.
ROUNDING = 1e-9
#: Few subjects are simulated by another backend: the relative tolerance of the compiled one.
OTHER_BACKEND = 1e-6
#: A t-digest of 5 to 60 values against their quantiles, as a share of their spread.
OF_SPREAD = 0.2


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The sweeps of the designs, by name."""
    folder = tmp_path_factory.mktemp("sweeps")
    return {
        name: bc.sweep(written(folder, text, f"{name}.toml"), out=folder / name)
        for name, text in DESIGNS.items()
    }


WRONG = {
    "model": ('model = "yu2022_ofatumumab"', 'model = "yu2022"', "line 2, model: unknown model"),
    "key": ("seed = 3", "sed = 3", 'line 3, sed: unknown key "sed"; did you mean "seed"?'),
    "seed": ("seed = 3", "", "seed: this key is required"),
    "factor": ("[factors.emax]", "[factors.emx]", 'factors.emx: unknown factor "emx"; did you '
               'mean "emax"?'),
    "twice": ("[factors.emax]", "[factors.dose]", "factors.dose: .*it is given twice"),
    "in schedule": ("[schedule]", '[schedule]\ndose = "5 mg sc"', "factors.dose: dose is given "
                    "twice: in \\[schedule\\]"),
    "empty": ('values = ["1 w", "4 w", "8 w"]', "values = []", "interval: values is empty"),
    "repeated": ('"1 w", "4 w"', '"7 d", "1 w"', "interval: the value 7.0 is given twice"),
    "reversed": ("low = 0.5", "low = 3", "the range is reversed: low = 3.* is above high = 2.0"),
    "no width": ("low = 0.5", "low = 2.0", "the range from 2.0 to 2.0 is empty"),
    "levels": ("levels = 2", "", "a full factorial needs values, or levels"),
    "how": ('how = "multiply"', "", 'how = "multiply" or "replace" is wanted'),
    "how of a dose": ('values = ["5', 'how = "multiply"\nvalues = ["5', "belongs to a parameter"),
    "both": ("levels = 2", "levels = 2\nvalues = [1]", "values are given, and low as well"),
    "unit": ('"8 w"', '"8 wk2"', "interval: .*unknown unit"),
    "constant": ('"5 mg sc", "$standard"', '"$standart"', 'unknown constant "standart"; did you '
                 'mean "standard"?'),
    "metric": ('"nadir"', '"nadirs"', 'metrics: unknown metric "nadirs"; did you mean "nadir"?'),
    "threshold": ("[10, 40]", "[10, 10]", "thresholds: a threshold is given twice"),
    "threshold as factor": ("[factors.emax]", "[factors.threshold]", "thresholds are no factor"),
    "points": ("chunk = 7", "chunk = 7\npoints = 5", "points: a full factorial has its own"),
    "no points": ("chunk = 7", 'sampling = "lhs"', 'sampling = "lhs" needs points'),
    "chunk": ("chunk = 7", 'chunk = 7\nmemory = "5 MB"', "give chunk or memory, not both"),
    "memory": ("chunk = 7", 'memory = "5"', "memory of one chunk is wanted"),
    "window": ('until = "16 w"', 'until = "3 w"', "induction: the window opens at 28 d"),
    "loading": ("$standard at", "$standard iv at", "schedule.loading: .*one too many"),
    "route": ('["5 mg sc"', '["5 mg po"', "factors.dose: .*route"),
    "rule": ("[schedule]", "[schedule]\nat_or_above = 10", "interval does not belong"),
    "patients": ("n = 5", 'patients = "nobody.csv"', "no table of patients"),
    "covariate": ("n = 5", "n = 5\ncovariates = { WEIGHT = 5 }", "unknown covariate"),
    "impossible": ('[factors.emax]\nlow = 0.5\nhigh = 2.0\nlevels = 2\nhow = "multiply"',
                   "[factors.WT]\nvalues = [0]", "factors.WT: covariate WT: a value is not above"),
    "covariate twice": ("n = 5", "n = 5\ncovariates = { WT = 70 }\n[factors.WT]\nvalues = [60]",
                        "factors.WT: WT is given twice: in .population. covariates as well"),
    "half a dose": ("[factors.emax]", "[factors.max_doses]\nvalues = [4.5]\n[factors.emax]",
                    "max_doses must be a whole number"),
    "log of values": ('"8 w"]', '"8 w"]\nlog = true', "values are given, and log as well"),
    "low of values": ('"8 w"]', '"8 w"]\nlow = 0', "values are given, and low as well"),
    "negative": ("low = 0.5", "low = -1", "emax is above 0"),
    "outputs": ("chunk = 7", 'chunk = 7\noutputs = ["bcell"]', "outputs belong to trajectories"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_in_a_design_is_named(wrong, tmp_path):
    old, new, sentence = WRONG[wrong]
    assert old in GRID
    path = written(tmp_path, GRID.replace(old, new, 1))
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        read_design(path)


def test_no_design_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no design file"):
        read_design(tmp_path / "absent.toml")


def test_last_factor_of_a_full_factorial_changes_fastest(tmp_path):
    design = read_design(written(tmp_path, GRID))
    assert (design.n_scenarios, design.n_chunks) == (60, 9)
    points = design.points(0, 12)
    assert [(f.name, len(f.levels)) for f in design.factors] == [
        ("dose", 2), ("interval", 3), ("emax", 2),
    ]  # fmt: skip
    assert points["emax"].tolist() == [0, 1] * 6
    assert points["dose"].tolist() == [0] * 6 + [1] * 6
    assert points["interval"].tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert {k: v.tolist() for k, v in design.points(5, 7).items()} == {
        k: v[5:7].tolist() for k, v in points.items()
    }


@pytest.mark.parametrize("sampling", ["sobol", "lhs"])
def test_points_do_not_depend_on_where_one_begins(sampling, tmp_path):
    design = read_design(written(tmp_path, SAMPLED.replace('"sobol"', f'"{sampling}"')))
    whole = design.points(0, 12)
    for first, last in [(0, 1), (0, 5), (5, 6), (1, 12), (11, 12)]:
        for name, values in design.points(first, last).items():
            assert values.tolist() == whole[name][first:last].tolist()
    assert np.all((whole["dose"] > 5) & (whole["dose"] < 60))


def test_latin_hypercube_has_a_point_in_every_stratum(tmp_path):
    text = SAMPLED.replace('"sobol"', '"lhs"').replace("points = 12", "points = 50")
    found = read_design(written(tmp_path, text)).points(0, 50)
    strata = (found["WT"] - 50) / (120 - 50) * 50
    assert sorted(np.floor(strata)) == list(range(50))
    # The logarithm of a log-normal one has strata of equal probability.
    z = np.log(found["kout"]) / np.sqrt(np.log1p(0.3**2))
    edges = ndtri(np.arange(51) / 50)
    assert sorted(np.searchsorted(edges, z) - 1) == list(range(50))


@pytest.mark.parametrize("name", DESIGNS)
def test_rows_do_not_depend_on_chunks_and_threads(name, done, tmp_path):
    for chunk, threads in [(1000, 2), (11, 1)]:
        text = DESIGNS[name].replace("chunk = ", f"chunk = {chunk} #")
        other = bc.sweep(written(tmp_path, text), out=tmp_path / str(chunk), threads=threads)
        assert_same(rows(done[name]), rows(other))
        if name == "sampled":
            ours, theirs = (one.trajectories.bcell.values for one in (done[name], other))
            assert ours.tobytes() == theirs.tobytes()


def test_rows_are_those_of_the_explorer(done):
    table = done["grid"].table.to_table().to_pandas()
    people = bc.sample_population("yu2022_ofatumumab", 5, seed=3)
    model = bc.load_model("yu2022_ofatumumab")
    j = model.structure.parameters.index("emax")
    loading = "20 mg sc at 0 d, 7 d, 14 d"
    for factor in (0.5, 2.0):
        parameters = people.parameters.copy()
        parameters[:, j] *= factor
        changed = bc.Population(model, people.subjects, people.covariates, people.eta, parameters,
                                people.seed)  # fmt: skip
        plans = bc.grid(dose=["5 mg sc", "20 mg sc"], every=["4 w", "8 w"], loading=loading)
        expected = bc.explore(
            model, plans, changed, below=[10, 40], until="16 w", induction="4 w", per_subject=True
        )
        found = table[(table["emax"] == factor) & (table["interval"] > 7)]
        found = found.sort_values(["dose", "interval", "threshold", "subject"])
        expected = expected.sort_values(["dose", "interval", "threshold", "subject"])
        assert found["dose"].tolist() == expected["dose"].tolist()
        for name in done["grid"].metrics:
            np.testing.assert_allclose(found[name], expected[name], rtol=ROUNDING)


def test_a_rule_decides_as_in_the_explorer(done):
    table = done["rule"].table.to_table().to_pandas()
    rules = [
        bc.DosingRule(visit_every="4 w", dose="20 mg sc", at_or_above=level, lloq=1,
                      loading="20 mg sc at 0 d, 7 d, 14 d") for level in (5, 40)
    ]  # fmt: skip
    people = bc.sample_population("yu2022_ofatumumab", 5, seed=3)
    expected = bc.explore("yu2022_ofatumumab", rules, people, below=40, until="24 w",
                          per_subject=True)  # fmt: skip
    for name in ("n_doses", "cumulative_dose", "n_visits", "days_above", "auc", "c_trough"):
        assert table[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True, rel=0)


def test_sampled_schedules_are_those_that_are_written_out(tmp_path):
    text = SAMPLED.replace('metrics = ["suppressed_throughout", "days_above", "time_to_repletion", '
                           '"nadir"]', "")  # fmt: skip
    design = read_design(written(tmp_path, text))
    table, courses = solve_chunk(design, range(design.n_scenarios))
    table = table.to_pandas()
    points = table.drop_duplicates("point")
    assert (table["status"] != "ok").any()
    assert (table["status"] == "ok").any()
    for row in points.itertuples():
        own = GRID.replace('["5 mg sc", "$standard"]', f'["{row.dose!r} mg sc"]').replace(
            '["1 w", "4 w", "8 w"]', f"[{row.interval!r}]").replace(
            "low = 0.5\nhigh = 2.0\nlevels = 2", f"values = [{row.kout!r}]").replace(
            "[factors.emax]", f"[factors.WT]\nvalues = [{row.WT!r}]\n[factors.kout]").replace(
            "metrics = ", "outputs = ['bcell']\ntrajectories = '4 w' #")  # fmt: skip
        one = read_design(written(tmp_path, own, "one.toml"))
        expected, course = solve_chunk(one, range(one.n_scenarios))
        expected, found = expected.to_pandas(), table[table["point"] == row.point]
        for name in [*bc.METRICS, "n_doses", "cumulative_dose", "n_visits", "status"]:
            if name != "c_trough":  # not defined where every scenario has doses of its own
                np.testing.assert_array_equal(expected[name], found[name], err_msg=name)
        np.testing.assert_array_equal(
            course["bcell"], courses["bcell"][5 * row.point : 5 * row.point + 5]
        )


INFUSED = """
model = "chen2024_rituximab"
seed = 1
until = "20 w"
thresholds = 10
trajectories = "4 w"
outputs = ["bcell"]
[schedule]
loading = "500 mg iv over 4 h at 0 d, 14 d"
[factors.dose]
values = ["500 mg iv over 4 h", "1 g iv over 1 d"]
[factors.interval]
values = ["8 w", "12 w"]
"""


def test_infusions_are_those_of_simulate(tmp_path):
    design = read_design(written(tmp_path, INFUSED))
    table, courses = solve_chunk(design, range(design.n_scenarios))
    assert set(table["status"].to_pylist()) == {"ok"}
    plans = bc.grid(dose=list(design.factors[0].levels), every=["8 w", "12 w"],
                    loading="500 mg iv over 4 h at 0 d, 14 d")  # fmt: skip
    expected = bc.simulate("chen2024_rituximab", plans, until="20 w", every="4 w")
    np.testing.assert_allclose(courses["bcell"], expected.bcell.values, rtol=OTHER_BACKEND)


def test_infusions_are_not_combined_with_sampled_schedules(tmp_path, monkeypatch):
    text = INFUSED.replace("seed", 'sampling = "lhs"\npoints = 3\nseed', 1).replace(
        'values = ["8 w", "12 w"]', 'low = "8 w"\nhigh = "12 w"')  # fmt: skip
    sentence = "over 4 h is an infusion, and these are not combined with a sampled dose or interval"
    with pytest.raises(ValueError, match=f"schedule.loading: 500 mg iv {sentence}"):
        read_design(written(tmp_path, text))
    dose = text.replace("over 4 h at 0 d", "at 0 d")
    with pytest.raises(ValueError, match=f"factors.dose: 500 mg iv {sentence}"):
        read_design(written(tmp_path, dose))
    # Only a data file says that the model has the duration (RATE = -2), no text of a design.
    from bcellsim.sweep import factors

    parse = factors.single_dose
    monkeypatch.setattr(
        factors, "single_dose", lambda value: replace(parse(value), modelled="duration")
    )
    with pytest.raises(ValueError, match=r"factors.dose: 500 mg iv is an infusion"):
        read_design(written(tmp_path, dose.replace(" over 4 h", "").replace(" over 1 d", "")))


def test_a_parameter_is_multiplied_or_replaced(tmp_path):
    typical = bc.load_model("yu2022_ofatumumab").parameters["emax"].value
    tables = []
    for how, value in [("multiply", 2.0), ("replace", 2.0 * typical)]:
        text = GRID.replace("low = 0.5\nhigh = 2.0\nlevels = 2", f"values = [{value!r}]")
        path = written(tmp_path, text.replace('"multiply"', f'"{how}"'))
        tables.append(solve_chunk(read_design(path), range(30))[0].to_pandas())
    assert tables[0]["nadir"].tolist() == pytest.approx(
        tables[1]["nadir"].tolist(), rel=ROUNDING, nan_ok=True
    )


def test_two_models_and_patients_of_a_table(tmp_path):
    card = Path(bc.load_model("yu2022_ofatumumab").path).read_text(encoding="utf-8")
    own = card.replace('name = "yu2022_ofatumumab"', 'name = "own"')
    written(tmp_path, own, "own.toml")
    written(tmp_path, "ID,WT,AGE\nann,60,30\nbob,90,40\n", "people.csv")
    text = GRID.replace("n = 5", 'patients = "people.csv"').replace(
        'model = "yu2022_ofatumumab"', 'model = ["yu2022_ofatumumab", "own.toml"]'
    )
    design = read_design(written(tmp_path, text))
    table = solve_chunk(design, range(design.n_scenarios))[0].to_pandas()
    assert table["subject"].tolist()[:8] == ["ann", "ann", "bob", "bob"] * 2
    assert len(design.spec["files"]) == 2
    one, other = (table[table["model"] == name] for name in ("yu2022_ofatumumab", "own"))
    np.testing.assert_array_equal(one["nadir"], other["nadir"])
    assert len(set(one["nadir"].dropna())) > 10
    # What such a file says is part of the design.
    written(tmp_path, "ID,WT,AGE\nann,61,30\nbob,90,40\n", "people.csv")
    assert read_design(tmp_path / "design.toml").digest != design.digest


def test_what_cannot_be_solved_is_a_row_that_says_why(done, monkeypatch, tmp_path):
    table = done["grid"].table.to_table().to_pandas()
    failed = table["status"] != "ok"
    assert (table["interval"][failed] == 7).all()
    assert (table["interval"][~failed] > 7).all()
    assert table["status"][failed].str.contains("not later than the last loading dose").all()
    assert table["nadir"][failed].isna().all()
    assert done["grid"].manifest["failed"] == failed.sum() / 2

    from bcellsim.sweep import chunks

    solve = chunks.outcomes

    def fragile(plan, people, *args, **options):
        if 3 in people.subjects:
            raise RuntimeError(f"subject 3 of {len(people)}")
        return solve(plan, people, *args, **options)

    monkeypatch.setattr(chunks, "outcomes", fragile)
    design = read_design(written(tmp_path, GRID))
    broken = solve_chunk(design, range(20, 40))[0].to_pandas()
    three = broken["subject"] == 3
    assert set(broken["status"][three & (broken["interval"] > 7)]) == {"subject 3 of 1"}
    known = table.set_index(["scenario", "threshold"]).loc[
        list(zip(broken["scenario"], broken["threshold"], strict=True))
    ]
    assert broken["nadir"][~three].tolist() == pytest.approx(
        known["nadir"].to_numpy()[~three].tolist(), rel=0, nan_ok=True
    )


def test_labelled_arrays_hold_the_rows(done):
    data = done["grid"].to_dataset()
    assert dict(data.sizes) == {
        "dose": 2, "interval": 3, "emax": 2, "subject": 5, "threshold": 2
    }  # fmt: skip
    table = done["grid"].table.to_table().to_pandas()
    for row in table[table["status"] == "ok"].sample(20, random_state=1).itertuples():
        cell = data.nadir.sel(dose=row.dose, interval=row.interval, emax=row.emax,
                              subject=row.subject, threshold=row.threshold)  # fmt: skip
        assert float(cell) == row.nadir
    sampled = done["sampled"].to_dataset(["nadir"])
    assert sampled.nadir.shape == (12, 5, 2)
    table = done["sampled"].table.to_table().to_pandas().drop_duplicates("point")
    assert sampled.WT.values.tolist() == table["WT"].tolist()


def test_the_order_of_factors_in_the_file_says_nothing(done, tmp_path):
    """Chunks are solved from the design as JSON, in which keys are sorted."""
    begin, end = GRID.index("[factors.dose]"), GRID.index("[factors.interval]")
    swapped = GRID[:begin] + GRID[end:] + GRID[begin:end]
    data = bc.sweep(written(tmp_path, swapped), out=tmp_path / "out").to_dataset(["nadir"])
    assert data.identical(done["grid"].to_dataset(["nadir"]))


def test_levels_of_a_capped_dose_keep_the_cap(tmp_path):
    text = GRID.replace(
        'values = ["5 mg sc", "$standard"]',
        'levels = 3\nlow = "0.2 mg/kg max 20 mg sc"\nhigh = "0.4 mg/kg max 20 mg sc"',
    )
    dose, *_ = read_design(written(tmp_path, text)).factors
    assert [level.split(" ", 1)[1] for level in dose.levels] == ["mg/kg max 20 mg sc"] * 3


@pytest.mark.parametrize(
    ("schedule", "accepted"),
    [("max_doses = 3", True), ("max_doses = 2", False), ("start = -10", False)],
)
def test_sampled_schedules_are_refused_as_written_ones_are(schedule, accepted, tmp_path):
    statuses = []
    for text in (GRID.replace('"1 w"', '"5 w"'), SAMPLED):
        text = text.replace("[schedule]", f"[schedule]\n{schedule}")
        design = read_design(written(tmp_path, text))
        table = solve_chunk(design, range(10))[0].to_pandas()
        statuses.append(set(table["status"]))
        assert (statuses[-1] == {"ok"}) == accepted
    assert statuses[0] == statuses[1]


def test_trajectories_are_those_of_the_scenarios(done):
    data = done["sampled"].trajectories
    assert data.bcell.shape == (60, 5)
    assert data.bcell.attrs["unit"] == "cells/uL"
    table = done["sampled"].table.to_table().to_pandas().drop_duplicates("scenario")
    assert data.interval.values.tolist() == table["interval"].tolist()
    solved = (table["status"] == "ok").to_numpy()
    assert np.isfinite(data.bcell.values).all(axis=1).tolist() == solved.tolist()


def other_readers(path):
    """Yield (n rows, mean nadir, chunks) as DuckDB and polars read them, where these are."""
    files = f"{path}/metrics/*/*.parquet"
    with contextlib.suppress(ImportError):
        import duckdb

        asked = f"SELECT count(*), avg(nadir), count(DISTINCT chunk) FROM '{files}'"
        yield duckdb.sql(asked).fetchall()[0]
    with contextlib.suppress(ImportError):
        import polars as pl

        table = pl.scan_parquet(path / "metrics", hive_partitioning=True)
        asked = pl.len(), pl.col("nadir").mean(), pl.col("chunk").n_unique()
        yield table.select(*asked).collect().row(0)


def test_other_tools_read_the_files(done, tmp_path):
    path = tmp_path / "own"
    bc.sweep(written(tmp_path, GRID), out=path)
    table = pd.read_parquet(path / "metrics")
    assert len(table) == 120
    assert set(table["chunk"].astype(int)) == set(range(9))
    ours = bc.open_sweep(path).table.to_table()
    failed = ours.column("status").to_numpy() != "ok"
    # Null, of which a mean elsewhere takes no note, not NaN, of which it would become NaN.
    assert ours.column("nadir").null_count == failed.sum() == 40
    for found in other_readers(path):
        assert found == pytest.approx((120, table["nadir"].mean(), 9))


def test_summaries_by_factor(done):
    table = done["grid"].summary(["interval", "threshold"])
    rows = done["grid"].table.to_table().to_pandas()
    assert table["n"].sum() == (rows["status"] == "ok").sum()
    for row in table[table["interval"] > 7].itertuples():
        group = rows[(rows["interval"] == row.interval) & (rows["threshold"] == row.threshold)]
        assert row.nadir_mean == pytest.approx(group["nadir"].mean())
        assert row.nadir_median == pytest.approx(group["nadir"].median())
        assert row.suppressed_throughout == pytest.approx(group["suppressed_throughout"].mean())
    assert list(dict.fromkeys(done["grid"].summary()["dose"])) == ["5 mg sc", "20 mg sc"]
    with pytest.raises(ValueError, match='unknown column "doses"; did you mean "dose"'):
        done["grid"].summary(["doses"])


def test_streamed_summaries_are_close_to_the_exact_ones(done):
    exact, streamed = (done["grid"].summary(["threshold"], exact=n) for n in (10**6, 0))
    assert list(exact) == list(streamed)
    spread = exact["nadir_p95"] - exact["nadir_p5"]
    for name in exact:
        if name.endswith(("_median", "_p5", "_p95")):
            finite = np.isfinite(exact[name])
            assert np.isfinite(streamed[name]).tolist() == finite.tolist()
            if name.startswith("nadir"):
                assert (abs(exact[name] - streamed[name]) < OF_SPREAD * spread).all()
        else:
            np.testing.assert_allclose(exact[name], streamed[name])


def test_memory_of_a_chunk(tmp_path):
    design = read_design(written(tmp_path, GRID.replace("chunk = 7", 'memory = "60 MB"')))
    assert design.chunk == 20_000


def test_a_sweep_that_is_not_confirmed(tmp_path):
    text = GRID.replace("n = 5", "n = 10_000_000")
    with pytest.raises(ValueError, match=r"120,000,000 scenarios: more than 10,000,000 .*--yes"):
        bc.sweep(written(tmp_path, text), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_large_populations_are_sampled_by_number(tmp_path):
    text = RULE.replace("n = 5", "n = 1_000_000").replace("chunk = 4", "chunk = 6")
    design = read_design(written(tmp_path, text))
    part = solve_chunk(design, range(2, 6))[0].to_pandas()
    whole = solve_chunk(read_design(written(tmp_path, RULE)), range(2, 5))[0].to_pandas()
    assert part["nadir"].tolist()[:3] == whole["nadir"].tolist()


def test_plan_of_a_sweep(tmp_path):
    facts = bc.plan_sweep(written(tmp_path, GRID))
    assert (facts["scenarios"], facts["rows"], facts["chunks"], facts["points"]) == (60, 120, 9, 12)
    assert facts["seconds"] > 0
    assert facts["memory_mb"] > 0
    assert facts["disk_mb"] > 0
    assert json.dumps(facts)


def test_checksums_are_of_the_files(done):
    assert len(set(checksums(done["grid"]).values())) == 9
