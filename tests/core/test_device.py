import pytest
import torch

from ptb import ConfigError
from ptb.device import available_devices, cpu_threads, describe_device, resolve_device


def test_the_cpu_is_always_there():
    assert available_devices()[-1] == "cpu"
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_takes_the_first_of_those_that_are_there():
    assert str(resolve_device("auto")) == available_devices()[0]


@pytest.mark.parametrize("count", [1, 2])
def test_auto_and_cuda_mean_the_first_gpu(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert str(resolve_device("auto")) == str(resolve_device("cuda")) == "cuda:0"


def test_a_device_that_is_not_there_is_never_replaced():
    with pytest.raises(ConfigError) as error:
        resolve_device("cuda:99", "--device cuda:99")
    assert "available: " in str(error.value)
    assert "cpu" in str(error.value)
    assert "[--device cuda:99]" in str(error.value)


def test_a_device_is_described_for_people():
    assert describe_device(torch.device("cpu"), 1) == "cpu (1 thread)"
    assert describe_device(torch.device("cpu"), 8) == "cpu (8 threads)"


def test_threads_are_set_inside_a_block_only():
    before = torch.get_num_threads()
    with cpu_threads(3):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_is_described_with_its_name():
    assert torch.cuda.get_device_name(0) in describe_device(torch.device("cuda:0"), 1)


def test_gpus_that_are_hidden_are_told(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(
        ConfigError, match="CUDA_VISIBLE_DEVICES='3' hides all others, and the visible ones are numbered from 0"
    ):
        resolve_device("cuda:99")
