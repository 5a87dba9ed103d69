"""Batch norm over time and batch, which leaves padded steps alone."""

import torch
from torch import Tensor, nn
from torch import distributed as dist

from snnkit._suggest import NamedArguments
from snnkit.nn.time import at_least_float32, require_time_first, valid_steps


class BatchNorm(NamedArguments, nn.BatchNorm1d):
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` on ``[T, B, ..., C]``, statistics per channel over the rest.

    Args:
        num_features: C, the last axis.
        sync: in training, take the statistics over all processes of ``torch.distributed``, each valid step counting
            once. It can be set later, ``layer.sync = True``. Torch's SyncBatchNorm and its converter do not know time.
        others: as in ``torch.nn.BatchNorm1d``, which it equals on ``x.flatten(0, 1)``, with the same keys.

    With ``norm(x, lengths)`` steps from ``lengths[b]`` on are padding: they enter neither the statistics nor the
    running ones, whatever they hold, and come out as zeros. Without any valid step the running statistics stay. A
    length that is not from 0 to T is a ValueError where lengths is on the CPU.

    Raises:
        ValueError: other channels on the last axis, or as many on the two before it, a length outside of 0 .. T.

    >>> norm, x = BatchNorm(2), torch.tensor([1.0, 3.0, 99.0]).reshape(3, 1, 1).expand(3, 1, 2)
    >>> [round(y, 4) for y in norm(x, lengths=torch.tensor([2]))[:, 0, 0].tolist()]
    [-1.0, 1.0, 0.0]
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        sync: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.sync = sync

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map ``[T, B, ..., C]`` to the same shape and dtype; lengths: valid steps of each sample, ``[B]``."""
        require_time_first(self, x)
        images = f"Of images [T, B, C, H, W]: nn.PerStep(torch.nn.BatchNorm2d({self.num_features}))."
        if x.shape[-1] != self.num_features:
            told = f" {images}" if x.ndim == 5 and x.shape[2] == self.num_features else ""
            got = f"got {tuple(x.shape)}.{told}"
            raise ValueError(f"BatchNorm expects {self.num_features} channels on the last axis, {got}")
        if x.ndim == 5 and x.shape[2:] == 3 * (self.num_features,):  # it would norm the columns of square images
            remedy = "Channels on the last axis: norm(x.flatten(2, 3)).view_as(x)."
            raise ValueError(f"BatchNorm got {tuple(x.shape)}: which axis has the channels? {images} {remedy}")
        padded = None if lengths is None else ~valid_steps(x, lengths)
        if padded is not None:
            x = x.masked_fill(padded, 0.0)
        together = self.training and self.sync and dist.is_available() and dist.is_initialized()
        of_this_batch = self.training or self.running_mean is None
        if of_this_batch and (padded is not None or together or x.numel() == 0):
            return self._by_valid_steps(x, padded, together)
        y = super().forward(x.reshape(-1, self.num_features)).view(x.shape)
        return y if padded is None else y.masked_fill(padded, 0.0)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  (torch's name)
        """Rows ``[T * B, C]`` come here: forward has checked."""

    def _by_valid_steps(self, x: Tensor, padded: Tensor | None, together: bool) -> Tensor:
        """In plain operations, which autograd and the compiler know. Keeps one tensor of x's size."""
        wide = at_least_float32(x)
        axes = tuple(range(x.ndim - 1))
        everywhere = _SumOfProcesses.apply if together else lambda value: value
        valid = wide.new_ones(x.shape[:-1]) if padded is None else (~padded[..., 0]).to(wide.dtype).expand(x.shape[:-1])
        count = everywhere(valid.sum())
        mean = everywhere(wide.sum(axes)) / count.clamp(min=1.0)
        centred = wide - mean
        if padded is not None:
            centred = centred.masked_fill(padded, 0.0)
        squares = everywhere((centred * centred).sum(axes))
        var = squares / count.clamp(min=1.0)
        self._update(mean, squares / (count - 1.0).clamp(min=1.0), count)
        y = centred * (var + self.eps).rsqrt()
        if self.affine:
            y = y * self.weight + self.bias
        return (y if padded is None else y.masked_fill(padded, 0.0)).to(x.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        any_step = (count > 0).to(mean.dtype)
        self.num_batches_tracked.add_((count > 0).to(self.num_batches_tracked.dtype))
        factor = any_step / self.num_batches_tracked.clamp(min=1) if self.momentum is None else any_step * self.momentum
        self.running_mean.mul_(1 - factor).add_(factor * mean)
        self.running_var.mul_(1 - factor).add_(factor * var)


class _SumOfProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        """All-reduce."""
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        """All-reduce."""
        total = grad.clone()
        dist.all_reduce(total)
        return total
