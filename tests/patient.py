"""A K-PD model invented for the tests, and one patient of it."""

import numpy as np

import bcellsim as bc

#: All values are invented for these tests.
KPD = """
name = "invented_kpd"
title = "Invented K-PD model of the tests"
structure = "kpd"
drug = "rituximab"
citation = ""
source = "invented for the tests"
read_in = "invented for the tests"
status = "transcribed"
context_of_use = "tests"
not_for = "anything else"

[parameters]
kel = { value = 0.05, unit = "1/day" }
a50 = { value = 20, unit = "mg" }
b0 = { value = 200, unit = "cells/uL" }
kout = { value = 0.05, unit = "1/day" }
emax = { value = 60, unit = "" }
"""
IIV = """
[iiv]
b0 = { value = 0.4, scale = "sd" }
kout = { value = 0.5, scale = "sd" }
kel = { value = 0.3, scale = "sd" }
correlations = [{ pair = ["b0", "kout"], value = 0.6 }]

[residual_error]
bcell = { prop_sd = 0.3 }
"""
PLAN = "1000 mg iv at 0 d, 14 d"
DAYS = (0.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 150.0, 170.0, 190.0, 220.0, 260.0, 320.0, 400.0)
HELD = {"kel": 0.05, "a50": 20.0, "emax": 60.0, "kout": 0.05}


def model_of(folder, text=KPD, name="invented_kpd"):
    path = folder / f"{name}.toml"
    path.write_text(text)
    return bc.load_model(path)


def read(folder, rows, header="ID,TIME,AMT,DV"):
    path = folder / "data.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return bc.read_observations(path)


def shape(kpd):
    """Return the count over the baseline, to which it is proportional."""
    return bc.simulate(kpd, PLAN, times=DAYS, rtol=1e-9, atol=1e-11).bcell.values / 200.0


def observed(kpd, sd=0.3, seed=11):
    noise = np.random.default_rng(seed).standard_normal(len(DAYS))
    return 200.0 * shape(kpd) * np.exp(sd * noise)


def counts(folder, values):
    rows = [f"1,{t},.,{v!r}" for t, v in zip(DAYS, np.asarray(values, float).tolist(),
                                             strict=True)]  # fmt: skip
    return read(folder, ["1,0,1000,.", *rows[:1], *rows[1:4], "1,14,1000,.", *rows[4:]])


def alone(kpd, folder, values, **options):
    """Fit the baseline alone."""
    options = {"prior": None, "fixed": HELD, "start": {"b0": 90}, "starts": 1, **options}
    return bc.fit_individual(kpd, counts(folder, values), **options)
