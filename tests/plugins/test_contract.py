import importlib
import inspect
import json
import subprocess
import sys
from importlib.metadata import distribution
from importlib.resources import files

import pytest

import ptb
from ptb.component import KINDS
from ptb.settings import RUNTIME_ARGUMENTS

DISTRIBUTION = "pytorch-basics"
ENTRIES = [entry for entry in ptb.load_registry().components() if entry.plugin == DISTRIBUTION]
PACKAGES = sorted(point.module for point in distribution(DISTRIBUTION).entry_points.select(group="ptb"))
every_component = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind}-{entry.name}")


def as_json(value):
    return json.loads(json.dumps(value))


def heavy_modules_after(*modules):
    code = (
        "import importlib, sys\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "print(*{'torch', 'cv2', 'sklearn', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_every_kind_has_a_built_in_component_and_every_component_is_ready():
    assert {entry.kind for entry in ENTRIES} == set(KINDS)
    assert {entry.id: entry.status for entry in ENTRIES if entry.status != "ok"} == {}


@every_component
def test_settings_and_target_have_the_same_names_and_defaults(entry):
    parameters = list(inspect.signature(entry.load()).parameters.values())[RUNTIME_ARGUMENTS[entry.kind] :]
    target = {parameter.name: parameter.default for parameter in parameters}
    fields = entry.settings_model().model_fields
    if entry.target.startswith("torch."):  # torch has more options than are worth showing
        target = {name: target[name] for name in fields}
    else:
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    assert list(fields) == list(target)
    stated = {name: default for name, default in target.items() if default is not inspect.Parameter.empty}
    assert as_json(stated) == as_json({name: fields[name].get_default(call_default_factory=True) for name in stated})


@every_component
def test_every_setting_is_described(entry):
    assert [name for name, field in entry.settings_model().model_fields.items() if not field.description] == []


@every_component
def test_the_schema_can_be_written_as_json(entry):
    schema = entry.settings_model().model_json_schema()
    assert as_json(schema) == schema


@every_component
def test_the_defaults_are_valid_settings(entry):
    model = entry.settings_model()
    required = {name: "some/place" for name, field in model.model_fields.items() if field.is_required()}
    defaults = model(**required)
    written = defaults.model_dump_json(exclude_none=True)
    assert model.model_validate_json(written, strict=True, extra="forbid") == defaults


@every_component
def test_names_are_taken_from_the_component_s_own_package(entry):
    assert entry.component.settings is not None
    package = entry.component.settings.partition(".")[0]
    assert package in PACKAGES
    assert entry.target.partition(".")[0] in (package, "torch")


@pytest.mark.parametrize("package", PACKAGES)
def test_hooks_and_settings_import_nothing_heavy(package):
    assert heavy_modules_after(package, f"{package}.settings") == []


def test_that_test_would_notice():
    assert heavy_modules_after("ptb_models.lenet") == ["torch"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_provides_one_kind_and_is_typed(package):
    module = importlib.import_module(package)
    hooks = [name for name in vars(module) if name.startswith("ptb_provide_")]
    assert hooks == [f"ptb_provide_{package.removeprefix('ptb_')}"]
    assert (files(package) / "py.typed").is_file()
