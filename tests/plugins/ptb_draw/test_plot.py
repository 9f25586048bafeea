import gc
import json
import shutil
import threading
import tracemalloc
import warnings
from importlib.util import find_spec

import pytest
from click.testing import CliRunner

import ptb
from ptb.cli import main
from ptb_draw.fonts import use_fonts
from ptb_draw.formats import figure_bytes

NEEDS_ECHARTS = pytest.mark.skipif(find_spec("ptb_report") is None, reason="ECharts lies in ptb_report")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of digits with what every plot needs but predictions."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    config = ptb.RunConfig(
        dataset={"name": "digits", "size": 8},
        model={"name": "mlp", "hidden": [8]},
        trainer={"epochs": 2},
        callbacks={"weight-histograms": {}},
    )
    ptb.train(config, output=folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def plot(*arguments):
    return CliRunner().invoke(main, ["plot", *map(str, arguments)])


def test_a_plot_lies_in_the_run_unless_a_file_is_named(run, tmp_path):
    done = plot("curves", run)
    assert (done.exit_code, done.stdout) == (0, f"drew 1 run into {run}/plots/curves.png\n")
    first = (run / "plots/curves.png").read_bytes()
    assert plot("curves", run).exit_code == 0  # one of ours is replaced
    assert (run / "plots/curves.png").read_bytes() == first
    done = plot("curves", run, "-o", tmp_path / "x.svg", "--json")
    facts = json.loads(done.stdout)
    assert facts == {
        "schema": 1,
        "plot": "pytorch-basics:curves",
        "runs": [str(run)],
        "file": str(tmp_path / "x.svg"),
        "bytes": (tmp_path / "x.svg").stat().st_size,
    }


def test_a_file_of_somebody_is_left_alone(run, tmp_path):
    (tmp_path / "mine.png").write_text("mine")
    refused = plot("curves", run, "-o", tmp_path / "mine.png")
    assert (refused.exit_code, (tmp_path / "mine.png").read_text()) == (2, "mine")
    assert "is there already; name a new file, or remove it" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("curv", "RUN"), "unknown plot 'curv' (did you mean 'curves'?)"),
        (("curves",), "Missing argument"),
        (("curves", "log=true"), "name a run too: ptb plot curves RUN"),
        (("curves", "RUN", "-o", "x.jpg"), "a plot is a file that ends in .png, .svg, .pdf, .html"),
        (("curves", "RUN", "-o", "x.html"), "is a figure of matplotlib, which is written as .png, .svg, .pdf"),
        (("curves", "RUN", "lgo=true"), "lgo: unknown key (did you mean 'log'?)"),
        (("curves", "RUN", "log=3"), "log: must be true or false"),
        (("residuals", "RUN"), "draws targets of kind real, and RUN has targets of kind class"),
        (("parallel", "RUN"), "the plot parallel compares runs: name two at least"),
        (("confusion", "RUN", "split=tset"), "has no tset split; write split=train, val, test"),
        (("curves", "nowhere"), "nowhere is not a run directory"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    refused = plot(*(run if each == "RUN" else each for each in arguments))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert message.replace("RUN h", f"{run} h") in refused.stderr
    assert not (run / "plots").exists()


def test_predictions_are_made_where_they_are_missing_or_old_and_used_where_they_are_there(run):
    step = json.loads((run / "summary.json").read_text())["best_step"]
    done = plot("confusion", run)
    assert done.exit_code == 0, done.output
    assert f"has not recorded what is predicted: evaluating step {step} on the test split" in done.stderr
    right = float(json.loads((run / "summary.json").read_text())["metrics"]["test/accuracy"])
    rows = ptb.RunRecord(run).predictions("test")
    assert sum(row["truth"] == row["prediction"] for row in rows) / len(rows) == pytest.approx(right)
    assert plot("confusion", run).stderr == ""
    file = run / "predictions-test.jsonl"
    file.write_text(file.read_text().replace(f'"step": {step}', '"step": 7'))
    assert f"the predictions of step 7: evaluating step {step}" in plot("confusion", run).stderr
    shutil.rmtree(run / "checkpoints")
    assert plot("per-class", run).exit_code == 0  # what was recorded is all that there is


def test_a_run_without_a_checkpoint_has_curves_and_no_more(run):
    shutil.rmtree(run / "checkpoints")
    assert plot("curves", run).exit_code == 0
    refused = plot("confusion", run)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "has neither recorded it nor a checkpoint to evaluate" in refused.stderr
    assert "needs weights, and" in plot("filters", run).stderr


def test_of_damaged_figures_what_is_left_is_drawn_and_said(run):
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], lines[2][:20]]))
    done = plot("curves", run)
    assert done.exit_code == 0
    assert f"warning: {file} is damaged: 1 line of 3 cannot be read, the others are drawn" in done.stderr
    file.write_text("")
    assert "needs figures, and" in plot("curves", run).stderr


def test_a_missing_library_is_told_with_its_extra(run, monkeypatch):
    monkeypatch.setattr("ptb.registry.entry._is_met", lambda requirement: not requirement.startswith("seaborn"))
    refused = plot("confusion", run)
    assert refused.exit_code == 7
    assert "pytorch-basics[plots]" in refused.stderr
    assert plot("curves", run).exit_code == 0


def test_data_that_is_gone_is_told(run):
    config = run / "config.toml"
    config.write_text(config.read_text().replace('name = "digits"', 'name = "csv"\npath = "gone.csv"\ntarget = "x"'))
    config.write_text(config.read_text().replace("size = 8\n", ""))
    refused = plot("confusion", run)
    assert refused.exit_code in (2, 3)
    assert "which needs the data of the run" in refused.stderr


def test_a_third_party_plot_that_fails_is_named(run, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ptb import Component, hookimpl\n"
        "def wrong(records): raise KeyError('x')\n"
        "def nothing(records): return None\n"
        "@hookimpl\n"
        "def ptb_provide_plots():\n"
        "    return [Component(n, f'{__name__}:{n}', summary='Mine') for n in ('wrong', 'nothing')]\n"
    )
    refused = CliRunner().invoke(main, ["-p", str(tmp_path / "mine.py"), "plot", "wrong", str(run)])
    assert (refused.exit_code, refused.stdout) == (7, "")
    assert "plot 'wrong' (mine.py" in refused.stderr
    refused = CliRunner().invoke(main, ["-p", str(tmp_path / "mine.py"), "plot", "nothing", str(run)])
    assert "plot 'nothing' (mine.py" in refused.stderr
    assert "returned None, not a figure of matplotlib or a chart" in refused.stderr


@NEEDS_ECHARTS
def test_a_chart_is_one_page_that_asks_no_network(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "<script>alert(1)")
    done = plot("parallel", run, other, "-o", tmp_path / "x.html")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "x.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("<script>") == page.count("</script>") == 1
    assert plot("parallel", run, other, "-o", tmp_path / "y.html").exit_code == 0
    assert (tmp_path / "y.html").read_text() == page.replace("<title>x<", "<title>y<").replace('"x"', '"y"')
    assert "a chart of pyecharts, which is written as .html" in plot("parallel", run, other, "-o", "x.png").stderr


def said(words):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 2))
    figure.add_subplot().set_title(words)
    return figure


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_figure_has_the_same_bytes_each_time(suffix):
    assert figure_bytes(said("a"), suffix) == figure_bytes(said("a"), suffix)


def test_text_stays_text_in_svg_and_control_characters_go():
    page = figure_bytes(said("数字 <script>\x1b[0m"), ".svg").decode()
    assert "数字 &lt;script&gt; [0m" in page


def test_characters_that_no_font_has_are_told_and_the_font_named(monkeypatch):
    monkeypatch.setattr("ptb_draw.fonts._installed", lambda: iter(()))
    with pytest.warns(UserWarning, match=r"no installed font has the characters 字数, so boxes.*fonts-noto-cjk"):
        use_fonts(said("a 数字"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use_fonts(said("a 数字"), warns=False)
        use_fonts(said("Größe → ok"))


def test_characters_that_the_font_lacks_are_drawn_with_another_installed_one():
    figure = said("Жук")
    title = figure.axes[0].title
    title.set_fontfamily(["cmr10"])  # comes with matplotlib, and has no Cyrillic
    use_fonts(figure)
    assert title.get_fontfamily()[0] == "cmr10"
    assert len(title.get_fontfamily()) == 2


def test_many_figures_in_a_thread_without_a_display_leave_no_memory_behind(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    grown = []

    def work():
        figure_bytes(said("a"), ".svg")
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            figure_bytes(said("a"), ".svg")
        gc.collect()
        grown.append(tracemalloc.get_traced_memory()[0] - before)
        tracemalloc.stop()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert grown[0] < 1_000_000
