"""SpikingJelly 0.0.0.0.14's CuPy neurons, timed in a process of their own: a line of JSON for each size and dtype.

    python benchmarks/_spikingjelly_cupy.py FOLDER cuda:0 20 "[[4, 12800000]]"

``neurons.py`` runs it. FOLDER is where ``pip install --no-deps --target FOLDER spikingjelly==0.0.0.0.14`` put it. Its
kernels run on CuPy's own stream and are not seen by a CUDA graph, so there are eager times only.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])
import numpy
import torch
from _neuron_peers import Layer
from _neurons_cuda import CUPY, DTYPES, differs, drive, key, parts
from _timing import measure
from torch import Tensor

numpy.int = int  # it was written for numpy < 1.24


def cupy_lif() -> Layer:
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(2.0), step_mode="m", backend="cupy")

    def run(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    return run


def main() -> None:
    device, rounds = torch.device(sys.argv[2]), int(sys.argv[3])
    layer = cupy_lif()
    for T, N in json.loads(sys.argv[4]):
        for dtype in DTYPES:
            answer: dict[str, object] = {"key": key(T, N, dtype)}
            if dtype == torch.bfloat16:
                answer["said"] = f"{CUPY} has no bfloat16"
            else:
                x, g = drive(T, N, dtype, device)
                try:
                    reason = differs(layer, x, g)
                    if reason:
                        answer["said"] = f"no timings: {reason}"
                    else:
                        steps = parts(layer, x, g, [])
                        answer["times"] = measure(steps, rounds, device)
                except Exception as error:  # said in its row
                    answer["said"] = f"no timings: {type(error).__name__}: {str(error).strip().splitlines()[:1]}"
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
