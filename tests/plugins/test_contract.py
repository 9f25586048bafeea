import importlib
import json
import re
import warnings
from importlib.metadata import distribution
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import ptb
from ptb import ConfigError
from ptb.kinds import KINDS
from ptb.registry.settings import validate

DISTRIBUTION = "pytorch-basics"
HOOKS = {kind.hook for kind in KINDS.values()}
ENTRIES = [entry for entry in ptb.load_registry().components() if entry.plugin == DISTRIBUTION]
PACKAGES = sorted(point.module for point in distribution(DISTRIBUTION).entry_points.select(group="ptb"))
MORE_THAN_COMMANDS = {
    "ptb_trackers": ["callbacks", "commands"],  # what they are, and how the rest is sent
    "ptb_report": ["commands", "callbacks"],  # a page at any time, and at the end of a run
}
every_component = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind}-{entry.name}")


def as_json(value):
    return json.loads(json.dumps(value))


def test_every_kind_has_a_built_in_component_and_every_component_is_ready():
    assert {entry.kind for entry in ENTRIES} == set(KINDS)
    assert {entry.id: entry.status for entry in ENTRIES if entry.status != "ok"} == {}


FOREIGN = re.compile(
    r"(?i:\binput\b|\bvalidat|should|\bextra\b|permitted|required$|value error|assertion|discriminator|instance)|"
    r"(?i:\bvalid (integer|number|string|boolean|list|array|object|tuple|dictionary))|"
    r"\b([Tt]uple|[Dd]ict|dictionary|array|object|None|NoneType|True|False|float|bool|str|int)\b"
)
words = st.text("aeiou0123456789.,[]{}'\"= -\n\x1b\ud800", max_size=6) | st.sampled_from(["none", "true", "1.", ".5"])
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.sampled_from([10**30, -(10**400), 2**63, float("nan"), float("inf"), float("-inf"), 1e300, -0.0])
    | st.floats()
    | words
)


def tables_of(inner):
    return st.dictionaries(st.sampled_from(["name", "std", "match", "lr", "", "x"]) | words, inner, max_size=3)


values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | tables_of(inner), max_leaves=8)


@st.composite
def mutated(draw, model):
    """Settings of which some are replaced, inside their defaults too, some left out, and some unknown."""
    chosen = {}
    for name, field in model.model_fields.items():
        default = as_json(field.get_default(call_default_factory=True)) if not field.is_required() else "x"
        kinds = [st.just(default), values]
        if isinstance(default, list) and default:
            kinds.append(st.permutations([draw(values), *default[1:]]))
            kinds.append(st.just(default * 2) | st.just(default[1:]))
        if isinstance(default, str):
            kinds.append(
                st.just(default[1:]) | st.just([default]) | tables_of(values).map(lambda t, d=default: {"name": d, **t})
            )
        if draw(st.integers(0, 3)) == 0:
            chosen[name] = draw(st.one_of(kinds))
        elif field.is_required() and draw(st.integers(0, 5)):
            chosen[name] = default
    return chosen | draw(st.one_of(st.just({}), tables_of(leaves)))


def messages_of(model, given_values):
    """What is said of the faults, up to the value; there is one for each place, with one "got"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            validate(model, given_values)
        except ConfigError as error:
            problems = error.problems
        else:
            return []
    assert problems
    assert len({problem.key for problem in problems}) == len(problems)
    for problem in problems:
        said, _, got = problem.message.partition("got ")
        assert said
        assert " got " not in said + re.sub(r'"(\\\\.|[^"])*"', "", got)
    return [problem.message.partition("got ")[0] for problem in problems]


@every_component
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_every_fault_of_the_settings_is_told_in_our_words(entry, data):
    model = entry.settings_model()
    for said in messages_of(model, data.draw(mutated(model))):
        assert FOREIGN.findall(re.sub(r"'[^']*'", "", said)) == []  # a choice may be called anything


def test_words_that_are_not_ours_would_be_noticed():
    model = ptb.load_registry().get("scheduler", "multi-step").settings_model()
    with pytest.raises(ValidationError) as error:
        model.model_validate_json('{"milestones": [], "gamma": "x", "gama": 1}', strict=True, extra="forbid")
    assert all(FOREIGN.search(fault["msg"]) for fault in error.value.errors())
    assert messages_of(model, {"milestones": []}) != []


@every_component
def test_names_are_taken_from_the_component_s_own_package(entry):
    assert entry.component.settings is not None
    package = entry.component.settings.partition(".")[0]
    assert package in PACKAGES
    assert entry.target.partition(".")[0] in (package, "torch")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_provides_one_kind_and_is_typed(package):
    module = importlib.import_module(package)
    hooks = [name for name in vars(module) if name.startswith("ptb_provide_")]
    kind = package.removeprefix("ptb_")
    provided = MORE_THAN_COMMANDS.get(package, ["commands"])
    assert hooks == [f"ptb_provide_{each}" for each in ([kind] if f"ptb_provide_{kind}" in HOOKS else provided)]
    assert (files(package) / "py.typed").is_file()
