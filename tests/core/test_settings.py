import contextlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from ptb import PluginError
from ptb.settings import SettingsError, arguments, derive_model, describe, plain_values, validate


class Inner(BaseModel):
    depth: int = 1


class Options(BaseModel):
    width: int = Field(16, gt=0, description="Channels")
    rate: float = 0.1
    pool: Literal["max", "avg"] = "max"
    betas: tuple[float, float] = (0.9, 0.99)
    sizes: list[Annotated[int, Field(gt=0)]] = []
    root: str | None = None
    inner: Inner = Inner()
    flag: bool = False


class Required(BaseModel):
    path: str

    @model_validator(mode="after")
    def _no_pickle(self):
        if self.path.endswith(".pkl"):
            raise ValueError("a pickle is not read")
        return self


def problems(model, values):
    with pytest.raises(SettingsError) as error:
        validate(model, values)
    return {problem.key: problem.message for problem in error.value.problems}


@pytest.mark.parametrize(
    ("values", "key", "told"),
    [
        ({"width": "5"}, "width", 'must be a valid integer, got "5"'),
        ({"width": True}, "width", "must be a valid integer, got true"),
        ({"width": 5.0}, "width", "must be a valid integer, got 5.0"),
        ({"width": 0}, "width", "must be greater than 0, got 0"),
        ({"flag": 1}, "flag", "must be a valid boolean, got 1"),
        ({"rate": "fast"}, "rate", 'must be a valid number, got "fast"'),
        ({"pool": "min"}, "pool", "must be 'max' or 'avg', got \"min\""),
        ({"betas": [0.9]}, "betas", "has too few items, got [0.9]"),
        ({"sizes": [1, 0]}, "sizes[1]", "must be greater than 0, got 0"),
        ({"sizes": 3}, "sizes", "must be a valid array, got 3"),
        ({"root": 3}, "root", "must be a valid string, got 3"),
        ({"inner": {"deep": 1}}, "inner.deep", "unknown key"),
        ({"widht": 3}, "widht", "unknown key (did you mean 'width'?); valid are width, rate"),
        ({"root": None}, "root", "cannot be written in a config file"),
        ({"sizes": [None]}, "sizes", "cannot be written in a config file"),
        ({"root": {1, 2}}, "root", "cannot be written in a config file"),
    ],
)
def test_a_bad_value_is_told_with_its_key_and_what_is_valid(values, key, told):
    assert told in problems(Options, values)[key]


def test_all_problems_are_told_at_once():
    assert set(problems(Options, {"width": 0, "poool": 1, "flag": "x"})) == {"width", "poool", "flag"}


def test_a_validator_speaks_for_itself():
    assert problems(Required, {"path": "a.pkl"}) == {"": 'a pickle is not read, got {"path": "a.pkl"}'}
    assert problems(Required, {}) == {"path": "is required and has no default"}


def test_an_integer_is_a_number_and_a_list_fills_a_tuple():
    settings = validate(Options, {"rate": 1, "betas": [0, 0.5]})
    assert arguments(settings)["rate"] == 1.0
    assert arguments(settings)["betas"] == (0.0, 0.5)


def test_what_is_none_is_left_out_of_a_config_and_comes_back_as_the_default():
    written = plain_values(validate(Options, {}))
    assert "root" not in written
    assert written["betas"] == [0.9, 0.99]
    assert validate(Options, written) == validate(Options, {})


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "width": st.integers(1, 10**9),
            "rate": st.floats(allow_nan=False),
            "pool": st.sampled_from(["max", "avg"]),
            "sizes": st.lists(st.integers(1, 99)),
            "root": st.text(),
            "flag": st.booleans(),
        },
    )
)
def test_written_settings_are_read_back_as_they_were(values):
    settings = validate(Options, values)
    assert validate(Options, plain_values(settings)) == settings


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists)))
def test_any_values_are_valid_or_told(values):
    with contextlib.suppress(SettingsError):
        assert isinstance(validate(Options, values), Options)


# Derived from a signature --------------------------------------------------------------------------------------------


class Net:
    def __init__(
        self,
        spec: "OnlyForTheTypeChecker",  # noqa: F821
        *,
        width: Annotated[int, Field(gt=0, description="Channels")] = 16,
        hook: Callable[[int], int] | None = None,
        scale: "float | torch.Tensor" = 1.0,
        untyped=3,
        **rest: Any,
    ) -> None: ...


def test_settings_are_read_off_a_signature():
    model = derive_model("model", "net", Net)
    assert list(model.model_fields) == ["width", "scale", "untyped"]
    assert arguments(validate(model, {})) == {"width": 16, "scale": 1.0, "untyped": 3}
    assert "greater than 0" in problems(model, {"width": 0})["width"]
    assert "valid integer" in problems(model, {"untyped": "x"})["untyped"]
    assert json.dumps(model.model_json_schema())


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "LBFGS", "Adagrad", "NAdam", "Rprop"])
def test_an_optimizer_of_torch_needs_no_settings_model(name):
    target = getattr(torch.optim, name)
    model = derive_model("optimizer", name.lower(), target)
    assert "lr" in model.model_fields
    assert "params" not in model.model_fields
    parameter = torch.nn.Parameter(torch.ones(2))
    settings = arguments(validate(model, {"lr": 0.5}))
    assert target([parameter], **settings).param_groups[0]["lr"] == 0.5
    assert describe(model)


def test_a_scheduler_has_two_arguments_that_are_no_settings():
    def warmup(optimizer, total_steps: int, *, steps: int = 10): ...

    assert list(derive_model("scheduler", "warmup", warmup).model_fields) == ["steps"]


def test_a_parameter_that_nothing_can_fill_is_told():
    def loss(spec, *, weight: torch.Tensor): ...

    with pytest.raises(PluginError, match=r"'weight' has no default and its type .*Tensor.* cannot be written"):
        derive_model("loss", "odd", loss)


def test_a_setting_called_name_is_refused():
    def model(spec, *, name: str = "x"): ...

    with pytest.raises(PluginError, match="cannot be called 'name'"):
        derive_model("model", "odd", model)


# Described for people ------------------------------------------------------------------------------------------------


def test_every_setting_is_described():
    rows = {row.name: row for row in describe(Options)}
    assert (rows["width"].type, rows["width"].bounds, rows["width"].default) == ("integer", "> 0", "16")
    assert rows["width"].description == "Channels"
    assert rows["pool"].type == '"max" | "avg"'
    assert rows["betas"].type == "[number, number]"
    assert (rows["sizes"].type, rows["sizes"].bounds) == ("list of integer", "each > 0")
    assert (rows["root"].type, rows["root"].default) == ("string | none", "none")
    assert describe(Required)[0].default == "required"
