"""Starts a run, resumes one, and records how it ends. It looks nothing up: it is given what was built."""

import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from signal import Signals

from ptb.device import cpu_threads
from ptb.errors import ConfigError, InterruptedRunError, NumericalError, PluginError, StorageError, listing, one_line
from ptb.runs import blame, manifest
from ptb.runs.compose import ComposedRun
from ptb.runs.recorder import Progress, Recorder
from ptb.runs.result import RunResult
from ptb.seeding import preserve_rng_state, seed_global
from ptb.storage.checkpoint import latest_valid, prune_checkpoints
from ptb.storage.run_directory import RunDirectory, check_output


def start_run(
    composed: ComposedRun, output: Path | None, progress: Progress | None = None, *, stop_after: int | None = None
) -> RunResult:
    """Train, evaluate and record a composed run.

    Args:
        composed: what ``compose`` returned; its model is trained in place.
        output: the run directory, new or empty; None makes one under ``runs/``.
        progress: shows the run; without it nothing is shown, and no signal stops the run.
        stop_after: the optimizer step after which the run is saved and left.

    Raises:
        PtbError: see ``ptb.errors``; ``summary.json`` then says how far the run came.
    """
    config = composed.config
    run = RunDirectory.create(output, config.model.entry.name, config.dataset.entry.name)
    with _recording(composed, run, progress) as recorder:
        check_output(run.path)  # another process may have made a run here since
        run.write_config(config.as_config())
        recorder.started = True  # without a config.toml a summary.json would only be in the way of the next try
        run.write_manifest(manifest.describe(composed) | {"run": recorder.id})
        recorder.line(composed.summary_line())
        recorder.line(f"run directory: {run.path}")
        for lost in composed.lost_state:
            recorder.warn(f"{lost}: `ptb resume` would not continue exactly")
        if composed.advice:
            recorder.line(composed.advice)
        seed_global(config.run.seed, "train")
        return _fit(recorder, stop_after)


def resume_run(
    composed: ComposedRun,
    run: RunDirectory,
    progress: Progress | None = None,
    *,
    strict: bool = False,
    stop_after: int | None = None,
    drop_state: Collection[str] = (),
) -> RunResult:
    """Continue a run from its newest valid checkpoint.

    Args:
        composed: what ``compose`` made of its configuration.
        run: where its checkpoints are.
        progress: as in ``start_run``.
        strict: refuse where versions, device, threads or data are not those of the run.
        stop_after: as in ``start_run``.
        drop_state: labels of callbacks whose saved state is not used.

    Raises:
        StorageError: no checkpoint is valid, its state is not that of these components, or ``strict`` refuses.
        PtbError: as in ``start_run``.
    """
    with _recording(composed, run, progress) as recorder:
        if composed.lost_state:
            raise PluginError(f"the run cannot be resumed exactly: {listing(list(composed.lost_state))}")
        then, now = run.read_manifest(), manifest.describe(composed)
        recorder.id = str(then.get("run", recorder.id))
        checkpoint = latest_valid(run.checkpoints, then.get("run"), recorder.warn)
        manifest.check_config(run, checkpoint, composed.config)
        # Where there is neither, it was killed before it wrote one.
        changed = manifest.changes(then, now) if then or checkpoint else []
        if changed and strict:
            raise StorageError(
                f"--strict-resume: {run.path} was made with something else: {'; '.join(changed)}; resume it where it "
                "is as it was, or without --strict-resume"
            )
        for text in changed:
            warnings.warn(f"{text}: the run may not end as one that was not stopped", stacklevel=2)
        if checkpoint is None and (run.has_trained() or then.get("resumed")):
            raise StorageError(
                f"{run.path} has been trained, as {run.metrics.name}, {run.summary.name} or {run.manifest.name} show, "
                f"and has no checkpoint: put one back into {run.checkpoints}, or begin a new run"
            )
        trainer = composed.trainer
        if checkpoint is None:
            recorder.line("nothing was saved before the run was stopped: it begins at the start")
            seed_global(composed.config.run.seed, "train")
        else:
            recorder.id = str(checkpoint.metadata.get("run", recorder.id))  # the manifest may be gone
            recorder.restore_from(checkpoint, frozenset(drop_state))
            if stop_after is not None and stop_after <= checkpoint.step and not trainer.is_over:
                raise ConfigError(f"--stop-after {stop_after}: the run is at step {checkpoint.step}; name a later one")
            prune_checkpoints(run.checkpoints, trainer.settings.keep_last)  # it may have been killed before
        if not trainer.is_over:
            entry = {"step": trainer.state.step, "argv": sys.argv, "changes": changed}
            run.write_manifest({**now, **then, "run": recorder.id, "resumed": [*then.get("resumed", []), entry]})
        recorder.started = True
        run.remove_summary()
        return _fit(recorder, stop_after)


def _fit(recorder: Recorder, stop_after: int | None) -> RunResult:
    trainer, state = recorder.trainer, recorder.trainer.state
    trainer.fit(stop_after)
    again = f"`ptb resume {recorder.run.path}` continues"
    if state.stop_signal and not trainer.finished:
        name = Signals(state.stop_signal).name
        raise InterruptedRunError(f"stopped by {name} after step {state.step}, saved; {again}", state.stop_signal)
    if not trainer.finished:
        recorder.line(f"stopped after step {state.step}, as asked, saved; {again}")
        return recorder.finish("interrupted", f"stopped after step {state.step}, as asked")
    if 0 < state.skipped_steps == state.step:
        raise NumericalError(
            f"no step could be taken: the fp16 gradients overflowed in all {state.step} of them; train for more steps, "
            "so that their scale can adapt, or use trainer.precision=bf16 or fp32"
        )
    if state.stopped_early:
        monitor, patience = trainer.settings.monitor, trainer.settings.patience
        recorder.line(f"stopped early: {patience} evaluations without a better {monitor}")
    return recorder.finish("finished")


@contextmanager
def _recording(composed: ComposedRun, run: RunDirectory, progress: Progress | None) -> Iterator[Recorder]:
    """A recorder that holds the run directory, and writes at the end how the run ended, also where it fails."""
    config = composed.config
    with closing(composed), run.writing():
        recorder = Recorder(run, composed, progress)
        try:
            with (
                preserve_rng_state(),
                cpu_threads(config.run.threads),
                blame.explain_oom(config.run.device, config.loader.batch_size),
                blame.training(config.components()),
            ):
                yield recorder
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) > 128
            if recorder.started:
                with suppress(StorageError):  # the disk may be what fails, and the first error says so
                    run.append_log(one_line(error))
                    recorder.finish("interrupted" if interrupted else "failed", one_line(error))
            raise
