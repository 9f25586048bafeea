import pytest

from recorded_runs import make_run


@pytest.fixture
def made(tmp_path):
    """Makes a run as it lies on disk, its figures made up."""

    def make(name="mine", **facts):
        return make_run(tmp_path / name, **facts)

    return make
