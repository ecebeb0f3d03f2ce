"""Read a structure's equations from their own source into a graph of operations.

The functions of a structure are plain scalar Python. They are not run but read: every value becomes
a node, calls of plain functions are followed, loops over constants are unrolled, and what an `if`
decides becomes a selection of one of two values, so that many subjects can be computed at once.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable
from functools import cache
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


class _FaultError(Exception):
    def __init__(self, node, message):
        self.node, self.message = node, message


_NOTHING = object()


def trace(function: Callable, *arguments, places: dict[Node, str] | None = None) -> object:
    """Follow a function and return its value; vectors among the arguments are written in place.

    Parameters
    ----------
    function : callable
        A plain Python function, defined in a file.
    *arguments : Node or Vector
    places : dict, optional
        Filled with where each result is computed first: file, line, function and expression.

    Raises
    ------
    ValueError
        If a statement cannot be computed for many subjects at once; the sentence says which line of
        which file and why.
    """
    vectors = [a for a in arguments if isinstance(a, Vector)]
    value = _Reader(function, vectors, 0, {} if places is None else places).call(arguments, {})
    for vector in vectors:
        vector.items = [None if isinstance(item, _Unset) else item for item in vector.items]
    return value


@cache
def _definition(function):
    """Return the parsed definition and the line before it."""
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        raise ValueError(
            f"{function.__code__.co_filename}, function {function.__name__}: its source cannot be "
            "read; define it in a file"
        ) from None
    try:
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except SyntaxError:
        tree = ast.Module([], [])
    if not tree.body or not isinstance(tree.body[0], ast.FunctionDef):
        raise ValueError(
            f"{function.__code__.co_filename}, line {first}: define {function.__name__} with `def`"
        )
    return tree.body[0], first - 1


class _Reader:
    """Follows one call of one function."""

    def __init__(self, function, vectors, depth, places):
        self.function, self.vectors, self.depth = function, vectors, depth
        self.places = places
        self.tree, self.before = _definition(function)
        closed = inspect.getclosurevars(function)
        self.outside = {**closed.builtins, **closed.globals, **closed.nonlocals}
        self.names, self.loops = {}, 0

    def call(self, arguments, named):
        """Bind the arguments, follow the body and return the value."""
        try:
            bound = inspect.signature(self.function).bind(*arguments, **named)
        except TypeError as error:
            raise _FaultError(None, f"{self.function.__name__}: {error}") from None
        bound.apply_defaults()
        self.names = {name: _value(value) for name, value in bound.arguments.items()}
        try:
            value = self.block(self.tree.body)
        except _FaultError as fault:
            if fault.node is None and self.depth:
                raise
            raise ValueError(f"{self.at(fault.node)}: {fault.message}") from None
        return None if value is _NOTHING else value

    # Statements. A block returns what the function returns, or `_NOTHING`.

    def block(self, statements):
        for i, statement in enumerate(statements):
            method = getattr(self, f"do_{type(statement).__name__.lower()}", None)
            if method is None:
                word = type(statement).__name__.lower()
                raise _FaultError(statement, f"a `{word}` statement cannot be lowered; {_ALLOWED}")
            if isinstance(statement, ast.If):
                done, value = self.do_if(statement, statements[i + 1 :])
                if done:
                    return value
            else:
                value = method(statement)
                if value is not _NOTHING:
                    return value
        return _NOTHING

    def do_pass(self, statement):
        return _NOTHING

    def do_expr(self, statement):
        if not isinstance(statement.value, ast.Constant):
            self.value(statement.value)
        return _NOTHING

    def do_return(self, statement):
        return None if statement.value is None else self.value(statement.value)

    def do_assign(self, statement):
        value = self.value(statement.value)
        for target in statement.targets:
            self.assign(target, value)
        return _NOTHING

    def do_annassign(self, statement):
        if statement.value is not None:
            self.assign(statement.target, self.value(statement.value))
        return _NOTHING

    def do_augassign(self, statement):
        load = ast.copy_location(_as_load(statement.target), statement)
        step = ast.copy_location(ast.BinOp(load, statement.op, statement.value), statement)
        self.assign(statement.target, self.value(step))
        return _NOTHING

    def do_for(self, statement):
        items = self.value(statement.iter)
        if not isinstance(items, (tuple, range)):
            raise _FaultError(
                statement, "a loop must run over range() of constants or over a tuple"
            )
        for item in items:
            self.assign(statement.target, _value(item))
            self.loops += 1
            value = self.block(statement.body)
            self.loops -= 1
            if value is not _NOTHING:
                return value
        return self.block(statement.orelse)

    def do_if(self, statement, rest):
        """Follow an `if`; where a branch returns, the rest of the function belongs to both."""
        test = self.truth(statement.test)
        if not isinstance(test, Node):
            value = self.block(statement.body if test else statement.orelse)
            return value is not _NOTHING, value
        start = self.snapshot()
        ends = []
        forked = any(isinstance(n, ast.Return) for n in ast.walk(statement))
        if forked and self.loops:
            raise _FaultError(
                statement, "a `return` that values decide cannot be lowered inside a loop"
            )
        for branch in (statement.body, statement.orelse):
            self.restore(start)
            ends.append((self.block([*branch, *rest] if forked else branch), self.snapshot()))
        (value, (names, items)), (other, (other_names, other_items)) = ends
        for vector in self.vectors:
            mine, theirs = items[vector.name], other_items[vector.name]
            vector.items = [self.choose(statement, test, a, b) for a, b in zip(mine, theirs)]  # noqa: B905
        if forked:
            if value in (None, _NOTHING) and other in (None, _NOTHING):
                return True, None
            return True, self.choose(statement, test, value, other)
        self.names = {
            name: self.choose(statement, test, names.get(name), other_names.get(name))
            for name in {**names, **other_names}
        }
        return False, _NOTHING

    def choose(self, statement, test, a, b):
        """Return the selection of one of two values."""
        if a is b:
            return a
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple(self.choose(statement, test, x, y) for x, y in zip(a, b, strict=True))
        if isinstance(a, Node) and isinstance(b, Node):
            return make("select", test, a, b)
        return _Unset(statement)

    def snapshot(self):
        return dict(self.names), {v.name: list(v.items) for v in self.vectors}

    def restore(self, state):
        self.names = dict(state[0])
        for vector in self.vectors:
            vector.items = list(state[1][vector.name])

    def assign(self, target, value):
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Subscript):
            vector, index = self.place(target)
            vector.items[index] = self.scalar(target, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            if not isinstance(value, tuple) or len(value) != len(target.elts):
                raise _FaultError(target, f"{len(target.elts)} values are wanted here")
            for part, item in zip(target.elts, value, strict=True):
                self.assign(part, item)
        else:
            raise _FaultError(target, "only names and elements of vectors can be assigned")

    # Expressions

    def value(self, expression):
        """Return a Node, a tuple, a Vector, a range, a function or a module."""
        method = getattr(self, f"read_{type(expression).__name__.lower()}", None)
        if method is None:
            text = ast.unparse(expression)
            raise _FaultError(expression, f"`{text}` cannot be lowered; {_ALLOWED}")
        value = method(expression)
        if isinstance(value, _Unset):
            raise _FaultError(expression, self.unset(expression, value))
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
            raise _FaultError(where, f"`{ast.unparse(where)}`: a number is wanted")
        return value

    def operand(self, expression):
        return self.scalar(expression, self.value(expression))

    def constant(self, expression):
        node = self.operand(expression)
        if node.op != "number" or node.args[0] != int(node.args[0]):
            raise _FaultError(
                expression, f"`{ast.unparse(expression)}` must be a constant whole number"
            )
        return int(node.args[0])

    def truth(self, expression):
        """Return a condition: True, False or a node."""
        node = self.operand(expression)
        return bool(node.args[0]) if node.op == "number" else node

    def read_constant(self, expression):
        if not isinstance(expression.value, (int, float)):
            raise _FaultError(expression, f"`{ast.unparse(expression)}`: a number is wanted")
        return number(expression.value)

    def read_name(self, expression):
        name = expression.id
        if name in self.names:
            return self.names[name]
        if name in ("range", "min", "max", "abs", "float"):
            return name
        if name not in self.outside:
            raise _FaultError(expression, f'"{name}" is not defined')
        value = self.outside[name]
        if value is math or isinstance(value, FunctionType):
            return value
        if any(value is getattr(math, f) for f in FUNCTIONS):
            return value.__name__
        if not isinstance(value, (int, float, tuple)):
            raise _FaultError(expression, f'"{name}" cannot be lowered; {_ALLOWED}')
        return _value(value)

    def read_attribute(self, expression):
        owner, name = self.value(expression.value), expression.attr
        if owner is not math:
            raise _FaultError(
                expression, f"`{ast.unparse(expression)}` cannot be lowered; {_ALLOWED}"
            )
        if name in FUNCTIONS:
            return name
        if isinstance(getattr(math, name, None), float):
            return number(getattr(math, name))
        raise _FaultError(expression, unknown("function of math", name, FUNCTIONS))

    def read_subscript(self, expression):
        vector, index = self.place(expression)
        items = vector if isinstance(vector, tuple) else vector.items
        if isinstance(items[index], _Unset):
            raise _FaultError(expression, self.unset(expression, items[index]))
        if items[index] is None:
            raise _FaultError(
                expression, f"`{ast.unparse(expression)}` is read before it is written"
            )
        return items[index]

    def place(self, expression):
        vector = self.value(expression.value)
        if not isinstance(vector, (Vector, tuple)):
            raise _FaultError(expression, f"`{ast.unparse(expression.value)}` has no elements")
        index = self.constant(expression.slice)
        length = len(vector if isinstance(vector, tuple) else vector.items)
        if not -length <= index < length:
            raise _FaultError(
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
        raise _FaultError(expression, f"`{ast.unparse(expression)}` cannot be lowered; {_ALLOWED}")

    def read_binop(self, expression):
        symbol = _BINARY.get(type(expression.op))
        if symbol is None:
            raise _FaultError(
                expression, f"`{ast.unparse(expression)}` cannot be lowered; {_ALLOWED}"
            )
        left, right = self.operand(expression.left), self.operand(expression.right)
        try:
            return make(symbol, left, right)
        except (ValueError, ArithmeticError) as error:
            raise _FaultError(expression, f"`{ast.unparse(expression)}`: {error}") from None

    def read_compare(self, expression):
        nodes = [self.operand(e) for e in (expression.left, *expression.comparators)]
        tests = []
        for op, a, b in zip(expression.ops, nodes, nodes[1:]):  # noqa: B905
            if type(op) not in _COMPARE:
                text = ast.unparse(expression)
                raise _FaultError(expression, f"`{text}` cannot be lowered; {_ALLOWED}")
            tests.append(make(_COMPARE[type(op)], a, b))
        return _logical("and", tests)

    def read_boolop(self, expression):
        word = "and" if isinstance(expression.op, ast.And) else "or"
        tests = [self.operand(e) for e in expression.values]
        for part, test in zip(expression.values, tests, strict=True):
            if not condition(test):
                raise _FaultError(
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
                raise _FaultError(expression, f"{function.__name__} calls itself without end")
            try:
                return _Reader(function, self.vectors, self.depth + 1, self.places).call(
                    arguments, named
                )
            except _FaultError as fault:
                raise _FaultError(expression, fault.message) from None
        if not isinstance(function, str) or named:
            text = ast.unparse(expression)
            raise _FaultError(expression, f"`{text}` cannot be lowered; {_ALLOWED}")
        return self.built_in(expression, function, arguments)

    def built_in(self, expression, name, arguments):
        if name == "range":
            return range(*(self.constant(e) for e in expression.args))
        if len(arguments) == 1 and isinstance(arguments[0], tuple) and name in ("min", "max"):
            arguments = arguments[0]
        nodes = [self.scalar(expression, a) for a in arguments]
        if len(nodes) != FUNCTIONS.get(name, 1) and name not in ("min", "max"):
            raise _FaultError(expression, f"`{ast.unparse(expression)}`: wrong number of arguments")
        if name in ("min", "max") and len(nodes) < 2:
            raise _FaultError(expression, f"`{ast.unparse(expression)}`: two numbers are wanted")
        if all(node.op == "number" for node in nodes):
            python = getattr(math, name, None) or {"min": min, "max": max, "abs": abs}.get(name)
            try:
                return number((python or float)(*(node.args[0] for node in nodes)))
            except (ValueError, ArithmeticError) as error:
                raise _FaultError(expression, f"`{ast.unparse(expression)}`: {error}") from None
        if name in ("min", "max"):
            result = nodes[0]
            for node in nodes[1:]:
                result = make(name, result, node)
            return result
        if name == "float":
            return nodes[0]
        return make("**" if name == "pow" else "abs" if name == "fabs" else name, *nodes)


class _Unset:
    def __init__(self, statement):
        self.statement = statement


def _value(value):
    """Return a Python value as the reader holds it."""
    if isinstance(value, (int, float)):
        return number(value)
    return tuple(map(_value, value)) if isinstance(value, (tuple, list)) else value


def _as_load(target):
    copy = ast.parse(ast.unparse(target), mode="eval").body
    for part in ast.walk(copy):
        part.lineno = target.lineno
    return copy


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


_ALLOWED = (
    "use floats, elements of vectors by constant positions, + - * / **, comparisons, `if`, "
    "loops over range() of constants, min, max, abs, functions of math "
    f"({', '.join(FUNCTIONS)}), and plain functions of these"
)
