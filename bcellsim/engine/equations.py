"""A structure's equations as graphs."""

from __future__ import annotations

from bcellsim.engine.graph import fixed
from bcellsim.engine.trace import TIME, Vector, trace
from bcellsim.structures import Structure


class Equations:
    """A structure's equations as graphs; `places` is filled with where each value is computed.

    Raises
    ------
    ValueError
        If they cannot be lowered; the sentence says which line and why.
    """

    def __init__(self, structure: Structure, places: dict | None = None):
        self.structure, self.places = structure, places
        self.n, self.m = len(structure.states), len(structure.outputs)
        self.slopes = self._trace(structure.rhs, "dy", "t", "y", "p", "u")
        self.outputs = self._trace(structure.observe, "out", "t", "y", "p")
        self.baseline = self._trace(structure.initial, "y", "p")
        self.to_amounts = self._trace(structure.to_amounts, "y")
        self.from_amounts = self._trace(structure.from_amounts, "y")
        self.derived = boundary([*self.slopes, *self.outputs])

    def _trace(self, function, written, *read):
        """Return what a function writes into a vector."""
        if function is None:
            return [None] * self.n
        length = {"out": self.m, "p": len(self.structure.parameters)}
        vectors = {
            name: Vector(name, length.get(name, self.n), readable=name in read or written == "y")
            for name in (*read, written)
            if name != "t"
        }
        if function in (self.structure.to_amounts, self.structure.from_amounts):
            trace(function, vectors["y"], Vector("p", length["p"]), places=self.places)
        elif written == "y":
            vectors["y"] = Vector("y", self.n, readable=False)
            trace(function, vectors["p"], vectors["y"], places=self.places)
        else:
            trace(
                function,
                *(TIME if name == "t" else vectors[name] for name in read),
                vectors[written],
                places=self.places,
            )
        items = vectors[written].items
        if None in items:
            names = self.structure.outputs if written == "out" else self.structure.states
            raise ValueError(
                f"structure {self.structure.name}: {function.__name__} gives no value to "
                f"{names[items.index(None)]}"
            )
        return items

    def needs(self, output: int) -> set[int]:
        """Return the states that an output is computed from."""
        return {i for vector, i in self.outputs[output].inputs() if vector == "y"}


def boundary(roots):
    """Return what is computed from parameters alone and used together with something else."""
    found, seen, waiting = {}, set(), list(roots)
    while waiting:
        node = waiting.pop()
        if node in seen or node.op == "number":
            continue
        seen.add(node)
        if fixed(node):
            found[node] = len(found)
        elif node.op != "input":
            waiting += node.args
    return found
