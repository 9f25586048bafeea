import pytest
import torch

from ptb_datasets.images import Normalize


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (2, 2, 1, 8, 8), (1, 4, 8, 8)], ids=["grey", "pairs", "planes"])
def test_normalize_is_its_formula_and_leaves_its_input_alone(shape):
    inputs = torch.arange(256, dtype=torch.uint8).view(shape)
    outputs = Normalize(0.25, 0.5)(inputs)
    assert outputs.dtype == torch.float32
    assert inputs.flatten().tolist() == list(range(256))
    torch.testing.assert_close(outputs, (inputs / 255 - 0.25) / 0.5)
