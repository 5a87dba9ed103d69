"""Losses on the answer of a readout, or on the answers of all steps. All are one cross entropy and what is added to it.

The readout says what is summed over time:

| loss of SNN-delays | answer m ``[B, C]`` |
|---|---|
| ``sum`` (the published one) | ``SumOfSoftmax``: m = sum_t softmax(v[t]), a softmax on top of a sum of softmaxes |
| ``mean`` | ``MeanOverTime``: m = mean_t v[t] |
| ``max`` | ``MaxOverTime``: m = max_t v[t] |
| ``spike_count`` | ``SumOverTime`` of the output neurons' spikes (threshold 2 there) |

Source: Hammouamri, Khalfaoui-Hassani, Masquelier 2024 (ICLR, arXiv 2306.17670). Vision models answer at every step,
``[T, B, C]``: ``mean_cross_entropy``, ``tet``. With a teacher: ``distillation``, ``fine_grained_distillation``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from snnkit.nn.time import at_least_float32


def cross_entropy(m: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """``mean_b -sum_c q[b, c] log softmax(m[b])[c]``, q = the target's distribution.

    Args:
        m: the readout's answer, ``[B, C]``; half precision is computed in float32.
        target: class numbers ``[B]`` (integers; as in torch, -100 is left out of the mean), or probabilities ``[B, C]``
            (mixed samples, soft labels).
        label_smoothing: q = (1 - label_smoothing) target + label_smoothing / C.

    Returns:
        A scalar.

    Raises:
        ValueError: m still has a time axis, or the target fits neither form.

    >>> from snnkit.nn.readout import SumOfSoftmax
    >>> v = torch.zeros(3, 2, 4)  # membranes of the output neurons
    >>> f"{cross_entropy(SumOfSoftmax()(v), torch.tensor([0, 3])):.4f}"
    '1.3863'
    """
    if m.ndim != 2:
        raise ValueError(
            f"cross_entropy expects answers [B, C], got {tuple(m.shape)}. "
            "A sequence [T, B, C] needs a readout first, e.g. SumOfSoftmax()(v)."
        )
    target = _checked_target("cross_entropy", m, target)
    return F.cross_entropy(at_least_float32(m), target, label_smoothing=label_smoothing)


def mean_cross_entropy(o: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """``cross_entropy(mean_t o[t])``: the loss of the spiking transformers, whose recipes smooth labels by 0.1.

    Args:
        o: the answers of all steps, ``[T, B, C]``; the mean is taken in float32 or better.
        target: class numbers ``[B]`` or probabilities ``[B, C]``.
        label_smoothing: as in ``cross_entropy``.

    >>> f"{mean_cross_entropy(torch.zeros(3, 2, 4), torch.tensor([0, 3]), label_smoothing=0.1):.4f}"
    '1.3863'
    """
    _require_steps("mean_cross_entropy", o)
    return cross_entropy(at_least_float32(o).mean(0), target, label_smoothing)


def tet(o: Tensor, target: Tensor, lam: float = 1e-3, phi: float = 1.0, label_smoothing: float = 0.0) -> Tensor:
    """``(1 - lam) mean_t cross_entropy(o[t]) + lam mean((o - phi)^2)``: temporal efficient training.

    Every step has to answer by itself. Deng et al. 2022 (ICLR, arXiv 2202.11946).

    Args:
        o: the answers of all steps, ``[T, B, C]``; half precision is computed in float32.
        target: class numbers ``[B]`` or probabilities ``[B, C]``, the same at all steps.
        lam: share of the second term, in [0, 1]; 1e-3 as in Spike-driven Transformer's recipes.
        phi: what the second term pulls all answers to: the threshold there.
        label_smoothing: as in ``cross_entropy``.

    Raises:
        ValueError: o has no time axis, the target fits neither form, or lam is outside of [0, 1].

    >>> f"{tet(torch.zeros(3, 2, 4), torch.tensor([0, 3]), lam=0.5):.4f}"  # 0.5 log 4 + 0.5
    '1.1931'
    """
    _require_steps("tet", o)
    _require_share("lam", lam)
    o = at_least_float32(o)
    target = _checked_target("tet", o[0], target)
    of_each_step = F.cross_entropy(
        o.flatten(0, 1), target.expand(len(o), *target.shape).flatten(0, 1), label_smoothing=label_smoothing
    )
    return (1 - lam) * of_each_step + lam * (o - phi).square().mean()


def distillation(
    m: Tensor,
    m_kd: Tensor,
    target: Tensor,
    teacher: Tensor,
    alpha: float = 0.5,
    tau: float | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """``(1 - alpha) cross_entropy(m, target) + alpha D(m_kd, teacher)``: one head learns the labels, one the teacher.

    ======  ========================================================================================================
    hard    ``D = cross_entropy(m_kd, argmax_c teacher)``, with tau = None
    soft    ``D = tau^2 / (B C) sum_bc p log(p / q)``, p = softmax(teacher / tau), q = softmax(m_kd / tau)
    ======  ========================================================================================================

    The soft term is divided by B C, as published (Touvron et al. 2021, ICML, DeiT; Meta-SpikeFormer), so that it is C
    times smaller than the mean over the batch. Meta-SpikeFormer was trained with the hard one and alpha = 0.5.

    Args:
        m, m_kd: answers of the two heads, ``[B, C]``: ``distillation(*model(x), target, logits_of_the_teacher)``. A
            model with one head: m twice.
        target: class numbers ``[B]`` or probabilities ``[B, C]``.
        teacher: the teacher's logits ``[B, C]``; they get no gradient.
        alpha: share of the teacher, in [0, 1].
        tau: temperature > 0 of the soft form; None: the hard form.
        label_smoothing: of the first term.

    Raises:
        ValueError: shapes that differ, an impossible alpha or tau.

    >>> m, teacher = torch.zeros(2, 4), torch.eye(4)[:2]
    >>> f"{distillation(m, m, torch.tensor([0, 3]), teacher):.4f}"
    '1.3863'
    """
    _require_share("alpha", alpha)
    if tau is not None and not tau > 0:
        raise ValueError(f"tau must be > 0, got {tau}. None for the teacher's argmax as the label.")
    if not m.shape == m_kd.shape == teacher.shape:
        raise ValueError(
            f"distillation expects m, m_kd and teacher of one shape [B, C], got {tuple(m.shape)}, {tuple(m_kd.shape)}, "
            f"{tuple(teacher.shape)}. Are the teacher's classes those of the student?"
        )
    of_labels = cross_entropy(m, target, label_smoothing)
    teacher = teacher.detach()
    if tau is None:
        of_teacher = cross_entropy(m_kd, teacher.argmax(1))
    else:
        q, p = (F.log_softmax(at_least_float32(x) / tau, 1) for x in (m_kd, teacher))
        of_teacher = F.kl_div(q, p, reduction="sum", log_target=True) * (tau * tau / m_kd.numel())
    return (1 - alpha) * of_labels + alpha * of_teacher


def fine_grained_distillation(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """``sum_F mean_bh || G(F_s) / ||G(F_s)|| - G(F_t) / ||G(F_t)|| ||``, ``G(F) = F F^T``, to be added to another loss.

    The student's tokens are to be as similar to each other as the teacher's are, in every head. F runs over the
    queries, keys and values of all attention layers, || || is the Frobenius norm of an ``[N, N]`` matrix, and the mean
    is over time, batch and heads.

    This is a definition of our own: QSD-Transformer (Qiu et al. 2025, ICLR) trains with a loss of this name, but gives
    neither code nor weights for it. ``loss + weight * fine_grained_distillation(...)``, with a weight to be found.

    Args:
        student: its F, each ``[..., heads, N, d]``, e.g. ``[T, B, heads, N, d]``.
        teacher: as many, in the same order, with the same N and heads; d may differ, and the first axes (time) may be
            missing. They get no gradient.

    Raises:
        ValueError: another number of tensors, or shapes that do not fit.

    ``snnkit.nn.queries_keys_values`` gathers them from a model.

    A head without a spike has G = 0, distance 1 and no gradient. Half precision is computed in float32.

    >>> q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[None]  # one head, two tokens unlike each other
    >>> same = torch.ones(1, 2, 2)  # ... and alike: || I / sqrt(2) - 1 / 2 ||
    >>> f"{fine_grained_distillation([q], [3 * q]):.4f}, {fine_grained_distillation([q], [same]):.4f}"
    '0.0000, 0.7654'
    """
    if len(student) != len(teacher) or not student:
        raise ValueError(
            f"fine_grained_distillation expects as many tensors of the teacher as of the student, "
            f"got {len(student)} and {len(teacher)}."
        )
    distances = []
    for number, (f, g) in enumerate(zip(student, teacher, strict=True)):
        if g.ndim < 3 or f.shape[:-1][1 - g.ndim :] != g.shape[:-1]:
            raise ValueError(
                f"pair {number}: the teacher must be [..., heads, N, d] with heads and N of the student, "
                f"got student {tuple(f.shape)}, teacher {tuple(g.shape)}."
            )
        distances.append(torch.linalg.matrix_norm(_likeness(f) - _likeness(g.detach())).mean())
    return torch.stack(distances).sum()


def _likeness(f: Tensor) -> Tensor:
    """``F F^T / ||F F^T||``; ``[..., N, d]`` -> ``[..., N, N]``."""
    f = at_least_float32(f)
    with torch.autocast(f.device.type, enabled=False):
        products = f @ f.mT
    return F.normalize(products.flatten(-2), dim=-1).unflatten(-1, products.shape[-2:])


def _checked_target(loss: str, m: Tensor, target: Tensor) -> Tensor:
    """The target in the form that torch takes beside answers ``[B, C]``."""
    if target.shape == m.shape and target.is_floating_point():
        return target.to(at_least_float32(m).dtype)
    if target.shape == m.shape[:1] and target.dtype != torch.bool and not target.is_floating_point():
        return target.long()
    raise ValueError(
        f"{loss} expects class numbers [B] = ({m.shape[0]},) or probabilities [B, C] = {tuple(m.shape)}, "
        f"got {tuple(target.shape)} of {target.dtype}."
    )


def _require_steps(loss: str, o: Tensor) -> None:
    if o.ndim != 3 or len(o) == 0:
        raise ValueError(
            f"{loss} expects answers of all steps [T, B, C], T >= 1, got {tuple(o.shape)}. "
            "Answers [B, C] go to cross_entropy."
        )


def _require_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}.")
