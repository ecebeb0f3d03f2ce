"""The continuous course of an output: crossings, extremes and areas from its polynomials."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from bcellsim.engine.solution import TO_POWERS, Dense
from bcellsim.engine.tally import Tally

# Each step is looked at on this many points; between two of them the count is taken as monotone.
_POINTS = np.linspace(0.0, 1.0, 9)
_WEIGHTS = TO_POWERS @ (1.0 / np.arange(1, 6))  # of the integral over a whole step
_BISECTIONS = 40
# Lebesgue constant of the five nodes: how far beyond its values there an interpolant can go.
_LEBESGUE = 1.7


@dataclass(frozen=True)
class Trajectories:
    """The continuous course of one output for many subjects, as a polynomial per step.

    Parameters
    ----------
    start : int array (n_subjects + 1,)
        Where each subject's steps begin.
    time, width : float array (n_steps,)
        Start and width of each step [day].
    nodes : float array (n_steps, 5)
        Values at `bcellsim.engine.NODES` within each step.
    """

    start: np.ndarray
    time: np.ndarray
    width: np.ndarray
    nodes: np.ndarray

    @classmethod
    def of(cls, dense: Dense, output: str) -> Trajectories:
        """Take one recorded output of a solution."""
        return cls(dense.start, dense.time, dense.width, dense.nodes[output])

    @property
    def n_subjects(self) -> int:
        """Return the number of subjects."""
        return len(self.start) - 1

    @cached_property
    def subject(self) -> np.ndarray:
        """Return the subject of each step."""
        return np.repeat(np.arange(self.n_subjects), np.diff(self.start))

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what each step's polynomial cannot go below and above."""
        low, high = reduce(np.minimum, self.nodes.T), reduce(np.maximum, self.nodes.T)
        beyond = 0.5 * (_LEBESGUE - 1.0) * (high - low)
        return low - beyond, high + beyond

    @cached_property
    def _windows(self) -> dict[tuple, Pieces]:
        return {}

    def within(self, opens: float | tuple[float, ...], closes: float | tuple[float, ...]) -> Pieces:
        """Return the parts of the steps that lie in a window [day], or in that of each subject."""
        window = opens, closes
        if window not in self._windows:
            self._windows[window] = self._cut(
                *(np.broadcast_to(edge, self.n_subjects)[self.subject] for edge in window)
            )
        return self._windows[window]

    def _cut(self, opens, closes):
        end = self.time + self.width
        steps = np.flatnonzero((end > opens) & (self.time < closes))
        low = np.clip((opens[steps] - self.time[steps]) / self.width[steps], 0.0, 1.0)
        high = np.clip((closes[steps] - self.time[steps]) / self.width[steps], 0.0, 1.0)
        return Pieces(self, steps, low, high)

    def before(self, times: np.ndarray) -> np.ndarray:
        """Return the values as `times` are reached from before, shape (n_subjects, n_times).

        NaN where a subject's course does not reach a time.
        """
        if not len(self.time):
            return np.full((self.n_subjects, len(times)), np.nan)
        # Subjects one after the other on one long axis, on which the steps are sorted.
        end = self.time + self.width
        length = max(end.max(), times.max()) - min(self.time.min(), times.min()) + 1.0
        wanted = np.arange(self.n_subjects)[:, None] * length + times
        step = np.searchsorted(self.subject * length + self.time, wanted, side="left") - 1
        theta = (times - self.time[step]) / self.width[step]
        value = evaluate(_combine(self.nodes[step], TO_POWERS), np.minimum(theta, 1.0))
        inside = (step >= self.start[:-1, None]) & (theta <= 1.0 + 1e-9)
        return np.where(inside, value, np.nan)

    def tally(self, asked: Tally) -> np.ndarray:
        """Return a tally of every subject, as the loop of the compiled backend accumulates it."""
        if asked.kind == "marked":
            return self._marked(
                np.array([m for m in asked.marks if asked.opens <= m <= asked.closes])
            )
        pieces = self.within(asked.opens, asked.closes)
        if asked.kind == "above":
            days = pieces.days_above(asked.level)
            return np.column_stack([days, pieces.highest[0] > asked.level])
        if asked.kind == "below":
            return pieces.below(asked.level)
        if asked.kind == "integral":
            return np.column_stack([pieces.integral(), pieces.days(pieces.high - pieces.low)])
        return np.column_stack(pieces.lowest if asked.kind == "lowest" else pieces.highest)

    def _marked(self, marks):
        found = np.full((self.n_subjects, 2), np.nan)
        if len(marks):
            values = self.before(marks)
            first = np.where(np.isnan(values), np.inf, values).argmin(axis=1)
            found[:, 0] = values[np.arange(self.n_subjects), first]
            found[:, 1] = np.where(np.isnan(found[:, 0]), np.nan, marks[first])
        return found


@dataclass(frozen=True)
class Pieces:
    """Parts of steps: from `low` to `high` (0 to 1) within each of `steps`."""

    whole: Trajectories
    steps: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @cached_property
    def subject(self) -> np.ndarray:
        """Return the subject of each piece."""
        return self.whole.subject[self.steps]

    def some(self, which: np.ndarray) -> Pieces:
        """Return a choice of the pieces."""
        return Pieces(self.whole, self.steps[which], self.low[which], self.high[which])

    def powers(self) -> np.ndarray:
        """Return each piece's polynomial coefficients, constant first (n_pieces, 5)."""
        return _combine(self.whole.nodes[self.steps], TO_POWERS)

    def at(self, theta: np.ndarray) -> np.ndarray:
        """Return the time of positions within the steps [day]."""
        return self.whole.time[self.steps] + theta * self.whole.width[self.steps]

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and values on a fine grid of each piece, shape (n_pieces, 9)."""
        theta = self.low[:, None] + (self.high - self.low)[:, None] * _POINTS
        value = evaluate(self.powers()[:, None, :], theta)
        # The recorded ends, not their roundings: two steps must agree on the value at their joint.
        for end, node, whole in ((0, 0, self.low == 0.0), (-1, -1, self.high == 1.0)):
            value[whole, end] = self.whole.nodes[self.steps[whole], node]
        return theta, value

    def days(self, per_piece: np.ndarray) -> np.ndarray:
        """Sum a length within each piece over each subject [day], shape (n_subjects,)."""
        return np.bincount(
            self.subject,
            weights=per_piece * self.whole.width[self.steps],
            minlength=self.whole.n_subjects,
        )

    def crossings(self, level: float) -> Crossings:
        """Return every crossing of a level."""
        lowest, highest = (bound[self.steps] for bound in self.whole.bounds)
        near = self.some((lowest <= level) & (highest > level))
        theta, value = near.grid()
        above = value > level
        piece, point = np.nonzero(above[:, 1:] != above[:, :-1])
        rising = above[piece, point + 1]
        chosen = near.some(piece)
        root = _bisect(chosen.powers(), theta[piece, point], theta[piece, point + 1], level, rising)
        # A jump (or the rounding) between one step and the next crosses too.
        first, last = self.whole.nodes[self.steps, 0], self.whole.nodes[self.steps, -1]
        same = (np.diff(self.subject) == 0) & (np.diff(self.steps) == 1)
        joint = np.flatnonzero(same & ((first[1:] > level) != (last[:-1] > level))) + 1
        return Crossings(
            np.concatenate([chosen.subject, self.subject[joint]]),
            np.concatenate([chosen.at(root), self.whole.time[self.steps[joint]]]),
            np.concatenate([rising, first[joint] > level]),
        )

    def days_above(self, level: float) -> np.ndarray:
        """Return the time above a level [day], shape (n_subjects,)."""
        lowest, highest = (bound[self.steps] for bound in self.whole.bounds)
        all_above = self.some(lowest > level)
        near = self.some((lowest <= level) & (highest > level))
        theta, value = near.grid()
        above = value > level
        piece, point = np.nonzero(above[:, 1:] != above[:, :-1])
        rising = above[piece, point + 1]
        low, high = theta[piece, point], theta[piece, point + 1]
        root = _bisect(near.some(piece).powers(), low, high, level, rising)
        span = np.diff(theta, axis=1) * (above[:, 1:] & above[:, :-1])
        span[piece, point] = np.where(rising, high - root, root - low)
        return all_above.days(all_above.high - all_above.low) + near.days(span.sum(axis=1))

    def below(self, level: float) -> np.ndarray:
        """Return when each subject is first at or below a level, and when then first above it.

        Infinite where it is not, shape (n_subjects, 2).
        """
        n = self.whole.n_subjects
        crossings, never = self.crossings(level), np.full(n, -np.inf)
        below = crossings.first(n, rising=False, after=never)
        subject, first = np.unique(self.subject, return_index=True)
        opening = self.some(first)
        already = evaluate(opening.powers(), opening.low) <= level
        below[subject[already]] = opening.at(opening.low)[already]
        above = crossings.first(n, rising=True, after=below)
        return np.column_stack([below, above])

    def integral(self) -> np.ndarray:
        """Return the integral over the pieces of each subject, shape (n_subjects,)."""
        per_step = _combine(self.whole.nodes[self.steps], _WEIGHTS[:, None])[:, 0]
        cut = np.flatnonzero((self.low > 0.0) | (self.high < 1.0))
        part, order = self.some(cut), np.arange(1, 6)
        ends = part.high[:, None] ** order - part.low[:, None] ** order
        per_step[cut] = (part.powers() / order * ends).sum(axis=1)
        return self.days(per_step)

    @cached_property
    def highest(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the largest value of each subject, and its time [day]."""
        return self._extreme(1.0)

    @cached_property
    def lowest(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest value of each subject, and its time [day]."""
        return self._extreme(-1.0)

    def _extreme(self, sign):
        n = self.whole.n_subjects
        best, when = np.full(n, np.nan), np.full(n, np.nan)
        # Only steps that could hold the extreme: their bound reaches a value that is attained.
        attained = reduce(np.maximum, (sign * self.whole.nodes.T[:, self.steps]))
        attained[(self.low > 0.0) | (self.high < 1.0)] = -np.inf
        reached = np.full(n, -np.inf)
        np.maximum.at(reached, self.subject, attained)
        bound = sign * self.whole.bounds[1 if sign > 0 else 0][self.steps]
        near = self.some(bound >= reached[self.subject])
        if not len(near.steps):
            return best, when
        # Of these, those whose parabola through three points could still beat the best point.
        theta, value = near.grid()
        top = (sign * value).max(axis=1)
        reached = np.full(n, -np.inf)
        np.maximum.at(reached, near.subject, top)
        hope = 0.25 * np.abs(np.diff(value, 2, axis=1)).max(axis=1)
        chosen = np.flatnonzero(top + hope >= reached[near.subject])
        near, theta, value = near.some(chosen), theta[chosen], value[chosen]
        row, point = np.arange(len(chosen)), np.argmax(sign * value, axis=1)
        low = theta[row, np.maximum(point - 1, 0)]
        high = theta[row, np.minimum(point + 1, len(_POINTS) - 1)]
        powers = near.powers()
        root = _golden(powers, low, high, sign)
        refined, coarse = evaluate(powers, root), value[row, point]
        better = sign * refined > sign * coarse
        found = np.where(better, refined, coarse)
        time = near.at(np.where(better, root, theta[row, point]))
        order = np.lexsort((time, -sign * found, near.subject))
        subject, first = np.unique(near.subject[order], return_index=True)
        best[subject], when[subject] = found[order[first]], time[order[first]]
        return best, when


@dataclass(frozen=True)
class Crossings:
    """Crossings of a level: subject, time [day] and whether upwards."""

    subject: np.ndarray
    time: np.ndarray
    rising: np.ndarray

    def first(self, n_subjects: int, *, rising: bool, after: np.ndarray) -> np.ndarray:
        """Return each subject's first crossing in that direction after a time; inf if none."""
        found = np.full(n_subjects, np.inf)
        use = (self.rising == rising) & (self.time >= after[self.subject])
        np.minimum.at(found, self.subject[use], self.time[use])
        return found


def _combine(nodes, matrix):
    """Return nodes (..., 5) times a matrix (5, n), the same bits for a row whatever stands by it.

    A matrix product of the BLAS rounds differently with the number of rows and their place.
    """
    total = nodes[..., 0, None] * matrix[0]
    for j in range(1, 5):
        total = total + nodes[..., j, None] * matrix[j]
    return total


def evaluate(powers: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Evaluate polynomials (..., 5) at positions `theta` (...)."""
    value = powers[..., 4]
    for j in (3, 2, 1, 0):
        value = value * theta + powers[..., j]
    return value


def _bisect(powers, low, high, level, rising):
    """Return where each polynomial crosses the level between two positions that bracket it."""
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        beyond = (evaluate(powers, middle) > level) == rising
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return 0.5 * (low + high)


def _golden(powers, low, high, sign):
    """Return where each polynomial is largest (sign 1) or smallest (-1) between two positions."""
    ratio = 0.5 * (np.sqrt(5.0) - 1.0)
    for _ in range(_BISECTIONS):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        left = sign * evaluate(powers, a) > sign * evaluate(powers, b)
        low, high = np.where(left, low, a), np.where(left, b, high)
    return 0.5 * (low + high)
