"""The command line: results, files, and one sentence for every mistake."""

import contextlib
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import pandas as pd
import patient
import pytest
import xarray as xr

matplotlib.use("Agg")

from bcellsim import cli

YU, CHEN = "yu2022_ofatumumab", "chen2024_rituximab"
PATIENT = """ID,TIME,AMT,DV,WT,AGE
1,-7,.,210,70,38
1,0,20,.,70,38
1,28,.,<5,70,38
1,150,.,60,70,38
"""
KPD = patient.KPD.strip().replace("invented_kpd", "invented") + "\n"
PK_ONLY = (
    KPD[: KPD.index("kel")].replace('"kpd"', '"pk_linear"')
    + """
cl = { value = 0.3, unit = "L/day" }
vc = { value = 3, unit = "L" }
q = { value = 0.4, unit = "L/day" }
vp = { value = 3, unit = "L" }
"""
)
EXAMPLES = Path(__file__).parent.parent / "examples" / "data"
FILES = {
    "patient.csv": PATIENT,
    "text.csv": PATIENT.replace("60", "sixty"),
    "order.csv": PATIENT.replace("150", "15"),
    "infinite.csv": PATIENT.replace("60", "inf"),
    "zero.csv": PATIENT.replace("60", "0"),
    "negative.csv": PATIENT.replace("20,", "-20,"),
    "no_weight.csv": "ID,TIME,AMT,DV\n1,0,20,.\n1,28,.,5\n",
    "no_dose.csv": "ID,TIME,AMT,DV,WT,AGE\n1,0,.,200,70,38\n",
    "two.csv": "ID,TIME,AMT,DV,WT,AGE\n1,0,20,.,70,38\n1,9,.,5,70,38\n2,0,20,.,70,38\n",
    "endpoint.csv": "ID,TIME,AMT,DV,DVID,WT,AGE\n1,0,20,.,.,70,38\n1,9,.,5,bcel,70,38\n",
    "invented.csv": "ID,TIME,AMT,DV\n1,-7,.,210\n1,0,100,.\n1,5,.,60\n1,20,.,<5\n1,90,.,30\n"
    "1,150,.,120\n1,200,.,190\n",
    "empty.csv": "",
    "header.csv": "ID,TIME,AMT,DV\n",
    "children.csv": "ID,WT,HT\nA1,20,115\nA2,35,140\nA3,70,175\n",
    "few_columns.csv": "ID,WT\nA1,20\n",
    "text_weight.csv": "ID,WT,HT\nA1,heavy,115\n",
    "binary.csv": b"\xff\xfe\x00",
    "own.py": (EXAMPLES / "kpd_production.py").read_bytes(),
    "invented_production.toml": (EXAMPLES / "invented_production.toml").read_bytes(),
    "empty.py": "",
    "syntax.py": "from math import exp\ndef f(:\n",
    "fails.py": "from math import exp\n\nexp('one')\n",
    "binary.py": b"\xff\xfe\x00",
    "invented.toml": KPD,
    "pk_only.toml": PK_ONLY.replace("invented", "pk_only", 1),
    "misspelt.toml": KPD.replace("value = 0.05", "valeu = 0.05", 1),
    "unit.toml": KPD.replace("1/day", "1/dy", 1).replace("invented", "unit", 1),
    "infinite.toml": KPD.replace("value = 200", "value = inf"),
    "binary.toml": b"\xff\xfe\x00",
}
SIMULATE = ["simulate", YU, "--regimen", "20 mg sc at 0 d, 7 d", "--until", "4w", "--every", "7 d"]
PK = ["simulate", "pk_only.toml", "--regimen", "500 mg iv", "--until", "4w"]
FIT = ["fit", "patient.csv", "--model", YU]
ASKED = ["--model", YU, "--dose", "20 mg sc", "--below", "10"]
REDOSE = ["redose", "patient.csv", *ASKED, "--draws", "300", "--starts", "1", "--seed", "1"]
GRID = ["--dose", "20 mg sc", "--every", "4w,12w"]
EXPLORE = ["explore", "--model", YU, "--below", "10", "--until", "20w"]
SCHEDULES = [*EXPLORE, "--subjects", "4", "--seed", "1", *GRID]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a command: exit code, standard output, standard error."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["bcellsim", *map(str, words)])
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as end:
                code = end.code
        return code or 0, out.getvalue(), err.getvalue()

    return command


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def parsed(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


# --- what the verbs print ----------------------------------------------------------------------


def test_models_and_show(run):
    code, out, err = run("models", "--json")
    assert (code, err) == (0, "")
    rows = parsed(out)
    assert {YU, CHEN} <= {row["name"] for row in rows}
    assert {"drug", "disease", "structure", "outputs", "status", "citation"} <= set(rows[0])
    assert YU in run("models")[1]
    shown = parsed(run("show", YU, "--json")[1])
    assert shown["parameters"]["b0"] == 194
    card = run("show", YU)[1]
    assert "context of use" in card
    assert max(map(len, card.splitlines())) <= 100
    doses = parsed(run("show", "20 mg sc q4w x 3", "--json")[1])["doses"]
    assert [row["day"] for row in doses] == [0, 28, 56]
    assert doses[0]["interval"] is None
    assert "ofatumumab" in run("show", "ofatumumab_rms")[1]


def test_show_lists_all_and_knows_each_by_name(run):
    code, out, err = run("show")
    assert (code, err) == (0, "")
    found = parsed(run("show", "--json")[1])
    assert set(found) == {"models", "regimens", "drugs", "structures"}
    for kind, rows in found.items():
        assert kind in out
        for row in rows:
            assert row["name"] in out
            code, card, err = run("show", row["name"])
            assert (code, err) == (0, "")
            assert row["name"] in card
            assert parsed(run("show", row["name"], "--json")[1])


def test_show_a_drug_and_a_structure(run):
    assert "rituximab_ae_600mg" in run("show", "rituximab")[1]
    shown = run("show", "turnover")[1]
    assert "dB/dt = kout b0 - kout" in shown
    assert "dAc/dt = ka Ad - " in shown  # of the PK that it contains
    assert "drug concentration of half the largest effect" in shown


CHECKED = """
[[checks]]
id = "floor"
metric = "floor"
expected = 3.28
low = 3.27
high = 3.29
unit = "cells/uL"
source = "algebra: 200 / 61"
note = "invented"
"""


FAILING = CHECKED.replace("3.28", "3.26").replace("3.27", "3.25").replace("3.29", "3.275")


def test_check_of_one_model(run, folder):
    path = folder / "invented.toml"
    path.write_text(KPD.replace("transcribed", "reproduced") + CHECKED)
    code, out, err = run("check", "invented.toml")
    assert (code, err) == (0, "")
    for word in ("file", "equations", "baseline", "published results", "3.279 cells/uL",
                 "expected 3.28 cells/uL", "3.27 to 3.29", "0 failed"):  # fmt: skip
        assert word in out
    found = parsed(run("check", "invented.toml", "--json")[1])
    assert (found["claimed"], found["supported"]) == ("reproduced", "reproduced")
    assert found["checks"][-1]["obtained"] == pytest.approx(200 / 61)
    assert found["checks"][-1]["verdict"] == "passes"


def test_a_check_that_fails_and_a_status_that_is_not_true(run, folder):
    path = folder / "invented.toml"
    path.write_text(KPD.replace("transcribed", "reproduced") + FAILING)
    code, out, err = run("check", "invented.toml")
    assert code == 1
    assert "FAILS" in out
    assert "source: algebra: 200 / 61" in out
    assert "1 failed" in out
    claims = "invented: the file claims status reproduced, its checks support transcribed\n"
    assert err == claims
    path.write_text(KPD.replace("transcribed", "reproduced"))
    assert run("check", "invented.toml")[::2] == (1, claims)
    path.write_text(KPD + FAILING)
    assert run("check", "invented.toml")[::2] == (1, "")


def test_check_of_the_library(run, monkeypatch):
    few = [CHEN, "davda2014_antibody"]
    monkeypatch.setattr("bcellsim.check.model_names", lambda: few)
    code, out, err = run("check", "--all", "--json")
    assert (code, err) == (0, "")
    rows = parsed(out)
    assert {row["model"] for row in rows} == set(few)
    assert {"section", "id", "verdict", "obtained", "expected", "low", "high", "source"} <= set(
        rows[0]
    )
    out = run("check", "--all")[1]
    assert f"{CHEN} (status reproduced)" in out
    assert "reproduced   7 of 7                 0" in out


def test_simulate(run):
    code, out, err = run(*SIMULATE)
    assert (code, err) == (0, "")
    assert "typical subject" in out
    code, out, err = run(*SIMULATE, "--subjects", "5", "--seed", "1", "--json")
    assert (code, err) == (0, "")
    found = parsed(out)
    assert set(found) >= {
        "model", "citation", "status", "seed", "bcellsim", "n_subjects", "summary"
    }  # fmt: skip
    counts = [row for row in found["summary"] if row["output"] == "bcell"]
    assert [row["time"] for row in counts] == [0, 7, 14, 21, 28]
    assert all(row["p5"] <= row["p50"] <= row["p95"] for row in counts)


def test_simulate_a_model_without_b_cells(run):
    code, out, err = run(*PK, "--out", "pk")
    assert (code, err.splitlines()) == (0, ["wrote pk"])
    assert "Total drug concentration [mg/L]" in out
    assert {row["output"] for row in parsed(run(*PK, "--json")[1])["summary"]} == {"conc"}
    assert run("show", "pk_only.toml")[0] == 0


def test_fit(run):
    code, out, err = run(*FIT)
    assert (code, err) == (0, "")
    assert "maximum a posteriori" in out
    found = parsed(run(*FIT, "--json", "--fix", "emax", "--fix", "b0=225")[1])
    assert (found["n_observations"], found["n_censored"], found["converged"]) == (3, 1, True)
    by_name = {row["parameter"]: row for row in found["params"]}
    assert by_name["b0"]["value"] == pytest.approx(225)
    assert by_name["b0"]["log_se"] is None
    assert found["residuals"][1]["IWRES"] is None
    free = ("--prior", "none", "--sigma", "0.3", "--fix", "kel", "--fix", "a50", "--fix", "emax")
    code, out, _ = run("fit", "no_weight.csv", "--model", "invented.toml", *free, "--fix", "kout")
    assert code == 0
    assert "least squares, no prior" in out


INVENTED = ["fit", "invented.csv", "--model", "invented.toml", "--prior", "none"]


def test_fit_with_bounds_ties_errors_and_profiles(run):
    bounded = (*INVENTED, "--sigma", "0.3", "--fix", "kout", "--fix", "emax", "--bound",
               "kel=0.02 1/day:0.2", "--start", "b0=150", "--tie", "a50=0.1*b0", "--profile", "all",
               "--draws", "60", "--seed", "3")  # fmt: skip
    found = parsed(run(*bounded, "--json")[1])
    by_name = {row["parameter"]: row["value"] for row in found["params"]}
    assert by_name["a50"] == pytest.approx(0.1 * by_name["b0"])
    assert 0.02 < by_name["kel"] < 0.2
    assert [row["parameter"] for row in found["profiles"]] == ["kel", "b0"]
    assert {row["parameter"] for row in found["draws"]["quantiles"]} == {"b0", "kel", "a50"}
    code, out, err = run(*bounded)
    assert (code, err) == (0, "")
    assert "profile of b0: 90% interval" in out
    assert "60 draws, seed 3" in out
    error = ("--error", "bcell=combined2; add_sd=2; prop_sd=0.2")
    held = ("--fix", "kel", "--fix", "kout", "--fix", "a50", "--fix", "emax")
    found = parsed(run(*INVENTED, *error, *held, "--json")[1])
    assert found["errors"]["bcell"]["add_sd"] == 2
    assert found["method"] == "maximum likelihood, no prior"
    found = parsed(run(*INVENTED, "--error", "poisson", "--volume", "2", *held, "--json")[1])
    assert found["errors"]["bcell"] == {"form": "poisson", "volume": 2, "estimated": []}
    found = parsed(run(*INVENTED, "--sigma", "bcell=0.3", *held, "--censored", "M5", "--json")[1])
    assert found["n_censored"] == 0
    assert "biased" in " ".join(found["warnings"])


#: design.md, section 4.
KEYS = {
    "regimen", "dose", "interval", "n_subjects", "threshold", "recovery", "suppressed_throughout",
    "suppressed_throughout_mc_se", "suppressed_fraction_mean", "suppressed_fraction_mc_se",
    "time_to_repletion_median", "time_to_repletion_p5", "time_to_repletion_p95",
    "time_to_repletion_reached_share", "n_doses", "cumulative_dose",
}  # fmt: skip


def test_explore(run):
    code, out, err = run(*SCHEDULES, "--json")
    assert (code, err) == (0, "")
    rows = parsed(out)
    assert [row["regimen"] for row in rows] == ["20 mg sc q4w", "20 mg sc q12w"]
    for row in rows:
        assert set(row) >= KEYS
        assert 0 <= row["suppressed_throughout"] <= 1
        assert row["n_subjects"] == 4
    assert [row["n_doses"] for row in rows] == [5, 2]
    assert [row["cumulative_dose"] for row in rows] == [100, 40]
    code, out, _ = run(*SCHEDULES)
    assert code == 0
    assert "20 mg sc q12w" in out
    same = change(SCHEDULES, below="0.01 10^9/L")
    assert parsed(run(*same, "--json")[1]) == rows


def test_what_is_not_reached_is_null_beside_its_share(run):
    rows = parsed(run(*SCHEDULES, "--recovery", "5000 cells/uL", "--json")[1])
    for row in rows:
        assert row["recovery"] == 5000
        assert row["time_to_repletion_reached_share"] == 0
        for statistic in ("mean", "median", "p5", "p95"):
            assert row[f"time_to_repletion_{statistic}"] is None
    assert "not reached" in run(*SCHEDULES, "--recovery", "5000 cells/uL")[1]


def test_redose_with_counts(run):
    code, out, _ = run(*REDOSE)
    assert code == 0
    assert out.startswith("Redose advice (next dose)")
    assert "Research use; not medical advice" in out
    data = parsed(run(*REDOSE, "--json")[1])
    assert data["seed"] == 1
    assert data["latest"]["status"] in ("found", "now", "no need", "none")
    assert data["fit"]["n_observations"] == 3
    assert data["alternatives"][0]["plan"] == "no further dose"
    assert data == parsed(run(*REDOSE, "--json", "--threads", "1")[1])


def test_redose_without_counts(run):
    code, out, _ = run("redose", *ASKED, "--draws", "40", "--seed", "1", "--covariate", "WT=60",
                       "--first", "20 mg sc at 0 d, 7 d, 14 d")  # fmt: skip
    assert code == 0
    assert out.startswith("Redose advice (first dose)")
    assert "WT 60" in out


VERBS = ["models", "show", "check", "simulate", "fit", "redose", "explore"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(run, verb):
    code, out, err = run(verb, "--help")
    assert (code, err) == (0, "")
    assert "Usage" in out
    assert verb in run("--help")[1]


def test_version_and_a_process_of_its_own():
    words = [sys.executable, "-c", "from bcellsim.cli import main; main()"]
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout[0].isdigit()
    wrong = subprocess.run([*words, "show", "yu2022"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stdout == ""
    assert wrong.stderr.startswith("bcellsim: error: unknown model, regimen, drug or ")
    assert wrong.stderr.count("\n") == 1


# --- seeds and threads ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [[*SIMULATE, "--subjects", "5", "--seed", "9"], SCHEDULES],
    ids=["simulate", "explore"],
)
def test_same_seed_or_other_threads_same_json(run, command):
    first = run(*command, "--json")[1]
    assert first == run(*command, "--json")[1]
    assert first == run(*command, "--json", "--threads", "1")[1]
    assert first == run(*command, "--json", "--threads", "2")[1]


def test_a_seed_is_drawn_and_recorded(run, folder):
    command = [*SIMULATE, "--subjects", "3", "--json"]
    found = parsed(run(*command, "--out", "drawn")[1])
    recorded = json.loads((folder / "drawn/run.json").read_text())
    seed = recorded["settings"]["seed"]
    assert seed == found["seed"] == recorded["provenance"]["seed"]
    assert parsed(run(*command, "--seed", seed)[1])["summary"] == found["summary"]
    assert parsed(run(*command)[1])["seed"] != seed  # the same by chance once in 2^31
    unseeded = [*EXPLORE, "--subjects", "2", *GRID, "--out", "explored"]
    assert run(*unseeded)[0] == 0
    assert json.loads((folder / "explored/run.json").read_text())["settings"]["seed"] is not None


def test_explore_json_carries_the_seed(run):
    command = [*EXPLORE, "--subjects", "2", *GRID, "--json"]
    rows = parsed(run(*command)[1])
    assert len({row["seed"] for row in rows}) == 1
    assert parsed(run(*command, "--seed", rows[0]["seed"])[1]) == rows


# --- patients of one's own -----------------------------------------------------------------------

CHILDREN = ["--patients", "children.csv", "--seed", "1"]
COURSE = ["simulate", CHEN, "--regimen", "rituximab_children_750mgm2_x2", "--until", "4w"]


def test_a_table_of_patients_gets_its_doses_in_mg(run, folder):
    code, out, err = run(*COURSE, *CHILDREN, "--out", "run")
    assert (code, err) == (0, "wrote run\n")
    assert "3 virtual patients" in out
    assert "750 mg/m2 max 1000 mg iv: median 875 mg, 599.5 to 1000; BSA: sqrt(HT" in out
    doses = pd.read_csv(folder / "run/doses.csv")
    assert list(doses.mg_median) == [875, 875]
    assert list(doses.mg_highest) == [1000, 1000]
    recorded = json.loads((folder / "run/run.json").read_text())
    assert "Mosteller 1987" in recorded["provenance"]["body_surface"]
    assert "children.csv" in recorded["inputs"]
    found = parsed(run(*COURSE, *CHILDREN, "--json")[1])
    assert found["n_subjects"] == 3
    assert "Mosteller 1987" in found["body_surface"]


def test_patients_are_compared_and_a_covariate_may_stand_beside_them(run):
    command = ["explore", "--model", CHEN, "--below", "10", "--until", "20w",
               "--regimen", "375 mg/m2 max 500 mg iv", *CHILDREN]  # fmt: skip
    rows = parsed(run(*command, "--json")[1])
    sizes = [(115 * 20 / 3600) ** 0.5, (140 * 35 / 3600) ** 0.5, (175 * 70 / 3600) ** 0.5]
    assert rows[0]["n_subjects"] == 3
    assert "Mosteller 1987" in rows[0]["body_surface"]
    assert rows[0]["cumulative_dose"] == pytest.approx(sum(min(500, 375 * s) for s in sizes) / 3)
    _, out, _ = run(*COURSE, *CHILDREN, "--covariate", "BSA=1")
    assert "median 750 mg, 750 to 750; BSA: taken as a covariate" in out


def test_one_patient_is_not_the_typical_subject(run, folder):
    (folder / "one.csv").write_text("BSA\n1.1\n")
    _, out, _ = run(*COURSE, "--patients", "one.csv", "--seed", "1")
    assert "1 virtual patient, seed 1" in out


def test_what_lies_outside_the_study_is_a_warning(run):
    code, _, err = run(*COURSE, "--covariate", "BSA=2.5")
    assert code == 0
    assert err.startswith("bcellsim: warning: covariate BSA: 2.5 m2 lies outside the 0.6 to 2.1 m2")
    assert err.count("\n") == 1


def test_the_study_is_sampled_with_one_word(run):
    _, out, _ = run(*COURSE, "--subjects", "5", "--seed", "1", "--covariate", "study")
    assert out == run(*COURSE, "--subjects", "5", "--seed", "1", "--covariate", "BSA=study")[1]


# --- structures of one's own --------------------------------------------------------------------

OWN = ["--structure", "own.py"]
PRODUCTION = ["simulate", "invented_production.toml", "--regimen", "20 mg sc", "--until", "4w"]


def test_a_structure_of_ones_own(run, folder):
    code, _, err = run(*PRODUCTION)
    assert code == 1
    assert 'unknown structure "kpd_production"' in err
    code, out, err = run(*PRODUCTION, *OWN, "--out", "run")
    assert (code, err) == (0, "wrote run\n")
    assert "invented_production" in out
    recorded = json.loads((folder / "run/run.json").read_text())
    assert {"own.py", "invented_production.toml"} <= set(recorded["inputs"])
    assert "dB/dt = kout b0 (1 -" in run("show", "kpd_production", *OWN)[1]
    assert "stopimab" in run("show", "invented_production.toml", *OWN)[1]
    assert run("check", "invented_production.toml", *OWN)[0] == 0
    data = ["fit", "no_weight.csv", "--model", "invented_production.toml", *OWN]
    assert "maximum a posteriori" in run(*data)[1]


# --- output directories ----------------------------------------------------------------------

PICTURES = " ".join(
    f"{name}.png {name}.svg {name}_data.csv"
    for name in ("heatmap", "counts", "pareto", "survival_curves")
)
WRITTEN = {
    "simulate": (
        [*SIMULATE, "--subjects", "3", "--seed", "2", "--below", "8"],
        "summary.csv doses.csv trajectories.nc trajectories.png trajectories.svg run.json",
        [],
    ),
    "fit": (
        [*FIT, "--below", "8"],
        "parameters.csv residuals.csv starts.csv correlation.csv curves.csv report.txt fit.png "
        "fit.svg residuals.png residuals.svg run.json",
        ["patient.csv"],
    ),
    "fit, all of it": (
        [*FIT, "--below", "8", "--draws", "50", "--profile", "b0", "--starts", "1"],
        "parameters.csv residuals.csv starts.csv correlation.csv curves.csv report.txt fit.png "
        "fit.svg residuals.png residuals.svg draws.csv profiles.csv profiles.png profiles.svg "
        "prior_posterior.png prior_posterior.svg run.json",
        ["patient.csv"],
    ),
    "redose": (
        REDOSE,
        "alternatives.csv days.csv intervals.csv courses.csv counts.csv parameters.csv report.txt "
        "redose.png redose.svg run.json",
        ["patient.csv"],
    ),
    "explore": (SCHEDULES, f"schedules.csv doses.csv {PICTURES} report.html run.json", []),
}


@pytest.mark.parametrize("verb", WRITTEN)
def test_out_writes_the_results_and_how_to_repeat_them(run, folder, verb):
    command, files, inputs = WRITTEN[verb]
    before = listing(folder)
    code, out, err = run(*command, "--out", "run")
    assert (code, err) == (0, "wrote run\n")
    assert out
    assert listing(folder / "run") == sorted(files.split())
    assert listing(folder) == sorted([*before, "run", *(f"run/{name}" for name in files.split())])
    recorded = json.loads((folder / "run/run.json").read_text())
    assert recorded["command"] == verb.partition(",")[0]
    assert sorted([*recorded["files"], "run.json"]) == sorted(files.split())
    assert {"python", "bcellsim", "numpy", "scipy", "numba"} <= set(recorded["versions"])
    assert recorded["provenance"]["model"] == YU
    assert recorded["settings"]["below"] in (["8"], ["10"], "10")
    for name in inputs:
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert recorded["inputs"][name] == f"sha256:{digest}"
    assert any(path.endswith(f"{YU}.toml") for path in recorded["inputs"])
    if verb == "simulate":
        with xr.open_dataset(folder / "run/trajectories.nc", engine="h5netcdf") as data:
            assert data.bcell.attrs["unit"] == "cells/uL"
            assert data.attrs["seed"] == 2


def test_an_existing_directory_is_refused_and_untouched(run, folder):
    (folder / "mine").mkdir()
    (folder / "mine/notes.txt").write_text("keep")
    before = listing(folder)
    for more in ([], ["--overwrite"]):
        code, out, err = run(*SIMULATE, "--out", "mine", *more)
        assert code == 1
        assert out == ""
        assert "mine" in err
        assert err.count("\n") == 1
        assert listing(folder) == before
        assert (folder / "mine/notes.txt").read_text() == "keep"
    code, _, err = run(*SIMULATE, "--out", "patient.csv", "--overwrite")
    assert code == 1
    assert (folder / "patient.csv").read_text() == PATIENT
    code, _, err = run(*SIMULATE, "--out", "patient.csv/a/run")
    assert code == 1
    assert "patient.csv is a file" in err


def test_overwrite_replaces_an_earlier_run(run, folder):
    assert run(*SIMULATE, "--out", "run")[0] == 0
    (folder / "run/stray.txt").write_text("of the earlier run")
    assert run(*SIMULATE, "--out", "run")[0] == 1
    assert (folder / "run/stray.txt").exists()
    before = listing(folder)
    assert run(*SIMULATE, "--every", "0", "--out", "run", "--overwrite")[0] == 1
    assert listing(folder) == before  # a failing run leaves the earlier one
    assert run(*SIMULATE, "--out", "run", "--overwrite")[0] == 0
    assert listing(folder) == [name for name in before if name != "run/stray.txt"]


def test_a_run_that_fails_while_writing_leaves_nothing(run, folder, monkeypatch):
    from bcellsim.cli.output import OutputDirectory

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OutputDirectory, "figure", full)
    before = listing(folder)
    code, out, err = run(*SIMULATE, "--out", "run")
    assert (code, out) == (1, "")
    assert "No space left on device" in err
    assert listing(folder) == before


def test_parents_are_made_for_a_run_that_succeeds_only(run, folder):
    before = listing(folder)
    assert run(*SIMULATE, "--every", "0", "--out", "a/b/run")[0] == 1
    assert listing(folder) == before
    assert run(*SIMULATE, "--out", "a/b/run")[0] == 0
    assert (folder / "a/b/run/run.json").is_file()
    assert listing(folder / "a") == ["b", *(n for n in listing(folder / "a") if "b/run" in n)]


# --- mistakes --------------------------------------------------------------------------------


def change(command, **options):
    """Return a command with the values of some options changed."""
    changed = list(command)
    for name, value in options.items():
        changed[changed.index(f"--{name}") + 1] = value
    return changed


def fit_of(name, *more):
    return ["fit", name, "--model", YU, *more]


def simulate_of(model, *more):
    return ["simulate", model, *SIMULATE[2:], *more]


WRONG = {  # name: command, words of the sentence
    "model": (simulate_of("yu2022_ofatumab"), f'"yu2022_ofatumab"; did you mean "{YU}"'),
    "variant": (simulate_of(f"{YU}:reading_c"), 'did you mean "reading_b"'),
    "no such file": (simulate_of("nowhere.toml"), "no model file nowhere.toml"),
    "key": (simulate_of("misspelt.toml"), 'unknown key "valeu"; did you mean "value"'),
    "key, line": (simulate_of("misspelt.toml"), "line 13, parameters.kel.valeu"),
    "unit in a model": (simulate_of("unit.toml"), 'unknown unit "1/dy"; did you mean "1/d'),
    "infinite in a model": (simulate_of("infinite.toml"), "line 15, parameters.b0.value"),
    "threshold of no count": (
        [*PK, "--below", "10"], "model pk_only has no output bcell; it has conc"),
    "no count": (
        ["explore", "--model", "pk_only.toml", "--below", "10", "--until", "20w", "--subjects", "2",
         "--regimen", "500 mg iv"], "model pk_only has no output bcell; it has conc"),
    "no route": (change(SIMULATE, regimen="20 mg"), "has no route; write sc or iv"),
    "negative dose": (change(SIMULATE, regimen="-20 mg sc"), "above 0, not -20 mg"),
    "zero dose": (change(SIMULATE, regimen="0 mg sc"), "above 0, not 0 mg"),
    "dose unit": (change(SIMULATE, regimen="20 mgg sc"), 'unknown dose unit "mgg"; did you mean'),
    "times": (change(SIMULATE, regimen="20 mg sc at 7 d, 0 d"), "times out of order"),
    "regimen": (change(SIMULATE, regimen="ofatumumab_rm"), 'did you mean "ofatumumab_rms"'),
    "drug": (change(SIMULATE, regimen="rituximab_ae_100mg"), "is for rituximab"),
    "route": (simulate_of(CHEN), 'cannot be dosed by route "sc"'),
    "IV": (change(SIMULATE, regimen="20 mg iv"), "covariate IV = 1"),
    "until 0": (change(SIMULATE, until="0"), "until = 0 d"),
    "until, unit": (change(SIMULATE, until="4 wk s"), "until: unknown unit"),
    "until inf": (change(SIMULATE, until="inf"), "until"),
    "every 0": (change(SIMULATE, every="0"), "every = 0 d"),
    "seed": ([*SIMULATE, "--subjects", "2", "--seed", "-1"], "seed = -1: a whole number"),
    "covariate name": ([*SIMULATE, "--covariate", "WGT=70"], 'did you mean "WT"'),
    "covariate text": ([*SIMULATE, "--covariate", "WT=heavy"], "WT=heavy: a number is wanted"),
    "covariate nan": ([*SIMULATE, "--covariate", "WT=nan"], "covariate WT: a value is missing or"),
    "covariate inf": ([*SIMULATE, "--covariate", "WT=inf"], "covariate WT: a value is missing or"),
    "covariate needed": (
        ["simulate", CHEN, "--regimen", "6 mg/kg iv", "--until", "4w"], "needs covariate WT"),
    "text": (fit_of("text.csv"), 'text.csv, line 5, column DV: "sixty" is not a number'),
    "data order": (fit_of("order.csv"), "order.csv, line 5, column TIME: times out of order"),
    "data inf": (fit_of("infinite.csv"), "line 5, column DV: inf is not a finite number"),
    "data zero": (fit_of("zero.csv"), "line 5, column DV: 0: a count or concentration must be"),
    "data dose": (fit_of("negative.csv"), "line 3, column AMT: a dose of -20; it must be above 0"),
    "data weight": (fit_of("no_weight.csv"), "needs covariate WT (body weight, kg; reference 70)"),
    "empty": (fit_of("empty.csv"), "empty.csv: the file is empty"),
    "header": (fit_of("header.csv"), "header.csv: the table has no rows"),
    "no data": (fit_of("nowhere.csv"), "no data file nowhere.csv"),
    "sigma nan": ([*FIT, "--sigma", "nan"], "sigma: nan is not a finite number"),
    "sigma inf": ([*FIT, "--sigma", "inf"], "sigma: inf is not a finite number"),
    "prior": ([*FIT, "--prior", "bayes"], '"model" or "none" is wanted'),
    "parameter": ([*FIT, "--fix", "emx"], 'unknown parameter "emx"; did you mean "emax"'),
    "start": ([*FIT, "--start", "kot=1"], 'unknown parameter "kot"; did you mean "kout"'),
    "start alone": ([*FIT, "--start", "kout"], '"name=value" is wanted'),
    "unit of data": ([*FIT, "--unit", "cells/uk"], 'did you mean "cells/uL"'),
    "dose alone": ([*EXPLORE, "--subjects", "2", *GRID[:2]], "--dose and --every go together"),
    "every alone": ([*EXPLORE, "--subjects", "2", *GRID[2:]], "--dose and --every go together"),
    "nothing": ([*EXPLORE, "--subjects", "2"], "give --dose and --every, or --regimen"),
    "threshold nan": (change(SCHEDULES, below="nan"), "below"),
    "threshold inf": (change(SCHEDULES, below="inf"), "below"),
    "threshold 0": (change(SCHEDULES, below="0"), "below = 0: a threshold above 0"),
    "horizon 0": (change(SCHEDULES, until="0"), "has no dose before until = 0 d"),
    "window": ([*SCHEDULES, "--induction", "1y"], "is empty: it opens at 365.25 d"),
    "loading": (
        [*SCHEDULES, "--loading", "20 mg sc at 0 d, 30 d"], "not later than the last loading dose"),
    "show": (["show", "ofatumumab_rm"], 'did you mean "ofatumumab_rms"'),
    "show a drug": (["show", "rituximb"], 'did you mean "rituximab"'),
    "show a structure": (["show", "turnovr"], 'did you mean "turnover"'),
    "check nothing": (["check"], "give a model, or --all"),
    "check both": (["check", CHEN, "--all"], "give a model, or --all"),
    "check a name": (["check", "chen2024"], 'did you mean "chen2024_rituximab"'),
    "check no file": (["check", "nowhere.toml"], "no model file nowhere.toml"),
    "check a folder": (["check", "."], 'unknown model "."'),
    "check binary": (["check", "binary.toml"], "binary.toml: not a text file"),
    "check a key": (["check", "misspelt.toml"], 'unknown key "valeu"; did you mean "value"'),
    "show no file": (["show", "nowhere.toml"], "no model file nowhere.toml"),
    "show a folder": (["show", "."], 'unknown model, regimen, drug or structure "."'),
    "show binary": (["show", "binary.toml"], "binary.toml: not a text file"),
    "show doses": (["show", "20 mg"], "has no route"),
    "model a folder": (simulate_of("."), 'unknown model "."'),
    "data a folder": (fit_of("."), "no data file ."),
    "data binary": (fit_of("binary.csv"), "binary.csv"),
    "below text": ([*SIMULATE, "--below", "ten"], '--below: "ten" is not a number'),
    "below nan": ([*SIMULATE, "--below", "nan"], "--below"),
    "below unit": ([*SIMULATE, "--below", "10 cells/uk"], 'did you mean "cells/uL"'),
    "below of a fit": ([*FIT, "--below", "-4"], "--below = -4: a threshold above 0"),
    "covariate study": ([*SIMULATE, "--covariate", "WT=study"], "WT=study: a number is wanted"),
    "covariate twice": ([*SIMULATE, *("--covariate", "WT=70") * 2], "WT is given twice"),
    "weight of a fit": ([*FIT, "--covariate", "WT=study"], "WT=study: a number is wanted"),
    "lloq inf": ([*FIT, "--lloq", "inf"], "lloq"),
    "lloq nan": ([*FIT, "--lloq", "nan"], "lloq"),
    "lloq unit": ([*FIT, "--lloq", "5 mg"], "lloq"),
    "empty value": ([*FIT, "--fix", "b0="], '--fix b0=: "name=value" is wanted'),
    "empty name": ([*FIT, "--fix", "=5"], '--fix =5: "name=value" is wanted'),
    "spacing": (change(SIMULATE, every="1e-9"), "makes more than 1,000,000 output times"),
    "recovery": ([*SCHEDULES, "--recovery", "x"], "recovery:"),
    "start negative": ([*SCHEDULES, "--start", "-7d"], "start"),
    "too few rows": ([*FIT, "--prior", "none"], "3 observations are fewer than the 16 parameters"),
    "sigma 0": ([*FIT, "--sigma", "0"], "sigma = 0"),
    "sigma text": ([*FIT, "--sigma", "big"], '--sigma big: a number or "estimate" is wanted'),
    "sigma of few": ([*FIT, "--sigma", "estimate"], "uncensored"),
    "bound": ([*FIT, "--bound", "kout=1"], '--bound kout=1: "name=min:max" is wanted'),
    "bound of none": ([*FIT, "--bound", "kot=0.1:1"], 'did you mean "kout"'),
    "bound text": ([*FIT, "--bound", "kout=low:1"], "kout min"),
    "bound order": ([*FIT, "--bound", "kout=1:0.1"], "no value lies between min = 1 and max = 0.1"),
    "tie and bound": (
        [*FIT, "--tie", "kout=b0", "--bound", "kout=0:1"], "what is tied has no bounds"),
    "tie": ([*FIT, "--tie", "kout=bo*2"], 'kout: expr "bo*2"'),
    "volume": ([*FIT, "--volume", "-2", "--error", "poisson"], "volume of bcell = -2"),
    "volume of none": ([*FIT, "--error", "poisson"], "the counted volume [uL]"),
    "censored": ([*FIT, "--censored", "M9"], 'unknown method for censored rows "M9"'),
    "error setting": ([*FIT, "--error", "combined2; add=2"], 'did you mean "add_sd"'),
    "sigma of none": ([*FIT, "--sigma", "bcel=0.3"], 'did you mean "bcell"'),
    "profile": ([*FIT, "--starts", "1", "--profile", "emx"], 'did you mean "emax"'),
    "method of drawing": (
        [*FIT, "--starts", "1", "--draws", "9", "--method", "laplac"], 'did you mean "laplace"'),
    "error": ([*FIT, "--error", "lognormal"], 'did you mean "log-normal"'),
    "error of": ([*FIT, "--error", "bcel=poisson"], 'did you mean "bcell"'),
    "redose, probability": ([*REDOSE, "--probability", "90"], "probability = 90"),
    "redose, no dose": (["redose", "no_dose.csv", *ASKED], "the data hold no dose"),
    "redose, two": (["redose", "two.csv", *ASKED], "the data hold 2 subjects"),
    "redose, endpoint": (["redose", "endpoint.csv", *ASKED], 'did you mean "bcell"'),
    "redose, route": (change(REDOSE, dose="20 mg iv"), "covariate IV = 1"),
    "redose, threshold": (change(REDOSE, below="0"), "below = 0: a threshold above 0"),
    "redose, now": ([*REDOSE, "--now", "-9"], "now = -9 d lies before the data"),
    "redose, first": ([*REDOSE, "--first", "20 mg sc"], "first are those of the fit"),
    "redose, no data": (["redose", *ASKED, "--lloq", "5"], "--lloq is for a data file"),
    "binary": (simulate_of("binary.toml"), "binary.toml"),
    "age": ([*SIMULATE, "--covariate", "AGE=-5"], "AGE"),
    "no structure": ([*PRODUCTION, "--structure", "nowhere.py"], "no structure file nowhere.py"),
    "structure a folder": ([*PRODUCTION, "--structure", "."], "no structure file ."),
    "structure empty": ([*PRODUCTION, "--structure", "empty.py"], "empty.py: it defines no Struct"),
    "structure syntax": ([*PRODUCTION, "--structure", "syntax.py"], "syntax.py, line 2: "),
    "structure fails": (
        [*PRODUCTION, "--structure", "fails.py"], "fails.py, line 3: TypeError: must be real"),
    "structure binary": ([*PRODUCTION, "--structure", "binary.py"], "binary.py: not a text file"),
    "structure a model": ([*PRODUCTION, "--structure", "unit.toml"], "unit.toml, line 1"),
    "structure in show": (["show", "kpd", "--structure", "syntax.py"], "syntax.py, line 2: "),
    "structure in check": (["check", "--all", "--structure", "fails.py"], "fails.py, line 3"),
    "patients and subjects": ([*COURSE, *CHILDREN, "--subjects", "3"], "or --patients, not both"),
    "no patients": ([*COURSE, "--patients", "nowhere.csv"], "no table of patients nowhere.csv"),
    "patients a folder": ([*COURSE, "--patients", "."], "no table of patients ."),
    "patients empty": ([*COURSE, "--patients", "empty.csv"], "empty.csv: the file is empty"),
    "patients header": ([*COURSE, "--patients", "header.csv"], "header.csv: the table has no rows"),
    "patients binary": ([*COURSE, "--patients", "binary.csv"], "binary.csv: not a CSV table"),
    "patients columns": ([*COURSE, "--patients", "few_columns.csv"], "needs covariate BSA"),
    "patients text": (
        [*COURSE, "--patients", "text_weight.csv"],
        'text_weight.csv, line 2, column WT: "heavy" is not a number'),
    "patients twice": ([*COURSE, *CHILDREN, "--covariate", "WT=20"], "is a column of children.csv"),
    "patients of a study": ([*COURSE, *CHILDREN, "--covariate", "study"], "covariates of their"),
    "patients covariate": ([*COURSE, *CHILDREN, "--covariate", "BAS=1"], 'did you mean "BSA"'),
    "typical of a study": ([*COURSE, "--covariate", "study"], "no sampled covariates"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("command", "words"),
    [pytest.param(*case, id=name) for name, case in WRONG.items()],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(run, folder, command, words):
    before = listing(folder)
    out_dir = ["--out", "run"] if command[0] not in ("show", "check") else []
    code, out, err = run(*command, *out_dir)
    assert (code, out) == (1, "")
    assert err.startswith("bcellsim: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert listing(folder) == before


USAGE = {
    "option": ([*SIMULATE, "--untl", "4w"], "--untl"),
    "verb": (["simulat", YU], "simulate"),
    "no until": (SIMULATE[:4], "--until"),
    "no subjects": ([*EXPLORE, *GRID], "--subjects"),
    "subjects 0": ([*SIMULATE, "--subjects", "0"], "--subjects"),
    "subjects text": ([*SIMULATE, "--subjects", "many"], "--subjects"),
    "threads 0": ([*SIMULATE, "--threads", "0"], "--threads"),
    "starts 0": ([*FIT, "--starts", "0"], "--starts"),
    "redose, no dose": (["redose", "patient.csv", "--model", YU, "--below", "10"], "--dose"),
}


@pytest.mark.parametrize(("command", "words"), USAGE.values(), ids=USAGE)
def test_wrong_usage_names_the_option(run, folder, command, words):
    before = listing(folder)
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert listing(folder) == before


def test_check_of_a_model_file_without_checks(run):
    code, out, _ = run("check", "invented.toml")
    assert code == 0
    assert "0 published results; 0 failed" in out
    checks = parsed(run("check", "invented.toml", "--json")[1])["checks"]
    assert "published results" not in {row["section"] for row in checks}


@pytest.mark.parametrize(
    ("name", "command"), [("patient.csv", fit_of("run/patient.csv")),
                          ("invented.toml", ["simulate", "run/invented.toml", "--regimen",
                                             "100 mg iv", "--until", "4w"])],
)  # fmt: skip
def test_overwrite_keeps_the_input_that_lies_in_it(run, folder, name, command):
    assert run(*SIMULATE, "--out", "run")[0] == 0
    (folder / "run" / name).write_text(FILES[name])
    before = listing(folder)
    code, out, err = run(*command, "--out", "run", "--overwrite")
    assert (code, out) == (1, "")
    assert f"run holds the input run/{name}: not overwritten" in err
    assert listing(folder) == before
