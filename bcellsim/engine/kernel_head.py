"""Template of the compiled backend, first part: constants, exp and log, and the equations.

See `kernel_block.py`.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# Neither nnan nor reassoc: a NaN must be seen, and rounding to a whole number must not be undone.
_flags = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}
_compiled = njit(**_flags, _nrt=False)
_inlined = njit(**_flags, _nrt=False, forceinline=True)
_entry = njit(**_flags, nogil=True, cache=True)

#: constants
_FOLLOWING, _LIVE, _DENSE = range(3)
_TIME, _KIND, _INDEX, _EVENT_VALUE, _SCALE = range(5)
# Rows of a tally: what it asks of which output, whether its window is open, what it has found, what
# it waits for; and since when the output is above its level, or the best value so far.
_WHAT, _OF, _LEVEL, _OPENS, _CLOSES, _ACTIVE = 0, _W, 2 * _W, 3 * _W, 4 * _W, 5 * _W
_ONE, _OTHER, _FALLS, _RISES, _KEPT, _TALLY = 6 * _W, 7 * _W, 8 * _W, 9 * _W, 10 * _W, 11 * _W
_LOW, _HIGH, _AREA = _A + 5 * _W, _A + 6 * _W, _A + 7 * _W
_POINTS, _ITERATIONS = 8, 40


@intrinsic
def _bits(typingctx, x):
    return types.int64(types.float64), lambda c, b, s, a: b.bitcast(a[0], ir.IntType(64))


@intrinsic
def _float(typingctx, x):
    return types.float64(types.int64), lambda c, b, s, a: b.bitcast(a[0], ir.DoubleType())


# exp and log without branches or tables, so that loops over lanes stay packed; the polynomials are
# Chebyshev interpolants, relative error 1e-16 before rounding.
@_inlined
def _exp(x):
    """Return exp(x), from exp(-700) to exp(709)."""
    c = min(max(x, -700.0), 709.0)
    shifted = c * 1.4426950408889634 + 6755399441055744.0
    n = shifted - 6755399441055744.0
    r = (c - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10
    s = r * r
    f = s * s
    low = 0.5000000000000001 + 0.16666666666666669 * r
    low += s * (0.04166666666662413 + 0.008333333333330062 * r)
    high = 0.0013888888917213717 + 0.00019841269863053618 * r
    high += s * (2.4801521295954376e-05 + 2.7557268459997064e-06 * r)
    high += f * (2.7620088445409746e-07 + 2.510038549551032e-08 * r)
    p = 1.0 + (r + s * (low + f * high))
    scaled = _float(_bits(p) + (_bits(shifted) << 52))
    return _choose(x == x, scaled, x)


@_inlined
def _log(x):
    """Return log(x); -inf for 0, NaN below."""
    b = _bits(x)
    e = (b - 0x3FE6A09E667F3BCD) >> 52
    m = _float(b - (e << 52))
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    f = z * z
    q = 0.666666666666667 + 0.3999999999989938 * z
    q += f * (0.28571428626031065 + 0.22222211125723262 * z)
    q += f * f * (0.1818288978615799 + 0.15331699634642276 * z + 0.146167211662876 * f)
    n = float(e)
    value = n * 0.693147180369123816490 + (s * (2.0 + z * q) + n * 1.90821492927058770002e-10)
    return _choose(x > 0.0, value, _choose(x == 0.0, -np.inf, np.nan))


@intrinsic
def _choose(typingctx, test, a, b):
    """Return a or b without a branch."""
    signature = types.float64(types.boolean, types.float64, types.float64)
    return signature, lambda c, x, s, v: x.select(v[0], v[1], v[2])


@intrinsic
def _stopped(typingctx, flag):
    """Read flag[0] anew each time: another thread sets it."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(array.data, "monotonic", 8)

    return types.int64(flag), codegen


@_compiled
def _derive(F, lane):
    """Compute what depends on the parameters alone."""
    #: derive


@_compiled
def _initial(F, lane):
    """Put the states at baseline."""
    #: initial


@_compiled
def _to_amounts(F, lane):
    """Turn the solver's states into those of the register."""
    #: to_amounts


@_compiled
def _from_amounts(F, lane):
    """Turn the states of the register into the solver's."""
    #: from_amounts


@_compiled
def _observe(F, lane, time, output):
    """Return an output from the states in rows `_Y`."""
    #: observe
