"""Writes graphs as lines of Python."""

from __future__ import annotations

from itertools import count

from bcellsim.engine.graph import Node

#: Operations whose value is a truth value.
OUTCOME = {"<", "<=", ">", ">=", "==", "!=", "and", "or", "not"}
_INFIX = {"+", "-", "*", "/", "and", "or"} | OUTCOME - {"not"}
_CALLS = {"exp": "_exp", "log": "_log", "sqrt": "np.sqrt", "neg": "-", "not": "not "}


class Writer:
    """Writes graphs as lines of Python, one operation a line, each operation once."""

    def __init__(self, leaf, derived=(), prefix="v"):
        self.leaf, self.derived, self.prefix = leaf, derived, prefix
        self.lines, self.names, self.numbers = [], {}, count()

    def name(self, node: Node) -> str:
        """Return the expression that holds a node's value, after writing what it needs."""
        if node.op == "number":
            value = node.args[0]
            return {"nan": "np.nan", "inf": "np.inf", "-inf": "-np.inf"}.get(
                repr(value), repr(value)
            )
        if node in self.names:
            return self.names[node]
        text = self._derived(node) if node in self.derived else self._expression(node)
        name = f"{self.prefix}{next(self.numbers)}"
        self.lines.append(f"{name} = {text}")
        self.names[node] = name
        return name

    def _derived(self, node):
        text = self.leaf("q", self.derived[node])
        return f"{text} > 0.5" if node.op in OUTCOME else text

    def _expression(self, node):
        if node.op == "input":
            return self.leaf(*node.args)
        args = [self.name(arg) for arg in node.args]
        if node.op == "select":
            return f"_choose({', '.join(args)})"
        if node.op in _INFIX:
            return f"{args[0]} { {'and': '&', 'or': '|'}.get(node.op, node.op) } {args[1]}"
        call = _CALLS.get(node.op, node.op)
        return f"{call}({', '.join(args)})"
