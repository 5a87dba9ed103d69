"""Public sets that are a folder a class: CIFAR10-DVS, N-MNIST and N-Caltech101. Any number of their files will do.

CIFAR10-DVS (Li et al. 2017): 10,000 recordings of 128 x 128 pixels, 1,000 a class, no split of its own. The original is
ten archives of AEDAT 2.0 files; tonic's is AEDAT 4; SpikingJelly leaves ``events_np``. N-MNIST (Orchard et al. 2015):
60,000 and 10,000 of 34 x 34. N-Caltech101 (same): 8,709 of up to 180 x 240, no split of its own, 101 classes with
``BACKGROUND_Google``; the boxes (``annotation_*.bin``) are not recordings.
"""

from __future__ import annotations

import os

from snnkit.data.camera_event import Outside, refuse_outside
from snnkit.data.compose import Transform
from snnkit.data.event_folder import EventFolder
from snnkit.data.split_rule import SplitRule

CALTECH101 = tuple(
    """
    BACKGROUND_Google Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver binocular
    bonsai brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier
    cougar_body cougar_face crab crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly
    electric_guitar elephant emu euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone
    grand_piano hawksbill headphone hedgehog helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop
    llama lobster lotus mandolin mayfly menorah metronome minaret nautilus octopus okapi pagoda panda pigeon pizza
    platypus pyramid revolver rhino rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball
    stapler starfish stegosaurus stop_sign strawberry sunflower tick trilobite umbrella watch water_lilly
    wheelchair wild_cat windsor_chair wrench yin_yang
    """.split()
)


class PublicSet(EventFolder):
    """A set whose sensor and usual rule are known."""

    shape = (128, 128)
    usual_rule = "sj-9-1"

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        rule: str | SplitRule | None = None,
        transform: Transform | None = None,
        seed: int = 0,
        outside: Outside = refuse_outside,
        skip_bad: bool = False,
    ) -> None:
        super().__init__(root, split, rule or self.usual_rule, self.shape, transform, seed, outside, skip_bad)


class CIFAR10DVS(PublicSet):
    """``CIFAR10DVS(root, "train", rule="sj-9-1", transform=FramesByNumber())``; arguments as of ``EventFolder``.

    Class archives of AEDAT 2.0 are read in place, AEDAT 4 with the package ``aedat``, ``events_np`` as it is.
    """

    title = "CIFAR10-DVS"
    hint = (
        "CIFAR10-DVS is ten archives, airplane.zip to truck.zip, of 1,000 .aedat files each (figshare 4724671; MD5 of "
        "airplane.zip 0afd5c4bf9ae06af762a77b180354fdd): put them into this folder, they are read as they are."
    )
    folders = ("events_np", "CIFAR10DVS")
    known_classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    expected = {"recordings": (10_000,)}
    flip_keeps_class = True


class NMNIST(PublicSet):
    """``NMNIST(root, "train")``, the given split; arguments as of ``EventFolder``."""

    title = "N-MNIST"
    hint = (
        "N-MNIST is Train.zip (MD5 20959b8e626244a1b502305a9e6e2031) and Test.zip (69ca8762b2fe404d9b9bad1103e97832), "
        "with Train/0/00002.bin and so on inside: put them into this folder, they are read as they are."
    )
    folders = ("events_np", "NMNIST")
    known_classes = tuple("0123456789")
    expected = {"recordings": (60_000, 10_000)}
    shape = (34, 34)
    usual_rule = "given"


class NCaltech101(PublicSet):
    """``NCaltech101(root, "train", rule="sj-9-1")``; arguments as of ``EventFolder``. Coordinates are the file's.

    Classes are numbered in the order of the set's list. Some of them may be missing (papers leave out the background);
    the others are then numbered without a gap, and ``summary`` says that it is not the whole set.
    """

    title = "N-Caltech101"
    hint = (
        "N-Caltech101 is Caltech101.zip (MD5 66201824eabb0239c7ab992480b50ba3) with a folder of .bin files a class: "
        "put it into this folder, it is read as it is."
    )
    folders = ("events_np", "NCALTECH101", "Caltech101")
    known_classes = CALTECH101
    some_classes_do = True
    expected = {"recordings": (8709,)}
    flip_keeps_class = True
    shape = (180, 240)
