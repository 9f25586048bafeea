"""What the page tells to type is what the settings take."""

import re
import shlex
from pathlib import Path

import pytest

from ptb.config.layers import parse_override
from ptb_datasets.folder_scan import OTHER_SPLIT_NAMES, is_litter
from ptb_datasets.picture_settings import ImageFolder

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "train-on-your-pictures.md").read_text(encoding="utf-8")
TYPED = sorted({word for code in re.findall(r"`(dataset\.[^`]+)`", TEXT) for word in shlex.split(code) if "=" in word})


@pytest.mark.parametrize("word", TYPED)
def test_a_setting_can_be_typed(word):
    (section, key), value = parse_override(word)
    assert section == "dataset"
    partner = {"mean": {"std": [0.2]}, "std": {"mean": [0.2]}}
    labels = {"labels": "x.csv"} if key.endswith("_column") else {}
    given = {"root": "x", key: value, **partner.get(key, {}), **labels}
    assert key in ImageFolder.model_validate(given).model_fields_set


def test_the_page_shows_most_settings_and_none_that_is_not_there():
    shown = {parse_override(word)[0][1] for word in TYPED}
    assert len(shown) > 20
    assert shown <= set(ImageFolder.model_fields)


def test_litter_and_names_of_splits_are_those_of_the_code():
    assert all(map(is_litter, re.findall(r"`([^`]+)`", re.search(r"leave between them \((.*?)\)", TEXT)[1])))
    assert {OTHER_SPLIT_NAMES[name] for name in ("valid", "validation", "dev")} == {"val"}
