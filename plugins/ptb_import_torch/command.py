"""``ptb import-torch``: the weights of a ``.pt`` file as safetensors."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptb import ConfigError, StorageError, json_option, verbose_option
from ptb.internals import UserPath, columns, count, printable, refuse_plugin_options, stray_output_to_stderr

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 20
SUFFIX = ".safetensors"


@click.command("import-torch")
@click.argument("file", type=UserPath())
@click.option("--output", type=UserPath(), metavar="FILE", help="The file to write [default: FILE.safetensors].")
@verbose_option
@json_option
def import_torch(file: Path, output: Path | None, verbose: bool, as_json: bool) -> None:
    """Turn the weights in a .pt or .pth file into safetensors.

    FILE was written by torch.save: model.state_dict(), or a dict that has one under state_dict, model_state_dict or
    model. No code in it is run: a file that holds more than weights is refused.

    \b
    ptb import-torch resnet.pt
    ptb run --model lenet --init weights-file initializer.path=lenet.safetensors
    """  # noqa: D301  # click wants the backspace itself
    refuse_plugin_options("import-torch uses no plugins")
    target = _target(file, output)
    from ptb_import_torch.torch_file import read_torch_file, write_weights

    with stray_output_to_stderr():
        found = read_torch_file(file)
        write_weights(target, found.tensors)
    rows = {name: _form(found.tensors[name]) for name in sorted(found.tensors)}
    values = sum(tensor.numel() for tensor in found.tensors.values())
    if as_json:
        facts = {
            "schema": 1,
            "status": "ok",
            "output": str(target),
            "values": values,
            "holder": found.holder,
            "prefix": found.prefix,
            "ignored": list(found.ignored),
            "tensors": [{"name": name, "dtype": dtype, "shape": shape} for name, (dtype, shape) in rows.items()],
        }
        click.echo(json.dumps(facts))
        return
    lines = [f"wrote {target}: {count(len(rows), 'tensor')}, {count(values, 'value')}"]
    if found.holder:
        lines.append(f"the weights were under '{found.holder}'; ignored: {', '.join(found.ignored) or 'nothing'}")
    if found.prefix:
        lines.append(f"removed '{found.prefix}' from the beginning of every name")
    shown = [(name, dtype, str(shape)) for name, (dtype, shape) in list(rows.items())[:SHOWN]]
    lines.append(columns([("NAME", "DTYPE", "SHAPE"), *shown]))
    if len(rows) > SHOWN:
        lines.append(f"and {len(rows) - SHOWN} more; --json shows all")
    lines.append("to use them, with the model that they belong to:")
    lines.append(f"  ptb run --model MODEL --init weights-file {shlex.quote(f'initializer.path={target}')}")
    click.echo(printable("\n".join(lines), kept="\n"))


def _target(file: Path, output: Path | None) -> Path:
    """The file to write, checked before torch is imported.

    Raises:
        ConfigError: the name does not end in ``.safetensors``, or is taken.
        StorageError: there is no such file to read, or no such folder to write to.
    """
    try:
        target = file.with_suffix(SUFFIX) if output is None else output
        if target.suffix != SUFFIX:
            raise ConfigError(f"--output {target} must end in {SUFFIX}, the format that is written")
        if target.exists() or target.is_symlink():
            raise ConfigError(f"{target} exists already; name another file with --output, or remove it")
        if not file.exists():
            raise StorageError(f"{file} does not exist")
        if not target.parent.is_dir():
            raise StorageError(f"there is no folder {target.parent} to write {target.name} to")
    except (OSError, ValueError) as error:  # a name that is empty, too long, or has a NUL
        raise ConfigError(f"{str(file)[:80]!r} cannot be used: {error}") from error
    return target


def _form(tensor: "Tensor") -> tuple[str, list[int]]:
    return str(tensor.dtype).removeprefix("torch."), list(tensor.shape)
