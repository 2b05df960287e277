"""What NVML says of the GPU that this replica runs on: for `/health`, and for `/metrics` as `gpu_…`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


class Gpu:
    """One GPU: the one that CUDA_VISIBLE_DEVICES names, else the first. Compose lets a container see no other."""

    def __init__(self, index: int = 0) -> None:
        """By nvidia-smi's number. Raises `pynvml.NVMLError` where there is no driver or no such device."""
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        self.name = _text(pynvml.nvmlDeviceGetName(self._handle))
        self.uuid = _text(pynvml.nvmlDeviceGetUUID(self._handle))

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

    def utilization(self) -> float:
        """Share of the last moments in which something ran, 0 to 1. Raises `pynvml.NVMLError`, as do those below."""
        return int(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100

    def memory_used(self) -> float:
        """Bytes, of every process together."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def memory_total(self) -> float:
        """Bytes."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total)

    def temperature(self) -> float:
        """Degrees Celsius."""
        return int(self._nvml.nvmlDeviceGetTemperature(self._handle, self._nvml.NVML_TEMPERATURE_GPU))

    def process_memory(self) -> float | None:
        """Bytes that this process has; None where the driver does not tell (old ones hide a container's processes)."""
        for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle):
            if process.pid == os.getpid() and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None


def open_gpu(device: str) -> Gpu | None:
    """The GPU of a `cuda` replica, or None; a driver that can't be asked is logged and costs nothing else."""
    if device != "cuda":
        return None
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    try:
        return Gpu(int(first) if first.isdecimal() else 0)
    except Exception as error:
        log.warning("NVML can't be read, neither /health nor /metrics shows a GPU: %s", error)
        return None


GPU_METRICS: dict[str, tuple[str, Callable[[Gpu], float | None]]] = {
    "gpu_utilization_ratio": ("Share of time in which the GPU ran something", Gpu.utilization),
    "gpu_memory_used_bytes": ("Memory of the GPU in use, by whomever", Gpu.memory_used),
    "gpu_memory_total_bytes": ("Memory of the GPU", Gpu.memory_total),
    "gpu_temperature_celsius": ("Temperature of the GPU", Gpu.temperature),
    "gpu_process_memory_bytes": ("Memory of the GPU that this replica has", Gpu.process_memory),
}


class GpuCollector(Collector):
    """The metrics of a GPU, by `uuid` and `gpu_name`; without a GPU they are declared and have no value."""

    def __init__(self, gpu: Gpu | None) -> None:
        self._gpu = gpu

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read at each scrape; what the driver can't tell is left out."""
        for name, (help_text, read) in GPU_METRICS.items():
            family = GaugeMetricFamily(name, help_text, labels=("uuid", "gpu_name"))
            value = self._value(read)
            if self._gpu is not None and value is not None:
                family.add_metric((self._gpu.uuid, self._gpu.name), value)
            yield family

    def _value(self, read: Callable[[Gpu], float | None]) -> float | None:
        if self._gpu is None:
            return None
        try:
            return read(self._gpu)
        except Exception as error:
            log.debug("NVML does not tell: %s", error)
            return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
