"""Sound in which nobody speaks, synthesised, the same each time: whatever text it yields is made up.

`STATIONARY` does not change over its length; `CHANGING` has the rhythms and the spectra that are taken for speech.
Levels are those of the mean power, in dB below a full-scale square wave.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import numpy.typing as npt

RATE = 16000
"""Hz, of all of them."""
LEVELS_DB = (-85, -60, -26, -10)
"""Of noise: about the last bit of 16, a quiet room, a loud one, and deafening."""
FRAME = RATE // 50
"""Samples of a network packet, 20 ms."""

Audio = npt.NDArray[np.float32]
Random = np.random.Generator
Maker = Callable[[float, Random], Audio]
"""Makes so many seconds."""


def sound(name: str, seconds: float) -> Audio:
    """So many seconds of one of `STATIONARY` or `CHANGING`."""
    maker = (STATIONARY | CHANGING)[name]
    return np.clip(maker(seconds, np.random.default_rng(zlib.crc32(name.encode()))), -1, 1).astype(np.float32)


def at_level(audio: Audio, db: float) -> Audio:
    """The same with another mean power; may go beyond full scale."""
    return np.asarray(audio * (10 ** (db / 20) / np.sqrt((audio**2).mean())), np.float32)


def clipped(audio: Audio, db: float) -> Audio:
    """Amplified, and cut off at full scale."""
    return np.clip(audio * 10 ** (db / 20), -1, 1)


def with_gaps(audio: Audio, share: float, random: Random) -> Audio:
    """Silence in place of so many of its packets."""
    return (audio * np.repeat(_kept(audio, share, random), FRAME)[: len(audio)]).astype(np.float32)


def with_cuts(audio: Audio, share: float, random: Random) -> Audio:
    """So many of its packets left out, what is left put together."""
    return audio[np.repeat(_kept(audio, share, random), FRAME)[: len(audio)]]


def _kept(audio: Audio, share: float, random: Random) -> npt.NDArray[np.bool_]:
    return random.random(-(-len(audio) // FRAME)) >= share


def noise(seconds: float, random: Random, *, slope: float, low: float = 20, high: float = RATE / 2) -> Audio:
    """Noise of a band, Hz, whose power falls with the frequency to so manieth a power: 0 white, 1 pink, 2 brown."""
    count = int(seconds * RATE)
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    shape = np.maximum(frequencies, low) ** (-slope / 2) * (frequencies >= low) * (frequencies <= high)
    return np.fft.irfft(np.fft.rfft(random.standard_normal(count)) * shape, count).astype(np.float32)


def _silence(seconds: float, _random: Random) -> Audio:
    return np.zeros(int(seconds * RATE), np.float32)


def _noise_at(slope: float, db: float) -> Maker:
    return lambda seconds, random: at_level(noise(seconds, random, slope=slope), db)


def _hum(seconds: float, _random: Random) -> Audio:
    """Of the mains, with the harmonic of bad earthing."""
    t = np.arange(int(seconds * RATE)) / RATE
    return (0.2 * np.sin(2 * np.pi * 50 * t) + 0.05 * np.sin(2 * np.pi * 150 * t)).astype(np.float32)


def _mixed(seconds: float, events: Iterable[tuple[float, Audio]]) -> Audio:
    """Sounds laid over each other, each from its second on."""
    audio = np.zeros(int(seconds * RATE), np.float32)
    for start, event in events:
        at = int(start * RATE)
        part = audio[at : at + len(event)]
        part += event[: len(part)]
    return audio


def _fading(seconds: float, per_second: float, tone: Callable[[Audio], Audio]) -> Audio:
    """A tone of the time that dies away."""
    t = np.arange(int(seconds * RATE), dtype=np.float32) / RATE
    return (tone(t) * np.exp(-per_second * t)).astype(np.float32)


def _typing(seconds: float, random: Random, *, keys_per_second: float) -> Audio:
    """A keyboard: bursts of noise with a resonance, press and release, at uneven times."""

    def stroke(loudness: float) -> Audio:
        ring_hz = random.uniform(800, 4500)
        return loudness * _fading(
            random.uniform(0.005, 0.03),
            random.uniform(150, 500),
            lambda t: 0.6 * random.standard_normal(len(t)) + 0.4 * np.sin(2 * np.pi * ring_hz * t),
        )

    events, at = [], 0.2
    while at < seconds - 0.3:
        events.append((at, stroke(random.uniform(0.1, 0.5))))
        events.append((at + random.uniform(0.05, 0.12), stroke(random.uniform(0.05, 0.2))))
        at += random.exponential(1 / keys_per_second)
    return _mixed(seconds, events)


def _taps(seconds: float, random: Random) -> Audio:
    """Fingers on a microphone, one to four at a time."""

    def tap() -> Audio:
        hertz = random.uniform(70, 220)
        thump = _fading(0.15, random.uniform(25, 60), lambda t: np.sin(2 * np.pi * hertz * t))
        click = _fading(0.15, 900, lambda t: random.standard_normal(len(t)))
        return random.uniform(0.2, 0.8) * (thump + 0.3 * click)

    events, at = [], 0.5
    while at < seconds - 1:
        gap = random.uniform(0.15, 0.3)
        events += [(at + number * gap, tap()) for number in range(random.integers(1, 5))]
        at += random.uniform(0.8, 3)
    return _mixed(seconds, events)


def _breathing(seconds: float, random: Random, *, db: float) -> Audio:
    """In through the nose, out through the mouth, into a headset's microphone."""
    breaths, at = [], 0.3
    while at < seconds - 3:
        for low, high, length, loudness in ((600, 5000, random.uniform(0.9, 1.4), 0.6), (250, 2500, 1.6, 1.0)):
            air = noise(length, random, slope=1.0, low=low, high=high)
            swell = np.sin(np.pi * np.linspace(0, 1, len(air))) ** 1.5
            breaths.append((at, loudness * at_level(air, -20) * swell))
            at += length + random.uniform(0.1, 0.9)
    return at_level(_mixed(seconds, breaths), db)


def _wind(seconds: float, random: Random) -> Audio:
    """Gusts on an open microphone."""
    gusts = noise(seconds, random, slope=1, low=0.1, high=1.5)
    swell = np.clip(1 + gusts / gusts.std(), 0, 3)
    return at_level((noise(seconds, random, slope=2, low=30) * swell).astype(np.float32), -20)


def _telephone(seconds: float, random: Random) -> Audio:
    """Ringing, dialling and engaged tones, one after the other."""
    events, at = [], 0.5
    patterns = (((440, 480), 2.0, 4.0, 2), ((480, 620), 0.5, 0.5, 6), ((350, 440), 3.0, 1.0, 1))
    rows, columns = (697, 770, 852, 941), (1209, 1336, 1477)
    while at < seconds:
        for pair, on, off, times in patterns:
            for _ in range(times):
                events.append((at, _tones(on, pair)))
                at += on + off
        for _ in range(10):
            events.append((at, _tones(0.12, (random.choice(rows), random.choice(columns)))))
            at += random.uniform(0.2, 0.45)
    return _mixed(seconds, events)


def _tones(seconds: float, pair: tuple[float, float]) -> Audio:
    t = np.arange(int(seconds * RATE)) / RATE
    return sum(0.15 * np.sin(2 * np.pi * hertz * t) for hertz in pair).astype(np.float32)


Formants = tuple[tuple[float, float, float], ...]
"""Resonances of a throat: centre and width, Hz, and strength."""
HUM: Formants = ((250, 80, 1), (1000, 150, 0.1), (2200, 200, 0.05))
CRY: Formants = ((1000, 200, 1), (3000, 400, 0.5))
BARK: Formants = ((500, 150, 1), (1200, 200, 0.7), (2500, 300, 0.3))
SNORE: Formants = ((300, 150, 1), (900, 250, 0.4))


def _throat(hertz: npt.NDArray[np.float64], formants: Formants, breath: float, random: Random) -> Audio:
    """A voice at a pitch for each sample, with so much breath in it."""
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    voice = np.zeros(len(hertz))
    for number in range(1, 40):
        pitch = number * hertz
        gain = sum(strength / (1 + ((pitch - centre) / width) ** 2) for centre, width, strength in formants)
        voice += (pitch < 0.45 * RATE) * gain / number * np.sin(number * phase)
    return (voice + breath * np.abs(voice).max() * random.standard_normal(len(voice))).astype(np.float32)


def _humming(seconds: float, random: Random) -> Audio:
    """A tune behind closed lips."""
    notes, at = [], 0.3
    while at < seconds - 2:
        length = random.uniform(0.4, 1.2)
        t = np.arange(int(length * RATE)) / RATE
        hertz = 440 * 2 ** ((random.choice((57, 60, 62, 64, 67)) - 69) / 12) * (1 + 0.006 * np.sin(2 * np.pi * 5 * t))
        swell = np.minimum(1, t / 0.06) * np.minimum(1, (length - t) / 0.08)
        notes.append((at, _throat(hertz, HUM, 0.003, random) * swell))
        at += length + random.choice((0, 0, 0, 0.6))
    return at_level(_mixed(seconds, notes), -22)


def _crying(seconds: float, random: Random) -> Audio:
    """A baby."""
    cries, at = [], 0.3
    while at < seconds - 3:
        length = random.uniform(0.7, 1.6)
        t = np.arange(int(length * RATE)) / RATE
        hertz = (380 + 160 * np.sin(np.pi * t / length) ** 0.7) * (1 + 0.01 * np.sin(2 * np.pi * 8 * t))
        swell = np.minimum(1, t / 0.08) * np.minimum(1, (length - t) / 0.2)
        cries.append((at, _throat(hertz, CRY, 0.03, random) * swell))
        at += length + random.uniform(0.4, 0.8)
    return at_level(_mixed(seconds, cries), -20)


def _barking(seconds: float, random: Random) -> Audio:
    """A dog, one to four times in a row."""
    barks, at = [], 0.3
    while at < seconds - 2:
        for _ in range(random.integers(1, 5)):
            length = random.uniform(0.14, 0.25)
            t = np.arange(int(length * RATE)) / RATE
            hertz = 450 + 350 * np.sin(np.pi * np.minimum(1, 1.1 * t / length))
            barks.append((at, _throat(hertz, BARK, 0.15, random) * np.minimum(1, t / 0.01) * np.exp(-9 * t)))
            at += length + random.uniform(0.15, 0.4)
        at += random.uniform(0.5, 2)
    return at_level(_mixed(seconds, barks), -20)


def _coughing(seconds: float, random: Random) -> Audio:
    """A burst of air and a little voice, one to three times in a row."""
    coughs, at = [], 0.5
    while at < seconds - 2:
        for _ in range(random.integers(1, 4)):
            air = at_level(noise(random.uniform(0.25, 0.4), random, slope=1, low=300, high=6000), -12)
            t = np.arange(len(air)) / RATE
            voice = _throat(np.linspace(180, 120, len(air)), BARK, 0.05, random) * (t > 0.12)
            coughs.append((at, (air + 0.1 * voice) * np.exp(-10 * t)))
            at += len(air) / RATE + random.uniform(0.1, 0.3)
        at += random.uniform(1, 3)
    return at_level(_mixed(seconds, coughs), -24)


def _snoring(seconds: float, random: Random) -> Audio:
    """Somebody asleep."""
    snores, at = [], 0.3
    while at < seconds - 3:
        swell = np.sin(np.pi * np.linspace(0, 1, int(random.uniform(1.0, 1.5) * RATE)))
        snores.append((at, _throat(60 + 15 * swell, SNORE, 0.2, random) * swell))
        at += len(swell) / RATE + random.uniform(1.5, 2.5)
    return at_level(_mixed(seconds, snores), -24)


CHORDS = ((57, 60, 64), (53, 57, 60), (48, 52, 55), (55, 59, 62))
"""A minor, F, C, G: MIDI numbers."""
SCALE = (69, 72, 74, 76, 79, 81)
"""A minor pentatonic, for the melody."""


def _note(midi: float, seconds: float, *, attack_s: float, per_second: float, vibrato: float = 0) -> Audio:
    """One with eight harmonics."""
    hertz = 440 * 2 ** ((midi - 69) / 12)
    t = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * hertz * t + vibrato * np.sin(2 * np.pi * 5.5 * t) * np.minimum(1, 3 * t)
    partials = [np.sin(number * phase) / number**1.3 for number in range(1, 9) if number * hertz < RATE / 2]
    envelope = np.minimum(1, t / attack_s) * np.exp(-per_second * t) * np.minimum(1, (seconds - t) / 0.03)
    return (sum(partials) * envelope).astype(np.float32)


def _music(seconds: float, random: Random, *, beat_s: float, drums: float, strings: bool) -> Audio:
    """Chords, a bass and a melody in 4/4, plucked or bowed, with as much of a drum kit."""
    events: list[tuple[float, Audio]] = []
    lead = {"attack_s": 0.08, "per_second": 0.3, "vibrato": 0.5} if strings else {"attack_s": 0.005, "per_second": 4.0}
    for beat in range(int(seconds / beat_s)):
        at = beat * beat_s
        chord = CHORDS[beat // 4 % len(CHORDS)]
        if beat % 4 == 0:
            held = {"attack_s": 0.3 if strings else 0.01, "per_second": 0.2 if strings else 1.5}
            events += [(at, 0.12 * _note(midi, 4 * beat_s, **held)) for midi in chord]
        if beat % 2 == 0:
            events.append((at, 0.25 * _note(chord[0] - 24, 2 * beat_s, attack_s=0.01, per_second=1.5)))
        if random.random() < 0.8:
            for half in range(random.integers(1, 3)):
                events.append((at + half * beat_s / 2, 0.2 * _note(random.choice(SCALE), beat_s, **lead)))
        if drums:
            events += [(at + wait, drums * hit) for wait, hit in _drums(beat, beat_s, random)]
    return at_level(_mixed(seconds, events), -18)


def _drums(beat: int, beat_s: float, random: Random) -> list[tuple[float, Audio]]:
    """Bass and snare drum by turns, hi-hat in eighths."""
    kick = _fading(0.25, 12, lambda t: np.sin(2 * np.pi * (50 * t + 4 * (1 - np.exp(-30 * t)))))
    snare = _fading(0.2, 20, lambda t: 0.5 * random.standard_normal(len(t)) + 0.5 * np.sin(2 * np.pi * 190 * t))
    hat = _fading(0.06, 70, lambda t: np.diff(random.standard_normal(len(t) + 1)))
    return [(0, snare if beat % 2 else kick), (0, 0.3 * hat), (beat_s / 2, 0.2 * hat)]


def _office(seconds: float, random: Random) -> Audio:
    """What a headset hears between two calls: breath, keys, and the air conditioning."""
    room = at_level(noise(seconds, random, slope=1), -45)
    return room + _breathing(seconds, random, db=-32) + 0.4 * _typing(seconds, random, keys_per_second=4)


_band = partial(_music, beat_s=0.5, drums=0.4, strings=False)

STATIONARY: dict[str, Maker] = {
    "digital silence": _silence,
    **{
        f"{colour} noise, {db} dB": _noise_at(slope, db)
        for slope, colour in enumerate(("white", "pink", "brown"))
        for db in LEVELS_DB
    },
    "mains hum": _hum,
}
CHANGING: dict[str, Maker] = {
    "music, band": _band,
    "music, plucked": partial(_music, beat_s=0.7, drums=0, strings=False),
    "music, bowed": partial(_music, beat_s=0.9, drums=0, strings=True),
    "telephone tones": _telephone,
    "wind": _wind,
    "breathing, near": partial(_breathing, db=-22),
    "breathing, far": partial(_breathing, db=-45),
    "coughing": _coughing,
    "snoring": _snoring,
    "humming a tune": _humming,
    "a baby crying": _crying,
    "a dog barking": _barking,
    "typing, slow": partial(_typing, keys_per_second=3),
    "typing": partial(_typing, keys_per_second=6),
    "typing, fast": partial(_typing, keys_per_second=10),
    "taps on the microphone": _taps,
    "headset in an office": _office,
    "noise with gaps": lambda seconds, random: with_gaps(_noise_at(1, -26)(seconds, random), 0.2, random),
    "music with gaps": lambda seconds, random: with_gaps(_band(seconds, random), 0.2, random),
    "breathing with cuts": lambda seconds, random: with_cuts(_breathing(seconds / 0.8, random, db=-22), 0.2, random),
    "clipped noise": lambda seconds, random: clipped(_noise_at(1, -20)(seconds, random), 30),
    "clipped music": lambda seconds, random: clipped(_band(seconds, random), 30),
}
