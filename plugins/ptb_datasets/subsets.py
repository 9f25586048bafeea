"""Splits that share their samples: nothing is copied, whether the samples are in memory or mapped from a file."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Subset, TensorDataset

Split = TensorDataset | Subset[Any]


def subsets(samples: TensorDataset, parts: Sequence[np.ndarray]) -> list[Subset[Any] | None]:
    """Those samples whose numbers are in each part, int64 ``[n]``; None for an empty part."""
    return [Subset(samples, cast(Any, torch.from_numpy(part))) if len(part) else None for part in parts]
