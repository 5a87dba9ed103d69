"""Events and spikes as time-first batches.

Readers (``SpikeHDF5``, ``Digits``) hand out events or frames, transforms turn the one into the other and vary them,
``InMemory``, ``OnDevice`` and ``DiskCache`` keep frames, ``EpochSampler`` orders an epoch and ``collate`` makes batches
``[T, B, C]`` with lengths. Every random draw is a function of (seed, epoch, sample).
"""

from snnkit.data.augment_channel import ChannelJitter, ChannelShift, NeuronMask
from snnkit.data.augment_clip import ClipCutout, ClipFlip, ClipRoll, ClipRotate, ClipShear, ClipTranslate
from snnkit.data.augment_event import event_drop, event_rpg
from snnkit.data.augment_recipe import snn_augment_wide, spike_driven_recipe, spikformer_recipe
from snnkit.data.augment_time import TimeMask, TimeShift, TimeStretch
from snnkit.data.binning import Bin, binned
from snnkit.data.cache import DiskCache
from snnkit.data.camera_event import camera_events, clip_outside, drop_outside, refuse_outside
from snnkit.data.collate import Batch, collate, step_mask
from snnkit.data.compose import Compose
from snnkit.data.dataset import Dataset, Part
from snnkit.data.digits import Digits
from snnkit.data.drop_event import DropArea, DropEvents, DropTime
from snnkit.data.dvs_camera import DVSCamera
from snnkit.data.dvs_gesture import DVSGesture
from snnkit.data.event import Microseconds, spike_events
from snnkit.data.event_file import read_events
from snnkit.data.event_folder import EventFolder
from snnkit.data.event_mix import EventMix
from snnkit.data.event_mixed import EventMixed
from snnkit.data.event_sets import CIFAR10DVS, NMNIST, NCaltech101
from snnkit.data.frames_by import FramesByNumber, FramesByTime
from snnkit.data.latency import latency_frames
from snnkit.data.log_mel import LogMel
from snnkit.data.memory import InMemory
from snnkit.data.mix import CutMix
from snnkit.data.mix_clips import MixClips
from snnkit.data.moved_picture import Diamond
from snnkit.data.moving_digits import MovingDigits
from snnkit.data.moving_pictures import MovingPictures
from snnkit.data.on_device import OnDevice
from snnkit.data.one_of import OneOf
from snnkit.data.provenance import provenance
from snnkit.data.sampler import EpochSampler
from snnkit.data.seed import batch_generator, generator
from snnkit.data.sequential_mnist import SequentialMNIST
from snnkit.data.speech_commands import SpeechCommands
from snnkit.data.spike_hdf5 import SpikeHDF5
from snnkit.data.split import split_stratified, split_validation
from snnkit.data.split_rule import SplitRule, split_rule
from snnkit.data.time_surface import TimeSurface
from snnkit.data.tonic_transform import Tonic
from snnkit.data.verify import verify_spike_file
from snnkit.data.voxel_grid import VoxelGrid
from snnkit.data.warp_event import EventFlip, EventRotate, EventScale, EventShear, EventTranslate

__all__ = [
    "Batch",
    "Bin",
    "CIFAR10DVS",
    "ChannelJitter",
    "ChannelShift",
    "ClipCutout",
    "ClipFlip",
    "ClipRoll",
    "ClipRotate",
    "ClipShear",
    "ClipTranslate",
    "Compose",
    "CutMix",
    "DVSCamera",
    "DVSGesture",
    "Dataset",
    "Diamond",
    "Digits",
    "DiskCache",
    "DropArea",
    "DropEvents",
    "DropTime",
    "EpochSampler",
    "EventFlip",
    "EventFolder",
    "EventMix",
    "EventMixed",
    "EventRotate",
    "EventScale",
    "EventShear",
    "EventTranslate",
    "FramesByNumber",
    "FramesByTime",
    "InMemory",
    "LogMel",
    "Microseconds",
    "MixClips",
    "MovingDigits",
    "MovingPictures",
    "NCaltech101",
    "NMNIST",
    "NeuronMask",
    "OnDevice",
    "OneOf",
    "Part",
    "SequentialMNIST",
    "SpeechCommands",
    "SpikeHDF5",
    "SplitRule",
    "TimeMask",
    "TimeShift",
    "TimeStretch",
    "TimeSurface",
    "Tonic",
    "VoxelGrid",
    "batch_generator",
    "binned",
    "camera_events",
    "clip_outside",
    "collate",
    "drop_outside",
    "event_drop",
    "event_rpg",
    "generator",
    "latency_frames",
    "provenance",
    "read_events",
    "refuse_outside",
    "snn_augment_wide",
    "spike_driven_recipe",
    "spike_events",
    "spikformer_recipe",
    "split_rule",
    "split_stratified",
    "split_validation",
    "step_mask",
    "verify_spike_file",
]


def __dir__() -> list[str]:
    """The names of the interface, without the files they lie in."""
    return __all__
