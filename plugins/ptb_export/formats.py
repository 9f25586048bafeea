"""The formats of exported files: how a graph becomes one, and how it is run from there."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptb import IncompatibleError, PluginError
from ptb.internals import one_line
from ptb_export.graph import Graph

METADATA = "ptb.json"
Run = Callable[[Any], tuple[Tensor, Tensor]]


class Exported(NamedTuple):
    """An exported graph: the bytes of its file, and the metadata as they are read back from them."""

    content: bytes
    metadata: dict[str, Any]
    run: Run


def export(
    format_name: str, graph: Graph, example: Any, outputs: tuple[str, str], about: Mapping[str, Any]
) -> Exported:
    """Export a graph, and load what was written.

    Args:
        format_name: ``"onnx"`` or ``"torch-export"``.
        graph: on the CPU; it is put into eval mode.
        example: inputs of two samples that are nobody's.
        outputs: the names of the two outputs.
        about: JSON values for the metadata of the file.

    Raises:
        IncompatibleError: the model cannot be exported; the message has the exporter's reason.
        PluginError: a package is missing.
    """
    with _silent():
        program = _program(graph.eval(), example)
        return FORMATS[format_name](program, example, outputs, about)


def _program(graph: Graph, example: Any) -> Any:
    batch = torch.export.Dim("batch", min=1)
    shapes = {name: {0: batch} for name in example} if isinstance(example, dict) else {0: batch}
    try:
        return torch.export.export(graph, (example,), dynamic_shapes=(shapes,))
    except Exception as error:  # exporters raise anything
        raise IncompatibleError(
            f"torch.export cannot export this model: {one_line(error)}; its forward must not depend on the values of "
            "its inputs, nor on the size of the batch"
        ) from error


def _torch_export(program: Any, example: Any, outputs: tuple[str, str], about: Mapping[str, Any]) -> Exported:
    program.example_inputs = None  # it would be in the file
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files={METADATA: json.dumps(about)})
    files = {METADATA: ""}
    loaded = torch.export.load(io.BytesIO(stream.getvalue()), extra_files=files).module()

    def run(inputs: Any) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            scores, values = loaded(inputs)
        return scores, values

    return Exported(stream.getvalue(), json.loads(files[METADATA]), run)


def _onnx(program: Any, example: Any, outputs: tuple[str, str], about: Mapping[str, Any]) -> Exported:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ImportError as error:
        raise PluginError(
            f"ONNX files need the package {error.name}, which is not installed; run\n"
            "  python -m pip install 'pytorch-basics[export]'"
        ) from error
    try:
        made = torch.onnx.export(program, dynamo=True, external_data=False, verbose=False, output_names=list(outputs))
    except Exception as error:  # exporters raise anything
        raise IncompatibleError(
            f"torch.onnx cannot export this model: {one_line(error)}; --format torch-export may"
        ) from error
    if made is None:
        raise IncompatibleError("torch.onnx has exported nothing; --format torch-export may")
    proto = made.model_proto
    _name_inputs(proto, [*example] if isinstance(example, dict) else ["inputs"])
    for key in sorted(about):
        value = about[key]
        proto.metadata_props.add(key=f"ptb.{key}", value=value if isinstance(value, str) else json.dumps(value))
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    saved = session.get_modelmeta().custom_metadata_map

    def run(inputs: Any) -> tuple[Tensor, Tensor]:
        named = inputs if isinstance(inputs, dict) else {"inputs": inputs}
        found = session.run(list(outputs), {name: each.numpy() for name, each in named.items()})
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    return Exported(content, {key.removeprefix("ptb."): _value(text) for key, text in saved.items()}, run)


def _name_inputs(proto: Any, names: list[str]) -> None:
    """Gives inputs their names, and their first dimension the name ``batch``."""
    renamed = {}
    for value, name in zip(proto.graph.input, names, strict=True):
        renamed[value.name] = name
        value.name = name
    dimension = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for node in proto.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == dimension:
                dim.dim_param = "batch"
            elif dim.dim_param:
                dim.dim_param = dim.dim_param.replace(dimension, "batch")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@contextmanager
def _silent() -> Iterator[None]:
    """Exporters warn of what nobody can change."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


FORMATS = {"onnx": _onnx, "torch-export": _torch_export}
SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
