"""Lower a structure's equations to the text of a kernel of SIMD lanes."""

from __future__ import annotations

from pathlib import Path

from bcellsim.engine import events, solution, tableau, tally
from bcellsim.engine.bernstein import INNER, extreme, fitted
from bcellsim.engine.closed_form import affine, is_affine
from bcellsim.engine.equations import Equations
from bcellsim.engine.graph import fixed, make, number
from bcellsim.engine.writer import OUTCOME, Writer
from bcellsim.structures import Structure

#: Lanes of a block: two registers of 512 bits each. With 8 the compiler unrolls the loops over
#: lanes and does not turn them into SIMD, four times slower.
LANES = 16


class Source:
    """Fills the template of the lanes with the equations of one structure."""

    #: The parts of the template, in their order.
    template = ("kernel_head", "kernel_tally", "kernel_lane", "kernel", "kernel_block")

    def __init__(self, structure: Structure):
        self.equations = self.read(structure)
        self.n = self.equations.n
        self.rows, self.n_rows = {}, 0
        for name, height in self.heights():
            self.rows[name] = self.n_rows
            self.n_rows += LANES * height

    def read(self, structure):
        """Return the equations."""
        return Equations(structure)

    def heights(self):
        """Return the kinds of rows, and how many there are of each."""
        n, parameters = self.n, len(self.equations.structure.parameters)
        return [
            ("_Y", n), ("_U", n), *self.step_heights(), ("_A", 8),
            ("_ANY_FALLS", self.equations.m), ("_ANY_RISES", self.equations.m),
            ("_Q", len(self.equations.derived)), ("_P", parameters), ("_X", parameters),
            *((name, 1) for name in _SCALARS),
        ]  # fmt: skip

    def step_heights(self):
        """Return the kinds of rows that belong to the method."""
        return [("_NEW", self.n), ("_K", 7 * self.n), ("_C", 4 * self.n)]

    def fills(self):
        """Return the lines in the place of each name."""
        return {
            "constants": self.constants(),
            "derive": self.derive(),
            "initial": self.written(self.equations.baseline, "p"),
            "to_amounts": self.written(self.equations.to_amounts, "y"),
            "from_amounts": self.written(self.equations.from_amounts, "y"),
            "observe": self.returned(lambda node: self.computed(node, self.leaf("_Y"))),
            "output": [
                f"h = {self.row('_HS')}",
                *self.returned(lambda node: self.at(node, "theta", "time")),
            ],
            "outputs": self.outputs(),
            **self.step_fills(),
        }

    def step_fills(self):
        """Return the lines that belong to the method."""
        return {
            "slopes": self.slopes(),
            "settings": ["fine, width = False, 0.0"]
            + [f"atol{i} = atol[{i}]" for i in range(self.n)],
            "step": self.stages() + self.error(),
            "extension": self.extension(),
            "tallies": self.courses(),
            "accept": self.accept(),
        }

    def starred(self):
        """Return what stands in the template for a list of names, and these."""
        return "*_states", [f"y{i}" for i in self.stepped()]

    def stepped(self):
        """Return the states that Tsit5 steps."""
        return range(self.n)

    def text(self) -> str:
        """Return the kernel."""
        lines, fills, (star, names) = [], self.fills(), self.starred()
        folder = Path(__file__).parent
        parts = [(folder / f"{part}.py").read_text(encoding="utf-8") for part in self.template]
        for line in "\n".join(parts).splitlines():
            key = line.strip().removeprefix("#: ")
            line = line.replace(star, ", ".join(names))
            if line.strip().startswith("#: ") and key in fills:
                indent = line[: len(line) - len(line.lstrip())]
                lines += [indent + filled for filled in fills[key] or ["pass"]]
            else:
                lines.append(line)
        return "\n".join(lines) + "\n"

    def row(self, name, index=0):
        return f"F[{self.rows[name] + LANES * index} + lane]"

    def constants(self):
        names = ("DOSE", "RATE", "MULTIPLY", "FACTOR", "RESET", "OCCASION", "SAVE", "MARK")
        codes = {f"_{name}": getattr(events, name) for name in names}
        names = ("OK", "STEP_LIMIT", "STEP_SIZE", "NOT_FINITE")
        codes |= {f"_{name}": getattr(solution, name) for name in names}
        converted = {i for node in self.equations.from_amounts if node for _, i in node.inputs()}
        names = ("ABOVE", "BELOW", "LOWEST", "HIGHEST", "INTEGRAL", "MARKED")
        codes |= {f"_{name}": getattr(tally, name) for name in names}
        sizes = {
            "_CONVERTED": tuple(i in converted for i in range(self.n)),
            "_N": self.n, "_NP": len(self.equations.structure.parameters), "_W": LANES,
            "_OUTPUTS": self.equations.m,
            "_ROWS": self.n_rows // LANES, "_COUNTERS": len(_COUNTERS),
            "_FIRST_STEP": FIRST_STEP, "_EVENT_CARE": EVENT_CARE,
            "_EARLY": EARLY, "_EARLY_GROWTH": EARLY_GROWTH, "_MOST_PARTS": 1,
            "_NODES": tuple(solution.NODES.tolist()),
        }  # fmt: skip
        counters = {name: LANES * i for i, name in enumerate(_COUNTERS)}
        values = {**codes, **sizes, **self.rows, **counters}
        return [f"{name} = {value!r}" for name, value in values.items()]

    def leaf(self, states, time="time"):
        """Return how inputs are read, with the states in some rows."""
        rows = {"y": states, "p": "_P", "u": "_U", "q": "_Q"}

        def read(vector, index):
            return time if vector == "t" else self.row(rows[vector], index)

        return read

    def derive(self):
        writer = Writer(self.leaf("_Y"))
        for node, index in self.equations.derived.items():
            value = make("select", node, number(1.0), number(0.0)) if node.op in OUTCOME else node
            writer.lines.append(f"{self.row('_Q', index)} = {writer.name(value)}")
        return writer.lines

    def written(self, items, read):
        """Return the lines that write states in place."""
        writer = Writer(self.leaf("_Y"))
        targets = [(i, writer.name(item)) for i, item in enumerate(items) if item is not None]
        return writer.lines + [f"{self.row('_Y', i)} = {name}" for i, name in targets]

    def returned(self, computed):
        """Return the lines that return the output asked for, from those that compute each."""
        lines = []
        for o, node in enumerate(self.equations.outputs):
            body, name = computed(node)
            lines += [f"if output == {o}:", *("    " + line for line in [*body, f"return {name}"])]
        return [*lines, "return np.nan"]

    def computed(self, node, leaf, prefix="v"):
        """Return the lines that compute an output, and its name."""
        writer = Writer(leaf, self.equations.derived, prefix)
        name = writer.name(node)
        return writer.lines, name

    def at(self, node, theta, time, prefix="v"):
        """Return the lines that compute an output at a position of the step, and its name."""
        needs = sorted(i for vector, i in node.inputs() if vector == "y")
        states = [f"{prefix}y{i} = {self.state(i, theta)}" for i in needs]
        inner = self.leaf("_Y", time)
        lines, name = self.computed(
            node, lambda v, i: f"{prefix}y{i}" if v == "y" else inner(v, i), prefix
        )
        return states + lines, name

    def state(self, i, theta):
        """Return a state at a position of the step."""
        ends = {0.0: self.row("_Y", i), 1.0: self.row("_NEW", i)}
        return ends.get(theta, f"_state(F, lane, {i}, {theta})")

    def outputs(self):
        """Return the lines that compute an output of all lanes at their next output times."""
        lines = []
        for o, node in enumerate(self.equations.outputs):
            body, name = self.at(node, "theta", "time")
            body = [
                f"h = {self.row('_HS')}",
                f"theta = ({self.row('_NEXT')} - {self.row('_T')}) / h",
                f"time = max({self.row('_NEXT')} - {self.row('_CLOCK')}, 0.0)",
                *body,
                f"{self.row('_VALUE')} = {name}",
            ]
            lines += [f"if wanted[o] == {o}:", *("    " + line for line in over_lanes(body))]
        return lines

    def slopes(self):
        """Return the body of the right-hand side."""
        inner = self.leaf("_Y")
        writer = Writer(
            lambda vector, i: f"y{i}" if vector == "y" else inner(vector, i), self.equations.derived
        )
        names = [writer.name(self.equations.slopes[i]) for i in self.stepped()]
        return [*writer.lines, f"return {', '.join(names)},"]

    def called(self, states, time):
        """Return the call of the right-hand side for states and a time."""
        return f"_slopes(F, lane, max({time}, 0.0), {', '.join(states)})"

    def stages(self):
        lines = []
        for stage in range(1, 7):
            lines += over_lanes(self.stage(stage))
        return lines

    def stage(self, stage):
        lines = ["h = " + self.row("_HS")]
        for i in self.stepped():
            lines.append(f"y{i} = {self.combined(tableau.STAGES[stage], i)}")
            if stage == 6:
                lines.append(f"{self.row('_NEW', i)} = y{i}")
        time = f"{self.row('_TM')} + {tableau.NODES[stage]!r} * h"
        lines.append(f"f = {self.called([f'y{i}' for i in self.stepped()], time)}")
        k = (self.row("_K", stage * self.n + i) for i in self.stepped())
        return lines + [f"{name} = f[{m}]" for m, name in enumerate(k)]

    def combined(self, weights, i):
        """Return a state advanced by weighted slopes."""
        return f"{self.row('_Y', i)} + h * ({self.weighted(weights, i)})"

    def weighted(self, weights, i):
        return " + ".join(
            f"{w!r} * {self.row('_K', s * self.n + i)}" for s, w in enumerate(weights) if w
        )

    def error(self):
        """Return the largest of the embedded error and the defect in the gap, by the tolerance."""
        lines, steep = ["h = " + self.row("_HS")], self.steep()
        if steep:
            lines += [f"z{i} = {self.combined(tableau.GAP_VALUE, i)}" for i in range(self.n)]
            time = f"{self.row('_TM')} + {tableau.GAP!r} * h"
            lines.append(f"f = {self.called([f'z{i}' for i in range(self.n)], time)}")
        for i in range(self.n):
            lines.append(f"e{i} = abs({self.weighted(tableau.ERROR, i)})")
            if i in steep:
                lines += [
                    f"d{i} = abs(f[{i}] - ({self.weighted(tableau.GAP_SLOPE, i)}))",
                    f"e{i} = max(e{i}, {tableau.GAP_WEIGHT!r} * d{i}) + 0.0 * d{i}",
                ]
        lines += self.by_tolerance(range(self.n))
        return over_lanes([*lines, *self.largest([f"e{i}" for i in range(self.n)])])

    def by_tolerance(self, states):
        """Return the lines that divide errors of states by what is allowed, two a division."""
        lines = []
        for i in states:
            y, new = self.row("_Y", i), self.row("_NEW", i)
            lines.append(f"s{i} = atol{i} + rtol * max(abs({y}), abs({new}))")
        for i, j in zip(states[::2], states[1::2], strict=False):
            lines += [
                f"r = 1.0 / (s{i} * s{j})",
                f"e{i} = e{i} * s{j} * r",
                f"e{j} = e{j} * s{i} * r",
            ]
        odd = states[-1:] if len(states) % 2 else []
        return lines + [f"e{i} = e{i} / s{i}" for i in odd]

    def largest(self, terms):
        """Return the lines that write the largest of some errors a day."""
        lines = [f"worst = {terms[0]}", *(f"worst = max(worst, {term})" for term in terms[1:])]
        # The largest of numbers does not see a NaN; their sum does.
        lines.append(f"total = {' + '.join(terms)}")
        # The estimate hardly sees what happens at the very beginning of the step.
        lines.append(f"care = _choose({self.row('_FRESH')} > 0.0, _EVENT_CARE, 1.0)")
        error = "h * _choose(total == total, worst, total) * care"
        return [*lines, f"{self.row('_ERROR')} = {error}"]

    def steep(self):
        """Return the states whose slopes can change steeply: those not affine in the states."""
        states = frozenset(("y", i) for i in range(self.n))
        return [i for i, node in enumerate(self.equations.slopes) if not is_affine(node, states)]

    def accept(self):
        """Return the lines that move the lanes whose step is good."""
        lines = [f"good = {self.row('_GOOD')} > 0.0"]
        for i in range(self.n):
            for old, new in (("_Y", self.row("_NEW", i)), ("_K", self.row("_K", 6 * self.n + i))):
                lines.append(f"{self.row(old, i)} = _choose(good, {new}, {self.row(old, i)})")
        return over_lanes([*lines, f"{self.row('_T')} = {self.row('_REACHED')}", "_aim(F, lane)"])

    def extension(self):
        """Return the powers of the continuous extension of the states that are used."""
        lines = []
        for i in range(self.n):
            lines += [f"if used[{i}]:", *("    " + line for line in over_lanes(self.powers(i)))]
        return lines

    def powers(self, i):
        """Return the lines that write the powers of a state's continuous solution."""
        lines = ["h = " + self.row("_HS")]
        for m in range(4):
            weights = [float(w) for w in tableau.EXTENSION[:, m]]
            lines.append(f"{self.row('_C', 4 * i + m)} = h * ({self.weighted(weights, i)})")
        return lines

    def courses(self):
        """Return the lines that describe each output in the step, and follow it.

        Five Bernstein coefficients, of which two are its ends, their extremes, which bound it, and
        its area, in one loop: small ones would be unrolled, and not turned into SIMD.
        """
        lines = []
        for o, node in enumerate(self.equations.outputs):
            body, b = self.course(node)
            *coefficients, low, high, area = (self.row("_A", j) for j in range(8))
            body += [f"{row} = {name}" for row, name in zip(coefficients, b, strict=True)]
            body += [
                f"moved = {self.row('_MOVED')}",
                f"low = _choose(moved > 0.0, {extreme('min', b)}, np.inf)",
                f"high = _choose(moved > 0.0, {extreme('max', b)}, -np.inf)",
                f"{low}, {high} = low, high",
                f"{area} = _choose(moved > 0.0, 0.2 * moved * ({' + '.join(b)}), 0.0)",
                f"n += (low <= {self.row('_ANY_FALLS', o)}) | (high > {self.row('_ANY_RISES', o)})",
            ]
            block = ["n = 0", *over_lanes(body), f"_follow(F, {o}, n, tallies)"]
            lines += [f"if followed[{o}]:", *("    " + line for line in block)]
        return lines

    def combination(self, node):
        """Return an output as a constant and multiples of states, or None if it is not such."""
        try:
            constant, parts = affine(node, frozenset(("y", i) for i in range(self.n)))
        except ValueError:
            return None
        return (constant, parts) if parts and all(map(fixed, (constant, *parts.values()))) else None

    def course(self, node):
        """Return the lines that compute the coefficients of an output in the step, and names."""
        found = self.combination(node)
        if found is None:
            return self.fitted_course(node)
        (constant, parts), names = found, [f"b{j}" for j in range(5)]
        writer = Writer(self.leaf("_Y"), self.equations.derived)
        factors = {i: writer.name(factor) for (_, i), factor in parts.items()}
        offset = [] if constant is number(0.0) else [writer.name(constant)]
        lines = ["h = " + self.row("_HS"), *writer.lines]
        for i in factors:
            inner = [f"{self.row('_Y', i)} + {move}" for move in self.moves(i)]
            ends = self.row("_Y", i), self.row("_NEW", i)
            lines += [f"b{i}_{j} = {value}" for j, value in enumerate((ends[0], *inner, ends[1]))]
        for j, name in enumerate(names):
            terms = [f"b{i}_{j}" if f == "1.0" else f"{f} * b{i}_{j}" for i, f in factors.items()]
            lines.append(f"{name} = {' + '.join([*offset, *terms])}")
        return lines, names

    def moves(self, i):
        """Return how far beyond its start a state's inner Bernstein coefficients are."""
        rows = (tableau.EXTENSION @ INNER).T.tolist()
        return [f"h * ({self.weighted(weights, i)})" for weights in rows]

    def fitted_course(self, node):
        """Return the lines that fit an output through its values at five nodes, and names."""
        lines, values = ["h = " + self.row("_HS")], []
        for m, theta in enumerate(solution.NODES.tolist()):
            time = f"max({self.row('_TM')} + {theta!r} * h, 0.0)"
            body, name = self.at(node, theta, time, f"n{m}_")
            lines += body
            values.append(name)
        more, names = fitted(values)
        return lines + more, names


_SCALARS = (
    "_T", "_H", "_HS", "_TM", "_STOP", "_END", "_CLOCK", "_REACHED", "_NEXT", "_ERROR", "_STEPS",
    "_EDGE", "_REJECTED", "_GOOD", "_DUE", "_MOVED", "_LAST", "_FRESH", "_ENDS", "_VALUE",
)  # fmt: skip
_COUNTERS = ("_SUBJECT", "_ROW", "_EVENT", "_EVENTS", "_AHEAD", "_SLOT")

#: First step tried after an event [day], and how much smaller its estimated error must be: what
#: the drug does within seconds of a dose is seen by the first slope only, which has a fiftieth of
#: its weight in the estimate.
FIRST_STEP, EVENT_CARE = 0.1, 50.0
#: Below this step [day] the next may be larger by this factor, which soon makes up for a small one.
EARLY, EARLY_GROWTH = 0.1, 50.0


def over_lanes(lines):
    return ["for lane in range(_W):", *("    " + line for line in lines)]


def kernel_source(structure: Structure) -> str:
    """Return the text of a structure's kernel.

    Raises
    ------
    ValueError
        If an equation cannot be lowered; the sentence says which line and why.
    """
    return Source(structure).text()
