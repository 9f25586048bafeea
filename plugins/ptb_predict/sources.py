"""What is predicted: files, folders, patterns and JSON lines of standard input become sources of a preprocessor."""

import glob
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ptb import ConfigError, Sample

STANDARD_INPUT = "-"


def sources(arguments: Sequence[str], stream: IO[str]) -> Iterator[Any]:
    """Paths and rows, one by one, in the order of the arguments.

    Raises:
        ConfigError: nothing is there that an argument names, before anything is yielded.
    """
    expanded = [path for text in arguments for path in _expanded(text)]
    return _each(expanded, stream)


def _expanded(text: str) -> list[str]:
    if text == STANDARD_INPUT:
        return [text]
    path = os.path.expanduser(text)
    if os.path.lexists(path):
        return [path]
    found = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
    if not found:
        raise ConfigError(f"{text}: there is no such file or folder" + (", and nothing fits" * glob.has_magic(path)))
    return found


def _each(expanded: Sequence[str], stream: IO[str]) -> Iterator[Any]:
    for text in expanded:
        if text != STANDARD_INPUT:
            yield Path(text)
            continue
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield from _of_line(line, number)


def _of_line(line: str, number: int) -> Iterator[Any]:
    """A row as a dict, numbers as an array, the path in a JSON text; what is none of them says so in its place."""
    name = f"line {number}"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        hint = "; name a CSV file instead: it is no input of this kind" if number == 1 and "," in line else ""
        yield Sample(name, error=f"it is no JSON object, list or text{hint}")
        return
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        yield from value
    elif isinstance(value, list):
        import numpy as np  # an error of the command line needs none

        try:
            yield np.asarray(value, dtype=np.float32)
        except (ValueError, TypeError):
            yield Sample(name, error="it is a list of other things than numbers or objects")
    elif isinstance(value, str):
        yield Path(value)
    else:
        yield value if isinstance(value, dict) else Sample(name, error="it is no JSON object, list or text")
