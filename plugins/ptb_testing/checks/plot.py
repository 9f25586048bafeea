"""What a plot owes: a figure or a chart of what it is given, the same each time, and nothing changed by drawing it."""

import io
import sys
import threading
import warnings
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from ptb import PtbError, RunRecord
from ptb.internals import listing, one_line
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.checks.support import on
from ptb_testing.outcome import CheckFailed
from ptb_testing.recorded import FILES, forms_of, hostile, only, records_of, run_of


def use(case: Case) -> Any:
    """What it draws."""
    return case.build(records_of(case, forms_of(case)[0]))


def gives_a_figure_or_a_chart(case: Case) -> str:
    """Runs of each kind in `accepts`, of any if it is empty, become a matplotlib `Figure` or a pyecharts chart."""
    words = set()
    for form in forms_of(case):
        with on(f"a run with targets of kind {form}"):
            drawn = case.build(records_of(case, form))
            if not (_is_figure(drawn) or _is_chart(drawn)):
                raise CheckFailed(
                    f"it gives a {type(drawn).__name__}: give a matplotlib.figure.Figure or a chart of pyecharts"
                )
            _bytes(drawn, laid_out=True)
            words.add("a figure of matplotlib" if _is_figure(drawn) else "a chart of pyecharts")
    return listing(sorted(words))


def draws_the_same_twice(case: Case) -> None:
    """Of the same records it draws the same, to the last byte."""
    first, again = (_bytes(case.build(records_of(case, forms_of(case)[0]))) for _ in range(2))
    if first != again:
        raise CheckFailed("drawn twice, it is not the same: draw nothing at random, and use no clock")


def needs_suffice(case: Case) -> None:
    """From a run that holds nothing but what its `needs` name it draws the same."""
    needs, form = case.component.component.needs, forms_of(case)[0]
    named = listing(needs) or "none"
    whole = _bytes(case.build(records_of(case, form, only(FILES))))
    try:
        part = _bytes(case.build(records_of(case, form, only(needs))))
    except Exception as error:
        raise CheckFailed(
            f"with its needs alone ({named}) it raised {one_line(error)}: name in needs= what it reads"
        ) from error
    if part != whole:
        raise CheckFailed(f"with its needs alone ({named}) it draws something else: name in needs= what it reads")


def leaves_runs_alone(case: Case) -> None:
    """It writes nothing into a run directory, and changes nothing that a record gives."""
    records = records_of(case, forms_of(case)[0], only(FILES))
    before, given = [_files(record.path) for record in records], [repr(_read(record)) for record in records]
    case.build(records)
    if [repr(_read(record)) for record in records] != given:
        raise CheckFailed("it changes what a record gives, which other plots read after it: copy it first")
    if [_files(record.path) for record in records] != before:
        raise CheckFailed("it writes into the run directory: give the figure, and leave files to `ptb plot`")


def leaves_pyplot_alone(case: Case) -> None:
    """It opens no figure of pyplot, which keeps them for the whole process, and changes no `rcParams`."""
    form = forms_of(case)[0]
    case.build(records_of(case, form))
    if "matplotlib" not in sys.modules:
        return
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        before, opened = dict(mpl.rcParams), _open_figures()
        case.build(records_of(case, form))
        changed = sorted(key for key, value in mpl.rcParams.items() if before.get(key) != value)
    if _open_figures() != opened:
        raise CheckFailed("it leaves a figure of pyplot open: make a matplotlib.figure.Figure() instead")
    if changed:
        raise CheckFailed(f"it changes rcParams ({listing(changed, 5)}), for the whole process: use rc_context")


def draws_in_a_thread(case: Case) -> None:
    """It draws in another thread than the main one, as where a page is made beside a training."""
    form = forms_of(case)[0]
    _in_a_thread(lambda: _bytes(case.build(records_of(case, form))))


def draws_unusual_values(case: Case) -> None:
    """Names of classes with markup, `$` and 300 characters, and figures that are not finite, are drawn too."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # fonts are no matter of a plot
            _bytes(case.build(records_of(case, forms_of(case)[0], hostile)))
    except PtbError:
        return  # it says what it cannot draw
    except Exception as error:
        raise CheckFailed(
            f"with names such as '<script>' and '$\\frac$', and losses of nan and inf, it raised {one_line(error)}: "
            "escape '$' in what matplotlib draws, and leave out what is not finite"
        ) from error


def takes_several_runs_or_says_so(case: Case) -> None:
    """Two runs are drawn together, or refused with a `ConfigError`; a note where something else is raised."""
    form = forms_of(case)[0]
    try:
        _bytes(case.build([RunRecord(run_of(form, seed)) for seed in (0, 1)]))
    except PtbError:
        return
    except Exception as error:
        raise CheckFailed(
            f"for two runs it raised {one_line(error)}: raise a ptb.ConfigError that says how many it draws"
        ) from error


OWN = (
    gives_a_figure_or_a_chart,
    draws_the_same_twice,
    needs_suffice,
    leaves_runs_alone,
    leaves_pyplot_alone,
    draws_in_a_thread,
    draws_unusual_values,
    takes_several_runs_or_says_so,
)
TRAINED = (common.fits_a_run, common.resumes_exactly)  # no plot takes part in a training
KIT = Kit(
    checks=(*(check for check in common.CHECKS if check not in TRAINED), *OWN),
    gates=(gives_a_figure_or_a_chart, draws_the_same_twice),
    notes=(takes_several_runs_or_says_so,),
    use=use,
)


def _is_figure(drawn: Any) -> bool:
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    return figure is not None and isinstance(drawn, figure)


def _is_chart(drawn: Any) -> bool:
    return callable(getattr(drawn, "dump_options", None))


def _bytes(drawn: Any, laid_out: bool = False) -> bytes:
    """What is drawn, as a file that depends on nothing else; a layout takes longer than all the rest of a figure."""
    if _is_chart(drawn):
        return str(drawn.dump_options()).encode()
    import matplotlib as mpl

    stream = io.BytesIO()
    if not laid_out:
        drawn.set_layout_engine("none")
    with mpl.rc_context({"svg.hashsalt": "ptb", "svg.fonttype": "none"}):
        drawn.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _open_figures() -> list[int]:
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return [*helpers.Gcf.figs] if helpers else []


def _files(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in paths}


def _read(record: RunRecord) -> list[Any]:
    return [record.config, record.manifest, record.summary, record.history]


def _in_a_thread(work: Callable[[], Any]) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise CheckFailed(f"in a thread it raised {one_line(raised[0])}") from raised[0]
