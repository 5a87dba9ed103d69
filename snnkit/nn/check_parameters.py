"""Whether a model's learnt values are still possible: an optimiser knows no bounds."""

from torch import nn

from snnkit.nn._delay_positions import Positioned
from snnkit.nn.neuron_layer import Neuron


def check_parameters(model: nn.Module) -> None:
    """Raise ValueError, naming the parameter, if a neuron's learnt value became impossible, or delays left their taps.

    It looks at values, so once an epoch is enough.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, Neuron | Positioned):
            layer.check_parameters(name)
