"""Whether `hotwords` and `prompt` help rare names, and what they cost other words.

    python -m benchmarks.asr_hotwords

The running stack speaks sentences with names that a small recogniser hardly knows, and hears them: without a word of
help, with the sentence's own names as hotwords, with them as a prompt, with the names of all sentences as hotwords,
and with the names of another sentence, which should change nothing. faster-whisper gets the same audio and hotwords.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.asr_accuracy import find_weights, served_model
from benchmarks.speech import errors_of
from chorus.commands.common import explain
from chorus.connect import ASR_URL, TTS_URL
from chorus.errors import ChorusError
from chorus.sources import from_bytes
from chorus.speech import speak
from chorus.transcription import transcribe

HERE = Path(__file__).resolve().parent
SAMPLE_RATE = 16000
SENTENCES = {
    "Please put me through to Mister Okonkwo in accounting.": ["Okonkwo"],
    "I would like to speak with Doctor Szymanski about my results.": ["Szymanski"],
    "The package for Siobhan Gallagher arrived this morning.": ["Siobhan", "Gallagher"],
    "We are moving the database to Postgres and Kubernetes next week.": ["Postgres", "Kubernetes"],
    "My prescription is for Lisinopril, ten milligrams.": ["Lisinopril"],
    "Could you book a table at Osteria Francescana for Friday?": ["Osteria", "Francescana"],
    "The meeting with Anneliese Krueger has been moved to three.": ["Anneliese", "Krueger"],
    "Tell Xiomara that the invoice is ready.": ["Xiomara"],
    "I am calling about the Vexatron contract.": ["Vexatron"],
    "Our new product is called Quilora, and it ships in May.": ["Quilora"],
    "She takes Metformin and Atorvastatin every evening.": ["Metformin", "Atorvastatin"],
    "The flight to Reykjavik leaves at noon.": ["Reykjavik"],
    "Please spell Thibodeaux for me again.": ["Thibodeaux"],
    "Nguyen and Tran will join the call at four.": ["Nguyen", "Tran"],
    "We deploy with Ansible, Terraform and Grafana.": ["Ansible", "Terraform", "Grafana"],
    "The patient was given Clopidogrel after the operation.": ["Clopidogrel"],
    "Mister Papadopoulos owns the house on Main Street.": ["Papadopoulos"],
    "The Zyphrex update broke our printers.": ["Zyphrex"],
    "Can you connect me to Wojciech in the Gdansk office?": ["Wojciech", "Gdansk"],
    "Kowalczyk signed the papers yesterday.": ["Kowalczyk"],
}
NAMES = list(SENTENCES.values())
HELP: dict[str, tuple[str, Callable[[int], list[str]]]] = {
    "nothing": ("hotwords", lambda _: []),
    "its own names as hotwords": ("hotwords", lambda at: NAMES[at]),
    "its own names as prompt": ("prompt", lambda at: NAMES[at]),
    "the names of all sentences as hotwords": ("hotwords", lambda _: [name for names in NAMES for name in names]),
    "another sentence's names as hotwords": ("hotwords", lambda at: NAMES[at - 1]),
}
"""What the recogniser is told, as which setting, by the number of the sentence."""


@dataclass(frozen=True)
class Row:
    """One system with one kind of help."""

    system: str
    told: str
    names_heard: int
    names: int
    other_words_wer_percent: float
    """Of the sentences without their names."""


async def spoken_by(url: str) -> list[bytes]:
    """The audio of all sentences, the same each time."""
    return [
        (await speak(text, url, sample_rate=SAMPLE_RATE, noise_scale=0, noise_w_scale=0)).audio for text in SENTENCES
    ]


async def heard_by_stack(audio: list[bytes], url: str, told: str) -> list[str]:
    """What the stack hears."""
    setting, names = HELP[told]
    texts = []
    for at, each in enumerate(audio):
        settings = {setting: ", ".join(names(at))} if names(at) else {}
        texts.append((await transcribe(from_bytes(each, SAMPLE_RATE), url, interim_results=False, **settings)).text)
    return texts


def heard_by_faster_whisper(audio: list[bytes], weights: Path, told: str) -> list[str]:
    """What the library hears that a user would pick instead."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(weights), device="cpu", compute_type="int8")
    setting, names = HELP[told]
    texts = []
    for at, each in enumerate(audio):
        samples = np.frombuffer(each, "<i2").astype(np.float32) / 32768
        given = {"initial_prompt" if setting == "prompt" else "hotwords": ", ".join(names(at)) or None}
        segments, _ = model.transcribe(samples, language="en", beam_size=5, **given)
        texts.append(" ".join(segment.text.strip() for segment in segments))
    return texts


def judge(system: str, told: str, texts: list[str]) -> Row:
    """Count the names that came out as written; of the rest, the word error rate."""
    heard = sum(name.lower() in text.lower() for names, text in zip(NAMES, texts, strict=True) for name in names)
    other = errors_of(
        (_without(said, names) for said, names in zip(SENTENCES, NAMES, strict=True)),
        (_without(text, names) for text, names in zip(texts, NAMES, strict=True)),
    )
    return Row(system, told, heard, sum(map(len, NAMES)), other.wer_percent)


def _without(text: str, names: list[str]) -> str:
    return re.sub("|".join(names), "", text, flags=re.IGNORECASE)


def main() -> int:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description="Rare names with and without hotwords.")
    parser.add_argument("--asr-url", default=ASR_URL)
    parser.add_argument("--tts-url", default=TTS_URL)
    parser.add_argument("--weights", type=Path, help="default: the stack's model in MODELS_DIR")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "asr_hotwords", help="without suffix")
    asked = parser.parse_args()
    try:
        audio = asyncio.run(spoken_by(asked.tts_url))
        model = asyncio.run(served_model(asked.asr_url))
        weights = find_weights(model, asked.weights)
        rows = [judge("Chorus", told, asyncio.run(heard_by_stack(audio, asked.asr_url, told))) for told in HELP]
    except (ChorusError, OSError) as error:
        print(explain(error, asked.asr_url), file=sys.stderr)
        return 1
    rows += [judge("faster-whisper, beam 5", told, heard_by_faster_whisper(audio, weights, told)) for told in HELP]
    spoken = f"{len(SENTENCES)} sentences with {rows[0].names} names, spoken by the stack"
    lines = [
        f"{spoken}; {model}, int8; {machine.in_words()}",
        "",
        "| system | told | names heard | WER % of the other words |",
        "| --- | --- | ---: | ---: |",
        *(
            f"| {row.system} | {row.told} | {row.names_heard} of {row.names} | {row.other_words_wer_percent:.1f} |"
            for row in rows
        ),
    ]
    print("\n".join(lines))
    text = "\n".join(lines) + "\n"
    machine.write_result(asked.output, text, {"model": model, "rows": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
