import math

import pytest

from made_runs import history, texts
from ptb import ConfigError
from ptb_plots.curves import curves
from ptb_plots.drawing import text, thinned
from ptb_plots.learning_rate import learning_rate
from ptb_plots.settings import ClassBalance, Curves, Histograms
from ptb_report.curves import STYLES


def line(figure, label, axes=0):
    (found,) = [each for each in figure.axes[axes].lines if each.get_label() == label]
    return list(found.get_xdata()), list(found.get_ydata())


def test_train_and_validation_are_drawn_with_the_best_epoch_and_the_test(made):
    rows = [*history(3.0, 2.0, 1.0, split="train"), *history(3.0, 1.0, 2.0), *history(1.5, split="test")]
    record = made(history=rows, summary={"best_step": 20, "test_step": 20, "metrics": {}})
    figure = curves([record])
    assert line(figure, "train") == ([1, 2, 3], [3, 2, 1])
    assert line(figure, "val") == ([1, 2, 3], [3, 1, 2])
    assert line(figure, "best epoch")[0] == [2, 2]
    assert line(figure, "test") == ([2], [1.5])


def test_the_best_of_a_killed_run_is_where_its_loss_was_lowest(made):
    figure = curves([made(history=history(3.0, 1.0, 2.0))])
    assert line(figure, "best epoch")[0] == [2, 2]


def test_runs_that_differ_in_the_seed_are_one_band_and_others_a_line_each(made):
    runs = [made("a", history=history(1.0, 3.0), seed=1), made("b", history=history(3.0, 5.0), seed=2)]
    runs.append(made("c", history=history(0.5, 0.5), lr=0.1))
    figure = curves(runs)
    assert line(figure, "2 seeds, val") == ([1, 2], [2, 4])
    assert line(figure, "c, val") == ([1, 2], [0.5, 0.5])
    (band,) = figure.axes[0].collections
    assert {tuple(point) for point in band.get_paths()[0].vertices} >= {(1, 1), (1, 3), (2, 3), (2, 5)}


@pytest.mark.parametrize(("seed", "losses"), [(1, (3.0, 5.0)), (2, (3.0, 5.0, 7.0))], ids=["same seed", "longer"])
def test_runs_of_one_seed_or_of_other_lengths_are_a_line_each(made, seed, losses):
    figure = curves([made("a", history=history(1.0, 3.0), seed=1), made("b", history=history(*losses), seed=seed)])
    assert line(figure, "a, val")[1] == [1, 3]
    assert line(figure, "b, val")[1] == [*losses]
    assert not figure.axes[0].collections


def test_two_lines_of_seeds_have_names_of_their_own(made):
    runs = [made(f"{lr}-{seed}", history=history(1.0), seed=seed, lr=lr) for lr in (1, 2) for seed in (1, 2)]
    labels = {each.get_label() for each in curves(runs).axes[0].lines}
    assert labels == {"2 seeds: 1-1, 1-2, val", "2 seeds: 2-1, 2-2, val"}


def test_train_is_dashed_and_a_single_name_is_a_list(made):
    rows = [*history(3.0, 2.0, split="train"), *history(3.0, 1.0)]
    drawn = {each.get_label(): each for each in curves([made(history=rows)]).axes[0].lines}
    assert (drawn["train"].get_linestyle(), drawn["train"].get_color()) == ("--", STYLES["train"][0])
    assert (drawn["val"].get_linestyle(), drawn["val"].get_color()) == ("-", STYLES["val"][0])
    assert Curves(figures="loss").figures == ("loss",)
    assert Histograms(layers="fc1.weight").layers == ("fc1.weight",)
    assert ClassBalance(splits="val").splits == ("val",)


def test_a_value_that_is_no_number_leaves_a_gap_and_a_cross(made):
    figure = curves([made(history=history(1.0, "nan", "inf", 2.0))])
    assert line(figure, "not finite")[0] == [2, 3]


def test_one_epoch_and_a_constant_are_drawn(made):
    figure = curves([made("a", history=history(1.0)), made("b", history=history(1.0, 1.0, 1.0), lr=1)])
    assert line(figure, "a, val") == ([1], [1])


def test_steps_run_to_the_right_where_an_epoch_has_several_evaluations(made):
    rows = history(1.0, 2.0)
    rows[1]["epoch"] = 1
    assert curves([made(history=rows)]).axes[0].get_xlabel() == "step"


def test_an_unknown_figure_and_an_empty_run_are_refused(made):
    with pytest.raises(ConfigError, match="no run has the figure 'accuracy'; there are loss"):
        curves([made("a", history=history(1.0))], figures=("accuracy",))
    with pytest.raises(ConfigError, match="has recorded no figures"):
        curves([made("b")])


def test_a_long_line_is_thinned_and_keeps_its_extremes_and_gaps():
    y = [math.sin(place / 50) for place in range(10_000)]
    y[4321], y[7777], y[5000] = 9.0, -9.0, None
    x, thin = thinned(range(10_000), y)
    assert len(x) == len(thin) <= 2_000
    assert {(4321, 9.0), (7777, -9.0)} <= set(zip(x, thin, strict=True))
    assert (x[0], x[-1]) == (0, 9_999)
    assert math.isnan(thin[x.index(5000)])
    assert thinned([1], [2.0]) == ([1], [2.0])


def test_hostile_names_become_short_plain_text(made):
    assert text("$\\frac$ a\nb\x1b") == r"\$\frac\$ a b "
    assert len(text("x" * 300)) == 40
    figure = curves([made(history=history(1.0, 2.0, name="$\\frac$ <script>"))])
    figure.canvas.draw()
    assert r"\$\frac\$ <script>" in texts(figure)


def test_the_learning_rate_has_a_line_for_each_run_and_group(made):
    rows = history(1.0, 2.0, split="train")
    assert line(learning_rate([made("a", history=rows)]), "a") == ([10, 20], [0.1, 0.05])
    for row in rows:
        row["lr"] = [0.1, 0.2]
    assert line(learning_rate([made("b", history=rows)]), "b, group 1") == ([10, 20], [0.2, 0.2])
    with pytest.raises(ConfigError, match="no learning rate yet"):
        learning_rate([made("c", history=history(1.0))])
