"""Which files the plugins of a run had, and whether those that are installed now are the same."""

import hashlib
import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ptb.errors import PluginError, listing
from ptb.registry.discovery import FoundPlugin
from ptb.registry.local import advice
from ptb.storage.run_directory import RunDirectory, read_json

# What an installer writes beside the files of the plugin itself.
_NOT_CONTENT = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


def content_hashes(plugin: FoundPlugin) -> dict[str, str]:
    """The SHA-256 of each file of a plugin: those that its installer recorded, else all of its packages."""
    if plugin.source is not None:
        return {plugin.name: hashlib.sha256(plugin.source).hexdigest()} if plugin.source else {}
    recorded = plugin.recorded and not plugin.editable
    files = dict(_recorded_files(plugin) if recorded else _source_files(plugin))
    return {name: sha for name, path in sorted(files.items()) if path.suffix != ".pyc" and (sha := _sha256(path))}


def record(plugin: FoundPlugin) -> dict[str, Any]:
    """What a manifest says of a plugin: its version, one hash over all of its files, and that of each file."""
    files = content_hashes(plugin)
    whole = hashlib.sha256("".join(f"{name}\0{sha}\n" for name, sha in files.items()).encode()).hexdigest()
    return {"version": plugin.version, "sha256": whole, "files": files}


def check_unchanged(manifest: Path, installed: Iterable[FoundPlugin]) -> set[str]:
    """The names of the plugins that the run of this ``manifest.json`` used, if they are installed as they were then.

    Raises:
        PluginError: one of them is missing or has changed; the message says what differs.
    """
    records = recorded_plugins(read_json(manifest))
    if records is None:
        raise PluginError(f"{manifest} does not say which files the plugins of the run had")
    now = {found.name: record(found) for found in installed if found.name in records}
    if changed := plugin_changes(records, now):
        missing = [name for name in records if name not in now and name.endswith(".py")]
        changed += [f"{name} is a file: {advice(name, [manifest])}" for name in missing]
        lines = "\n".join(f"  {line}" for line in changed)
        raise PluginError(f"the plugins are not those of the run that wrote {manifest}:\n{lines}")
    return set(records)


def warn_of_other_code(run: RunDirectory, plugins: Iterable[FoundPlugin]) -> None:
    """Warns of each plugin whose code is not that which the run recorded: its figures may be others now."""
    then = recorded_plugins(read_json(run.manifest)) or {}
    now = {found.name: record(found) for found in dict.fromkeys(plugins) if found.name in then}
    for text in plugin_changes({name: then[name] for name in now}, now):
        warnings.warn(f"plugin {text}: what it computes may not be what it computed in the run", stacklevel=3)


def recorded_plugins(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a manifest records of each plugin that its run used; None where it does not."""
    records = manifest.get("plugin_files")
    if not isinstance(records, dict) or not all(isinstance(each, dict) for each in records.values()):
        return None
    return records


def plugin_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two times in the records of plugins, one line each."""
    lines = []
    for name in sorted({*then, *now}):
        if name not in now:
            lines.append(f"{name}: not used or not installed any more")
        elif name not in then:
            lines.append(f"{name}: not used then")
        else:
            lines += [f"{name}: {difference}" for difference in _differences(then[name], now[name])]
    return lines


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if then.get("version") != now["version"]:
        yield f"version {then.get('version')} then, {now['version']} now"
    before, files = then.get("files"), now["files"]
    if not isinstance(before, dict):
        yield "the manifest does not list its files"
        return
    if not all(any(map(_is_of_installer, each)) for each in (before, files)):
        before, files = ({n: sha for n, sha in each.items() if not _is_of_installer(n)} for each in (before, files))
    if before != files:
        names = sorted(name for name in {*before, *files} if before.get(name) != files.get(name))
        yield f"its files differ: {listing(names, 5)}"


def _is_of_installer(name: str) -> bool:
    """Metadata and scripts, which a source folder that is used in place (an editable install) does not have."""
    return ".dist-info/" in name or name.startswith("..")


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
            for inner, _, names in os.walk(folder):  # which passes over a folder that cannot be read
                start = Path(top, os.path.relpath(inner, folder)).as_posix()
                yield from ((f"{start}/{name}", Path(inner, name)) for name in names if not name.endswith(".pyc"))
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


def _sha256(path: Path) -> str | None:
    """That of a file; None for what is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return _sha256_of(path, (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@lru_cache(maxsize=4096)  # a process that trains many runs reads the files once
def _sha256_of(path: Path, _unchanged: tuple[int, ...]) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "unreadable"
