"""The gradients of several processes, or of several shards of a batch, as those of one.

The samples of a step are the same for every number of processes, each takes a contiguous piece of them, and what is
added up is the loss of a piece by the divisor of the whole step. So the sum is the gradient of the whole batch.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ptb.seeding import seed_global

if TYPE_CHECKING:
    from ptb.distributed.world import World

SparsePiece = tuple[Tensor, Tensor] | None  # indices and values
FACTS = 4  # of each process in a step: samples, the signal that it got, seconds, whether its loss is finite


class AddedGradients:
    """Adds up gradients, buffers, and what processes say of a step, in one transfer.

    Args:
        world: the processes.
        modules: model and loss, whose buffers are averaged by samples.
        seed: of the run; random numbers of a step depend on it, the step and the rank.
    """

    def __init__(self, world: "World | None", modules: Sequence[nn.Module], seed: int) -> None:
        self._world, self._seed = world, seed
        self._rank, self._size = (world.rank, world.size) if world else (0, 1)
        self._sparse = {id(each) for module in modules for each in _sparse_parameters(module)}
        buffers = [each for module in modules for each in module.buffers()]
        self._floats = [each for each in buffers if each.is_floating_point()]
        self._counts = [each for each in buffers if not each.is_floating_point() and each.dtype != torch.bool]
        self._before: list[Tensor] = []
        self._step = self._samples = 0
        self._is_open = False  # a step has begun
        self._own = 1  # pieces of a batch in this process

    def begin_step(self, step: int) -> None:
        """Note the buffers, and seed the global generators."""
        if self._is_open:  # the other processes are in the middle of it
            raise RuntimeError("a step that has failed cannot be taken again where batches are cut in pieces")
        self._step, self._is_open = step, True
        self._remember()
        if self._world is not None:
            seed_global(self._seed, "step", step, self._rank)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Adds a tensor of all processes in place."""
        return tensor if self._world is None else self._world.sum_(tensor)

    def begin(self, number: int) -> None:
        """A micro-batch begins, the ``number``-th of this process in the step."""
        if number == 0:
            self._samples = 0

    def end(self, parameters: Sequence[nn.Parameter], samples: int, share: Tensor) -> None:
        """The gradients of a micro-batch are there; ``share`` is its part of the loss."""
        self._samples += samples

    @torch.no_grad()
    def combine(
        self, parameters: Sequence[nn.Parameter], loss: Tensor, facts: Sequence[float]
    ) -> tuple[Tensor, list[list[float]]]:
        """Put the gradients of the whole step in place; returns its loss, and the facts by rank."""
        said = torch.zeros(self._size, FACTS, dtype=loss.dtype, device=loss.device)
        said[self._rank] = torch.tensor(facts, dtype=loss.dtype)
        sparse = self._added_sparse(parameters)
        counts = self._largest_counts()
        loss, facts_of_all = self._put(parameters, self._added(parameters, loss, said))
        for each, gradient in sparse.items():
            each.grad = gradient
        for buffer, value in zip(self._counts, counts, strict=True):
            buffer.copy_(value)
        self._remember()
        self._is_open = False
        return loss, facts_of_all

    def _added(self, parameters: Sequence[nn.Parameter], loss: Tensor, said: Tensor) -> Tensor:
        """The rows of all pieces as one, and what was said, ``[P + W * FACTS]``."""
        return self.sum_(torch.cat([self._row(parameters, loss, self._samples), said.flatten()]))

    def _sparse_pieces(self, parameters: Sequence[nn.Parameter]) -> list[list[SparsePiece]]:
        """For each piece of this process the sparse gradients, in the order of the parameters."""
        return [self._sparse_piece(parameters)]

    def _row(self, parameters: Sequence[nn.Parameter], loss: Tensor, samples: int) -> Tensor:
        """Gradients, which of them there are, changes of buffers times samples, samples, loss: ``[P]``."""
        dense = self._dense(parameters)
        sizes = [each.numel() for each in (*dense, *self._floats)]
        wide = any(each.dtype == torch.float64 for each in (*dense, *self._floats))
        row = torch.zeros(
            sum(sizes) + len(dense) + 2, dtype=torch.float64 if wide else torch.float32, device=loss.device
        )
        pieces = [*torch.split(row[: sum(sizes)], sizes)]
        there = [(piece, each.grad) for piece, each in zip(pieces, dense, strict=False) if each.grad is not None]
        if there:
            torch._foreach_copy_(
                [piece.view(grad.shape) for piece, grad in there], [grad.to(row.dtype) for _, grad in there]
            )
        for piece, now, then in zip(pieces[len(dense) :], self._floats, self._before, strict=False):
            piece.copy_(((now - then) * samples).flatten())
        flags = [float(each.grad is not None) for each in dense]
        row[sum(sizes) : -1] = torch.tensor([*flags, samples], dtype=row.dtype)
        row[-1] = loss
        return row

    def _put(self, parameters: Sequence[nn.Parameter], flat: Tensor) -> tuple[Tensor, list[list[float]]]:
        dense = self._dense(parameters)
        sizes = [each.numel() for each in (*dense, *self._floats)]
        said, rest = flat[-FACTS * self._size :], flat[sum(sizes) : -FACTS * self._size]
        values = torch.cat([rest[:-1], said]).tolist()  # this waits for the device, once
        flags, samples = values[: len(dense)], values[len(dense)]
        pieces = torch.split(flat[: sum(sizes)], sizes)
        for piece, each, flag in zip(pieces, dense, flags, strict=False):
            if not flag:
                each.grad = None
                continue
            if each.grad is None:
                each.grad = torch.empty_like(each)
            each.grad.copy_(piece.view(each.shape))
        for piece, buffer, then in zip(pieces[len(dense) :], self._floats, self._before, strict=False):
            buffer.copy_(then + piece.view(buffer.shape) / max(samples, 1.0))
        numbers = values[len(dense) + 1 :]
        return rest[-1], [numbers[place : place + FACTS] for place in range(0, len(numbers), FACTS)]

    def _dense(self, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        for each in parameters:
            if each.is_complex() or (each.grad is not None and each.grad.is_sparse and id(each) not in self._sparse):
                what = "complex" if each.is_complex() else "sparse, and of no module with sparse=True"
                raise RuntimeError(f"a gradient is {what}: those of pieces of a batch cannot be added up")
        return [each for each in parameters if id(each) not in self._sparse and each.requires_grad]

    def _sparse_piece(self, parameters: Sequence[nn.Parameter]) -> list[SparsePiece]:
        gradients = [each.grad for each in parameters if id(each) in self._sparse]
        return [None if each is None else (each._indices().cpu(), each._values().cpu()) for each in gradients]

    def _added_sparse(self, parameters: Sequence[nn.Parameter]) -> dict[nn.Parameter, Tensor | None]:
        """The sparse gradients of all pieces: their values one after the other, which an optimizer adds up."""
        owners = [each for each in parameters if id(each) in self._sparse]
        if not owners:
            return {}
        own = self._sparse_pieces(parameters)
        by_rank = [own] if self._world is None else self._world.gather(own)
        pieces = [
            piece for batch in range(0, len(own), self._own) for each in by_rank for piece in each[batch:][: self._own]
        ]
        found: dict[nn.Parameter, Tensor | None] = {}
        for place, each in enumerate(owners):
            there = [pair for piece in pieces if (pair := piece[place]) is not None]
            gradient = None
            if there:
                indices, values = torch.cat([pair[0] for pair in there], 1), torch.cat([pair[1] for pair in there])
                gradient = torch.sparse_coo_tensor(indices, values, each.shape, check_invariants=False)
                gradient = gradient.to(each.device)
            found[each] = gradient
        return found

    def _largest_counts(self) -> list[Tensor]:
        """Whole numbers, as of batches seen, are those of the process that has counted the most."""
        own = [buffer.clone() for buffer in self._counts]
        if not own or self._world is None:
            return own
        of_all = self._world.gather([each.cpu() for each in own])
        return [torch.stack(each).amax(0) for each in zip(*of_all, strict=True)]

    def _remember(self) -> None:
        self._before = [each.detach().clone() for each in (*self._floats, *self._counts)]


class ShardedGradients(AddedGradients):
    """Adds up the gradients of shards of each batch in one order, whoever computes them: the bits are the same.

    Each shard begins with the buffers of the step, and with random numbers that belong to seed, step and shard.

    Args:
        shards: how many a batch is cut into; a multiple of the number of processes.
    """

    def __init__(self, world: "World | None", modules: Sequence[nn.Module], seed: int, shards: int) -> None:
        super().__init__(world, modules, seed)
        self._shards = shards
        self._own = shards // self._size
        self._rows: list[Tensor] = []
        self._sparse_rows: list[list[SparsePiece]] = []
        self._most: list[Tensor] = []

    def begin(self, number: int) -> None:
        """Go back to the buffers of the step, and seed."""
        if number == 0:
            self._rows, self._sparse_rows, self._most = [], [], [each.clone() for each in self._counts]
        with torch.no_grad():
            for buffer, then in zip((*self._floats, *self._counts), self._before, strict=True):
                buffer.copy_(then)
        batch, shard = divmod(number, self._own)
        seed_global(self._seed, "shard", self._step, batch * self._shards + self._rank * self._own + shard)

    @torch.no_grad()
    def end(self, parameters: Sequence[nn.Parameter], samples: int, share: Tensor) -> None:
        """Keep the gradients of this shard, and forget them."""
        self._rows.append(self._row(parameters, share, samples))
        self._sparse_rows.append(self._sparse_piece(parameters))
        self._most = [torch.maximum(most, now) for most, now in zip(self._most, self._counts, strict=True)]
        for each in parameters:
            each.grad = None

    def _added(self, parameters: Sequence[nn.Parameter], loss: Tensor, said: Tensor) -> Tensor:
        rows = torch.stack(self._rows)
        whole = rows[None] if self._world is None else self._world.gather_rows(rows)
        first, *others = (
            row
            for batch in range(0, len(rows), self._own)
            for of_rank in whole
            for row in of_rank[batch : batch + self._own]
        )
        total = first.clone()
        for row in others:
            total += row
        return torch.cat([total, self.sum_(said).flatten()])

    def _sparse_pieces(self, parameters: Sequence[nn.Parameter]) -> list[list[SparsePiece]]:
        return self._sparse_rows

    def _largest_counts(self) -> list[Tensor]:
        for buffer, most in zip(self._counts, self._most, strict=True):
            buffer.copy_(most)
        return super()._largest_counts()


def _sparse_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    for each in module.modules():
        if getattr(each, "sparse", False) is True:
            yield from each.parameters(recurse=False)
