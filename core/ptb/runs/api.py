"""``ptb.train``, ``ptb.resume`` and ``ptb.evaluate``: what the command line does, from Python."""

from pathlib import Path
from threading import RLock
from typing import Any

from ptb.config.layers import RunConfig
from ptb.config.resolve import resolve, selection
from ptb.errors import ConfigError, Problem
from ptb.registry.registry import Registry, load_selected
from ptb.runs.compose import compose
from ptb.runs.evaluate import evaluate_run
from ptb.runs.overrides import evaluation_config, resume_config
from ptb.runs.progress import PYTHON_SIGNALS
from ptb.runs.progress import progress as show_progress
from ptb.runs.result import RunResult
from ptb.runs.start import resume_run, start_run
from ptb.storage.checkpoint import find_checkpoints
from ptb.storage.run_directory import RunDirectory

_ONE_AT_A_TIME = RLock()  # the global generators and the number of threads are one for all threads of Python


def train(
    config: RunConfig,
    *,
    registry: Registry | None = None,
    output: str | Path | None = None,
    progress: bool = False,
) -> RunResult:
    """Check, compose and carry out one run, as ``ptb run`` does. The global random state is as before afterwards.

    Ctrl-C stops it after the step, and saves it for ``resume``; a second one is a ``KeyboardInterrupt``.

    Args:
        config: what to run.
        registry: where its components are looked up; a fresh one of all that is installed when left out. It cannot be
            combined with the config section ``plugins``.
        output: the run directory, new or empty; one under ``runs/`` when left out.
        progress: show on standard error what ``ptb run`` shows: a line an epoch, on a terminal a bar too.

    Raises:
        PtbError: one of its children; see ``ptb.errors``. It is an ``InterruptedRunError`` after Ctrl-C.
        TypeError: ``config`` is no ``RunConfig``; the message shows how to make one.
    """
    if not isinstance(config, RunConfig):
        raise TypeError(
            f"train takes a ptb.RunConfig, such as RunConfig.read(['run.toml']), got {type(config).__name__}"
        )
    if registry is not None and config.values.get("plugins"):
        message = "cannot be combined with a registry; write ptb.load_registry(disable=[...], require=[...])"
        raise ConfigError(Problem("plugins", message, config.source("plugins")))
    registry = registry or load_selected(selection(config))
    with _ONE_AT_A_TIME:
        composed = compose(resolve(config, registry))
        with show_progress(not progress, PYTHON_SIGNALS) as shown:
            return start_run(composed, None if output is None else Path(output).expanduser(), shown)


def resume(
    path: str | Path, *, registry: Registry | None = None, strict: bool = False, progress: bool = False
) -> RunResult:
    """Continue a run that was stopped, as ``ptb resume`` does: it ends as if it had not been.

    Args:
        path: the run directory.
        registry: as in ``train``.
        strict: refuse where what the run was made with is not what is here.
        progress: as in ``train``, and Ctrl-C too.

    Raises:
        PtbError: one of its children; see ``ptb.errors``.
    """
    run = RunDirectory.open(Path(path).expanduser())
    config = resume_config(run)
    registry = registry or load_selected(selection(config))
    with _ONE_AT_A_TIME:
        composed = compose(resolve(config, registry), initializes=not find_checkpoints(run.checkpoints))
        with show_progress(not progress, PYTHON_SIGNALS) as shown:
            return resume_run(composed, run, shown, strict=strict)


def evaluate(
    path: str | Path,
    sources: Any = None,
    *,
    checkpoint: str | None = None,
    split: str = "test",
    samples: bool = False,
    record: bool = False,
    registry: Registry | None = None,
) -> dict[str, Any]:
    """Measure a saved checkpoint of a run on a split, or on other data, as ``ptb eval`` does.

    Args:
        path: the run directory.
        checkpoint: ``"best"``, ``"last"``, a step or a label; ``"best"`` if there is one, else ``"last"``.
        sources: other data with targets: what ``TrainedModel.predict`` takes; the split is called ``"source"`` then.
        split: ``"train"``, ``"val"`` or ``"test"``.
        samples: give a dict for each sample too, under ``"samples"``: input, truth, what is predicted, loss.
        record: write ``predictions-SPLIT.jsonl`` and ``samples-SPLIT.jsonl`` into the run directory, for plots.
        registry: as in ``train``.

    Raises:
        PtbError: one of its children; see ``ptb.errors``.
    """
    run = RunDirectory.open(Path(path).expanduser())
    if record and sources is not None:
        raise ConfigError("record=True is for a split of the run, not for other data")
    config = evaluation_config(run)
    registry = registry or load_selected(selection(config))
    with _ONE_AT_A_TIME:
        partial = resolve(config, registry)
        return evaluate_run(
            run, partial, checkpoint=checkpoint, split=split, sources=sources, samples=samples, record=record
        )
