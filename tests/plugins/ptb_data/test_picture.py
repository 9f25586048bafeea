import json

import pytest
import torch
from click.testing import CliRunner
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataSpec
from ptb.cli import main
from ptb_data.picture import figure_of


def show(*arguments):
    return CliRunner().invoke(main, ["data", "show", *map(str, arguments)])


def test_pictures_are_drawn_with_their_labels_the_same_each_time(tmp_path):
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        done = show("--dataset", "digits", "dataset.size=8", "--plot", file)
        assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, f"drew training samples into {file}")
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_text().count("<image") == 24
    assert json.loads(show("--dataset", "iris", "--plot", tmp_path / "c.png", "--json").stdout)["plot"]


@pytest.mark.parametrize(
    ("file", "message"), [("x.gif", "a file that ends in .png, .svg, .pdf"), ("there.png", "is there already")]
)
def test_a_file_that_cannot_be_is_refused_before_data_is_read(tmp_path, file, message):
    (tmp_path / "there.png").write_text("mine")
    refused = show("--dataset", "csv", "dataset.path=gone.csv", "dataset.target=x", "--plot", tmp_path / file)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert message in refused.stderr
    assert (tmp_path / "there.png").read_text() == "mine"


def test_matplotlib_that_is_missing_is_told_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("ptb_data.picture.find_spec", lambda name: None)
    refused = show("--dataset", "iris", "--plot", tmp_path / "x.png")
    assert refused.exit_code == 7
    assert "pytorch-basics[plots]" in refused.stderr


def bundle(inputs, kind, target="class", **more):
    spec = DataSpec(tuple(inputs.shape[1:]), kind, target, 2, class_names=("$\\frac$", "数"), **more)
    return DataBundle(spec, TensorDataset(inputs, torch.arange(len(inputs)) % 2))


def test_columns_are_drawn_as_histograms_and_add_up():
    figure = figure_of(bundle(torch.randn(50, 3), "vector"))
    assert [each.get_title() for each in figure.axes] == ["0", "1", "2"]
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 50


def test_names_are_no_formulas_and_tokens_are_texts():
    figure = figure_of(bundle(torch.randint(1, 9, (5, 4)), "tokens", vocabulary=9))
    figure.canvas.draw()
    assert {each.get_title() for each in figure.axes} == {r"\$\frac\$", "数"}


def test_targets_at_each_pixel_are_no_labels():
    inputs = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    spec = DataSpec((1, 4, 4), "image", "class", 2, positions=(4, 4))
    figure = figure_of(DataBundle(spec, TensorDataset(inputs, torch.zeros(3, 4, 4, dtype=torch.int64))))
    assert [each.get_title() for each in figure.axes] == [""] * 3
