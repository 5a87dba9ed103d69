"""The named configurations of the search: a first guess, and changes of it, each an idea alone."""

from __future__ import annotations

from _spoken_events import Augment
from _spoken_training import Recipe

from snnkit.equations.surrogates import ATan
from snnkit.models.delay_snn_plus import AdLIFNeurons, LIFNeurons, Local, LogMeanExp
from snnkit.nn import MaxOverTime, SumOfSoftmax

BASE = Recipe(
    model=dict(hidden=(160, 160), max_delay=21, local=Local(16, 9, 5, 9), dropout=0.3, tail=10),
    augment=Augment(stretch=0.15, shift=4, transpose=35.0, warp=0.07, thin=0.25, colour=0.3),
)
NOTHING = dict(stretch=0.0, shift=0, transpose=0.0, warp=0.0, thin=0.0, colour=0.0)
CHANGES = dict(
    base={},
    # the network
    no_log=dict(log_input=False),
    no_local=dict(local=None, hidden=(224, 224)),
    pooled=dict(local=Local(24, 9, 4, 9, pool=2)),
    wide_window=dict(local=Local(16, 21, 5, 9)),
    adlif=dict(neuron=AdLIFNeurons()),
    recurrent=dict(recurrent=True),
    three_skip=dict(hidden=(120, 120, 120), skip=True),
    short_delays=dict(max_delay=11),
    sum_of_softmax=dict(readout=SumOfSoftmax),
    log_mean_exp=dict(readout=LogMeanExp),
    soft_surrogate=dict(neuron=LIFNeurons(surrogate=ATan(2.0)), local_neuron=LIFNeurons(surrogate=ATan(2.0))),
    # augmentation
    no_augment=NOTHING,
    no_voices=dict(transpose=0.0, warp=0.0),
    strong_voices=dict(transpose=60.0, warp=0.12),
    stronger_voices=dict(transpose=90.0, warp=0.2),
    bend=dict(bend=30.0),
    no_colour=dict(colour=0.0, thin=0.0),
    more_colour=dict(colour=0.7),
    strong_stretch=dict(stretch=0.3),
    noisy=dict(noise=0.04, jitter=6.0),
    masks=dict(time_mask=8, band_mask=120),
    mix=dict(mix=0.4),
    blend=dict(blend=0.4),
    cut=dict(cut=0.4),
    # training
    no_smoothing=dict(smoothing=0.0),
    longer=dict(epochs=200),
    batch_64=dict(batch=64),
    more_dropout=dict(dropout=0.5),
    # as far as time goes
    no_memory=dict(neuron=LIFNeurons(1.01), local_neuron=LIFNeurons(1.01)),
    long_delays=dict(max_delay=31),
    all_local_adlif=dict(neuron=AdLIFNeurons(), local_neuron=AdLIFNeurons()),
    adlif_recurrent=dict(neuron=AdLIFNeurons(), recurrent=True),
    two_copies=dict(kernel_count=2, hidden=(112, 112)),
    no_local_augment=dict(local=None, hidden=(224, 224), **NOTHING),
    steps_of_5_ms=dict(step_ms=5.0, max_delay=41, tail=20, local=Local(16, 9, 5, 17)),
    more_decay=dict(decay=0.1),
    low_rate=dict(lr=2e-3),
    max_over_time=dict(readout=MaxOverTime),
    delays_to_answer=dict(head_delay=15),
)  # fmt: skip
CONFIGS = {name: BASE.changed(**changes) for name, changes in CHANGES.items()}
FIRST = list(CHANGES)[: list(CHANGES).index("more_dropout") + 1]
