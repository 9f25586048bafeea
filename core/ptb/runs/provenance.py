"""Which files the plugins of a run had, and whether those that are installed now are the same."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ptb.errors import ConfigError, PluginError, listing
from ptb.registry.discovery import FoundPlugin, project_name
from ptb.storage import atomic

MAX_MANIFEST_BYTES = 1 << 26
# What an installer writes beside the files, and what running them leaves.
_NOT_CONTENT = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


def content_hashes(plugin: FoundPlugin) -> dict[str, str]:
    """The SHA-256 of every file of a plugin, by its path.

    The files are those that its installer recorded. Where it recorded none, and of an editable plugin, they are those
    of all its packages: the modules of its entry points, and what ``top_level.txt`` or else a ``.pth`` file leads to.
    """
    recorded = plugin.recorded and not plugin.editable
    files = dict(_recorded_files(plugin) if recorded else _source_files(plugin))
    return {name: _sha256(path) for name, path in sorted(files.items()) if path.suffix != ".pyc" and path.is_file()}


def record(plugin: FoundPlugin, requires: Iterable[str] = ()) -> dict[str, Any]:
    """What a manifest says of a plugin: ``version``, ``sha256`` over all of its files, and the hash of each file.

    Args:
        plugin: the plugin.
        requires: the requirements of the components that are used; their installed versions are recorded too.
    """
    files = content_hashes(plugin)
    whole = hashlib.sha256("".join(f"{name}\0{sha}\n" for name, sha in files.items()).encode()).hexdigest()
    return {"version": plugin.version, "sha256": whole, "requires": _versions(requires), "files": files}


def check_unchanged(manifest: Path, installed: Iterable[FoundPlugin]) -> set[str]:
    """Compares the installed plugins with those that a run used.

    Args:
        manifest: the ``manifest.json`` of the run.
        installed: the plugins that are installed now.

    Returns:
        The names of the plugins that the run used.

    Raises:
        ConfigError: the file cannot be read.
        PluginError: one of them is missing, has changed or is not fully recorded; the message says what differs.
    """
    try:
        records = json.loads(atomic.read(manifest, MAX_MANIFEST_BYTES))["plugin_files"]
        recorded = {str(name): dict(facts) for name, facts in records.items()}
    except OSError as error:
        raise ConfigError(f"cannot read {manifest}: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise PluginError(f"{manifest} does not say which files the plugins of the run had") from None
    present = {plugin.name: plugin for plugin in installed}
    lines = []
    for name, then in sorted(recorded.items()):
        required = then["requires"] if isinstance(then.get("requires"), dict) else {}
        if name in present:
            differences = list(_differences(then, required, record(present[name], required)))
        else:
            differences = ["not installed any more"]
        lines += [f"  {name}: {difference}" for difference in differences]
    if lines:
        raise PluginError(f"the plugins are not those of the run that wrote {manifest}:\n" + "\n".join(lines))
    return set(recorded)


def _differences(then: Mapping[str, Any], required: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if then.get("version") != now["version"]:
        yield f"version {then.get('version')} then, {now['version']} now"
    for name, version in now["requires"].items():
        if required.get(name) != version:
            yield f"its requirement {name} was {required.get(name)} then, is {version or 'missing'} now"
    before = then.get("files")
    if not isinstance(before, dict) or not before:
        yield "the manifest does not list its files"
    elif before != now["files"]:
        names = sorted(name for name in {*before, *now["files"]} if before.get(name) != now["files"].get(name))
        yield f"its files differ: {listing(names, 5)}"


def _versions(requirements: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each required distribution, None where there is none."""
    versions: dict[str, str | None] = {}
    for text in sorted(requirements):
        name = project_name(text)
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _recorded_files(plugin: FoundPlugin) -> Iterator[tuple[str, Path]]:
    for file in plugin.dist.files or ():
        if file.name not in _NOT_CONTENT:
            yield file.as_posix(), Path(str(file.locate()))


def _source_files(plugin: FoundPlugin) -> Iterator[tuple[str, Path]]:
    for top in sorted({point.module.partition(".")[0] for point in plugin.entry_points} | _top_levels(plugin)):
        try:
            spec = find_spec(top)
        except (ImportError, ValueError, AttributeError):
            continue
        folders = (spec.submodule_search_locations or ()) if spec else ()
        for folder in folders:
            for path in Path(folder).rglob("*"):
                yield f"{top}/{path.relative_to(folder).as_posix()}", path
        if spec is not None and spec.origin and not folders:
            yield Path(spec.origin).name, Path(spec.origin)


def _top_levels(plugin: FoundPlugin) -> set[str]:
    """The top-level packages and modules of a distribution whose files no installer has recorded."""
    try:
        if names := set((plugin.dist.read_text("top_level.txt") or "").split()):
            return names
        paths = [Path(str(file.locate())) for file in (plugin.dist.files or ()) if file.suffix == ".pth"]
        lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return set()
    folders = [folder for line in lines if not line.startswith("import ") and (folder := Path(line)).is_dir()]
    packages = {path.parent.name for folder in folders for path in folder.glob("*/__init__.py")}
    return packages | {path.stem for folder in folders for path in folder.glob("*.py")}


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "unreadable"
