"""For runs of a team side by side: sends them to an MLflow server, or to a store on this machine."""

import json
import os
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ptb import ConfigError, StorageError
from ptb_trackers.about import KILLED, About, Outcome
from ptb_trackers.redaction import Redaction
from ptb_trackers.rows import Row
from ptb_trackers.state import State

# Read when mlflow is imported: what it would do by itself is ours to do, and a server that hangs is left soon.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # `uri` names one only where the user wants one.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
MOST_METRICS, MOST_PARAMS = 1000, 100  # in one request
LONGEST_PARAM, LONGEST_TAG, LONGEST_KEY = 6000, 5000, 250
RUN_TAG = "ptb.run"
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", KILLED: "KILLED"}


def uri_of(settings: Mapping[str, Any]) -> str:
    """Where the run goes.

    Raises:
        ConfigError: nothing says it, and this MLflow has no database of its own.
    """
    uri: str = settings["uri"] or os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri:
        return uri
    if find_spec("sqlalchemy") and find_spec("alembic"):  # the whole of MLflow, whose `mlflow ui` shows this file
        return f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    raise ConfigError(
        "no server is named; write callbacks.mlflow.uri=http://HOST:5000 or set MLFLOW_TRACKING_URI, or "
        "install the whole of MLflow (pip install mlflow), which writes into ./mlflow.db"
    )


class MlflowStore:
    """A run of an MLflow experiment. What its history has decides what is sent: no row stands there twice."""

    confirms_late = False

    def __init__(self, settings: Mapping[str, Any], run: Path) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        uri = uri_of(settings)
        self.destination = f"{Redaction().clean(uri)} (experiment {settings['experiment']})"
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = str(settings["experiment"])
        self._id = ""
        self._check = False  # whether rows may be there already
        self._times: dict[tuple[int, str], int] = {}  # a row that is sent once more keeps its time

    def is_gone(self, id: str) -> bool:
        """Nobody deletes a run there by accident."""
        return False

    def open(self, about: About, state: State, seconds: float) -> None:
        """Find the run by its id, else by the tag that names it, else make it; settings are sent where they lack."""
        from mlflow.entities import Param

        run = self._find(about, state.id)
        self._check = run is not None
        if run is None:
            tags = {RUN_TAG: about.id} | ({"ptb.tags": " ".join(about.tags)[:LONGEST_TAG]} if about.tags else {})
            run = self._client.create_run(self._experiment_id(), tags=tags, run_name=about.name)
        elif run.info.status != "RUNNING":
            self._client.update_run(run.info.run_id, status="RUNNING")
        state.id = self._id = run.info.run_id
        lacking = {
            _key(name): _text(value)[:LONGEST_PARAM]
            for name, value in about.parameters.items()
            if _key(name) not in run.data.params  # they cannot change there
        }
        params = [Param(name, value) for name, value in lacking.items()]
        for start in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + MOST_PARAMS])

    def send(self, rows: Sequence[Row]) -> None:
        """A metric for each figure."""
        from mlflow.entities import Metric

        there = self._there(rows) if self._check else set()
        now = int(time.time() * 1000)
        metrics = [
            Metric(key, value, self._times.setdefault((row.step, row.split), now), row.step)
            for row in rows
            for key, value in ((_key(name), value) for name, value in row.figures.items())
            if (key, row.step) not in there
        ]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + MOST_METRICS])
        self._check = False
        self._times.clear()

    def finish(self, outcome: Outcome | None) -> None:
        """The state of the run, and the facts of its summary as tags."""
        if outcome is None:
            return
        for name, value in {"status": outcome.status, **outcome.facts}.items():
            self._client.set_tag(self._id, f"ptb.{name}", _text(value)[:LONGEST_TAG])
        self._client.set_terminated(self._id, STATUS.get(outcome.status, "FINISHED"))

    def close(self) -> None:
        """Nothing is open."""

    def _find(self, about: About, known: str) -> Any:
        from mlflow.exceptions import MlflowException

        if known:
            try:
                run = self._client.get_run(known)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                run = None
            if run is None or run.info.lifecycle_stage != "active":
                raise StorageError(
                    f"run {known} was deleted there; restore it, or delete trackers/ in the run to begin anew"
                )
            return run
        # Whoever made it may have been killed before the id was written down.
        found = self._client.search_runs([self._experiment_id()], f"tags.`{RUN_TAG}` = '{about.id}'", max_results=1)
        return found[0] if found else None

    def _experiment_id(self) -> str:
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return str(self._client.create_experiment(self._experiment))
        return str(experiment.experiment_id)

    def _there(self, rows: Sequence[Row]) -> set[tuple[str, int]]:
        keys = {_key(name) for row in rows for name in row.figures}
        return {(key, each.step) for key in keys for each in self._history(key)}

    def _history(self, key: str) -> Iterator[Any]:
        yield from self._client.get_metric_history(self._id, key)


def _key(name: str) -> str:
    """A name that MLflow takes; names that differ only in what it does not take stay different."""
    clean = re.sub(r"[^/\w.\- ]", "_", name).strip("/.")[:LONGEST_KEY]
    clean = re.sub(r"/{2,}|(?<=/)\.+(?=/)", "_", clean)
    return clean if clean == name else f"{clean[: LONGEST_KEY - 9]}-{zlib.crc32(name.encode()):08x}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
