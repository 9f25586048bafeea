import json

import pytest
from pydantic import ValidationError

import ptb
from ptb_initializers.layer_settings import RULES, ByLayer, rule


def read(model, **values):
    return model.model_validate_json(json.dumps(values), strict=True, extra="forbid")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("uniform", {"a": 2.0}, "a must not be above b, got a=2.0 and b=1.0"),
        ("normal", {"std": -1.0}, "greater than or equal to 0"),
        ("trunc-normal", {"std": 0.0}, "greater than 0"),
        ("trunc-normal", {"a": 2.0}, "a must be below b"),
        ("trunc-normal", {"mean": 4.5}, "more than 2 std from"),
        ("trunc-normal", {"mean": -4.5}, "more than 2 std from"),
        ("constant", {"value": float("nan")}, "finite number"),
        ("constant", {"value": -1e39}, "greater than or equal to -10{18}"),
        ("normal", {"std": 1e39}, "less than or equal to 10{18}"),
        ("orthogonal", {"gain": 1e39}, "less than or equal to 10{18}"),
        ("dirac", {"groups": 0}, "greater than 0"),
        ("sparse", {"sparsity": 1.0}, "less than 1"),
        ("sparse", {"sparsity": -0.1}, "greater than or equal to 0"),
        ("orthogonal", {"gain": 0.0}, "greater than 0"),
        ("xavier-normal", {"nonlinearity": "relu6"}, "should be 'linear'"),
        ("xavier-uniform", {"negative_slope": 0.2}, "negative_slope belongs to nonlinearity leaky_relu"),
        ("kaiming-normal", {"negative_slope": 0.2}, "nonlinearity is relu"),
        ("kaiming-uniform", {"mode": "fan_avg"}, "'fan_in' or 'fan_out'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_wrong_setting_is_refused(name, values, message):
    with pytest.raises(ValidationError, match=message):
        read(RULES[name], **values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("uniform", {"a": 1.0}),
        ("normal", {"std": 0.0}),
        ("trunc-normal", {"mean": 4.0}),
        ("sparse", {"sparsity": 0}),
        ("orthogonal", {"nonlinearity": "leaky_relu", "negative_slope": 0}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_setting_on_the_edge_is_taken(name, values):
    settings = read(RULES[name], **values)
    assert {key: getattr(settings, key) for key in values} == values


def test_a_rule_is_written_out_with_all_its_settings():
    assert rule("sparse") == rule({"name": "sparse"}) == {"name": "sparse", "sparsity": 0.1, "std": 0.01}
    assert rule({"name": "sparse", "std": 1}) == {"name": "sparse", "sparsity": 0.1, "std": 1.0}


def test_by_layer_takes_names_and_tables_and_writes_tables():
    settings = read(ByLayer, conv="zeros", norm={"name": "constant", "value": 1})
    assert settings.model_dump() == {
        "conv": {"name": "zeros"},
        "linear": {"name": "constant", "value": 0.01},
        "embedding": {"name": "default"},
        "norm": {"name": "constant", "value": 1.0},
    }
    assert read(ByLayer, **settings.model_dump()) == settings


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            {"name": "normal", "sdt": 1},
            "initializer.conv.sdt: unknown key (did you mean 'std'?); valid are name, mean, std",
        ),
        (
            {"name": "normal", "std": "x"},
            'initializer.conv.std: must be a number, got "x"',
        ),
        ({"name": "uniform", "a": 2}, "initializer.conv.a: must not be above b, got a=2.0 and b=1.0"),
        ("zero", "must be one of default, uniform"),
        ("zero", "(did you mean 'zeros'?), or a table with such a name and its settings, got \"zero\""),
        ({"name": "zero"}, 'got "zero"'),
        ({"std": 1.0}, "or a table with such a name and its settings"),
        (3, "or a table with such a name and its settings, got 3"),
    ],
    ids=str,
)
def test_a_fault_inside_a_table_is_told_like_one_of_the_initializer_itself(built_in, value, told):
    with pytest.raises(ptb.ConfigError) as error:
        built_in.build("initializer", "by-layer", None, conv=value)
    assert told in str(error.value)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize("value", ["kaiming", {"std": 1.0}, {"name": ["normal"]}, {"name": "normal", "sd": 1}, 3])
def test_by_layer_refuses_what_is_no_initializer(value):
    with pytest.raises(ValidationError):
        read(ByLayer, conv=value)
