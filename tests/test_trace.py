"""The reader of equations: what it reads means what Python means, and the rest is refused."""

import inspect
import math
import re
from dataclasses import replace
from math import exp, tau

import cases
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bcellsim.engine.graph import FUNCTIONS
from bcellsim.engine.lower import Equations, kernel_source
from bcellsim.engine.trace import TIME, Vector, trace
from bcellsim.structures import get_structure

# A division by a parameter is a product with its inverse, and a power exp and log: some roundings.
ROUNDINGS = 1e-12

each = cases.each
KPD = get_structure("kpd")


def evaluated(node, inputs, known=None):
    """Return the number that a graph stands for, in IEEE arithmetic as the kernel has it."""
    known = {} if known is None else known
    if node.op == "number":
        return node.args[0]
    if node.op == "input":
        vector, index = node.args
        return float(inputs[vector][index])
    if node not in known:
        args = [evaluated(arg, inputs, known) for arg in node.args]
        with np.errstate(all="ignore"):
            known[node] = float(_MEANING[node.op](*map(np.float64, args)))
    return known[node]


_MEANING = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
    "/": lambda a, b: a / b, "neg": lambda a: -a, "abs": abs, "min": min, "max": max,
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "select": lambda test, a, b: a if test else b,
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
    "and": lambda a, b: bool(a) and bool(b), "or": lambda a, b: bool(a) or bool(b),
    "not": lambda a: not a,
}  # fmt: skip


# Functions of (t, y, p, out) that may be written; each is read, and run by Python.

WRITTEN = []
SLOPE, WEIGHTS, SWITCHED_ON = 0.25, (0.5, (1.5, -2.0)), True
LAST = -1


def written(function):
    """Enter a function among those that Python and the reader must agree on."""
    WRITTEN.append(function)
    return function


@written
def if_without_else(t, y, p, out):
    value = 1.0
    if y[0] > 0.5:
        value = 2.0 * y[0]
    out[0] = value
    out[1] = value - 1.0


@written
def if_elif_else(t, y, p, out):
    if y[0] < -1.0:
        low = y[1]
    elif y[0] < 0.0:
        low = -y[1]
    elif y[0] == 0.0:
        low = 7.0
    else:
        low = y[2]
    out[0] = low
    if y[1] != y[2]:
        out[1] = 1.0
    else:
        out[1] = 2.0


@written
def nested_if(t, y, p, out):
    out[0] = out[1] = 0.0
    if y[0] >= 0.0:
        out[0] = 1.0
        if y[1] >= 0.0:
            out[1] = y[2]
            if y[2] <= p[0]:
                out[0] += 2.0
        else:
            out[1] = -y[2]


@written
def early_return(t, y, p, out):
    out[0] = y[0]
    out[1] = -1.0
    if y[0] > 1.0:
        return
    out[1] = y[1]
    if y[0] > 0.0:
        if y[1] > 0.0:
            return
        out[0] = 3.0
    out[1] = 5.0


def sign_of(x):
    if x > 0.0:
        return 1.0
    if x < 0.0:
        return -1.0
    return 0.0


def branches(x, level):
    if x > level:
        above = True
        if x > 2.0 * level:
            return 3.0
    else:
        above = False
    return 2.0 if above else 1.0


@written
def values_of_returns(t, y, p, out):
    out[0] = sign_of(y[0]) + 10.0 * sign_of(y[1])
    out[1] = branches(y[2], p[0])


@written
def if_of_a_constant(t, y, p, out):
    if SWITCHED_ON and not SLOPE > 1.0:
        out[0] = y[0]
    else:
        out[0] = math.log(-1.0)
    out[1] = y[1] if SLOPE < 0.0 else y[2]


@written
def conditional_expressions(t, y, p, out):
    out[0] = y[0] if y[0] > y[1] else y[1] if y[1] > y[2] else y[2]
    out[1] = (1.0 if t > 2.0 else 3.0) * y[0]


@written
def and_or_not(t, y, p, out):
    out[0] = 1.0 if (y[0] > 0.0 and y[1] > 0.0) or not y[2] > 0.0 else 0.0
    if not (y[0] > 0.0 or (y[1] > 0.0 and t >= 1.0)):
        out[1] = y[2]
    else:
        out[1] = 4.0


@written
def chained_comparison(t, y, p, out):
    out[0] = 1.0 if -1.0 < y[0] <= y[1] < 2.0 else 0.0
    out[1] = 1.0 if 0.0 < SLOPE < y[0] else 0.0


@written
def comparisons_as_numbers(t, y, p, out):
    out[0] = (y[0] > 0.0) * y[1]
    out[1] = float(y[1] <= y[2]) - 0.5


@written
def loop_over_a_range(t, y, p, out):
    total, product = 0.0, 1.0
    for i in range(3):
        total += (i + 1) * y[i]
    for i in range(2, -1, -1):
        product *= y[i] - i
    out[0] = total
    out[1] = product / i if i else product


@written
def loop_over_tuples(t, y, p, out):
    total = 0.0
    for weight, state in ((0.5, y[0]), (SLOPE, y[2])):
        total += weight * state
    for weight in WEIGHTS[1]:
        total -= weight * y[1]
    else:
        total += 1.0
    out[0] = total
    for i, value in ((0, y[1]), (1, y[2])):
        out[i] = value
    out[0] += total


@written
def loop_with_an_if(t, y, p, out):
    count, largest = 0.0, y[0]
    for i in range(3):
        if y[i] > 0.0:
            count += 1.0
        largest = y[i] if y[i] > largest else largest
    out[0] = count
    out[1] = largest


@written
def unpacking(t, y, p, out):
    a, (b, c) = y[0], (y[1], y[2])
    a, b = b, a
    [d, e] = [c, a]
    out[0], out[1] = a - 2.0 * b, d + e


@written
def augmented_assignment(t, y, p, out):
    x = y[0]
    x += y[1]
    x -= 2.0
    x *= y[2]
    x /= p[0]
    out[0] = x
    out[0] += 1.0
    x **= 2
    out[1]: float = x
    out[1] -= y[0]


def scaled(x, by=2.0, *, plus=SLOPE):
    """Return a line."""
    return by * x + plus


def both(x, scale):
    low = scaled(x, scale)
    return low, scaled(low, plus=0.0)


@written
def calls_of_calls(t, y, p, out):
    low, high = both(scaled(y[0]), scale=y[1])
    out[0] = low + scaled(by=y[2], x=high)
    out[1] = scaled(y[0], plus=p[1]) if scaled(y[0]) > 0.0 else scaled(-y[0], 3.0)


def fill(y, out):
    out[0] = y[0]
    out[1] = y[1] * 2.0


@written
def a_call_that_writes(t, y, p, out):
    fill(y, out)
    out[1] += 1.0


@written
def constants(t, y, p, out):
    """Constants of the module and of math."""
    out[0] = SLOPE * y[0] + WEIGHTS[1][0] * math.pi + tau
    out[1] = WEIGHTS[LAST][1] * y[1] + SWITCHED_ON + 7 // 2 + 7 % 4 + 2**3


def made_with(factor, index):
    """Return a function that keeps constants."""

    def closure(t, y, p, out):
        out[0] = factor * y[index]
        out[1] = scaled(y[index], factor)

    return closure


written(made_with(3.0, 1))
written(made_with(-0.5, 2))


@written
def functions(t, y, p, out):
    out[0] = min(y[0], y[1], y[2]) + max(y[0], y[1], 0.5) - abs(y[2]) + math.fabs(y[0]) + exp(y[1])
    out[1] = min((y[0], p[0])) + max(y[1], -math.inf) + float(y[2])


def smallest(a, b, c):
    return min(a, b, c)


@written
def logarithms_and_roots(t, y, p, out):
    x = abs(y[0]) + 0.125
    out[0] = math.log(x) + math.log2(x) - math.log10(x) + math.sqrt(x) + smallest(x, y[1], 1.0)
    out[1] = math.tanh(y[1]) + math.tanh(50.0 * y[2]) + math.log2(8.0) + math.sqrt(2.0)


@written
def powers(t, y, p, out):
    x = abs(y[0]) + 0.125
    out[0] = y[0] ** 2 + y[1] ** 3 - y[2] ** 4 + x**-1 + x**-3 + x**0.5 + y[1] ** 1
    out[1] = x ** p[0] + math.pow(x, y[1]) + x**2.5 + x**7 + 2.0 ** y[2] + math.pow(2.0, 3)


@written
def negative_positions(t, y, p, out):
    out[-2] = y[-1] - y[-3]
    out[LAST] = (y[0], y[1])[-1]


@written
def signs(t, y, p, out):
    out[0] = -y[0] + +y[1] - -2.0
    out[1] = -(y[0] - y[1]) / -p[0]


@written
def the_time(t, y, p, out):
    out[0] = t * y[0]
    out[1] = math.exp(-p[0] * t)


@written
def reading_what_was_written(t, y, p, out):
    out[0] = y[0] + y[1]
    out[1] = out[0] * out[0]
    if out[1] > 1.0:
        out[0] = 0.0
    pass


def filled_early(y, out):
    out[0] = out[1] = y[0]
    if y[0] > 1.0:
        return
    out[1] = y[1]


@written
def call_that_returns_early(t, y, p, out):
    filled_early(y, out)


@written
def whole_powers_of_negative_numbers(t, y, p, out):
    out[0] = y[0] ** 5
    out[1] = y[1] ** -6 if abs(y[1]) > 0.1 else 0.0


@written
def zeroth_power(t, y, p, out):
    out[0] = y[0] ** 0
    out[1] = y[1] ** 0.0


values = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0]) | st.floats(-3.0, 3.0)
vectors = st.tuples(values, values, values)


@pytest.mark.parametrize("function", [pytest.param(f, id=f.__name__) for f in WRITTEN])
@settings(max_examples=40)
@given(t=st.floats(0.0, 5.0), y=vectors, p=st.tuples(*3 * [st.floats(0.125, 3.0)]))
@example(t=0.0, y=(0.0, 0.0, 0.0), p=(1.0, 1.0, 1.0))
def test_what_is_read_is_what_python_does(function, t, y, p):
    wanted = [None, None]
    function(t, y, p, wanted)
    out = Vector("out", 2, readable=False)
    trace(function, TIME, Vector("y", 3), Vector("p", 3), out)
    found = [evaluated(node, {"t": [t], "y": y, "p": p}) for node in out.items]
    scale = sum(map(abs, (*y, *map(float, wanted), 1.0)))
    assert found == pytest.approx(wanted, rel=ROUNDINGS, abs=ROUNDINGS * scale)


def test_a_function_may_give_numbers_back():
    def pair(y):
        return y[0] + 1.0, (y[1], 2)

    a, (b, c) = trace(pair, Vector("y", 2))
    assert [evaluated(node, {"y": [3.0, 5.0]}) for node in (a, b, c)] == [4.0, 5.0, 2.0]


def test_equal_operations_are_one():
    def twice(y, out):
        out[0] = math.exp(y[0] * y[1]) + 1.0
        out[1] = math.exp(y[0] * y[1]) + 1.0

    out = Vector("out", 2)
    trace(twice, Vector("y", 2), out)
    assert out.items[0] is out.items[1]


def test_every_function_of_math_is_tested():
    sources = "".join(inspect.getsource(f) for f in (functions, logarithms_and_roots, powers))
    assert all(re.search(rf"\b{name}\(", sources) for name in FUNCTIONS)


# The structures' own equations

shares = st.lists(st.floats(0.0, 1.0), min_size=40, max_size=40)


@each
@given(st.integers(0, 2**32 - 1), shares, st.floats(0.0, 400.0))
def test_the_equations_of_a_structure(structure, seed, shares, t):
    n, m = len(structure.states), len(structure.outputs)
    p = cases.random_vectors(structure, 1, seed)[0].tolist()
    y = [0.0 if x < 0.1 else 10.0 ** (8.0 * x - 5.0) for x in shares[:n]]
    u = [100.0 * x for x in shares[n : 2 * n]]
    inputs = {"t": [t], "y": y, "p": p, "u": u}
    equations = Equations(structure)
    slopes, outputs, baseline = [0.0] * n, [0.0] * m, [0.0] * n
    structure.rhs(t, y, p, u, slopes)
    structure.observe(t, y, p, outputs)
    structure.initial(p, baseline)
    pairs = [(equations.slopes, slopes), (equations.outputs, outputs)]
    pairs.append((equations.baseline, baseline))
    for nodes, function in (
        (equations.to_amounts, structure.to_amounts),
        (equations.from_amounts, structure.from_amounts),
    ):
        assert (function is None) == (nodes == [None] * n)
        if function:
            converted = list(y)
            function(converted, p)
            pairs.append((nodes, converted))
    # A slope is a difference of fluxes, whose roundings are relative to the largest.
    fluxes = max(map(abs, (*y, *u))) * max(1.0, *p)
    for nodes, wanted in pairs:
        found = [evaluated(node, inputs) for node in nodes]
        assert found == pytest.approx(wanted, rel=1e-9, abs=ROUNDINGS * fluxes)


# What cannot be read is refused, with the file, the line and the reason. `# here` marks the line.

REFUSED = []


def refused(sentence, of=None):
    """Enter a right-hand side that is refused, and the sentence it is refused with."""

    def enter(function):
        REFUSED.append(pytest.param(function, of or function, sentence, id=function.__name__))
        return function

    return enter


@refused(r"a `while` statement cannot be lowered; use floats")
def a_while(t, y, p, u, dy):
    x = 1.0
    while x < y[0]:  # here
        x += 1.0


@refused(r"a `try` statement cannot be lowered; use floats")
def a_try(t, y, p, u, dy):
    try:  # here
        dy[0] = 1.0
    except ValueError:
        dy[0] = 2.0


@refused(r"a `break` statement cannot be lowered")
def a_break(t, y, p, u, dy):
    for i in range(2):
        dy[i] = 0.0
        break  # here


@refused(r"a `functiondef` statement cannot be lowered")
def a_function_inside(t, y, p, u, dy):
    def inner(x):  # here
        return x

    dy[0] = inner(1.0)


@refused(r"`\[2\.0 \* s for s in y\]` cannot be lowered; use floats")
def a_comprehension(t, y, p, u, dy):
    dy[0], dy[1] = [2.0 * s for s in y]  # here


@refused(r'"sum" cannot be lowered; use floats')
def another_built_in(t, y, p, u, dy):
    dy[0] = sum(y)  # here


@refused(r'"np" cannot be lowered; use floats')
def a_numpy_function(t, y, p, u, dy):
    dy[0] = 1.0
    dy[1] = np.exp(y[0])  # here


@refused(r"`'fast'`: a number is wanted")
def a_string(t, y, p, u, dy):
    dy[0] = "fast"  # here


@refused(r"`None`: a number is wanted")
def a_none(t, y, p, u, dy):
    dy[0] = None  # here


@refused(r'unknown function of math "sqr"; did you mean "sqrt"\?')
def a_misspelt_function(t, y, p, u, dy):
    dy[0] = math.sqr(y[0])  # here


@refused(r'unknown function of math "sin"')
def another_function_of_math(t, y, p, u, dy):
    dy[0] = (
        1.0 + math.sin(y[0])  # here
    )


@refused(r"`math.exp\(y\[0\], 2.0\)`: wrong number of arguments")
def too_many_arguments(t, y, p, u, dy):
    dy[0] = math.exp(y[0], 2.0)  # here


@refused(r"`y\[0\].real` cannot be lowered")
def an_attribute(t, y, p, u, dy):
    dy[0] = y[0].real  # here


@refused(r"`y\[0\]` must be a constant whole number")
def a_position_that_varies(t, y, p, u, dy):
    dy[0] = p[y[0]]  # here


@refused(r"`0.5` must be a constant whole number")
def a_position_between_two(t, y, p, u, dy):
    dy[0] = y[0.5]  # here


@refused(r"`y\[2\]`: position 2, but it has 2 elements")
def a_position_beyond_the_end(t, y, p, u, dy):
    dy[0] = y[2]  # here


@refused(r"`dy\[-3\]`: position -3, but it has 2 elements")
def a_position_before_the_start(t, y, p, u, dy):
    dy[-3] = 0.0  # here


@refused(r"`t` has no elements")
def a_position_in_a_number(t, y, p, u, dy):
    dy[0] = t[0]  # here


@refused(r"`dy\[1\]` is read before it is written")
def reading_before_writing(t, y, p, u, dy):
    dy[0] = 1.0
    dy[0] = dy[1]  # here


@refused(r"`dy\[0\]` is read before it is written")
def adding_before_writing(t, y, p, u, dy):
    dy[0] += y[0]  # here


@refused(r'"slop" is not defined')
def an_unknown_name(t, y, p, u, dy):
    slope = 1.0
    dy[0] = slop * slope  # noqa: F821  # here


def one_branch(x):
    if x > 0.0:
        value = 1.0
    else:
        other = 2.0  # noqa: F841
    return value  # here


@refused(r"`value` has no number in one branch of the `if` of line \d+", of=one_branch)
def unbound_in_one_branch(t, y, p, u, dy):
    dy[0] = one_branch(y[0])


@refused(r"`dy\[0\]` has no number in one branch of the `if` of line \d+")
def unwritten_in_one_branch(t, y, p, u, dy):
    if y[0] > 0.0:
        dy[0] = 1.0
    dy[1] = dy[0]  # here


def endless(x):
    return endless(x) + 1.0  # here


@refused(r"endless calls itself without end", of=endless)
def a_recursion(t, y, p, u, dy):
    dy[0] = endless(y[0])


@refused(r"`lambda x: x` cannot be lowered")
def a_lambda_inside(t, y, p, u, dy):
    shift = lambda x: x  # noqa: E731  # here
    dy[0] = shift(y[0])


@refused(r"sign_of: too many positional arguments")
def a_wrong_call(t, y, p, u, dy):
    dy[0] = sign_of(y[0], 2.0)  # here


@refused(r"a loop must run over range\(\) of constants or over a tuple")
def a_loop_over_a_vector(t, y, p, u, dy):
    for i in y:  # here
        dy[0] = i


@refused(r"`y\[0\]` must be a constant whole number")
def a_loop_of_varying_length(t, y, p, u, dy):
    for i in range(y[0]):  # here
        dy[i] = 0.0


@refused(r"3 values are wanted here")
def unpacking_too_few(t, y, p, u, dy):
    a, b, c = y[0], y[1]  # here
    dy[0] = a + b + c


@refused(r"`y`: a number is wanted")
def a_vector_as_a_number(t, y, p, u, dy):
    dy[0] = 2.0 * y  # here


@refused(r'`y\[0\] % 2.0`: operator "%" is for constants only')
def a_remainder(t, y, p, u, dy):
    dy[0] = y[0] % 2.0  # here


@refused(r"`1 << 2` cannot be lowered")
def a_shift(t, y, p, u, dy):
    dy[0] = 1 << 2  # here


@refused(r"`y\[0\] is t` cannot be lowered")
def an_identity(t, y, p, u, dy):
    dy[0] = 1.0 if y[0] is t else 2.0  # here


@refused(r"`math.log\(0.0\)`: ")
def a_constant_that_has_no_value(t, y, p, u, dy):
    dy[0] = math.log(0.0)  # here


TABLE = np.array([1.0, 2.0])


@refused(r"`dy\[0\]` has no number in one branch of the `if` of line")
def a_state_read_but_unwritten_in_one_branch(t, y, p, u, dy):
    if y[0] > 0.0:
        dy[0] = 1.0
    dy[1] = dy[0]  # here


@refused('"TABLE" cannot be lowered')
def an_array(t, y, p, u, dy):
    dy[0] = TABLE[0]  # here


@refused(r"`\(-8.0\) \*\* 0.5`: the root of a negative number")
def a_complex_number(t, y, p, u, dy):
    dy[0] = (-8.0) ** 0.5  # here


@refused(r"`max\(\)`: two numbers are wanted")
def a_largest_of_nothing(t, y, p, u, dy):
    dy[0] = max()  # here


@refused("a `return` that values decide cannot be lowered inside a loop")
def a_return_within_a_loop(t, y, p, u, dy):
    dy[0] = dy[1] = 0.0
    for i in range(2):
        if y[i] > 1.0:  # here
            return
        dy[i] = 1.0


@refused(r"`y\[0\]` is a number, not a condition")
def a_number_or_a_default(t, y, p, u, dy):
    dy[0] = y[0] or 2.5  # here


def test_a_state_unwritten_in_one_branch_is_refused():
    def rhs(t, y, p, u, dy):
        if y[0] > 0.0:
            dy[0] = 1.0
        dy[1] = 0.0

    with pytest.raises(ValueError, match="structure kpd: rhs gives no value to virtual"):
        kernel_source(replace(KPD, rhs=rhs))


def line_of(function):
    """Return the line that is marked in a function."""
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if line.rstrip().endswith("# here"))


@pytest.mark.parametrize(("function", "of", "sentence"), REFUSED)
def test_refusals(function, of, sentence):
    place = rf"{re.escape(__file__)}, line {line_of(of)}, function {of.__name__}: "
    with pytest.raises(ValueError, match="^" + place + f"(?:{sentence})"):
        kernel_source(replace(KPD, rhs=function))


NAMELESS = lambda t, y, p, u, dy: None  # noqa: E731


def test_a_lambda_is_refused():
    line = inspect.getsourcelines(NAMELESS)[1]
    message = rf"{re.escape(__file__)}, line {line}: define <lambda> with `def`"
    with pytest.raises(ValueError, match=message):
        kernel_source(replace(KPD, rhs=NAMELESS))


def test_code_without_a_source_is_refused():
    space = {}
    exec("def typed(t, y, p, u, dy):\n    dy[0] = 1.0", space)
    with pytest.raises(ValueError, match=r"<string>, function typed: its source cannot be read"):
        kernel_source(replace(KPD, rhs=space["typed"]))


def half_written(t, y, p, u, dy):
    dy[1] = 1.0


def half_observed(t, y, p, out):
    out[1] = 1.0


@pytest.mark.parametrize(
    ("field", "function", "name"),
    [("rhs", half_written, "virtual"), ("observe", half_observed, "amount")],
)
def test_a_state_or_output_without_a_value(field, function, name):
    message = f"structure kpd: {function.__name__} gives no value to {name}"
    with pytest.raises(ValueError, match=message):
        kernel_source(replace(KPD, **{field: function}))
