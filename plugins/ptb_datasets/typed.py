"""A setting as it is typed: what messages suggest works when it is pasted into a shell."""

import json
import shlex
import tomllib
from typing import Any


def typed(key: str, value: Any) -> str:
    """``dataset.KEY=VALUE``, quoted for the shell: ``dataset.classes='["1", "2"]'``.

    Args:
        key: of the setting.
        value: a text, number, boolean, or a list of them.
    """
    text = value if isinstance(value, str) and _is_bare(value) else json.dumps(value, ensure_ascii=False)
    return f"dataset.{key}={shlex.quote(text)}"


def _is_bare(text: str) -> bool:
    """Whether a text stays that text on the command line, where values are read as TOML first."""
    try:
        tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return bool(text.strip()) and text == text.strip() and text[0] not in "\"'[{"
    return False
