"""The method: coefficients of Tsit5 and of its continuous extension, stated once.

Tsitouras 2011, Comput Math Appl 62:770-775, doi:10.1016/j.camwa.2011.06.002.
"""

from __future__ import annotations

import numpy as np

#: When each stage is taken, as a share of the step.
NODES = (0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0)

#: Weights of the earlier slopes in each stage; the last stage is the step itself.
STAGES = (
    (),
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401,
     -0.028269050394068383),
    (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081,
     2.324710524099774),
)  # fmt: skip

#: The step minus the embedded step of order four.
ERROR = (
    -0.00178001105222577714, -0.0008164344596567469, 0.007880878010261995, -0.1447110071732629,
    0.5823571654525552, -0.45808210592918697, 0.015151515151515152,
)  # fmt: skip


def _product(scale, *factors):
    """Return the polynomial scale x theta^2 x factors, or without theta^2 for four powers."""
    powers = np.array([scale])
    for factor in factors:
        powers = np.convolve(powers, factor)
    return powers


_T = (0.0, 1.0)
_EXTENSION = (
    _product(-1.0530884977290216, _T, (-1.3299890189751412, 1.0),
             (0.7139816917074209, -1.4364028541716351, 1.0)),
    _product(0.1017, _T, _T, (1.2949852507374631, -2.1966568338249754, 1.0)),
    _product(2.490627285651252793, _T, _T, (1.57803468208092486, -2.38535645472061657, 1.0)),
    _product(-16.54810288924490272, _T, _T, (-1.21712927295533244, 1.0),
             (-0.61620406037800089, 1.0)),
    _product(47.37952196281928122, _T, _T, (-1.203071208372362603, 1.0),
             (-0.658047292653547382, 1.0)),
    _product(-34.87065786149660974, _T, _T, (-1.2, 1.0), (-0.666666666666666667, 1.0)),
    _product(2.5, _T, _T, (-1.0, 1.0), (-0.6, 1.0)),
)  # fmt: skip

#: Power m = 1..4 of the position in the step that each slope contributes (7, 4).
EXTENSION = np.array(_EXTENSION)[:, 1:]


def extension_at(theta):
    """Return the weights of the slopes in the continuous extension at a position of the step."""
    return [float(weight) for weight in EXTENSION @ theta ** np.arange(1, 5)]


#: Where the slope of the continuous extension is compared with the equations.
#:
#: Between its stages at 0.33 and 0.9 of a step Tsit5 looks at nothing, and its error estimate
#: hardly sees a steep switch there (an individual Hill exponent can be 50): without this the
#: largest error of 1,000 patients of Yu 2022 was 90 rtol. The difference is weighted lightly: 0.1
#: leaves the same largest errors (4 rtol over 400 random subjects) as 1, at 10 % fewer steps.
GAP, GAP_WEIGHT = 0.6, 0.1
GAP_VALUE = extension_at(GAP)
GAP_SLOPE = tuple(float(w) for w in EXTENSION @ (np.arange(1, 5) * GAP ** np.arange(4)))
