"""Read a structure's equations from their own source into a graph of operations.

The functions of a structure are plain scalar Python. They are not run but read: every value becomes
a node, calls of plain functions are followed, loops over constants are unrolled, and what an `if`
decides becomes a selection of one of two values, so that many subjects can be computed at once.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache

from bcellsim.engine.expressions import (
    ALLOWED,
    TIME,
    Expressions,
    FaultError,
    Unset,
    Vector,
    as_read,
)
from bcellsim.engine.graph import Node, make

__all__ = ["TIME", "Vector", "trace"]

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
        vector.items = [None if isinstance(item, Unset) else item for item in vector.items]
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


class _Reader(Expressions):
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
            raise FaultError(None, f"{self.function.__name__}: {error}") from None
        bound.apply_defaults()
        self.names = {name: as_read(value) for name, value in bound.arguments.items()}
        try:
            value = self.block(self.tree.body)
        except FaultError as fault:
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
                raise FaultError(statement, f"a `{word}` statement cannot be lowered; {ALLOWED}")
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
            raise FaultError(statement, "a loop must run over range() of constants or over a tuple")
        for item in items:
            self.assign(statement.target, as_read(item))
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
            raise FaultError(
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
        return Unset(statement)

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
                raise FaultError(target, f"{len(target.elts)} values are wanted here")
            for part, item in zip(target.elts, value, strict=True):
                self.assign(part, item)
        else:
            raise FaultError(target, "only names and elements of vectors can be assigned")


def _as_load(target):
    copy = ast.parse(ast.unparse(target), mode="eval").body
    for part in ast.walk(copy):
        part.lineno = target.lineno
    return copy
