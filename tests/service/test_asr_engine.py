"""The recogniser and the voice detector on real speech, without the service around them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
from faster_whisper import WhisperModel
from whisper_normalizer.english import EnglishTextNormalizer

from asr.engine import SAMPLE_RATE, Context, Options, Request, Transcript, Word
from asr.mel import MelCache
from asr.vad import HOP, SileroVad
from asr.whisper import WhisperEngine
from benchmarks import noises
from serving.audio import Samples
from tests.conftest import DATA
from tests.service.multilingual import LANGUAGES, make_multilingual

pytestmark = pytest.mark.model

ENGLISH = Options(language=None)
CLIPS = [json.loads(line) for line in (DATA / "speech" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def engine(models_dir: Path) -> WhisperEngine:
    """The CPU's default model."""
    path = models_dir / "whisper-tiny.en"
    return WhisperEngine(path, device="cpu", compute_type="int8", workers=1, threads=0, beam_size=5)


@pytest.fixture(scope="module")
def vad(models_dir: Path) -> SileroVad:
    """The voice detector."""
    return SileroVad(models_dir / "silero-vad")


def read(clip: dict[str, str]) -> Samples:
    """The samples of a clip."""
    samples, rate = soundfile.read(DATA / "speech" / clip["audio"], dtype="float32")
    assert rate == SAMPLE_RATE
    return np.asarray(samples, np.float32)


def final(engine: WhisperEngine, samples: Samples, context: Context | None = None) -> Transcript:
    """The words of one utterance for good."""
    return engine.transcribe([Request(samples, True, ENGLISH, context=context)])[0]


def errors(reference: str, hypothesis: str) -> float:
    """Word error rate after Whisper's English normalisation."""
    normalise = EnglishTextNormalizer()
    return float(jiwer.wer(normalise(reference), normalise(hypothesis)))


def test_a_batch_hears_what_each_hears_alone(engine: WhisperEngine) -> None:
    """Utterances of different lengths share an encoder window and still read the same, in their order."""
    normalise = EnglishTextNormalizer()
    requests = [Request(read(clip), True, ENGLISH) for clip in CLIPS[:5]]
    alone = [normalise(engine.transcribe([request])[0].text) for request in requests]
    assert [normalise(each.text) for each in engine.transcribe(requests)] == alone


def test_a_batch_of_unlike_prompts_keeps_its_order(engine: WhisperEngine) -> None:
    """Prompts of different lengths can't be decoded together; each result still finds its request."""
    prompts = ["", "The fence.", "A lobster, however, is a crayfish.", "", "The fence."]
    requests = [
        Request(read(clip), True, Options(None, prompt=prompt)) for clip, prompt in zip(CLIPS, prompts, strict=False)
    ]
    normalise = EnglishTextNormalizer()
    alone = [normalise(engine.transcribe([request])[0].text) for request in requests]
    assert [normalise(each.text) for each in engine.transcribe(requests)] == alone


def test_the_clips_are_heard(engine: WhisperEngine) -> None:
    """Whole clips, short windows: less than one word in seven wrong, and each with a plausible confidence."""
    heard = [final(engine, read(clip)) for clip in CLIPS]
    assert errors(" ".join(clip["text"] for clip in CLIPS), " ".join(each.text for each in heard)) < 1 / 7
    assert all(0.3 < each.confidence <= 1 and each.language == "en" for each in heard)


def test_nothing_is_said_twice_behind_a_short_utterance(engine: WhisperEngine) -> None:
    """What the silence behind a window is for: without it some clips are read twice over."""
    for clip in CLIPS:
        words = len(final(engine, read(clip)).text.split())
        assert words < 1.4 * len(clip["text"].split()) + 2


def test_unsure_words_are_looked_at_once_where_there_is_no_time(engine: WhisperEngine) -> None:
    """Speech in noise twice as loud: some of it is decoded again, less where only what loops is to be."""
    noise = np.random.default_rng(1)
    loud = [(clip + noise.normal(0, 2 * clip.std(), len(clip))).astype(np.float32) for clip in map(read, CLIPS)]
    twice = [final(engine, each) for each in loud]
    once = [engine.transcribe([Request(each, True, ENGLISH, look_again=False)])[0] for each in loud]
    assert sum(each.redone for each in twice) > sum(each.redone for each in once)


def test_features_of_partials_serve_the_final(engine: WhisperEngine) -> None:
    """An utterance's cache changes no word, though the final ends before the newest partial did."""
    samples, features = read(CLIPS[0]), MelCache()
    for end in range(SAMPLE_RATE, len(samples), SAMPLE_RATE):
        engine.transcribe([Request(samples[:end], False, ENGLISH, features)])
    shorter = samples[:-3000]
    cached = engine.transcribe([Request(shorter, True, ENGLISH, features)])[0]
    assert cached.text == final(engine, shorter).text


def test_a_partial_tells_its_other_readings(engine: WhisperEngine) -> None:
    """They are what a stable prefix is made from."""
    partial = engine.transcribe([Request(read(CLIPS[1])[: 2 * SAMPLE_RATE], False, ENGLISH)])[0]
    assert partial.text
    assert len(partial.alternatives) == 2


def test_context_goes_before_and_is_not_said_again(engine: WhisperEngine) -> None:
    """The second half of a sentence in the context of the first: only its own words come back."""
    clip = next(clip for clip in CLIPS if clip["text"].startswith("some sung out"))
    samples = read(clip)
    middle = 3 * SAMPLE_RATE
    first = final(engine, samples[:middle])
    second = final(engine, samples[middle:], Context(samples[:middle], first.text))
    assert errors(clip["text"], f"{first.text} {second.text}") < 0.4
    assert len(second.text.split()) < len(clip["text"].split())


@pytest.mark.parametrize("before", [False, True], ids=["alone", "after speech"])
@pytest.mark.parametrize("kind", ["digital silence", "white noise, -26 dB", "typing"])
def test_no_words_where_nobody_speaks(engine: WhisperEngine, kind: str, before: bool) -> None:
    """Even where the voice detector was deceived, and even with somebody's words right before."""
    sound = noises.sound(kind, 2)
    speech = read(next(clip for clip in CLIPS if clip["text"].startswith("why did you")))
    context = Context(speech, final(engine, speech).text) if before else None
    heard = final(engine, sound, context)
    assert (heard.text, heard.confidence) == ("", 0.0)
    assert engine.transcribe([Request(sound, False, ENGLISH)])[0].text == ""


@pytest.mark.parametrize("seconds", [8, 24])
def test_barks_are_no_words(engine: WhisperEngine, seconds: int) -> None:
    """The model is sure of "Whoa! Whoa! Whoa!", and at the same time that there is no speech."""
    barks = noises.sound("a dog barking", 45)[-seconds * SAMPLE_RATE :]
    assert final(engine, barks).text == ""


def test_lone_words_are_not_taken_for_noise(engine: WhisperEngine) -> None:
    """Two words by themselves, under a second with the silence before them."""
    clip = next(clip for clip in CLIPS if clip["text"].startswith("i have none"))
    assert final(engine, read(clip)[: int(0.9 * SAMPLE_RATE)]).text == "I have"


def starts(words: Sequence[Word]) -> list[float]:
    return [word.start for word in words]


def test_words_are_timed_as_faster_whisper_times_them(engine: WhisperEngine, models_dir: Path) -> None:
    """The same alignment on short windows: but for silence at their edges, words begin at the same times."""
    reference = WhisperModel(str(models_dir / "whisper-tiny.en"), device="cpu", compute_type="int8", cpu_threads=1)
    timed = Options(language=None, words=True)
    heard = engine.transcribe([Request(read(clip), True, timed) for clip in CLIPS])  # of many lengths, in one batch
    apart = []
    for clip, transcript in zip(CLIPS, heard, strict=True):
        segments, _ = reference.transcribe(read(clip), language="en", beam_size=5, word_timestamps=True)
        theirs = [(word.word.strip(), word.start) for segment in segments for word in segment.words or ()]
        ours = [(word.text, word.start) for word in transcript.words]
        matcher = SequenceMatcher(None, [word for word, _ in ours], [word for word, _ in theirs], autojunk=False)
        pairs = [(ours[m.a + i], theirs[m.b + i]) for m in matcher.get_matching_blocks() for i in range(m.size)]
        assert len(pairs) > 0.7 * len(ours)
        apart += [abs(mine[1] - other[1]) for mine, other in pairs]
    assert np.median(apart) <= 0.02
    assert np.percentile(apart, 80) <= 0.06


def test_a_word_after_a_pause_begins_with_its_sound(engine: WhisperEngine) -> None:
    """Silence belongs to no word, though the alignment gives it to the word behind it."""
    clip = next(clip for clip in CLIPS if clip["text"].startswith("why did you"))
    samples = np.concatenate((np.zeros(SAMPLE_RATE, np.float32), read(clip)))
    first = engine.transcribe([Request(samples, True, Options(None, words=True))])[0].words[0]
    loud = np.flatnonzero(np.abs(samples) > 0.02)[0] / SAMPLE_RATE
    assert first.text == "Why"
    assert first.start == pytest.approx(loud, abs=0.06)


def test_timed_words_are_the_text(engine: WhisperEngine) -> None:
    """In order, one after the other, sure or less sure; a partial has none."""
    timed = Options(language=None, words=True)
    samples = read(CLIPS[0])
    heard = engine.transcribe([Request(samples, True, timed)])[0]
    assert " ".join(word.text for word in heard.words) == heard.text
    assert starts(heard.words) == sorted(starts(heard.words))
    assert all(0 <= word.start <= word.end <= len(samples) / SAMPLE_RATE for word in heard.words)
    assert all(0 < word.confidence <= 1 for word in heard.words)
    assert engine.transcribe([Request(samples, False, timed)])[0].words == ()


def test_words_heard_in_context_are_timed_by_their_own_audio(engine: WhisperEngine) -> None:
    """The audio before them moves them by no more than a few hundredths of a second."""
    clip = next(clip for clip in CLIPS if clip["text"].startswith("some sung out"))
    samples, middle = read(clip), 3 * SAMPLE_RATE
    timed = Options(language=None, words=True)
    before = Context(samples[:middle], final(engine, samples[:middle]).text)
    alone = engine.transcribe([Request(samples[middle:], True, timed)])[0].words
    after = engine.transcribe([Request(samples[middle:], True, timed, context=before)])[0].words
    common = [(one.start, other.start) for one in alone for other in after if one.text == other.text]
    assert len(common) > 2
    assert np.median([abs(one - other) for one, other in common]) < 0.1


@pytest.fixture(scope="module")
def multilingual(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> WhisperEngine:
    """A model of many languages, which has learnt none of them: its words mean nothing."""
    folder = make_multilingual(tmp_path_factory.mktemp("multilingual"), models_dir / "whisper-tiny.en")
    return WhisperEngine(folder, device="cpu", compute_type="float32", workers=1, threads=1, beam_size=2)


def test_a_multilingual_model_detects_its_language(multilingual: WhisperEngine) -> None:
    """One of those that its configuration names, unless it is told which."""
    assert {"auto", "de", "ja"} < multilingual.languages
    sound = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    asked = ["auto", "de", None]
    heard = multilingual.transcribe([Request(sound, True, Options(language)) for language in asked])
    assert heard[0].language in {name.strip("<|>") for name in LANGUAGES}
    assert heard[1].language == "de"
    assert heard[2].language == heard[0].language


def test_a_multilingual_model_is_told_its_task(multilingual: WhisperEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request of a batch its own, also where its words are timed."""
    assert multilingual.tasks == {"transcribe", "translate"}
    model, prompts, sequences = multilingual._model, [], []

    class Spy:
        def __getattr__(self, name: str) -> object:
            return getattr(model, name)

        def generate(self, states: object, given: list[list[int]], **options: object) -> object:
            prompts.extend(given)
            return model.generate(states, given, **options)

        def align(self, states: object, sequence: list[int], *rest: object) -> object:
            sequences.append(sequence)
            return model.align(states, sequence, *rest)

    monkeypatch.setattr(multilingual, "_model", Spy())
    sound = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    options = [Options("de", task="translate", words=True), Options("fr", words=True)]
    multilingual.transcribe([Request(sound, True, each) for each in options])
    number = multilingual._token
    translate = [number("<|startoftranscript|>"), number("<|de|>"), number("<|translate|>")]
    transcribe = [number("<|startoftranscript|>"), number("<|fr|>"), number("<|transcribe|>")]
    assert [prompt[:3] for prompt in prompts[:2]] == [translate, transcribe]
    assert all(prompt[3] == number("<|notimestamps|>") for prompt in prompts)
    assert sorted(sequences) == sorted([translate, transcribe])


def test_an_english_model_knows_english(engine: WhisperEngine) -> None:
    """And takes `auto`, which then needs no detection."""
    assert engine.languages == {"en", "auto"}
    assert engine.tasks == {"transcribe"}
    auto = engine.transcribe([Request(read(CLIPS[0]), True, Options(language="auto"))])[0]
    assert auto.language == "en"


def test_as_much_speech_as_an_utterance_can_hold(engine: WhisperEngine) -> None:
    """28 s fill the window: everything up to the last word is heard."""
    clips = [read(clip) for clip in CLIPS[:6]]
    samples = np.concatenate(clips)[: 28 * SAMPLE_RATE]
    reference = " ".join(clip["text"] for clip in CLIPS[:6])
    whole = len(samples) == sum(map(len, clips))
    words = final(engine, samples).text.split()
    assert len(words) > (0.8 if whole else 0.6) * len(reference.split())


def test_streams_scored_together_score_as_if_alone(vad: SileroVad) -> None:
    """Each stream keeps its own state, whoever shares its calls."""
    streams = [read(clip)[: 40 * HOP].reshape(-1, HOP) for clip in CLIPS[:3]]
    alone = []
    for hops in streams:
        state = vad.new_state()
        alone.append([float(vad.step([state], hop[np.newaxis])[0]) for hop in hops])
    states = [vad.new_state() for _ in streams]
    together = np.stack([vad.step(states, np.stack([hops[at] for hops in streams])) for at in range(40)], axis=1)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_speech_scores_high_and_silence_low(vad: SileroVad) -> None:
    """With the state kept from hop to hop."""
    state = vad.new_state()
    quiet = [float(vad.step([state], np.zeros((1, HOP), np.float32))[0]) for _ in range(30)]
    hops = read(CLIPS[1])[: 100 * HOP].reshape(-1, HOP)
    loud = [float(vad.step([state], hop[np.newaxis])[0]) for hop in hops]
    assert max(quiet) < 0.2
    assert np.mean(np.array(loud) > 0.5) > 0.6
