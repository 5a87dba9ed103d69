"""Fine-tuning as somebody who knows timm, and nothing about time steps, writes it."""

from __future__ import annotations

import torch
from timm import create_model
from timm.data import Mixup, resolve_data_config
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, accuracy

import snnkit.models  # noqa: F401  registers the models


def stripes(count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose class is the direction and the width of their stripes."""
    label = torch.randint(0, 10, (count,))
    along = torch.arange(size).float()
    waves = torch.sin(along[None] * (0.4 + 0.5 * (label // 2))[:, None] + 6 * torch.rand(count, 1))
    rows = waves[:, :, None].expand(-1, -1, size)
    image = torch.where((label % 2 == 0)[:, None, None], rows, rows.mT)
    return image[:, None] + 0.1 * torch.randn(count, 3, size, size), label


def test_a_plain_timm_loop_fine_tunes_a_model():
    torch.manual_seed(0)
    model = create_model(
        "max_former_10_384", num_classes=10, drop_path_rate=0.0, drop_rate=0.0,
        img_size=32, dims=(16, 16, 24), depths=(1, 1, 1), heads=4, steps=2,
    )  # fmt: skip
    assert model.num_classes == model.get_classifier().out_features == 10
    config = resolve_data_config({}, model=model)
    size = config["input_size"][-1]
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))

    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-2, weight_decay=0.05, layer_decay=0.75)
    scheduler, epochs = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=5, warmup_epochs=1, warmup_lr=1e-4, step_on_epochs=True
    )
    mixup = Mixup(mixup_alpha=0.2, cutmix_alpha=0.2, label_smoothing=0.1, num_classes=model.num_classes)
    criterion = SoftTargetCrossEntropy()
    ema = ModelEmaV3(model, decay=0.8)

    losses = []
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for _ in range(24):
            images, target = stripes(12, size)
            images, target = mixup((images * 0.2 + 0.5 - mean) / std, target)
            loss = criterion(model(images), target)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            ema.update(model)
            total += loss.item() / 24
        scheduler.step(epoch + 1)
        losses.append(total)
    assert losses[-1] < losses[0] - 0.2, losses

    model.eval()
    images, target = stripes(64, size)
    with torch.no_grad():
        images = (images * 0.2 + 0.5 - mean) / std
        for one in (model, ema.module):
            (top1,) = accuracy(one(images), target, topk=(1,))
            assert top1 > 20, (top1, losses)  # percent; 10 by chance
