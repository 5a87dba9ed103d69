"""Layers of neurons that hear each other: the output of a step comes back through a matrix in the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnkit.nn.carry import Stateful
from snnkit.nn.neuron_layer import Neuron
from snnkit.nn.time import require_tensor, require_time_first, valid_steps
from snnkit.ops.recurrent import recurrent_scan
from snnkit.ops.scan import names
from snnkit.ops.scan_call import compute_dtype


class Feedback(Stateful):
    """Base of the layers whose neurons hear each other: a ``neuron``, and what its last outputs bring to it.

    A subclass says how many ``lags`` back a step hears, and gives ``weight`` and ``taps`` of ``ops.recurrent_scan``.
    """

    neuron: Neuron

    def __init__(self, neuron: Neuron, features: int) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron):
            kind = f"the class {neuron.__name__}" if isinstance(neuron, type) else type(neuron).__name__
            raise TypeError(f"{type(self).__name__} takes a neuron such as snnkit.nn.LIF(), got {kind}.")
        if isinstance(features, bool) or not isinstance(features, int) or features < 1:
            raise ValueError(f"features must be a whole number >= 1, got {features!r}.")
        self.neuron, self.features = neuron, features

    def connections(self) -> tuple[Tensor, Tensor | None]:
        """``weight`` and ``taps`` as ``ops.recurrent_scan`` takes them."""
        raise NotImplementedError

    def feedback_mask(self, x: Tensor) -> Tensor | None:
        """``[B, N]`` that multiplies what comes back, or None."""
        return None

    @property
    def _spike_state(self) -> str | None:
        """The neuron's state that is its output, if it has one (the s of AdLIF): no second copy is kept then."""
        step = self.neuron._plan.program.step
        return next((name for name, index in step.after.items() if index == step.output), None)

    def forward(
        self, x: Tensor, state: Mapping[str, Tensor] | None = None, *, record: Sequence[str] = (),
        return_state: bool = False,
    ) -> Any:  # fmt: skip
        """Run the layer over a sequence.

        Args:
            x: ``[T, B, features]``, any floating dtype.
            state: where to start: the neuron's states ``[B, features]``, and ``feedback``, the outputs of the last
                steps ``[B, L, features]``, the oldest first, or for L = 1 ``[B, features]`` (left out where a state of
                the neuron is its output: ``s``). Default: what ``carry`` holds, else the initial state and silence.
            record: states of the neuron to return at each step, after the reset.
            return_state: return the last state, too.

        Returns:
            As a neuron does: spikes ``[T, B, features]``; with ``record``, ``return_state``: a tuple.
        """
        require_time_first(self, x)
        if x.ndim != 3 or x.shape[2] != self.features:
            raise ValueError(f"{type(self).__name__} expects [T, B, {self.features}], got {tuple(x.shape)}.")
        if not x.is_floating_point():
            raise TypeError(f"{type(self).__name__} expects a floating x, got {x.dtype}. Convert it: x.float().")
        in_carry = self.in_carry
        if in_carry:
            held = self.carried(x.shape[1], x.shape[2:])
            state = held if state is None else state
        neuron = self.neuron
        state = neuron._first_state(x) if state is None else state
        weight, taps = self.connections()
        lags = len(taps) if taps is not None else len(weight) if weight.ndim == 3 else 1
        own, past = self._split(state, x, lags)
        tensors = neuron._tensors() if neuron._tensor_names else {}
        result = recurrent_scan(
            neuron._plan, tensors, x, weight, past, taps=taps, mask=self.feedback_mask(x), state=own,
            record=names(record), final=return_state or in_carry,
        )  # fmt: skip
        after = dict(result.state)
        if (return_state or in_carry) and (lags > 1 or self._spike_state is None):
            heard = torch.cat([past, result.output.to(past.dtype)])
            after["feedback"] = heard[len(heard) - lags :].transpose(0, 1)
            if lags == 1 and taps is None and weight.ndim == 2:
                after["feedback"] = after["feedback"][:, 0]
        if in_carry:
            equation = neuron._neuron.bind(tensors) if tensors else neuron._neuron
            self.keep(after, equation.initial() | {"feedback": 0.0})
        if neuron._observer is not None and neuron.equation._fires:
            neuron._observer(result.output)
        if not record and not return_state:
            return result.output
        return (result.output, *([result.traces] if record else []), *([after] if return_state else []))

    def _split(
        self, state: Mapping[str, Tensor] | None, x: Tensor, lags: int
    ) -> tuple[Mapping[str, Tensor] | None, Tensor]:
        """The neuron's own state, and the outputs of the last steps, ``[lags, B, N]``."""
        dtype = compute_dtype(x)
        silence = x.new_zeros(lags, *x.shape[1:], dtype=dtype)
        if state is None:
            return None, silence
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a dict of tensors, got a {type(state).__name__}.")
        own = {name: value for name, value in state.items() if name != "feedback"}
        spikes = self._spike_state
        if "feedback" not in state:
            if spikes is None or spikes not in own:
                return own, silence
            past = own[spikes][None]
        else:
            past = state["feedback"]
            if past.shape[:1] != x.shape[1:2] or past.shape[-1] != self.features or past.ndim not in (2, 3):
                want = (x.shape[1], lags, self.features)
                raise ValueError(f"state 'feedback' must be [B, L, N] = {want}, got {tuple(past.shape)}.")
            past = past[None] if past.ndim == 2 else past.transpose(0, 1)
        # Delays may have moved since: a longer memory begins with silence, a shorter one forgets the oldest.
        missing = lags - len(past)
        return own, torch.cat([silence[:missing], past.to(dtype)]) if missing > 0 else past[-missing:].to(dtype)


class Recurrent(Feedback):
    """A layer of neurons whose input is ``x[t] + R s[t - 1]``, s their own spikes (outputs) of the step before.

    Args:
        neuron: any neuron: ``LIF()``, ``AdLIF(shape=(N,))`` (then sparch's RadLIF), ``SEAdLIF()``, ``EFAdLIF()``, ...
        features: N, size of the layer.
        diagonal: whether a neuron hears itself. False: the diagonal counts as 0, whatever is stored, as in sparch.

    The weights ``weight[target, source]`` are orthogonal at first. (sparch stores V[source, target] = R transposed.)
    Inside ``carry`` the spikes of the last step are state. Sources: Bittar and Garner 2022 (Front. Neurosci.
    16:865897); Baronig et al. 2025 (Nat. Commun. 16:5776).

    Raises:
        TypeError: neuron is no layer of neurons, or a class; in the call, x is not floating.
        ValueError: features < 1; in the call, an input that is not ``[T, B, features]``, or a state that does not fit.

    >>> from snnkit.nn import LIF
    >>> layer = Recurrent(LIF(v_reset=None), 1)
    >>> _ = nn.init.constant_(layer.weight, 2.0)
    >>> x = torch.zeros(4, 1, 1)
    >>> x[0] = 2.0
    >>> layer(x).flatten().tolist()  # it keeps itself awake
    [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self, neuron: Neuron, features: int, diagonal: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(neuron, features)
        self.diagonal = diagonal
        self.weight = nn.Parameter(torch.empty(features, features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw an orthogonal matrix."""
        nn.init.orthogonal_(self.weight)

    def connections(self) -> tuple[Tensor, None]:
        """The weights, with or without their diagonal."""
        if self.diagonal:
            return self.weight, None
        others = 1.0 - torch.eye(self.features, device=self.weight.device, dtype=self.weight.dtype)
        return self.weight * others, None

    def extra_repr(self) -> str:
        """Size, and whether the diagonal is left out."""
        return f"features={self.features}{'' if self.diagonal else ', diagonal=False'}"


class Bidirectional(Stateful):
    """A layer on the sequence and on the sequence from its end, side by side: ``[T, B, C]`` -> ``[T, B, 2 N]``.

    Args:
        layer: any layer ``[T, B, C]`` -> ``[T, B, N]``. Both directions share it; the reversed sequence joins the
            batch, so that a batch norm in it takes its statistics over both, as in sparch.

    With ``lengths`` ``[B]`` each sample is reversed within its own steps, and the layer gets the lengths of both
    halves. It needs the end of the sequence, so it cannot run inside ``carry`` (RuntimeError). Source: Bittar and
    Garner 2022.

    Raises:
        RuntimeError: called inside ``carry``.

    >>> Bidirectional(nn.Identity())(torch.arange(3.0).reshape(3, 1, 1)).squeeze(1).tolist()
    [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map ``[T, B, C]`` to ``[T, B, 2 N]``."""
        require_tensor(self, x)
        require_time_first(self, x)
        if self.in_carry:
            raise RuntimeError("Bidirectional needs the end of the sequence: it cannot run inside snnkit.carry.")
        both = torch.cat([x, _reversed(x, lengths)], 1)
        y = self.layer(both) if lengths is None else self.layer(both, torch.cat([lengths, lengths]))
        ahead, back = y.chunk(2, 1)
        return torch.cat([ahead, _reversed(back, lengths)], -1)


def _reversed(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Time reversed, of each sample within its steps; padding stays where it is."""
    if lengths is None:
        return x.flip(0)
    valid = valid_steps(x, lengths)
    steps = torch.arange(len(x), device=x.device)[:, None]
    source = torch.where(valid.flatten(1)[:, : x.shape[1]], lengths.to(x.device) - 1 - steps, steps)
    return x.gather(0, source.reshape(*source.shape, *[1] * (x.ndim - 2)).expand(x.shape))
