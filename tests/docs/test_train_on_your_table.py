"""What the page tells to type is what the settings take."""

import re
import shlex
from pathlib import Path

import pytest

from ptb.config.layers import parse_override
from ptb_datasets.csv_settings import Csv

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "train-on-your-table.md").read_text(encoding="utf-8")
TYPED = sorted({code for code in re.findall(r"`(dataset\.[^`]+)`", TEXT) if "=" in code})


@pytest.mark.parametrize("code", TYPED)
def test_settings_can_be_typed(code):
    typed = dict(parse_override(word) for word in shlex.split(code))
    assert {section for section, _ in typed} == {"dataset"}
    settings = {key: value for (_, key), value in typed.items()}
    given = {"target": "price", **({} if "train" in settings else {"path": "x.csv"}), **settings}
    assert settings.keys() <= Csv.model_validate(given).model_fields_set


def test_the_page_shows_many_settings():
    assert len(TYPED) > 15
