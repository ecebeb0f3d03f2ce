"""Regimens: the shorthand, its error sentences, and what the operations keep."""

import doctest
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcellsim import regimen as module
from bcellsim.regimen import Event, Regimen

LABEL = "20 mg sc at 0 d, 7 d, 14 d; 20 mg sc q4w from 4 w"  # ofatumumab in relapsing MS


def days_of(regimen, until=None):
    return [dose.time for dose in regimen.doses(until)]


# --- the shorthand ---------------------------------------------------------------------------

EXAMPLES = {  # text: (days before day 400, amount and unit of the last dose, route, duration [h])
    "1000 mg iv over 4 h at 0 d, 14 d; 500 mg iv over 4 h q26w x 4 from 26 w":
        ([0, 14, 182, 364], 500, "mg", "iv", 4),
    "20 mg sc q8w x 3 from 4 w": ([28, 84, 140], 20, "mg", "sc", 0),
    "20 mg sc q20w from 4 w": ([28, 168, 308], 20, "mg", "sc", 0),
    "375 mg/m2 max 500 mg iv over 4.75 h at 0 d, 7 d": ([0, 7], 375, "mg/m2", "iv", 4.75),
    "1 g iv": ([0], 1000, "mg", "iv", 0),
    "500 µg sc": ([0], 0.5, "mg", "sc", 0),
    "1.5 mg / kg IV": ([0], 1.5, "mg/kg", "iv", 0),
    " 20mg   SC q 4 w X2 ;; ": ([0, 28], 20, "mg", "sc", 0),
    "20 mg sc every 4 weeks x 2 from 1 week": ([7, 35], 20, "mg", "sc", 0),
    "20 mg sc q4w × 2": ([0, 28], 20, "mg", "sc", 0),
    "20 mg sc from 4 w x 2 q4w": ([28, 56], 20, "mg", "sc", 0),
    "20 mg sc q6mo x 2": ([0, 182.625], 20, "mg", "sc", 0),
    "20 mg sc over 30 min at 1 y": ([365.25], 20, "mg", "sc", 0.5),
    "20 mg sc at 3, 10": ([3, 10], 20, "mg", "sc", 0),
    "20 mg sc at 0, 1, 2 w": ([0, 7, 14], 20, "mg", "sc", 0),
    "20 mg sc at 0, 10 d, 2, 6 w": ([0, 10, 14, 42], 20, "mg", "sc", 0),
    "20 mg sc at 0 d, 7 d and 14": ([0, 7, 14], 20, "mg", "sc", 0),
    "20 mg sc q14 x 2 from 28": ([28, 42], 20, "mg", "sc", 0),
    "20 mg sc at -7 d": ([-7], 20, "mg", "sc", 0),
}  # fmt: skip


@pytest.mark.parametrize("text", EXAMPLES)
def test_shorthand_is_read(text):
    times, amount, unit, route, hours = EXAMPLES[text]
    regimen = Regimen.parse(text)
    doses = regimen.doses(400)
    assert [dose.time for dose in doses] == times
    last = doses[-1]
    assert (last.amount, last.unit, last.route) == (amount, unit, route)
    assert last.duration * 24 == pytest.approx(hours)
    assert Regimen.parse(regimen.shorthand()).doses(400) == doses


def test_largest_dose_is_read_in_mg():
    assert Regimen.parse("375 mg/m2 max 0.5 g iv").events[0].cap == 500


@pytest.mark.parametrize(
    "text",
    [
        LABEL,
        "1000 mg iv over 4 h at 0 d, 14 d; 500 mg iv over 4 h q26w x 4 from 26 w",
        "375 mg/m2 max 500 mg iv over 4.75 h at 0 d, 7 d",
        "20 mg sc at 0 w, 1 w, 6 w, 12 w",
        "100 mg iv at 0 d, 7 d, 14 d; 100 mg iv q6mo from 6 mo",
    ],
)
def test_shorthand_in_canonical_form_is_written_as_it_was_read(text):
    assert Regimen.parse(text).shorthand() == text
    assert Regimen.parse(text).name == text


def test_what_is_parsed_keeps_label_drug_and_source():
    regimen = Regimen.parse("1 g iv", label="rtx", drug="rituximab", source="a paper")
    assert (regimen.name, regimen.drug, regimen.source) == ("rtx", "rituximab", "a paper")


ERRORS = {
    "": "the regimen is empty",
    " ; ": "the regimen is empty",
    "20 mg": 'dose "20 mg" has no route; write sc or iv, as in "20 mg sc"',
    "20 mg q4w x 3": 'dose "20 mg" has no route; write sc or iv',
    "20 mg im at 0 d": 'unknown route "im"; write sc or iv',
    "20 mg sc iv": '"iv" is one too many',
    "20 mgg sc": 'unknown dose unit "mgg"; did you mean "mg"?',
    "20 d sc": 'unknown dose unit "d"; known:',
    "5 g/m2 iv": 'unknown dose unit "g/m2"; did you mean "mg/m2"?',
    "5 g/kg iv": 'unknown dose unit "g/kg"; did you mean "mg/kg"?',
    "20 sc": "the dose has no unit; write mg, mg/kg or mg/m2",
    "rituximab 20 mg sc": '"rituximab 20 mg" is not a dose, such as "20 mg"',
    "mg sc": '"mg" is not a dose',
    "0 mg sc": "a dose must be a number above 0, not 0 mg",
    "-20 mg sc": "a dose must be a number above 0, not -20 mg",
    "1e999 mg sc": "a dose must be a number above 0, not inf mg",
    "20 mg max 30 mg sc": 'dose "20 mg" cannot have a max',
    "3 mg/kg max 3 mg/kg iv": 'unknown dose unit "mg/kg"; did you mean "mg"?',
    "3 mg/kg max 0 mg iv": "max must be a number above 0, not 0 mg",
    "20 mg sc over -1 d": "the duration must not be negative, not -1 d",
    "20 mg sc over 1 mg": 'over: unit "mg" is a mass',
    "20 mg sc weekly": '"weekly" is not understood; after sc write over, at or q',
    "20 mg sc at 14 d, 7 d": 'times out of order in "at 14 d, 7 d": 14 d comes before 7 d',
    "20 mg sc at 0, 3, 1 w": "3 w comes before 1 w",
    "20 mg sc at 7 d, 1 w": "time 1 w is given twice",
    "20 mg sc at 1 w, 9": 'the last time in "at 1 w, 9" has no unit',
    "20 mg sc at": '"" is not a number with a unit, such as "4 w"',
    "20 mg sc at 0 d, 7 weks": 'unknown unit "weks"; did you mean "weeks"?',
    "20 mg sc q0w": "the interval must be longer than 0 d",
    "20 mg sc q-4w": "the interval must be longer than 0 d",
    "20 mg sc q4wk2": 'interval: unknown unit "wk2"; did you mean "wk"?',
    "20 mg sc q": 'interval: "" is not a number with a unit, such as "4 w"',
    "20 mg sc q4w q8w": '"q" is one too many',
    "20 mg sc q4w every 8 w": '"q" is one too many',
    "20 mg sc q4w x 0": 'at least 1, not "0"',
    "20 mg sc q4w x -2": 'at least 1, not "-2"',
    "20 mg sc q4w x 2.5": 'the number of doses (x) must be a whole number of at least 1, not "2.5"',
    "20 mg sc q4w x": 'at least 1, not ""',
    "20 mg sc q4w from 1 mg": 'from: unit "mg" is a mass',
    "20 mg sc x 3": "x and from need an interval, as in q4w x 2",
    "20 mg sc from 4 w": "x and from need an interval",
    "20 mg sc at 0 d q4w": "give times (at) or an interval (q), not both",
}


@pytest.mark.parametrize("text", ERRORS)
def test_error_names_the_item_and_what_is_wrong(text):
    with pytest.raises(ValueError, match=re.escape(ERRORS[text])) as caught:
        Regimen.parse(f"1 g iv at 0 d; {text}" if text.strip(" ;") else text)
    message = str(caught.value)
    assert f'in "{text}": ' in message or not text.strip(" ;")
    assert "\n" not in message


# --- events ------------------------------------------------------------------------------------


def _dose(**fields):
    return {"kind": "dose", "time": 0, **fields}


BAD_EVENTS = [
    ({"kind": "dosis", "time": 0}, 'unknown kind of event "dosis"; did you mean "dose"?'),
    (_dose(amount=20), 'dose "20 mg" has no route'),
    (_dose(amount=20, route="SC"), 'unknown route "SC"'),
    (_dose(amount=20, route="sc", unit="g"), 'unknown dose unit "g"'),
    (_dose(amount=math.nan, route="sc"), "above 0, not nan mg"),
    (_dose(amount=math.inf, route="sc"), "above 0, not inf mg"),
    ({**_dose(amount=1, route="sc"), "time": math.nan}, "time: nan is not a finite number"),
    (_dose(amount=1, route="sc", count=3), "needs an interval"),
    (_dose(amount=1, route="sc", count=None), "needs an interval"),
    (_dose(amount=1, route="sc", every=7, count=True), "a whole number"),
    (_dose(amount=1, route="sc", every=0), "longer than 0 d"),
    ({"kind": "multiply", "time": 0, "factor": 0.3}, '"multiply" needs a target'),
    ({"kind": "multiply", "time": 0, "target": "bcell", "factor": -1}, "must be 0 or more"),
    ({"kind": "modify", "time": 0, "target": "kin", "factor": math.nan, "duration": 7}, "not nan"),
    ({"kind": "modify", "time": 0, "target": "kin", "factor": 0.5}, '"modify" needs a duration'),
]  # fmt: skip


@pytest.mark.parametrize(("given", "sentence"), BAD_EVENTS)
def test_an_impossible_event_is_refused(given, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Event(**given)


def test_times_of_an_event_may_carry_their_unit():
    event = Event("modify", "4 w", target="kin", factor=0.5, duration="2 w", every="1 y", count=2)
    assert (event.time, event.duration, event.every) == (28, 14, 365.25)


COTHERAPY = Regimen((
    Event("multiply", 3, target="central", factor=0.3, every=2, count=5),
    Event("modify", 0, target="kin", factor=0.5, duration=14),
    Event("reset", 40),
))  # fmt: skip


def test_cotherapies_are_not_doses():
    both = Regimen.parse("20 mg sc at 0 d, 7 d") + COTHERAPY
    assert both.n_doses() == 2
    assert both.cumulative_dose() == 40
    assert [e.kind for e in both.expand(8)] == [
        "dose", "modify", "multiply", "multiply", "dose", "multiply",
    ]  # fmt: skip
    assert both.shorthand() == "20 mg sc at 0 d, 7 d"
    assert both.name != both.shorthand()
    assert COTHERAPY.first_dose is None
    assert both.delay(1, "1 d", shift_later=True).events[2:] == COTHERAPY.events
    assert both.drop(2).n_doses() == 1


# --- reading off -------------------------------------------------------------------------------


def test_counts_of_the_label():
    label = Regimen.parse(LABEL)
    assert label.is_open
    assert label.n_doses("1 y") == 3 + 13
    assert label.n_doses(until=28) == 3  # doses fall at t < until
    assert label.cumulative_dose(until=29) == 80
    assert label.first_dose == 0
    assert label.doses(until=0) == []


def test_dose_per_size_has_no_sum():
    assert Regimen.parse("1 g iv; 1 mg/kg iv at 7 d").cumulative_dose() is None


@pytest.mark.parametrize("ask", ["expand", "doses", "n_doses", "cumulative_dose"])
def test_open_ended_regimen_needs_an_end(ask):
    with pytest.raises(ValueError, match='open-ended; give until="2 y", or "x N"'):
        getattr(Regimen.parse(LABEL), ask)()


def test_interval_far_too_short_is_refused():
    with pytest.raises(ValueError, match="repeated too often"):
        Regimen.parse("1 mg sc q1min").expand("10 y")


def test_table_of_doses():
    table = Regimen.parse(LABEL).table()
    assert list(table) == [
        "dose", "day", "kind", "amount", "unit", "route", "duration_h", "interval",
    ]  # fmt: skip
    assert list(table.day) == [0, 7, 14, 28, 56, 84]
    assert list(table.dose) == [1, 2, 3, 4, 5, 6]
    assert list(table.interval[1:]) == [7, 7, 14, 28, 28]
    assert math.isnan(table.interval[0])
    assert len(Regimen.parse(LABEL).table("1 y")) == 16


def test_table_with_cotherapies():
    table = (Regimen.parse("1 g iv over 6 h at 7 d") + COTHERAPY).table()
    assert len(table) == 8
    assert table.dose.count() == 1
    row = table[table.kind == "dose"].iloc[0]
    assert (row.dose, row.amount, row.duration_h) == (1, 1000, 6)
    assert table.amount.count() == 1
    assert list(table.target[:2]) == ["kin", "central"]
    assert len(Regimen(()).table()) == 0


def test_printed_regimen():
    lines = str(Regimen.parse(LABEL, label="ofatumumab_rms", drug="ofatumumab")).splitlines()
    assert lines[:2] == ["ofatumumab_rms | ofatumumab", LABEL]
    assert lines[6].split() == ["4", "28", "4", "2", "w", "20", "mg", "sc"]
    assert lines[-1].strip() == "…  every 4 w, open-ended (cut at `until`)"
    assert "central x 0.3" in str(COTHERAPY)
    assert "…" not in str(COTHERAPY)


# --- operations ----------------------------------------------------------------------------------


def test_delay_and_drop_split_an_open_ended_event():
    label = Regimen.parse(LABEL, label="rms")
    late = label.delay(dose=6, by="3 w").drop(dose=9)
    assert days_of(late, 280) == [0, 7, 14, 28, 56, 105, 112, 140, 196, 224, 252]
    assert late.name == "rms, dose 6 delayed by 3 w, without dose 9"
    assert days_of(label.delay(5, 7, shift_later=True), 130) == [0, 7, 14, 28, 63, 91, 119]
    assert Regimen.parse(late.shorthand()).doses(400) == late.doses(400)


def test_delayed_dose_may_pass_later_ones():
    assert days_of(Regimen.parse("1 g iv at 0, 7, 14 d").delay(2, "3 w")) == [0, 14, 28]


def test_dose_may_come_earlier_but_not_before_the_first():
    regimen = Regimen.parse("1 g iv at 0, 7, 14 d")
    assert days_of(regimen.delay(3, "-1 w")) == [0, 7, 7]
    with pytest.raises(ValueError, match=r"dose 2 cannot come 8 d earlier: .* the first dose"):
        regimen.delay(2, "-8 d")


@pytest.mark.parametrize("change", [lambda r, n: r.drop(n), lambda r, n: r.delay(n, 1)])
def test_a_dose_that_does_not_exist_is_refused(change):
    regimen = Regimen.parse("20 mg sc q4w x 5")
    with pytest.raises(ValueError, match="there is no dose 6; number of doses: 5"):
        change(regimen, 6)
    for number in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="the number of a dose must be a whole number"):
            change(regimen, number)


def test_only_dose_can_be_dropped():
    none = Regimen.parse("1 g iv").drop(1)
    assert none.expand() == []
    assert none.name == "no doses"
    assert none.cumulative_dose() == 0


def test_courses():
    course = Regimen.parse("1 g iv at 0, 14 d", label="two")
    assert days_of(course.repeat(3, "26 w")) == [0, 14, 182, 196, 364, 378]
    assert course.repeat(3, "26 w").name == "two, 3 times every 26 w"
    with pytest.raises(ValueError, match="open-ended and cannot be repeated"):
        Regimen.parse(LABEL).repeat(2, "1 y")
    with pytest.raises(ValueError, match="number of courses must be a whole number"):
        course.repeat(0, "1 y")
    with pytest.raises(ValueError, match="longer than 0 d"):
        course.repeat(2, 0)


def test_union_of_two_drugs_is_refused():
    one, other = Regimen.parse("1 g iv", drug="rituximab"), Regimen.parse("20 mg sc", drug="ofa")
    with pytest.raises(ValueError, match='two drugs cannot be added: "rituximab" and "ofa"'):
        one + other
    assert (one + Regimen.parse("1 g iv at 7 d", label="b")).drug == "rituximab"
    with pytest.raises(TypeError):
        one + "1 g iv"


# --- properties ----------------------------------------------------------------------------------

few = settings(deadline=None, max_examples=60)
times = st.one_of(
    st.integers(0, 400).map(float),
    st.sampled_from([30.4375, 182.625, 365.25, 4.75 / 24, 10 / 1440]),
    st.floats(0, 400, allow_nan=False),
)
drugs = st.one_of(
    st.fixed_dictionaries({"amount": st.floats(1e-3, 1e4), "unit": st.just("mg")}),
    st.fixed_dictionaries({
        "amount": st.integers(1, 400).map(float), "unit": st.sampled_from(["mg/kg", "mg/m2"]),
        "cap": st.none() | st.floats(1, 2000),
    }),
)  # fmt: skip


@st.composite
def dose_events(draw, endless=True):
    more = draw(st.sampled_from(["once", "repeated", *(["endless"] if endless else [])]))
    every = (
        None
        if more == "once"
        else draw(st.integers(1, 300)) * draw(st.sampled_from([1.0, 7.0, 1 / 24, 30.4375]))
    )
    n = {"once": 1, "repeated": draw(st.integers(1, 6)), "endless": None}[more]
    return Event(
        "dose", draw(times), route=draw(st.sampled_from(["sc", "iv"])), every=every, count=n,
        duration=draw(st.sampled_from([0.0, 1 / 6, 4.75 / 24, 1.0, 0.123])), **draw(drugs),
    )  # fmt: skip


def regimens(**kwargs):
    return st.lists(dose_events(**kwargs), min_size=1, max_size=4).map(Regimen)


def without_time(doses):
    return [(d.amount, d.unit, d.route, d.duration) for d in doses]


@few
@given(regimens())
def test_shorthand_round_trip(regimen):
    again = Regimen.parse(regimen.shorthand())
    assert again.doses(500) == regimen.doses(500)
    assert again.is_open == regimen.is_open
    assert again.shorthand() == regimen.shorthand()


@few
@given(regimens(), regimens())
def test_union_has_the_doses_of_both(one, other):
    key = repr
    assert sorted((one + other).doses(400), key=key) == sorted(
        one.doses(400) + other.doses(400), key=key
    )


@few
@given(regimens(endless=False), st.floats(-100, 100))
def test_shift_moves_all(regimen, by):
    shifted = days_of(regimen.shift(by))
    assert shifted == pytest.approx([time + by for time in days_of(regimen)])


@few
@given(regimens(endless=False), st.data())
def test_delay_moves_one_and_drop_removes_it(regimen, data):
    before = days_of(regimen)
    i = data.draw(st.integers(0, len(before) - 1))
    by = data.draw(st.integers(0, 60))
    moved = sorted([*before[:i], before[i] + by, *before[i + 1 :]])
    assert days_of(regimen.delay(i + 1, by)) == pytest.approx(moved)
    later = before[:i] + [time + by for time in before[i:]]
    assert days_of(regimen.delay(i + 1, by, shift_later=True)) == pytest.approx(later)
    dropped = regimen.drop(i + 1)
    assert days_of(dropped) == pytest.approx(before[:i] + before[i + 1 :])
    assert without_time(dropped.doses()) == without_time(
        regimen.doses()[:i] + regimen.doses()[i + 1 :]
    ) or len({round(t, 6) for t in before}) < len(before)  # rounding may swap ties


@few
@given(regimens(endless=False), st.integers(1, 5), st.integers(1, 400))
def test_courses_multiply_the_doses(regimen, n, every):
    again = regimen.repeat(n, every)
    assert again.n_doses() == n * regimen.n_doses()
    wanted = sorted(time + k * every for k in range(n) for time in days_of(regimen))
    assert days_of(again) == pytest.approx(wanted)


@few
@given(regimens(), st.floats(0, 600))
def test_expanded_events_are_single_in_order_and_before_the_end(regimen, until):
    events = regimen.expand(until)
    assert all(event.count == 1 and event.every is None for event in events)
    assert [e.time for e in events] == sorted(e.time for e in events)
    assert all(event.time < until for event in events)


@few
@given(st.floats(0, 100), st.floats(1e-2, 300), st.integers(1, 40))
def test_repetition_equals_its_written_out_times(time, every, n):
    dose = {"kind": "dose", "amount": 20.0, "route": "sc"}
    repeated = Regimen((Event(time=time, every=every, count=n, **dose),))
    written = Regimen([Event(time=time + k * every, **dose) for k in range(n)])
    assert repeated.expand() == written.expand()


def test_examples_in_docstrings():
    assert doctest.testmod(module).failed == 0
