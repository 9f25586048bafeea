import subprocess
import sys

import pytest

import ptb

PUBLIC = {
    *(
        "hookimpl",
        "Component",
        "Command",
        "DataSpec",
        "InputSpec",
        "DataBundle",
        "Preprocessor",
        "Sample",
        "SampleGenerator",
        "Registry",
        "load_registry",
        "RunConfig",
        "RunResult",
        "RunRecord",
        "train",
        "resume",
        "evaluate",
        "load",
        "checkpoint_path",
        "TrainedModel",
        "Callback",
        "StepOutput",
        "run_options",
        "json_option",
        "verbose_option",
    ),
    *(
        "PtbError",
        "ConfigError",
        "UnknownNameError",
        "DataError",
        "IncompatibleError",
        "NumericalError",
        "NonFiniteError",
        "StorageError",
    ),
    *("ResourceError", "PluginError", "InterruptedRunError", "__version__"),
}


def test_the_public_names_are_a_list():
    assert set(ptb.__all__) == PUBLIC
    assert dir(ptb) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there(name):
    assert getattr(ptb, name) is not None


def test_another_name_is_not():
    with pytest.raises(AttributeError, match="trian"):
        _ = ptb.trian


def test_importing_the_facade_costs_almost_nothing():
    code = "import ptb, sys; ptb.Component; ptb.Command; ptb.hookimpl; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pydantic", "click", "rich", "cv2", "sklearn", "pandas"} & set(loaded)
