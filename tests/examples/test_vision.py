"""What the scripts for pictures and for event cameras share: the model of the options, and parts that hold samples."""

import torch
import train_cifar10dvs
import train_images
from _vision import build_model

DISTILLED = ("dims=(4, 4, 6, 8)", "depths=(1, 1)", "heads=2")


def test_a_head_to_distil_answers_apart_only_where_there_is_a_teacher():
    def answer(script, channels, **options):
        settings = script.Settings(
            model="meta_spikeformer_15m_dist", set=DISTILLED, size=32, steps=2, loss="mean", **options
        )
        model = build_model(settings, channels, 5, torch.device("cpu")).train()
        return model(torch.rand(2, 3, channels, 32, 32))

    assert answer(train_cifar10dvs, 2).shape == answer(train_images, 3).shape == (3, 5)
    assert [head.shape for head in answer(train_images, 3, teacher="resnet18")] == [(3, 5), (3, 5)]
