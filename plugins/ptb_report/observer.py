"""The observer ``report``: the page of a run, when the run has ended."""

from typing import Any

from ptb import Callback

FILE = "report.html"


class ReportWriter(Callback):
    """Writes ``predictions-SPLIT.jsonl`` and ``report.html`` into the run directory. Keeps no state.

    Args:
        language: ``"en"`` or ``"zh"``.
    """

    def __init__(self, *, language: str = "en") -> None:
        self.language = language

    def on_fit_end(self, trainer: Any) -> None:
        """Write the page; what fails in it is said in it."""
        if trainer.run is None:
            return
        from ptb.internals import write_atomically
        from ptb_report.page import page  # pyecharts, which no step has to wait for

        path = trainer.run.path
        write_atomically(path / FILE, page([path], self.language, trainer.run.record_predictions))

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a run can be resumed with and without it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""
