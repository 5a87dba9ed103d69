"""Losses on the answer of a readout, on those of all steps, and beside a teacher."""

import pytest
import torch

from snnkit.nn.losses import cross_entropy, distillation, fine_grained_distillation, mean_cross_entropy, tet
from snnkit.nn.readout import SumOfSoftmax
from tests.shared import fixture


def formula(m, q):
    """-sum_c q log softmax(m), the mean over the batch."""
    return -(q * (m - m.exp().sum(1, keepdim=True).log())).sum(1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_numbers_and_probabilities_give_the_formula(smoothing):
    m, target = torch.randn(3, 5, dtype=torch.float64), torch.tensor([4, 0, 2])
    one_hot = torch.eye(5, dtype=torch.float64)[target]
    expected = formula(m, (1 - smoothing) * one_hot + smoothing / 5)
    for form in (target, target.to(torch.int32), target.to(torch.uint8), one_hot, one_hot.float()):
        torch.testing.assert_close(cross_entropy(m, form, smoothing), expected, rtol=1e-12, atol=0)


def test_mixed_samples_have_mixed_targets():
    m, q = torch.randn(3, 5, dtype=torch.float64), torch.rand(3, 5, dtype=torch.float64)
    torch.testing.assert_close(cross_entropy(m, q), formula(m, q), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    m, target = torch.randn(3, 5).to(dtype).requires_grad_(), torch.tensor([4, 0, 2])
    loss = cross_entropy(m, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(m.float(), target))
    torch.testing.assert_close(cross_entropy(m, torch.eye(5, dtype=dtype)[target]), loss)
    loss.backward()
    assert m.grad.dtype == dtype


def test_a_sequence_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"expects answers \[B, C\], got \(4, 3, 5\). .* needs a readout first"):
        cross_entropy(torch.zeros(4, 3, 5), torch.zeros(3, dtype=torch.long))


TARGETS = [torch.zeros(3), torch.zeros(3, dtype=torch.bool), torch.zeros(3, 5, dtype=torch.long), torch.zeros(4).long()]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_of_neither_form_is_refused(target):
    with pytest.raises(ValueError, match=r"class numbers \[B\] = \(3,\) or probabilities \[B, C\] = \(3, 5\), got"):
        cross_entropy(torch.zeros(3, 5), target)


def test_the_loss_equals_the_official_one():
    numbers = fixture("snn_delays_train")
    v = torch.from_numpy(numbers["output/v_seq"])
    loss = cross_entropy(SumOfSoftmax()(v), torch.from_numpy(numbers["input/target_onehot"]))
    torch.testing.assert_close(loss, torch.tensor(numbers["loss"].item(), dtype=torch.float64), rtol=1e-9, atol=0)


@pytest.mark.parametrize("form", ["ce", "ls"])
@pytest.mark.parametrize("lam", [0, 0.001, 0.05])
def test_temporal_efficient_training_is_the_official_one(form, lam):
    numbers = fixture("sdt_v1_tet_loss")
    o = torch.from_numpy(numbers["input/outputs"]).double().requires_grad_()
    loss = tet(o, torch.from_numpy(numbers["input/target"]), lam, label_smoothing=0.1 if form == "ls" else 0.0)
    loss.backward()
    expected = torch.from_numpy(numbers[f"output/{form}_lamb{lam}"])
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-9, atol=1e-12)
    expected = torch.from_numpy(numbers[f"grad_input/outputs_{form}_lamb{lam}"])
    torch.testing.assert_close(o.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_temporal_efficient_training_takes_soft_targets_and_another_phi(smoothing):
    o, q = torch.randn(4, 3, 5, dtype=torch.float64), torch.rand(3, 5, dtype=torch.float64).softmax(1)
    smooth = (1 - smoothing) * q + smoothing / 5
    expected = 0.7 * sum(formula(o_t, smooth) for o_t in o) / 4 + 0.3 * (o - 0.5).square().mean()
    torch.testing.assert_close(tet(o, q, 0.3, 0.5, smoothing), expected, rtol=1e-12, atol=0)


def test_the_loss_of_the_mean_over_time_is_the_formula():
    o, target = torch.randn(4, 3, 5, dtype=torch.float64), torch.tensor([4, 0, 2])
    q = 0.9 * torch.eye(5, dtype=torch.float64)[target] + 0.1 / 5
    torch.testing.assert_close(mean_cross_entropy(o, target, 0.1), formula(o.mean(0), q), rtol=1e-12, atol=0)
    torch.testing.assert_close(mean_cross_entropy(o, q), formula(o.mean(0), q), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["hard_a0.5_t1.0", "soft_a0.5_t1.0", "soft_a0.3_t2.5"])
def test_distillation_is_the_official_one(name):
    numbers = fixture("metaspike_kd_loss")
    m, m_kd, teacher = (
        torch.from_numpy(numbers[f"input/{part}"]).double().requires_grad_()
        for part in ("logits", "logits_kd", "teacher_logits")
    )
    kind, alpha, tau = name.split("_")
    tau = None if kind == "hard" else float(tau[1:])
    loss = distillation(m, m_kd, torch.from_numpy(numbers["input/target"]), teacher, float(alpha[1:]), tau, 0.1)
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.from_numpy(numbers[f"output/{name}"]), rtol=1e-9, atol=1e-12)
    for got, part in ((m.grad, "logits"), (m_kd.grad, "logits_kd")):
        expected = torch.from_numpy(numbers[f"grad_input/{part}_{name}"])
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    assert teacher.grad is None


def test_distillation_takes_mixed_samples():
    m, m_kd, teacher = torch.randn(3, 3, 5, dtype=torch.float64)
    q = torch.rand(3, 5, dtype=torch.float64)
    expected = 0.8 * formula(m, q) + 0.2 * formula(m_kd, torch.eye(5, dtype=torch.float64)[teacher.argmax(1)])
    torch.testing.assert_close(distillation(m, m_kd, q, teacher, alpha=0.2), expected, rtol=1e-12, atol=0)


def test_fine_grained_distillation_of_two_by_two_cases_by_hand():
    """G of [[1, 0], [0, 1]] is I, of [[1, 0], [1, 0]] all ones, of [[2, 0], [0, 0]] one 4."""
    eye, ones, first = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    student = torch.stack([eye, first])[None]  # one sample, two heads
    teacher = torch.stack([ones, ones])[None]
    half = 2**-0.5
    of_heads = [(2 * (half - 0.5) ** 2 + 2 * 0.5**2) ** 0.5, (0.5**2 * 4) ** 0.5]
    expected = torch.tensor(sum(of_heads) / 2)
    torch.testing.assert_close(fine_grained_distillation([student], [teacher]), expected)
    both = fine_grained_distillation([student, teacher], [teacher[..., :1], teacher])  # another d
    torch.testing.assert_close(both, expected)
    in_time = torch.stack([student, teacher])  # [T, B, heads, N, d]; the teacher has no time
    torch.testing.assert_close(fine_grained_distillation([in_time], [teacher]), expected / 2)


def test_fine_grained_distillation_has_the_gradient_of_its_formula_and_survives_silence():
    student = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, 4, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: fine_grained_distillation([f, f.sin()], [teacher] * 2), student)
    silent = student.detach() * torch.tensor([1.0, 0.0])[:, None, None, None]
    for other in (teacher, silent):  # a silent head; and nothing to learn any more
        f = silent.clone().requires_grad_()
        fine_grained_distillation([f], [other]).backward()
        assert f.grad.isfinite().all() and not f.grad[1].any()
    assert teacher.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "loss",
    [
        lambda o, target: tet(o, target, 0.3),
        mean_cross_entropy,
        lambda o, target: distillation(o[0], o[1], target, o[2]),
        lambda o, target: distillation(o[0], o[1], target, o[2], tau=3.0),
        lambda o, target: fine_grained_distillation([o], [o.flip(0)]),
    ],
    ids=["tet", "mean", "hard", "soft", "fine_grained"],
)
def test_the_other_losses_compute_half_precision_in_float32(loss, dtype):
    o, target = (100 * torch.randn(4, 3, 5)).to(dtype).requires_grad_(), torch.tensor([4, 0, 2])
    with torch.autocast("cpu", torch.bfloat16):
        y = loss(o, target)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, loss(o.float(), target))
    y.backward()
    assert o.grad.dtype == dtype and o.grad.isfinite().all()


@pytest.mark.parametrize("loss", [tet, mean_cross_entropy])
def test_answers_without_time_are_refused_by_losses_over_time(loss):
    with pytest.raises(ValueError, match=r"expects answers of all steps \[T, B, C\], T >= 1, got \(3, 5\). .*cross_"):
        loss(torch.zeros(3, 5), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"T >= 1, got \(0, 3, 5\)"):
        loss(torch.zeros(0, 3, 5), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"class numbers \[B\] = \(3,\) or .* \[B, C\] = \(3, 5\), got \(4,"):
        loss(torch.zeros(4, 3, 5), torch.zeros(4, 3, dtype=torch.long))


def test_impossible_shares_temperatures_and_shapes_are_refused():
    m, target = torch.zeros(3, 5), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"lam must be in \[0, 1\], got 1.5"):
        tet(m[None], target, lam=1.5)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got -1"):
        distillation(m, m, target, m, alpha=-1)
    with pytest.raises(ValueError, match="tau must be > 0, got 0.0. None for"):
        distillation(m, m, target, m, tau=0.0)
    with pytest.raises(ValueError, match=r"of one shape \[B, C\], got \(3, 5\), \(3, 5\), \(3, 9\). Are the teacher's"):
        distillation(m, m, target, torch.zeros(3, 9))
    with pytest.raises(ValueError, match="as many tensors of the teacher as of the student, got 1 and 2"):
        fine_grained_distillation([m[None]], [m[None], m[None]])
    with pytest.raises(ValueError, match=r"pair 1: .* heads and N .* got student \(2, 3, 5\), teacher \(2, 4, 5\)"):
        fine_grained_distillation([torch.zeros(2, 3, 5)] * 2, [torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)])


def test_the_losses_compile_in_one_piece():
    def all_of_them(o, target):
        of_steps = tet(o, target) + mean_cross_entropy(o, target, 0.1)
        return of_steps + distillation(o[0], o[1], target, o[2]) + fine_grained_distillation([o], [o.exp()])

    o, target = torch.randn(4, 3, 5), torch.tensor([4, 0, 2])
    fast = torch.compile(all_of_them, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(fast(o, target), all_of_them(o, target))
