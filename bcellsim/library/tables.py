"""Reading a TOML file of the library: every mistake is named with its file, line and key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_type_hints

from pydantic import BaseModel, ValidationError

from bcellsim.names import unknown


def read_table(
    path: Path,
    schema: type[BaseModel],
    prepare: Callable[[Path, dict], dict] = lambda path, data: data,
) -> BaseModel:
    """Read and check a TOML file against its schema; `prepare` changes what is read before.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        For the first thing in it that is wrong: file, line, key and nearest valid choice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file (UTF-8)") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(_syntax(path, text, str(error))) from None
    data = prepare(path, data)
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ValueError(_sentence(path, text, data, schema, error)) from None


@contextmanager
def located(path: Path, *keys: str | int) -> Iterator[None]:
    """Put file, line and key before the sentence of a ValueError raised inside.

    Parameters
    ----------
    path : Path
        The TOML file.
    keys : str or int
        The way to the value that is wrong: names, and positions (from 0) in lists.
    """
    try:
        yield
    except ValueError as error:
        text = path.read_text(encoding="utf-8")
        raise ValueError(f"{_place(path, text, keys)}: {error}") from None


_HEADER = re.compile(r"""\s*\[+[\w\s."'-]+\]+\s*(#.*)?$""")
_KEY = re.compile(r"""\s*[\w."'-]+\s*=""")


def line_of(text: str, keys: tuple) -> int | None:
    """Return the line, from 1, of the innermost key that is found; None if none is.

    The TOML parser keeps no line numbers, so the keys are looked for in the text.
    """
    lines = text.splitlines()
    found, scope = None, _to_next(lines, 0, _HEADER)
    for depth, key in enumerate(keys):
        names = [k for k in keys[: depth + 1] if isinstance(k, str)]
        find = _entry if isinstance(key, int) else _key
        scope = find(lines, scope, names, key) or _table(lines, found or 0, names, key)
        found = scope.start if scope else found
    return None if found is None else found + 1


def _to_next(lines, at, *ends):
    """Return the lines from `at` on to the next that matches one of `ends`."""
    after = range(at + 1, len(lines))
    stops = (i for i in after if any(end.match(lines[i]) for end in ends))
    return range(at, next(stops, len(lines)))


def _key(lines, scope, names, key):
    """Return the lines of a key in those of its table, which may be written in one line."""
    name = rf"""["']?{re.escape(key)}["']?\s*[=.]"""
    if len(names) > 1 and scope and re.search(rf"(?<![\w.-]){name}", lines[scope.start]):
        return scope
    found = (i for i in scope if re.match(rf"\s*{name}", lines[i]))
    return next((_to_next(lines, i, _HEADER, _KEY) for i in found), range(0))


def _entry(lines, scope, names, position):
    """Return the line of an inline table in the lines of its list."""
    braces = [i for i in scope for _ in range(lines[i].count("{"))]
    return range(braces[position], braces[position] + 1) if position < len(braces) else range(0)


def _table(lines, at, names, key):
    """Return the lines of a table that has a header, ``[names]`` or the n-th ``[[names]]``."""
    dotted = r"\s*\.\s*".join(rf"""["']?{re.escape(name)}["']?""" for name in names)
    header = re.compile(rf"\s*\[+\s*{dotted}\s*\]")
    found = [i for i in range(at, len(lines)) if header.match(lines[i])]
    position = key if isinstance(key, int) else 0
    return _to_next(lines, found[position], _HEADER) if position < len(found) else range(0)


def _place(path, text, keys):
    line = line_of(text, keys)
    dotted = ".".join(str(key + 1) if isinstance(key, int) else key for key in keys)
    return f"{path}, line {line}, {dotted}" if line else f"{path}, {dotted}"


def _syntax(path, text, message):
    """Return what the parser says, with the line first and the key that stands in it."""
    found = re.search(r"\(at line (\d+), column \d+\)", message)
    if not found:
        return f"{path}: not valid TOML: {message}"
    line = int(found[1])
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    key = re.match(r"""\s*(?:([\w."'-]+)\s*=|\[+\s*([\w.\s"'-]+))""", written)
    name = f", {(key[1] or key[2]).strip()}" if key else ""
    if "overwrite" in message or "twice" in message:
        message = f"it is given twice: {message}"
    return f"{path}, line {line}{name}: not valid TOML: {message}"


def _sentence(path, text, data, schema, error):
    problems = error.errors()
    # A misspelt key shows both as an extra and as a missing one: the extra says what was written.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    kind, loc = problem["type"], problem["loc"]
    keys = _written(data, loc)
    if kind == "extra_forbidden":
        message = unknown("key", str(keys[-1]), _fields(schema, loc[:-1]))
    elif kind == "missing":
        keys, message = (*keys, loc[-1]), "this key is required and is not there"
    elif kind == "literal_error" and isinstance(problem["input"], str):
        known = re.findall(r"'(.*?)'", problem["ctx"]["expected"])
        what = "key" if keys[-1] == problem["input"] else str(keys[-1])
        message = unknown(what, problem["input"], known)
    elif kind == "value_error":  # a sentence of our own
        message = str(problem["ctx"]["error"])
    else:
        message = f"{problem['msg'][0].lower()}{problem['msg'][1:]} (given: {problem['input']!r})"
    return f"{_place(path, text, keys)}: {message}"


def _written(data, loc):
    """Return the keys that stand in the file, without the marks pydantic puts between them."""
    keys = []
    for key in loc:
        if (isinstance(data, dict) and key in data) or (
            isinstance(data, list) and isinstance(key, int)
        ):
            data = data[key]
            keys.append(key)
    return tuple(keys)


def _fields(schema, keys):
    """Return the keys allowed in the table at `keys`."""
    for key in keys:
        if isinstance(key, int):
            continue
        if key in schema.model_fields:
            found = _schema_in(schema.model_fields[key].annotation)
        else:
            found = _schema_in(get_type_hints(schema).get("__pydantic_extra__"))
        schema = found or schema
    return list(schema.model_fields)


def _schema_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _schema_in(argument)
        if found:
            return found
    return None
