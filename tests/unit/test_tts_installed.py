"""What the models folder holds: voices that can be used, and what is wrong with those that can't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tts.installed import Installed, read_card, scan

pytestmark = pytest.mark.unit

DESCRIPTION: dict[str, Any] = {
    "audio": {"sample_rate": 22050},
    "espeak": {"voice": "en-us"},
    "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
    "language": {"code": "en_US"},
    "num_symbols": 256,
    "num_speakers": 1,
    "speaker_id_map": {},
    "phoneme_id_map": {"_": [0], "^": [1], "$": [2], "a": [3]},
}


def install(models: Path, voice_id: str, described: object = DESCRIPTION, onnx: bytes = bytes(2**20)) -> Path:
    """A voice's folder, with what the test wants in it."""
    folder = models / f"piper-{voice_id}"
    folder.mkdir(parents=True, exist_ok=True)
    text = described if isinstance(described, bytes) else json.dumps(described).encode()
    (folder / f"{voice_id}.onnx.json").write_bytes(text)
    (folder / f"{voice_id}.onnx").write_bytes(onnx)
    return folder


def test_a_voice_is_told_without_loading_it(tmp_path: Path) -> None:
    """Language, sample rate, speakers, and what memory it will take; other models are none of ours."""
    install(tmp_path, "en_US-joe-medium")
    (tmp_path / "whisper-tiny.en").mkdir()
    (tmp_path / ".partial-piper-x").mkdir()
    found = scan(tmp_path, Installed())
    (card,) = found.cards.values()
    assert (card.id, card.language, card.sample_rate) == ("en_US-joe-medium", "en_US", 22050)
    assert (card.speakers, card.memory_mb) == (["0"], 1.45)
    assert found.broken == {}


def test_a_speaker_is_found_by_name_or_number(tmp_path: Path) -> None:
    """A name that looks like a number is a name; speakers without names have numbers."""
    several = DESCRIPTION | {"num_speakers": 3, "speaker_id_map": {"anna": 2, "bert": 1, "17": 0}}
    card = read_card(install(tmp_path, "named", several), "named")
    assert card.speakers == ["anna", "bert", "17"]
    assert [card.speaker_number(each) for each in (None, "anna", 2, "1", "17", 0)] == [0, 2, 2, 1, 0, 0]
    assert [card.speaker_number(each) for each in (3, -1, "3", "-1", "nobody", "", "²")] == [None] * 7
    nameless = read_card(install(tmp_path, "nameless", DESCRIPTION | {"num_speakers": 2}), "nameless")
    assert (nameless.speakers, nameless.speaker_number("1")) == (["0", "1"], 1)


@pytest.mark.parametrize(
    ("described", "told"),
    [
        (b"{", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b'{"x":' + b"[" * 200_000, "recursion"),
        (b" " * 2_000_000, "larger than"),
        ([], "Expected `object`"),
        ({**DESCRIPTION, "audio": {}}, "sample_rate"),
        ({**DESCRIPTION, "audio": {"sample_rate": 0}}, "sample_rate"),
        ({**DESCRIPTION, "audio": {"sample_rate": "22050"}}, "sample_rate"),
        ({**DESCRIPTION, "audio": {"sample_rate": 96000}}, "sample_rate"),
        ({**DESCRIPTION, "phoneme_id_map": {}}, "phoneme_id_map"),
        ({**DESCRIPTION, "phoneme_id_map": {"a": 1}}, "phoneme_id_map"),
        ({key: value for key, value in DESCRIPTION.items() if key != "phoneme_id_map"}, "phoneme_id_map"),
        ({**DESCRIPTION, "inference": {"length_scale": 0}}, "length_scale"),
        ({**DESCRIPTION, "speaker_id_map": {"anna": 1}}, "anna"),
        ({**DESCRIPTION, "num_speakers": 10**12}, "num_speakers"),
    ],
)
def test_a_broken_description_is_told_and_leaves_the_others(tmp_path: Path, described: object, told: str) -> None:
    """By file and key; nothing is raised."""
    install(tmp_path, "bad", described)
    install(tmp_path, "good")
    found = scan(tmp_path, Installed())
    assert list(found.cards) == ["good"]
    assert found.broken["bad"].startswith("bad.onnx.json")
    assert told in found.broken["bad"]


@pytest.mark.parametrize("missing", ["bad.onnx", "bad.onnx.json"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    """Without the path to it, which is nobody's business."""
    (install(tmp_path, "bad") / missing).unlink()
    assert scan(tmp_path, Installed()).broken == {"bad": f"{missing}: No such file or directory"}


def test_a_voice_that_did_not_change_keeps_its_card(tmp_path: Path) -> None:
    """One that was installed anew, as `python -m models fetch` does, or mended, gets another."""
    for name in ("same", "anew"):
        install(tmp_path, name)
    install(tmp_path, "mended", b"{")
    before = scan(tmp_path, Installed())
    install(tmp_path / "again", "anew")
    (tmp_path / "piper-anew").rename(tmp_path / "old")
    (tmp_path / "again" / "piper-anew").rename(tmp_path / "piper-anew")
    install(tmp_path, "mended")
    after = scan(tmp_path, before)
    assert after.cards["same"] is before.cards["same"]
    assert after.cards["anew"] is not before.cards["anew"]
    assert set(after.cards) == {"same", "anew", "mended"}


def test_no_models_folder_is_no_voices(tmp_path: Path) -> None:
    """The default's absence is told where it is asked for."""
    assert scan(tmp_path / "nowhere", Installed()) == Installed()
