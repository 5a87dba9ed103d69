"""What the vision models share: images in, logits out, the whole of timm's contract, and the keywords common to all.

A model file derives from :class:`VisionModel`, builds ``self.stem`` and ``self.stages`` and calls ``self.finish``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snnkit.equations.resets import Reset
from snnkit.equations.surrogates import Surrogate
from snnkit.models._classifier import Classifier
from snnkit.models._vision_arguments import SURROGATE, height_and_width, made_readout, neuron_maker, require_whole
from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.neuron import LIF
from snnkit.nn.neuron_layer import Neuron
from snnkit.nn.norm_neuron import MembraneShortcut, NormNeuron
from snnkit.nn.readout import MeanOverTime


class VisionModel(Classifier):
    """Base of the vision models: images ``[B, C, H, W]`` or sequences ``[T, B, C, H, W]`` -> ``[B, num_classes]``.

    Args:
        num_classes: logits; 0 for none: the answer is then the head's input.
        in_chans: channels of the image; 2 for events.
        img_size: what the published model was made for, a number or (height, width). Other sizes run, too.
        steps: time steps T of a still image. A sequence brings its own.
        neuron: class of the neurons, e.g. ``PLIF``; or a function that makes one, called with ``v_threshold=...``.
        tau: of the neurons that have one. Default: the paper's 2.0.
        surrogate, v_reset, detach_reset: of the neurons; ``v_reset=None`` is a soft reset.
        reset: a reset object in place of the last two, e.g. ``Soft(detach=True)`` or ``Hard(0.5, detach=True)``.
        readout: class (or function without arguments) that makes the readout over time of the logits. ``EveryStep``,
            or None: the answer is ``[T, B, num_classes]``, as the TET loss wants it.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block, growing linearly from 0 at the first. 0 by default: the
            papers' code builds it and never applies it.
        global_pool: ``"avg"``, the mean over the pixels; or ``""`` with ``num_classes=0``: the answer is the map
            ``[B, num_features, H, W]`` (timm).

    ``timm.create_model`` drops keywords that are None: there, write ``reset=Soft(detach=True)`` for a soft reset
    (``snnkit.equations``) and ``readout=EveryStep`` for logits of each step (``snnkit.nn``).

    Raises:
        ValueError: a size, rate or pooling that cannot be, or what the neuron refuses (``tau must be > 0, got -2.0.``).
        TypeError: an unknown keyword, with the nearest one; a neuron or readout that is an object instead of its
            class; ``reset`` beside ``v_reset`` or ``detach_reset``.

    Attributes:
        stem: ``(x, steps=steps) -> (u, s)``.
        stages: chains of blocks ``(u, s) -> (u, s)``; each gives one feature map.
        head: the classifier, a Linear on ``[T, B, num_features]``.
        linear: makes a classifier from (inputs, outputs); ``nn.Linear`` unless a model says otherwise.
        classifiers: names of the classifiers, ``("head",)`` or more.
        feature_info: channels, stride and name of each stage (timm).
        pretrained_cfg, default_cfg: size, mean and standard deviation of the images (timm).
    """

    stem: nn.Module
    stages: nn.ModuleList
    head: nn.Module
    linear: Callable[..., nn.Linear] = nn.Linear
    classifiers: tuple[str, ...] = ("head",)
    pool_before_neuron: ClassVar[bool] = True
    hands_on: ClassVar[bool] = True  # a model's **common are the keywords below

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        steps: int = 4,
        neuron: Callable[..., nn.Module] = LIF,
        tau: float | None = None,
        surrogate: Surrogate = SURROGATE,
        v_reset: float | None = 0.0,
        detach_reset: bool = True,
        reset: Reset | None = None,
        readout: Callable[[], nn.Module] | None = MeanOverTime,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        require_whole(0, num_classes=num_classes)
        require_whole(1, in_chans=in_chans, steps=steps)
        for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
            if not (isinstance(rate, Real) and 0 <= rate < 1):
                raise ValueError(f"{name} must be in [0, 1), got {rate!r}.")
        self.num_classes, self.in_chans, self.steps = num_classes, in_chans, steps
        self.img_size = height_and_width(img_size)
        self._require_pooled(num_classes, global_pool)
        self.global_pool = global_pool
        self.drop_path_rate = drop_path_rate
        self.readout = made_readout(readout)
        self.dropout = nn.Dropout(drop_rate)
        self.neuron = neuron_maker(neuron, tau, surrogate, v_reset, detach_reset, reset)

    def finish(self, features: Iterable[tuple[int, int]], neuron: nn.Module | None = None) -> None:
        """Build the head behind ``stem`` and ``stages``.

        Args:
            features: (channels, stride) of each stage.
            neuron: the head's neuron, or None if the head reads the stream itself.
        """
        self.feature_info = [
            dict(num_chs=channels, reduction=stride, module=f"stages.{i}")
            for i, (channels, stride) in enumerate(features)
        ]
        self.num_features: int = self.feature_info[-1]["num_chs"]  # type: ignore[assignment]
        self.head_neuron = neuron
        for name in self.classifiers:
            setattr(self, name, self._classifier(self.num_classes))
        self.default_cfg = self.pretrained_cfg = dict(
            image_cfg(self.num_classes, self.in_chans, self.img_size),
            classifier=self.classifiers if len(self.classifiers) > 1 else "head",
            first_conv=next(name for name, m in self.named_modules() if isinstance(m, nn.Conv2d)),
        )

    @property
    def steps(self) -> int:
        """Time steps of a still image; one that is changed is saved with the model."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        require_whole(1, steps=steps)
        self._steps = self.arguments["steps"] = steps

    def drop_paths(self, depth: int) -> list[float]:
        """The probability of each of ``depth`` blocks: from 0 to ``drop_path_rate``."""
        return [self.drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, num_classes]``, or ``[T, B, num_classes]`` without a readout.

        Args:
            x: still images ``[B, C, H, W]``, shown ``steps`` times, or a sequence ``[T, B, C, H, W]``; floating.
        """
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The stream after the last block, ``[T, B, C, H, W]``: membranes, or sums of spikes (Spikformer)."""
        return self._streams(x, range(0))[0]

    def forward_head(self, x: Tensor, lengths: Tensor | None = None, pre_logits: bool = False) -> Tensor:
        """The answer from the features; ``pre_logits=True``: what the classifier reads, over time as the answer is."""
        x = self.head_input(x)
        if not pre_logits:
            x = self.head(self.dropout(x))
        return x if self.readout is None else self.readout(x)

    def head_input(self, x: Tensor) -> Tensor:
        """Mean over the pixels and the head's neuron, ``[T, B, C, H, W]`` -> ``[T, B, C]``; the map without pooling."""
        if not self.global_pool:
            return x if self.head_neuron is None else self.head_neuron(x)
        if self.head_neuron is None:
            return x.mean((-2, -1))
        if self.pool_before_neuron:
            return self.head_neuron(x.mean((-2, -1)))
        return self.head_neuron(x).mean((-2, -1))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Feature maps of stages (timm): the mean over time of the stream, ``[B, C, H, W]`` each.

        Args:
            x: as in forward.
            indices: which stages: all (None), the last so many (int), or these.
            norm: must be False: the stream has no final norm.
            stop_early: run no further than the last of them.
            output_fmt: ``"NCHW"``.
            intermediates_only: return the list alone.

        Returns:
            ``(features, maps)``, features as from ``forward_features``; or the maps.
        """
        if output_fmt != "NCHW" or norm:
            raise ValueError(f"Feature maps are NCHW and have no norm, got output_fmt={output_fmt!r}, norm={norm}.")
        from timm.models._features import feature_take_indices

        wanted, last = feature_take_indices(len(self.stages), _listed(indices))
        features, maps = self._streams(x, wanted, last + 1 if stop_early else None)
        return maps if intermediates_only else (features, maps)

    def _streams(self, x: Tensor, wanted: Sequence[int], stop: int | None = None) -> tuple[Tensor, list[Tensor]]:
        """The stream after the last stage, and its mean over time after each stage that is wanted."""
        x, steps = self._sequence(x)
        maps = []
        u, s = self.stem(x, steps=steps)
        for i, stage in enumerate(self.stages[:stop]):
            for layer in stage.children():
                if self.grad_checkpointing and torch.is_grad_enabled():
                    u, s = checkpoint(layer, u, s)
                else:
                    u, s = layer(u, s)
            if i in wanted:
                maps.append(u.mean(0))
        return u, maps

    def _sequence(self, x: Tensor) -> tuple[Tensor, int | None]:
        """``[T, B, C, H, W]`` and None, or a still image as one row and the number of steps it stands for."""
        who = self.variant or type(self).__name__
        if not isinstance(x, Tensor):
            raise TypeError(f"{who} expects a tensor, got {type(x).__name__}.")
        if x.ndim not in (4, 5) or x.shape[-3] != self.in_chans:
            c = self.in_chans
            raise ValueError(f"{who} expects images [B, {c}, H, W] or [T, B, {c}, H, W], got {tuple(x.shape)}.")
        if not x.is_floating_point():
            raise TypeError(f"{who} expects a floating x, got {x.dtype}: x.float().")
        own = next(self.parameters()).dtype
        if x.dtype != own and torch.float64 in (x.dtype, own):  # the only ones that no autocast brings together
            remedy = f"x.to({own}), or model.to({x.dtype})."
            raise TypeError(f"{who} has parameters of {own}, got images of {x.dtype}: {remedy}")
        return (x[None], self.steps) if x.ndim == 4 else (x, None)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what runs behind the last stage that is asked for, and the head (timm's ``features_only``).

        With membrane shortcuts the last neuron of that stage goes, too: its spikes have no reader any more.
        """
        from timm.models._features import feature_take_indices

        wanted, last = feature_take_indices(len(self.stages), _listed(indices))
        if last + 1 < len(self.stages):
            self.stages = self.stages[: last + 1]
            ends = [m for m in self.stages[-1].modules() if isinstance(m, NormNeuron) and m.neuron is not None]
            if ends and isinstance(ends[-1].shortcut, MembraneShortcut):
                ends[-1].neuron = None
        if prune_head:
            self.reset_classifier(0)
            self.head_neuron = None
        return list(wanted)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier in place of the old one; 0 classes: none.

        Args:
            num_classes: logits, or 0.
            global_pool: as in the constructor; None leaves it.

        Raises:
            ValueError: another pooling, or none in front of a classifier.
        """
        require_whole(0, num_classes=num_classes)
        self._require_pooled(num_classes, self.global_pool if global_pool is None else global_pool)
        if global_pool is not None:
            self.global_pool = self.arguments["global_pool"] = global_pool
        like = next(self.stem.parameters())
        self.num_classes = self.arguments["num_classes"] = num_classes
        for name in self.classifiers:
            setattr(self, name, self._classifier(num_classes).to(like.device, like.dtype))

    def _require_pooled(self, num_classes: int, global_pool: str) -> None:
        if global_pool not in ("avg", "") or (num_classes and not global_pool):
            raise ValueError(
                f"global_pool must be 'avg' (the mean over the pixels), or '' with num_classes=0, got {global_pool!r} "
                f"with num_classes={num_classes}. The map in front of the classifier: model.forward_features(x)."
            )

    def _classifier(self, num_classes: int) -> nn.Module:
        if num_classes == 0:
            return nn.Identity()
        head = self.linear(self.num_features, num_classes)
        self.init_head(head)
        return head

    def init_head(self, head: nn.Linear) -> None:
        """Draw the classifier's weights as the paper does: normal, 0.02, no bias."""
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameters into the stem and the blocks (timm's layer decay)."""
        return dict(stem=r"^stem", blocks=r"^stages\.(\d+)" if coarse else [(r"^stages\.(\d+)\.(\d+)", None)])

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that no decay should pull to zero: those of the neurons, and layer scales."""
        return {
            f"{path}.{name}"
            for path, layer in self.named_modules() if isinstance(layer, Neuron | NormNeuron)
            for name, _ in layer.named_parameters(recurse=False)
        }  # fmt: skip


IMAGENET: dict[str, Any] = dict(
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop_pct=0.875, interpolation="bicubic", pool_size=None
)


def image_cfg(
    num_classes: int = 1000, in_chans: int = 3, img_size: int | tuple[int, int] = 224, **others: Any
) -> dict[str, Any]:
    """What timm wants to know of the images of a model with these keywords: size, mean, standard deviation, crop."""
    size = (in_chans, *height_and_width(img_size))
    return dict(url="", num_classes=num_classes, input_size=size, fixed_input_size=False, **IMAGENET)


def _listed(indices: int | Sequence[int] | None) -> int | list[int] | None:
    return indices if indices is None or isinstance(indices, int) else list(indices)
