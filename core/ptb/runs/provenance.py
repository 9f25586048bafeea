"""Where what runs came from: the installed files of a plugin, the line of a target, the pip requirement of both."""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ptb.errors import ConfigError, PluginError, listing
from ptb.registry.discovery import FoundPlugin, normalize, project_name
from ptb.storage import atomic

MAX_REEXPORTS = 8
MAX_MANIFEST_BYTES = 1 << 26
_ENVIRONMENT = re.compile(r"\$\{[\w-]+\}(:\$\{[\w-]+\})?")  # pip fills in the variables
# What an installer writes beside the files, and what running them leaves.
_NOT_CONTENT = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


class Place(NamedTuple):
    """A file and a line in it."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def source_place(target: str) -> Place | None:
    """Where the target ``"package.module:attribute"`` is written, found without importing it.

    A name that a module takes from another one is followed there. None where that cannot be told: an extension module,
    a name that is made while the program runs.
    """
    module, _, attribute = target.partition(":")
    for _ in range(MAX_REEXPORTS):
        file = _module_file(module)
        if file is None:
            return None
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None
        name, _, rest = attribute.partition(".")
        node = next((n for n in _top_level(tree) if name in _bound(n)), None)
        if node is None:
            return None
        if not isinstance(node, ast.ImportFrom):
            return Place(file, _inner_line(node, rest))
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
        module = ".".join(filter(None, (base if node.level else "", node.module)))
        original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        attribute = ".".join(filter(None, (original, rest)))
    return None


def content_hashes(plugin: FoundPlugin) -> dict[str, str]:
    """The sha256 of every file of the plugin, by its path, ``"missing"`` where it is not there any more.

    The files are those that its installer recorded; where it recorded none, and of an editable plugin, those of all
    its packages: the modules of its entry points, and what ``top_level.txt`` or else a recorded ``.pth`` file leads to.
    """
    recorded = plugin.recorded and not plugin.editable
    files = dict(_recorded_files(plugin) if recorded else _source_files(plugin))
    return {name: _sha256(path) for name, path in sorted(files.items())}


def requirement(plugin: FoundPlugin) -> str:
    """The line of a requirements file that installs this plugin again (PEP 508; ``-e`` for an editable one).

    A password in a URL is left out. Where the metadata make no line that pip takes, it is a comment.
    """
    from packaging.requirements import InvalidRequirement, Requirement  # costs a third of ``ptb list``

    origin, vcs = plugin.origin, plugin.origin.get("vcs_info")
    url = str(origin.get("url", ""))
    url = re.sub(r"(?<=://)([^/]*)@", lambda user: user[0] if _is_open(user[1]) else "", url) if "://" in url else ""
    if plugin.editable and url:
        return f"-e {url}"  # a path may hold spaces and quotes, which pip reads as its own; a URL holds none
    if isinstance(vcs, dict):
        url = f"{vcs.get('vcs')}+{url}@{vcs.get('commit_id')}"
    if subdirectory := origin.get("subdirectory"):
        url += f"#subdirectory={subdirectory}"
    line = f"{plugin.name} @ {url}" if url else f"{plugin.name}=={plugin.version}"
    if plugin.fault:
        return f"# {plugin}: {plugin.fault}"
    try:
        Requirement(line)
    except InvalidRequirement:
        return f"# {plugin}: pip cannot install it by its metadata"
    return line


def record(plugin: FoundPlugin, requires: Iterable[str] = ()) -> dict[str, Any]:
    """What a manifest says of a used plugin: ``version``, ``sha256`` over all of its files, and that of each file.

    ``requires`` are the requirements of what was used of it; the versions that are installed are recorded too.
    """
    files = content_hashes(plugin)
    whole = hashlib.sha256("".join(f"{name}\0{sha}\n" for name, sha in files.items()).encode()).hexdigest()
    return {"version": plugin.version, "sha256": whole, "requires": _versions(requires), "files": files}


def check_unchanged(manifest: Path, installed: Iterable[FoundPlugin]) -> set[str]:
    """Holds the installed plugins against those that a run used.

    Args:
        manifest: the ``manifest.json`` of the run.
        installed: the plugins of now.

    Returns:
        The names of the plugins that the run used.

    Raises:
        ConfigError: the file cannot be read.
        PluginError: one of them is missing or has changed, or is not recorded whole; the message says what differs.
    """
    try:
        records = json.loads(atomic.read(manifest, 0, MAX_MANIFEST_BYTES))["plugin_files"]
        recorded = {str(name): dict(facts) for name, facts in records.items()}
    except OSError as error:
        raise ConfigError(f"cannot read {manifest}: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise PluginError(f"{manifest} does not say which files the plugins of the run had") from None
    present = {plugin.name: plugin for plugin in installed}
    told = []
    for name, then in sorted(recorded.items()):
        required = then["requires"] if isinstance(then.get("requires"), dict) else {}
        if name in present:
            differences = _differences(then, record(present[name], required))
        else:
            differences = ["not installed any more"]
        told += [f"  {name}: {difference}" for difference in differences]
    if told:
        raise PluginError(f"the plugins are not those of the run that wrote {manifest}:\n" + "\n".join(told))
    return set(recorded)


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    told = []
    if then.get("version") != now["version"]:
        told.append(f"version {then.get('version')} then, {now['version']} now")
    required = then["requires"] if isinstance(then.get("requires"), dict) else {}
    for name, version in now["requires"].items():
        if required.get(name) != version:
            told.append(f"its requirement {name} was {required.get(name)} then, is {version or 'missing'} now")
    before = then.get("files")
    if not isinstance(before, dict) or not before:
        told.append("the manifest does not list its files")
    elif before != now["files"]:
        names = sorted(name for name in {*before, *now["files"]} if before.get(name) != now["files"].get(name))
        told.append(f"its files differ: {listing(names, 5)}")
    return told


def _versions(requirements: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each required distribution, None where there is none."""
    versions: dict[str, str | None] = {}
    for text in sorted(requirements):
        name = normalize(project_name(text))
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _module_file(module: str) -> Path | None:
    """The source of a module; only finders are asked, so that no package on the way is imported."""
    top, _, rest = module.partition(".")
    try:
        spec = find_spec(top)
        for name in rest.split(".") if rest else ():
            if spec is None or spec.submodule_search_locations is None:
                return None
            top = f"{top}.{name}"
            spec = PathFinder.find_spec(top, list(spec.submodule_search_locations))
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported, those behind an ``if`` or ``try`` too; last first."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
            pending += [child for handler in getattr(node, "handlers", ()) for child in handler.body]


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement binds."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)


def _inner_line(node: ast.stmt, rest: str) -> int:
    """The line of ``Class.method`` in its class."""
    for name in rest.split(".") if rest else ():
        inner = next((n for n in getattr(node, "body", ()) if name in _bound(n)), None)
        if inner is None:
            break
        node = inner
    return node.lineno


def _recorded_files(plugin: FoundPlugin) -> Iterable[tuple[str, Path]]:
    for file in plugin.dist.files or ():
        if file.suffix != ".pyc" and file.name not in _NOT_CONTENT:
            yield file.as_posix(), Path(str(file.locate()))


def _source_files(plugin: FoundPlugin) -> Iterable[tuple[str, Path]]:
    for top in sorted(
        {point.value.partition(":")[0].partition(".")[0] for point in plugin.entry_points} | _tops(plugin)
    ):
        try:
            spec = find_spec(top)
        except (ImportError, ValueError, AttributeError):
            continue
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for path in Path(folder).rglob("*"):
                if path.is_file() and path.suffix != ".pyc":
                    yield f"{top}/{path.relative_to(folder).as_posix()}", path
        if spec is not None and spec.origin and not spec.submodule_search_locations:
            yield Path(spec.origin).name, Path(spec.origin)


def _tops(plugin: FoundPlugin) -> set[str]:
    """The top-level packages and modules of a distribution whose files no installer has recorded."""
    try:
        if tops := set((plugin.dist.read_text("top_level.txt") or "").split()):
            return tops
        paths = [Path(str(file.locate())) for file in (plugin.dist.files or ()) if file.suffix == ".pth"]
        lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return set()
    folders = [folder for line in lines if not line.startswith("import ") and (folder := Path(line)).is_dir()]
    packages = {path.parent.name for folder in folders for path in folder.glob("*/__init__.py")}
    return packages | {path.stem for folder in folders for path in folder.glob("*.py")}


def _is_open(user: str) -> bool:
    """Whether the part of a URL before the host holds no secret: variables, or the user that all of git share."""
    return user == "git" or bool(_ENVIRONMENT.fullmatch(user))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "missing"
