"""Settings described for people."""

from typing import Annotated, Literal

import pytest
import torch
from pydantic import BaseModel, Field

from ptb import PluginError
from ptb.registry.settings import derive_model, validate
from ptb_list.describe import describe, json_schema


class A(BaseModel):
    kind: Literal["a"]


class B(BaseModel):
    kind: Literal["b"]


class Options(BaseModel):
    path: str
    width: int = Field(16, gt=0, description="Channels")
    pool: Literal["max", "avg"] = "max"
    betas: tuple[float, float] = (0.9, 0.99)
    sizes: list[Annotated[int, Field(gt=0)]] = []
    root: str | None = None
    tagged: Annotated[A | B, Field(discriminator="kind")] = A(kind="a")
    either: A | B = A(kind="a")


def test_every_setting_is_described():
    rows = {row.name: row for row in describe(Options)}
    assert (rows["width"].type, rows["width"].bounds, rows["width"].default) == ("integer", "> 0", "16")
    assert rows["width"].description == "Channels"
    assert rows["pool"].type == '"max" | "avg"'
    assert rows["betas"].type == "[number, number]"
    assert (rows["sizes"].type, rows["sizes"].bounds) == ("list of integer", "each > 0")
    assert (rows["root"].type, rows["root"].default) == ("string | none", "none")
    assert (rows["tagged"].type, rows["either"].type) == ("table", "table")
    assert rows["path"].default == "required"


@pytest.mark.filterwarnings("error")
def test_a_dtype_is_described_by_its_name():
    def target(spec, *, dtype: torch.dtype = torch.float32, other: torch.dtype | None = None): ...

    assert [(row.name, row.type, row.default) for row in describe(derive_model("model", "net", target))] == [
        ("dtype", "string", '"torch.float32"'),
        ("other", "string | none", "none"),
    ]


@pytest.mark.parametrize("name", ["SGD", "Adam", "LBFGS"])
def test_an_optimizer_of_torch_can_be_described(name):
    assert describe(derive_model("optimizer", name.lower(), getattr(torch.optim, name)))


def raising():
    raise LookupError("no file")


def test_a_default_that_cannot_be_made_is_the_fault_of_the_model():
    class Odd(BaseModel):
        root: str = Field(default_factory=raising)

    with pytest.raises(PluginError, match=r"test_describe\.\S+Odd raised LookupError: no file"):
        describe(Odd)


def test_a_default_that_cannot_be_made_is_the_fault_of_the_module_that_has_the_signature():
    def odd(spec, *, root: Annotated[str, Field(default_factory=raising)]): ...

    with pytest.raises(PluginError, match=r"test_describe\.Settings raised LookupError: no file"):
        describe(derive_model("model", "odd", odd))


def test_a_default_that_follows_from_other_settings_is_described_as_such():
    class Wide(BaseModel):
        width: int = 3
        height: int = Field(default_factory=lambda values: values["width"])

    assert [row.default for row in describe(Wide)] == ["3", "follows from the others"]
    assert validate(Wide, {"width": 5}).height == 5


class Schemeless(BaseModel):
    root: int = 3

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema, handler):
        raise LookupError("no schema")


@pytest.mark.parametrize("use", [json_schema, describe])
def test_a_model_without_a_schema_is_to_blame_itself(use):
    with pytest.raises(PluginError, match="Schemeless raised LookupError: no schema"):
        use(Schemeless)
