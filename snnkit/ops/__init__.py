"""Functions on tensors; each picks CUDA, compiled CPU or the plain PyTorch reference by the tensor it gets."""

from snnkit.ops.decompositions import decompositions as decompositions
from snnkit.ops.scan import path as path
from snnkit.ops.scan import scan as scan
from snnkit.ops.spike import spike as spike
