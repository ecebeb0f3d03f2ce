"""Reading a TOML file of the library: every mistake is named with its file, line and key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pydantic import BaseModel, ValidationError

from bcellsim.names import unknown


def read_table(path: Path, schema: type[BaseModel]) -> BaseModel:
    """Read and check a TOML file against its schema.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        For the first thing in it that is wrong: file, line, key and nearest valid choice.
    """
    text = path.read_text(encoding="utf-8")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ValueError(_sentence(path, text, schema, error)) from None


def line_of(text: str, keys: tuple) -> int:
    """Return the line on which the innermost key that can be found stands, from 1."""
    lines, at = text.splitlines(), 0
    for depth, key in enumerate(keys):
        if isinstance(key, int):
            header = rf"\s*\[\[\s*{re.escape(str(keys[depth - 1]))}\s*\]\]"
            found = [i for i, line in enumerate(lines) if re.match(header, line)]
            at = found[key] if key < len(found) else at
            continue
        dotted = r"\.".join(re.escape(str(k)) for k in keys[: depth + 1])
        patterns = (rf"\s*\[+\s*{dotted}\s*\]", rf"\s*{re.escape(key)}\s*=", rf".*\b{key}\s*=")
        for pattern in patterns:
            found = [i for i in range(at, len(lines)) if re.match(pattern, lines[i])]
            if found:
                at = found[0]
                break
    return at + 1


def located(path: Path | str, text: str, keys: tuple, message: str) -> str:
    """Return a message with file, line and key before it."""
    dotted = ".".join(str(key + 1) if isinstance(key, int) else str(key) for key in keys)
    return f"{path}, line {line_of(text, keys)}, {dotted}: {message}"


def _sentence(path, text, schema, error):
    problems = error.errors()
    # A misspelt key shows both as an extra and as a missing one: the extra says what was written.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    keys = tuple(k for k in problem["loc"] if not str(k).startswith(("function-", "constrained-")))
    if problem["type"] == "extra_forbidden":
        message = unknown("key", str(keys[-1]), _fields(schema, keys[:-1]))
    elif problem["type"] == "missing":
        return f"{path}, {'.'.join(map(str, keys))}: this key is required and is not there"
    else:
        message = f"{problem['msg'][0].lower()}{problem['msg'][1:]} (given: {problem['input']!r})"
    return located(path, text, keys, message)


def _fields(schema, keys):
    """Return the keys allowed in the table at `keys`."""
    for key in keys:
        if isinstance(key, int) or key not in schema.model_fields:
            continue
        found = _schema_in(schema.model_fields[key].annotation)
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
