"""Settings are found by the other names that people try."""

import pytest
from pydantic import BaseModel, Field

from ptb import ConfigError, RunConfig
from ptb.config.checks import _synonyms
from ptb.config.resolve import resolve


@pytest.mark.parametrize(
    ("dataset", "key", "meant"),
    [
        ("csv", "file", "path"),
        ("csv", "label", "target"),
        ("image-folder", "folder", "root"),
        ("image-folder", "path", "root"),
        ("image-masks", "root", "images"),
        ("arrays", "x", "inputs"),
        ("arrays", "labels", "targets"),
    ],
)
def test_a_setting_that_is_called_otherwise_elsewhere_is_suggested(built_in, dataset, key, meant):
    with pytest.raises(ConfigError) as caught:
        resolve(RunConfig(model={"name": "mlp"}, dataset={"name": dataset, key: "a"}), built_in)
    told = {problem.key: problem.message for problem in caught.value.problems}
    assert told[f"dataset.{key}"].startswith(f"unknown key (did you mean '{meant}'?); valid are ")


def test_no_synonym_is_a_key_itself(built_in):
    for entry in built_in.components():
        model = entry.settings_model()
        assert not {*_synonyms(model)} & {*model.model_fields}


def test_a_model_that_changes_its_schema_has_none():
    class Odd(BaseModel):
        width: int = Field(3, json_schema_extra=lambda schema: schema.update(a=1))

    assert _synonyms(Odd) == {}
