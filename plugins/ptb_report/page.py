"""Run directories in, the text of a page out. Imports pyecharts; callers import this when they need it."""

from collections.abc import Sequence
from pathlib import Path

from ptb import RunRecord
from ptb_report.one_run import one_run
from ptb_report.predicted import Record, read_predictions
from ptb_report.render import rendered
from ptb_report.several import several_runs
from ptb_report.words import Words


def page(
    paths: Sequence[Path], language: str = "en", make: Record | None = None, *, ended: bool = True, live: float = 0
) -> bytes:
    """The page of one run, or of several, as UTF-8.

    Args:
        paths: run directories.
        language: ``"en"`` or ``"zh"``.
        make: records the predictions of the run where they are missing.
        ended: nothing is said of single samples while a run goes on.
        live: seconds after which the page loads itself anew; 0 for a page that stays as it is.

    Raises:
        PtbError: a path is no run directory, or its files cannot be read.
    """
    words = Words(language)
    records = [RunRecord(path) for path in paths]
    if len(records) > 1:
        made = several_runs(records, words)
    else:
        predicted = read_predictions(records[0], make) if ended else None
        made = one_run(records[0], predicted, words)
    # A file name in it may not be UTF-8.
    return rendered(made, words, live).encode(errors="replace")
