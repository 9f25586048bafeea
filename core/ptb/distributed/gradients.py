"""The gradients of several processes, or of several shards of a batch, as those of one.

The samples of a step are the same for every number of processes, each takes a contiguous piece of them, and what is
added up is the loss of a piece by the divisor of the whole step. So the sum is the gradient of the whole batch.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ptb.seeding import seed_global

if TYPE_CHECKING:
    from ptb.distributed.world import World

SparseRow = list[tuple[Tensor, Tensor] | None]  # indices and values by parameter
FACTS = 4  # of each process in a step: samples, the signal that it got, seconds, whether its loss is finite


class AddedGradients:
    """Adds up gradients, buffers, and what processes say of a step.

    Each process has one piece of each batch, and its gradients over all of them are added up in one transfer. Or each
    has some shards of it, whose gradients are added up one by one in one order, whoever computes them: the bits are the
    same. Each shard begins with the buffers of the step, and with random numbers that belong to seed, step and shard.

    Args:
        world: the processes.
        modules: model and loss, whose buffers are averaged by samples.
        seed: of the run; random numbers of a step depend on it, the step and the rank or shard.
        shards: how many a batch is cut into, a multiple of the number of processes; None for pieces.
    """

    def __init__(
        self, world: "World | None", modules: Sequence[nn.Module], seed: int, shards: int | None = None
    ) -> None:
        self._world, self._seed, self._shards = world, seed, shards
        self._rank, self._size = (world.rank, world.size) if world else (0, 1)
        self._own = shards // self._size if shards else 1  # pieces of a batch in this process
        self._sparse = {id(each) for module in modules for each in _sparse_parameters(module)}
        buffers = [each for module in modules for each in module.buffers()]
        self._floats = [each for each in buffers if each.is_floating_point()]
        self._counts = [each for each in buffers if not each.is_floating_point() and each.dtype != torch.bool]
        self._before: list[Tensor] = []
        self._rows: list[Tensor] = []  # of the pieces of this process, with what is transferred apart
        self._apart: list[tuple[SparseRow, list[Tensor]]] = []  # sparse gradients, and counts
        self._step = self._samples = 0
        self._is_open = False  # a step has begun

    def begin_step(self, step: int) -> None:
        """Note the buffers, and seed the global generators."""
        if self._is_open:  # the other processes are in the middle of it
            raise RuntimeError("a step that has failed cannot be taken again where batches are cut in pieces")
        self._step, self._is_open = step, True
        self._remember()
        if not self._shards:
            seed_global(self._seed, "step", step, self._rank)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Adds a tensor of all processes in place."""
        return tensor if self._world is None else self._world.sum_(tensor)

    def begin(self, number: int) -> None:
        """A micro-batch begins, the ``number``-th of this process in the step; a shard goes back to its buffers."""
        if number == 0:
            self._rows, self._apart, self._samples = [], [], 0
        if self._shards:
            with torch.no_grad():
                for buffer, then in zip((*self._floats, *self._counts), self._before, strict=True):
                    buffer.copy_(then)
            batch, shard = divmod(number, self._own)
            seed_global(self._seed, "shard", self._step, batch * self._shards + self._rank * self._own + shard)

    @torch.no_grad()
    def end(self, parameters: Sequence[nn.Parameter], samples: int, share: Tensor) -> None:
        """The gradients of a micro-batch are there, or of a shard by itself; ``share`` is its part of the loss."""
        self._samples += samples
        if self._shards:
            self._keep(parameters, share, samples)
            for each in parameters:
                each.grad = None

    @torch.no_grad()
    def combine(
        self, parameters: Sequence[nn.Parameter], loss: Tensor, facts: Sequence[float]
    ) -> tuple[Tensor, list[list[float]]]:
        """Put the gradients of the whole step in place; returns its loss, and the facts by rank."""
        if not self._shards:
            self._keep(parameters, loss, self._samples)
        said = torch.zeros(self._size, FACTS, dtype=loss.dtype, device=loss.device)
        said[self._rank] = torch.tensor(facts, dtype=loss.dtype)
        if self._sparse or self._counts:
            of_all = [self._apart] if self._world is None else self._world.gather(self._apart)
            sparse, counts = zip(*self._in_order(of_all), strict=True)
            for buffer, values in zip(self._counts, zip(*counts, strict=True), strict=True):
                buffer.copy_(torch.stack(values).amax(0))  # as of batches seen: of the piece that has counted the most
            self._join_sparse(parameters, sparse)
        loss, facts_of_all = self._put(parameters, self._added(said.flatten()))
        self._remember()
        self._is_open = False
        return loss, facts_of_all

    def _keep(self, parameters: Sequence[nn.Parameter], loss: Tensor, samples: int) -> None:
        """Keep the gradients of a piece, and its buffers."""
        self._rows.append(self._row(parameters, loss, samples))
        gradients = [each.grad for each in parameters if id(each) in self._sparse]
        sparse = [None if each is None else (each._indices().cpu(), each._values().cpu()) for each in gradients]
        self._apart.append((sparse, [each.to("cpu", copy=True) for each in self._counts]))

    def _added(self, said: Tensor) -> Tensor:
        """The rows of all pieces as one, and what was said, ``[P + W * FACTS]``."""
        if not self._shards:
            return self.sum_(torch.cat([*self._rows, said]))
        rows = torch.stack(self._rows)
        first, *others = self._in_order(rows[None] if self._world is None else self._world.gather_rows(rows))
        total = first.clone()
        for row in others:
            total += row
        return torch.cat([total, self.sum_(said)])

    def _in_order(self, by_rank: Any) -> Iterator[Any]:
        """What all processes have of their pieces, in the order of the pieces of one batch after the other."""
        for batch in range(0, len(self._rows), self._own):
            for own in by_rank:
                yield from own[batch : batch + self._own]

    def _row(self, parameters: Sequence[nn.Parameter], loss: Tensor, samples: int) -> Tensor:
        """Gradients, changes of buffers times samples, loss, which gradients there are, samples: ``[P]``."""
        dense = self._dense(parameters)
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in dense]
        changes = [(now - then) * samples for now, then in zip(self._floats, self._before, strict=False)]
        numbers = torch.tensor([*(float(each.grad is not None) for each in dense), samples], device=loss.device)
        return torch.cat([*(each.flatten() for each in (*gradients, *changes)), loss.reshape(1), numbers])

    def _put(self, parameters: Sequence[nn.Parameter], flat: Tensor) -> tuple[Tensor, list[list[float]]]:
        dense = self._dense(parameters)
        sizes = [each.numel() for each in (*dense, *self._floats)]
        *pieces, whole_loss, numbers = torch.split(flat, [*sizes, 1, len(flat) - sum(sizes) - 1])
        values = numbers.tolist()  # this waits for the device, once
        flags, samples, facts = values[: len(dense)], values[len(dense)], values[len(dense) + 1 :]
        for piece, each, flag in zip(pieces, dense, flags, strict=False):
            if not flag:
                each.grad = None
                continue
            if each.grad is None:
                each.grad = torch.empty_like(each)
            each.grad.copy_(piece.view(each.shape))
        for piece, buffer, then in zip(pieces[len(dense) :], self._floats, self._before, strict=False):
            buffer.copy_(then + piece.view(buffer.shape) / max(samples, 1.0))
        return whole_loss[0], [facts[place : place + FACTS] for place in range(0, len(facts), FACTS)]

    def _dense(self, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        for each in parameters:
            if each.is_complex() or (each.grad is not None and each.grad.is_sparse and id(each) not in self._sparse):
                what = "complex" if each.is_complex() else "sparse, and of no module with sparse=True"
                raise RuntimeError(f"a gradient is {what}: those of pieces of a batch cannot be added up")
        return [each for each in parameters if id(each) not in self._sparse and each.requires_grad]

    def _join_sparse(self, parameters: Sequence[nn.Parameter], rows: Sequence[SparseRow]) -> None:
        """Put sparse gradients in place: the values of all pieces one after the other, which an optimizer adds up."""
        owners = [each for each in parameters if id(each) in self._sparse]
        for each, pieces in zip(owners, zip(*rows, strict=True), strict=True):
            there = [piece for piece in pieces if piece is not None]
            each.grad = None
            if there:
                indices, values = torch.cat([pair[0] for pair in there], 1), torch.cat([pair[1] for pair in there])
                gradient = torch.sparse_coo_tensor(indices, values, each.shape, check_invariants=False)
                each.grad = gradient.to(each.device)

    def _remember(self) -> None:
        self._before = [each.detach().clone() for each in (*self._floats, *self._counts)]


def _sparse_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    for each in module.modules():
        if getattr(each, "sparse", False) is True:
            yield from each.parameters(recurse=False)
