"""Metrics: each against hand-made trajectories whose answers are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcellsim.engine import NODES, Trajectories
from bcellsim.metrics import METRICS, Question
from bcellsim.metrics import measure as measure_tallies

# Polynomials up to degree 4 are exact: only rounding, and 40 bisections of a step, remain.
EXACT = 1e-8
# A sine of period 20 d through five nodes a day: the interpolation error is (2 pi / 20)^5 / 1e5.
SMOOTH = 1e-5


def course(function, edges, *more):
    """Return the trajectory of a function of time (or of several subjects) with given steps."""
    edges = np.asarray(edges, dtype=float)
    width, functions = np.diff(edges), (function, *more)
    nodes = [f(a + w * NODES) for f in functions for a, w in zip(edges[:-1], width, strict=True)]
    return Trajectories(
        np.arange(len(functions) + 1) * len(width), np.tile(edges[:-1], len(functions)),
        np.tile(width, len(functions)), np.array(nodes, dtype=float),
    )  # fmt: skip


def joined(*pieces):
    """Return one subject's trajectory from (start, end, function) steps, which may jump."""
    return Trajectories(
        np.array([0, len(pieces)]), np.array([a for a, _, _ in pieces], dtype=float),
        np.array([b - a for a, b, _ in pieces], dtype=float),
        np.array([f(a + (b - a) * NODES) + 0.0 * NODES for a, b, f in pieces]),
    )  # fmt: skip


def measure(courses, asked):
    """Return every metric of recorded trajectories."""
    n = next(iter(courses.values())).n_subjects
    return measure_tallies(lambda tally: courses[tally.output].tally(tally), asked, courses, n)


def one(name, trajectory, asked):
    """Return one metric of a recorded trajectory."""
    return measure({METRICS[name].output: trajectory}, asked)[name]


def question(opens=0.0, closes=20.0, threshold=10.0, recovery=None, doses=(0.0,), follow_up=0.0):
    level = threshold if recovery is None else recovery
    return Question(threshold, level, opens, closes, np.array(doses, dtype=float), follow_up)


# From 21 down to 1 at day 5 (at 8.8 on day 3.05), constant until 10, then up by 2 a day.
VALLEY = joined(
    (0, 3, lambda t: 21 - 4 * t), (3, 5, lambda t: 21 - 4 * t), (5, 10, lambda t: 1.0),
    (10, 13, lambda t: 1 + 2 * (t - 10)), (13, 30, lambda t: 1 + 2 * (t - 10)),
)  # fmt: skip
FALL, RISE = 11 / 4, 10 + 9 / 2  # when it crosses 10
EDGES = [0, 3, 6, 7.5, 13, 20]  # none of them a crossing
PARABOLA = course(lambda t: 10 + (t - 8) ** 2 / 4, EDGES)  # touches 10 on day 8
ARCH = course(lambda t: 10 - (t - 8) ** 2 / 4, EDGES)  # touches 10 from below
RAMP = course(lambda t: 20 - t, [0, 3, 7, 11.5, 20])
SINE = course(lambda t: 10 + 5 * np.sin(np.pi * t / 10), np.arange(41))  # period 20
LOW, HIGH = course(lambda t: 4 + 0 * t, EDGES), course(lambda t: 30 + 0 * t, EDGES)
# Doses on days 0, 5 and 10 of 4 each, straight loss of 0.5 a day.
PULSES = joined(
    (0, 5, lambda t: 4 - 0.5 * t), (5, 7, lambda t: 5.5 - 0.5 * (t - 5)),
    (7, 10, lambda t: 5.5 - 0.5 * (t - 5)), (10, 15, lambda t: 7 - 0.5 * (t - 10)),
)  # fmt: skip
PULSE_DOSES = (0.0, 5.0, 10.0)

CASES = [
    # suppressed throughout: at or below counts
    ("suppressed_throughout", VALLEY, question(3, 14), 1),
    ("suppressed_throughout", VALLEY, question(3, 14.6), 0),
    ("suppressed_throughout", VALLEY, question(2.7, 14), 0),
    ("suppressed_throughout", ARCH, question(), 1),
    ("suppressed_throughout", ARCH, question(threshold=10 - 1e-6), 0),
    ("suppressed_throughout", course(lambda t: 10 + 0 * t, EDGES), question(), 1),
    ("suppressed_throughout", PARABOLA, question(), 0),
    ("suppressed_throughout", HIGH, question(), 0),
    # days above
    ("days_above", VALLEY, question(), FALL + 20 - RISE),
    ("days_above", VALLEY, question(1.25, 15.0), FALL - 1.25 + 0.5),
    ("days_above", VALLEY, question(4.0, 12.0), 0),
    ("days_above", VALLEY, question(0.5, 1.5), 1),
    ("days_above", RAMP, question(threshold=12.5), 7.5),
    ("days_above", ARCH, question(), 0),
    ("days_above", PARABOLA, question(), 20),
    ("days_above", HIGH, question(2, 19.5), 17.5),
    ("days_above", PULSES, question(0, 15, threshold=5), 1 + 4),  # both begin with a jump
    ("suppressed_fraction", VALLEY, question(), 1 - (FALL + 20 - RISE) / 20),
    ("suppressed_fraction", VALLEY, question(2.0, 6.0), 1 - 0.75 / 4),
    ("suppressed_fraction", LOW, question(), 1),
    ("suppressed_fraction", HIGH, question(), 0),
    # depletion, from the first dose
    ("time_to_depletion", VALLEY, question(), FALL),
    ("time_to_depletion", VALLEY, question(doses=(1.0, 9.0)), FALL - 1),
    ("time_to_depletion", VALLEY, question(closes=2.5), np.inf),
    ("time_to_depletion", VALLEY, question(opens=19), FALL),  # does not wait for the window
    ("time_to_depletion", RAMP, question(threshold=12.5), 7.5),
    ("time_to_depletion", LOW, question(), 0),
    ("time_to_depletion", VALLEY, question(doses=(6.0,)), 0),  # already below
    ("time_to_depletion", HIGH, question(), np.inf),
    ("time_to_depletion", VALLEY, question(doses=()), np.inf),
    ("time_to_depletion", joined((0, 4, lambda t: 15.0), (4, 9, lambda t: 5.0)), question(0, 9), 4),
    # repletion, from the last dose
    ("time_to_repletion", VALLEY, question(), RISE),
    ("time_to_repletion", VALLEY, question(doses=(0.0, 8.0)), RISE - 8),
    ("time_to_repletion", VALLEY, question(recovery=15.0), 17.0),
    ("time_to_repletion", VALLEY, question(closes=12), np.inf),
    ("time_to_repletion", VALLEY, question(closes=12, follow_up=10), RISE),
    ("time_to_repletion", VALLEY, question(closes=12, follow_up=2), np.inf),
    ("time_to_repletion", VALLEY, question(doses=(0.0, 16.0), closes=25), np.nan),  # never below
    ("time_to_repletion", HIGH, question(), np.nan),
    ("time_to_repletion", LOW, question(), np.inf),
    ("time_to_repletion", VALLEY, question(doses=()), np.nan),
    ("time_to_repletion", joined((0, 4, lambda t: 5.0), (4, 9, lambda t: 15.0)), question(0, 9), 4),
    # escape, from the opening of the window
    ("time_to_escape", VALLEY, question(3, 20), RISE - 3),
    ("time_to_escape", VALLEY, question(2.5, 20), 0),  # above at the opening
    ("time_to_escape", VALLEY, question(3, 14), np.inf),
    ("time_to_escape", HIGH, question(), 0),
    ("time_to_escape", LOW, question(), np.inf),
    ("time_to_escape", joined((0, 4, lambda t: 5.0), (4, 9, lambda t: 15.0)), question(1, 9), 3),
    # nadir
    ("nadir", VALLEY, question(), 1),
    ("nadir", VALLEY, question(closes=4.0), 5),
    ("nadir", VALLEY, question(doses=(12.0,)), 5),
    ("nadir", PARABOLA, question(), 10),
    ("nadir", ARCH, question(), 10 - 12**2 / 4),
    ("time_of_nadir", PARABOLA, question(), 8),
    ("time_of_nadir", PARABOLA, question(doses=(3.0,)), 5),
    ("time_of_nadir", PARABOLA, question(closes=6.5), 6.5),
    ("time_of_nadir", ARCH, question(), 20),
    # concentration
    ("auc", PULSES, question(0, 15), (4 + 1.5) / 2 * 5 + (5.5 + 3) / 2 * 5 + (7 + 4.5) / 2 * 5),
    ("auc", PULSES, question(3, 6), (4 + 1.5) / 2 * 5 + (5.5 + 5) / 2),  # from the start
    ("auc", PARABOLA, question(), 200 + (12**3 + 8**3) / 12),
    ("c_max", PULSES, question(0, 15), 7),
    ("c_max", PULSES, question(7, 9), 5.5),  # before the window too
    ("c_max", ARCH, question(), 10),
    ("c_trough", PULSES, question(2, 15, doses=PULSE_DOSES), 1.5),
    ("c_trough", PULSES, question(6, 15, doses=PULSE_DOSES), 3),
    ("c_trough", PULSES, question(5, 9, doses=PULSE_DOSES), 1.5),
    ("c_trough", PULSES, question(11, 15, doses=PULSE_DOSES), np.nan),
]  # fmt: skip


@pytest.mark.parametrize(("name", "trajectory", "asked", "wanted"), CASES)
def test_metric_by_hand(name, trajectory, asked, wanted):
    found = one(name, trajectory, asked)
    assert found.shape == (1,)
    # A minimum is flat: its place is known to the square root of the precision of its height.
    tolerance = 1e-5 if name == "time_of_nadir" else EXACT
    assert found[0] == pytest.approx(wanted, abs=tolerance, nan_ok=True)


def test_every_metric_has_a_case():
    assert {name for name, *_ in CASES} == set(METRICS)


def test_wave():
    """Five plus ten, sine of period 20: known crossings of any level."""
    level = 12.0
    up = 10 / np.pi * np.arcsin(0.4)  # the first crossing upwards, then 10 - up, and 20 later
    asked = question(0, 40, threshold=level, doses=(1.5,))
    found = {name: values[0] for name, values in measure({"bcell": SINE}, asked).items()}
    assert found["days_above"] == pytest.approx(2 * (10 - 2 * up), abs=SMOOTH)
    assert found["time_to_depletion"] == pytest.approx(10 - up - 1.5, abs=SMOOTH)
    assert found["nadir"] == pytest.approx(5, abs=SMOOTH)
    assert (found["time_of_nadir"] + 1.5) % 20 == pytest.approx(15, abs=1e-2)
    repleted = question(0, 40, threshold=level, doses=(0.0, 9.0))
    found = one("time_to_repletion", SINE, repleted)[0]
    assert found == pytest.approx(20 + up - 9, abs=SMOOTH)


def test_crossing_at_the_joint_of_two_steps():
    for n_steps in (2, 4, 8, 20, 40):
        ramp = course(lambda t: 20 - t, np.linspace(0, 20, n_steps + 1))
        found = one("time_to_depletion", ramp, question())[0]
        assert found == pytest.approx(10, abs=EXACT)


def test_extreme_just_before_the_joint_of_two_steps():
    """The vertex lies between the last grid point of a step and its end."""
    for end in (3.7, 4.1, 5.0, 6.3):
        vertex = end - 0.02
        for sign in (1, -1):
            arch = course(lambda t, v=vertex, s=sign: 10 - s * (t - v) ** 2, [0, end, 8])
            found = one("c_max" if sign > 0 else "nadir", arch, question(0, 8))[0]
            assert found == pytest.approx(10, abs=EXACT)


def test_trough_with_the_first_dose_in_the_window():
    """There is nothing before the first dose: the trough is that of the later ones."""
    found = one("c_trough", PULSES, question(0, 15, doses=PULSE_DOSES))[0]
    assert found == pytest.approx(1.5, abs=EXACT)


def test_subjects_do_not_mix():
    functions = [lambda t: 20 - t, lambda t: 4 + 0 * t, lambda t: 12 + 0 * t, lambda t: 2 + t]
    both = course(*[functions[0], EDGES], *functions[1:])
    courses = {"bcell": both, "conc": both}
    asked = question(2, 19, threshold=9.5, doses=(0.0, 7.5))
    together = measure(courses, asked)
    assert set(together) == set(METRICS)
    for i, function in enumerate(functions):
        alone = course(function, EDGES)
        for name, values in measure({"bcell": alone, "conc": alone}, asked).items():
            assert together[name][i] == pytest.approx(values[0], abs=EXACT, nan_ok=True), name


def test_only_outputs_at_hand_are_measured():
    found = set(measure({"bcell": VALLEY}, question()))
    assert found == {name for name, metric in METRICS.items() if metric.output == "bcell"}


# --- properties --------------------------------------------------------------------------------

waves = st.tuples(
    st.floats(2, 20), st.floats(0.5, 9), st.floats(8, 40), st.floats(0, 6.3), st.floats(-0.3, 0.3)
)
FINE = np.linspace(0, 40, 40_001)
# A trend plus a sine crosses a level at most eight times; each costs a grid spacing.
GRID_DAYS = 16 * (FINE[1] - FINE[0])


def wave(mean, size, period, phase, slope):
    """Return a smooth function of time."""
    return lambda t: mean + size * np.sin(2 * np.pi * t / period + phase) + slope * t


@settings(max_examples=60)
@given(waves, st.floats(1, 25), st.floats(0, 18), st.floats(2, 20))
def test_properties_of_smooth_trajectories(shape, threshold, opens, length):
    function = wave(*shape)
    trajectory = course(function, np.linspace(0, 40, 101))
    asked = question(opens, opens + length, threshold=threshold)
    inside = FINE[(opens <= FINE) & (opens + length >= FINE)]
    values = function(inside)
    found = {name: x[0] for name, x in measure({"bcell": trajectory}, asked).items()}
    highest = trajectory.within(asked.opens, asked.closes).highest[0][0]
    assert highest == pytest.approx(values.max(), abs=5e-3)  # slope times the grid spacing
    assert found["suppressed_throughout"] == (highest <= threshold)
    above = np.mean(values > threshold) * length
    grazing = abs(values.max() - threshold) < 0.01 or abs(values.min() - threshold) < 0.01
    if not grazing:
        assert found["days_above"] == pytest.approx(above, abs=GRID_DAYS)
        assert found["suppressed_throughout"] == (found["days_above"] == 0)
    share = 1 - found["days_above"] / (asked.closes - asked.opens)
    assert found["suppressed_fraction"] == pytest.approx(share, abs=1e-12)  # roundings
    course_so_far = function(FINE[opens + length >= FINE])
    assert found["nadir"] == pytest.approx(course_so_far.min(), abs=5e-3)


@settings(max_examples=40)
@given(waves, st.lists(st.floats(0.5, 39.5), min_size=1, max_size=8, unique=True))
def test_where_the_steps_lie_does_not_matter(shape, extra):
    function = wave(*shape)
    plain = course(function, np.linspace(0, 40, 81))
    other = course(function, np.unique([*np.linspace(0, 40, 81), *np.round(extra, 2)]))
    asked = question(3.3, 33.3, threshold=shape[0])
    for name, values in measure({"bcell": plain, "conc": plain}, asked).items():
        if name in ("time_of_nadir", "suppressed_throughout"):
            continue  # two equal minima, or a peak at the threshold, decide differently
        again = measure({"bcell": other, "conc": other}, asked)[name]
        assert again == pytest.approx(values, abs=2e-3, nan_ok=True), name


# --- doses of each subject -----------------------------------------------------------------------

OWN = np.array([[0.0, 5.0, np.nan], [2.0, np.nan, np.nan], [np.nan] * 3, [0.0, 3.0, 9.0]])


def test_doses_of_each_subject_are_those_of_one():
    functions = [lambda t: 20 - t, lambda t: 4 + 0 * t, lambda t: 12 + 0 * t, lambda t: 2 + t]
    both = course(functions[0], EDGES, *functions[1:])
    asked = question(2, 19, threshold=9.5, follow_up=1.0)
    asked = Question(asked.threshold, asked.recovery, 2.0, 19.0, OWN, 1.0)
    together, followed = measure({"bcell": both, "conc": both}, asked), asked.followed()
    for i, function in enumerate(functions):
        given = OWN[i][np.isfinite(OWN[i])]
        single = Question(asked.threshold, asked.recovery, 2.0, 19.0, given, 1.0)
        alone = course(function, EDGES)
        for name, values in measure({"bcell": alone, "conc": alone}, single).items():
            if name != "c_trough":
                assert together[name][i] == pytest.approx(values[0], abs=EXACT, nan_ok=True), name
        for name, value in single.followed().items():
            mine = np.broadcast_to(followed[name], 4)[i]
            assert mine == pytest.approx(float(value), nan_ok=True), name


def test_when_a_time_is_censored():
    followed = question(3, 20, doses=(1.0, 9.0), follow_up=5.0).followed()
    assert {name: float(value) for name, value in followed.items()} == {
        "time_to_depletion": 19.0, "time_to_repletion": 16.0, "time_to_escape": 17.0,
    }  # fmt: skip
    assert set(followed) == {name for name in METRICS if name.startswith("time_to_")}
