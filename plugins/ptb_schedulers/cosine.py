"""The scheduler to begin with: large steps first, small ones at the end, nothing to tune but the start."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR


def cosine(optimizer: Optimizer, total_steps: int, *, min_lr: float = 0.0) -> CosineAnnealingLR:
    """After step t of T: ``min_lr + (lr - min_lr) * (1 + cos(pi * t / T)) / 2``.

    Loshchilov and Hutter, 2016, arXiv:1608.03983, without restarts; ``torch.optim.lr_scheduler.CosineAnnealingLR``.

    Args:
        optimizer: its ``lr`` is where the curve begins.
        total_steps: T, the optimizer steps of the whole run.
        min_lr: where it ends.
    """
    return CosineAnnealingLR(optimizer, T_max=total_steps, eta_min=min_lr)
