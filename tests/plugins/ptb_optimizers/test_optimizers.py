import copy
import inspect
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ptb import ConfigError

TARGETS = {
    "sgd": torch.optim.SGD,
    "asgd": torch.optim.ASGD,
    "rprop": torch.optim.Rprop,
    "lbfgs": torch.optim.LBFGS,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "sparse-adam": torch.optim.SparseAdam,
    "adafactor": torch.optim.Adafactor,
}
# Every setting of every optimizer is moved off its default in one of them.
CASES = {
    "sgd-momentum": ("sgd", {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    "sgd-nesterov": ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "asgd": ("asgd", {"lr": 0.05, "lambd": 0.01, "alpha": 0.5, "t0": 3, "weight_decay": 0.1}),
    "rprop": ("rprop", {"lr": 0.02, "etas": [0.4, 1.5], "step_sizes": [1e-4, 0.1]}),
    "lbfgs": ("lbfgs", {"lr": 0.5, "max_iter": 4, "tolerance_grad": 0.05, "history_size": 2}),
    "lbfgs-wolfe": ("lbfgs", {"max_eval": 6, "tolerance_change": 1e-3, "line_search_fn": "strong_wolfe"}),
    "adagrad": (
        "adagrad",
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1, "eps": 1e-4},
    ),
    "adadelta": ("adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1}),
    "rmsprop": (
        "rmsprop",
        {"lr": 0.02, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1, "momentum": 0.5, "centered": True},
    ),
    "adam": ("adam", {"lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-4, "weight_decay": 0.1, "amsgrad": True}),
    "adam-decoupled": ("adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "adam-betas-0": ("adam", {"betas": [0.0, 0.0]}),
    "adamw": ("adamw", {"lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-4, "weight_decay": 0.1, "amsgrad": True}),
    "adamax": ("adamax", {"lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-4, "weight_decay": 0.1}),
    "nadam": (
        "nadam",
        {
            "lr": 0.01,
            "betas": [0.8, 0.9],
            "eps": 1e-4,
            "weight_decay": 0.1,
            "momentum_decay": 0.1,
            "decoupled_weight_decay": True,
        },
    ),
    "radam": (
        "radam",
        {"lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-4, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    "sparse-adam": ("sparse-adam", {"lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-4}),
    "adafactor": ("adafactor", {"lr": 0.1, "beta2_decay": -0.5, "eps": [0.1, 0.5], "weight_decay": 0.1}),
    "adafactor-d": ("adafactor", {"beta2_decay": -0.1, "d": 1.1}),
}
CASES |= {f"{name}-default": (name, {}) for name in TARGETS}
every_optimizer = pytest.mark.parametrize("name", TARGETS)
every_case = pytest.mark.parametrize(("name", "options"), CASES.values(), ids=CASES)


def toy(name):
    """A model and its mean square output; its gradients are sparse where the optimizer needs that."""
    torch.manual_seed(0)
    if name == "sparse-adam":
        model = nn.Embedding(9, 3, sparse=True)
        return model, lambda: model(torch.randint(9, (4,))).square().mean()
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    return model, lambda: model(torch.randn(4, 6)).square().mean()


def train(optimizer, loss, steps):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(steps):
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(ours, theirs):
    return len(ours) == len(theirs) > 0 and all(map(torch.equal, ours, theirs))


def trained_by(build, name, steps=10):
    model, loss = toy(name)
    train(build(model.parameters()), loss, steps)
    return weights(model)


def test_every_optimizer_is_here(built_in):
    assert [entry.name for entry in built_in.components("optimizer")] == sorted(TARGETS)


@every_optimizer
def test_the_target_is_torch_s_own_class(built_in, name):
    assert built_in.get("optimizer", name).load() is TARGETS[name]


@every_optimizer
def test_defaults_are_those_of_torch(built_in, name):
    model = built_in.get("optimizer", name).settings_model()
    signature = inspect.signature(TARGETS[name]).parameters
    defaults = {key: getattr(model(), key) for key in model.model_fields}
    assert defaults == {key: signature[key].default for key in defaults}


@every_optimizer
def test_all_that_changes_the_mathematics_can_be_set(built_in, name):
    switches = {"params", "foreach", "fused", "capturable", "differentiable", "maximize"}
    fields = built_in.get("optimizer", name).settings_model().model_fields
    assert set(fields) == set(inspect.signature(TARGETS[name]).parameters) - switches


@every_optimizer
def test_a_case_moves_each_setting_off_its_default(built_in, name):
    model = built_in.get("optimizer", name).settings_model()
    moved = {key for other, options in CASES.values() if other == name for key in options}
    assert moved == set(model.model_fields)


def test_what_an_optimizer_needs_is_declared(built_in):
    needs = {entry.name: entry.component.needs for entry in built_in.components("optimizer") if entry.component.needs}
    assert needs == {"lbfgs": ("closure",), "sparse-adam": ("sparse-gradients",)}


@every_case
def test_ten_steps_are_those_of_torch_bit_for_bit(built_in, name, options):
    ours = trained_by(lambda parameters: built_in.build("optimizer", name, parameters, **options), name)
    theirs = trained_by(lambda parameters: TARGETS[name](parameters, **options), name)
    assert same(ours, theirs)


def test_one_number_is_the_second_eps_of_adafactor_and_is_written_as_one(built_in):
    ours = trained_by(lambda parameters: built_in.build("optimizer", "adafactor", parameters, eps=0.5), "adafactor")
    theirs = trained_by(lambda parameters: torch.optim.Adafactor(parameters, eps=(None, 0.5)), "adafactor")
    assert same(ours, theirs)
    assert not same(ours, trained_by(torch.optim.Adafactor, "adafactor"))
    model = built_in.get("optimizer", "adafactor").settings_model()
    written = [json.loads(model(**options).model_dump_json())["eps"] for options in ({}, {"eps": 0.5}, {"eps": [1, 2]})]
    assert written == [1e-3, 0.5, [1, 2]]


@pytest.mark.parametrize("case", [case for case, (_, options) in CASES.items() if options])
def test_each_setting_of_a_case_changes_the_weights(built_in, case):
    name, options = CASES[case]
    whole = trained_by(lambda parameters: built_in.build("optimizer", name, parameters, **options), name)
    idle = {"asgd": {"t0"}}.get(name, set())  # it concerns the mean that asgd keeps beside the weights
    for key in set(options) - idle:
        fewer = {k: v for k, v in options.items() if k != key}
        if key == "momentum" and {"nesterov", "dampening"} & set(fewer):
            continue  # refused without it
        assert not same(whole, trained_by(lambda p, f=fewer: built_in.build("optimizer", name, p, **f), name)), key


def test_plain_sgd_is_weight_minus_learning_rate_times_gradient(built_in):
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = built_in.build("optimizer", "sgd", [weight], lr=0.5)
    weight.square().sum().backward()
    optimizer.step()
    assert weight.tolist() == [0.0, 0.0]


def test_whole_numbers_are_numbers(built_in):
    optimizer = built_in.build("optimizer", "adam", [nn.Parameter(torch.zeros(1))], lr=1, betas=[0, 0])
    assert repr(optimizer.defaults["betas"]) == "(0.0, 0.0)"  # torch refuses integers here


@every_optimizer
def test_it_lowers_a_quadratic(built_in, name):
    torch.manual_seed(0)
    model = nn.Embedding(4, 2, sparse=name == "sparse-adam")

    def loss():
        return (model(torch.arange(4)) - 3).square().mean()

    before = loss().item()
    train(built_in.build("optimizer", name, model.parameters()), loss, 50)
    assert loss().item() < before


@every_case
def test_it_goes_on_from_a_saved_state_bit_for_bit(built_in, name, options):
    whole = trained_by(lambda parameters: built_in.build("optimizer", name, parameters, **options), name)

    model, loss = toy(name)
    first = built_in.build("optimizer", name, model.parameters(), **options)
    train(first, loss, 4)
    state, random_state = copy.deepcopy((first.state_dict(), torch.get_rng_state()))
    saved = weights(model)

    model, loss = toy(name)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), saved, strict=True):
            parameter.copy_(value)
    torch.set_rng_state(random_state)
    second = built_in.build("optimizer", name, model.parameters(), **options)
    second.load_state_dict(state)
    train(second, loss, 6)
    assert same(weights(model), whole)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {"lr": -1.0}, r"optimizer.lr: must be at least 0, got -1"),
        ("adam", {"betas": [0.9, 1.0]}, r"optimizer.betas\[1\]: must be below 1, got 1.0"),
        (
            "adam",
            {"betas": [0.9]},
            r"optimizer.betas: must have at least 2 items, got \[0.9\]",
        ),
        ("adam", {"momentum": 0.9}, "optimizer.momentum: unknown key"),
        ("adam", {"foreach": True}, "optimizer.foreach: unknown key"),
        ("adam", {"lr": float("nan")}, "optimizer.lr: must be a finite number"),
        ("adam", {"lr": float("inf")}, "optimizer.lr: must be a finite number"),
        ("sgd", {"nesterov": True}, "optimizer.nesterov: needs momentum above 0 and dampening 0, got true"),
        (
            "sgd",
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            "optimizer.nesterov: needs .* 0, got true",
        ),
        ("sgd", {"dampening": 0.1}, "optimizer.dampening: belongs to momentum above 0: .*, got 0.1"),
        ("rprop", {"etas": [1.2, 0.5]}, r"must be one number between 0 and 1 and one above 1, got \[1.2, 0.5\]"),
        ("rprop", {"step_sizes": [1, 0.1]}, "must be the smallest step and then the largest"),
        ("lbfgs", {"line_search_fn": "wolfe"}, "optimizer.line_search_fn: must be 'strong_wolfe'"),
        ("asgd", {"lambd": -1}, "optimizer.lambd: must be at least 0"),
        ("asgd", {"alpha": -1}, "optimizer.alpha: must be at least 0"),
        ("asgd", {"t0": -1}, "optimizer.t0: must be at least 0"),
        ("rmsprop", {"alpha": 1}, "optimizer.alpha: must be below 1, got 1"),
        ("lbfgs", {"max_iter": 0}, "optimizer.max_iter: must be at least 1, got 0"),
        ("lbfgs", {"max_eval": 0}, "optimizer.max_eval: must be at least 1, got 0"),
        ("lbfgs", {"tolerance_grad": -1}, "optimizer.tolerance_grad: must be at least 0"),
        ("lbfgs", {"tolerance_change": -1}, "optimizer.tolerance_change: must be at least 0"),
        ("lbfgs", {"history_size": 0}, "optimizer.history_size: must be at least 1, got 0"),
        ("sparse-adam", {"lr": 0}, "optimizer.lr: must be above 0"),
        ("sparse-adam", {"eps": 0}, "optimizer.eps: must be above 0"),
        (
            "adafactor",
            {"beta2_decay": 0.1},
            r"optimizer.beta2_decay: must be at most 0",
        ),
        ("adafactor", {"d": 0.5}, "optimizer.d: must be at least 1"),
        (
            "adafactor",
            {"eps": -1},
            "optimizer.eps: must be at least 0, got -1",
        ),
        ("adafactor", {"eps": [-1, 0]}, r"optimizer.eps\[0\]: must be at least 0"),
    ],
)
def test_a_refusal_says_what_is_valid(built_in, name, options, message):
    with pytest.raises(ConfigError, match=message):
        built_in.build("optimizer", name, [nn.Parameter(torch.zeros(1))], **options)


def kind_of(default):
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, tuple):
        return st.tuples(*(kind_of(part) for part in default))
    edges = st.sampled_from([-1.0, -1e-9, 0.0, 1e-9, 0.5, 1 - 1e-9, 1.0, 1 + 1e-9, 2.0, float("nan"), float("inf")])
    integers = st.integers(-1, 3)
    return integers if isinstance(default, int) else edges | integers | st.floats(-2, 2)


def any_settings(model):
    """Values of the right types, many of them out of range."""
    own = {"line_search_fn": st.sampled_from(["strong_wolfe", "wolfe", ""]), "max_eval": st.integers(-1, 3)}
    return st.fixed_dictionaries(
        {}, optional={key: own.get(key, kind_of(field.default)) for key, field in model.model_fields.items()}
    )


@every_optimizer
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_nothing_that_torch_refuses_gets_through(built_in, name, data):
    options = data.draw(any_settings(built_in.get("optimizer", name).settings_model()))
    model, loss = toy(name)
    try:
        optimizer = built_in.build("optimizer", name, model.parameters(), **options)
    except ConfigError:
        return
    train(optimizer, loss, 2)


@every_optimizer
def test_no_setting_takes_a_number_of_which_a_step_makes_more_than_32_bits_hold(built_in, name):
    found = built_in.get("optimizer", name).settings_model()
    for key, schema in found.model_json_schema()["properties"].items():
        if schema.get("type") != "number":
            continue
        with pytest.raises(ConfigError, match=f"optimizer.{key}: must be "):
            built_in.build("optimizer", name, [nn.Parameter(torch.zeros(1))], **{key: 1e39})
        model, loss = toy(name)
        largest = {"maximum": schema.get("maximum"), "minimum": schema.get("minimum")}
        for value in (value for value in largest.values() if value is not None):
            needed = {"momentum": 1e18} if key == "dampening" else {}
            build = built_in.build("optimizer", name, model.parameters(), **{key: value, "lr": 1e18} | needed)
            train(build, loss, 3)


OUT_OF_RANGE = [-1.0, -1e-9, 0.0, 1.0, 1.5, 2.0, float("nan"), float("inf"), float("-inf")]


def variants(key, default):
    if isinstance(default, tuple):
        base = [1.0 if part is None else part for part in default]
        return [[value if n == m else part for m, part in enumerate(base)] for n in range(2) for value in OUT_OF_RANGE]
    if isinstance(default, bool):
        return [True, False]
    return ["wolfe", ""] if key == "line_search_fn" else OUT_OF_RANGE


@every_optimizer
def test_each_value_that_torch_refuses_is_refused_for_each_setting(built_in, name):
    def takes(build, options):
        model, loss = toy(name)
        try:
            train(build(model.parameters(), **options), loss, 1)
        except (ConfigError, ValueError, RuntimeError, ArithmeticError, IndexError):
            return False
        return True

    tried = [
        {key: value}
        for key, field in built_in.get("optimizer", name).settings_model().model_fields.items()
        if not isinstance(field.default, int) or isinstance(field.default, bool)
        for value in variants(key, field.default)
    ]
    refused = [options for options in tried if not takes(TARGETS[name], options)]
    assert refused
    assert [
        options for options in refused if takes(lambda p, **o: built_in.build("optimizer", name, p, **o), options)
    ] == []


@every_optimizer
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_setting_takes_a_value_that_is_not_finite(built_in, name, value):
    for key, field in built_in.get("optimizer", name).settings_model().model_fields.items():
        if isinstance(field.default, float):
            with pytest.raises(ConfigError, match=f"optimizer.{key}: must be"):
                built_in.build("optimizer", name, [nn.Parameter(torch.zeros(1))], **{key: value})


@every_optimizer
def test_the_settings_of_a_run_can_be_written_to_a_file_and_read_again(built_in, name):
    model = built_in.get("optimizer", name).settings_model()
    for options in [options for other, options in CASES.values() if other == name]:
        chosen = model.model_validate_json(json.dumps(options), strict=True)
        written = chosen.model_dump_json(exclude_none=True)
        assert "null" not in written  # TOML has none
        assert model.model_validate_json(written, strict=True) == chosen
