"""What NVML says of the GPU that this replica runs on."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


class Gpu:
    """One GPU. A container sees exactly one, by the device reservation."""

    def __init__(self, index: int = 0) -> None:
        """Raises `pynvml.NVMLError` where there is no driver or no such device."""
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = pynvml.nvmlDeviceGetName(self._handle)
        self.name = name.decode() if isinstance(name, bytes) else str(name)

    def read(self) -> dict[str, Any] | None:
        """Index, name, memory in MiB and utilisation in percent, as `/health` reports them; None if NVML fails."""
        try:
            return self._read()
        except self._nvml.NVMLError as error:
            log.warning("NVML can't be read: %s", error)
            return None

    def _read(self) -> dict[str, Any]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        return {
            "index": int(self._nvml.nvmlDeviceGetIndex(self._handle)),
            "name": self.name,
            "memory_used_mb": int(memory.used) // 2**20,
            "memory_total_mb": int(memory.total) // 2**20,
            "utilization": int(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu),
        }


def open_gpu(device: str) -> Gpu | None:
    """The GPU of a `cuda` replica, or None; a driver that can't be asked is logged and costs nothing else."""
    if device != "cuda":
        return None
    try:
        return Gpu()
    except Exception as error:
        log.warning("NVML can't be read, /health shows no GPU: %s", error)
        return None
