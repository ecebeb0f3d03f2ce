"""Tallies: in the loop of the compiled backend, of its recorded solution, and of the reference."""

from dataclasses import replace

import cases
import numpy as np
import pytest
from cases import one, solve

from bcellsim.engine import Events, Tally, Trajectories
from bcellsim.engine.events import SAVE
from bcellsim.engine.tally import KINDS

each = cases.each
backends = pytest.mark.parametrize("backend", ["compiled", "reference"])
TIMES = np.linspace(0.0, 400.0, 81)

EXTREME = 1e-7  # a tenth of the default rtol; see the test of an extreme soon after a start
VALUE = 1e-9  # relative: the same polynomials, once from the slopes and once through five nodes
MOMENT, MOMENT_VALUE = 1e-9, 1e-6  # a moment after [day], and how far a value may go in it
DAYS = 1e-6  # of a crossing [day]: a rounding of the value over its slope
LEVEL = 1e-5  # relative error of a value at the default rtol, as in test_engine.py


def many(structure, n, seed):
    """Return vectors and events of n random subjects."""
    return cases.random_vectors(structure, n, seed), cases.random_events(structure, n, seed)


def random_tallies(structure, rng, values, n):
    """Return tallies of every kind and output, over random windows and levels."""
    found = []
    marks = tuple(rng.uniform(-20.0, 450.0, 4).tolist())
    for i in range(n):
        output = rng.choice(structure.outputs)
        seen = values[..., structure.outputs.index(output)]
        level = rng.choice(seen[seen > 1e-6]) * np.exp(rng.normal(0.0, 0.1))
        opens, closes = np.sort(rng.uniform(-50.0, 450.0, 2))
        if i % 5 == 0:
            opens, closes = -np.inf, np.inf
        kind = list(KINDS)[i % len(KINDS)]
        own = marks if kind == "marked" else ()
        found.append(Tally(kind, str(output), opens, closes, float(level), own))
    return tuple(found)


@each
@pytest.mark.parametrize("seed", [1, 2])
def test_in_the_loop_as_of_the_recorded_solution(structure, seed):
    vectors, events = many(structure, 60, seed)
    values = solve(structure, vectors, events, TIMES).values
    asked = random_tallies(structure, np.random.default_rng(seed), values, 60)
    solution = solve(structure, vectors, events, TIMES, tallies=asked, dense=structure.outputs)
    assert np.all(solution.status == 0)
    for tally in asked:
        course = Trajectories.of(solution.dense, tally.output)
        found, recorded = solution.tally(tally), course.tally(tally)
        assert np.array_equal(np.isfinite(found), np.isfinite(recorded)), tally
        if tally.kind in ("lowest", "highest", "marked"):
            # Where the course is flat its extreme may be at another time, of the same height.
            there = np.isfinite(found[:, 0])
            scale = course_scale(course, there)
            assert np.max(np.abs(found - recorded)[there, 0] / scale, initial=0.0) < EXTREME, tally
            # At an event the extreme may be what is there before, or what is there after it.
            when = np.where(there, found[:, 1], 100.0)
            gaps = [np.diag(course.before(t)) - found[:, 0] for t in (when, when + MOMENT)]
            gap = np.nanmin(np.abs(gaps)[:, there], axis=0, initial=np.inf) / scale
            assert np.max(gap, initial=0.0) < MOMENT_VALUE, tally
        else:
            tolerance = {"abs": DAYS} if tally.kind != "integral" else {"abs": 0.0}
            assert found == pytest.approx(recorded, rel=VALUE, **tolerance), tally


def course_scale(course, subjects):
    """Return the largest value of each subject."""
    return np.array(
        [
            np.abs(course.nodes[a:b]).max()
            for a, b in zip(course.start, course.start[1:], strict=False)
        ]
    )[subjects]


def test_an_extreme_soon_after_the_start_of_a_step():
    """Between the first two of nine points, behind an inflection; 4e-9 of the value are missed."""
    kpd, asked = cases.ALL[cases.IDS.index("kpd")], Tally("highest", "bcell")
    vectors, events = many(kpd, 60, 1)
    solution = solve(kpd, vectors, events, TIMES, tallies=(asked,), dense=("bcell",))
    recorded = Trajectories.of(solution.dense, "bcell").tally(asked)
    assert solution.tally(asked)[:, 0] == pytest.approx(recorded[:, 0], rel=VALUE)


@each
def test_tallies_do_not_change_the_solution(structure):
    vectors, events = many(structure, 40, 3)
    plain = solve(structure, vectors, events, TIMES)
    asked = random_tallies(structure, np.random.default_rng(0), plain.values, 10)
    asked = tuple(tally for tally in asked if tally.kind != "marked")
    tallied = solve(structure, vectors, events, TIMES, tallies=asked)
    # The edges of a window are stops, so that the steps are others.
    error = cases.scaled_error(structure, vectors, tallied.values, plain.values)
    assert error.max() < LEVEL
    open_ended = tuple(replace(tally, opens=-np.inf, closes=np.inf) for tally in asked)
    tallied = solve(structure, vectors, events, TIMES, tallies=open_ended)
    assert np.array_equal(tallied.values, plain.values)
    assert np.array_equal(tallied.steps, plain.steps)
    alone = solve(structure, vectors, events, TIMES, tallies=open_ended[3:4], outputs=())
    assert np.array_equal(alone.tallies[:, 0], tallied.tallies[:, 3], equal_nan=True)


@cases.each_whole
def test_against_the_reference(structure):
    """Times between those of the reference for levels that are a little higher and lower."""
    vectors, events = many(structure, 6, 4)
    window = {"opens": 15.0, "closes": 380.0}
    drug = structure.outputs[0]
    count = cases.followed(structure)
    level = 0.3 * float(np.median(cases.baseline(structure, vectors)[1][:, -1])) or 1.0
    simple = (
        Tally("lowest", count, **window), Tally("highest", drug, **window),
        Tally("integral", drug, **window), Tally("integral", count),
        Tally("marked", count, marks=(60.0, 200.0), **window),
    )  # fmt: skip
    levels = level * (1.0 + LEVEL), level, level * (1.0 - LEVEL)
    crossing = [tuple(Tally(kind, count, level=x, **window) for x in levels)
                for kind in ("above", "below")]  # fmt: skip
    expected = solve(structure, vectors, events, TIMES, tallies=(*simple, *crossing[0],
                     *crossing[1]), **cases.REFERENCE)  # fmt: skip
    solution = solve(structure, vectors, events, TIMES,
                     tallies=(*simple, crossing[0][1], crossing[1][1]))  # fmt: skip
    for tally in simple:
        found, wanted = solution.tally(tally), expected.tally(tally)
        assert found[:, 0] == pytest.approx(wanted[:, 0], rel=LEVEL), tally
    (higher, _, lower), found = (
        (expected.tally(t) for t in crossing[0]),
        solution.tally(crossing[0][1]),
    )
    assert np.all((higher[:, 0] - DAYS <= found[:, 0]) & (found[:, 0] <= lower[:, 0] + DAYS))
    assert np.all((higher[:, 1] <= found[:, 1]) & (found[:, 1] <= lower[:, 1]))
    (higher, same, lower), found = (
        (expected.tally(t) for t in crossing[1]),
        solution.tally(crossing[1][1]),
    )
    assert np.all((higher[:, 0] - DAYS <= found[:, 0]) & (found[:, 0] <= lower[:, 0] + DAYS))
    # Where it returns above the level there is one such return at all three levels, or a near miss.
    clear = np.isfinite(lower[:, 1]) & np.isfinite(higher[:, 1])
    clear[clear] = np.abs(higher[clear, 1] - lower[clear, 1]) < 1.0
    assert clear.any()
    low, high = (pick(higher[clear, 1], lower[clear, 1]) for pick in (np.fmin, np.fmax))
    assert np.all((low - DAYS <= found[clear, 1]) & (found[clear, 1] <= high + DAYS))
    never = np.isinf(higher[:, 1]) & np.isinf(same[:, 1]) & np.isinf(lower[:, 1])
    assert np.all(np.isinf(found[never, 1]))


# By hand: an amount that decays, 100 exp(-0.1 t) from day 10 on

KPD = cases.ALL[cases.IDS.index("kpd")]
DECAY = cases.changed(KPD, kel=0.1)[None]
DOSED = [cases.dose(KPD, 10.0, 100.0)]
TIGHT = {"rtol": 1e-10, "atol": 1e-12}
EXACT = 1e-7  # the tolerance, and the quartic between two steps


def by_hand(asked, rows=DOSED, backend="compiled", until=60.0, **options):
    """Return the two numbers of a tally of that amount."""
    solution = solve(KPD, DECAY, one(rows), [], until=until, tallies=(asked,), backend=backend,
                     **{**TIGHT, **options})  # fmt: skip
    return solution.tallies[0, 0].tolist()


def day(amount):
    """Return when an amount is left."""
    return 10.0 + 10.0 * np.log(100.0 / amount)


AFTER = 10.0 + 1e-9
BY_HAND = [
    (Tally("above", "amount", level=20.0), [day(20.0) - 10.0, 1.0]),
    (Tally("above", "amount", 12.0, 15.0, 20.0), [3.0, 1.0]),
    (Tally("above", "amount", 50.0, 55.0, 20.0), [0.0, 0.0]),
    (Tally("above", "amount", -30.0, 90.0, 20.0), [day(20.0) - 10.0, 1.0]),
    (Tally("above", "amount", 70.0, 90.0, 20.0), [0.0, 0.0]),  # after the end
    (Tally("above", "amount", -30.0, -10.0, 20.0), [0.0, 0.0]),  # before the beginning
    (Tally("below", "amount", 12.0, level=20.0), [day(20.0), np.inf]),
    (Tally("below", "amount", 10.0, level=20.0), [day(20.0), np.inf]),  # from the dose on
    (Tally("below", "amount", 12.0, 20.0, 20.0), [np.inf, np.inf]),
    (Tally("below", "amount", 40.0, level=20.0), [40.0, np.inf]),  # already below
    (Tally("below", "amount", 70.0, level=20.0), [np.inf, np.inf]),
    (Tally("lowest", "amount", 12.0, 30.0), [100 * np.exp(-2.0), 30.0]),
    (Tally("lowest", "amount", 12.0, 90.0), [100 * np.exp(-5.0), 60.0]),
    (Tally("lowest", "amount", 70.0, 90.0), [np.nan, np.nan]),
    (Tally("highest", "amount"), [100.0, 10.0]),
    (Tally("highest", "amount", 12.0, 30.0), [100 * np.exp(-0.2), 12.0]),
    (Tally("integral", "amount"), [1000.0 * (1.0 - np.exp(-5.0)), 50.0]),
    (Tally("integral", "amount", 20.0, 30.0), [1000.0 * (np.exp(-1.0) - np.exp(-2.0)), 10.0]),
    (Tally("integral", "amount", -20.0, 90.0), [1000.0 * (1.0 - np.exp(-5.0)), 50.0]),
    (Tally("integral", "amount", 70.0, 90.0), [0.0, 0.0]),
    (Tally("marked", "amount", marks=(20.0, 40.0, 30.0)), [100.0 * np.exp(-3.0), 40.0]),
    (Tally("marked", "amount", 0.0, 35.0, marks=(20.0, 40.0, 30.0)), [100 * np.exp(-2.0), 30.0]),
    (Tally("marked", "amount", 20.0, 30.0, marks=(20.0, 40.0, 30.0)), [100 * np.exp(-2.0), 30.0]),
    (Tally("marked", "amount", marks=(90.0, 20.0)), [100.0 * np.exp(-1.0), 20.0]),
    (Tally("marked", "amount"), [np.nan, np.nan]),
]


@backends
@pytest.mark.parametrize(("asked", "wanted"), BY_HAND)
def test_by_hand(asked, wanted, backend):
    assert by_hand(asked, backend=backend) == pytest.approx(wanted, rel=EXACT, nan_ok=True)


def test_every_kind_has_a_case_by_hand():
    assert {asked.kind for asked, _ in BY_HAND} == set(KINDS)


@backends
def test_a_jump_over_the_level_is_a_crossing(backend):
    rows = [*DOSED, cases.dose(KPD, 50.0, 100.0)]
    left = 100.0 * np.exp(-4.0)
    asked = Tally("below", "amount", 12.0, level=20.0)
    assert by_hand(asked, rows, backend) == pytest.approx([day(20.0), 50.0], rel=EXACT)
    asked = Tally("highest", "amount", 12.0)
    assert by_hand(asked, rows, backend) == pytest.approx([100.0 + left, 50.0], rel=EXACT)
    # A mark sees what is there before the dose of its moment.
    asked = Tally("marked", "amount", marks=(50.0,))
    assert by_hand(asked, rows, backend) == pytest.approx([left, 50.0], rel=EXACT)


@each
@backends
def test_marks_are_the_values_before_what_happens(structure, backend):
    n = 20 if backend == "compiled" else 4
    vectors, (times, events) = cases.random_vectors(structure, n, 6), dosed(structure, n)
    tally = Tally("marked", cases.followed(structure), 20.0, marks=tuple(times))
    solution = solve(structure, vectors, events, times, tallies=(tally,), backend=backend)
    b = solution.values[:, 1:, cases.column(structure)]
    assert solution.tally(tally)[:, 0] == pytest.approx(b.min(axis=1), rel=VALUE)
    assert np.array_equal(solution.tally(tally)[:, 1], times[1:][b.argmin(axis=1)])


def dosed(structure, n):
    times = np.array([0.0, 28.0, 56.0, 112.0])
    rows = [cases.dose(structure, t, 100.0) for t in times]
    return times, Events.from_rows([rows], np.zeros(n, int))


@cases.each_whole
@backends
def test_tallies_of_failed_subjects_are_nan(structure, backend):
    n = 20 if backend == "compiled" else 3
    vectors, events = many(structure, n, 7)
    asked = random_tallies(structure, np.random.default_rng(7), np.ones((1, 1, 9)), 12)
    good = solve(structure, vectors, events, TIMES, tallies=asked, backend=backend)
    vectors[1, 0] = np.nan
    solution = solve(structure, vectors, events, TIMES, tallies=asked, backend=backend)
    assert np.all(np.isnan(solution.tallies[1]))
    rest = np.delete(np.arange(n), 1)
    assert np.array_equal(solution.tallies[rest], good.tallies[rest], equal_nan=True)
    short = solve(structure, vectors, events, TIMES, tallies=asked, backend=backend, max_steps=5)
    assert np.all(short.status != 0)
    assert np.all(np.isnan(short.tallies))


@cases.each_whole
def test_tallies_of_subjects_of_the_stiff_fall_back(structure):
    vectors, events = np.repeat(cases.typical(structure)[None], 12, axis=0), dosed(structure, 12)[1]
    vectors[3, structure.parameters.index(cases.quick(structure))] = 2e3
    count = cases.followed(structure)
    asked = Tally("lowest", count), Tally("integral", count), Tally("above", count, level=1.0)
    solution = solve(structure, vectors, events, [], until=200.0, tallies=asked, max_steps=10_000)
    # What goes by the closed form finds nothing here stiff.
    assert np.array_equal(solution.stiff, (np.arange(12) == 3) & ~solution.closed_form)
    alone = replace(events, schedule=events.schedule[[3]])
    wanted = solve(
        structure, vectors[[3]], alone, [], until=200.0, tallies=asked, backend="reference"
    )
    assert solution.tallies[3, :, 0] == pytest.approx(wanted.tallies[0, :, 0], rel=LEVEL)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("marks", [(90.0,), (10.0, 90.0), (-5.0,)])
def test_marks_that_see_nothing(marks, backend):
    """After the end, before the beginning, and at the beginning itself, with nothing before."""
    rows = [*DOSED, (-5.0, SAVE, 0, 0.0, -1)] if marks == (-5.0,) else DOSED
    found = by_hand(Tally("marked", "amount", marks=marks), rows, backend)
    assert np.all(np.isnan(found))


def test_each_tally_sees_its_own_marks():
    asked = Tally("marked", "amount", marks=(20.0,)), Tally("marked", "amount", marks=(40.0,))
    wanted = [[100.0 * np.exp(-1.0), 20.0], [100.0 * np.exp(-3.0), 40.0]]
    for backend in ("reference", "compiled"):
        solution = solve(KPD, DECAY, one(DOSED), [], until=60.0, tallies=asked, backend=backend)
        assert solution.tallies[0] == pytest.approx(np.array(wanted), rel=LEVEL)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("case", ["no time", "all failed"])
def test_marks_where_nothing_was_integrated(case, backend):
    vector = DECAY if case == "no time" else np.full_like(DECAY, np.nan)
    until = 0.0 if case == "no time" else 20.0
    asked = Tally("marked", "amount", marks=(5.0,))
    solution = solve(KPD, vector, one([]), [0.0], until=until, tallies=(asked,), backend=backend)
    assert np.all(np.isnan(solution.tallies))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("abov", "bcell"), 'unknown tally "abov"; did you mean "above"'),
        (("lowest", "bcell", 5.0, 4.0), "closes at 4 d; later than it opens, at 5 d"),
        (("lowest", "bcell", 5.0, 5.0), "closes at 5 d; later than it opens, at 5 d"),
        (("lowest", "bcell", np.nan), "the window of a tally"),
        (("lowest", "bcell", 0.0, np.nan), "the window of a tally"),
        (("above", "bcell"), 'a tally of the time "above" needs a level'),
        (("below", "bcell", 0.0, 1.0, np.inf), 'a tally of the time "below" needs a level'),
    ],
)
def test_wrong_tallies(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tally(*arguments)


def test_a_tally_of_another_output_is_refused():
    with pytest.raises(ValueError, match='output "amont"; did you mean "amount"'):
        by_hand(Tally("lowest", "amont"))


def test_a_tally_that_was_not_asked_for():
    solution = solve(KPD, DECAY, one([]), [1.0], tallies=(Tally("lowest", "bcell"),))
    with pytest.raises(ValueError, match="not in tuple"):
        solution.tally(Tally("highest", "bcell"))


# --- a window of each subject --------------------------------------------------------------------


@backends
@pytest.mark.parametrize("kind", ["above", "below", "lowest", "highest", "integral"])
def test_windows_of_each_subject(kind, backend):
    """As with one window for all, subject by subject; the steps end at other edges."""
    structure, n = cases.ALL[0], 3
    vectors, events = many(structure, n, 3)
    edges = np.sort(np.random.default_rng(3).uniform(0.0, 400.0, (n, 2)))
    level = float(np.median(cases.parameter(structure, "b0", vectors)))
    own = Tally(kind, "bcell", *map(tuple, edges.T.tolist()), level)
    found = solve(structure, vectors, events, TIMES, tallies=(own,), backend=backend)
    for i in range(n):
        alone = replace(own, opens=edges[i, 0], closes=edges[i, 1])
        part = replace(events, schedule=events.schedule[i : i + 1])
        wanted = solve(
            structure, vectors[i : i + 1], part, TIMES, tallies=(alone,), backend=backend
        )
        assert np.array_equal(found.tally(own)[i], wanted.tally(alone)[0])


def test_windows_of_a_part_of_the_subjects():
    """The stiff fall-back, and closed forms, take some of the subjects of a task."""
    own = Tally("lowest", "bcell", (0.0, 1.0, 2.0), 9.0)
    assert own.part(np.array([2, 0])) == replace(own, opens=(2.0, 0.0))
    assert own.part(np.array([True, False, True])) == replace(own, opens=(0.0, 2.0))
    alone = replace(own, opens=0.0)
    assert alone.part(np.array([1])) is alone


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        (((0.0, 5.0), (3.0, 4.0)), "closes at 4 d; later than it opens, at 5 d"),
        (((0.0, 5.0), 9.0), "windows for 2 subjects, params for 3"),
    ],
)
def test_what_windows_are_refused(window, sentence):
    structure = cases.ALL[0]
    vectors, events = many(structure, 3, 1)
    with pytest.raises(ValueError, match=sentence):
        solve(structure, vectors, events, TIMES, tallies=(Tally("lowest", "bcell", *window),))


def test_marks_have_one_window():
    with pytest.raises(ValueError, match="one window for all subjects"):
        Tally("marked", "bcell", (0.0, 1.0), (2.0, 3.0), marks=(1.5,))


def test_events_of_subjects_are_those_of_rows():
    structure, n = cases.ALL[0], 12
    events = cases.random_events(structure, n, 5)
    rows = np.array([events.time, events.kind, events.index, events.value, events.scale])
    subject = np.repeat(np.arange(n), np.diff(events.start))
    mixed = np.random.default_rng(5).permutation(len(subject))
    mixed = mixed[np.argsort(events.time[mixed], kind="stable")]
    columns = tuple(
        row[mixed].astype(kind)
        for row, kind in zip(rows, (float, int, int, float, int), strict=True)
    )
    again = Events.of_subjects(n, subject[mixed], columns)
    for name, array in vars(events).items():
        assert np.array_equal(getattr(again, name), array), name
