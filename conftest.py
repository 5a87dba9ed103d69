"""Settings for the whole test suite; read before torch is imported."""

import os

# Two OpenMP threads in each of two workers on two cores fight for them: 48 small tests took 27 s instead of 5.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")  # no window, also where a display is

import hypothesis  # noqa: E402

# A deadline for each example measures the load of the machine, not the code.
hypothesis.settings.register_profile("snnkit", deadline=None, print_blob=True)
hypothesis.settings.load_profile("snnkit")
