"""Writes the splits of a data set to files: whole, or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from ptb import ConfigError, PluginError
from ptb.internals import ComponentConfig, build_dataset, one_line, storage_errors


def write_splits(dataset: ComponentConfig, seed: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Write the files of each split into ``folder``, which is new or empty, and return sizes and paths by split.

    Raises:
        ConfigError: the data set cannot write its splits.
        StorageError: the disk fails; nothing is left behind.
    """
    bundle = build_dataset(dataset, seed)
    if bundle.write_splits is None:
        raise ConfigError(f"{dataset.entry} cannot write its splits to files; what is read from files of yours can")
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            written = _written(bundle.write_splits, temporary, dataset)
            temporary.chmod(0o777 & ~_umask())
            os.replace(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    sizes = {split: len(samples) for split, samples in bundle.splits.items()}  # type: ignore[arg-type]
    return {split: {"samples": sizes[split], "path": str(folder / path)} for split, path in written.items()}


def _written(write: Callable[[Path], Any], folder: Path, dataset: ComponentConfig) -> dict[str, Path]:
    """What a data set has written into a folder, by split."""
    try:
        written = {split: Path(path).relative_to(folder) for split, path in write(folder).items()}
    except OSError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"write_splits() of {dataset.entry} failed: {one_line(error)}") from error
    if not written:
        raise PluginError(f"write_splits() of {dataset.entry} must give a path by split, it gives none")
    return written


def _umask() -> int:
    os.umask(mask := os.umask(0o077))
    return mask
