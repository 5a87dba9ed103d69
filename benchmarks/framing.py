"""Events to frames on one core, from memory: million events a second, snnkit beside SpikingJelly and tonic.

    python benchmarks/framing.py
    python benchmarks/framing.py --events 2000000 --steps 10 --size 64

A recording of a camera is made (uniform in time and place, in order), in the form that snnkit's readers give. Frames
are [T, 2, H, W]. The candidates take turns, the best of N counts, in processor time of one thread; other load on the
machine still costs cache, so the load average is printed. Before anything is printed, snnkit's frames by number and by
time are compared with SpikingJelly's. The last lines read the recording from the bytes of an AEDAT 2.0 file, without
and with framing.
"""

import argparse
import time

import numpy as np
import torch
from _timing import best, machine, titled

from snnkit.data import Bin, FramesByNumber, FramesByTime, TimeSurface, VoxelGrid, camera_events
from snnkit.data.aedat2 import MARK, aedat2_events

DURATION_US = 1_200_000


def recording(events: int, size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, DURATION_US, events))
    return camera_events(t, *(rng.integers(0, n, events) for n in (size, size, 2)), name="made")


def as_aedat2(events: np.ndarray) -> bytes:
    address = (127 - events["x"].astype(np.int64)) << 8 | (127 - events["y"].astype(np.int64)) << 1 | 1 - events["p"]
    return MARK + b"\r\n" + np.stack([address, events["t"]], 1).astype(">u4").tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000, help="of a recording (default: CIFAR10-DVS's)")
    parser.add_argument("--steps", type=int, default=16, help="frames T")
    parser.add_argument("--size", type=int, default=128, choices=range(1, 129), metavar="1..128", help="pixels a side")
    parser.add_argument("--rounds", type=int, default=30, help="best of so many")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    import tonic
    from spikingjelly.datasets.utils import integrate_events_by_fixed_frames_number

    T, S = arguments.steps, arguments.size
    events, sensor = recording(arguments.events, S), (2, S, S)
    columns = {key: np.ascontiguousarray(events[key]).astype(np.int64) for key in "txyp"}
    by_number, by_time = FramesByNumber(sensor, T), FramesByTime(sensor, T)
    window = Bin(sensor, -(-DURATION_US // T), steps=T)
    grid, surface = VoxelGrid((S, S), T), TimeSurface(sensor, T, DURATION_US // T)
    to_frame = tonic.transforms.ToFrame((S, S, 2), n_time_bins=T)
    data = as_aedat2(events)
    steps = {
        "by number": lambda: by_number(events),
        "by number, SpikingJelly": lambda: integrate_events_by_fixed_frames_number(columns, "number", T, S, S),
        "by time": lambda: by_time(events),
        "by time, SpikingJelly": lambda: integrate_events_by_fixed_frames_number(columns, "time", T, S, S),
        "by time, tonic ToFrame": lambda: to_frame(events),
        "fixed window (Bin)": lambda: window(events),
        "voxel grid": lambda: grid(events),
        "time surface": lambda: surface(events),
        "AEDAT 2.0 to events": lambda: aedat2_events(data, "made"),
        "AEDAT 2.0 to frames by number": lambda: by_number(aedat2_events(data, "made")),
    }
    for name in ("by number", "by time"):
        if not (steps[name]() == steps[f"{name}, SpikingJelly"]()).all():
            raise SystemExit(f"Frames {name} are not SpikingJelly's: no times of wrong numbers.")
    if window(events).sum() != len(events):
        raise SystemExit("Bin lost events: no times of wrong numbers.")

    seconds = best(steps, arguments.rounds, time.process_time)
    print(f"{titled(torch.device('cpu'))}, {machine()}")
    print(f"{len(events)} events to [{T}, 2, {S}, {S}], best of {arguments.rounds}\n")
    print(f"{'':32}{'ms':>9}{'M events/s':>12}")
    for name, taken in seconds.items():
        print(f"{name:32}{1e3 * taken:9.2f}{1e-6 * len(events) / taken:12.1f}")


if __name__ == "__main__":
    main()
