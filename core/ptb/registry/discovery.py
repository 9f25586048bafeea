"""Finds the installed plugins and loads each of them on its own.

A plugin is a ``FoundPlugin`` first (metadata only), and then a ``LoadedPlugin`` or a ``RejectedPlugin``: one that
raises stops nobody else.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution, EntryPoint, distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from ptb.errors import one_line
from ptb.registry.component import Command, Component
from ptb.registry.contract import ask_hooks

GROUP = "ptb"
BUILT_IN = "pytorch-basics"


@dataclass(frozen=True)
class FoundPlugin:
    """A distribution with an entry point in the group ``ptb``, or what ``local`` makes; nothing of it has been run."""

    name: str  # in its one spelling, see ``normalize``
    version: str
    entry_points: tuple[EntryPoint, ...]  # those of the group
    dist: Distribution
    needs: tuple[str, ...] = ()  # its requirements on ptb itself, as PEP 508 strings
    fault: str = ""  # what is wrong with the metadata, so that nothing can be loaded
    source: bytes | None = None  # of a plugin that is not installed: its file, empty for an object
    make: Callable[[], ModuleType] | None = None  # its module, in place of loading the entry points

    @property
    def built_in(self) -> bool:
        """Whether it is ptb's own distribution."""
        return self.name == BUILT_IN

    @cached_property
    def origin(self) -> dict[str, Any]:
        """What pip wrote down of where it came from (PEP 610), empty for a package from an index."""
        try:
            facts = json.loads(self.dist.read_text("direct_url.json") or "{}")
        except (ValueError, OSError):
            return {}
        return facts if isinstance(facts, dict) else {}

    @property
    def recorded(self) -> bool:
        """Whether its installer wrote down its files."""
        try:
            return self.dist.read_text("RECORD") is not None
        except (OSError, ValueError):
            return False

    @property
    def editable(self) -> bool:
        """Whether it is installed from a source folder that is used in place."""
        info = self.origin.get("dir_info")
        return isinstance(info, dict) and info.get("editable") is True

    @property
    def location(self) -> str:
        """The folder that it is imported from: the source folder if editable, else the one it is installed in."""
        if self.editable:
            from urllib.parse import urlparse
            from urllib.request import url2pathname  # costs a third of `ptb list`

            return url2pathname(urlparse(str(self.origin.get("url", ""))).path)
        return str(Path(str(self.dist.locate_file(""))))

    def __str__(self) -> str:
        return f"{self.name} {self.version}".rstrip()


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin whose hooks have answered; ``components`` are pairs of kind and record."""

    found: FoundPlugin
    components: tuple[tuple[str, Component], ...]
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True)
class RejectedPlugin:
    """A plugin of which nothing is used."""

    found: FoundPlugin
    status: str  # failed (it raised, or broke the contract), incompatible (it needs another ptb) or disabled
    reason: str  # on one line
    cause: BaseException | None = None  # what it raised

    @property
    def why(self) -> str:
        """The status and the reason, for a sentence that begins with the plugin."""
        how = {"failed": "failed to load:", "disabled": "is disabled"}.get(self.status, f"is {self.status}:")
        return f"{how} {self.reason}"


def find_plugins(candidates: Iterable[Distribution] | None = None) -> list[FoundPlugin]:
    """The plugins among the candidates, or all that are installed: the built-in one first; imports nothing of them."""
    plugins: dict[str, FoundPlugin] = {}
    for dist in distributions() if candidates is None else candidates:
        if plugin := _read(dist):
            known = plugins.setdefault(plugin.name, plugin)  # of two copies Python imports the first on the path
            # What a build leaves in a source folder may be older than what an installer wrote for the same version.
            if known.version == plugin.version and plugin.recorded and not known.recorded:
                plugins[plugin.name] = plugin
    return sorted(plugins.values(), key=lambda plugin: (not plugin.built_in, plugin.name))


def load_plugin(found: FoundPlugin) -> LoadedPlugin | RejectedPlugin:
    """Imports the plugin's entry points and asks its hooks; whatever it raises is kept, not passed on."""
    if found.fault:
        return RejectedPlugin(found, "failed", found.fault)
    if reason := _version_conflict(found):
        return RejectedPlugin(found, "incompatible", reason)
    try:
        modules = [found.make()] if found.make else [point.load() for point in found.entry_points]
        return LoadedPlugin(found, *ask_hooks({id(module): module for module in modules}.values()))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a third-party module may raise anything, or call sys.exit()
        return RejectedPlugin(found, "failed", one_line(error), error)


def normalize(distribution: str) -> str:
    """The one spelling of a distribution's name (PyPA: lower case, runs of ``-_.`` become ``-``)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def project_name(requirement: str) -> str:
    """The name that a PEP 508 requirement begins with, in its one spelling."""
    return normalize(re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0])


def own_version() -> str:
    """The version of ptb."""
    return version(BUILT_IN)


def _read(dist: Distribution) -> FoundPlugin | None:
    """The plugin of a distribution, if it is one; only then are its metadata read."""
    try:
        if f"[{GROUP}]" not in (dist.read_text("entry_points.txt") or ""):
            return None
    except (OSError, ValueError):  # a file that cannot be read makes no plugin
        return None
    try:
        metadata = dist.metadata
        if "Name" not in metadata or "Version" not in metadata:
            raise ValueError("they have no name and version")
        name, installed = normalize(metadata["Name"]), metadata["Version"]
        needs = tuple(text for text in metadata.get_all("Requires-Dist", []) if project_name(text) == BUILT_IN)
        points = tuple(sorted(dist.entry_points.select(group=GROUP)))
    except Exception as error:  # importlib stops at a bad line of any group, with any exception
        folder = Path(str(getattr(dist, "_path", "unknown"))).name  # "ptb_acme-1.0.dist-info"
        fault = f"its metadata cannot be read: {one_line(error)} ({folder})"
        return FoundPlugin(normalize(folder.partition("-")[0]), "unknown", (), dist, fault=fault)
    return FoundPlugin(name, installed, points, dist, needs)


def _version_conflict(found: FoundPlugin) -> str:
    """What a plugin asks of ptb's version that the installed one is not; decided before anything is imported."""
    if found.built_in or not found.needs:  # its extras name ptb itself
        return ""
    from packaging.requirements import InvalidRequirement, Requirement  # only who asks pays for it

    for text in found.needs:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            return f"its requirement {text!r} cannot be read"
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(own_version(), prereleases=True):
            return f"it needs {BUILT_IN}{requirement.specifier}, installed is {own_version()}"
    return ""
