"""What a spiking vision model makes of a picture: feature maps of its stages and the firing rate of every layer.

  python examples/show_features.py                                        a Max-Former with random weights, features.png
  python examples/show_features.py max_former_10_384 cat.jpg --checkpoint 10-384-T4.pth.tar
  python examples/show_features.py spikformer_4_384_cifar10 --size 64

The model is built as timm builds any backbone: ``timm.create_model(name, features_only=True)``. Without a checkpoint
its weights are random, and the norms take the statistics of this picture: with fresh ones the deep layers are silent.
"""

import argparse
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import timm
import torch
from matplotlib.axes import Axes
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn

import snnkit.models
from snnkit.nn import firing_rates

Maps = list[tuple[str, Tensor]]  # a title and [C, H, W], for each stage


def build(name: str, size: int | None, checkpoint: Path | None) -> nn.Module:
    """The model as a backbone: images ``[B, 3, H, W]`` -> a map ``[B, C, H, W]`` a stage, its stream's mean over T."""
    backbone = timm.create_model(name, features_only=True, **({} if size is None else {"img_size": size}))
    if backbone.model.in_chans != 3:
        raise ValueError(f"{name} reads events of {backbone.model.in_chans} channels: choose a model for pictures.")
    if checkpoint is not None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* has a head that")  # a backbone has none
            source = snnkit.load_checkpoint(backbone.model, checkpoint).source
        print(f"weights: {checkpoint}, names of {source}")
    return backbone


def picture(file: Path | None) -> Image.Image:
    """A picture of yours, or a Chinese temple that comes with scikit-learn."""
    if file is not None:
        return Image.open(file).convert("RGB")
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))


def settle(model: nn.Module, x: Tensor) -> None:
    """Give each norm the statistics of what reaches it from x."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def look(backbone: nn.Module, x: Tensor) -> tuple[Maps, dict[str, float]]:
    """Feature maps of one image by stage, and firing rates by layer."""
    with torch.inference_mode(), firing_rates(backbone.model) as rates:
        maps = backbone.eval()(x)
    infos = backbone.feature_info.get_dicts()
    titles = [f"{i['module']}: {i['num_chs']} channels\n1/{i['reduction']} of the size" for i in infos]
    return list(zip(titles, [m[0].float() for m in maps], strict=True)), dict(rates)


def draw(name: str, steps: int, shown: Tensor, maps: Maps, rates: dict[str, float], channels: int, file: Path) -> None:
    """One picture: what the network sees, the maps below it, the rates at the right."""
    wide = 2.1 * channels + 1
    high = max(2.1 * (len(maps) + 1) + 0.5, 0.155 * len(rates) + 1.2)
    figure = plt.figure(figsize=(wide + 6, high), layout="constrained")
    grid = figure.add_gridspec(len(maps) + 1, channels + 1, width_ratios=[*[wide / channels] * channels, 6])
    axis = figure.add_subplot(grid[0, :channels])
    axis.imshow(shown.permute(1, 2, 0))
    axis.set(xticks=[], yticks=[], title=f"what the network sees: {shown.shape[2]} x {shown.shape[1]} pixels")
    for row, (title, stage) in enumerate(maps, 1):
        draw_stage([figure.add_subplot(grid[row, column]) for column in range(channels)], title, stage)
    draw_rates(figure.add_subplot(grid[:, channels]), rates)
    figure.suptitle(f"{name}: feature maps (the stream u, mean over {steps} time steps) and firing rates")
    figure.savefig(file, dpi=100)
    plt.close(figure)
    print(f"written: {file}")


def draw_stage(axes: list[Axes], title: str, stage: Tensor) -> None:
    """The channels of a stage that vary most over the picture, on one scale of colours."""
    chosen = stage.flatten(1).std(1).argsort(descending=True, stable=True)[: len(axes)].sort().values
    low, high = stage[chosen].min().item(), stage[chosen].max().item()
    for axis in axes:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for axis, channel in zip(axes, chosen.tolist(), strict=False):
        image = axis.imshow(stage[channel], vmin=low, vmax=high)
        axis.set_title(f"channel {channel}", fontsize=9)
    axes[0].set_ylabel(title, fontsize=9)
    axes[0].figure.colorbar(image, ax=axes, label="u (a neuron fires at 1)", pad=0.01)


def draw_rates(axis: Axes, rates: dict[str, float]) -> None:
    """A bar a layer, the first at the top; silent layers are marked."""
    places = range(len(rates))
    axis.barh(places, list(rates.values()), color="tab:blue")
    silent = [place for place, rate in zip(places, rates.values(), strict=True) if rate == 0]
    if silent:
        axis.plot([0] * len(silent), silent, "x", color="tab:red", clip_on=False, label="silent")
        axis.legend(loc="lower right")
    axis.set_yticks(places, list(rates), fontsize=7)
    axis.set(xlim=(0, max([*rates.values(), 0.01]) * 1.05), ylim=(len(rates) - 0.4, -0.6))
    axis.set(xlabel="spikes a neuron and step", title="firing rate by layer")
    axis.grid(axis="x", alpha=0.3)


def main() -> None:
    """Build, look, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="max_former_10_384", help="its name: python -m snnkit list")
    parser.add_argument("picture", nargs="?", type=Path, help="a file; default: a picture of scikit-learn")
    parser.add_argument("--checkpoint", type=Path, help="weights: a paper's file or one of snnkit")
    parser.add_argument("--size", type=int, help="pixels of a side; default: as the model was published")
    parser.add_argument("--channels", type=int, default=4, help="maps a stage")
    parser.add_argument("--seed", type=int, default=0, help="of random weights")
    parser.add_argument("--plot", type=Path, default=Path("features.png"), help="where the picture goes")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    try:
        backbone = build(args.model, args.size, args.checkpoint)
        seen = picture(args.picture)
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"{error}") from error
    config = resolve_data_config({}, model=backbone.model)
    x = create_transform(**config)(seen)[None]
    if args.checkpoint is None:
        settle(backbone, x)
    maps, rates = look(backbone, x)
    for layer, rate in rates.items():
        print(f"{rate:6.3f}  {layer}")
    print(f"{sum(rates.values()) / len(rates):6.3f}  mean of {len(rates)} layers, spikes a neuron and step")
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    title = args.model if args.checkpoint else f"{args.model} with random weights"
    draw(title, backbone.model.steps, (x[0] * std + mean).clamp(0, 1), maps, rates, args.channels, args.plot)


if __name__ == "__main__":
    main()
