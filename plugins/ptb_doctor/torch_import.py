"""Whether torch can be imported, with the extensions that it loads by itself.

To find these, torch reads the entry points of every distribution: one bad line in any of them ends its import.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution

from ptb.internals import listing, normalize, one_line
from ptb_doctor.finding import PIP, Finding
from ptb_doctor.metadata import folder_of
from ptb_doctor.processes import python, run

SECONDS = 120.0
GROUP = "torch.backends"  # the entry points that `import torch` runs
AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
_IMPORT = """
import json, sys
try:
    import torch
except Exception as error:
    cause = error.__cause__ or error
    print("\\n" + json.dumps([str(error), f"{type(cause).__name__}: {' '.join(str(cause).split())}"]))
    sys.exit(1)
"""


def of_torch(installed: Sequence[Distribution]) -> Iterator[Finding]:
    """What keeps torch from being imported; nothing if it can be.

    Args:
        installed: every distribution on the path.
    """
    message, reason = _import_torch()
    if not reason:
        return
    extensions: dict[str, str] = {}  # and the distributions that provide them
    unreadable: dict[str, str] = {}
    for dist in installed:
        # by the folder: metadata may be unreadable
        name = normalize(re.sub(r"(-[^-]*)?\.(dist|egg)-info$", "", folder_of(dist).name))
        try:
            extensions |= {point.name: name for point in dist.entry_points if point.group == GROUP}
        except Exception as error:  # the file may hold anything
            unreadable[name] = _bad_line(dist, error)
    failed = re.search(r"backend extension: (\S+)\.(?:\s|$)", message)
    if not failed and (not (extensions or unreadable) or _import_torch(autoload=False)[1]):
        yield Finding("problem", "torch", f"cannot be imported: {reason}", f"{PIP} install --force-reinstall torch")
    elif not failed and unreadable:
        lines = listing([*unreadable.values()])
        text = f"cannot be imported: it reads the entry points of all that is installed, and {lines}"
        remedy = f"correct that, remove it: {PIP} uninstall {' '.join(unreadable)}, or switch it off with {AUTOLOAD}=0"
        yield Finding("problem", "torch", text, remedy)
    else:  # without a name, one of them has ended the process
        suspects = {name: dist for name, dist in extensions.items() if not failed or name == failed[1]}
        names = " or ".join(f"{name} ({dist})" for name, dist in suspects.items())
        text = f"cannot be loaded, which stops every command that uses torch: {reason}"
        remove = f"{PIP} uninstall {' '.join(sorted({*suspects.values()}))}"
        remedy = f"switch it off with {AUTOLOAD}=0, or remove it: {remove}"
        yield Finding("problem", f"torch backend extension {names}", text, remedy)


def _import_torch(autoload: bool = True) -> tuple[str, str]:
    """The message and the reason of what an import of torch raises, in another process; both empty if it succeeds."""
    ended = run(python("-c", _IMPORT), os.environ | ({} if autoload else {AUTOLOAD: "0"}), SECONDS)
    if ended.status == 0:
        return "", ""
    try:
        message, reason = json.loads(ended.output.splitlines()[-1])
    except (ValueError, IndexError, TypeError):
        message, reason = "", str(ended)
    return message, reason


def _bad_line(dist: Distribution, error: Exception) -> str:
    """Where Python cannot read its entry points."""
    file = folder_of(dist) / "entry_points.txt"
    lines = file.read_bytes().splitlines() if file.is_file() else []
    for number, line in enumerate(lines, start=1):
        text = line.strip().decode(errors="replace")
        if "\ufffd" in text:
            return f"line {number} of {file} is not UTF-8: '{text}'"
        if text and text[0] not in "#[" and "=" not in text:
            return f"line {number} of {file} is not NAME = MODULE: '{text}'"
    return f"{file} cannot be read: {one_line(error)}"
