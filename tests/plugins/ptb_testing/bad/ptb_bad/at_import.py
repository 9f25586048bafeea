import torch

from ptb_bad.models import plain  # noqa: F401  # a good one

torch.set_default_dtype(torch.float64)
