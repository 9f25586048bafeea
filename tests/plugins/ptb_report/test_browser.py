"""The page in a real browser without a network."""

import json

import pytest

from browser import CHROMIUM, browser
from ptb_report.page import page
from report_runs import HOSTILE, made_run

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"), pytest.mark.slow]

MARKS = "[...document.querySelectorAll('.chart')].map(each => each.querySelectorAll('svg path').length)"
LISTED = "[...document.querySelectorAll('#panel tr[data-listed]')].map(each => each.cells[1].textContent)"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def written(run, **options):
    file = run / "report.html"
    file.write_bytes(page([run], **options))
    return file


def check(tab, file):
    """It asked for nothing but itself, said nothing, is as wide as the screen, and every chart has marks."""
    assert tab.requests == [file.resolve().as_uri()]
    assert tab.troubles == []
    marks = tab.value(MARKS)
    assert marks
    assert min(marks) > 3
    assert tab.value("document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_click_on_a_cell_shows_its_samples(tab, tmp_path):
    run = made_run(tmp_path / "run", names=tuple("0123456789"), samples=400)
    file = written(run)
    tab.open(file)
    check(tab, file)
    rows = [json.loads(line) for line in (run / "predictions-test.jsonl").read_text().splitlines()]
    pairs = {(row["truth"], row["prediction"]) for row in rows if row["truth"] != row["prediction"]}
    for truth, guess in [*sorted(pairs)[:2], ("4", "4")]:
        tab.click(f".cell[data-truth='{truth}'][data-prediction='{guess}']")
        assert tab.value(LISTED) == [
            row["input"] for row in rows if (row["truth"], row["prediction"]) == (truth, guess)
        ]
        assert tab.value("document.querySelectorAll('#panel .thumbs img').length") <= 9
    assert tab.value("document.querySelectorAll('#panel .thumbs img').length") == 9
    assert tab.value("document.activeElement.id") == "panel"


def test_the_matrix_is_walked_with_the_keyboard(tab, tmp_path):
    tab.open(written(made_run(tmp_path / "run", names=tuple("012"), samples=200)))
    tab.value("document.querySelector('.cell').focus()")
    for key in ("ArrowRight", "ArrowDown"):
        tab.send("Input.dispatchKeyEvent", {"type": "keyDown", "key": key})
    assert tab.value("Object.values({...document.activeElement.dataset})") == ["1", "1"]
    tab.send("Input.dispatchKeyEvent", {"type": "keyDown", "key": "Enter", "text": "\r"})
    assert tab.value("document.querySelectorAll('#panel tr[data-listed]').length") > 9
    assert tab.value("document.querySelectorAll('.cell[tabindex=\"0\"]').length") == 1


def test_names_are_never_run(tab, tmp_path):
    file = written(made_run(tmp_path / "run", names=HOSTILE, samples=60))
    tab.open(file, width=390, dark=True)
    check(tab, file)
    for button in range(tab.value("document.querySelectorAll('.cell').length")):
        tab.value(f"document.querySelectorAll('.cell')[{button}].click()")
    assert tab.troubles == []
    assert tab.value("document.title") != "owned"
    assert tab.value("document.querySelectorAll('img[onerror]').length") == 0


def test_a_script_that_gets_into_the_page_is_not_run(tab, tmp_path):
    file = written(made_run(tmp_path / "run"))
    file.write_text(file.read_text().replace("<main", "<script>document.title = 'owned'</script><main"))
    tab.open(file)
    assert tab.value("document.title") != "owned"
    assert any("Content Security Policy" in text for text in tab.troubles)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_light_or_dark_as_the_system_and_as_the_button_says(tab, tmp_path, dark):
    file = written(made_run(tmp_path / "run"))
    tab.open(file, dark=dark)
    tab.value("sessionStorage.clear()")  # what an earlier page in this tab has chosen
    tab.open(file, dark=dark)
    check(tab, file)
    colour = "getComputedStyle(document.body).backgroundColor"
    before = tab.value(colour)
    assert (before == "rgb(255, 255, 255)") != dark
    tab.click("#theme")
    assert tab.value(colour) != before
    tab.click("#theme")
    assert tab.value(colour) == before


def test_a_killed_run_and_many_classes_are_drawn(tab, tmp_path):
    killed = written(made_run(tmp_path / "killed", ended=False, predictions=False), ended=False, live=600)
    tab.open(killed)
    check(tab, killed)
    names = tuple(f"class {number}" for number in range(1000))
    large = written(made_run(tmp_path / "large", epochs=10_000, names=names, samples=5_000))
    tab.open(large)
    check(tab, large)
    tab.click(".open")
    count = tab.value("Number(document.querySelector('.open').textContent)")
    assert len(tab.value(LISTED)) == count
    cell = "[...document.querySelectorAll('#chart-matrix svg path')].filter(each => each.getAttribute('fill'))"
    assert tab.value(f"{cell}.length") > 1000


def test_several_runs_are_drawn(tab, tmp_path):
    runs = [made_run(tmp_path / f"run{seed}", seed=seed, lr=0.1 * (1 + seed // 2)) for seed in range(4)]
    file = tmp_path / "page.html"
    file.write_bytes(page(runs, "zh"))
    tab.open(file, width=390)
    check(tab, file)
