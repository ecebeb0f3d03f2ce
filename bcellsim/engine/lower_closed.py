"""The text of a kernel for a structure whose drug states have a closed form."""

from __future__ import annotations

from bcellsim.engine import collocation, solution
from bcellsim.engine.bernstein import fitted
from bcellsim.engine.closed_form import given, split
from bcellsim.engine.collocation import PRODUCTS, SIXTEENTHS, STAGES
from bcellsim.engine.equations import Equations, boundary
from bcellsim.engine.graph import fixed, number
from bcellsim.engine.lower import Source, over_lanes
from bcellsim.engine.writer import Writer

#: A polynomial of degree four is fitted to this many parts of a step at least: the highest Legendre
#: coefficients of the count, which are below the tolerance, leave 0.2 of it.
FEWEST_PARTS, MOST_PARTS = 4, 64
#: Width of a part times the fastest decay that still counts, at an rtol of 1: leaves 0.1 rtol of a
#: drug state.
PART_WIDTH = 5.0
#: Share of rtol below which the weight of a mode is slight.
SLIGHT = 0.01
#: Decay rates are moved apart to this distance, relative or absolute [1/day].
APART, APART_LEAST = 3e-5, 3e-7
#: Decay rate [1/day] below which what enters is a polynomial in time.
HARDLY = 1e-6
#: The rate of the count may change by this, times the step, over the first step after an event;
#: below the shortest step [day] it may change by anything.
CALM, SHORTEST = 1e-3, 1e-8


class ClosedSource(Source):
    """Fills the template for linear drug states with the equations of one structure."""

    template = ("kernel_head", "kernel_tally", "kernel_lane", "kernel_closed", "kernel_block")

    def read(self, structure):
        """Return the equations under the conditions of the closed form."""
        equations = Equations(structure)
        values = {structure.parameters.index(k): v for k, v in structure.linear_when.items()}
        equations.slopes = [given(node, values) for node in equations.slopes]
        equations.outputs = [given(node, values) for node in equations.outputs]
        self.split = split(structure, equations.slopes)
        equations.derived = boundary([*self.split.roots(), *equations.outputs])
        self.linear, self.driving = self.split.linear, self.split.driving()
        shown = set().union(*(equations.needs(o) for o in range(equations.m)))
        self.shown = [j for j, i in enumerate(self.linear) if j in self.driving or i in shown]
        return equations

    def step_heights(self):
        """Return the kinds of rows that belong to the method."""
        n = len(self.linear)
        names = ("_CONST", "_DRIFT", "_CURVE", "_MU", "_INVERSE", "_DECAY", "_LATER", "_ENTERS")
        scalars = ("_NEW", "_SINCE", "_BEGUN", "_BEFORE", "_EASE", "_FAST", "_PARTS", "_SHARE",
                   "_NOTHING")  # fmt: skip
        return [
            *((name, n) for name in names), ("_WEIGHT", n * n), ("_MODE", n * n * n),
            ("_C", collocation.DEGREE), ("_PART", n), ("_LOSS", STAGES + 1),
            ("_GAIN", STAGES + 1), ("_WHOLE", 3), *((name, 1) for name in scalars),
        ]  # fmt: skip

    def starred(self):
        """Return what stands in the template for a list of names, and these."""
        return "*_drugs", [f"x{j}" for j in self.driving]

    def step_fills(self):
        """Return the lines that belong to the method."""
        return {
            "rates": self.rates(),
            "push": self.push(),
            "entering": self.entering(),
            "modes": self.modes(),
            "first step": self.first_step(),
            "later rates": [self.rated("later", lambda j: f"x{j} + h * s{j}")],
            "settings": [
                "fine, width = _is_fine(followed, recorded), _PART_WIDTH * _exp(0.2 * _log(rtol))",
                "furthest, slight = _MOST_PARTS * width, _SLIGHT * rtol",
                f"least = atol[{self.split.rest}]",
            ],
            "step": over_lanes(self.nodes()) + over_lanes(self.collocation()),
            "extension": [],
            "courses": self.courses(),
            "tallies": ["_tally_parts(F, tallies, followed, fine, width)"],
            "accept": over_lanes(["_accept(F, lane)"]),
        }

    def constants(self):
        of_drug = [bool(self.equations.needs(o) & {*self.linear}) for o in range(self.equations.m)]
        values = {
            "_LINEAR": len(self.linear), "_WHICH": tuple(self.linear), "_REST": self.split.rest,
            "_DEGREE": collocation.DEGREE, "_STAGES": STAGES, "_ORDER": STAGES + 2.0,
            "_OF_DRUG": tuple(of_drug), "_FEWEST_PARTS": FEWEST_PARTS, "_MOST_PARTS": MOST_PARTS,
            "_PART_WIDTH": PART_WIDTH, "_SLIGHT": SLIGHT, "_APART": APART,
            "_APART_LEAST": APART_LEAST, "_HARDLY": HARDLY, "_CALM": CALM, "_SHORTEST": SHORTEST,
            "_FIRST_STEP": 1e9,
        }  # fmt: skip
        return [*super().constants(), *(f"{name} = {value!r}" for name, value in values.items())]

    def derive(self):
        return [*super().derive(), "_modes(F, lane)"]

    def states_as(self, name):
        """Return how inputs are read, with the linear states in variables."""
        inner = self.leaf("_Y")

        def read(vector, index):
            return name(self.linear.index(index)) if vector == "y" else inner(vector, index)

        return read

    def rates(self):
        writer = Writer(self.states_as("x{}".format), self.equations.derived)
        names = [writer.name(node) for node in (self.split.loss, self.split.gain)]
        return [*writer.lines, f"return {', '.join(names)}"]

    def rated(self, target, state):
        """Return the call of the rates for some drug states."""
        return f"{target} = _rates(F, lane, {', '.join(state(j) for j in self.driving)})"

    def entry(self, j, k):
        """Return an entry of the matrix, or None."""
        node = self.split.matrix[j][k]
        if node is number(0.0):
            return None
        return self.row("_Q", self.equations.derived[node])

    def product(self, j, vector):
        """Return a row of the matrix times a vector, as terms."""
        pairs = ((self.entry(j, k), vector(k)) for k in range(len(self.linear)))
        return [f"{a} * {x}" for a, x in pairs if a]

    def push(self):
        n = range(len(self.linear))
        lines = [f"x{j} = {self.row('_PART', j)}" for j in n]
        for j in n:
            terms = [*self.product(j, "x{}".format), f"shift * x{j}"]
            lines.append(f"{self.row('_PART', j)} = ({' + '.join(terms)}) * scale")
        return lines

    def entering(self):
        writer = Writer(self.leaf("_Y"), self.equations.derived)
        names = [writer.name(node) for node in self.split.inputs]
        return writer.lines + [f"{self.row('_ENTERS', j)} = {name}" for j, name in enumerate(names)]

    def modes(self):
        """Return the lines that find the eigenvalues of each block; NaN where they are complex."""
        lines = []
        for block in self.split.blocks:
            if len(block) == 1:
                j = block[0]
                lines.append(f"{self.row('_MU', j)} = -({self.entry(j, j) or 0.0})")
                continue
            (j, k), zero = block, "0.0"
            lines += [
                f"a, d = {self.entry(j, j) or zero}, {self.entry(k, k) or zero}",
                f"bc = {self.entry(j, k)} * {self.entry(k, j)}",
                "root = np.sqrt((a - d) * (a - d) + 4.0 * bc)",
                "larger = -0.5 * (a + d - root) if a + d <= 0.0 else -0.5 * (a + d + root)",
                f"{self.row('_MU', j)} = larger",
                f"{self.row('_MU', k)} = (a * d - bc) / larger if larger != 0.0 else 0.0",
            ]
        return lines

    def first_step(self):
        lines = [f"x{j} = {self.row('_Y', i)}" for j, i in enumerate(self.linear)]
        for j in self.driving:
            terms = [self.row("_ENTERS", j), *self.product(j, "x{}".format)]
            lines.append(f"s{j} = {' + '.join(terms)}")
        return [*lines, self.rated("now", "x{}".format), "loss, gain = now[0], now[1]"]

    def nodes(self):
        """Return the lines that choose each lane's step, and find the rates at the nodes."""
        modes = range(len(self.linear))
        lines = ["h, left = F[_H + lane], F[_STOP + lane] - F[_T + lane]",
                 "since, fast = F[_SINCE + lane], 0.0"]  # fmt: skip
        for j in self.shown:
            c = [self.row(name, j) for name in ("_CONST", "_DRIFT", "_CURVE")]
            lines.append(f"a{j} = {c[0]} + since * ({c[1]} + since * {c[2]})")
            weights = [f"w{j}_{k}" for k in modes]
            for k, w in enumerate(weights):
                at = self.row("_WEIGHT", len(self.linear) * j + k)
                lines.append(f"{w} = {at} * {self.row('_DECAY', k)}")
            lines.append(f"slightly = slight * abs(a{j} + {' + '.join(weights)})")
            lines += [f"fast = max(fast, _choose(abs({w}) > slightly, {self.row('_MU', k)}, 0.0))"
                      for k, w in enumerate(weights)]  # fmt: skip
        lines += [
            "h = min(h, furthest / (fast + 1e-300))",
            "is_last = 1.0000001 * h >= left",
            "h = _choose(is_last, left, h)",
            "F[_HS + lane], F[_FAST + lane] = h, fast",
            "F[_LAST + lane] = _choose(is_last, 1.0, 0.0)",
        ]
        for k in modes:
            lines.append(f"e{k}_1 = _exp(-0.0625 * h * {self.row('_MU', k)})")
            lines += [f"e{k}_{n} = e{k}_{a} * e{k}_{b}" for n, a, b in PRODUCTS]
            lines.append(f"{self.row('_LATER', k)} = {self.row('_DECAY', k)} * e{k}_16")
        for j in self.driving:
            drift, curve = self.row("_DRIFT", j), self.row("_CURVE", j)
            lines.append(f"d{j} = h * ({drift} + 2.0 * since * {curve})")
            lines.append(f"c{j} = h * h * {curve}")
        return lines + self.rates_at_nodes()

    def rates_at_nodes(self):
        """Return the lines that find the rates at the nodes from the drug there."""
        lines = []
        for i, n in enumerate(SIXTEENTHS, start=1):
            for j in self.driving:
                terms = [f"w{j}_{k} * e{k}_{n}" for k in range(len(self.linear))]
                theta = n / 16
                lines.append(
                    f"x{j} = a{j} + {theta} * (d{j} + {theta} * c{j}) + {' + '.join(terms)}"
                )
            lines += [self.rated("f", "x{}".format), f"{self.row('_LOSS', i)} = f[0]"]
            if i == STAGES or not fixed(self.split.gain):
                lines.append(f"{self.row('_GAIN', i)} = f[1]")
        return lines

    def collocation(self):
        """Return the lines that solve for the count at the nodes and estimate the error."""
        stages = range(STAGES)
        gain = [self.row("_GAIN", 0 if fixed(self.split.gain) else i) for i in range(STAGES + 1)]
        count = self.row("_Y", self.split.rest)
        lines = [
            f"h, b = F[_HS + lane], {count}",
            f"f0 = h * ({gain[0]} - {self.row('_LOSS')} * b)",
        ]
        for i in stages:
            slopes = collocation.SLOPES[i]
            lines.append(f"l = h * {self.row('_LOSS', i + 1)}")
            lines.append(f"v{i} = h * {gain[i + 1]} - l * b - {slopes[STAGES]!r} * f0")
            lines += [f"g{i}_{j} = {slopes[j]!r}{' + l' if i == j else ''}" for j in stages]
        for k in stages:  # elimination; without pivots, as the loss is not negative
            lines.append(f"r{k} = 1.0 / g{k}_{k}")
            for i in range(k + 1, STAGES):
                lines.append(f"m = g{i}_{k} * r{k}")
                lines += [f"g{i}_{j} = g{i}_{j} - m * g{k}_{j}" for j in range(k + 1, STAGES)]
                lines.append(f"v{i} = v{i} - m * v{k}")
        for k in reversed(stages):
            lines += [f"v{k} = v{k} - g{k}_{j} * v{j}" for j in range(k + 1, STAGES)]
            lines.append(f"v{k} = v{k} * r{k}")
        for m, weights in enumerate(collocation.HIGHEST):
            weights = [w * collocation.DISCOUNT**m for w in weights]
            lines.append(f"a{m} = abs({self.spanned(weights)})")
        for k, weights in enumerate(collocation.POWERS):
            lines.append(f"{self.row('_C', k)} = {self.spanned(weights)}")
        return [
            *lines,
            f"new = b + v{STAGES - 1}",
            f"{self.row('_NEW')} = new",
            # A maximum may not see a NaN; the sum does.
            f"worst = max(a0, max(a1, a2)) + (new - new) + {self.row('_NOTHING')}",
            f"{self.row('_ERROR')} = worst / (least + rtol * max(abs(b), abs(new)))",
        ]

    def spanned(self, weights):
        """Return a sum over the increments at the nodes and the slope at the start."""
        terms = [f"{w!r} * v{i}" for i, w in enumerate(weights[:-1])]
        return " + ".join([*terms, f"{weights[-1]!r} * f0"])

    def state(self, i, theta):
        """Return a state at a position of the step."""
        if i == self.split.rest:
            return f"{self.row('_Y', i)} + _moved(F, lane, {theta})"
        return f"_linear(F, lane, {self.linear.index(i)}, {theta} * h)"

    def course(self, node):
        """Return the lines that fit an output in a part of a step through five of its values."""
        lines, values = [f"share, h = F[_SHARE + lane], {self.row('_WHOLE', 1)}"], []
        for m, theta in enumerate(solution.NODES.tolist()):
            lines.append(f"theta = (part + {theta!r}) * share")
            lines.append(f"time = max({self.row('_WHOLE')} + theta * h - F[_CLOCK + lane], 0.0)")
            body, name = self.at(node, "theta", "time", f"n{m}_")
            lines += body
            values.append(name)
        more, names = fitted(values)
        return lines + more, names
