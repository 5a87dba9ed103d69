"""Networks of papers, one file each, registered with timm.

Importing this package loads timm and registers the models there: afterwards ``timm.create_model`` finds them, too.
"""

from snnkit.models._checkpoints import checkpoint_info, load_checkpoint, load_model, save_checkpoint
from snnkit.models._registry import create_model, list_models, variants
from snnkit.models.delay_snn import DelaySNN, FixedDelays, LearntDelays
from snnkit.models.delay_snn_plus import DelaySNNPlus
from snnkit.models.delrec import DelRecNet
from snnkit.models.fold import fold
from snnkit.models.max_former import MaxFormer
from snnkit.models.max_resnet import MaxResNet
from snnkit.models.meta_spikeformer import MetaSpikeFormer
from snnkit.models.ms_qkformer import MSQKFormer
from snnkit.models.qsd_transformer import QSDTransformer
from snnkit.models.radlif import RadLIFNet
from snnkit.models.se_adlif import SEAdLIFNet
from snnkit.models.spike_driven_transformer import SpikeDrivenTransformer
from snnkit.models.spikformer import Spikformer
from snnkit.models.unroll import unroll

__all__ = [
    "DelRecNet",
    "DelaySNN",
    "DelaySNNPlus",
    "FixedDelays",
    "LearntDelays",
    "MSQKFormer",
    "MaxFormer",
    "MaxResNet",
    "MetaSpikeFormer",
    "QSDTransformer",
    "RadLIFNet",
    "SEAdLIFNet",
    "SpikeDrivenTransformer",
    "Spikformer",
    "checkpoint_info",
    "create_model",
    "fold",
    "list_models",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
    "unroll",
    "variants",
]
