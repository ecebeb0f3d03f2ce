"""A model without B cells: what concentrations allow works, the rest is refused by name."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import bcellsim as bc

#: All values are invented for these tests.
MODEL = """name = "invented"
title = "Invented PK of the tests"
structure = "pk_linear"
drug = "rituximab"
citation = ""
source = "invented"
read_in = "invented"
status = "transcribed"
context_of_use = "tests"
not_for = "anything else"
[parameters]
cl = { value = 0.3, unit = "L/day" }
vc = { value = 3, unit = "L" }
q = { value = 0.4, unit = "L/day", fixed = true }
vp = { value = 3, unit = "L", fixed = true }
[residual_error]
conc = { prop_sd = 0.2 }
"""
NO_COUNT = "model invented has no output bcell; it has conc"
PLAN = "500 mg iv at 0 d, 14 d"


@pytest.fixture(autouse=True)
def _model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "invented.toml").write_text(MODEL)


def test_simulate_and_draw_concentrations():
    data = bc.simulate("invented.toml", PLAN, until="8 w")
    assert "bcell" not in data
    assert float(data.conc.max()) > 100.0
    figure = bc.plot.trajectories(data)
    assert len(figure.axes) == 1
    assert figure.axes[0].get_ylabel() == "Total drug concentration\n[mg/L]"
    with pytest.raises(ValueError, match='unknown output "bcell"'):
        bc.plot.trajectories(data, output="bcell")


def test_fit_concentrations():
    days = np.array([1.0, 7.0, 13.0, 20.0, 40.0])
    seen = bc.simulate("invented.toml", PLAN, times=days).conc.to_numpy()
    rows = [f"1,{day},.,0,{dv},conc" for day, dv in zip(days, seen, strict=True)]
    doses = ["1,0,500,1,.,.", "1,14,500,1,.,."]
    text = "\n".join(["ID,TIME,AMT,EVID,DV,DVID", doses[0], *rows[:3], doses[1], *rows[3:]])
    with open("patient.csv", "w", encoding="utf-8") as file:
        file.write(text)
    fit = bc.fit_individual("invented.toml", "patient.csv", prior=None, start={"cl": 0.6})
    assert fit.params.loc["cl", "value"] == pytest.approx(0.3, rel=1e-4)
    assert bc.plot.fit(fit).axes[0].get_ylabel() == "Total drug concentration [mg/L]"
    with open("counts.csv", "w", encoding="utf-8") as file:
        file.write(text.replace("conc", "bcell"))
    with pytest.raises(ValueError, match=NO_COUNT):
        bc.fit_individual("invented.toml", "counts.csv", prior=None)


def test_what_needs_counts_is_refused_by_name():
    with pytest.raises(ValueError, match=NO_COUNT):
        bc.explore("invented.toml", PLAN, 5, below=10, until="1 y")
    with pytest.raises(
        ValueError, match=r'model invented: unknown output "con"; did you mean "conc"'
    ):
        bc.load_model("invented.toml").require_output("con")
