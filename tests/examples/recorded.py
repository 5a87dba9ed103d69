"""Small folders of event files for the tests of the scripts."""

import numpy as np


def write_events(root, per_class=20):
    """Recordings of two classes, told apart by where their events lie."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("left", "right")):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            n = 90 + i
            np.savez(
                root / name / f"{name}_{i}.npz", t=np.sort(rng.integers(0, 90_000, n)), y=rng.integers(0, 20, n),
                x=15 * number + rng.integers(0, 15, n), p=rng.integers(0, 2, n),
            )  # fmt: skip
    return root
