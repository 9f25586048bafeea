"""For runs on Weights & Biases: sends them to its server, or writes files that ``wandb sync`` sends."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ptb import ConfigError
from ptb_trackers.about import About, Outcome
from ptb_trackers.rows import Row
from ptb_trackers.state import FOLDER, State
from ptb_trackers.wandb_file import read_history

# Read when wandb is imported, or by its service.
DEFAULTS = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true"}
# wandb collects by itself what nobody asked for: code, git state, command line, host, hardware, packages, console.
NOTHING_ELSE: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "",
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
PUBLIC_SERVER = "https://api.wandb.ai"


class WandbStore:
    """A run of a project, under the id that the run has. Figures of one step are one entry of its history."""

    confirms_late = True  # wandb sends in a process of its own, and says only at the end what has arrived

    def __init__(self, settings: Mapping[str, Any], run: Path) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        import wandb

        self._wandb: Any = wandb
        self._settings = settings
        self._folder = run / FOLDER
        mode = settings["mode"] if settings["mode"] != "auto" else os.environ.get("WANDB_MODE", "online")
        self._mode = "offline" if mode in ("offline", "dryrun") else "online"
        where = os.environ.get("WANDB_BASE_URL", PUBLIC_SERVER) if self._mode == "online" else "RUN/trackers/wandb"
        project = "/".join(filter(None, (settings["entity"], settings["project"])))
        self.destination = f"{where} (project {project})"
        self._session: Any = None
        self._there: set[int] = set()
        self._held: list[Row] = []  # of the newest step: the figures of another split may follow
        self._test: Row | None = None

    def is_gone(self, id: str) -> bool:
        """Nobody deletes a run there by accident."""
        return False

    def open(self, about: About, state: State, seconds: float) -> None:
        """Begin the run, or go on with it; its own history says which steps are there.

        Raises:
            ConfigError: the server asks for a key, and none is there.
        """
        self._folder.mkdir(exist_ok=True)
        settings = self._wandb.Settings(
            **NOTHING_ELSE,
            init_timeout=max(1.0, seconds),
            finish_timeout=max(1.0, seconds),
            finish_timeout_raises=True,
        )
        try:
            self._session = self._wandb.init(
                id=about.id,
                name=about.name,
                tags=[tag[:64] for tag in about.tags],
                config=about.config,
                project=self._settings["project"],
                entity=self._settings["entity"] or None,
                mode=self._mode,
                dir=str(self._folder),
                resume="allow",
                settings=settings,
            )
        except self._wandb.errors.UsageError as error:
            if "API key" not in str(error):
                raise
            raise ConfigError(
                "no API key is configured; set WANDB_API_KEY or type `wandb login`, or write files that `wandb sync` "
                "sends later with WANDB_MODE=offline"
            ) from error
        state.id = about.id
        if self._mode == "offline":
            files = self._folder.glob(f"wandb/offline-run-*/run-{about.id}.wandb")
            self._there = {step for file in files for step in read_history(file)}
        else:
            self._there = set(range(self._session.starting_step))

    def send(self, rows: Sequence[Row]) -> None:
        """One entry a step; steps must grow, so the test split, measured with earlier weights, is in the summary."""
        for row in rows:
            if row.split == "test":
                self._test = row
                continue
            if self._held and self._held[0].step != row.step:
                self._log_held()
            self._held.append(row)

    def finish(self, outcome: Outcome | None) -> None:
        """The summary, then wait until all has arrived.

        Raises:
            TimeoutError: it does not arrive.
        """
        self._log_held()
        summary = self._session.summary
        if self._test is not None:
            summary.update({**self._test.figures, "test_step": self._test.step})
        if outcome is not None:
            summary.update({"status": outcome.status, **outcome.facts, **outcome.metrics})
        session, self._session = self._session, None
        session.finish(exit_code=0 if outcome is None or outcome.status == "finished" else 1)

    def close(self) -> None:
        """Leave the run as it is; the service of wandb ends with this process."""
        self._session = None

    def _log_held(self) -> None:
        if self._held and self._held[0].step not in self._there:
            figures = {name: value for row in self._held for name, value in row.figures.items()}
            self._session.log(figures, step=self._held[0].step)
        self._held = []
