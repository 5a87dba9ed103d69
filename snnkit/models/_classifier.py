"""What every classifier here has in common: timm's contract, time first, and the memory of how it was built.

A model file derives from :class:`Classifier` and writes ``forward_features``, ``forward_head`` and
``reset_classifier``.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from torch import Tensor, nn

from snnkit._suggest import NamedArguments
from snnkit.nn.folding import Folded


class Classifier(NamedArguments, nn.Module):
    """Base of the models: sequences ``[T, B, ...]`` in, logits ``[B, classes]`` out.

    Attributes:
        arguments: what the constructor got, defaults included. ``save_checkpoint`` writes them down, so that
            ``load_model`` can build the model again.
        variant: the name under which ``create_model`` built it, or an empty text.
        num_classes, num_features: sizes of the answer and of what ``forward_features`` returns.
        official_weights: what is known of the authors' weights (class attribute).
        must_match: arguments that no tensor shows and that must be the same to load a checkpoint (class attribute).
    """

    official_weights: ClassVar[str] = "none are known."
    must_match: ClassVar[tuple[str, ...]] = ()
    arguments: dict[str, Any]
    variant: str
    num_classes: int
    num_features: int
    grad_checkpointing: bool

    def __new__(cls, *args: Any, **keywords: Any) -> Classifier:
        """Note the arguments: here once instead of in each model's constructor."""
        self: Classifier = super().__new__(cls, *args, **keywords)
        arguments = _arguments(cls, args, keywords)
        for name, value in (("arguments", arguments), ("variant", ""), ("grad_checkpointing", False)):
            object.__setattr__(self, name, value)  # Module's own __setattr__ needs Module.__init__ first
        return self

    @property
    def head_hidden_size(self) -> int:
        """Number of features that the classifier reads (timm's name)."""
        return self.num_features

    def forward_features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Everything before the classifier."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, lengths: Tensor | None = None, pre_logits: bool = False) -> Tensor:
        """The classifier, on what ``forward_features`` returned; ``pre_logits=True`` returns its input."""
        raise NotImplementedError

    def get_classifier(self) -> nn.Module:
        """The module that turns features into logits."""
        return self.get_submodule("head")

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new classifier with fresh weights in place of the old one."""
        raise NotImplementedError

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: keep the blocks' inputs only and run each block again in the backward."""
        self.grad_checkpointing = enable

    def train(self, mode: bool = True) -> Classifier:
        """Training or evaluation mode; a folded copy refuses training, and stays as it is."""
        for layer in self.modules() if mode else ():
            if isinstance(layer, Folded):
                layer.train()
        return super().train(mode)

    def _replicate_for_data_parallel(self) -> nn.Module:
        # DataParallel scatters along axis 0, which is time here: it would cut each sequence into pieces, silently.
        raise RuntimeError(
            f"{type(self).__name__} takes [T, B, ...] and DataParallel cuts axis 0, which is time. "
            "Use torch.nn.parallel.DistributedDataParallel, e.g. torchrun --nproc_per_node 2 script.py."
        )


def _arguments(cls: type, args: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    """What a constructor gets, defaults included; what it hands on (``**common``), by the class above it."""
    # copy and pickle come without arguments (hence partial) and restore __dict__ afterwards.
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    bound = signature.bind_partial(None, *args, **keywords)
    bound.apply_defaults()
    _, *own = bound.arguments.items()
    arguments = dict(own)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            handed_on = arguments.pop(parameter.name)
            arguments = _arguments(cls.__mro__[1], (), handed_on) | arguments  # its own defaults hide those above
    return arguments
