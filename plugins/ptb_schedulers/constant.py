"""For short runs and for comparing optimizers: the learning rate stays as it is."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR


def constant(optimizer: Optimizer, total_steps: int) -> ConstantLR:
    """``torch.optim.lr_scheduler.ConstantLR`` with factor 1."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)
