"""What may be changed in the configuration of a run that is resumed or evaluated. Imports no torch."""

from collections.abc import Sequence

from ptb.config.layers import RunConfig
from ptb.errors import ConfigError, Problem, listing
from ptb.storage.run_directory import RunDirectory

# None of these changes what is computed, the first two but the last bits.
MACHINE_KEYS = (
    "device",
    "threads",
    "loader.placement",
    "loader.num_workers",
    "loader.prefetch_factor",
    "loader.pin_memory",
    "loader.persistent_workers",
    "loader.multiprocessing_context",
    "loader.timeout",
)
RESUME_KEYS = (*MACHINE_KEYS, "trainer.checkpoint_every", "trainer.keep_last")
# Beside the metrics: where an evaluation computes, and how fast.
EVALUATION_KEYS = ("loader.batch_size", *MACHINE_KEYS)
TRAINING_SECTIONS = ("initializer", "optimizer", "scheduler")


def resume_config(
    run: RunDirectory,
    overrides: Sequence[str] = (),
    device: str | None = None,
    callbacks: Sequence[str] = (),
) -> RunConfig:
    """The configuration of a run, to resume it.

    Args:
        run: the run.
        overrides: ``KEY=VALUE`` with a key of ``RESUME_KEYS``.
        device: where to compute; that of the run when None.
        callbacks: names of observers to add.

    Raises:
        ConfigError: an override is not of that form, or ``config.toml`` cannot be read.
    """
    _check_form(overrides, "threads=1; one run is resumed at a time")
    problems = [
        Problem(key, f"cannot be set when a run goes on, only {listing(RESUME_KEYS)}", text)
        for key, text in _sources(overrides)
        if key not in RESUME_KEYS
    ]
    if problems:
        raise ConfigError(*problems)
    return RunConfig.read([run.config], {"device": device}, overrides, callbacks=callbacks)


def evaluation_config(
    run: RunDirectory, device: str | None = None, metrics: Sequence[str] = (), overrides: Sequence[str] = ()
) -> RunConfig:
    """The configuration of a run, to evaluate it; it lacks ``TRAINING_SECTIONS``, whose plugins may be gone.

    Args:
        run: the run.
        device: where to compute; that of the run when None.
        metrics: names of metrics instead of those of the run.
        overrides: ``KEY=VALUE`` with a key of ``EVALUATION_KEYS`` or ``metrics.LABEL.KEY``; the strongest layer.

    Raises:
        ConfigError: an override is not of that form, or ``config.toml`` cannot be read.
    """
    _check_form(overrides, "metrics.top-k.k=3; one run is evaluated at a time")
    free = listing(["metrics.LABEL.KEY", *EVALUATION_KEYS])
    problems = [
        Problem(key, f"cannot be set in an evaluation, which takes all from the run but {free}", text)
        for key, text in _sources(overrides)
        if key not in EVALUATION_KEYS and not key.startswith("metrics.")
    ]
    if problems:
        raise ConfigError(*problems)
    # An evaluation drops no samples; with larger batches the training split might have none that is full.
    config = RunConfig.read([run.config], {"device": device}, ["loader.drop_last=false", *overrides], metrics)
    for section in TRAINING_SECTIONS:
        config.values.pop(section, None)
    return config


def _check_form(overrides: Sequence[str], example: str) -> None:
    if wrong := [text for text in overrides if "=" not in text]:
        raise ConfigError(f"'{wrong[0]}' is not KEY=VALUE, such as {example}")


def _sources(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Each key that is set, and the text that sets it."""
    return [(".".join(path), text) for path, text in RunConfig.read(overrides=overrides).sources.items()]
