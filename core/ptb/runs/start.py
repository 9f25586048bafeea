"""Starts a run, resumes one, and records how it ends. It looks nothing up: it is given what was built."""

import shlex
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any

from torch import nn

from ptb.distributed.place import PEER_LOST, place
from ptb.errors import (
    LONGEST_WARNING,
    ConfigError,
    InterruptedRunError,
    PluginError,
    StorageError,
    listing,
    one_line,
    tidy,
)
from ptb.runs import manifest, preprocessing
from ptb.runs.compose import ComposedRun
from ptb.runs.recorder import Progress, Recorder
from ptb.runs.result import RunResult
from ptb.runs.together import check_alike, describe, follow, lead, leaving
from ptb.seeding import seed_global
from ptb.storage.checkpoint import latest_valid, prune_checkpoints
from ptb.storage.run_directory import RunDirectory, check_output, read_json, write_json


def start_run(
    composed: ComposedRun,
    output: Path | None,
    progress: Progress | None = None,
    *,
    stop_after: int | None = None,
    labels: Mapping[str, Any] | None = None,
) -> RunResult:
    """Train, evaluate and record a composed run, in a new directory under ``runs/`` where ``output`` is None.

    ``labels`` are the ``name`` and the ``tags`` of the run, for its manifest. The model is trained in place. Without
    ``progress`` nothing is shown, and no signal stops the run.
    """
    if not place().speaks:
        return follow(composed, stop_after)
    config = composed.config
    check_alike(composed)
    preprocessor = preprocessing.encoded(composed)
    run = RunDirectory.create(output, config.model.entry.name, config.dataset.entry.name)
    with recording(composed, run, progress) as recorder:
        check_output(run.path)  # another process may have made a run here since
        run.write_config(config.as_config())
        recorder.started = True  # without a config.toml a summary.json would only be in the way of the next try
        keep_plugin_files(composed, run)
        kept = preprocessing.write(run, preprocessor)
        write_json(run.manifest, manifest.describe(composed) | kept | {"run": recorder.id, **(labels or {})})
        recorder.line(composed.summary_line())
        if composed.bundle.notes:
            recorder.line(f"data: {'; '.join(composed.bundle.notes)}")
        recorder.line(f"run directory: {run.path}")
        for lost in composed.lost_state.values():
            warnings.warn(f"{lost}: `ptb resume` would not continue exactly", stacklevel=2)
        seed_global(config.run.seed, "train")
        return fit(recorder, stop_after)


def resume_run(
    composed: ComposedRun,
    run: RunDirectory,
    progress: Progress | None = None,
    *,
    strict: bool = False,
    stop_after: int | None = None,
    drop_state: Collection[str] = (),
) -> RunResult:
    """Continue a run from its newest valid checkpoint; ``strict`` refuses where versions, device or data differ."""
    if not place().speaks:
        return follow(composed, stop_after)
    check_alike(composed)
    with recording(composed, run, progress) as recorder:
        _check_lost_state(recorder)
        then, now = read_json(run.manifest), manifest.describe(composed)
        checkpoint = latest_valid(run.checkpoints, then.get("run"), warnings.warn)
        same = then.get("dataset_sha256") == now["dataset_sha256"]
        manifest.check_config(run, checkpoint, composed, same)
        # Where there is neither, it was killed before it wrote one.
        same_bits = {"world_size": then.get("world_size")} if composed.config.trainer.virtual_shards else {}
        changed = manifest.changes(then, now | same_bits) if then or checkpoint else []
        if changed and strict:
            raise StorageError(
                f"--strict-resume: {run.path} was made with something else: {'; '.join(changed)}; resume it where it "
                "is as it was, or without --strict-resume"
            )
        for text in changed:
            warnings.warn(f"{text}: the run may not end as one that was not stopped", stacklevel=2)
        parent = then.get("parent")  # whose state is in the first checkpoint, before a line is logged
        if parent and (checkpoint is None or checkpoint.step < parent["step"]) and not run.log.exists():
            again = shlex.join(["ptb", *then.get("argv", sys.argv)[1:]])
            raise StorageError(
                f"{run.path} was stopped before it had taken over the state of {parent['path']}; delete it, and begin "
                f"again: rm -r {shlex.quote(str(run.path))} && {again}"
            )
        if checkpoint is None and (run.has_trained() or then.get("resumed")):
            raise StorageError(
                f"{run.path} has been trained and has no checkpoint: put one back into {run.checkpoints}, or begin a "
                "new run"
            )
        trainer = composed.trainer
        # The manifest may be gone.
        saved = checkpoint.metadata if checkpoint else {}
        recorder.id = str(then.get("run") or saved.get("run") or recorder.id)
        if checkpoint is None:
            recorder.line("nothing was saved before the run was stopped: it begins at the start")
            seed_global(composed.config.run.seed, "train")
        else:
            recorder.restore_from(checkpoint, drop_state)
            if stop_after is not None and stop_after <= checkpoint.step and not trainer.is_over:
                raise ConfigError(f"--stop-after {stop_after}: the run is at step {checkpoint.step}; name a later one")
            prune_checkpoints(run.checkpoints, trainer.settings.keep_last)  # it may have been killed before
        entries = list(then.get("resumed", []))
        # A run that begins at the start is not resumed: the entry would say that it has had a checkpoint.
        if checkpoint is not None:
            entries.append({"step": trainer.state.step, "argv": sys.argv, "changes": changed})
        if not then:
            keep_plugin_files(composed, run)
            now |= preprocessing.write(run, preprocessing.encoded(composed))
        if not trainer.is_over:
            write_json(run.manifest, {**now, **then, "run": recorder.id} | ({"resumed": entries} if entries else {}))
        recorder.started = True
        run.remove_summary()
        return fit(recorder, stop_after, resumes=checkpoint is not None)


def keep_plugin_files(composed: ComposedRun, run: RunDirectory) -> None:
    """Copy the files that the run uses as plugins into its directory, from which nothing runs them by itself."""
    found = {component.entry.found.name: component.entry.found for component in composed.config.components().values()}
    for name, plugin in found.items():
        if plugin.source:
            run.write_plugin(name, plugin.source)


def _check_lost_state(recorder: Recorder) -> None:
    """Refuse to resume where something that trains would lose state; an observer cannot change the weights."""
    lost = recorder.composed.lost_state
    observers = {f"callbacks.{label}" for label in recorder.trainer.callbacks.observers.components}
    if trained := [text for section, text in lost.items() if section not in observers]:
        raise PluginError(f"the run cannot be resumed exactly: {listing(trained)}")
    for text in lost.values():
        warnings.warn(text, stacklevel=2)


def fit(recorder: Recorder, stop_after: int | None, *, resumes: bool = False) -> RunResult:
    """Train to the end, or to where it is stopped, with all processes, and record how that was."""
    trainer, state, composed = recorder.trainer, recorder.trainer.state, recorder.composed
    for said in filter(None, (describe(composed), composed.advice)):
        recorder.line(said)
    lead(composed, recorder.run.path, resumes=resumes)
    trainer.fit(stop_after)
    again = _again(recorder.run)
    if (number := trainer.stop_signal) and not trainer.finished:
        name = Signals(number).name
        raise InterruptedRunError(f"stopped by {name} after step {state.step}, saved; {again}", number)
    if not recorder.result:
        how = f"stopped after step {state.step}, as {'a callback asked' if state.should_stop else 'asked'}"
        recorder.line(f"{how}, saved; {again}")
        recorder.result = recorder.finish("interrupted", how)
    if composed.world is not None:
        composed.world.share(replace(recorder.result, model=nn.Module()))
    return recorder.result


def _again(run: RunDirectory) -> str:
    return f"`ptb resume {shlex.quote(str(run.path))}` continues"


@contextmanager
def recording(composed: ComposedRun, run: RunDirectory, progress: Progress | None) -> Iterator[Recorder]:
    """A recorder that holds the run directory, and writes at the end how the run ended, also where it fails.

    Of several processes each waits for the others then.
    """
    with leaving(composed.world), closing(composed), run.writing():
        recorder = Recorder(run, composed, progress)
        try:
            with composed.running(), _logged_warnings(run):
                yield recorder
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) > 128
            if getattr(error, "exit_code", 0) == PEER_LOST and run.is_started():
                recorder.line(f"another process of the run is gone; {_again(run)}")
            if recorder.started and not recorder.result:
                with suppress(Exception, SystemExit):  # what has failed may fail again, and the first error says so
                    run.append_log(one_line(error))
                    recorder.finish("interrupted" if interrupted else "failed", one_line(error))
            raise


@contextmanager
def _logged_warnings(run: RunDirectory) -> Iterator[None]:
    """Warnings are lines of the log too: who looks into the run later was not there when they were shown."""
    show = warnings.showwarning

    def log(message: Warning | str, *rest: Any, **further: Any) -> None:
        with suppress(Exception):  # a warning ends no run
            run.append_log(f"warning: {tidy(str(message), LONGEST_WARNING)}")
        show(message, *rest, **further)

    warnings.showwarning = log
    try:
        yield
    finally:
        warnings.showwarning = show
