"""Looks the installation over: every plugin, their metadata, torch with its backend extensions, and the command."""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from itertools import chain
from pathlib import Path

from ptb.errors import count, listing, one_line
from ptb.registry.discovery import BUILT_IN, IMPOSTOR, FoundPlugin, RejectedPlugin, find_plugins, normalize
from ptb.registry.registry import PluginInfo, Registry
from ptb_doctor.probe import Probed, probe
from ptb_doctor.processes import Child, python

SLOW_MILLISECONDS = 500
TORCH_SECONDS = 120.0
PIP = f"{sys.executable} -m pip"

_BACKENDS = "torch.backends"  # the group of entry points that `import torch` runs
_DIGESTS = ("sha256", "sha384", "sha512")  # what a RECORD may state
_AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
_IMPORT_TORCH = """
import json, sys
try:
    import torch
except Exception as error:
    cause = error.__cause__ or error
    print("\\n" + json.dumps([str(error), f"{type(cause).__name__}: {' '.join(str(cause).split())}"]))
    sys.exit(1)
"""


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    Args:
        severity: ``problem`` (something does not work) or ``note`` (it works, but may not last, or could be better).
        subject: whose it is: a plugin with its version, an extension of torch, torch, the command.
        text: what it does.
        remedy: what to do, or to type.
    """

    severity: str
    subject: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.subject} {self.text}; {self.remedy}"


@dataclass(frozen=True)
class Report:
    """What was seen: the plugins as a registry has them, how each of them loaded, and what is to be said of it all."""

    plugins: tuple[PluginInfo, ...]
    probed: tuple[Probed, ...]
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> int:
        """How many of the findings are more than notes."""
        return sum(finding.severity == "problem" for finding in self.findings)


def examine(seconds: float) -> Report:
    """Looks at all that is installed, whatever the environment leaves out.

    Args:
        seconds: the time limit for the import of each plugin.
    """
    found = find_plugins()
    probed = probe(found, seconds)
    infos = Registry(each.plugin for each in probed).plugins()
    findings = chain(
        *map(of_loading, probed),
        of_metadata(found, distributions()),
        of_names(infos),
        of_torch(),
        of_command(shutil.which("ptb")),
    )
    severe_first = sorted(findings, key=lambda finding: finding.severity != "problem")
    return Report(tuple(infos), tuple(probed), tuple(severe_first))


def of_loading(probed: Probed) -> Iterator[Finding]:
    """What came of a plugin's import."""
    found, subject = probed.found, str(probed.found)
    leave_out = f"leave it out with -p no:{found.name}"
    remove = f"remove it: {PIP} uninstall {found.name}"
    if isinstance(probed.plugin, RejectedPlugin):
        gone = [point.value for point in found.entry_points if _is_inside(point.module, probed.missing)]
        if gone and found.editable and not Path(found.location).is_dir():
            text = f"is not there: its source folder {found.location} is gone"
            remedy = f"where it has moved to, type {PIP} install -e ., or {remove}"
        elif gone:
            text = f"is not there: its entry point is '{gone[0]}', and there is no module '{probed.missing}'"
            remedy = f"install it again: {PIP} install --force-reinstall --no-deps {_source(found)}, or {remove}"
        else:
            effect = "stops every command" if probed.fatal else f"is set aside ({probed.plugin.status})"
            text = f"{effect}: {probed.plugin.reason}"
            lacking = f"see what it lacks with {PIP} check" if probed.missing else "update it"
            remedy = "nothing of it is used" if found.name == IMPOSTOR else f"{lacking}, {leave_out}, or {remove}"
        yield Finding("problem", subject, text, remedy)
    if probed.changes or probed.end:
        told = [f"changes the process while it registers: {listing(probed.changes, 5)}"] if probed.changes else []
        told += [f"lets no command end as it should: {probed.end}"] if probed.end else []
        remedy = f"ask its author to do that where it is used, or {leave_out}"
        yield Finding("problem" if probed.end else "note", subject, ", and ".join(told), remedy)
    milliseconds = probed.milliseconds or 0
    if probed.heavy or milliseconds > SLOW_MILLISECONDS:
        what = f"imports {', '.join(probed.heavy)}" if probed.heavy else "takes long"
        text = f"{what} while it registers: every command waits {milliseconds:,.0f} ms for it"
        yield Finding("note", subject, text, f"ask its author to import that where it is used, or {leave_out}")


def of_metadata(found: Sequence[FoundPlugin], installed: Iterable[Distribution]) -> Iterator[Finding]:
    """What the metadata of plugins lack, and where they are at odds.

    Args:
        found: the plugins that count.
        installed: every distribution on the path, in its order.
    """
    copies: dict[str, dict[Path, Distribution]] = {plugin.name: {} for plugin in found}
    names = {_folder(plugin.dist): plugin.name for plugin in found}
    for dist in installed:
        name = names.get(_folder(dist)) or _name(dist)
        if name in copies:
            copies[name].setdefault(_folder(dist), dist)  # a folder may be on the path twice
    users: dict[str, list[FoundPlugin]] = {}
    for plugin in found:
        yield from _of_copies(plugin, list(copies[plugin.name].values()))
        yield from _of_files(plugin)
        if not plugin.built_in:
            yield from _of_bounds(plugin)
            for point in plugin.entry_points:
                users.setdefault(normalize(point.name), []).append(plugin)
    for name, plugins in users.items():
        if len(plugins) > 1:
            subject = listing([str(plugin) for plugin in plugins])
            text = f"have the same entry point name '{name}': -p no:{name} means all of them"
            yield Finding("note", subject, text, f"to leave out one, name its distribution: -p no:{plugins[0].name}")


def of_names(plugins: Iterable[PluginInfo]) -> Iterator[Finding]:
    """Names of components that are not one plugin's alone."""
    for plugin in plugins:
        if plugin.status == "conflict":
            text = f"shares names: {plugin.reason}"
            yield Finding("note", f"{plugin.name} {plugin.version}", text, f"choose with the id, {plugin.name}:NAME")


def of_torch() -> Iterator[Finding]:
    """Whether torch can be imported, with the extensions that it loads by itself; tried in another process."""
    message, reason = _import_torch()
    if not reason:
        return
    installed = list(distributions())
    extensions = {point.name: dist for dist in installed for point in _points(dist) if point.group == _BACKENDS}
    unreadable = {dist: fault for dist in installed if (fault := _fault(dist))}
    named = re.search(r"backend extension: (\S+)\.(?:\s|$)", message)
    if named and named[1] in extensions:
        extensions = {named[1]: extensions[named[1]]}
    elif not (extensions or unreadable) or _import_torch(autoload=False)[1]:
        yield Finding("problem", "torch", f"cannot be imported: {reason}", f"{PIP} install --force-reinstall torch")
        return
    elif unreadable:  # it ends there, before it loads an extension
        faults = listing([*unreadable.values()])
        text = f"cannot be imported: it reads the entry points of all that is installed, and {faults}"
        remove = f"or remove it: {PIP} uninstall {_names(unreadable)}"
        yield Finding("problem", "torch", text, f"correct that, {remove}, or switch it off with {_AUTOLOAD}=0")
        return
    # without a name one has ended the process, and did not say which
    told = [f"{name} ({_name(dist)} {_version(dist)})" for name, dist in extensions.items()]
    text = f"fails to load, and with it every command that uses torch: {reason}"
    remedy = f"switch it off with {_AUTOLOAD}=0, or remove it: {PIP} uninstall {_names(extensions.values())}"
    yield Finding("problem", f"torch backend extension {' or '.join(told)}", text, remedy)


def of_command(command: str | None) -> Iterator[Finding]:
    """Whether a command ``ptb`` is that of this Python; nothing where that cannot be told.

    Args:
        command: its file, None if there is none.
    """
    if command is None:
        return
    script = Path(command).resolve()
    ours = {Path(sys.executable).parent.resolve(), Path(sysconfig.get_path("scripts")).resolve()}
    other = None if script.parent in ours else _python_of(script)
    if other is not None and other.parent.resolve() not in ours:
        text = f"on the path, {command}, is that of another Python, {other}, with plugins of its own"
        yield Finding("note", "the command ptb", text, f"that of this one is {sys.executable} -m ptb")


def _of_copies(plugin: FoundPlugin, copies: Sequence[Distribution]) -> Iterator[Finding]:
    """Other metadata of the same distribution. Beneath a newer one, in another folder, they do no harm."""
    for other in copies:
        counts, hidden = _folder(plugin.dist), _folder(other)
        if hidden == counts or _is_egg_info_of(plugin.dist, other) or _is_egg_info_of(other, plugin.dist):
            continue
        text = f"is installed twice: {counts} counts and hides {hidden} (version {_version(other)})"
        harmful = hidden.parent == counts.parent or _is_newer(_version(other), plugin.version)
        if other is copies[0]:
            harmful = True
            text += ", which comes first on the path but has no entry point for ptb"
        again = f"type {PIP} uninstall {plugin.name} until there is none left, and install it again"
        yield Finding("problem" if harmful else "note", str(plugin), text, f"one of them is stale: {again}")


def _of_files(plugin: FoundPlugin) -> Iterator[Finding]:
    """Files that are not as its installer wrote them; without its record of them there is nothing to say."""
    try:
        rows = list(csv.reader((_folder(plugin.dist) / "RECORD").read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError, csv.Error):
        return
    gone, changed = [], []
    for name, algorithm, digest in (_recorded(row) for row in rows if row and not row[0].endswith(".pyc")):
        file = Path(str(plugin.dist.locate_file(name)))
        if not file.is_file():
            gone.append(name)
        elif algorithm in _DIGESTS and _digest(file, algorithm) != digest:
            changed.append(name)
    again = f"install it again: {PIP} install --force-reinstall --no-deps {_source(plugin)}"
    if gone:
        text = f"lacks {count(len(gone), 'file')} of those that were installed: {listing(gone, 5)}"
        yield Finding("problem", str(plugin), text, again)
    if changed:
        text = f"has {count(len(changed), 'file')} that changed after the installation: {listing(changed, 5)}"
        yield Finding("note", str(plugin), text, f"unless that was meant, {again}")


def _is_egg_info_of(editable: Distribution, other: Distribution) -> bool:
    """Whether the other one is what an editable installation leaves in its source folder, and up to date."""
    return any(
        plugin.editable
        and _folder(other).is_relative_to(Path(plugin.location).resolve())
        and _version(other) == plugin.version
        and {(p.name, p.value) for p in _points(other)} == {(p.name, p.value) for p in _points(editable)}
        for plugin in find_plugins([editable])
    )


def _of_bounds(plugin: FoundPlugin) -> Iterator[Finding]:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        bound = plugin.fault or any(Requirement(text).specifier for text in plugin.needs)
    except InvalidRequirement:
        return  # it has been set aside for that
    if not bound:
        text = f"does not say which versions of {BUILT_IN} it works with: it may break when ptb is updated"
        yield Finding("note", str(plugin), text, f"ask its author to depend on '{BUILT_IN}>=X'")


def _is_inside(module: str, package: str) -> bool:
    return bool(package) and f"{module}.".startswith(f"{package}.")


def _is_newer(version: str, other: str) -> bool:
    """Also where that cannot be told."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) > Version(other)
    except InvalidVersion:
        return True


def _folder(dist: Distribution) -> Path:
    """That of the metadata."""
    return Path(str(getattr(dist, "_path", "unknown"))).resolve()


def _name(dist: Distribution) -> str:
    """As its metadata are called: they themselves may be unreadable."""
    return normalize(_folder(dist).name.removesuffix(".dist-info").removesuffix(".egg-info").partition("-")[0])


def _names(dists: Iterable[Distribution]) -> str:
    return " ".join(sorted(set(map(_name, dists))))


def _source(plugin: FoundPlugin) -> str:
    """What to hand to pip to install it again."""
    return f"-e {plugin.location}" if plugin.editable else plugin.name


def _recorded(row: Sequence[str]) -> tuple[str, str, str]:
    """Name, algorithm and digest in a row of RECORD; ``RECORD`` itself has none."""
    name, entry = [*row, ""][:2]
    algorithm, _, digest = entry.partition("=")
    return name, algorithm, digest.rstrip("=")


def _digest(file: Path, algorithm: str) -> str:
    """As in RECORD."""
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, algorithm).digest()
    except OSError as error:
        return one_line(error)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _points(dist: Distribution) -> Sequence[EntryPoint]:
    """Its entry points, none where they cannot be read."""
    try:
        return tuple(dist.entry_points)
    except Exception:  # a stranger's files may hold anything
        return ()


def _fault(dist: Distribution) -> str:
    """Where Python cannot read its entry points, empty if it can."""
    try:
        _ = dist.entry_points
    except Exception as error:
        file = _folder(dist) / "entry_points.txt"
        with suppress(OSError):
            for number, line in enumerate(file.read_bytes().splitlines(), start=1):
                text = line.strip().decode(errors="replace")
                if "\ufffd" in text:
                    return f"line {number} of {file} is not UTF-8: '{text}'"
                if text and text[0] not in "#[" and "=" not in text:
                    return f"line {number} of {file} is not NAME = MODULE: '{text}'"
        return f"{file} cannot be read: {one_line(error)}"
    return ""


def _version(dist: Distribution) -> str:
    try:
        return dist.version or "unknown"
    except Exception:  # a stranger's files may hold anything
        return "unknown"


def _python_of(script: Path) -> Path | None:
    """The Python that a script names in its first line, or in its second, where pip puts long paths."""
    try:
        with script.open("rb") as file:
            head = file.read(2000).decode(errors="replace")
    except OSError:
        return None
    match = re.match(r"#!(?:/bin/sh\n'''exec' )?\s*\"?([^\"\n]*python[\w.]*)", head)
    if match is None:
        return None
    path = match[1]
    if path.split()[0].endswith("/env"):
        path = shutil.which(path.split()[-1]) or ""
    return Path(path) if path else None


def _import_torch(autoload: bool = True) -> tuple[str, str]:
    """What an import of torch raises, and the reason for that; both empty where it succeeds."""
    with Child(python("-c", _IMPORT_TORCH), os.environ if autoload else os.environ | {_AUTOLOAD: "0"}) as child:
        ended = child.wait(TORCH_SECONDS)
    if ended.status == 0:
        return "", ""
    try:
        message, reason = json.loads(ended.output.splitlines()[-1])
    except (ValueError, IndexError, TypeError):
        message, reason = "", ended.how + (f", {ended.last_line}" if ended.last_line else "")
    return message, reason
