"""Prometheus metrics of recognition; base units, prefix `asr_`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from asr.engine import SAMPLE_RATE, Transcript
from serving.metrics import LATENCY_BUCKETS


class AsrMetrics:
    """What recognition did and how long it took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.audio = Counter("asr_audio_seconds", "Audio received", registry=registry)
        self.speech = Counter("asr_speech_seconds", "Audio in utterances", registry=registry)
        self.utterances = Counter("asr_utterances", "Utterances by outcome", ["outcome"], registry=registry)
        self.final_latency = Histogram(
            "asr_final_latency_seconds",
            "From the decision that an utterance ended to its final queued",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.speech_to_final = Histogram(
            "asr_speech_to_final_seconds",
            "From the end of an utterance's speech to its final queued",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.speculations = Counter(
            "asr_speculations",
            "Finals asked for at a pause: used, or in vain since speech went on",
            ["outcome"],
            registry=registry,
        )
        self.partials = Counter("asr_partials", "Partials sent", registry=registry)
        self.partials_dropped = Counter(
            "asr_partials_dropped", "Partials given up for a newer one or for the final", registry=registry
        )
        self.queue_wait = Histogram(
            "asr_queue_wait_seconds",
            "From a job queued to its start",
            ["kind"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.decode = Histogram(
            "asr_decode_seconds",
            "Time of one batch in the engine",
            ["kind"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.encoder = Counter(
            "asr_encoder_seconds",
            "Time that the model's encoder took, a part of the engine's",
            ["kind"],
            registry=registry,
        )
        self.encoder_in_vain = Counter(
            "asr_encoder_in_vain_seconds", "Those of speculations that came to nothing", registry=registry
        )
        self.real_time_factor = Histogram(
            "asr_real_time_factor",
            "Time of one batch in the engine for a second of its audio",
            ["kind"],
            buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2),
            registry=registry,
        )
        self.decoded_audio = Counter(
            "asr_decoded_audio_seconds", "Audio that the engine decoded", ["kind"], registry=registry
        )
        self.batch_size = Histogram(
            "asr_batch_size", "Requests in one batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.redone = Counter("asr_finals_redone", "Finals decoded again by the guard", registry=registry)
        self.vad_delay = Histogram(
            "asr_vad_delay_seconds",
            "From audio received to its speech probability",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.06, 0.1, 0.2, 0.5, 1, 5),
            registry=registry,
        )

    def decoded(self, kind: str, batch: int, samples: int, seconds: float, transcripts: list[Transcript]) -> None:
        """Account for one batch of `samples` of audio that took `seconds`."""
        self.batch_size.observe(batch)
        self.decode.labels(kind).observe(seconds)
        self.encoder.labels(kind).inc(sum(transcript.encoder_s for transcript in transcripts))
        self.decoded_audio.labels(kind).inc(samples / SAMPLE_RATE)
        self.real_time_factor.labels(kind).observe(seconds * SAMPLE_RATE / max(1, samples))
        self.redone.inc(sum(transcript.redone for transcript in transcripts))
