"""``accelerate``: SpikingJelly's models give the same answers from our kernels, and what stays behind is named."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnkit.interop._spikingjelly_surrogates import SURROGATES as SURROGATES_OF_OURS
from snnkit.interop.spikingjelly import Swapped, accelerate, restore
from snnkit.ops.reference import TensorValue
from tests.shared import ROOT, needs_compiler

neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
if not hasattr(neuron.LIFNode, "multi_step_functional_forward"):
    pytest.skip("accelerate needs SpikingJelly 2.0 or later", allow_module_level=True)
from spikingjelly.activation_based import base, functional, layer, surrogate  # noqa: E402
from spikingjelly.activation_based.model import sew_resnet, spiking_resnet  # noqa: E402

T, B, C = 6, 3, 5
NODES = {
    "IF": lambda **k: neuron.IFNode(**k),
    "LIF": lambda **k: neuron.LIFNode(tau=3.0, **k),
    "LIF, input not divided": lambda **k: neuron.LIFNode(tau=3.0, decay_input=False, **k),
    "PLIF": lambda **k: neuron.ParametricLIFNode(init_tau=3.0, **k),
    "PLIF, input not divided": lambda **k: neuron.ParametricLIFNode(init_tau=3.0, decay_input=False, **k),
}
SURROGATES = [
    surrogate.ATan(3.0), surrogate.Sigmoid(), surrogate.PiecewiseQuadratic(0.7), surrogate.PiecewiseExp(1.3),
    surrogate.SoftSign(1.7), surrogate.SuperSpike(0.6), surrogate.Erf(1.1), surrogate.NonzeroSignLogAbs(0.8),
    surrogate.PiecewiseLeakyReLU(0.6, 0.02), surrogate.S2NN(3.0, 0.7), surrogate.QPseudoSpike(2.3),
    surrogate.LeakyKReLU(0.1, 0.9), surrogate.FakeNumericalGradient(0.4), surrogate.LogTailedReLU(0.1),
    surrogate.DeterministicPass(), surrogate.Rect(0.9),
]  # fmt: skip
NO_FORM = {"SquarewaveFourierSeries", "MultiLevelSpikeCount", "PoissonPass"}


def swapped(model: nn.Module) -> nn.Module:
    """An accelerated copy, with nothing left behind."""
    model = copy.deepcopy(model)
    report = accelerate(model)
    assert report.swapped and not report.left
    return model


def two_calls(node: Any, x: Tensor, g: Tensor) -> list[Tensor]:
    """Output of two calls in a row without a reset, the membrane, and gradients of x and of the parameters."""
    x = x.clone().requires_grad_()
    once = (lambda: node(x)) if node.step_mode == "m" else (lambda: torch.stack([node(row) for row in x]))
    y = torch.cat([once(), once()])
    return [y, node.v, *torch.autograd.grad(y, [x, *node.parameters()], g)]


def assert_same(theirs: nn.Module, x: Tensor, loose_sum: float = 1e-4) -> None:
    """Equal outputs and membranes, close gradients, twice: from rest, and after ``reset_net``."""
    ours = swapped(theirs)
    g = torch.randn(2 * len(x), *x.shape[1:], dtype=x.dtype)
    for _ in range(2):
        (y, v, *want), (y_ours, v_ours, *got) = two_calls(theirs, x, g), two_calls(ours, x, g)
        assert torch.equal(y, y_ours) and torch.equal(v, v_ours) and 0 < y.mean() < 1
        bounds = [1e-5, *[loose_sum] * (len(want) - 1)]  # one number w sums terms of both signs, theirs in float32
        for expected, found, bound in zip(want, got, bounds, strict=True):
            assert (expected - found).norm() <= bound * expected.norm()
        functional.reset_net(theirs)
        functional.reset_net(ours)
        assert theirs.v == ours.v == (theirs.v_reset or 0.0)


def an_input(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(T, B, C, dtype=dtype) * 1.5 + 0.5


@pytest.mark.parametrize("make", NODES.values(), ids=NODES)
def test_each_neuron_gives_the_same_spikes_and_membranes_by_every_reset(make):
    torch.manual_seed(1)
    for v_reset, detach, mode in itertools.product([-0.25, None], [False, True], "sm"):
        keywords = {"v_reset": v_reset, "detach_reset": detach, "step_mode": mode}
        assert_same(make(surrogate_function=surrogate.ATan(), **keywords), an_input())
        assert_same(make(surrogate_function=surrogate.ATan(3.0), v_threshold=0.6, **keywords), an_input())


@pytest.mark.parametrize("of", [surrogate.Sigmoid(3.0), surrogate.PiecewiseExp(1.3), surrogate.S2NN(3.0, 0.7)])
def test_gradients_of_other_surrogates_are_theirs_also_in_float64(of):
    torch.manual_seed(2)
    node = neuron.ParametricLIFNode(surrogate_function=of, step_mode="m", v_reset=None, detach_reset=True)
    assert_same(node, an_input())
    assert_same(node.double(), an_input(torch.float64), 1e-9)


@pytest.mark.parametrize("theirs", SURROGATES, ids=lambda s: type(s).__name__)
def test_each_surrogate_has_the_same_derivative_also_on_its_borders(theirs):
    plain = type(theirs)(**dict.fromkeys(theirs._sg_params, 2.0))
    for surrogate_function in (theirs, plain):  # the borders of plain are exact numbers
        d = torch.tensor([-4.0, -2.0, -1.1, -1.0, -0.5, -0.25, -1e-3, 0.0, 1e-3, 0.25, 0.5, 1.0, 2.0, 4.0]).double()
        (want,) = torch.autograd.grad(surrogate_function(d.requires_grad_()).sum(), d)
        ours = SURROGATES_OF_OURS[type(theirs).__name__](**surrogate_function._sg_params)
        got = ours.derivative(TensorValue(d, d.dtype))
        torch.testing.assert_close(getattr(got, "tensor", torch.ones_like(d)), want, rtol=1e-12, atol=0)


def test_every_surrogate_of_theirs_is_mapped_or_named():
    classes = {
        c.__name__ for c in vars(surrogate).values()
        if isinstance(c, type) and issubclass(c, surrogate.SurrogateFunctionBase)
    }  # fmt: skip
    assert classes - {"SurrogateFunctionBase"} == {type(s).__name__ for s in SURROGATES} | NO_FORM


@pytest.mark.parametrize("make", [spiking_resnet.spiking_resnet18, sew_resnet.sew_resnet18])
def test_a_whole_network_gives_the_same_answer_and_loads_its_checkpoint(make):
    torch.manual_seed(3)
    keywords = {"cnf": "ADD"} if make is sew_resnet.sew_resnet18 else {}
    theirs = make(
        spiking_neuron=neuron.ParametricLIFNode, surrogate_function=surrogate.ATan(), detach_reset=True,
        num_classes=10, **keywords,
    )  # fmt: skip
    functional.set_step_mode(theirs, "m")
    ours = copy.deepcopy(theirs)
    parameters = dict(ours.named_parameters())
    report = accelerate(ours)
    nodes = [name for name, m in theirs.named_modules() if isinstance(m, neuron.ParametricLIFNode)]
    assert list(report.swapped) == nodes and len(nodes) >= 17 and not report.left
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(parameters[name] is parameter for name, parameter in ours.named_parameters())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 2, 3, 32, 32) * 3
    for _ in range(2):
        y, y_ours = theirs(x), ours(x)
        assert torch.equal(y, y_ours) and y.std() > 0
        y.square().sum().backward()
        y_ours.square().sum().backward()
        for (name, p), q in zip(theirs.named_parameters(), ours.parameters(), strict=True):
            assert (p.grad - q.grad).norm() <= 2e-4 * p.grad.norm() + 1e-7, name
        for net in (theirs, ours):
            functional.reset_net(net)
            net.zero_grad()


def test_the_node_stays_the_same_object_with_its_hooks_and_its_kind():
    seen = []
    model = nn.Sequential(layer.Linear(C, C), neuron.LIFNode())
    node = model[1]
    node.register_forward_hook(lambda module, inputs, output: seen.append(output))
    accelerate(model)
    assert model[1] is node and isinstance(node, neuron.LIFNode) and isinstance(node, base.MemoryModule)
    functional.set_step_mode(model, "m")
    model(torch.randn(T, B, C))
    assert node.step_mode == "m" and len(seen) == 1
    assert "SwappedLIFNode(" in repr(model) and "tau=2.0" in repr(model)


def test_the_membranes_of_all_steps_are_theirs():
    torch.manual_seed(4)
    x = an_input()
    for mode in "sm":
        theirs = neuron.LIFNode(step_mode=mode, store_v_seq=True, v_reset=None)
        ours = swapped(theirs)
        for node in (theirs, ours):
            for _ in range(2):
                node(x) if mode == "m" else [node(row) for row in x]
        assert torch.equal(ours.v_seq, theirs.v_seq) and torch.equal(ours.v, theirs.v)
        functional.reset_net(ours)
        assert ours.v_seq is None


def test_detach_net_cuts_the_graph_between_calls():
    x = an_input().requires_grad_()
    node = swapped(neuron.LIFNode(step_mode="m"))
    node(x)
    functional.detach_net(node)
    assert not node.v.requires_grad
    (g,) = torch.autograd.grad(node(x).sum(), x)
    assert g.norm() > 0


def test_a_batch_of_another_size_starts_anew_as_theirs_does():
    theirs = neuron.LIFNode(step_mode="m", v_reset=-0.5)
    ours = swapped(theirs)
    for batch in (3, 2):
        x = torch.randn(T, batch, C)
        assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.v, theirs.v)


def test_a_start_of_the_users_own_is_kept():
    theirs = neuron.LIFNode(step_mode="m")
    theirs.set_reset_value("v", 0.75)
    functional.reset_net(theirs)
    ours, x = swapped(theirs), an_input()
    assert ours.v == 0.75 and torch.equal(ours(x), theirs(x)) and torch.equal(ours.v, theirs.v)


def test_numbers_and_surrogates_that_change_later_are_followed():
    theirs = neuron.LIFNode(step_mode="m", surrogate_function=surrogate.ATan())
    ours = swapped(theirs)

    def alpha(node):
        node.surrogate_function.alpha = 5.0

    def threshold(node):
        node.v_threshold = 0.4

    def primitive(node):
        node.surrogate_function.set_spiking_mode(False)

    def squarewave(node):
        node.surrogate_function = surrogate.SquarewaveFourierSeries()

    for change in (alpha, threshold, primitive, squarewave):
        x = an_input().requires_grad_()
        answers = []
        for node in (theirs, ours):
            change(node)
            functional.reset_net(node)
            y = node(x)
            answers.append((y, torch.autograd.grad(y.square().sum(), x)[0]))
        (y, g), (y_ours, g_ours) = answers
        assert torch.equal(y, y_ours) and (g - g_ours).norm() <= 1e-5 * g.norm(), change.__name__


def test_functional_forward_starts_from_a_membrane_given_as_a_number():
    node = neuron.LIFNode(step_mode="m")
    accelerate(node)
    x = torch.rand(3, 2, 4)
    (s,), (v,) = node.multi_step_functional_forward((x,), (0.7,))
    (expected_s,), (expected_v,) = node.multi_step_functional_forward((x,), (torch.full((2, 4), 0.7),))
    assert torch.equal(s, expected_s) and torch.equal(v, expected_v)
    assert not torch.equal(v, node.multi_step_functional_forward((x,), (0.0,))[1][0])
    (_,), (v,) = node.multi_step_functional_forward((torch.zeros(1, 2, 4, dtype=torch.bfloat16),), (0.7,))
    assert v.dtype == torch.float32 and (v == torch.tensor(0.7) - torch.tensor(0.7) / 2).all()


def test_functional_forward_with_explicit_states_is_theirs():
    theirs = neuron.LIFNode(step_mode="m")
    ours, x, v = swapped(theirs), an_input(), torch.rand(B, C)
    for mode, given in (("m", x), ("s", x[0])):
        functional.set_step_mode(theirs, mode)
        functional.set_step_mode(ours, mode)
        ((s,), (after,)), ((s_ours,), (after_ours,)) = (
            base.to_functional_forward(node)((given,), (v,)) for node in (theirs, ours)
        )
        assert torch.equal(s, s_ours) and torch.equal(after, after_ours)
        assert isinstance(ours.v, float)


@pytest.mark.parametrize("shape", [(), (4,)])
def test_inputs_without_a_batch_are_theirs(shape):
    for mode in "sm":
        theirs = neuron.LIFNode(step_mode=mode)
        ours, x = swapped(theirs), torch.full((T, *shape), 1.5)[0 if mode == "s" else slice(None)]
        for _ in range(2):
            assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.v, theirs.v)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_membrane_in_float32(dtype):
    torch.manual_seed(5)
    x = an_input(dtype)
    for mode in "sm":
        node, exact = swapped(neuron.LIFNode(tau=3.0, step_mode=mode)), neuron.LIFNode(tau=3.0, step_mode=mode)
        rows = [x, x] if mode == "m" else x
        for row in rows:
            s, expected = node(row), exact(row.float())
            assert s.dtype == dtype and torch.equal(s.float(), expected)
        assert node.v.dtype == torch.float32 and torch.equal(node.v, exact.v)


def test_autocast_runs_a_network():
    model = swapped(nn.Sequential(layer.Linear(C, C, step_mode="m"), neuron.ParametricLIFNode(step_mode="m")))
    with torch.autocast("cpu", torch.bfloat16):
        s = model(torch.randn(T, B, C) * 5)
    assert s.dtype == torch.bfloat16 and model[1].v.dtype == torch.float32
    s.float().sum().backward()
    assert model[1].w.grad.isfinite() and model[0].weight.grad.norm() > 0


def test_copies_and_pickles_run_ours_and_keep_the_membrane():
    model = swapped(nn.Sequential(layer.Linear(C, C, step_mode="m"), neuron.ParametricLIFNode(step_mode="m")))
    x = an_input()
    with torch.no_grad():
        model(x)
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(saved, weights_only=False)]
    y = model(x)
    for other in copies:
        assert isinstance(other[1], Swapped) and torch.equal(other(x), y)


def test_a_pickle_loads_in_a_process_that_never_called_accelerate(tmp_path):
    model = swapped(nn.Sequential(neuron.LIFNode(step_mode="m")))
    path = tmp_path / "model.pt"
    torch.save(model, path)
    code = f"import torch; print(torch.load({str(path)!r}, weights_only=False))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "SwappedLIFNode(" in done.stdout, done.stderr


def test_restore_gives_back_their_own_node_with_its_membrane():
    theirs = neuron.LIFNode(step_mode="m")
    node, x = swapped(theirs), an_input()
    names = set(theirs.__dict__)
    assert torch.equal(node(x), theirs(x))
    restore(node)
    assert type(node) is neuron.LIFNode and set(node.__dict__) == names
    assert torch.equal(node(x), theirs(x)) and torch.equal(node.v, theirs.v)


class _Leaky(neuron.LIFNode):
    pass


class _Box(surrogate.Rect):
    pass


def test_what_cannot_be_swapped_is_named_with_the_reason_and_left_alone():
    nodes = {
        "subclass": (_Leaky(), "_Leaky is a subclass of LIFNode, whose step may differ"),
        "other": (neuron.KLIFNode(), "KLIFNode is not known to snnkit"),
        "parallel": (neuron.PSN(T=T), "PSN is not known to snnkit"),
        "wave": (neuron.IFNode(surrogate_function=surrogate.SquarewaveFourierSeries()), "has no form in snnkit"),
        "own": (neuron.IFNode(surrogate_function=_Box()), "surrogate _Box is not one of SpikingJelly's own classes"),
        "function": (neuron.IFNode(surrogate_function=surrogate.heaviside), "surrogate heaviside is not one of"),
        "smooth": (neuron.IFNode(surrogate_function=surrogate.ATan(spiking=False)), "gives the primitive"),
        "learnt": (
            neuron.IFNode(surrogate_function=surrogate.ATan(torch.tensor(2.0))),
            "surrogate ATan has a Tensor as alpha",
        ),
        "odd": (neuron.IFNode(surrogate_function=surrogate.ATan(-1.0)), "alpha must be > 0, got -1.0"),
        "channels": (neuron.ParametricLIFNode(), "w has the shape (5,) instead of one value"),
        "threshold": (neuron.IFNode(), "v_threshold is a Tensor, not a number"),
        "precise": (neuron.IFNode(), "a precision of its own"),
    }
    nodes["channels"][0].w = nn.Parameter(torch.zeros(5))
    nodes["threshold"][0].v_threshold = torch.ones(5)
    nodes["precise"][0]._neuron_precision = (torch.float16, "fp32", "fp32")
    model = nn.ModuleDict({name: node for name, (node, _) in nodes.items()} | {"good": neuron.IFNode()})
    kinds = {name: type(node) for name, node in model.items()}
    with pytest.warns(UserWarning, match=r"(?s)swapped: 1, left: 12.*parallel: PSN is not known"):
        report = accelerate(model)
    assert report.swapped == ("good",) and set(report.left) == set(nodes)
    for name, (node, reason) in nodes.items():
        assert reason in report.left[name] and type(node) is kinds[name]


def test_a_second_call_changes_nothing():
    model = nn.Sequential(neuron.LIFNode(step_mode="m"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert accelerate(model).swapped == accelerate(model).swapped == ("0",)
    assert type(model[0]).__mro__.count(Swapped) == 1
    model[0].v_threshold = torch.ones(())
    with pytest.warns(UserWarning, match="v_threshold is a Tensor"):
        assert not accelerate(model).swapped


def test_an_older_spikingjelly_is_refused_with_the_remedy(monkeypatch):
    for kind in neuron.LIFNode.__mro__:
        if "multi_step_functional_forward" in vars(kind):
            monkeypatch.delattr(kind, "multi_step_functional_forward")
    with pytest.raises(ImportError, match=r"needs SpikingJelly 2\.0 or later.*pip install -U spikingjelly"):
        accelerate(nn.Linear(1, 1))


def test_without_spikingjelly_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "spikingjelly.activation_based", None)
    with pytest.raises(ImportError, match="pip install 'spikingjelly>=2'"):
        accelerate(nn.Linear(1, 1))


def test_the_import_does_not_load_spikingjelly():
    code = "import snnkit; snnkit.interop.spikingjelly.accelerate; import sys; print('spikingjelly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@needs_compiler
def test_the_swapped_node_compiles_as_one_graph():
    theirs = neuron.LIFNode(step_mode="m")
    node, x = swapped(theirs), an_input()
    compiled = torch.compile(node, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        assert torch.equal(compiled(x), theirs(x)) and torch.equal(node.v, theirs.v)
