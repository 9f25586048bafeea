"""Plots of predictions: what they draw is recomputed by hand."""

import base64

import numpy as np
import pytest
import torch

from made_runs import texts
from ptb import ConfigError
from ptb.runs.predictions import png
from ptb_plots.classes import class_balance, per_class
from ptb_plots.confusion import confusion
from ptb_plots.pictures import samples, worst_samples
from ptb_plots.probabilities import calibration, precision_recall, roc
from ptb_plots.real import residuals, truth


def row(true, said, probability=0.9, **more):
    other = {"cat": "dog", "dog": "cat"}
    both = {f"probability:{said}": probability, f"probability:{other.get(said, 'cat')}": 1 - probability}
    return {"truth": true, "prediction": said, "probability": probability, **dict(sorted(both.items())), **more}


ROWS = [row("cat", "cat"), row("cat", "dog", 0.6), row("dog", "dog"), row("dog", "dog", 0.7)]
NAMES = ["cat", "dog"]


def test_the_matrix_has_truth_in_rows_and_adds_up(made):
    figure = confusion([made(predictions=ROWS, class_names=NAMES)])
    counts, rates = figure.axes[:2]
    assert [each.get_text() for each in counts.texts] == ["1", "1", "", "2"]
    assert [each.get_text() for each in rates.texts] == ["0.50", "0.50", "", "1.00"]
    assert figure.get_suptitle() == "test: 3 of 4 samples right"


def test_mistakes_have_a_colour_of_their_own(made):
    figure = confusion([made(predictions=ROWS, class_names=NAMES)])
    figure.canvas.draw()
    (right, wrong), (none, _) = figure.axes[0].collections[0].get_facecolors().reshape(2, 2, 4)[..., :3].tolist()
    assert right[2] > right[0]  # blue
    assert wrong[0] > wrong[2] + 0.3  # orange
    assert min(none) > 0.98


def test_no_loss_is_minus_zero(made):
    rows = [row("cat", "cat", loss=-0.0), row("dog", "dog", loss=-1e-9)]
    said = texts(samples([made(predictions=rows, samples=shown(2), class_names=NAMES)]))
    assert {each.splitlines()[-1] for each in said if "loss" in each} == {"loss 0", "loss -1e-09"}


def test_many_classes_have_no_numbers_but_the_pairs_that_are_confused(made):
    names = [f"c{number}" for number in range(100)]
    rows = [{"truth": name, "prediction": name} for name in names]
    rows += [{"truth": "c3", "prediction": "c5"}] * 4 + [{"truth": "c7", "prediction": "c1"}] * 2
    figure = confusion([made(predictions=rows, class_names=names)])
    assert [*figure.axes[0].texts] == []
    assert [each.get_text() for each in figure.axes[1].get_yticklabels()] == ["c3 → c5", "c7 → c1"]


def test_a_class_that_nobody_predicts_or_has_is_drawn(made):
    figure = per_class([made(predictions=ROWS, class_names=[*NAMES, "emu"])])
    labels = [each.get_text() for each in figure.axes[0].get_yticklabels()]
    assert labels == ["cat (2)", "dog (2)"]  # worst F1 first; no emu in this split
    bars = sorted(round(each.get_width(), 3) for container in figure.axes[0].containers for each in container)
    assert bars == [0.5, 0.667, 1.0, 1.0]


def test_the_balance_counts_each_split(made):
    record = made(predictions=ROWS, class_names=NAMES, class_counts=[75, 25])
    figure = class_balance([record], splits=("test",))
    widths = [[each.get_width() for each in container] for container in figure.axes[0].containers]
    assert widths == [[75, 25], [50, 50]]


def test_the_calibration_error_is_that_of_its_definition(made):
    figure = calibration([made(predictions=ROWS, class_names=NAMES)], bins=2)
    expected = abs(3 / 4 - np.mean([0.9, 0.6, 0.9, 0.7]))  # all lie in the upper bin
    assert f"ECE {expected:.3f}" in figure.axes[0].get_title()


def test_curves_of_thresholds_have_the_areas_of_scikit_learn(made):
    record = made(predictions=ROWS, class_names=NAMES)
    there, value = [0, 0, 1, 1], [0.1, 0.6, 0.9, 0.7]
    from sklearn.metrics import average_precision_score, roc_auc_score

    assert f"dog: AUC {roc_auc_score(there, value):.3f}" in texts(roc([record]))
    assert f"dog: AP {average_precision_score(there, value):.3f}" in texts(precision_recall([record]))


def test_curves_of_one_class_or_without_probabilities_are_refused(made):
    with pytest.raises(ConfigError, match="samples of one class only"):
        roc([made("a", predictions=ROWS[:1], class_names=NAMES)])
    with pytest.raises(ConfigError, match="too many classes"):
        roc([made("b", predictions=[{"truth": "a", "prediction": "b"}])])


def test_real_targets_are_drawn_in_their_units(made):
    rows = [{"truth": [1.0, 10.0], "prediction:x": 1.5, "prediction:y": 12.0}] * 3
    rows += [{"truth": [2.0, 20.0], "prediction:x": 2.5, "prediction:y": 18.0}]
    record = made(predictions=rows, target="real")
    assert len(residuals([record]).axes) == 4
    figure = truth([record])
    assert figure.axes[1].get_title().startswith("y: R² ")
    assert figure.axes[1].collections[0].get_offsets()[0].tolist() == [10.0, 12.0]
    with pytest.raises(ConfigError, match="are no class a sample"):
        confusion([record])


def shown(count):
    picture = base64.b64encode(png(torch.full((1, 4, 4), 128, dtype=torch.uint8))).decode()
    return [{"sample": number, "picture": picture} for number in range(count)]


def test_the_worst_samples_stand_in_the_order_of_their_losses(made):
    rows = [row("cat", "cat", loss=0.1), row("cat", "dog", loss=3.0), row("dog", "dog", loss="nan")]
    figure = worst_samples([made(predictions=rows, samples=shown(3), class_names=NAMES)])
    titles = [each.get_title() for each in figure.axes]
    assert [title.splitlines()[-1] for title in titles] == ["loss nan", "loss 3", "loss 0.1"]
    assert [each.title.get_color() for each in figure.axes] == ["black", "#B00020", "black"]
    with pytest.raises(ConfigError, match="no value for one sample"):
        worst_samples([made("b", predictions=ROWS, samples=shown(2))])


def test_samples_of_each_class_come_in_turn(made):
    rows = [row("cat", "cat"), row("cat", "cat"), row("dog", "dog")]
    figure = samples([made(predictions=rows, samples=shown(3), class_names=NAMES)], count=2)
    assert [each.get_title().splitlines()[0] for each in figure.axes] == ["truth cat", "truth dog"]


def test_rows_and_texts_are_written_out(made):
    rows = [row("cat", "cat"), row("dog", "dog")]
    kept = [{"sample": 0, "row": {"age $": 3.5, "kind": "a"}}, {"sample": 1, "text": "word " * 200}]
    said = texts(samples([made(predictions=rows, samples=kept, class_names=NAMES)]))
    assert any("age \\$: 3.5\nkind: a" in each for each in said)
    assert any(each.startswith("word word") for each in said)


@pytest.mark.parametrize("plot", [confusion, per_class, calibration, roc, samples])
def test_one_run_is_drawn_and_two_are_refused(made, plot):
    with pytest.raises(ConfigError, match="draws one run, got 2"):
        plot([made("a", predictions=ROWS), made("b", predictions=ROWS)])
