"""Observed counts and doses: NONMEM-style tables, every fault named by line and column.

`read_observations` gives one table, a row for each row of the file, in internal units:

==========  ======================================================================================
ID, LINE    subject, and line of the file
TIME        day on the clock of the file (dates: since the subject's first dose)
CLOCK       day to predict at: never goes back, and just after a dose that stands before the row at
            the same TIME; the same as TIME in a plain table
DATE        calendar date, only where the file has dates
EVID        0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose
AMT, PER    dose, and its unit: ``mg``, ``mg/kg`` or ``mg/m2``
RATE, DUR   rate [mg/day] where the file gives one (-1, -2: the model's rate, duration), and
            duration [day] (at a bioavailability of 1)
CMT         of a dose its route (empty: the model's first), of an observation as written
ADDL, II    further doses and their interval [day]
SS          0, 1 or 2
MDV         0, 1, 100 or 101; a row of 100 keeps its DV but is not fitted
DVID        output observed
DV          value observed, in UNIT; of a censored row its limit
CENS        0, 1 (left) or -1 (right)
LIMIT       the other end of the interval of a censored row, NaN where there is none
UNIT        unit of DV and LIMIT: cells/uL, mg/L or %
BASIS       of a percentage ``lymphocytes`` or ``baseline``, otherwise empty
ALC         lymphocytes of the sample [cells/uL]
VOLUME      volume counted [uL]
OCC         occasion, 1 where not given
REP         number among the observations of one output at one TIME, from 1
==========  ======================================================================================

and then the other columns of the file: covariates, and what is only carried through. `table.attrs`
holds `source`, `covariate_rule` and `faults`, the warnings and notes. For one subject of it:

- `one_subject(table, subject)`: its rows; `fitted_rows(table)`: the rows to compare with a
  prediction, which is to be multiplied by their column SCALE (NaN: 100 / predicted baseline count)
  and is, of a censored row, between LOWER and UPPER; `scaled_rows(table)`: all rows to predict;
- `regimen_of(table, default_route=...)`: its doses, resets and steady states as a regimen on CLOCK;
- `covariate_course(table, names)`: its covariates, piece by piece, on CLOCK;
- `day_zero(table)`: the date of TIME 0; `remarks(table)`: what a report must say about the data.
"""

from bcellsim.observations.faults import Fault
from bcellsim.observations.subject import (
    covariate_course,
    day_zero,
    fitted_rows,
    one_subject,
    regimen_of,
    remarks,
    scaled_rows,
)
from bcellsim.observations.table import check_data, read_observations

__all__ = [
    "Fault",
    "check_data",
    "covariate_course",
    "day_zero",
    "fitted_rows",
    "one_subject",
    "read_observations",
    "regimen_of",
    "remarks",
    "scaled_rows",
]
