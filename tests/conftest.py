"""What all tests share: one thread each, since threads cost more than they bring on matrices this small."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch and NumPy's BLAS are loaded, which is after this
