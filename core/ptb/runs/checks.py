"""Checks of a configuration that need to know the data set or the built components."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence

from ptb.config.layers import RunConfig
from ptb.config.resolve import ResolvedConfig, step_problems
from ptb.data.spec import DataSpec
from ptb.errors import ConfigError, IncompatibleError, Problem, listing
from ptb.runs.blame import name_of
from ptb.training.trainer import Trainer


def check_accepts(config: ResolvedConfig, spec: DataSpec) -> None:
    """Refuse a loss or metric that says it does not take the data set's kind of targets."""
    for component in config.components().values():
        accepts, kind = component.entry.component.accepts, component.entry.kind
        # Metrics get every position as a sample of its own, so those of classes need not know of positions.
        fits = {spec.target_form, spec.target} if kind == "metric" else {spec.target_form}
        if accepts and not fits & {*accepts}:
            raise IncompatibleError(
                f"{name_of(component)} takes targets of kind {' or '.join(accepts)}; those of "
                f"{name_of(config.dataset)} are '{spec.target_form}': choose another {kind} (`ptb list {kind}`) or "
                "another data set"
            )


def better_figure(config: ResolvedConfig, asked: RunConfig, splits: Collection[str]) -> str:
    """Whether a ``"lower"`` or a ``"higher"`` monitored figure is better."""
    trainer, source = config.trainer, asked.source("trainer", "monitor")
    if trainer.patience and "val" not in splits and trainer.monitor.startswith("val/"):
        message = f"waits for {trainer.monitor}, and {name_of(config.dataset)} has no validation split"
        raise ConfigError(Problem("trainer.patience", message, asked.source("trainer", "patience")))
    # The default is silent where there is no validation split.
    if trainer.monitor != "val/loss" and (message := _unreported(trainer.monitor, config, splits, "split")):
        raise ConfigError(Problem("trainer.monitor", message, source))
    if trainer.mode != "auto":
        return "lower" if trainer.mode == "min" else "higher"
    _, label, *figure = trainer.monitor.split("/")
    better = "lower" if label == "loss" else config.metrics[label].entry.component.better
    better = better.get(figure[0] if figure else "") if isinstance(better, Mapping) else better
    if better is None:
        message = f"'{trainer.monitor}' does not say whether higher or lower is better; set trainer.mode=max or min"
        raise ConfigError(Problem("trainer.monitor", message, source))
    return better


def check_trainer(trainer: Trainer, config: ResolvedConfig, asked: RunConfig) -> None:
    """Refuse what only built components show: a callback that waits for a figure in vain, settings beside a closure."""
    problems = []
    for section, monitor in _monitors_of_callbacks(trainer):
        if message := _unreported(monitor, config, trainer.eval_loaders):
            problems.append(Problem(".".join(section), message, asked.source(*section)))
    if hasattr(trainer.scheduler, "on_evaluation"):
        settings = config.trainer
        message = _unreported(settings.monitor, config, trainer.eval_loaders)
        if not (settings.eval_every or settings.eval_steps):
            message = "there are no evaluations; set trainer.eval_every or trainer.eval_steps"
        if message:
            text = f"'{config.scheduler.entry.name}' waits for {settings.monitor}, and {message}"
            problems.append(Problem("scheduler.name", text, asked.source("scheduler", "name")))
    # Only the built optimizer says that it needs a closure, where its plugin does not.
    if trainer.needs_closure:
        found = step_problems(config.optimizer.entry.name, ["closure"], config.trainer)
        problems += [Problem(f"trainer.{key}", text, asked.source("trainer", key)) for key, text in found.items()]
    if problems:
        raise ConfigError(*problems)
    if len(setting := [section for section, _ in trainer.callbacks.actor_methods["evaluation_weights"]]) > 1:
        warnings.warn(
            f"{listing(setting)} each set the weights that are evaluated and saved: those of {setting[-1]} count, "
            "because it comes last",
            stacklevel=2,
        )


def check_figures(trainer: Trainer, reported: Sequence[str], asked: RunConfig) -> None:
    """Refuse a monitored figure of a metric that reports others, by the ``reported`` ones of a trial."""
    monitors = dict(_monitors_of_callbacks(trainer))
    if trainer.settings.monitor.partition("/")[0] in ("train", *trainer.eval_loaders):
        monitors["trainer", "monitor"] = trainer.settings.monitor
    there = listing([f"val/{name}" for name in reported])
    problems = [
        Problem(".".join(section), f"'{monitor}' is no figure; reported are {there}", asked.source(*section))
        for section, monitor in monitors.items()
        if monitor.partition("/")[2] not in reported
    ]
    if problems:
        raise ConfigError(*problems)


def _monitors_of_callbacks(trainer: Trainer) -> Iterator[tuple[tuple[str, ...], str]]:
    for label, callback in trainer.callbacks.components().items():
        if isinstance(monitor := getattr(callback, "monitor", None), str):
            yield ("callbacks", label, "monitor"), monitor


def _unreported(monitor: str, config: ResolvedConfig, splits: Collection[str], by: str = "evaluation") -> str:
    """What is wrong with a monitored figure, SPLIT/LABEL or SPLIT/LABEL/FIGURE; nothing if it is reported.

    Each ``split`` reports its figures, an ``evaluation`` those of the validation split.
    """
    labels = ("loss", *config.metrics)
    reported = [f"val/{label}" for label in labels] if "val" in splits else []
    trained = [f"train/{label}" for label in labels] if by == "split" else []
    if "/".join(monitor.split("/")[:2]) in (*reported, *trained):
        return ""
    there = f"reported are {listing(reported)}" if reported else "there is no validation split"
    return f"'{monitor}' is reported by no {by}; {there}"
