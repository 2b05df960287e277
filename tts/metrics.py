"""Prometheus metrics of synthesis; base units, prefix `tts_`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from serving.metrics import LATENCY_BUCKETS

CALL_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5)
"""Seconds."""


class TtsMetrics:
    """What synthesis did and how long it took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("tts_requests", "Requests by outcome", ["outcome"], registry=registry)
        self.characters = Counter("tts_characters", "Characters accepted", registry=registry)
        self.audio = Counter("tts_audio_seconds", "Audio queued for listeners", registry=registry)
        self.first_audio = Histogram(
            "tts_first_audio_seconds",
            "From a request's text accepted to its first audio queued",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.queue_wait = Histogram(
            "tts_queue_wait_seconds",
            "From a sentence queued to its start in the engine",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.front = Histogram(
            "tts_front_seconds",
            "Time of one call for text encoder and durations, phonemes included",
            buckets=CALL_BUCKETS,
            registry=registry,
        )
        self.chunk = Histogram(
            "tts_chunk_seconds",
            "Time of one call for flow and decoder",
            buckets=CALL_BUCKETS,
            registry=registry,
        )
        self.batch = Histogram(
            "tts_batch_chunks", "Chunks in one call", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.real_time_factor = Histogram(
            "tts_real_time_factor",
            "Time of one call for flow and decoder for a second of its audio",
            buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2),
            registry=registry,
        )
        self.rendered = Counter("tts_rendered_seconds", "Audio that the engine rendered", registry=registry)
        self.slack = Histogram(
            "tts_playback_slack_seconds",
            "Audio that a listener still had to play when the next chunk of it was ready; below 0 is a gap",
            buckets=(-5, -2, -1, -0.5, -0.2, -0.1, 0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20),
            registry=registry,
        )
        self.gaps = Counter("tts_gaps", "Chunks that came after their listener had run out of audio", registry=registry)
        self.gap = Counter("tts_gap_seconds", "Silence that listeners heard for that", registry=registry)

    def had_left(self, seconds: float) -> None:
        """A listener had so much audio left when the next chunk was ready; less than nothing is a gap."""
        self.slack.observe(seconds)
        if seconds < 0:
            self.gaps.inc()
            self.gap.inc(-seconds)

    def rendered_batch(self, spent: float, seconds: float, chunks: int) -> None:
        """One call made so many seconds of audio in so many chunks."""
        self.chunk.observe(spent)
        self.batch.observe(chunks)
        self.rendered.inc(seconds)
        if seconds:
            self.real_time_factor.observe(spent / seconds)


class VoiceMetrics:
    """Voices that come into memory and leave it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.loads = Counter("tts_voice_loads", "Voices loaded, by outcome", ["outcome"], registry=registry)
        self.evictions = Counter("tts_voice_evictions", "Voices that left to make room", registry=registry)
        self.load_seconds = Histogram(
            "tts_voice_load_seconds",
            "Time that a voice took to load, whatever came of it",
            buckets=(0.1, 0.2, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 60),
            registry=registry,
        )
