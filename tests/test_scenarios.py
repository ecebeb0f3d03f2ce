"""Dosing scenarios, one at a time, from a data file to predictions, against closed forms.

The closed forms are written here from the linear one- and two-compartment models: the response to a
dose is a sum of exponentials, that to an infusion its integral, that to doses since ever a
geometric series. One thing changes from a scenario to the next.
"""

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bcellsim as bc
from bcellsim.library import load_model
from bcellsim.observations import regimen_of
from bcellsim.predict import course_of
from bcellsim.units import convert

#: Invented values of the tests: clearance and flow [L/day], volumes [L], ka [1/day].
CL, VC, Q, VP, KA, F = 0.35, 3.1, 0.5, 2.4, 0.6, 0.7
MODEL = """
name = "invented_linear"
title = "Invented linear kinetics of the tests"
structure = "turnover"
drug = "rituximab"
citation = ""
source = "invented for the tests"
read_in = "invented for the tests"
status = "transcribed"
context_of_use = "tests"
not_for = "anything else"

[parameters]
ka = {{ value = {ka}, unit = "1/day" }}
f_sc = {{ value = {f}, unit = "" }}
cl = {{ value = {cl}, unit = "L/day" }}
vc = {{ value = {vc}, unit = "L" }}
q = {{ value = {q}, unit = "L/day" }}
vp = {{ value = {vp}, unit = "L" }}
b0 = {{ value = 200, unit = "cells/uL" }}
kout = {{ value = 0.05, unit = "1/day" }}
emax = {{ value = 20, unit = "" }}
ec50 = {{ value = 5, unit = "mg/L" }}
"""
#: The reference backend at its own tolerance of 1e-10.
CLOSED = 1e-7
#: A steady state is within 1e-6 of its limit.
STEADY = 2e-6

DAYS = (0.5, 1.0, 3.0, 7.0, 13.5, 14.0, 20.0, 33.0, 61.0)


class Exponentials(NamedTuple):
    """Concentration after a dose of 1 mg: the sum of a e^(-rate t)."""

    a: np.ndarray
    rate: np.ndarray

    def dose(self, t):
        t = np.asarray(t, dtype=float)[..., None]
        return (self.a * np.exp(-self.rate * np.maximum(t, 0.0)) * (t >= 0)).sum(-1)

    def infusion(self, t, rate, duration):
        t = np.maximum(np.asarray(t, dtype=float), 0.0)[..., None]
        since = np.maximum(t - duration, 0.0)
        area = (np.exp(-self.rate * since) - np.exp(-self.rate * t)) / self.rate
        return rate * (self.a * area).sum(-1)

    def doses_since_ever(self, t, every):
        """Doses at 0, -every, -2 every, ..."""
        t = np.asarray(t, dtype=float)[..., None]
        return (self.a * np.exp(-self.rate * t) / (1.0 - np.exp(-self.rate * every))).sum(-1)

    def infusions_since_ever(self, t, every, rate, duration):
        """Infusions begun at 0, -every, ...: those running one by one, the ended ones as a sum."""
        n = math.ceil(duration / every) + 1
        found = sum(self.infusion(t + k * every, rate, duration) for k in range(n))
        ended = np.asarray(t, dtype=float)[..., None] + n * every
        each = (np.exp(-self.rate * (ended - duration)) - np.exp(-self.rate * ended)) / self.rate
        return found + rate * (self.a * each / (1.0 - np.exp(-self.rate * every))).sum(-1)


def exponentials(route, q):
    """Return the response to a dose of 1 mg that is wholly absorbed (Gibaldi and Perrier 1982)."""
    k10, k12, k21 = CL / VC, q / VC, q / VP
    total = k10 + k12 + k21
    root = math.sqrt(total * total - 4.0 * k10 * k21)
    alpha, beta = 0.5 * (total + root), 0.5 * (total - root)
    if q == 0:
        a, rate = np.array([1.0 / VC]), np.array([k10])
    else:
        a = np.array([(alpha - k21), (k21 - beta)]) / (alpha - beta) / VC
        rate = np.array([alpha, beta])
    if route == "iv":
        return Exponentials(a, rate)
    absorbed = a * KA / (KA - rate)
    return Exponentials(np.append(absorbed, -absorbed.sum()), np.append(rate, KA))


def one(iv, sc, t):
    return 100.0 * iv.dose(t)


#: By name: the rows (without ID, observations are added), then the concentration at day t from the
#: exponentials of both routes. Columns: TIME, AMT, then those of the header.
SCENARIOS = {
    "a bolus": ("CMT", ["0,100,iv"], one),
    "an infusion by RATE": (
        "CMT,RATE", ["0,100,iv,25"], lambda iv, sc, t: iv.infusion(t, 25, 4),
    ),
    "an infusion by DUR": ("CMT,DUR", ["0,100,iv,4"], lambda iv, sc, t: iv.infusion(t, 25, 4)),
    "a bolus and ADDL": (
        "CMT,ADDL,II", ["0,100,iv,3,14"],
        lambda iv, sc, t: 100 * sum(iv.dose(after(t, 14 * k)) for k in range(4)),
    ),
    "an infusion and ADDL": (
        "CMT,RATE,ADDL,II", ["0,100,iv,25,3,14"],
        lambda iv, sc, t: sum(iv.infusion(t - 14 * k, 25, 4) for k in range(4)),
    ),
    "overlapping infusions add up": (
        "CMT,RATE,ADDL,II", ["0,100,iv,25,3,1.5"],
        lambda iv, sc, t: sum(iv.infusion(t - 1.5 * k, 25, 4) for k in range(4)),
    ),
    "two doses at one time": ("CMT", ["0,60,iv", "0,40,iv"], one),
    "ADDL and a dose in between": (
        "CMT,ADDL,II", ["0,100,iv,2,14", "5,50,iv,.,."],
        lambda iv, sc, t: 100 * sum(iv.dose(after(t, 14 * k)) for k in range(3))
        + 50 * iv.dose(after(t, 5)),
    ),
    "first-order absorption and F": ("CMT", ["0,100,sc"], lambda iv, sc, t: F * 100 * sc.dose(t)),
    "F and ADDL": (
        "CMT,ADDL,II", ["0,100,sc,3,14"],
        lambda iv, sc, t: F * 100 * sum(sc.dose(t - 14 * k) for k in range(4)),
    ),
    "F changes the rate at a given DUR": (
        "CMT,DUR", ["0,100,sc,4"], lambda iv, sc, t: sc.infusion(t, F * 25, 4),
    ),
    "F changes the duration at a given RATE": (
        "CMT,RATE", ["0,100,sc,25"], lambda iv, sc, t: sc.infusion(t, 25, F * 4),
    ),
    "both kinds of infusion at once": (
        "CMT,RATE,DUR", ["0,100,sc,25,.", "1,100,sc,.,4"],
        lambda iv, sc, t: sc.infusion(t, 25, F * 4) + sc.infusion(t - 1, F * 25, 4),
    ),
    "EVID 3": (
        "CMT,EVID", ["0,100,iv,1", "10,.,.,3"], lambda iv, sc, t: 100 * iv.dose(t) * (t <= 10),
    ),
    "EVID 4": (
        "CMT,EVID", ["0,100,iv,1", "10,50,iv,4"],
        lambda iv, sc, t: np.where(t <= 10, 100 * iv.dose(t), 50 * iv.dose(after(t, 10))),
    ),
    "EVID 3 ends an infusion and ADDL": (
        "CMT,RATE,ADDL,II,EVID", ["0,100,iv,10,3,14,1", "5,.,.,.,.,.,3"],
        lambda iv, sc, t: iv.infusion(t, 10, 10) * (t <= 5),
    ),
    "EVID 4 ends an infusion and ADDL": (
        "CMT,RATE,ADDL,II,EVID", ["0,100,iv,10,3,14,1", "5,50,iv,.,.,.,4"],
        lambda iv, sc, t: np.where(
            t <= 5, iv.infusion(t, 10, 10), 50 * iv.dose(after(t, 5))),
    ),
}  # fmt: skip

#: The same in steady state.
STEADY_STATES = {
    "SS of a bolus": (
        "CMT,SS,II", ["0,100,iv,1,14"],
        lambda iv, sc, t: 100 * iv.doses_since_ever(t, 14),
    ),
    "SS and ADDL": (
        "CMT,SS,II,ADDL", ["0,100,iv,1,14,2"],
        lambda iv, sc, t: 100 * (iv.doses_since_ever(t, 14)
                                 + iv.dose(after(t, 14)) + iv.dose(after(t, 28))),
    ),
    "SS of absorption and F": (
        "CMT,SS,II", ["0,100,sc,1,14"],
        lambda iv, sc, t: F * 100 * sc.doses_since_ever(t, 14),
    ),
    "SS of infusions shorter than II": (
        "CMT,SS,II,RATE", ["0,100,iv,1,14,25"],
        lambda iv, sc, t: iv.infusions_since_ever(t, 14, 25, 4),
    ),
    "SS of infusions as long as II": (
        "CMT,SS,II,RATE", ["0,100,iv,1,4,25"],
        lambda iv, sc, t: iv.infusions_since_ever(t, 4, 25, 4),
    ),
    "SS of infusions longer than II": (
        "CMT,SS,II,RATE", ["0,100,iv,1,3,10"],
        lambda iv, sc, t: iv.infusions_since_ever(t, 3, 10, 10),
    ),
    "SS of infusions and F": (
        "CMT,SS,II,DUR", ["0,100,sc,1,14,4"],
        lambda iv, sc, t: F * sc.infusions_since_ever(t, 14, 25, 4),
    ),
    "SS forgets what was before": (
        "CMT,SS,II,ADDL", ["0,300,iv,0,7,9", "10,100,iv,1,14,0"],
        lambda iv, sc, t: np.where(
            t <= 10, 300 * (iv.dose(t) + iv.dose(after(t, 7))),
            100 * iv.doses_since_ever(t - 10, 14)),
    ),
    "SS 2 adds to what was before": (
        "CMT,SS,II,ADDL", ["0,300,iv,0,7,9", "10,100,iv,2,14,0"],
        lambda iv, sc, t: 300 * sum(iv.dose(after(t, 7 * k)) for k in range(10))
        + np.where(t <= 10, 0.0, 100 * iv.doses_since_ever(t - 10, 14)),
    ),
    "SS 1 then 2": (
        "CMT,SS,II", ["0,100,iv,1,14", "10,60,sc,2,21"],
        lambda iv, sc, t: 100 * iv.doses_since_ever(t, 14)
        + np.where(t <= 10, 0.0, 60 * F * sc.doses_since_ever(t - 10, 21)),
    ),
    "SS of a constant infusion": (
        "CMT,SS,RATE", ["0,0,iv,1,20"],
        lambda iv, sc, t: 20 * (iv.a / iv.rate * np.exp(-iv.rate * t[:, None])).sum(-1),
    ),
    "SS of a constant infusion that goes on": (
        "CMT,SS,RATE", ["0,0,iv,1,20", "0,4000,iv,0,20"],
        lambda iv, sc, t: np.full(len(t), 20 / CL),
    ),
    "a reset after SS": (
        "CMT,SS,II,EVID", ["0,100,iv,1,14,1", "10,50,iv,.,.,4"],
        lambda iv, sc, t: np.where(
            t <= 10, 100 * iv.doses_since_ever(t, 14), 50 * iv.dose(after(t, 10))),
    ),
}  # fmt: skip


LAG = 2.25
#: The same under the skin with a lag.
LAGGED = {
    "lag of a dose": ("CMT", ["0,100,sc"], lambda sc, t: F * 100 * sc.dose(t - LAG)),
    "lag and ADDL": (
        "CMT,ADDL,II", ["0,100,sc,3,14"],
        lambda sc, t: F * 100 * sum(sc.dose(t - LAG - 14 * k) for k in range(4)),
    ),
    "lag shifts start and end of an infusion": (
        "CMT,DUR", ["0,100,sc,4"], lambda sc, t: sc.infusion(t - LAG, F * 25, 4),
    ),
    "lag of an infusion by RATE": (
        "CMT,RATE", ["0,100,sc,25"], lambda sc, t: sc.infusion(t - LAG, 25, F * 4),
    ),
    "a reset cancels a dose on its way": (
        "CMT,EVID", ["0,100,sc,1", "10,60,sc,1", "11,.,.,3"],
        lambda sc, t: F * 100 * sc.dose(t - LAG) * (t <= 11),
    ),
    "a reset and dose with a lag": (
        "CMT,EVID", ["0,100,sc,1", "11,60,sc,4"],
        lambda sc, t: np.where(
            t <= 11, F * 100 * sc.dose(t - LAG), F * 60 * sc.dose(t - 11 - LAG)),
    ),
    "SS and lag": (
        "CMT,SS,II", ["0,100,sc,1,14"],
        lambda sc, t: F * 100 * np.where(
            t < LAG, sc.doses_since_ever(t + 14 - LAG, 14), sc.doses_since_ever(t - LAG, 14)),
    ),
    "SS of infusions and lag": (
        "CMT,SS,II,DUR,ADDL", ["0,100,sc,1,14,4,1"],
        lambda sc, t: F * (
            np.where(t < LAG, sc.infusions_since_ever(t + 14 - LAG, 14, 25, 4),
                     sc.infusions_since_ever(t - LAG, 14, 25, 4))
            + sc.infusion(t - LAG - 14, 25, 4)),
    ),
    "SS 2 and lag": (
        "CMT,SS,II", ["0,300,sc,0,0", "10,100,sc,2,14"],
        lambda sc, t: F * (300 * sc.dose(t - LAG) + 100 * np.where(
            t <= 10, 0.0, np.where(
                t < 10 + LAG, sc.doses_since_ever(t - 10 + 14 - LAG, 14),
                sc.doses_since_ever(np.maximum(t - 10 - LAG, 0.0), 14)))),
    ),
}  # fmt: skip


RATE_SC, DUR_SC = 16.0, 3.5
#: The same where the model has the rate or the duration of an infusion under the skin, and a lag.
MODELLED = {
    "modelled duration": ("CMT,RATE", ["0,100,sc,-2"],
                          lambda sc, t: sc.infusion(t - LAG, F * 100 / DUR_SC, DUR_SC)),
    "modelled rate": ("CMT,RATE", ["0,100,sc,-1"],
                      lambda sc, t: sc.infusion(t - LAG, RATE_SC, F * 100 / RATE_SC)),
    "both, and ADDL": (
        "CMT,RATE,ADDL,II", ["0,100,sc,-2,1,14", "1,60,sc,-1,0,0"],
        lambda sc, t: sum(sc.infusion(t - LAG - 14 * k, F * 100 / DUR_SC, DUR_SC) for k in (0, 1))
        + sc.infusion(t - LAG - 1, RATE_SC, F * 60 / RATE_SC),
    ),
    "SS and modelled duration": (
        "CMT,RATE,SS,II", ["0,100,sc,-2,1,14"],
        lambda sc, t: np.where(
            t < LAG, sc.infusions_since_ever(t + 14 - LAG, 14, F * 100 / DUR_SC, DUR_SC),
            sc.infusions_since_ever(t - LAG, 14, F * 100 / DUR_SC, DUR_SC)),
    ),
}  # fmt: skip


def after(t, day):
    """Return the time since a dose; at its own moment the observation comes first."""
    return np.where(t > day, t - day, -1.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the models of one and of two compartments, by their flow between."""
    found = {}
    for q in (0.0, Q):
        path = tmp_path_factory.mktemp("model") / "invented_linear.toml"
        path.write_text(MODEL.format(ka=KA, f=F, cl=CL, vc=VC, q=q, vp=VP))
        found[q] = load_model(path)
    lag = f'[parameters]\ntlag = {{ value = {LAG}, unit = "day" }}'
    path.write_text(path.read_text().replace("[parameters]", lag))
    found["lag"] = load_model(path)
    return found


def table(folder, header, doses, days=DAYS, **options):
    """Write a file of doses and of observations of the concentration, and read it."""
    empty = "," * (header.count(",") + 2)
    rows = [(float(dose.split(",")[0]), f"1,{dose},.,.") for dose in doses]
    rows += [(day, f"1,{day!r},{empty}9,conc") for day in days]
    rows.sort(key=lambda row: row[0])  # an observation at the moment of a dose stands after it
    path = folder / "data.csv"
    path.write_text("\n".join([f"ID,TIME,AMT,{header},DV,DVID", *(r for _, r in rows)]) + "\n")
    return bc.read_observations(path, **options)


def predicted(model, read):
    found = bc.predict(model, read)
    return found["TIME"].to_numpy(), found["PRED"].to_numpy(), found


@pytest.mark.parametrize("q", [0.0, Q], ids=["one compartment", "two compartments"])
@pytest.mark.parametrize(("header", "doses", "expected"), SCENARIOS.values(), ids=SCENARIOS)
def test_scenario(tmp_path, models, q, header, doses, expected):
    t, found, _ = predicted(models[q], table(tmp_path, header, doses))
    wanted = expected(exponentials("iv", q), exponentials("sc", q), t)
    assert found == pytest.approx(wanted, rel=CLOSED, abs=CLOSED * wanted.max())


@pytest.mark.filterwarnings("ignore:.*TIME")
@pytest.mark.parametrize(("header", "doses", "expected"), STEADY_STATES.values(), ids=STEADY_STATES)
def test_steady_state(tmp_path, models, header, doses, expected):
    t, found, result = predicted(models[Q], table(tmp_path, header, doses))
    wanted = expected(exponentials("iv", Q), exponentials("sc", Q), t)
    assert found == pytest.approx(wanted, rel=STEADY, abs=CLOSED * wanted.max())
    assert all(3 <= n <= 128 for n in result.attrs["cycles"]["1"])
    assert result.attrs["cycles"]["1"]


@pytest.mark.parametrize(("header", "doses", "expected"), LAGGED.values(), ids=LAGGED)
def test_lag(tmp_path, models, header, doses, expected):
    t, found, _ = predicted(models["lag"], table(tmp_path, header, doses))
    wanted = expected(exponentials("sc", Q), t)
    within = STEADY if "SS" in header else CLOSED
    assert found == pytest.approx(wanted, rel=within, abs=CLOSED * wanted.max())


@pytest.mark.parametrize(("header", "doses", "expected"), MODELLED.values(), ids=MODELLED)
def test_infusions_of_the_model(tmp_path, models, header, doses, expected):
    lagged = models["lag"]
    route = lagged.structure.routes["sc"]._replace(rate="rate_sc", duration="dur_sc")
    model = replace(
        lagged,
        structure=replace(
            lagged.structure, name="zero_order_input",
            parameters=(*lagged.structure.parameters, "rate_sc", "dur_sc"),
            routes={**lagged.structure.routes, "sc": route},
        ),
        parameters={
            **lagged.parameters,
            "rate_sc": replace(lagged.parameters["ka"], value=RATE_SC),
            "dur_sc": replace(lagged.parameters["ka"], value=DUR_SC),
        },
    )  # fmt: skip
    read = table(tmp_path, header, doses)
    t, found, _ = predicted(model, read)
    wanted = expected(exponentials("sc", Q), t)
    within = STEADY if "SS" in header else CLOSED
    assert found == pytest.approx(wanted, rel=within, abs=CLOSED * wanted.max())
    words = "line 2 of the data: model invented_linear defines no .* of infusion for compartment"
    with pytest.raises(ValueError, match=words):
        predicted(lagged, read)
    again = bc.read_observations(tmp_path / "data.csv", model=model)
    pd.testing.assert_frame_equal(again, read)


def test_a_steady_state_is_one_of_the_b_cells_too(tmp_path, models):
    """The count repeats itself from cycle to cycle, and is that after very many doses."""
    path, (ss, out) = tmp_path / "data.csv", ("1,0,60,sc,1,28,2,", "1,-8400,60,sc,0,28,302,")
    counts = []
    for dose in (ss, out):
        path.write_text(
            "ID,TIME,AMT,CMT,SS,II,ADDL,DV\n" + dose + "\n"
            + "".join(f"1,{day},.,,.,.,.,9\n" for day in (1, 15, 27.5, 43, 55.5))
        )  # fmt: skip
        counts.append(bc.predict(models[Q], bc.read_observations(path, time_unit="d"))["PRED"])
    assert counts[0].to_numpy() == pytest.approx(counts[1].to_numpy(), rel=STEADY)
    assert counts[0][1] == pytest.approx(counts[0][3], rel=STEADY)
    assert counts[0].max() < 150


#: Of a steady state: changes of the file, the model, then what is said.
REFUSED = {
    "a model with a clock": (
        "CMT,SS,II", "0,20,sc,1,28", "yu2022_ofatumumab", "changes with the time since the first",
    ),
    "SS 2 of nonlinear kinetics": ("CMT,SS,II", "0,20,sc,2,28", "tmdd", "has nonlinear kinetics"),
    "a constant infusion under the skin": (
        "CMT,SS,RATE", "0,0,sc,1,5", "linear", 'constant infusion by route "sc" is not supported',
    ),
    "a steady state that is none": (
        "CMT,SS,II,RATE", "0,9,iv,1,1,8", "slow", "in 2048 cycles (every state within 1e-06",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("header", "dose", "which", "words"), REFUSED.values(), ids=REFUSED)
def test_a_steady_state_is_refused_by_name(
    tmp_path, models, monkeypatch, header, dose, which, words
):
    published = load_model("yu2022_ofatumumab")
    if which == "tmdd":
        text = Path(published.path).read_text().replace("value = 2.58", "value = 0")
        path = tmp_path / "my_ofatumumab.toml"
        path.write_text(text.replace("yu2022_ofatumumab", path.stem, 1))
        published = load_model(path)
    if which == "slow":
        monkeypatch.setattr("bcellsim.timeline._CYCLES", (4,))
        monkeypatch.setattr("bcellsim.timeline._reached", lambda *_: None)
        words = words.replace("2048", "4")
    model = models[Q] if which in ("linear", "slow") else published
    with pytest.raises(ValueError, match=r"model|route") as raised:
        bc.predict(model, table(tmp_path, header, [dose]), covariates=(
            {"WT": 70, "AGE": 40} if model is published else {}))  # fmt: skip
    assert words in str(raised.value)


def test_a_regimen_of_data_is_simulated_and_not_explored(tmp_path, models):
    read = table(tmp_path, "CMT,SS,II,ADDL", ["0,100,iv,1,14,2"])
    plan = regimen_of(read, default_route="sc")
    found = bc.simulate(models[Q], plan, times=DAYS)["conc"].to_numpy()
    seen = predicted(models[Q], read)[1]
    assert found == pytest.approx(seen, rel=CLOSED, abs=60.0)  # at a dose the grid is before it
    assert found[[0, 1, 2, 3, 4, 6, 7, 8]] == pytest.approx(
        seen[[0, 1, 2, 3, 4, 6, 7, 8]], rel=CLOSED
    )
    with pytest.raises(ValueError, match="metrics need its steady states written as doses"):
        bc.explore(models[Q], [plan], 3, below=10, until="8 w", seed=1)


# --- what must change nothing ---------------------------------------------------------------

AMOUNT, GAP = st.floats(1.0, 500.0), st.floats(0.3, 40.0)
FILES = {"max_examples": 15, "deadline": None,
         "suppress_health_check": [HealthCheck.function_scoped_fixture]}  # fmt: skip


@settings(**FILES)
@given(amount=AMOUNT, gap=GAP, further=st.integers(1, 6), start=st.floats(-5.0, 5.0),
       route=st.sampled_from(["iv", "sc"]), rate=st.sampled_from([".", "40"]))  # fmt: skip
def test_further_doses_are_their_rows_written_out(
    tmp_path, models, amount, gap, further, start, route, rate
):
    header = "CMT,RATE,ADDL,II"
    row = f"{{!r}},{amount!r},{route},{rate},{{}},{{!r}}"
    one = table(tmp_path, header, [row.format(start, further, gap)])
    # An implied dose at the moment of an observation comes after it, a written one where it stands.
    written = [row.format(start + k * gap, 0, 0.0) for k in range(further + 1)]
    if any(float(w.split(",")[0]) in DAYS for w in written):
        return
    a, b = (predicted(models[Q], read)[1] for read in (one, table(tmp_path, header, written)))
    assert np.array_equal(a, b)


@settings(**FILES)
@given(amount=AMOUNT, gap=GAP, unit=st.sampled_from(["h", "w", "min"]))
def test_the_unit_of_time_changes_nothing(tmp_path, models, amount, gap, unit):
    per = 1.0 / convert(1.0, unit, "day")
    row = "{!r},{!r},iv,{!r},{},{!r}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of times that look like another unit
        a = table(tmp_path, "CMT,RATE,ADDL,II", [row.format(1.0, amount, 40.0, 2, gap)])
        b = table(
            tmp_path, "CMT,RATE,ADDL,II", [row.format(per, amount, 40.0 / per, 2, gap * per)],
            days=[day * per for day in DAYS], time_unit=unit,
        )  # fmt: skip
    values = [predicted(models[Q], read)[1] for read in (a, b)]
    assert values[0] == pytest.approx(values[1], rel=CLOSED)


@settings(**FILES)
@given(rows=st.permutations(["7,30,iv,.", "7,40,sc,.", "7,50,iv,25"]))
def test_the_order_of_doses_at_one_time_changes_nothing(tmp_path, models, rows):
    days = (8.0, 20.0)
    a, b = (
        predicted(models[Q], table(tmp_path, "CMT,RATE", given, days))[1]
        for given in (rows, sorted(rows))
    )
    assert a == pytest.approx(b, rel=CLOSED)


def test_the_order_of_observation_and_dose_at_one_time_says_which_was_first(tmp_path, models):
    path = tmp_path / "data.csv"
    dose, seen = "1,7,31,iv,.,.", "1,7,.,,9,conc"
    found = []
    for rows in ((seen, dose), (dose, seen), (seen, dose, seen, dose, seen)):
        path.write_text("\n".join(["ID,TIME,AMT,CMT,DV,DVID", "1,0,31,iv,.,.", *rows]) + "\n")
        found.append(bc.predict(models[Q], bc.read_observations(path))["PRED"].to_numpy())
    trough, step = float(31 * exponentials("iv", Q).dose(7.0)), 31 / VC
    assert found[0] == pytest.approx([trough], rel=CLOSED)
    assert found[1] == pytest.approx([trough + step], rel=CLOSED)
    assert found[2] == pytest.approx([trough, trough + step, trough + 2 * step], rel=CLOSED)


SUBJECT = st.lists(st.tuples(GAP, AMOUNT, st.booleans()), min_size=2, max_size=5)


@settings(**FILES)
@given(subjects=st.lists(SUBJECT, min_size=2, max_size=3))
def test_reading_in_parts_changes_nothing(tmp_path, models, subjects):
    """Each subject from a file of its own gives the rows and predictions of all in one."""
    header, parts = "ID,TIME,AMT,CMT,DV,DVID,WT", []
    for i, rows in enumerate(subjects):
        times = np.cumsum([gap for gap, _, _ in rows]).tolist()
        parts.append(f"S{i},-1,50,iv,.,.,70\n" + "".join(
            f"S{i},{t!r},{x!r},iv,.,.,.\n" if dose else f"S{i},{t!r},.,.,{x!r},conc,{60 + i}\n"
            for t, (_, x, dose) in zip(times, rows, strict=True)))  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doses after the last observation
        path, read = tmp_path / "data.csv", []
        for text in ("".join(parts), *parts):
            path.write_text(f"{header}\n{text}")
            read.append(bc.read_observations(path))
    whole, apart = read[0], pd.concat(read[1:], ignore_index=True)
    pd.testing.assert_frame_equal(whole.drop(columns="LINE"), apart.drop(columns="LINE"))
    a, b = (bc.predict(models[Q], t)["PRED"].to_numpy() for t in (whole, apart))
    assert np.array_equal(a, b)


# --- covariates in time, percentages --------------------------------------------------------

COVARIATES = """
[covariates.WT]
unit = "kg"
meaning = "body weight"
reference = 70

[[covariate_effects]]
parameter = "cl"
covariate = "WT"
form = "power"
reference = 70
value = 1.0
"""
#: By rule: the mean weight from day 0 to 4, 10, 16, 24, 30 and 40, of 70 kg until day 10, 77 on day
#: 20 and 63 kg on day 30. A `linear` one is flat over pieces of 1 %, exact at their ends.
MEAN_WEIGHT = {
    "locf": [70, 70, 70, (20 * 70 + 4 * 77) / 24, (20 * 70 + 10 * 77) / 30,
             (20 * 70 + 10 * 77 + 10 * 63) / 40],
    "nocb": [70, 70, (10 * 70 + 6 * 77) / 16, (10 * 70 + 10 * 77 + 4 * 63) / 24,
             (10 * 70 + 10 * 77 + 10 * 63) / 30, (10 * 70 + 10 * 77 + 20 * 63) / 40],
    "linear": [70, 70, (10 * 70 + 6 * 72.1) / 16, (10 * 70 + 10 * 73.5 + 4 * 74.2) / 24,
               (10 * 70 + 10 * 73.5 + 10 * 70) / 30,
               (10 * 70 + 10 * 73.5 + 10 * 70 + 10 * 63) / 40],
}  # fmt: skip


@pytest.mark.parametrize(("rule", "means"), MEAN_WEIGHT.items(), ids=MEAN_WEIGHT)
def test_covariates_that_change_act_by_their_rule(tmp_path, rule, means):
    """With one compartment the log of the concentration falls by the area under the clearance."""
    path, data = tmp_path / "invented_linear.toml", tmp_path / "data.csv"
    path.write_text(MODEL.format(ka=KA, f=F, cl=CL, vc=VC, q=0, vp=VP) + COVARIATES)
    weights = {0: 70, 10: 70, 20: 77, 30: 63}
    days = (4, 10, 16, 24, 30, 40)
    rows = [(t, f"1,{t},.,,.,.,{w},2\n") for t, w in weights.items()]
    rows += [(t, f"1,{t},.,,9,conc,.,0\n") for t in days]
    rows.sort(key=lambda row: row[0])
    data.write_text("ID,TIME,AMT,CMT,DV,DVID,WT,EVID\n1,0,100,iv,.,.,.,1\n"
                    + "".join(text for _, text in rows))  # fmt: skip
    found = bc.predict(load_model(path), bc.read_observations(data, covariates=rule))
    found = found[found["EVID"] == 0]
    wanted = 100 / VC * np.exp(-CL / VC * np.array(means) / 70 * days)
    # Within a piece that is not at its end the flat course is off by up to 0.5 % of a piece's area.
    within = 5e-4 if rule == "linear" else CLOSED
    assert found["PRED"].to_numpy() == pytest.approx(wanted, rel=within)
    assert found.attrs["covariate_rule"] == rule


def test_a_percentage_is_predicted_through_the_sample_or_the_baseline(tmp_path, models):
    path = tmp_path / "data.csv"
    path.write_text(
        "ID,TIME,AMT,CMT,DV,UNIT,ALC,EVID\n1,-2,.,,12,%,1.6,0\n1,0,100,iv,.,,.,1\n"
        "1,9,.,,9,cells/uL,.,0\n1,9,.,,9,%,2.5,0\n1,9,.,,9,% of baseline,.,0\n1,9,.,,.,,.,2\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of counts at one time
        table = bc.read_observations(path)
    found = bc.predict(models[Q], table)["PRED"].to_numpy()
    count = found[1]
    assert count < 100
    assert found == pytest.approx([100 * 200 / 1600, count, 100 * count / 2500, count / 2, count])


def test_what_does_not_fit_the_model_is_said(tmp_path, models):
    read = table(tmp_path, "CMT", ["0,100,iv"])
    with pytest.raises(ValueError, match="unknown covariate"):
        bc.predict(models[Q], read, covariates={"AGE": 9})
    with pytest.raises(ValueError, match="needs covariate WT"):
        bc.predict("yu2022_ofatumumab", read)
    with pytest.raises(ValueError, match="has no output conc_free"):
        bc.predict(models[Q], read.assign(DVID="conc_free"))
    with pytest.raises(ValueError, match="hold no dose"):
        bc.predict(models[Q], table(tmp_path, "CMT", []))
    weighed = read.assign(WT=70.0)
    with pytest.raises(ValueError, match="covariate WT = 60, but the data have 70"):
        bc.predict("yu2022_ofatumumab", weighed, covariates={"WT": 60, "AGE": 40, "IV": 1})


def test_the_list_of_events_is_what_the_file_says(tmp_path, models):
    """A row an event, with the line it comes from; the digest changes with any of it."""
    rows = ["0,100,iv,25,2,14,.,1", "30,80,sc,.,.,.,.,4", "40,50,iv,.,.,10,1,1"]
    course = course_of(models[Q], table(tmp_path, "CMT,RATE,ADDL,II,SS,EVID", rows))
    found = course.event_list()
    n = course.cycles[0]
    kinds = ["dose"] * 3 + ["reset", "dose", "reset"] + ["dose"] * (n + 1)
    assert list(found["kind"]) == kinds
    assert list(found["time"][:7]) == [0, 14, 28, 30, 30, 40, 40]
    assert found["time"].iloc[-1] == 40 + 10 * n
    lines = course.rows["LINE"]
    assert set(found["line"]).isdisjoint(lines)
    assert list(found["amount"].dropna()) == [100] * 3 + [80] + [50] * (n + 1)
    assert list(found["rate"].dropna()) == [25] * 3
    assert list(found["cmt"].dropna().unique()) == ["central", "depot"]
    again = course_of(models[Q], table(tmp_path, "CMT,RATE,ADDL,II,SS,EVID", rows)).event_list()
    other = course_of(models[Q], table(tmp_path, "CMT", ["0,100,iv"])).event_list()
    assert found.attrs["sha256"] == again.attrs["sha256"] != other.attrs["sha256"]
