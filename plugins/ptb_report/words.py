"""The texts of the page in the languages that it has. English texts are the keys of the others."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = ("en", "zh")


class Words:
    """Gives texts in one language."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._translated = _table(language) if language != "en" else {}

    def __call__(self, text: str, **values: Any) -> str:
        """The text with its ``{values}`` filled in.

        Raises:
            KeyError: it has no translation.
        """
        pattern = self._translated[text] if self._translated else text
        return pattern.format(**values) if values else pattern


@cache
def _table(language: str) -> dict[str, str]:
    return dict(json.loads(files("ptb_report").joinpath(f"data/{language}.json").read_text(encoding="utf-8")))
