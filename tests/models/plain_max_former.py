"""Max-Former and MS-QKFormer as their code has them, neuron first, written again as plain functions of a state dict.

For the networks that no fixture covers: sequences through the ImageNet network, and MS-QKFormer on events. Names are
the official ones, norms are in eval mode, x is ``[T, B, C, H, W]``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def lif(x: Tensor, threshold: float = 1.0) -> Tensor:
    """tau = 2, hard reset to 0."""
    v, spikes = torch.zeros_like(x[0]), []
    for step in x:
        v = v + (step - v) / 2
        spikes.append((v >= threshold).to(x.dtype))
        v = v * (1 - spikes[-1])
    return torch.stack(spikes)


def pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, x.shape[:2])


class Plain:
    """Layers by their official prefixes, e.g. ``conv(s, "stage1.0.mlp.fc1_conv", "stage1.0.mlp.fc1_bn")``."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, s: Tensor, conv: str, bn: str, stride: int = 1, groups: int = 1) -> Tensor:
        w, b = self.state[f"{conv}.weight"], self.state.get(f"{conv}.bias")
        y = F.conv2d(s.flatten(0, 1), w, b, stride, w.shape[-1] // 2, groups=groups)
        mean, var, gamma, beta = (self.state[f"{bn}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        y = (y - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt() * gamma[:, None, None] + beta[:, None, None]
        return y.unflatten(0, s.shape[:2])

    def embed(self, s: Tensor, name: str, stride: int = 1) -> Tensor:
        return self.conv(s, f"{name}.embed_conv", f"{name}.embed_bn", stride)

    def mlp(self, x: Tensor, name: str) -> Tensor:
        u = self.conv(lif(x), f"{name}.fc1_conv", f"{name}.fc1_bn")
        if u.shape == x.shape:
            x = u = x + u
        return x + self.conv(lif(u), f"{name}.fc2_conv", f"{name}.fc2_bn")

    def depthwise(self, x: Tensor, name: str, conv: str) -> Tensor:
        return x + self.conv(lif(x), f"{name}.{conv}", f"{name}.{conv}_bn", groups=x.shape[2])

    def attention(self, x: Tensor, name: str, heads: int, parts: str) -> Tensor:
        s = lif(x)
        split = [lif(self.conv(s, f"{name}.{p}_conv", f"{name}.{p}_bn")) for p in parts]
        tokens = [y.flatten(3).unflatten(2, (heads, -1)) for y in split]  # [T, B, heads, d, N]
        if parts == "qkv":
            q, k, v = (y.transpose(-1, -2) for y in tokens)
            a = lif((q @ (k.transpose(-1, -2) @ v) * 0.125).transpose(-1, -2).reshape(x.shape), 0.5)
        else:
            q, k = tokens
            a = (lif(q.sum(3, keepdim=True), 0.5) * k).reshape(x.shape)
        return x + self.conv(a, f"{name}.proj_conv", f"{name}.proj_bn")

    def head(self, x: Tensor) -> Tensor:
        s = lif(x.mean((-2, -1)))
        return (s @ self.state["head.weight"].T + self.state["head.bias"]).mean(0)


def max_former_imagenet(state: dict[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """One block in the first stage, two in the second, one in the third."""
    net = Plain(state)
    u = net.embed(x, "patch_embed1.embed1", stride=2)
    s = lif(u)
    u = net.embed(lif(net.embed(s, "patch_embed1.embed2", stride=2)), "patch_embed1.embed3")
    u = u + net.embed(s, "patch_embed1.embed4", stride=2)
    u = net.mlp(net.depthwise(u, "stage1.0.mixer", "conv5"), "stage1.0.mlp")
    for stage in (2, 3):
        s = lif(u)
        u = net.embed(lif(pool(net.embed(s, f"patch_embed{stage}.max_embed1"))), f"patch_embed{stage}.embed1")
        u = u + pool(net.embed(s, f"patch_embed{stage}.max_embed2"))
        if stage == 2:
            for i in range(2):
                u = net.mlp(net.depthwise(u, f"stage2.{i}.mixer", "conv"), f"stage2.{i}.mlp")
    return net.head(net.mlp(net.attention(u, "stage3.0.attn", heads, "qkv"), "stage3.0.mlp"))


def ms_qkformer_events(state: dict[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """One block a stage."""
    net = Plain(state)
    u = net.conv(x, "patch_embed1.proj_conv", "patch_embed1.proj_bn")
    s = lif(pool(net.embed(lif(u), "patch_embed1.max_embed1")))
    u = pool(net.embed(lif(pool(net.embed(s, "patch_embed1.max_embed2"))), "patch_embed1.max_embed3"))
    u = u + net.embed(s, "patch_embed1.embed1", stride=4)
    u = net.mlp(net.attention(u, "stage1.0.attn", heads, "qk"), "stage1.0.mlp")
    s = lif(u)
    u = pool(net.embed(lif(net.embed(s, "patch_embed2.embed1")), "patch_embed2.max_embed1"))
    u = u + net.embed(s, "patch_embed2.embed2", stride=2)
    return net.head(net.mlp(net.attention(u, "stage2.0.attn", heads, "qkv"), "stage2.0.mlp"))
