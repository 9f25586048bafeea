"""What an examination finds."""

import sys
from dataclasses import dataclass

PIP = f"{sys.executable} -m pip"


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    Args:
        severity: ``problem`` (something does not work) or ``note`` (it works, but could be better or break soon).
        subject: whose it is: a plugin with its version, an extension of torch, torch, the command.
        text: what is wrong with it.
        remedy: what to do, or to type.
    """

    severity: str
    subject: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.subject} {self.text}; {self.remedy}"
