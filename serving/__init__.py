"""What both services share: connections, admission, listeners, health, metrics, audio, settings, shutdown."""

import os

# What native libraries read when they are loaded, so before any of them is. OpenBLAS (NumPy's) would start a thread a
# core and let them spin between calls: a fifth of a busy replica's time. ONNX Runtime would report its use.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# oneDNN would keep what it made for each length of window, a megabyte each, and lengths are seldom met again.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")
