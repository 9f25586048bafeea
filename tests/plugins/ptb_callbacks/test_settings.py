import pytest

from ptb import ConfigError
from ptb.registry.settings import validate
from ptb_callbacks import settings
from ptb_list.describe import describe

BEST = {"monitor": "val/loss", "mode": "min"}


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        ("BestCheckpoint", {"mode": "min"}, "monitor: is required and has no default"),
        ("BestCheckpoint", {"monitor": "val/accuracy"}, "mode: is required and has no default"),
        ("BestCheckpoint", BEST | {"mode": "auto"}, "mode: must be "),
        ("BestCheckpoint", BEST | {"monitor": "loss"}, "monitor: must be a split and a figure, such as val/loss or"),
        ("BestCheckpoint", BEST | {"monitor": "val/"}, "monitor: must be a split and a figure, such as val/loss or"),
        (
            "BestCheckpoint",
            BEST | {"monitor": "train/loss"},
            "monitor: must be a figure of the validation split, such as val/loss",
        ),
        ("BestCheckpoint", BEST | {"label": "best"}, "label: must be another label: every run has best and last"),
        ("BestCheckpoint", BEST | {"label": "12"}, "label: must be made of letters, digits, '.', '_' and '-', and not"),
        (
            "BestCheckpoint",
            BEST | {"label": "a/b"},
            "label: must be made of letters, digits, '.', '_' and '-', and not",
        ),
        ("Ema", {"decay": 1.0}, "decay: must be below 1, got 1.0"),
        ("Ema", {"decay": 0}, "decay: must be above 0, got 0"),
        ("Ema", {"every": 0}, "every: must be at least 1, got 0"),
        ("Ema", {"warmup": "yes"}, 'warmup: must be true or false, got "yes"'),
        ("Ema", {"decy": 0.9}, "decy: unknown key (did you mean 'decay'?); valid are decay, warmup, every, buffers"),
        ("Freeze", {}, "match: is required and has no default"),
        ("Freeze", {"match": "0.*"}, "match: must be a list"),
        ("Freeze", {"match": []}, "match: must have at least 1 item"),
        ("Freeze", {"match": ["0.*"], "until_epoch": 1}, "until_epoch: must be at least 2"),
        ("NonFiniteReport", {"samples": 3}, "samples: unknown key; there are no settings"),
        ("MicroBatchOnOom", {"samples": 3}, "samples: unknown key; there are no settings"),
    ],
)
def test_wrong_values_are_refused_in_words(model, values, message):
    with pytest.raises(ConfigError) as error:
        validate(getattr(settings, model), values)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("model", ["BestCheckpoint", "Ema", "Freeze"])
def test_every_setting_says_what_it_is(model):
    assert all(row.description for row in describe(getattr(settings, model)))
