"""A second transcription of the published numbers, in internal units, worked out by hand.

Written from a summary of the papers and not from the model files, so that a slip of a unit, a
scale or a digit in either shows. Internal units are day, mg, L, cells/uL; SDs are of the logarithm
(of the logit for the bioavailability of Yu 2022). A CV of c % is the SD sqrt(ln(1 + (c / 100)^2)).
"""

import numpy as np
import pytest

from bcellsim import load_model

WRITTEN = 5e-6  # the numbers below have six digits

#: Typical values of the structure's parameters.
TYPICAL = {
    "yu2022_ofatumumab": {
        "ka": 0.157, "f_sc": 0.685, "vc": 2.62, "kint": 1.31, "cl": 0.34, "q": 0.358, "vp": 2.8,
        "r0": 4.745,  # 32.5 nmol/L x 146 kDa / 1000
        "ksyn0": 0.14381,  # 0.985 nmol/L/day x 0.146
        "ksyn_inf": 0.0080884,  # 0.0554 nmol/L/day x 0.146
        "kdes": 0.00706366,  # 2.58 per year / 365.25
        "kd": 0.024382,  # 0.167 nmol/L x 0.146
        "koff": 5.53, "b0": 194, "emax": 159, "ec50": 0.0057, "hill": 2.81, "kout": 0.0124,
        "qb": 0.78, "vb": 3.7,
    },
    "chen2024_rituximab": {
        "cl": 0.20856,  # 8.69 mL/h x 24 / 1000
        "vc": 1.86,
        "q": 0.18,  # 7.5 mL/h
        "vp": 1.9, "emax": 99.6, "ec50": 5.87, "b0": 395, "kout": 0.051,
    },
    "liang2024_rituximab": {
        "cl": 1.1568,  # 0.0482 L/h x 24
        "vc": 2.48,
        "q": 0.1752,  # 0.0073 L/h x 24
        "vp": 4.68,
        "kint": 5.208,  # 0.217 1/h x 24
        "kss": 0.893371,  # 6.21 nmol/L x 143.86 kDa / 1000
        "ksyn": 1.747036e-4,  # 5.06e-8 umol/L/h = 5.06e-5 nmol/L/h, x 24 x 0.14386
        "kdeg": 0.03912,  # 1.63e-3 1/h x 24
        "cd20_per_cell": 2.24552e-5,  # 94 000 / 6.02214e23 mol x 143 860 g/mol = 2.24552e-14 g
    },
    "yan2022_inebilizumab": {
        "cl": 0.188, "vc": 2.95, "q": 0.363, "vp": 2.57, "vmax": 0.832, "km": 5.89,
        "kdes": 0.00294,
        "ka": 0.169060,  # ln 2 / 4.1 d
        "f_sc": 0.81,
    },
    "yan2022_inebilizumab_pd": {"b0": 135, "lifespan": 391},
    "lioger2017_rituximab": {
        "vc": 4.1,
        "cl": 0.451,  # 0.11 1/day x 4.1 L
        "q": 1.722,  # 0.42 1/day x 4.1 L
        "vp": 6.888,  # 1.722 / 0.25 1/day
    },
    "gibiansky2014_obinutuzumab": {
        "kdes": 0.0359, "cl_t": 0.231, "cl": 0.0828, "vc": 2.76, "vp": 1.01, "q": 1.29,
    },
    "gibiansky2021_rituximab": {
        "kdes": 0.0399, "cl_t": 1.55, "cl": 0.207, "vc": 4.99, "vp": 3.70, "q": 0.420,
        "ka": 0.372, "f_sc": 0.633,
    },
    "rozman2017_rituximab": {
        "cl": 0.252, "cl_t": 0.278, "kdes": 0.143, "vc": 4.62, "vp": 8.61, "q": 1.02,
    },
    "candelaria2018_rituximab": {
        "cl": 0.3,  # 12.5 mL/h x 24 / 1000
        "vc": 3.191,
        "q": 0.4464,  # 18.6 mL/h x 24 / 1000
        "vp": 4.154,
    },
    "gibiansky2021_ocrelizumab": {
        "vc": 2.78, "vp": 2.68, "q": 0.294, "cl": 0.17, "cl_t": 0.0489,
        "kdes": 0.00300064,  # ln 2 / (33 x 7 d)
    },
    "pan2019_rituximab": {"kel": 0.036, "kout": 0.02},
    "davda2014_antibody": {
        "f_sc": 0.744, "ka": 0.282, "cl": 0.200, "vc": 3.61, "vp": 2.75, "q": 0.747,
    },
    "bender2024_mosunetuzumab": {
        "cl": 0.584,
        "cl_t": 0.496,  # 1.08 - 0.584
        "kdes": 0.0425244,  # ln 2 / 16.3 d
        "vc": 5.49, "vp": 6.17, "q": 1.46,
    },
}  # fmt: skip

#: SDs of the random effects, of the printed parameters.
SD = {
    "yu2022_ofatumumab": {
        "ka": 0.652, "f_sc": 0.531, "vc": 0.116, "kint": 1.14, "cl": 0.486, "q": 0.705, "r0": 0.91,
        "ksyn0": 0.0559, "ksyn_inf": 2.16, "kdes": 0.654, "b0": 0.394, "emax": 0.587,
        "ec50": 0.927, "hill": 1.46, "kout": 0.922, "vb": 1.37,
    },
    "chen2024_rituximab": {  # CV 37.0, 25.4, 65.8, 65.4 %
        "cl": 0.358197, "vc": 0.250040, "b0": 0.599787, "kout": 0.596721,
    },
    "liang2024_rituximab": {"cl": 0.7, "kss": 1.485598},  # variances 0.49, 2.207
    "yan2022_inebilizumab": {  # CV 27, 17, 16, 30 %
        "cl": 0.265265, "vc": 0.168791, "vp": 0.158990, "vmax": 0.293560,
    },
    "yan2022_inebilizumab_pd": {},
    "lioger2017_rituximab": {"vc": 0.22, "kel": 0.24},
    "gibiansky2014_obinutuzumab": {  # variances 1.62, 0.907, 0.159, 0.034, 0.361, 0.89
        "kdes": 1.272792, "cl_t": 0.952365, "cl": 0.398748, "vc": 0.184391, "vp": 0.600833,
        "q": 0.943398,
    },
    "gibiansky2021_rituximab": {  # variances 0.357, 0.691, 0.106, 0.0323, 0.115, 0.0453
        "kdes": 0.597495, "cl_t": 0.831264, "cl": 0.325576, "vc": 0.179722, "ka": 0.339116,
        "f_sc": 0.212838,
    },
    "rozman2017_rituximab": {"cl": 0.183446, "kdes": 1.130813, "vc": 0.115613},  # 18.5, 161, 11.6 %
    "candelaria2018_rituximab": {  # CV 24.7, 14.2, 28.0, 27.0 %
        "cl": 0.243352, "vc": 0.141292, "q": 0.274733, "vp": 0.265265,
    },
    "gibiansky2021_ocrelizumab": {},
    "pan2019_rituximab": {},
    "davda2014_antibody": {  # variances 0.416, 0.0987, 0.116, 0.0789, 0.699
        "ka": 0.644981, "cl": 0.314166, "vc": 0.340588, "vp": 0.280891, "q": 0.836062,
    },
    "bender2024_mosunetuzumab": {  # variances 0.426, 0.0981, 0.0343, 0.739, 0.0621
        "cl0": 0.652687, "vc": 0.313209, "cl": 0.185203, "t_half_cl": 0.859651, "vp": 0.249199,
    },
}  # fmt: skip

#: SDs between occasions.
OCCASION_SD = {
    "lioger2017_rituximab": {"vc": 0.33, "kel": 0.08},
    "candelaria2018_rituximab": {"cl": 0.348177, "vc": 0.166832},  # CV 35.9, 16.8 %
}

#: Covariances, where a paper prints them or correlations (covariance = correlation x SD x SD).
COVARIANCE = {
    "yu2022_ofatumumab": {
        ("ka", "cl"): -0.0931604,  # -0.294 x 0.652 x 0.486
        ("ka", "kdes"): 0.184634,  # 0.433 x 0.652 x 0.654
        ("cl", "kdes"): 0.204055,  # 0.642 x 0.486 x 0.654
        ("kint", "r0"): -0.571607,  # -0.551 x 1.14 x 0.91
        ("kint", "ksyn_inf"): -1.142554,  # -0.464 x 1.14 x 2.16
        ("r0", "ksyn_inf"): 0.923832,  # 0.470 x 0.91 x 2.16
        ("vb", "emax"): 0.225173,  # 0.280 x 1.37 x 0.587
        ("kout", "vb"): -0.424415,  # -0.336 x 0.922 x 1.37
        ("kout", "emax"): 0.228933,  # 0.423 x 0.922 x 0.587
    },
    "gibiansky2021_rituximab": {("cl", "vc"): 0.0277, ("ka", "f_sc"): 0.0265},
    "davda2014_antibody": {("cl", "vc"): 0.0786, ("cl", "vp"): 0.0377, ("vc", "vp"): 0.0619},
    "bender2024_mosunetuzumab": {("cl0", "vc"): 0.180, ("cl", "t_half_cl"): -0.0892},
}

#: Factor on a printed parameter at a value of one covariate, the others at reference.
EFFECTS = {
    "chen2024_rituximab": [
        ("cl", "BSA", 1.8, 2.394957),  # 2^1.26
        ("vc", "BSA", 1.8, 2.0),
    ],
    "yan2022_inebilizumab": [
        ("cl", "WT", 132.4, 1.484524),  # 2^0.57
        ("vc", "WT", 132.4, 1.310393),  # 2^0.39
        ("q", "WT", 132.4, 1.790050),  # 2^0.84
        ("vp", "WT", 132.4, 1.319508),  # 2^0.40
        ("vmax", "MICP200", 1, 3.1),  # 1 + 2.10
    ],
    "lioger2017_rituximab": [
        ("vc", "BSA", 0.9, 0.5),
        ("vc", "MALE", 1, 1.447735),  # exp(0.37)
        ("vc", "COURSE", 2, 1.328686),  # 2^0.41
        ("kel", "IGG", 40, 2.0),  # 4^0.50
        ("kel", "CD19", 200, 1.024557),  # 2^0.035
    ],
    "gibiansky2014_obinutuzumab": [
        ("kdes", "BCL", 1, 2.08), ("kdes", "MCL", 1, 2.08), ("kdes", "SMALLTUMOR", 1, 2.65),
        ("cl_t", "WT", 150, 1.531558),  # 2^0.615
        ("cl_t", "MALE", 1, 1.49), ("cl_t", "BCL", 1, 0.834), ("cl_t", "MCL", 1, 1.75),
        ("cl", "WT", 150, 1.531558), ("cl", "MALE", 1, 1.22), ("cl", "BCL", 1, 0.834),
        ("cl", "MCL", 1, 1.75),
        ("vc", "WT", 150, 1.304052),  # 2^0.383
        ("vc", "MALE", 1, 1.18), ("vp", "WT", 150, 2.0),
        ("q", "WT", 150, 1.681793),  # 2^0.75
    ],
    "gibiansky2021_rituximab": [
        ("cl_t", "BSA", 3.8, 2.584706),  # 2^1.37
        ("cl_t", "WBC", 200, 1.167159),  # 2^0.223
        ("cl_t", "TUMOR", 14000, 1.198309),  # 2^0.261
        ("cl", "BSA", 3.8, 2.584706), ("q", "BSA", 3.8, 2.584706),
        ("vc", "BSA", 3.8, 1.741101),  # 2^0.8
        ("vp", "BSA", 3.8, 1.741101), ("vc", "FEMALE", 1, 0.909),
        ("ka", "BMI", 54, 0.496546),  # 2^-1.01
        ("f_sc", "BMI", 54, 0.724470),  # 2^-0.465
    ],
    "rozman2017_rituximab": [
        ("cl", "WT", 140, 2.345670),  # 2^1.23
        ("cl", "AGE", 70, 0.918),  # 1 - 0.00820 x 10
        ("kdes", "PROGRESSED", 1, 0.178), ("vc", "FEMALE", 1, 0.786),
    ],
    "candelaria2018_rituximab": [("vc", "BSA", 3.44, 2.158456)],  # 2^1.11
    "davda2014_antibody": [
        ("cl", "WT", 140, 1.821340),  # 2^0.865
        ("q", "WT", 140, 1.821340),
        ("vc", "WT", 140, 1.941268),  # 2^0.957
        ("vp", "WT", 140, 1.941268),
    ],
    "bender2024_mosunetuzumab": [
        ("cl", "WT", 156, 1.463071),  # 2^0.549
        ("vc", "WT", 156, 1.350039),  # 2^0.433
        ("vp", "WT", 156, 1.666706),  # 2^0.737
        ("cl0", "ALB", 78, 0.351111),  # 2^-1.51
        ("vc", "ALB", 78, 0.716481),  # 2^-0.481
        ("cl", "TUMOR_ROOT", 109, 1.066955),  # 2^0.0935
        ("cl", "FEMALE", 1, 0.872), ("vc", "FEMALE", 1, 0.874),
        ("cl0", "ANTICD20", 250000, 0.672216),  # (ln 250000 / ln 500)^-0.573 = 2^-0.573
    ],
}  # fmt: skip

#: Residual error of each output: proportional SD, additive SD, SD of the logarithm.
ERROR = {
    "yu2022_ofatumumab": {"conc": (0.278, 0.0316, 0), "bcell": (0.381, 0.153, 0)},
    "chen2024_rituximab": {"conc": (0.18, 0, 0), "bcell": (0.84, 0, 0)},
    "yan2022_inebilizumab": {"conc": (0.218, 0, 0)},
    "lioger2017_rituximab": {"conc": (0.27, 0.31, 0)},
    "gibiansky2014_obinutuzumab": {"conc": (0.178326, 0.164621, 0)},  # variances 0.0318, 0.0271
    "rozman2017_rituximab": {"conc": (0.159, 2.46, 0)},
    "candelaria2018_rituximab": {"conc": (0.27, 0.278, 0)},
    "davda2014_antibody": {"conc": (0.144, 0, 0)},
    "bender2024_mosunetuzumab": {"conc": (0, 0, 0.259)},
}


@pytest.mark.parametrize("name", TYPICAL)
def test_typical_values(name):
    model = load_model(name)
    found = {n: v for n, v in model.typical().items() if model.gives(n)}
    assert found == pytest.approx(TYPICAL[name], rel=WRITTEN)


@pytest.mark.parametrize("name", SD)
def test_variability(name):
    model = load_model(name)
    assert model.random_effects.sd() == pytest.approx(SD[name], rel=WRITTEN)
    assert model.occasion_effects.sd() == pytest.approx(OCCASION_SD.get(name, {}), rel=WRITTEN)
    scales = dict(zip(model.random_effects.names, model.random_effects.distributions, strict=True))
    logit = {n for n, scale in scales.items() if scale == "logit"}
    assert logit == ({"f_sc"} if name == "yu2022_ofatumumab" else set())


@pytest.mark.parametrize("name", SD)
def test_covariances(name):
    effects, wanted = load_model(name).random_effects, COVARIANCE.get(name, {})
    pairs = {frozenset(pair) for pair in effects.correlations()}
    assert pairs == {frozenset(pair) for pair in wanted}
    for (a, b), value in wanted.items():
        found = effects.covariance[effects.names.index(a), effects.names.index(b)]
        assert found == pytest.approx(value, rel=WRITTEN)


@pytest.mark.parametrize("name", EFFECTS)
def test_covariate_effects(name):
    model = load_model(name)
    listed = {(parameter, covariate) for parameter, covariate, *_ in EFFECTS[name]}
    assert {(e.parameter, e.covariate) for e in model.covariate_effects} == listed
    usual = {n: np.array([c.reference]) for n, c in model.covariates.items()}
    reference = model.printed(usual, {}, 1)
    for parameter, covariate, value, factor in EFFECTS[name]:
        moved = model.printed({**usual, covariate: np.array([float(value)])}, {}, 1)
        assert moved[parameter] / reference[parameter] == pytest.approx(factor, rel=WRITTEN)


@pytest.mark.parametrize("name", TYPICAL)
def test_residual_errors(name):
    found = load_model(name).residual_error
    usual = {n: (e.prop_sd, e.add_sd, e.log_sd) for n, e in found.items() if e.form != "declining"}
    assert usual.keys() == ERROR.get(name, {}).keys()
    for output, sds in ERROR.get(name, {}).items():
        assert usual[output] == pytest.approx(sds, rel=WRITTEN)


def test_the_error_that_declines():
    error = load_model("gibiansky2021_rituximab").residual_error["conc"]
    assert (error.low_sd, error.high_sd, error.half) == (0.81, 0.134, 6.35)
    assert error.variance == 0.0929
    assert error.factors == {"REACH": 1.42, "SAWYER1": 0.568}
    assert load_model("gibiansky2014_obinutuzumab").residual_error["conc"].variance == 0.274
