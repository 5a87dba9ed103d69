"""Settings for the whole test suite; read before torch is imported."""

import os

# Two OpenMP threads in each of two workers on two cores fight for them: 48 small tests took 27 s instead of 5.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
