"""``ptb plugins freeze``: the pip requirements of the installed plugins."""

import re
from typing import TYPE_CHECKING

import click

from ptb.internals import printable, refuse_plugin_options

if TYPE_CHECKING:
    from ptb.internals import FoundPlugin

_VARIABLES = re.compile(r"\$\{[\w-]+\}(:\$\{[\w-]+\})?")  # pip fills them in from the environment


@click.command()
def freeze() -> None:
    """Print the pip requirements of all plugins.

    Broken and disabled plugins are included; one that pip cannot install by its metadata is a comment. Passwords in
    URLs are removed. Nothing is imported.

    \b
    ptb plugins freeze > plugins.txt
    python -m pip install -r plugins.txt
    """  # noqa: D301  # click wants the backspace itself
    refuse_plugin_options("freeze prints all plugins and loads none")
    from ptb.internals import find_plugins

    for plugin in find_plugins():
        if not plugin.built_in:
            click.echo(printable(requirement(plugin)))


def requirement(plugin: "FoundPlugin") -> str:
    """The line of a requirements file that installs this plugin again (PEP 508; ``-e`` for an editable one).

    A password in a URL is removed. Where the metadata make no line that pip accepts, it is a comment.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    origin, vcs = plugin.origin, plugin.origin.get("vcs_info")
    url = str(origin.get("url", ""))
    url = re.sub(r"(?<=://)([^/]*)@", lambda user: user[0] if _is_public(user[1]) else "", url) if "://" in url else ""
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


def _is_public(user: str) -> bool:
    """Whether the part of a URL before the host holds no secret: variables, or the user that all of git share."""
    return user == "git" or bool(_VARIABLES.fullmatch(user))
