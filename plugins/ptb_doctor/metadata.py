"""What is wrong with the installed metadata and files of plugins."""

import base64
import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import Distribution
from pathlib import Path

from packaging.version import InvalidVersion, Version

from ptb.internals import FoundPlugin, count, find_plugins, listing
from ptb_doctor.finding import PIP, Finding


def of_copies(found: Sequence[FoundPlugin], installed: Iterable[Distribution]) -> Iterator[Finding]:
    """Plugins whose metadata are installed twice. Under newer metadata, in another folder, a copy does no harm.

    Args:
        found: the plugins that are used.
        installed: every distribution on the path.
    """
    used = {plugin.name: plugin for plugin in found}
    seen = {folder_of(plugin.dist) for plugin in found}
    for dist in installed:
        for copy in find_plugins([dist]):
            folder, plugin = folder_of(dist), used.get(copy.name)
            if plugin is None or folder in seen:
                continue
            seen.add(folder)  # it may be on the path twice
            if copy.version == plugin.version and (_is_source_of(plugin, copy) or _is_source_of(copy, plugin)):
                continue  # the build of an editable installation leaves metadata in its source folder
            harmful = folder.parent == folder_of(plugin.dist).parent or _is_newer(copy.version, plugin.version)
            text = f"is installed twice: {folder_of(plugin.dist)} is used and hides {folder} (version {copy.version})"
            again = f"type {PIP} uninstall {plugin.name} until none is left, and install it again"
            yield Finding("problem" if harmful else "note", str(plugin), text, f"one of them is out of date: {again}")


def of_files(plugin: FoundPlugin) -> Iterator[Finding]:
    """Files of a plugin that are missing, or differ from what its installer has recorded."""
    try:
        rows = list(csv.reader((folder_of(plugin.dist) / "RECORD").read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError, csv.Error):
        return  # there is no record, or none that can be read
    missing, changed = [], []
    for name, digest in (row[:2] for row in rows if len(row) > 1 and not row[0].endswith(".pyc")):
        file = Path(str(plugin.dist.locate_file(name)))
        if not file.is_file():
            missing.append(name)
        elif digest.startswith("sha256=") and digest != _sha256(file):
            changed.append(name)
    if missing:
        text = f"lacks {count(len(missing), 'file')} of those that were installed: {listing(missing, 5)}"
        yield Finding("problem", str(plugin), text, reinstall(plugin))
    if changed:
        text = f"has {count(len(changed), 'file')} that changed after the installation: {listing(changed, 5)}"
        yield Finding("note", str(plugin), text, f"unless you changed them, {reinstall(plugin)}")


def folder_of(dist: Distribution) -> Path:
    """The folder of its metadata."""
    return Path(str(getattr(dist, "_path", "unknown"))).resolve()


def reinstall(plugin: FoundPlugin) -> str:
    """The remedy that installs the same plugin again."""
    source = f"-e {plugin.location}" if plugin.editable else plugin.name
    return f"install it again: {PIP} install --force-reinstall --no-deps {source}"


def _is_source_of(editable: FoundPlugin, other: FoundPlugin) -> bool:
    return editable.editable and folder_of(other.dist).is_relative_to(Path(editable.location).resolve())


def _is_newer(version: str, other: str) -> bool:
    """Whether the version is newer, or may be."""
    try:
        return Version(version) > Version(other)
    except InvalidVersion:
        return True


def _sha256(file: Path) -> str:
    """The digest in the form of RECORD, empty where the file cannot be read."""
    try:
        digest = hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return ""
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
