"""Examines the installation: plugins, their metadata and files, torch with its extensions, the command ``ptb``."""

import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions
from itertools import chain
from pathlib import Path

from ptb import Registry
from ptb.internals import BUILT_IN, FoundPlugin, PluginInfo, RejectedPlugin, find_plugins, listing
from ptb_doctor.finding import PIP, Finding
from ptb_doctor.metadata import of_copies, of_files, reinstall
from ptb_doctor.probe import Probed, probe
from ptb_doctor.torch_import import of_torch

SLOW_MILLISECONDS = 500


def examine(seconds: float) -> tuple[list[PluginInfo], list[Probed], list[Finding]]:
    """Examines all that is installed, disabled plugins too.

    Args:
        seconds: the time limit for the import of each plugin.

    Returns:
        The plugins as a registry has them, how each of them was imported, and the findings, problems first.
    """
    found, installed = find_plugins(), list(distributions())
    probed = [probe(plugin, seconds) for plugin in found]
    plugins = Registry(each.plugin for each in probed).plugins()
    findings = chain(
        *map(of_import, probed),
        of_copies(found, installed),
        *map(of_files, found),
        *map(of_bounds, found),
        of_names(plugins),
        of_torch(installed),
        of_command(shutil.which("ptb")),
    )
    return plugins, probed, sorted(findings, key=lambda finding: finding.severity != "problem")


def of_import(probed: Probed) -> Iterator[Finding]:
    """How a plugin was imported."""
    found = probed.plugin.found
    disable, remove = f"disable it with -p no:{found.name}", f"remove it: {PIP} uninstall {found.name}"
    if isinstance(probed.plugin, RejectedPlugin):
        yield Finding("problem", str(found), *_why_rejected(probed, probed.plugin, disable, remove))
    effects = [f"changes the process while it registers: {listing(probed.changes, 5)}"] if probed.changes else []
    effects += [f"keeps every command from ending normally: {probed.end}"] if probed.end else []
    if effects:
        remedy = f"ask its author to do that where it is used, or {disable}"
        yield Finding("problem" if probed.end else "note", str(found), ", and ".join(effects), remedy)
    milliseconds = probed.milliseconds or 0
    if probed.heavy or milliseconds > SLOW_MILLISECONDS:
        what = f"imports {', '.join(probed.heavy)}" if probed.heavy else "takes long"
        text = f"{what} while it registers: every command waits {milliseconds:,.0f} ms for it"
        yield Finding("note", str(found), text, f"ask its author to import that where it is used, or {disable}")


def _why_rejected(probed: Probed, plugin: RejectedPlugin, disable: str, remove: str) -> tuple[str, str]:
    """What is wrong, and the remedy."""
    found, missing = plugin.found, probed.missing
    own = [point.value for point in found.entry_points if missing and f"{point.module}.".startswith(f"{missing}.")]
    if own and found.editable and not Path(found.location).is_dir():
        remedy = f"type {PIP} install -e . in the folder where it is now, or {remove}"
        return f"cannot be found: its source folder {found.location} is gone", remedy
    if own:
        text = f"cannot be found: its entry point is '{own[0]}', and there is no module '{missing}'"
        return text, f"{reinstall(found)}, or {remove}"
    effect = "stops every command" if probed.milliseconds is None else f"cannot be used ({plugin.status})"
    first = f"see what it lacks with {PIP} check" if missing else "update it"
    return f"{effect}: {plugin.reason}", f"{first}, {disable}, or {remove}"


def of_bounds(plugin: FoundPlugin) -> Iterator[Finding]:
    """Whether a plugin says with which versions of ptb it works."""
    # a requirement that cannot be read is a finding of the import
    unbound = all(re.fullmatch(r"[\w.-]+", text.strip()) for text in plugin.needs)
    if unbound and not plugin.built_in and not plugin.fault:
        text = f"does not say which versions of {BUILT_IN} it works with: it may break when ptb is updated"
        yield Finding("note", str(plugin), text, f"ask its author to depend on '{BUILT_IN}>=X'")


def of_names(plugins: Iterable[PluginInfo]) -> Iterator[Finding]:
    """Names of components and commands that two plugins have."""
    for info in plugins:
        if info.status == "conflict":
            subject, text = f"{info.name} {info.version}", f"shares names: {info.reason}"
            yield Finding("note", subject, text, f"choose with the id, {info.name}:NAME")


def of_command(command: str | None) -> Iterator[Finding]:
    """Whether the command ``ptb`` on the path belongs to this Python; nothing if its script does not show that.

    Args:
        command: its file, None if there is none.
    """
    try:
        script = Path(command or "").resolve()
        head = script.read_bytes()[:2000].decode(errors="replace")
    except OSError:
        return
    ours = {Path(sys.executable).parent.resolve(), Path(sysconfig.get_path("scripts")).resolve()}
    # pip writes the Python into the first line, or into the second if the path is long
    match = re.match(r"#!(?:/bin/sh\n'''exec' )?\s*\"?(/[^\"\n]*python[\w.]*)", head)
    if match and script.parent not in ours and Path(match[1]).parent.resolve() not in ours:
        text = f"on the path, {command}, belongs to another Python, {match[1]}, with its own plugins"
        yield Finding("note", "the command ptb", text, f"the one of this Python is {sys.executable} -m ptb")
