"""What is told of a GPU, with a stand-in for NVML."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from serving.gpu import GPU_METRICS, Gpu, GpuCollector, open_gpu

pytestmark = pytest.mark.unit


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A driver with one GPU, on which this process and another run."""
    processes = [
        SimpleNamespace(pid=os.getpid(), usedGpuMemory=3 * 2**30),
        SimpleNamespace(pid=1 << 30, usedGpuMemory=2**30),
    ]
    module = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: b"H100",
        nvmlDeviceGetUUID=lambda handle: "GPU-1",
        nvmlDeviceGetIndex=lambda handle: 0,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=5 * 2**30, total=80 * 2**30),
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=42),
        nvmlDeviceGetTemperature=lambda handle, sensor: 61,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: processes,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def scraped(gpu: Gpu | None) -> str:
    """The metrics' text."""
    registry = CollectorRegistry()
    registry.register(GpuCollector(gpu))
    return generate_latest(registry).decode()


def test_a_gpu_is_told_in_base_units(nvml: SimpleNamespace) -> None:
    """By uuid and name: busy, memory, temperature, and what this process has of it."""
    values = {
        "gpu_utilization_ratio": 0.42,
        "gpu_memory_used_bytes": 5 * 2**30,
        "gpu_memory_total_bytes": 80 * 2**30,
        "gpu_temperature_celsius": 61,
        "gpu_process_memory_bytes": 3 * 2**30,
    }
    lines = scraped(Gpu()).splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    labels = '{gpu_name="H100",uuid="GPU-1"}'
    alike = {name.replace('{uuid="GPU-1",gpu_name="H100"}', labels): float(value) for name, value in told.items()}
    assert alike == {name + labels: value for name, value in values.items()}
    assert values.keys() == GPU_METRICS.keys()


@pytest.mark.parametrize(("visible", "index"), [("", 0), ("2", 2), ("1,0", 1), ("GPU-3", 0)])
def test_a_replica_tells_of_the_gpu_that_it_runs_on(
    nvml: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, visible: str, index: int
) -> None:
    """Of several the first that CUDA_VISIBLE_DEVICES names by its number; else the first of all."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nvml.nvmlDeviceGetIndex = lambda handle: handle
    gpu = open_gpu("cuda")
    assert gpu is not None
    told = gpu.read()
    assert told is not None
    assert told["index"] == index


def test_without_a_gpu_the_metrics_are_declared_and_have_no_value() -> None:
    """Dashboards and rules find the names in any scrape."""
    text = scraped(None)
    for name in GPU_METRICS:
        assert f"# TYPE {name} gauge" in text
    assert all(line.startswith("#") for line in text.splitlines())


def test_what_the_driver_does_not_tell_is_left_out(nvml: SimpleNamespace) -> None:
    """A sensor that is not supported, a container whose processes are hidden: the rest is told."""

    def unsupported(*_: Any) -> None:
        raise NVMLError("not supported")

    nvml.nvmlDeviceGetTemperature = unsupported
    nvml.nvmlDeviceGetComputeRunningProcesses = lambda handle: []
    gpu = Gpu()
    text = scraped(gpu)
    assert "gpu_temperature_celsius{" not in text
    assert "gpu_process_memory_bytes{" not in text
    assert "gpu_utilization_ratio{" in text
    assert gpu.read() is not None
