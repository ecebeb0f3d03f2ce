"""Read the expressions of a structure's equations: each value becomes a node of a graph."""

from __future__ import annotations

import ast
import math
from types import FunctionType

from bcellsim.engine.graph import FUNCTIONS, Node, condition, make, number, read
from bcellsim.names import unknown

_BINARY = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.Mod: "%",
    ast.FloorDiv: "//",
}  # fmt: skip
_COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}


class Vector:
    """A vector that equations read (its inputs) and write."""

    def __init__(self, name: str, length: int, readable: bool = True):
        self.name = name
        self.items = [read(name, i) if readable else None for i in range(length)]


TIME = read("t")


class FaultError(Exception):
    def __init__(self, node, message):
        self.node, self.message = node, message


class Unset:
    def __init__(self, statement):
        self.statement = statement


class Expressions:
    """Reads the expressions of one call of one function, whose names stand in `names`.

    A function that is called is read by another reader of the same kind (`trace._Reader`).
    """

    def value(self, expression):
        """Return a Node, a tuple, a Vector, a range, a function or a module."""
        method = getattr(self, f"read_{type(expression).__name__.lower()}", None)
        if method is None:
            text = ast.unparse(expression)
            raise FaultError(expression, f"`{text}` cannot be lowered; {ALLOWED}")
        value = method(expression)
        if isinstance(value, Unset):
            raise FaultError(expression, self.unset(expression, value))
        if isinstance(value, Node) and value.op not in ("number", "input"):
            self.places.setdefault(value, f"{self.at(expression)}: `{ast.unparse(expression)}`")
        return value

    def at(self, node):
        """Return file, line and function of a piece of the source."""
        line = self.before + getattr(node, "lineno", 1)
        name = self.function.__name__
        return f"{self.function.__code__.co_filename}, line {line}, function {name}"

    def unset(self, expression, value):
        """Return the sentence about a name that one branch of an `if` leaves without a number."""
        line = self.before + value.statement.lineno
        return f"`{ast.unparse(expression)}` has no number in one branch of the `if` of line {line}"

    def scalar(self, where, value):
        if not isinstance(value, Node):
            raise FaultError(where, f"`{ast.unparse(where)}`: a number is wanted")
        return value

    def operand(self, expression):
        return self.scalar(expression, self.value(expression))

    def constant(self, expression):
        node = self.operand(expression)
        if node.op != "number" or node.args[0] != int(node.args[0]):
            raise FaultError(
                expression, f"`{ast.unparse(expression)}` must be a constant whole number"
            )
        return int(node.args[0])

    def truth(self, expression):
        """Return a condition: True, False or a node."""
        node = self.operand(expression)
        return bool(node.args[0]) if node.op == "number" else node

    def read_constant(self, expression):
        if not isinstance(expression.value, (int, float)):
            raise FaultError(expression, f"`{ast.unparse(expression)}`: a number is wanted")
        return number(expression.value)

    def read_name(self, expression):
        name = expression.id
        if name in self.names:
            return self.names[name]
        if name in ("range", "min", "max", "abs", "float"):
            return name
        if name not in self.outside:
            raise FaultError(expression, f'"{name}" is not defined')
        value = self.outside[name]
        if value is math or isinstance(value, FunctionType):
            return value
        if any(value is getattr(math, f) for f in FUNCTIONS):
            return value.__name__
        if not isinstance(value, (int, float, tuple)):
            raise FaultError(expression, f'"{name}" cannot be lowered; {ALLOWED}')
        return as_read(value)

    def read_attribute(self, expression):
        owner, name = self.value(expression.value), expression.attr
        if owner is not math:
            raise FaultError(
                expression, f"`{ast.unparse(expression)}` cannot be lowered; {ALLOWED}"
            )
        if name in FUNCTIONS:
            return name
        if isinstance(getattr(math, name, None), float):
            return number(getattr(math, name))
        raise FaultError(expression, unknown("function of math", name, FUNCTIONS))

    def read_subscript(self, expression):
        vector, index = self.place(expression)
        items = vector if isinstance(vector, tuple) else vector.items
        if isinstance(items[index], Unset):
            raise FaultError(expression, self.unset(expression, items[index]))
        if items[index] is None:
            raise FaultError(
                expression, f"`{ast.unparse(expression)}` is read before it is written"
            )
        return items[index]

    def place(self, expression):
        vector = self.value(expression.value)
        if not isinstance(vector, (Vector, tuple)):
            raise FaultError(expression, f"`{ast.unparse(expression.value)}` has no elements")
        index = self.constant(expression.slice)
        length = len(vector if isinstance(vector, tuple) else vector.items)
        if not -length <= index < length:
            raise FaultError(
                expression,
                f"`{ast.unparse(expression)}`: position {index}, but it has {length} elements",
            )
        return vector, index % length

    def read_tuple(self, expression):
        return tuple(self.value(item) for item in expression.elts)

    read_list = read_tuple

    def read_unaryop(self, expression):
        node = self.operand(expression.operand)
        if isinstance(expression.op, ast.USub):
            return number(-node.args[0]) if node.op == "number" else make("neg", node)
        if isinstance(expression.op, ast.UAdd):
            return node
        if isinstance(expression.op, ast.Not):
            return number(not node.args[0]) if node.op == "number" else make("not", node)
        raise FaultError(expression, f"`{ast.unparse(expression)}` cannot be lowered; {ALLOWED}")

    def read_binop(self, expression):
        symbol = _BINARY.get(type(expression.op))
        if symbol is None:
            raise FaultError(
                expression, f"`{ast.unparse(expression)}` cannot be lowered; {ALLOWED}"
            )
        left, right = self.operand(expression.left), self.operand(expression.right)
        try:
            return make(symbol, left, right)
        except (ValueError, ArithmeticError) as error:
            raise FaultError(expression, f"`{ast.unparse(expression)}`: {error}") from None

    def read_compare(self, expression):
        nodes = [self.operand(e) for e in (expression.left, *expression.comparators)]
        tests = []
        for op, a, b in zip(expression.ops, nodes, nodes[1:]):  # noqa: B905
            if type(op) not in _COMPARE:
                text = ast.unparse(expression)
                raise FaultError(expression, f"`{text}` cannot be lowered; {ALLOWED}")
            tests.append(make(_COMPARE[type(op)], a, b))
        return _logical("and", tests)

    def read_boolop(self, expression):
        word = "and" if isinstance(expression.op, ast.And) else "or"
        tests = [self.operand(e) for e in expression.values]
        for part, test in zip(expression.values, tests, strict=True):
            if not condition(test):
                raise FaultError(
                    part,
                    f"`{ast.unparse(part)}` is a number, not a condition: write a comparison, or "
                    "`a if test else b`",
                )
        return _logical(word, tests)

    def read_ifexp(self, expression):
        test = self.truth(expression.test)
        if not isinstance(test, Node):
            return self.value(expression.body if test else expression.orelse)
        return make("select", test, self.operand(expression.body), self.operand(expression.orelse))

    def read_call(self, expression):
        function = self.value(expression.func)
        arguments = [self.value(e) for e in expression.args]
        named = {k.arg: self.value(k.value) for k in expression.keywords}
        if isinstance(function, FunctionType):
            if self.depth > 50:
                raise FaultError(expression, f"{function.__name__} calls itself without end")
            try:
                return type(self)(function, self.vectors, self.depth + 1, self.places).call(
                    arguments, named
                )
            except FaultError as fault:
                raise FaultError(expression, fault.message) from None
        if not isinstance(function, str) or named:
            text = ast.unparse(expression)
            raise FaultError(expression, f"`{text}` cannot be lowered; {ALLOWED}")
        return self.built_in(expression, function, arguments)

    def built_in(self, expression, name, arguments):
        if name == "range":
            return range(*(self.constant(e) for e in expression.args))
        if len(arguments) == 1 and isinstance(arguments[0], tuple) and name in ("min", "max"):
            arguments = arguments[0]
        nodes = [self.scalar(expression, a) for a in arguments]
        if len(nodes) != FUNCTIONS.get(name, 1) and name not in ("min", "max"):
            raise FaultError(expression, f"`{ast.unparse(expression)}`: wrong number of arguments")
        if name in ("min", "max") and len(nodes) < 2:
            raise FaultError(expression, f"`{ast.unparse(expression)}`: two numbers are wanted")
        if all(node.op == "number" for node in nodes):
            python = getattr(math, name, None) or {"min": min, "max": max, "abs": abs}.get(name)
            try:
                return number((python or float)(*(node.args[0] for node in nodes)))
            except (ValueError, ArithmeticError) as error:
                raise FaultError(expression, f"`{ast.unparse(expression)}`: {error}") from None
        if name in ("min", "max"):
            result = nodes[0]
            for node in nodes[1:]:
                result = make(name, result, node)
            return result
        if name == "float":
            return nodes[0]
        return make("**" if name == "pow" else "abs" if name == "fabs" else name, *nodes)


def as_read(value):
    """Return a Python value as the reader holds it."""
    if isinstance(value, (int, float)):
        return number(value)
    return tuple(map(as_read, value)) if isinstance(value, (tuple, list)) else value


def _logical(word, tests):
    result = tests[0]
    for test in tests[1:]:
        known = [t.args[0] for t in (result, test) if t.op == "number"]
        if not known:
            result = make(word, result, test)
        elif word == "and":
            result = (test if result.op == "number" else result) if all(known) else number(0.0)
        else:
            result = number(1.0) if any(known) else (test if result.op == "number" else result)
    return result


ALLOWED = (
    "use floats, elements of vectors by constant positions, + - * / **, comparisons, `if`, "
    "loops over range() of constants, min, max, abs, functions of math "
    f"({', '.join(FUNCTIONS)}), and plain functions of these"
)
