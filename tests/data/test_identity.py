import functools
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from snnkit.data import Bin, Compose, TimeMask
from snnkit.data.identity import identity


@dataclass(frozen=True)
class Scale:
    factor: float = 2.0

    def __call__(self, frames):
        return frames * self.factor


def halved(frames):
    return frames / 2


class Opaque:
    def __call__(self, frames):
        return frames


def test_equal_values_have_equal_identities():
    for make in (lambda: Bin(group=5), lambda: Compose(Bin(), Scale(3.0), halved), lambda: {"a": [1, (2.5, None)]}):
        assert identity(make()) == identity(make())


def test_every_argument_counts():
    values = [
        *(Bin(), Bin(group=5), Bin(window_us=5000), Bin(from_first_spike=False), Bin.as_published(), Bin((2, 8, 8))),
        *(
            Compose(),
            Compose(Bin(), Scale()),
            Compose(Scale(), Bin()),
            Compose(Bin(), Scale(3.0)),
            Compose(Bin(), halved),
        ),
        *(
            functools.partial(halved, 1),
            functools.partial(halved, 2),
            functools.partial(halved, frames=2),
            halved,
            np.sqrt,
        ),
        *(
            np.zeros(3),
            np.zeros((3, 1)),
            np.ones(3),
            np.zeros(3, np.float32),
            [1, 2],
            (1, 2),
            [1, "2"],
            "1",
            1,
            1.0,
            True,
        ),
        *(None, b"1", {"a": 1}, {"b": 1}, np.int8(1), np.dtype("int8"), Scale, TimeMask(), TimeMask(3), abs),
    ]
    texts = [identity(value) for value in values]
    assert len(set(texts)) == len(texts)


def local():
    def inner(frames):
        return frames

    return inner


@pytest.mark.parametrize(
    "value",
    [lambda frames: frames, local(), Opaque(), Compose(Bin(), lambda frames: frames), functools.partial(local(), 1)],
    ids=["lambda", "local function", "opaque object", "lambda in compose", "local in partial"],
)
def test_what_has_no_stable_identity_is_refused_with_the_remedy(value):
    with pytest.raises(TypeError, match="no stable identity.*(Write|write) (the transform|it) as a dataclass"):
        identity(value)


def test_state_beside_the_fields_is_refused():
    @dataclass
    class Hidden:
        size: int = 3

        def __post_init__(self):
            self.table = [1, 2]

    with pytest.raises(TypeError, match="state beside its fields .table."):
        identity(Hidden())


def test_a_changed_source_changes_the_identity(tmp_path, monkeypatch):
    texts = []
    monkeypatch.syspath_prepend(tmp_path)
    for name, factor in (("first_version", 2), ("second_version", 3)):
        source = "from dataclasses import dataclass\n\n\n@dataclass\nclass Grow:\n    def __call__(self, x):\n"
        (tmp_path / f"{name}.py").write_text(source + f"        return {factor} * x\n")
        texts.append(identity(__import__(name).Grow()).replace(name, "version"))
    assert texts[0] != texts[1]


def test_the_identity_is_the_same_in_another_process():
    code = "from snnkit.data import Bin, Compose, TimeMask; from snnkit.data.identity import identity"
    code += "; print(identity(Compose(Bin(group=5), TimeMask(3))))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.strip() == identity(Compose(Bin(group=5), TimeMask(3)))


def test_tonics_transforms_have_an_identity():
    transforms = pytest.importorskip("tonic.transforms")
    frame = functools.partial(transforms.ToFrame, sensor_size=(700, 1, 1))
    assert identity(frame(n_time_bins=5)) != identity(frame(n_time_bins=10))
