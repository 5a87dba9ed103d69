"""The list of models: one table row a variant, registered with timm.

A model file ends in a call of :func:`variants`; everything that walks over the models (``list_models``, the command
line, the tests) reads this list.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from snnkit._suggest import nearest
from snnkit.models._classifier import Classifier
from snnkit.models._vision import VisionModel, image_cfg

# timm hands these to every entry function, whether the user gave them or not.
TIMM_KEYWORDS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")

classes: dict[str, type[Classifier]] = {}
entries: dict[str, Callable[..., Classifier]] = {}


CIFAR10: dict[str, Any] = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), crop_pct=1.0)
CIFAR100: dict[str, Any] = dict(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761), crop_pct=1.0)
EVENTS: dict[str, Any] = dict(mean=(0.0, 0.0), std=(1.0, 1.0), crop_pct=1.0)


@dataclass(frozen=True)
class Variant:
    """A row of the table of models.

    Attributes:
        keywords: arguments of the class.
        accuracy: published top-1 accuracy in percent, as text; empty if there is none. Conditions other than the
            variant's own stand behind it, ``80.0 (T=16)``. A star: from memory of the paper, not looked up.
        cfg: entries of timm's ``default_cfg`` that differ from ImageNet's: mean, standard deviation, crop.
        weights: names of the official checkpoint files, if there are some.
    """

    keywords: dict[str, Any]
    accuracy: str = ""
    cfg: dict[str, Any] = field(default_factory=dict)
    weights: str = ""


def variant(accuracy: str = "", *, cfg: dict[str, Any] | None = None, weights: str = "", **keywords: Any) -> Variant:
    """A row of the table: ``variant("73.38", dim=512, depth=8)``."""
    return Variant(keywords, accuracy, cfg or {}, weights)


rows: dict[str, Variant] = {}
owners: dict[str, type[Classifier]] = {}  # the class that each name builds


def variants(cls: type[Classifier], **table: Variant) -> None:
    """Register one model a row: ``variants(DelaySNN, delay_snn_shd=variant("95.07", hidden=(256, 256)))``.

    Each row becomes a function of that name in the module of ``cls``, known to timm and to :func:`create_model`. It
    takes the class's keywords over those of the row. Of timm's private ones it reads those that describe the images:
    ``timm.get_pretrained_cfg(name)`` has them of a vision model, ``pretrained_cfg`` and ``pretrained_cfg_overlay``
    change them.

    Raises:
        ValueError: another module registered the name before. (Loading the same module again is fine.)
    """
    from timm.models import is_model, register_model

    module = sys.modules[cls.__module__]
    if issubclass(cls, VisionModel):
        cfgs = {name: image_cfg(**row.keywords) | row.cfg for name, row in table.items()}
        module.default_cfgs = cfgs  # type: ignore[attr-defined]  # where register_model looks
    for name, row in table.items():
        if is_model(name) and getattr(entries.get(name), "__module__", None) != cls.__module__:
            raise ValueError(f"The model name {name!r} is taken in timm's registry. Choose another one.")
        rows[name], owners[name], entries[name] = row, cls, _entry(name, cls, row)
        setattr(module, name, entries[name])
        register_model(entries[name])
    classes[cls.__name__] = cls


def _entry(name: str, cls: type[Classifier], row: Variant) -> Callable[..., Any]:
    def entry(**keywords: Any) -> Any:
        features = keywords.pop("features_only", False)
        indices = keywords.pop("out_indices", None)
        private = {key: keywords.pop(key, None) for key in TIMM_KEYWORDS}
        if private["pretrained"]:
            raise RuntimeError(
                f"{name} has no pretrained weights: {cls.official_weights} "
                "For a file of your own: snnkit.load_model(path), or snnkit.load_checkpoint(model, path)."
            )
        given = _given_cfg(name, private["pretrained_cfg"], private["pretrained_cfg_overlay"])
        model = cls(**{**row.keywords, **keywords})
        model.variant = name
        if cfg := getattr(model, "default_cfg", None):
            cfg.update(row.cfg | given, architecture=name)
        return feature_maps(model, indices) if features else model

    entry.__name__ = entry.__qualname__ = name
    entry.__module__ = cls.__module__
    entry.__doc__ = f"{cls.__name__}({', '.join(f'{key}={value!r}' for key, value in row.keywords.items())})"
    return entry


def _given_cfg(name: str, cfg: Any, overlay: dict[str, Any] | None) -> dict[str, Any]:
    """What a user of timm says of the images: a dict or timm's object, and a dict that goes over it."""
    if isinstance(cfg, str):
        raise ValueError(f"{name} has no tag {cfg!r}, as it has no pretrained weights. Leave the tag out.")
    from timm.models import PretrainedCfg

    given = {key: value for key, value in getattr(cfg, "to_dict", lambda: cfg or {})().items() if value is not None}
    PretrainedCfg(**given | (overlay or {}))  # refuses names that timm does not know
    return given | (overlay or {})


def feature_maps(model: Any, indices: Any = None) -> Any:
    """timm's ``features_only=True``: the model as a backbone that returns a list of feature maps ``[B, C, H, W]``.

    Args:
        model: a vision model.
        indices: which of its stages. Default: all, or the last three where all have the same size.
    """
    from timm.models._features import FeatureGetterNet

    if not hasattr(model, "forward_intermediates"):
        raise RuntimeError(f"{type(model).__name__} has no feature maps: features_only is for vision models.")
    if indices is None:
        strides = {info["reduction"] for info in model.feature_info}
        indices = min(3, len(model.feature_info)) if len(strides) == 1 else len(model.feature_info)
    return FeatureGetterNet(model, indices)


def entry_point(name: str) -> Callable[..., Classifier]:
    """Return the function that builds a model of this name.

    Raises:
        ValueError: there is none; the message has the nearest names.
    """
    if name not in entries:
        raise ValueError(f"Unknown model {name!r}.{nearest(name, entries)} All: python -m snnkit list")
    return entries[name]


def create_model(name: str, **keywords: Any) -> Classifier:
    """Build a model by its name, with random weights.

    Args:
        name: one of :func:`list_models`.
        keywords: arguments of the model's class, over those of the variant. Unlike ``timm.create_model``, which drops
            keywords that are None before the model sees them, None is passed on here.

    Raises:
        ValueError: unknown name; the message has the nearest ones.
        TypeError: unknown keyword; the message has the nearest one.

    >>> model = create_model("delay_snn_shd", num_classes=10, delays=None)
    >>> sum(p.numel() for p in model.parameters())
    104960
    """
    return entry_point(name)(**keywords)


def list_models(filter: str = "") -> list[str]:
    """Names of the models, sorted.

    Args:
        filter: a part of the name, or a pattern with ``*`` and ``?``, e.g. ``"delay_*"``. Default: all.

    >>> list_models("snn_shd")
    ['delay_snn_shd']
    """
    pattern = filter if any(c in filter for c in "*?[") else f"*{filter}*"
    return sorted(name for name in entries if fnmatch.fnmatchcase(name, pattern))
