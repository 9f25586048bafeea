import contextlib
import datetime
import json
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, PlainSerializer, field_validator, model_validator

from ptb import ConfigError, PluginError
from ptb.registry.settings import arguments, derive_model, plain_values, validate


class Inner(BaseModel):
    depth: int = 1
    inners: list["Inner"] = []


class A(BaseModel):
    kind: Literal["a"]
    depth: int = 1


class B(BaseModel):
    kind: Literal["b"]
    width: Annotated[int, Field(gt=0)] = 1


Positive = Annotated[float, Field(gt=0)]


class Options(BaseModel):
    width: int = Field(16, gt=0, description="Channels")
    rate: float = 0.1
    pool: Literal["max", "avg"] = "max"
    betas: tuple[float, float] = (0.9, 0.99)
    sizes: list[Annotated[int, Field(gt=0)]] = []
    root: str | None = None
    inner: Inner = Inner()
    flag: bool = False
    part: float = Field(0.5, ge=0, lt=1)
    finite: float = Field(0.5, allow_inf_nan=False)
    even: int = Field(2, multiple_of=2)
    mixed: tuple[int, str] = (1, "a")
    few: list[Any] = Field([1], min_length=1, max_length=3)
    mark: str = Field(",", min_length=1, max_length=1)
    letters: str = Field("a", min_length=1, pattern="^[a-z]+$")
    one_or_two: Positive | tuple[Positive, Positive] | None = None
    both: int | float = Field(1, gt=0)
    tagged: Annotated[A | B, Field(discriminator="kind")] = A(kind="a")
    either: A | B = A(kind="a")
    free: dict[str, int] = {}


class Required(BaseModel):
    path: str

    @model_validator(mode="after")
    def _no_pickle(self):
        if self.path.endswith(".pkl"):
            raise ValueError("a pickle is not read")
        return self


def nested(depth):
    return [nested(depth - 1)] if depth else []


def problems(model, values):
    with pytest.raises(ConfigError) as error:
        validate(model, values)
    return {problem.key: problem.message for problem in error.value.problems}


@pytest.mark.parametrize(
    ("values", "key", "told"),
    [
        ({"width": "5"}, "width", 'must be an integer, got "5"; write 5'),
        ({"width": True}, "width", "must be an integer, got true"),
        ({"width": 5.0}, "width", "must be an integer, got 5.0"),
        ({"width": 0}, "width", "must be above 0, got 0"),
        ({"width": 2**63}, "width", "is an integer of more than 64 bits, which no config file holds"),
        ({"width": -(10**9999)}, "width", "is an integer of more than 64 bits, which no config file holds"),
        ({"flag": "True"}, "flag", 'must be true or false, got "True"; write true'),
        ({"rate": "fast"}, "rate", 'must be a number, got "fast"'),
        ({"rate": ".001"}, "rate", 'must be a number, got ".001"; write 0.001'),
        ({"part": float("nan")}, "part", "must be below 1, got nan"),
        ({"finite": float("inf")}, "finite", "must be a finite number, got inf"),
        ({"even": 3}, "even", "must be a multiple of 2, got 3"),
        ({"pool": "agv"}, "pool", "must be 'max' or 'avg' (did you mean 'avg'?), got \"agv\""),
        ({"pool": ["max"]}, "pool", "must be 'max' or 'avg', got [\"max\"]"),
        ({"betas": [0.9]}, "betas", "must have at least 2 items, got [0.9]"),
        ({"betas": [0.9, 0.8, 0.7]}, "betas", "must have at most 2 items, got [0.9, 0.8, 0.7]"),
        ({"betas": "(0.9,0.8)"}, "betas", 'must be a list, got "(0.9,0.8)"; write [0.9,0.8]'),
        ({"sizes": [1, 0]}, "sizes[1]", "must be above 0, got 0"),
        ({"sizes": 3}, "sizes", "must be a list, got 3"),
        ({"sizes": "3,4"}, "sizes", 'must be a list, got "3,4"; write [3,4]'),
        ({"few": []}, "few", "must have at least 1 item, got []"),
        ({"letters": "\x9b1"}, "letters", "must match pattern '^[a-z]+$', got \"\\u009b1\""),
        ({"root": 3}, "root", "must be a string, got 3"),
        ({"one_or_two": "x"}, "one_or_two", 'must be a number, or must be a list, got "x"'),
        ({"one_or_two": [1, -2]}, "one_or_two[1]", "must be above 0, got -2"),
        ({"inner": 3}, "inner", "must be a table, got 3"),
        ({"inner": {"deeph": 1}}, "inner.deeph", "unknown key (did you mean 'depth'?); valid are depth, inners"),
        ({"inner": {"inners": [{"depth": "x"}]}}, "inner.inners[0].depth", 'must be an integer, got "x"'),
        ({"inner": {"inners": [{}, {"dpth": 1}]}}, "inner.inners[1].dpth", "unknown key (did you mean 'depth'?)"),
        ({"tagged": {"kind": "b", "width": 0}}, "tagged.width", "must be above 0, got 0"),
        ({"tagged": {"kind": "c"}}, "tagged", "does not match any of the expected tags: 'a', 'b', got {kind = \"c\"}"),
        ({"free": {"a": "x"}}, "free.a", 'must be an integer, got "x"'),
        ({"widht": 3}, "widht", "unknown key (did you mean 'width'?); valid are width, rate"),
        ({"root": None}, "root", "null is no value in a config file; leave it out"),
        ({"sizes": [None]}, "sizes", "null is no value in a config file; leave it out"),
        ({"root": {1, 2}}, "root", "a set is no value of a setting"),
        ({"root": "\ud800"}, "", "Invalid JSON"),
        ({"root": datetime.date(2024, 1, 2)}, "root", "a date is no value of a setting; put a text in quotes"),
        ({"sizes": nested(99)}, "sizes", "is nested more than 32 deep"),
        ({"sizes": nested(30)}, "sizes[0]", "must be an integer, got [[[[[["),
    ],
)
def test_a_bad_value_is_told_with_its_key_and_what_is_valid(values, key, told):
    found = problems(Options, values)
    assert list(found) == [key]
    assert told in found[key] or re.search(told, found[key])


def test_all_problems_are_told_at_once():
    assert set(problems(Options, {"width": 0, "poool": 1, "flag": "x"})) == {"width", "poool", "flag"}


class Checked(BaseModel):
    low: float = 0.0
    high: float = 1.0
    text: str = ""
    even: int = 2

    @field_validator("even")
    @classmethod
    def _is_even(cls, even):
        if even % 2:
            raise ValueError("must be even.")
        return even

    @model_validator(mode="after")
    def _goes_together(self):
        if self.low > self.high:
            raise ValueError("low must not be above high")
        if self.text == "told":
            raise ValueError(f"this is no text, got {self.text}")
        if self.text:
            raise ValueError("nothing here may be written")
        if self.low < 0:
            raise AssertionError("nothing may be negative")
        return self


class Outer(BaseModel):
    inner: Checked = Checked()


@pytest.mark.parametrize(
    ("values", "key", "message"),
    [
        ({"even": 3}, "even", "must be even, got 3"),
        ({"low": 2}, "low", "must not be above high, got 2"),
        ({"high": -1, "even": 4}, "high", "low must not be above high, got -1"),
        ({"text": "told"}, "text", "this is no text, got told"),
        ({"text": "x", "even": 4}, "", "nothing here may be written"),
    ],
    ids=str,
)
def test_a_validator_speaks_for_itself_of_the_values_that_it_mentions(values, key, message):
    assert problems(Checked, values) == {key: message}
    assert problems(Outer, {"inner": values}) == {f"inner.{key}".rstrip("."): message}


def test_of_very_many_faults_the_first_are_told_and_the_others_counted():
    told = problems(Options, {"sizes": ["x"] * 5000, "width": 0, "poool": 1})
    assert told["sizes[0]"] == told["sizes[97]"]
    assert told[""] == "there are 4,902 problems more"
    assert len(told) == 101
    assert set(problems(Options, {"sizes": ["x"] * 100})) == {f"sizes[{number}]" for number in range(100)}


def test_what_is_missing_is_told():
    assert problems(Required, {}) == {"path": "is required and has no default"}
    assert set(problems(Required, {"pth": "a"})) == {"path", "pth"}


def test_settings_that_no_schema_describes_are_checked_all_the_same():
    class Odd(BaseModel):
        hook: Callable[[int], int] | None = None
        width: int = 1

    assert set(problems(Odd, {"width": "x", "with": 1})) == {"width", "with"}


def test_an_integer_is_a_number_and_a_list_fills_a_tuple():
    checked = validate(Options, {"rate": 1, "betas": [0, 0.5]})
    assert arguments(checked, dict)["rate"] == 1.0
    assert arguments(checked, dict)["betas"] == (0.0, 0.5)


def test_what_is_none_is_left_out_of_a_config_and_comes_back_as_the_default():
    written = plain_values(validate(Options, {}))
    assert "root" not in written
    assert written["betas"] == [0.9, 0.99]
    assert validate(Options, written) == validate(Options, {})


@settings(max_examples=30, deadline=None)
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
    checked = validate(Options, values)
    assert validate(Options, plain_values(checked)) == checked


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=4), st.none() | st.floats() | st.lists(st.text(), max_size=2), max_size=3))
def test_any_values_are_valid_or_told(values):
    with contextlib.suppress(ConfigError):
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
    assert list(model.model_fields) == ["width", "scale", "untyped", "options"]
    assert arguments(validate(model, {}), Net) == {"width": 16, "scale": 1.0, "untyped": 3}
    assert problems(model, {"width": 0}) == {"width": "must be above 0, got 0"}
    assert problems(model, {"untyped": "x"}) == {"untyped": 'must be an integer, got "x"'}
    assert json.dumps(model.model_json_schema())


def test_what_no_config_file_can_hold_is_named():
    assert derive_model("model", "net", Net).__doc__.endswith("which keep their defaults: hook.")


class WithOptions(BaseModel):
    width: int = 3
    options: dict[str, Any] = {}


def test_the_items_of_options_are_keyword_arguments_of_a_target_that_takes_any():
    def takes_any(spec, *, width: int = 3, **rest): ...
    def has_its_own(spec, *, options: dict[str, Any], **rest): ...
    def takes_two(spec, *, width: int = 3, options: dict[str, Any]): ...

    values = {"width": 2, "options": {"rate": 0.5}}
    for model in (WithOptions, derive_model("model", "net", takes_any)):
        assert arguments(validate(model, values), takes_any) == {"width": 2, "rate": 0.5}
    assert arguments(validate(WithOptions, values), takes_two) == values
    own = derive_model("model", "net", has_its_own)
    assert arguments(validate(own, {"options": {"a": 1}}), has_its_own) == {"options": {"a": 1}}
    with pytest.raises(ConfigError, match=r"options\.width: is a setting of its own; write it without 'options\.'"):
        arguments(validate(WithOptions, {"options": {"width": 1}}), takes_any)


@pytest.mark.filterwarnings("error")
def test_a_dtype_is_set_by_its_name():
    def target(spec, *, dtype: torch.dtype = torch.float32, other: torch.dtype | None = None): ...

    model = derive_model("model", "net", target)
    given = validate(model, {"dtype": "bfloat16", "other": "torch.float16"})
    assert arguments(given, target) == {"dtype": torch.bfloat16, "other": torch.float16}
    assert plain_values(given) == {"dtype": "bfloat16", "other": "float16"}
    assert plain_values(validate(model, {})) == {"dtype": "float32"}
    for wrong in ("foo", "nn", 3):
        assert 'must be the name of a torch.dtype, such as "bfloat16"' in problems(model, {"dtype": wrong})["dtype"]


@pytest.mark.parametrize("name", ["SGD", "Adam", "LBFGS"])
def test_an_optimizer_of_torch_needs_no_settings_model(name):
    target = getattr(torch.optim, name)
    model = derive_model("optimizer", name.lower(), target)
    assert "lr" in model.model_fields
    assert "params" not in model.model_fields
    parameter = torch.nn.Parameter(torch.ones(2))
    given = arguments(validate(model, {"lr": 0.5}), target)
    assert target([parameter], **given).param_groups[0]["lr"] == 0.5


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


@pytest.mark.parametrize("raised", [SystemExit(0), KeyError("x"), RuntimeError("boom")])
def test_a_validator_that_raises_what_it_may_not_is_a_fault_of_its_plugin(raised):
    class Odd(BaseModel):
        width: int = 1

        @field_validator("width")
        @classmethod
        def check(cls, width):
            raise raised

    with pytest.raises(PluginError, match="Odd raised"):
        validate(Odd, {"width": 2})


def raising():
    raise LookupError("no file")


def test_a_default_that_cannot_be_made_is_the_fault_of_the_model():
    class Odd(BaseModel):
        root: str = Field(default_factory=raising)

    with pytest.raises(PluginError, match=r"test_settings\.\S+Odd raised LookupError: no file"):
        validate(Odd, {})


def test_a_default_that_cannot_be_made_is_the_fault_of_the_module_that_has_the_signature():
    def odd(spec, *, root: Annotated[str, Field(default_factory=raising)]): ...

    with pytest.raises(PluginError, match=r"test_settings\.Settings raised LookupError: no file"):
        validate(derive_model("model", "odd", odd), {})


class EncodeError(BaseModel):
    root: Annotated[int, PlainSerializer(lambda _: raising())] = 3


def test_whatever_else_a_model_raises_is_its_own_fault_too():
    with pytest.raises(PluginError, match=r"EncodeError raised .*no file"):
        plain_values(EncodeError())


@pytest.mark.parametrize("name", ["model_config", "_width"])
def test_a_parameter_that_pydantic_would_pass_over_is_refused(name):
    namespace = {}
    exec(f"def odd(spec, *, {name}=3): ...", namespace)
    with pytest.raises(PluginError, match=f"^model odd: a setting cannot be called '{name}': pydantic"):
        derive_model("model", "odd", namespace["odd"])
