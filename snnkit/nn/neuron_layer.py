"""A layer of neurons as a torch module: the base of the classes in ``snnkit.nn.neuron``.

The equation has the formula and the defaults; the module holds what is learnt, and calls ``snnkit.ops.scan``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snnkit._suggest import named_arguments
from snnkit.equations import Equation
from snnkit.nn._signature import SignatureOfEquation
from snnkit.nn.carry import Stateful
from snnkit.nn.time import require_time_first
from snnkit.ops.program import Plan, plan_of
from snnkit.ops.scan import names, run, short_scan


class Neuron(Stateful):
    """A layer of neurons on ``[T, B, ...]``.

    Args:
        values: parameters of the equation, in its order or by name: numbers, or tensors that broadcast to
            ``x.shape[2:]`` (a tensor that is not learnt becomes a buffer). An ``nn.Parameter`` that is learnt is kept
            itself, so that layers can share it.
        learn: names of parameters to learn, stored under these names. Default: the equation's ``learnt``, mostly none.
        shape: shape of the learnt parameters that are given as numbers: ``(C,)`` one a channel of ``[T, B, C]``,
            ``(C, 1, 1)`` one a channel of images. Default: one value.
        device, dtype: where and how the layer's tensors are kept. Default: torch's, or those of a tensor that is given.
        keywords: also ``surrogate``, ``v_reset``, ``detach_reset``, ``reset`` (see ``snnkit.equations.Equation``).

    Raises:
        ValueError: an impossible value (``tau must be > 0, got -2.0.``), here or on loading a state dict; a shape
            that no parameter takes, or a tensor that wants a gradient and is not learnt.
        TypeError: an unknown keyword, with the nearest one.
        AttributeError: assigning to a number of the equation (``lif.tau = 3.0``); assign to ``neuron``.
    """

    equation: ClassVar[type[Equation]]
    _observer: Any = None
    __signature__ = SignatureOfEquation()  # what help() and editors show

    def __init__(
        self, *values: Any, learn: Sequence[str] | None = None, shape: Sequence[int] = (), device: Any = None,
        dtype: Any = None, **keywords: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        if not hasattr(type(self), "equation"):
            raise TypeError(
                f"{type(self).__name__} is a base class without an equation. Write nn.LIF(...), or for an equation of "
                "your own nn.neuron_module(Mine)(...)."
            )
        if isinstance(learn, str):
            raise TypeError(f"learn expects names, got the string {learn!r}. Write learn=({learn!r},).")
        if isinstance(learn, bool):
            raise TypeError(f'learn expects names, such as ("tau",), got {learn}.')
        if isinstance(shape, int):
            raise TypeError(f"shape must be a sequence of sizes, got {shape}. Write shape=({shape},).")
        if learn is None and shape and not self.equation.learnt:
            remedy = f"Name them: learn=({(*self.equation.parameter_names, 'tau')[0]!r},)."
            raise ValueError(f"shape={tuple(shape)} is that of learnt parameters, and none is learnt. {remedy}")
        learn = self.equation.learnt if learn is None else learn
        known = self.equation.keyword_names()
        for name in keywords:
            if name not in known:
                ours = [*named_arguments(type(self))[0], "learn", "shape", "device", "dtype"]
                self.equation.refuse(name, list(dict.fromkeys([*known, *ours])))
        keywords = self.equation.named(values, keywords)
        tensors = {n: v for n, v in keywords.items() if isinstance(v, Tensor)}
        given: dict[str, Any] = keywords | {n: some_number(n, v) for n, v in tensors.items()}
        self._neuron = self.equation(**given)
        for name in tensors:  # the largest value, too
            self._neuron.check(name, float(tensors[name].detach().max()))
        inside = [n for n, v in self._neuron.parameters().items() if isinstance(v, Tensor)]
        if inside:
            remedy = "" if inside[0].startswith("surrogate.") else f", and learn=({inside[0][6:]!r},) to learn it"
            raise ValueError(
                f"{inside[0]} is a tensor in an object, where a layer does not find it to move, save or learn. Give "
                f"a number there{remedy}."
            )
        full = {n: n for n in self._neuron.parameters() if "." not in n}
        for n in self._neuron.parameters():
            if n.startswith("reset."):
                full.setdefault(n.removeprefix("reset."), n)  # of two with one name it is the equation's
        for name in learn:
            if name not in full:
                raise ValueError(f"{type(self).__name__} cannot learn {name!r}. It has: {', '.join(full)}.")
        if learn and shape and all(name in tensors for name in learn):
            raise own_shape(shape, learn[0])
        for name in dict.fromkeys([*learn, *tensors]):
            if hasattr(type(self), name) or name in self.__dict__:
                raise ValueError(f"A layer has a {name!r} of its own: give this parameter another name.")
            value = tensors.get(name)
            if value is None:
                value = torch.full(tuple(shape), self._neuron.parameters()[full[name]], device=device, dtype=dtype)
            own = _placed(value, device, dtype)
            if name in learn:
                self.register_parameter(name, own if isinstance(own, nn.Parameter) else nn.Parameter(own))
            elif value.requires_grad:
                raise ValueError(
                    f"{name} wants a gradient, but learn does not name it. "
                    f"Write learn=({name!r},), or {name}.detach() for a fixed one."
                )
            else:
                self.register_buffer(name, own.detach())
        self._tensor_names = {name: full[name] for name in dict.fromkeys([*learn, *tensors])}
        self._plan = self._planned()

    @property
    def neuron(self) -> Equation:
        """The equation with its values of now.

        Assign a changed one to anneal a number: ``lif.neuron = lif.neuron.bind({"surrogate.alpha": 5.0})``. What is a
        tensor of the layer is changed there (``lif.tau.data``).
        """
        tensors = self._tensors()
        return self._neuron.bind(tensors) if tensors else self._neuron

    @neuron.setter
    def neuron(self, neuron: Equation) -> None:
        if type(neuron) is not self.equation:
            mine = self.equation.__name__
            raise TypeError(f"{type(self).__name__} computes {mine}, got {neuron!r}. Make a new layer.")
        given, tensors = neuron.parameters(), self._tensors()
        for name, full in self._tensor_names.items():
            if not isinstance(given[full], Tensor) or not torch.equal(given[full], tensors[full]):
                raise ValueError(f"{full} is a tensor of the layer, not of its equation: change layer.{name}.data.")
        self.use(neuron.bind({full: self._neuron.parameters()[full] for full in tensors}))

    def use(self, neuron: Equation) -> None:
        """Take another form of the equation, as ``relaxed`` does; the layer's tensors stay."""
        self._neuron = neuron
        self._plan = self._planned()

    def __setattr__(self, name: str, value: Any) -> None:
        known = name in self.equation.keyword_names() and not hasattr(type(self), name)
        if known and name not in self.__dict__.get("_tensor_names", (name,)):
            full = next((n for n in (name, f"reset.{name}") if n in self._neuron.parameters()), None)
            remedy = f"layer.neuron = layer.neuron.bind({{{full!r}: {value!r}}})" if full else "make a new layer"
            raise AttributeError(
                f"{type(self).__name__}.{name} belongs to its equation, which is fixed. To change it: {remedy}."
            )
        super().__setattr__(name, value)

    def _tensors(self) -> dict[str, Tensor]:
        """The parameters that are tensors, by the equation's names."""
        return {full: getattr(self, name) for name, full in self._tensor_names.items()}

    def _planned(self) -> Plan:
        return plan_of(self._neuron, tuple(self._tensor_names.values()))

    def forward(
        self, x: Tensor, state: Mapping[str, Tensor] | None = None, *, steps: int | None = None,
        record: Sequence[str] = (), return_state: bool = False,
    ) -> Any:  # fmt: skip
        """Run the neurons over a sequence.

        Args:
            x: ``[T, B, ...]``, any floating dtype; ``[1, B, ...]`` with ``steps``.
            state: where to start. Default: the state carried from the last call inside ``carry``, else the initial one.
            steps: read the single row of x this many times.
            record: states to return at each step, after the reset.
            return_state: return the last state, too.

        Returns:
            Spikes ``[T, B, ...]`` in the dtype of x; with ``record``, ``return_state``: a tuple of spikes, a dict of
            traces ``[T, B, ...]``, a dict of last states ``[B, ...]``.
        """
        if not isinstance(x, Tensor) or x.ndim < 3:
            require_time_first(self, x)
        in_carry = self.in_carry
        if in_carry:
            held = self.carried(x.shape[1], x.shape[2:])
            state = held if state is None else state
        if state is None:
            state = self._first_state(x)
        tensors = self._tensors() if self._tensor_names else {}
        if steps is None and state is None and not (record or return_state or in_carry):
            output = short_scan(self._plan, tensors, x)  # half of a small call is what Python does before the kernel
            if output is not None:
                return output if self._observer is None else self._observed(output)
        recorded = names(record) if record else ()
        result = run(self._plan, tensors, x, state, recorded, steps, final=return_state or in_carry)
        if in_carry:
            neuron = self._neuron.bind(tensors) if tensors else self._neuron  # bind: torch 2.9 cannot compile it
            self.keep(result.state, neuron.initial())
        output = self._observed(result.output)
        if not record and not return_state:
            return output
        return (output, *([result.traces] if record else []), *([result.state] if return_state else []))

    def _observed(self, output: Tensor) -> Tensor:
        """The output, shown to who counts spikes; a leaky integrator has no rate."""
        if self._observer is not None and self.equation._fires:
            self._observer(output)
        return output

    def _first_state(self, x: Tensor) -> dict[str, Tensor] | None:
        """Where a sequence starts, if not at the equation's initial values."""
        return None

    def check_parameters(self, name: str = "") -> None:
        """Raise ValueError if a learnt value became impossible. It looks at values, so call it once an epoch."""
        for own in self._tensor_names:
            problem = self._problem(own, getattr(self, own))
            if problem:
                where = f"{name}.{own}" if name else own
                remedy = "Lower its learning rate or bound it."
                raise ValueError(f"{where} became impossible in training: {problem} {remedy}")

    def _problem(self, name: str, value: Tensor) -> str | None:
        """What is wrong with the values of a parameter, or None."""
        values = value.detach().flatten()
        if not values.isfinite().all():
            return f"{name} must be finite, got {values[~values.isfinite()][0].item()}."
        full = self._tensor_names[name]  # a layer may learn it in another form, under another name
        if full.rpartition(".")[2] == name and full in self._neuron.positive_names() and not (values > 0).all():
            return f"{name} must be > 0, got {values.min().item()}."
        return None

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        given = {n: state_dict.get(prefix + n) for n in self._tensor_names}
        problems = {n: self._problem(n, value) for n, value in given.items() if isinstance(value, Tensor)}
        error_msgs += [f"{prefix}{problem}" for problem in problems.values() if problem]
        if not any(problems.values()):
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )

    def __getstate__(self) -> dict[str, Any]:
        state = {n: v for n, v in super().__getstate__().items() if n != "_plan"}
        state["_neuron"] = state.pop("_strict", self._neuron)  # inside ``relaxed`` it is another one
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if type(self._neuron) is not self.equation:
            raise TypeError(
                f"This {type(self).__name__} was pickled by a version of snnkit in which it computed "
                f"{type(self._neuron).__name__}. Load its state_dict into a new layer."
            )
        self._plan = self._planned()

    def extra_repr(self) -> str:
        """The parameters that differ from the equation's defaults, then what is learnt."""
        default, mine = self.equation(), self._neuron
        shown = [
            f"{n.rpartition('.')[2]}={v:g}" for n, v in mine.parameters().items()
            if n not in self._tensor_names.values() and not n.startswith(("surrogate.", "reset."))
            and v != default.parameters().get(n)
        ]  # fmt: skip
        shown += [f"{n}={getattr(mine, n)}" for n in mine.option_names if getattr(mine, n) != getattr(default, n)]
        theirs = default.surrogate
        if mine.surrogate.structure() != theirs.structure() or repr(mine.surrogate) != repr(theirs):
            shown.append(f"surrogate={mine.surrogate!r}")
        if repr(mine.reset_rule) != repr(default.reset_rule):
            shown.append(f"reset={mine.reset_rule!r}")
        return ", ".join(shown + [f"{n}={tuple(getattr(self, n).shape)}" for n in self._tensor_names])


def some_number(name: str, value: Tensor) -> float:
    """A number that stands for a tensor while the equation is built: its smallest value, so that it is checked."""
    value = value.detach()
    if not value.numel():
        raise ValueError(f"{name} has no values: its shape is {tuple(value.shape)}.")
    if not value.isfinite().all():
        raise ValueError(f"{name} must be finite, got {value[~value.isfinite()].flatten()[0].item()}.")
    return float(value.min())


def own_shape(shape: Sequence[int], name: str) -> ValueError:
    """What to raise where a shape is given, and a tensor that has one."""
    return ValueError(f"shape={tuple(shape)} is for parameters given as numbers, and {name} is a tensor with its own.")


def _placed(value: Tensor, device: Any, dtype: Any) -> Tensor:
    """A floating copy at its place; a Parameter that stays as it is, is itself."""
    dtype = dtype or (value.dtype if value.is_floating_point() else torch.get_default_dtype())
    placed = value.detach().to(device=device, dtype=dtype)
    same = placed.device == value.device and placed.dtype == value.dtype
    return value if same and isinstance(value, nn.Parameter) else placed.clone()
