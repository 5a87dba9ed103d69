"""Which options of train_shd.py a temporal model has: what its network would not look at is refused, by name.

A DelaySNN has them all. Another network has its own delays, profile and answer, and takes what its constructor takes.
"""

import inspect
from collections.abc import Collection
from typing import Any

import torch
import yaml
from _settings import CONFIGS
from _without_effect import as_given

import snnkit
from snnkit.models import DelaySNN
from snnkit.models import _registry as registry
from snnkit.models._temporal import TemporalClassifier
from snnkit.models._vision import VisionModel
from snnkit.nn import DelayedRecurrence, DelayLinear

# Arguments of the networks.
NETWORK = "hidden max_delay kernel_count tail sparsity tau learn_tau v_threshold detach_reset".split()
NETWORK += "filter_tau learn_filter bias dropout".split()
# What a recipe says of its own network alone; a sigma fits the taps. And what it says of a DelaySNN's delays.
OF_ITS_NETWORK = (*NETWORK, "model", "surrogate", "loss", "sigma")
OF_ITS_DELAYS = ("delays", "profile", "learn_width")
MODELS = {"digits": "delay_snn_digits", "shd": "delay_snn_shd", "gsc": "delay_snn_gsc_3l_1kc"}  # where none is given
MODELS["psmnist"] = "delrec_psmnist_rec"


def kind_of(model: str) -> Any:
    """The class of a registered model; None for an unknown name, which is refused when it is built."""
    return registry.owners.get(model)


def recipe_for(recipe: dict[str, Any], model: str) -> dict[str, Any]:
    """A recipe without what it says of its own network, if the model of the command line is another one.

    A recipe that names no model says it of any DelaySNN.
    """
    delay_snn = kind_of(model) is DelaySNN
    if not model or model == recipe.get("model") or (delay_snn and "model" not in recipe):
        return recipe
    left_out = OF_ITS_NETWORK if delay_snn else (*OF_ITS_NETWORK, *OF_ITS_DELAYS)
    return {key: value for key, value in recipe.items() if key not in left_out}


def unused_by_model(settings: Any, given: Collection[str]) -> str | None:
    """What to say if the model, other than a DelaySNN, would not look at one of these settings."""
    name = settings.model or MODELS[settings.dataset]
    kind = kind_of(name)
    if kind is DelaySNN and "decay_bias" in given and settings.decay_bias and not settings.bias:
        return "--decay-bias finds no bias to decay without --bias. Leave it out, or add that."
    if kind is not None and issubclass(kind, VisionModel):
        others = "examples/train_images.py and, for events, train_cifar10dvs.py"
        return f"--model {name} is a vision model, which takes images; {others} train it. Give one for sequences."
    if kind in (None, DelaySNN) or not issubclass(kind, TemporalClassifier):
        return None
    with torch.device("meta"):  # without memory or values
        model = snnkit.create_model(name)
    layers, names = list(model.delay_layers()), [key for key, _ in model.named_parameters()]
    own = "learnt" if layers else "none"
    kernels = any(isinstance(layer, DelayLinear) for layer in layers)
    recurrent = any(isinstance(layer, DelayedRecurrence) for layer in layers)
    narrowing = any(getattr(layer, "SIG", None) is not None for layer in layers)
    uses = {
        "delays": (settings.delays == own, f"its delays are always {own}"),
        "profile": (False, "the profile of its delays, if any, is its own"),
        "learn_width": (False, "the width of its delays, if any, is its own"),
        "sigma": (narrowing or recurrent, "it has no delays with a width"),
        "sigma_share": (narrowing, "it has no delays whose width shrinks so"),
        "lr_delay": (bool(layers), "it learns no delays"),
        "schedule_delay": (bool(layers), "it learns no delays"),
        "max_delay": (kernels, "it has no delay kernels"),
        "tail": (kernels, "it has no delay kernels"),
        "decay_bias": (any(key.endswith("synapse.bias") for key in names) or settings.bias, "it has no biases"),
        "loss": (settings.loss != "spike_count", "its output neurons never fire"),
    }
    known = inspect.signature(kind.__init__).parameters
    for option in (*NETWORK, "surrogate"):
        uses.setdefault(option, (option in known, "it has no such argument"))
    for option, (used, why) in uses.items():
        value = getattr(settings, option)
        if option in given and not used and value is not None and value is not False:
            return f"{as_given(option, value)} is no option of --model {name}: {why}. Leave it out."
    return None


def to_wake(settings: Any) -> str:
    """What would make silent neurons fire, in the options that this run has.

    The input of a neuron grows with the spikes that a step and an input hold. Of 64 untrained SE-adLIF neurons on the
    spoken digits, in steps of 10 ms, 64 are silent with ``--merge 1``, 42 with 5, none with 20.
    """
    name = settings.model or MODELS[settings.dataset]
    ways = ["a lower --v-threshold"] if "v_threshold" in inspect.signature(kind_of(name).__init__).parameters else []
    if settings.dataset == "shd":
        ways.append("a larger --merge or --step-ms, which put more spikes into an input and step")
    elif settings.dataset == "digits" and ways:
        ways.append("fewer --steps, which put more spikes into each")
    if ways:
        return f"What helps: {', or '.join(ways)}."
    if name == MODELS[settings.dataset]:
        return "Should it stay silent, try another --lr."
    made_for = _recipes_of(name)
    where = f" is made for other input: --config {made_for[0]}." if made_for else " has no option that helps here."
    return f"{name}{where} For --dataset {settings.dataset} there is --model {MODELS[settings.dataset]}."


def _recipes_of(model: str) -> list[str]:
    """The recipes of configs/ that name this model."""
    found = sorted(CONFIGS.glob("*.yaml")) + sorted((CONFIGS / "temporal").glob("*.yaml"))
    models = {path: yaml.safe_load(path.read_text(encoding="utf-8"))["settings"].get("model") for path in found}
    return [path.relative_to(CONFIGS).as_posix() for path, named in models.items() if named == model]
