"""What a replica says of itself in its Prometheus metrics."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

METRICS_URL = "http://127.0.0.1:8001/metrics"
"""Of the first recognition replica."""
TTS_METRICS_URL = "http://127.0.0.1:8002/metrics"
"""Of the first synthesis replica."""

Metrics = dict[str, float]
"""Of a sample's name and labels (`asr_vad_delay_seconds_bucket,0.06`), the value."""


def read_metrics(url: str) -> Metrics:
    """Its metrics now. Raises `OSError`."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        ",".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
