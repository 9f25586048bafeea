"""What may be changed in the configuration of a run that is resumed, continued or evaluated. Imports no torch."""

import warnings
from collections.abc import Callable, Sequence

from ptb.config.layers import RunConfig, leaves
from ptb.config.resolve import PartialConfig
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
# Where the data is may change as long as it is the same data, which its fingerprint says.
DATASET = "dataset"
# Beside the metrics: where an evaluation computes, and how fast.
EVALUATION_KEYS = ("loader.batch_size", *MACHINE_KEYS)
TRAINING_SECTIONS = ("initializer", "optimizer", "scheduler", "callbacks")
# What a run may have other than the one that it continues; not the name of the optimizer, nor its groups.
CONTINUED = ("trainer.", "optimizer.", "callbacks.")


def resume_config(
    run: RunDirectory, overrides: Sequence[str] = (), device: str | None = None, callbacks: Sequence[str] = ()
) -> RunConfig:
    """The configuration of a run, to resume it; ``callbacks`` are added.

    ``overrides`` have keys of ``RESUME_KEYS``, or are settings of these callbacks.
    """
    added = tuple(f"callbacks.{label}." for label in callbacks)
    others = [text for text in overrides if not text.startswith(added)]
    _check(others, (DATASET, *RESUME_KEYS), "cannot be set when a run goes on")
    return RunConfig.read([run.config], {"device": device}, overrides, callbacks=callbacks)


def evaluation_config(
    run: RunDirectory, device: str | None = None, metrics: Sequence[str] = (), overrides: Sequence[str] = ()
) -> RunConfig:
    """The configuration of a run, to evaluate it; it lacks ``TRAINING_SECTIONS``, whose plugins may be gone.

    ``metrics`` come in place of those of the run; ``overrides`` have keys of ``EVALUATION_KEYS`` or set a metric.
    """
    _check(overrides, ("metrics", DATASET, *EVALUATION_KEYS), "cannot be set in an evaluation")
    # An evaluation drops no samples; with larger batches the training split might have none that is full.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*replaces the metrics")  # they were to be replaced
        config = RunConfig.read([run.config], {"device": device}, ["loader.drop_last=false", *overrides], metrics)
    for section in TRAINING_SECTIONS:
        config.values.pop(section, None)
    return config


def other_keys(partial: PartialConfig, run: RunDirectory, is_free: Callable[[str], bool], why: str) -> list[str]:
    """The keys that a command asks for otherwise than ``run`` has them, without those of the machine.

    A key that neither the run has nor the command asks for is a default of a newer version, and no difference.

    Raises:
        ConfigError: some are not free to change; ``why`` says that of each.
    """
    now, then = leaves(partial.as_config()), leaves(RunConfig.read([run.config]).values)
    asked = tuple(f"{'.'.join(path)}." for path in partial.asked.sources)
    keys = {*then, *(key for key in now if f"{key}.".startswith(asked))}
    changed = [key for key in sorted(keys.difference(MACHINE_KEYS)) if now.get(key) != then.get(key)]
    problems = [
        Problem(key, f"is {then.get(key, 'not set')} in {run.path}, and {now.get(key, 'not set')} is asked for: {why}")
        for key in changed
        if not is_free(key)
    ]
    if problems:
        raise ConfigError(*problems)
    return changed


def changed_keys(partial: PartialConfig, parent: RunDirectory) -> list[str]:
    """The keys that a continued run has other than its parent.

    Raises:
        ConfigError: one of them cannot change while training goes on.
    """

    def is_free(key: str) -> bool:
        return key.startswith(CONTINUED) and key != "optimizer.name" and not key.startswith("optimizer.groups")

    why = f"a run that is continued keeps it; `ptb run --from {parent.path}` begins a new one with its weights"
    return other_keys(partial, parent, is_free, why)


def _check(overrides: Sequence[str], allowed: Sequence[str], why: str) -> None:
    """Refuses overrides of other keys and sections than these."""
    problems: list[Problem] = []
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals:
            problems.append(Problem("", f"'{text}' is not KEY=VALUE, such as threads=1; one run at a time"))
        elif key not in allowed and key.partition(".")[0] not in allowed:
            problems.append(Problem(key, f"{why}; only {listing(allowed)}", text))
    if problems:
        raise ConfigError(*problems)
