"""Finds secrets in what is about to leave the machine: the values of environment variables that hold keys."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

REPLACEMENT = "***"
SHORTEST = 8  # characters of a secret that is looked for inside of other texts; a shorter one must be all of a value
SHORTEST_ALONE = 4
_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)@")


class Redaction:
    """Replaces secrets, and notes of which variables they were.

    Args:
        environment: in which the secrets are; that of the process when left out.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        found = {
            form: name
            for name, value in (os.environ if environment is None else environment).items()
            if _SECRET.search(name) and len(value) >= SHORTEST_ALONE
            for form in (value, quote(value, safe=""))
        }
        # The longest first: one may be a part of another.
        self._secrets = dict(sorted(found.items(), key=lambda pair: -len(pair[0])))
        self.replaced: set[str] = set()

    def clean(self, value: Any) -> Any:
        """A copy of plain data without secrets; keys of dicts are looked at too."""
        if isinstance(value, Mapping):
            return {self.clean(key): self.clean(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean(inner) for inner in value]
        if isinstance(value, bool) or value is None:
            return value
        text = str(value)
        cleaned = self._text(text)
        return value if cleaned == text else cleaned

    def _text(self, text: str) -> str:
        for secret, name in self._secrets.items():
            if text == secret or (len(secret) >= SHORTEST and secret in text):
                self.replaced.add(name)
                text = text.replace(secret, REPLACEMENT)
        return _URL_PASSWORD.sub(rf"\1:{REPLACEMENT}@", text)
