"""For curves in the browser without an account or a server of others: writes TensorBoard event files."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.metadata import (
    PLUGIN_DATA_VERSION,
    PLUGIN_NAME,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from ptb_trackers.about import About, Outcome
from ptb_trackers.event_file import EventFile
from ptb_trackers.rows import Row
from ptb_trackers.state import State

# Only the last states of a run: TensorBoard keeps the first that it reads, and a run that was stopped may go on.
ENDED = {"finished": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}


class TensorBoardStore:
    """One event file for a run. What is in it decides what is written: no row stands there twice."""

    confirms_late = False

    def __init__(self, settings: Mapping[str, Any], run: Path) -> None:
        self._folder = Path(settings["logdir"]) if settings["logdir"] else None
        self._run = run
        # A run directory may be moved, with the files in it.
        self.destination = str(self._folder or "RUN/tensorboard")
        self._file: EventFile | None = None

    def is_gone(self, id: str) -> bool:
        """Files are deleted, and sent again where somebody wants them."""
        return not any((self._folder or self._run).glob(f"*/{_file_name(id)}"))

    def open(self, about: About, state: State, seconds: float) -> None:
        """Open the file; settings and tags are written where they are not there."""
        # Runs of one name may lie in several folders, and would be drawn as one.
        folder = self._run / "tensorboard" if self._folder is None else self._folder / f"{about.name}-{about.id[:8]}"
        state.id = about.id
        self._file = EventFile(folder / _file_name(about.id))
        start = SessionStartInfo(group_name=about.name, start_time_secs=time.time())
        for key, value in about.parameters.items():
            field = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            setattr(start.hparams[key], field, value)
        self._add(0, _hparams(SESSION_START_INFO_TAG, session_start_info=start))
        self._add(0, _text("config", _as_code(about.config)))
        if about.tags:
            self._add(0, _text("tags", " ".join(about.tags)))
        self._file.flush()

    def send(self, rows: Sequence[Row]) -> None:
        """A scalar for each figure."""
        assert self._file is not None
        for row in rows:
            self._add(row.step, *(Summary.Value(tag=tag, simple_value=value) for tag, value in row.figures.items()))
        self._file.flush()

    def finish(self, outcome: Outcome | None) -> None:
        """The summary as a text, and the state that the page of hyper-parameters shows."""
        assert self._file is not None
        if outcome is None:
            return
        step = int(outcome.facts.get("step", 0))
        told = {"status": outcome.status, **outcome.facts, "metrics": outcome.metrics}
        self._add(step, _text(f"summary/{outcome.status}", _as_code(told)))
        if state := ENDED.get(outcome.status):
            end = SessionEndInfo(status=Status.Value(state), end_time_secs=time.time())
            self._add(step, _hparams(SESSION_END_INFO_TAG, session_end_info=end))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _add(self, step: int, *values: Any) -> None:
        assert self._file is not None
        self._file.add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))


def _file_name(id: str) -> str:
    return f"events.out.tfevents.0000000000.ptb.{id}"


def _hparams(tag: str, **content: Any) -> Any:
    data = HParamsPluginData(version=PLUGIN_DATA_VERSION, **content).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=data)
    return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))


def _text(tag: str, text: str) -> Any:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def _as_code(values: Mapping[str, Any]) -> str:
    """JSON, as a block of code in the Markdown that TensorBoard shows."""
    text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
    return "".join(f"    {line}\n" for line in text.splitlines())
