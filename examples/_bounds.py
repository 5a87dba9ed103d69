"""Between which bounds the numbers of all scripts' options lie."""

import math
from dataclasses import asdict
from typing import Any

LEAST = {"seed": 0, "epochs": 1, "batch": 1, "workers": 0, "checkpoint_steps": 0, "stop_after": 0, "tail": 0}
LEAST |= {"triple": 0, "steps": 1, "merge": 1, "max_delay": 1, "kernel_count": 1, "warmup": 0}
LEAST |= {"size": 1, "accumulate": 1, "cooldown": 0, "crop_pad": 0, "mix_until": 0, "shift": 0}
POSITIVE = ("checkpoint_seconds", "step_ms", "lr", "lr_delay", "tau", "filter_tau", "sigma", "teacher_tau")
POSITIVE += ("window_ms", "surface_ms", "unit_us")
NOT_NEGATIVE = ("weight_decay", "min_lr", "warmup_lr", "clip_grad", "mixup", "cutmix", "log_std")
# With or without the ends: a network whose weights are all missing learns nothing, nothing held out chooses nothing.
SHARES = {"validation": "()", "dropout": "[)", "sparsity": "[)", "time_stretch": "[)", "sigma_share": "[]"}
SHARES |= {"smoothing": "[)", "ema": "[)", "layer_decay": "(]", "mix_probability": "[]", "mix_switch": "[]"}
SHARES |= {"crop": "(]"}
SHARES |= {"flip": "[]", "erase": "[]", "teacher_share": "[]", "tet_share": "[]"}


def check_settings(settings: Any) -> None:
    """Raise ValueError for a number that would end the run in the middle; to be called before anything is written."""
    values = {name: value for name, value in asdict(settings).items() if value is not None}
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if name in LEAST and value < LEAST[name]:
            raise ValueError(f"{option} must be at least {LEAST[name]}, got {value}.")
        least = ">" if name in POSITIVE else ">=" if name in NOT_NEGATIVE else None
        if least and not (0 < value < math.inf or (value == 0 and least == ">=")):
            raise ValueError(f"{option} must be {least} 0{' and finite' if value > 0 else ''}, got {value:g}.")
        if name in SHARES:
            left, right = SHARES[name]
            inside = 0 < value < 1 or (left == "[" and value == 0) or (right == "]" and value == 1)
            if not inside:
                raise ValueError(f"{option} must be a share in {left}0, 1{right}, got {value:g}.")
