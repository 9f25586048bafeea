"""Finds the installed plugins and loads each of them on its own.

A plugin is a ``FoundPlugin`` first (metadata only), and then a ``LoadedPlugin`` or a ``RejectedPlugin``: one that
raises stops nobody else.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from email import message_from_string
from email.message import Message
from functools import cache, cached_property
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any

from ptb.errors import one_line
from ptb.registry.component import Command, Component
from ptb.registry.contract import answers_of

GROUP = "ptb"
BUILT_IN = "pytorch-basics"
IMPOSTOR = f"other-{BUILT_IN}"  # how another distribution is called that has ptb's own name

_HOME = Path(__file__).resolve().parents[1]  # of the ptb that runs
_POINTS = "entry_points.txt"
_GROUP_HEADER = re.compile(rf"^\s*\[\s*{GROUP}\s*\]", re.MULTILINE)
_PROJECT_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class FoundPlugin:
    """An installed distribution with an entry point in the group ``ptb``; nothing of it has been imported.

    Args:
        name: of the distribution, in its one spelling.
        version: of the distribution.
        entry_points: those of the group, by name.
        dist: the distribution.
        needs: its requirements on ptb itself, as PEP 508 strings.
        fault: what is wrong with the metadata, so that nothing can be loaded.
    """

    name: str
    version: str
    entry_points: tuple[EntryPoint, ...]
    dist: Distribution
    needs: tuple[str, ...] = ()
    fault: str = ""

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
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin whose hooks have answered; ``components`` are pairs of kind and record."""

    found: FoundPlugin
    components: tuple[tuple[str, Component], ...]
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True)
class RejectedPlugin:
    """A plugin that is not used, whole.

    Args:
        found: the plugin.
        status: ``failed`` (it raised, or broke the contract), ``incompatible`` (it needs another version of ptb) or
            ``disabled``.
        reason: why, on one line.
        cause: what it raised.
    """

    found: FoundPlugin
    status: str
    reason: str
    cause: BaseException | None = None

    @property
    def why(self) -> str:
        """The status and the reason, for a sentence that begins with the plugin."""
        how = {"failed": "failed to load:", "disabled": "is disabled"}.get(self.status, f"is {self.status}:")
        return f"{how} {self.reason}"


def find_plugins(candidates: Iterable[Distribution] | None = None) -> list[FoundPlugin]:
    """The installed plugins, the built-in one first, then by name; imports nothing of them.

    Of a distribution that is installed twice, the one that Python would import counts; of ptb itself, the one that
    runs. Another distribution of that name is listed with a fault, and as ``IMPOSTOR``.

    Args:
        candidates: the distributions to look at; those of the running interpreter when left out.
    """
    plugins: dict[str, FoundPlugin] = {}
    read = [plugin for dist in (distributions() if candidates is None else candidates) if (plugin := _read(dist))]
    for plugin in _without_impostors(read):
        known = plugins.setdefault(plugin.name, plugin)
        if known.version == plugin.version and plugin.recorded and not known.recorded:
            plugins[plugin.name] = plugin  # what a build leaves in a source folder says less than an installer does
    return sorted(plugins.values(), key=lambda plugin: (not plugin.built_in, plugin.name))


def load_plugin(found: FoundPlugin) -> LoadedPlugin | RejectedPlugin:
    """Imports the plugin's entry points and asks its hooks; whatever it raises is kept, not passed on."""
    if found.fault:
        return RejectedPlugin(found, "failed", found.fault)
    if reason := _version_conflict(found):
        return RejectedPlugin(found, "incompatible", reason)
    try:
        modules = {id(module): module for module in (point.load() for point in found.entry_points)}
        return LoadedPlugin(found, *answers_of(modules.values()))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a third-party module may raise anything, or call sys.exit()
        return RejectedPlugin(found, "failed", one_line(error), error)


def normalize(distribution: str) -> str:
    """The one spelling of a distribution's name (PyPA: lower case, runs of ``-_.`` become ``-``)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def project_name(requirement: str) -> str:
    """The name that a PEP 508 requirement begins with."""
    match = _PROJECT_NAME.match(requirement.strip())
    return match[0] if match else ""


@cache
def own_version() -> str:
    """The version of the ptb that runs; another distribution of its name may come first on the path."""
    return find_plugins(distributions(name=BUILT_IN))[0].version


def _read(dist: Distribution) -> FoundPlugin | None:
    """The plugin of a distribution, if it is one; only then are its metadata read."""
    try:
        text = dist.read_text(_POINTS) or ""
    except UnicodeDecodeError as error:
        text = error.object.decode(errors="replace")
    if not _GROUP_HEADER.search(text):
        return None
    points: tuple[EntryPoint, ...] = ()
    metadata, fault = Message(), ""
    try:
        file = dist.read_text("METADATA") or dist.read_text("PKG-INFO") or ""
        metadata = message_from_string(file.partition("\n\n")[0])  # dist.metadata parses the whole README too
        points = tuple(sorted(dist.entry_points.select(group=GROUP)))
        if bad := [point for point in points if not (point.name and EntryPoint.pattern.match(point.value))]:
            fault = f"its {_POINTS} must have lines NAME = MODULE, has '{bad[0].name} = {bad[0].value}'"
        elif not metadata["Name"] or not metadata["Version"]:
            fault = "its metadata have no name and version"
    except Exception as error:  # importlib stops at a bad line of any group, with any exception
        fault = f"its METADATA or {_POINTS} cannot be read: {one_line(error)}"
    folder = Path(str(getattr(dist, "_path", "unknown"))).name
    name = normalize(metadata["Name"] or folder.partition("-")[0].removesuffix(".egg-info"))
    needs = tuple(r for r in metadata.get_all("Requires-Dist", []) if normalize(project_name(r)) == BUILT_IN)
    fault = f"{fault} ({folder})" if fault else ""
    return FoundPlugin(name, metadata["Version"] or "unknown", points, dist, needs, fault)


def _without_impostors(read: list[FoundPlugin]) -> list[FoundPlugin]:
    """The plugins, ptb's own first among those of its name; what is no copy of it gets another name and a fault."""
    same = [plugin for plugin in read if plugin.built_in]
    if len(same) < 2:  # as nearly everywhere: where they are installed need not be found out
        return read
    own, *others = sorted(same, key=_runs, reverse=True)
    apart = [plugin for plugin in read if not plugin.built_in] + [own]
    for other in others:
        if not {point.value for point in other.entry_points} <= {point.value for point in own.entry_points}:
            fault = f"it is called {BUILT_IN} as ptb itself is, which is in {own.location}; rename it, or delete"
            other = replace(other, name=IMPOSTOR, fault=f"{fault} {getattr(other.dist, '_path', 'it')}")
        apart.append(other)
    return apart


def _runs(built_in: FoundPlugin) -> bool:
    """Whether a distribution that is called as ptb itself is the one that runs."""
    location = Path(built_in.location).resolve()
    return _HOME.is_relative_to(location) if built_in.editable else location == _HOME.parent


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
