import base64
import gzip
import html
import json
import re
import resource
import threading
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ptb_report import classes
from ptb_report import page as pages
from ptb_report.page import page
from ptb_report.words import Words
from report_runs import HOSTILE, made_run

VOID = {"meta", "link", "img", "br", "input"}


class Parsed(HTMLParser):
    """The elements of a page; a tag that closes another one than the last is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & {*self.open}:
            self.text += data

    def having(self, attribute):
        return [attrs[attribute] for _, attrs in self.elements if attribute in attrs]


def read(run, language="en", **options):
    return page([Path(each) for each in (run if isinstance(run, list) else [run])], language, **options).decode()


def payload(text):
    packed = re.search(r'id="payload">([^<]*)<', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_a_page_loads_nothing_and_runs_only_its_own_scripts(tmp_path):
    text = read(made_run(tmp_path / "run"))
    parsed = Parsed(text)
    loaded = [value for name in ("src", "href", "srcset", "action") for value in parsed.having(name)]
    assert loaded
    assert all(value.startswith(("#", "data:")) for value in loaded)
    policy = next(attrs["content"] for tag, attrs in parsed.elements if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert [tag for tag, attrs in parsed.elements if any(name.startswith("on") for name in attrs)] == []


def test_the_same_run_gives_the_same_bytes_on_another_day(tmp_path, monkeypatch):
    run = made_run(tmp_path / "run")
    today = page([run])
    tomorrow = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    assert page([run]) == today


def test_figures_are_those_of_the_summary_to_the_last_digit(tmp_path):
    run = made_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    values = Parsed(read(run)).having("value")
    for value in summary["metrics"].values():
        assert repr(value) in values
    assert "0.5 to 1" in read(run)


def test_the_matrix_adds_up_to_the_split_and_lists_every_sample(tmp_path):
    run = made_run(tmp_path / "run", samples=60)
    text = read(run)
    rows = [json.loads(line) for line in (run / "predictions-test.jsonl").read_text().splitlines()]
    cells = re.findall(r'data-truth="(\d+)" data-prediction="(\d+)".*?class="count">(\d+)<', text)
    assert sum(int(count) for _, _, count in cells) == 60
    samples = payload(text)["samples"]
    names = samples["classes"]
    for truth, guess, count in cells:
        listed = {
            name
            for name, one, other in zip(samples["input"], samples["truth"], samples["prediction"], strict=True)
            if (one, other) == (int(truth), int(guess))
        }
        pair = (names[int(truth)], names[int(guess)])
        assert listed == {row["input"] for row in rows if (row["truth"], row["prediction"]) == pair}
        assert len(listed) == int(count)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_names_are_text_wherever_they_stand(tmp_path, language):
    run = made_run(tmp_path / "run", names=HOSTILE, samples=50)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"name": HOSTILE[0]}))
    text = read(run, language)
    parsed = Parsed(text)
    assert [tag for tag, attrs in parsed.elements if tag == "img" and "onerror" in attrs] == []
    assert sum(tag == "script" for tag, _ in parsed.elements) == 3
    assert HOSTILE[0] in parsed.text
    assert 'class="note failure"' not in text
    assert payload(text)["samples"]["classes"] == list(HOSTILE)


@pytest.mark.parametrize(
    "values",
    [
        lambda epoch: {"loss": ["nan", "inf", 0.5][epoch % 3]},
        lambda epoch: {"loss": "nan"},
        lambda epoch: {"loss": 0.5},
        lambda epoch: {"loss": "no number", "other": None, "list": [1]},
    ],
    ids=["some", "all", "constant", "rubbish"],
)
def test_figures_that_are_not_finite_leave_a_gap(tmp_path, values):
    text = read(made_run(tmp_path / "run", epochs=6, values=values))
    assert 'class="note failure"' not in text
    Parsed(text)
    assert ("Not finite, so not drawn" in text) == (values(1)["loss"] in ("nan", "inf"))


def test_one_epoch_is_a_page_too(tmp_path):
    text = read(made_run(tmp_path / "run", epochs=1))
    assert 'class="note failure"' not in text
    assert payload(text)["charts"]["curve-0"]["series"][0]["showSymbol"]


def test_a_thousand_classes_and_ten_thousand_epochs_stay_small(tmp_path):
    names = tuple(f"class {number}" for number in range(1000))
    peak = {"loss": 99.0}

    def values(epoch):
        return peak if epoch == 4321 else {"loss": 1 / epoch}

    content = page([made_run(tmp_path / "run", epochs=10_000, names=names, samples=20_000, values=values)])
    assert len(content) < 3_000_000
    text = content.decode()
    assert 'class="matrix"' not in text
    assert len(re.findall('class="open"', text)) == classes.MOST_PAIRS
    heat = payload(text)["charts"]["matrix"]["series"][0]
    assert sum(count for _, _, count in heat["data"]) == 20_000
    assert not heat["label"]["show"]
    for series in payload(text)["charts"]["curve-0"]["series"]:
        assert len(series["data"]) <= 2_000
        assert [4321, 99.0] in series["data"]
    assert re.search(r"\d+ of 10,000 values as a table", text)


def test_a_page_of_ten_classes_is_small(tmp_path):
    run = made_run(tmp_path / "run", epochs=100, names=tuple("0123456789"), samples=10_000)
    assert len(page([run])) < 900_000


def test_a_run_that_was_killed_shows_what_there_is(tmp_path):
    run = made_run(tmp_path / "run", ended=False, predictions=False)
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:-20])
    text = html.unescape(read(run))
    assert "This run has no summary.json" in text
    assert "that of epoch 3, step 30" in text
    assert "Lines of metrics.jsonl that cannot be read: 1" in text
    assert "there is no predictions-test.jsonl" in text
    assert {"curve-0", "curve-1"} <= payload(text)["charts"].keys()


def test_a_damaged_line_costs_that_line(tmp_path):
    run = made_run(tmp_path / "run", epochs=5)
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(
        b"".join([lines[0], b"\xff\x00{[\n", b"7\n", b'{"split": "val"}\n', *lines[2:]])
    )
    text = read(run)
    assert "Lines of metrics.jsonl that cannot be read: 3" in text
    assert len(payload(text)["charts"]["curve-0"]["series"][0]["data"]) == 5


def test_files_that_hold_anything_make_a_page(tmp_path):
    run = made_run(tmp_path / "run")
    (run / "manifest.json").write_text("{")
    (run / "predictions-test.jsonl").write_text(
        '{"step": 10, "truth": "a", "prediction": "b", "probability": "much"}\n'
    )
    (run / "samples-test.jsonl").write_text('{"picture": 7}\n')
    text = read(run)
    Parsed(text)
    assert "manifest.json cannot be read" in text
    assert text.count('class="note failure"') == 1  # the calibration: "much" is no probability
    assert "curve-0" in payload(text)["charts"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.json", '{"plugins": 7, "data": [1]}'),
        ("manifest.json", '{"plugins": [{}], "data": {"samples": 3, "class_names": [[1]], "class_counts": ["x"]}}'),
        ("summary.json", '{"metrics": [1], "parameters": "many", "train_seconds": {}, "intervals": 1}'),
        ("predictions-test.jsonl", '{"step": 10}\n'),
        ("predictions-test.jsonl", '{"step": 10, "truth": "a", "prediction": 3, "loss": "nan"}\n'),
        ("predictions-test.jsonl", ""),
    ],
)
def test_a_damaged_file_costs_its_parts_of_the_page(tmp_path, file, content):
    run = made_run(tmp_path / "run")
    (run / file).write_text(content)
    text = read(run)
    Parsed(text)
    assert {"curve-0", "curve-1"} <= payload(text)["charts"].keys()


def test_what_fails_is_one_box(tmp_path, monkeypatch):
    run = made_run(tmp_path / "run")
    whole = read(run)

    def broken(*arguments):
        raise RuntimeError("<no> chart")

    monkeypatch.setattr("ptb_report.charts.bars", broken)
    text = read(run)
    assert text.count('class="note failure"') == 2
    assert "RuntimeError: &lt;no&gt; chart" in text
    lost = payload(whole)["charts"].keys() - payload(text)["charts"].keys()
    assert lost == {"classes", "balance"}


def test_predictions_of_other_weights_are_not_passed_off_as_the_run_s(tmp_path):
    run = made_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text()) | {"test_step": 30}
    (run / "summary.json").write_text(json.dumps(summary))
    assert "those that are there are of step 10, and the run was measured with step 30" in read(run)
    asked = []
    read(run, make=asked.append)
    assert asked == ["test"]


def test_several_runs_show_what_they_differ_in_and_a_band_over_seeds(tmp_path):
    runs = [made_run(tmp_path / f"seed{seed}", seed=seed) for seed in range(3)]
    runs.append(made_run(tmp_path / "fast", lr=0.1))
    text = read(runs)
    Parsed(text)
    assert 'class="note failure"' not in text
    assert "optimizer.lr" in text
    series = payload(text)["charts"]["curve-0"]["series"]
    assert [each.get("name", "") for each in series] == ["", "", "3 seeds", "fast"]
    low, height, mean = (each["data"] for each in series[:3])
    rows = [json.loads(line) for run in runs[:3] for line in (run / "metrics.jsonl").read_text().splitlines()]
    first = [row["values"]["loss"] for row in rows if (row["epoch"], row["split"]) == (1, "val")]
    assert low[0][1] == min(first)
    assert low[0][1] + height[0][1] == pytest.approx(max(first))
    assert mean[0][1] == pytest.approx(sum(first) / 3)
    assert len(payload(text)["charts"]["parallel"]["series"]) == 4


def test_runs_of_one_seed_or_of_other_lengths_are_a_curve_each(tmp_path):
    runs = [made_run(tmp_path / name, seed=1) for name in ("one", "two")]
    runs.append(made_run(tmp_path / "longer", seed=2, epochs=4))
    series = payload(read(runs))["charts"]["curve-0"]["series"]
    assert [each["name"] for each in series] == ["one", "two", "longer"]


def test_what_a_run_lacks_is_not_drawn_in_parallel_coordinates(tmp_path):
    runs = [made_run(tmp_path / f"r{place}", lr=place + 0.1, ended=place != 1) for place in range(4)]
    summary = json.loads((runs[3] / "summary.json").read_text())
    del summary["metrics"]["val/loss"]
    (runs[3] / "summary.json").write_text(json.dumps(summary))
    text = read(runs)
    chart = payload(text)["charts"]["parallel"]
    assert [each["name"] for each in chart["series"]] == ["r0", "r2", "r3"]
    assert [each["name"] for each in chart["parallelAxis"]] == ["optimizer.lr", "test/loss", "test/accuracy"]
    assert "they have no figures in summary.json: r1." in text
    assert "a run has no value of them: val/loss." in text


@pytest.mark.parametrize(
    ("language", "heads"),
    [
        ("en", ["val (step 30)", "val (step 10)", "test (step 10)"]),
        ("zh", ["val（第 30 步）", "val（第 10 步）", "test（第 10 步）"]),  # noqa: RUF001  # Chinese brackets
    ],
)
def test_figures_say_the_step_of_their_weights(tmp_path, language, heads):
    run = made_run(tmp_path / "run")
    text = read(run, language)
    assert [text.count(f">{head}<") for head in heads] == [1, 1, 1]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    loss = next(row["values"]["loss"] for row in rows if (row["split"], row["step"]) == ("val", 10))
    assert f'value="{loss!r}"' in text.partition('id="curves"')[0]


@pytest.mark.parametrize("ended", [True, False])
def test_what_is_drawn_of_predictions_says_the_step(tmp_path, ended):
    text = read(made_run(tmp_path / "run", ended=ended))
    assert text.count("Predictions for the test split, with the weights of step 10.") == 4


def test_wrong_predictions_are_marked_among_the_largest_losses(tmp_path):
    run = made_run(tmp_path / "run")
    rows = [json.loads(line) for line in (run / "predictions-test.jsonl").read_text().splitlines()]
    worst = sorted(rows, key=lambda row: -row["loss"])[:25]
    text = read(run)
    assert ">Largest losses<" in text
    assert text.count('<b class="mark">wrong</b>') == sum(row["truth"] != row["prediction"] for row in worst) > 0


@pytest.mark.parametrize(("samples", "caption"), [(66, "The values"), (201, "The first 200 values")])
def test_real_targets_have_named_axes_and_all_their_values_where_they_are_few(tmp_path, samples, caption):
    run = made_run(tmp_path / "run", target="real")
    rows = [{"step": 10, "sample": n, "truth": float(n), "prediction": n + 0.5, "loss": n} for n in range(samples)]
    (run / "predictions-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = read(run)
    assert f"<summary>{caption} as a table</summary>" in text
    assert ("The first" in text) == (samples > 200)
    charts = payload(text)["charts"]
    names = [[charts[chart][axis][0]["name"] for axis in ("xAxis", "yAxis")] for chart in ("real-0", "residuals-0")]
    assert names == [["truth", "prediction"], ["prediction less truth", "samples"]]


def test_few_points_have_no_zoom_and_one_stands_in_the_middle(tmp_path):
    one, many = (payload(read(made_run(tmp_path / f"{n}", epochs=n)))["charts"] for n in (1, 10))
    assert not one["curve-0"].get("dataZoom")
    assert not many["calibration"].get("dataZoom")
    assert len(many["curve-0"]["dataZoom"]) == 2
    assert (one["curve-0"]["xAxis"][0]["min"], one["curve-0"]["xAxis"][0]["max"]) == (0, 2)
    assert many["calibration"]["yAxis"][0]["name"] == "part that is right"


def test_a_run_of_several_evaluations_an_epoch_is_drawn_by_step(tmp_path):
    run = made_run(tmp_path / "run", epochs=2)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows.insert(0, rows[1] | {"step": 5})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    series = payload(read(run))["charts"]["curve-0"]["series"][1]
    assert [point[0] for point in series["data"]] == [5, 10, 20]


def test_a_live_page_loads_itself_anew_and_others_do_not(tmp_path):
    run = made_run(tmp_path / "run", ended=False)
    assert Parsed(read(run, ended=False, live=5)).having("data-live") == ["5"]
    assert Parsed(read(run)).having("data-live") == []


def test_a_hundred_pages_leave_no_memory_behind(tmp_path):
    run = made_run(tmp_path / "run", epochs=20)
    for _ in range(5):
        page([run])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        page([run])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kilobytes, of the largest size ever
    assert grown < 10_000


def test_a_thread_makes_a_page(tmp_path):
    run, made = made_run(tmp_path / "run"), []
    thread = threading.Thread(target=lambda: made.append(page([run])))
    thread.start()
    thread.join()
    assert made == [page([run])]


def test_a_text_without_a_translation_is_an_error():
    with pytest.raises(KeyError):
        Words("zh")("Nobody has translated this.")


def test_the_charts_library_asks_for_nothing():
    from ptb_report.render import _echarts

    code = gzip.decompress(_echarts()).decode()
    assert set(re.findall(r"https?://([^/\"']+)", code)) <= {"www.w3.org"}
    assert "new Function" not in code
    assert not re.search(r"\beval\(", code)
    folder = Path(pages.__file__).parent / "data"
    assert "Apache License" in (folder / "LICENSE-echarts").read_text()
    assert "Apache Software Foundation" in (folder / "NOTICE-echarts").read_text()
