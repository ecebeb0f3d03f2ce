"""The command line of the explorer: rules, references, groups, searches, and what they write."""

import json

import pandas as pd
import pytest
from test_cli import EXPLORE, GRID, YU, folder, listing, parsed, run  # noqa: F401

LOADING = ["--loading", "20 mg sc at 0 d, 7 d, 14 d"]
SOME = [*EXPLORE, "--subjects", "6", "--seed", "1"]
RULE = "dose=20 mg sc; visit_every=4 w; at_or_above=5; lloq=1; label=guided"
FIND = [*EXPLORE, "--seed", "1", "--probability", "0.6", "--mc-error", "0.2", "--find"]


def test_rules_references_and_groups(run, folder):  # noqa: F811
    command = [
        *SOME, *GRID, *LOADING, "--rule", RULE, "--reference", "20 mg sc q4w", "--by", "b0",
        "--survival", "--follow-up", "10w",
    ]  # fmt: skip
    code, out, err = run(*command, "--out", "out")
    assert (code, err) == (0, "wrote out\n")
    assert "guided" in out
    assert "difference [%]" in out
    names = ["decisions", "doses", "ledger", "schedules", "survival"]
    pictures = ("counts", "forest", "heatmap", "pareto", "survival_curves", "swimmer_1")
    files = [f"{name}{end}" for name in pictures for end in (".png", ".svg", "_data.csv")]
    tabled = [f"{name}.csv" for name in names]
    assert listing(folder / "out") == sorted([*files, *tabled, "report.html", "run.json"])
    tables = {name: pd.read_csv(folder / f"out/{name}.csv") for name in names}
    assert len(tables["schedules"]) == 3 * 5
    assert {"pareto", "dominated_by", "days_above_difference"} <= set(tables["schedules"])
    assert set(tables["survival"].event) == {"time_to_escape", "time_to_repletion"}
    assert len(tables["decisions"]) == 6 * 4
    guided = tables["schedules"][lambda t: (t.regimen == "guided") & (t.group == "all")]
    assert len(tables["ledger"]) == pytest.approx(6 * guided.n_doses.iloc[0])
    assert set(tables["doses"].regimen) == {"20 mg sc q4w", "20 mg sc q12w"}
    recorded = json.loads((folder / "out/run.json").read_text())
    assert recorded["settings"]["rule"] == [RULE]
    assert recorded["settings"]["seed"] == 1


def test_a_rule_alone(run):  # noqa: F811
    (row,) = parsed(run(*SOME, "--rule", RULE, *LOADING, "--json")[1])
    assert row["regimen"] == "guided"
    assert 3 <= row["n_doses"] <= 7
    assert row["seed"] == 1


def test_a_grid_beside_a_rule_has_its_heat_map(run, folder):  # noqa: F811
    code, _, err = run(*SOME, *GRID, "--rule", RULE, "--out", "out")
    assert (code, err) == (0, "wrote out\n")
    assert "heatmap.svg" in listing(folder / "out")


def test_two_models(run):  # noqa: F811
    command = [*SOME, "--model", f"{YU}:reading_b", "--regimen", "ofatumumab_rms", "--json"]
    rows = parsed(run(*command)[1])
    assert [row["regimen"] for row in rows] == ["ofatumumab_rms"] * 2
    assert rows[0]["model"] == f"{YU}; {rows[1]['model'].split('; ')[1]}"


def test_find(run, folder):  # noqa: F811
    code, out, err = run(*FIND, "longest-interval", "--dose", "20 mg sc", *LOADING, "--out", "out")
    assert (code, err) == (0, "wrote out\n")
    assert "interval" in out.splitlines()[-1]
    assert listing(folder / "out") == sorted(
        ["candidates.csv", "report.html", "run.json", "search.png", "search.svg", "search_data.csv"]
    )
    command = [*FIND, "smallest_dose", "--dose", "5 mg sc", "--dose", "80 mg sc", "--every", "4w"]
    found = parsed(run(*command, *LOADING, "--json")[1])
    assert set(found) == {"answer", "value", "share", "mc_se", "candidates"}
    reaching = [row for row in found["candidates"] if row["reaches"]]
    assert found["value"] == (min(row["amount"] for row in reaching) if reaching else None)
    command = [*FIND, "fewest_doses", "--dose", "20 mg sc", "--subjects", "8", "--json"]
    found = parsed(run(*command)[1])
    assert {row["n_subjects"] for row in found["candidates"]} == {8}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (SOME, "give --dose and --every, or --regimen, or --rule"),
        ([*SOME, "--rule", "dose=20 mg sc"], 'the rule "dose=20 mg sc" has no visit_every'),
        ([*SOME, "--rule", RULE.replace("label", "lable")], 'did you mean "label"?'),
        ([*SOME, "--rule", RULE.replace("lloq=1", "lloq=8")], "above 0 and below the LLOQ of 8"),
        ([*SOME, *GRID, "--reference", "20 mg sc q5w"], "reference: unknown regimen"),
        ([*SOME, *GRID, "--by", "WT=a"], '--by WT=a: "WT" or "WT=60,80" is wanted'),
        ([*SOME, *GRID, "--by", "WTT"], 'did you mean "WT"?'),
        ([*SOME, "--dose", "20 mg sc", "--every", "52w"], "longer than the horizon"),
        ([*FIND, "longest", "--dose", "20 mg sc"], '--find: unknown question "longest"'),
        ([*FIND, "longest_interval"], "--find longest_interval needs one --dose"),
        ([*FIND, "smallest_dose", "--dose", "2 mg sc"], "needs --dose twice"),
        ([*FIND, "fewest_doses", "--dose", "20 mg sc", "--by", "WT"], "--by does not belong"),
        ([*FIND, "fewest_doses", "--dose", "9 mg sc", "--model", YU], "--find takes one --model"),
        ([*FIND, "fewest_doses", "--dose", "9 mg sc", "--subjects", "2"], "fewer than needed"),
        ([*EXPLORE, "--find", "fewest_doses", "--dose", "9 mg sc"], "--find needs --probability"),
    ],
)
def test_what_is_refused(run, words, sentence):  # noqa: F811
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert err.startswith("bcellsim: error: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_warning_is_one_line(run):  # noqa: F811
    code, _, err = run(*SOME, *GRID, "--below", "5000")
    assert code == 0
    assert err.startswith("bcellsim: warning: below = 5000 cells/uL is at or above the baseline")
    assert err.count("\n") == 1
