import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ptb import internals

ROOT = Path(__file__).parents[2]
# Everything that our own tools may use beside the facade. Before a name is added: does the facade not do, or a door?
NAMES = {
    *("count", "did_you_mean", "listing", "one_line", "tidy"),
    *("KINDS", "RUN_KINDS", "Kind", "EVENTS", "ACTOR_EVENTS", "listeners", "misfit"),
    *("BUILT_IN", "FoundPlugin", "LoadedPlugin", "RejectedPlugin", "PluginInfo"),
    *("RegisteredCommand", "RegisteredComponent"),
    *("find_plugins", "found_locally", "load_plugin", "normalize", "own_version", "ONLY", "Selection"),
    *("arguments", "derive_model", "naming_model", "plain_values", "validate"),
    *("UserPath", "plugin_options", "CORE_SECTIONS", "RunSettings"),
    *("CORE", "main", "installed", "plugin_arguments", "refuse_plugin_options", "stray_output_to_stderr"),
    *("processes_options", "speaks", "join", "leaving"),
    *("ProgressBar", "columns", "printable"),
    *(
        "SHARED_SECTIONS",
        "ComponentConfig",
        "GroupConfig",
        "ParameterGroup",
        "PartialConfig",
        "resolve",
    ),
    *("ComposedRun", "compose", "fingerprint", "drop_unsavable", "lost_state"),
    *("start_run", "build_dataset", "explaining", "Predicted", "plain"),
    *("Batch", "leaves", "map_leaves", "BatchLoader", "InMemorySamples", "Placement", "TargetKind", "make_sources"),
    *("Objective", "scores_of", "RunningMetrics", "Trainer"),
    *("model_state", "restore_snapshot", "take_snapshot"),
    *("cpu_threads", "describe_device", "resolve_device", "generator", "preserve_rng_state", "seed_global"),
    *("decode", "encode", "differences", "find_checkpoints", "load_checkpoint", "save_checkpoint"),
    *("weights_sha256", "write_atomically", "storage_errors", "locked", "check_output", "finite"),
    *("resolve_some", "split_checkpoint", "ComponentName", "is_override", "put_off_dynamo"),
    *("RunDirectory", "evaluate_run", "evaluation_config"),
}


def used_by_tools():
    """What the built-in packages import from it."""
    for path in (ROOT / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "ptb.internals":
                yield from (alias.name for alias in node.names)


def test_the_internals_are_a_list():
    assert set(internals._MODULES) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_internal_name_is_there(name):
    assert getattr(internals, name) is not None


def test_every_internal_name_is_used_by_a_tool():
    assert set(used_by_tools()) == NAMES


@pytest.mark.parametrize("name", ["composed", "TYPE_CHECKING", "Problem"])
def test_another_name_is_not_handed_on(name):
    assert name not in internals._MODULES


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'ptb\.internals' has no attribute 'composed'"):
        _ = internals.composed


def test_importing_the_internals_costs_no_click_and_no_torch():
    code = "import ptb.internals, sys; from ptb.internals import KINDS, find_plugins; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pydantic", "click", "rich", "cv2", "sklearn", "pandas"} & set(loaded)
