"""A multilingual Whisper with random weights: no real one fits a machine that reaches only a package registry.

It hears nothing, but CTranslate2 runs it like any other: what is asked of a multilingual model, and in which form its
answers come, is the real thing.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from ctranslate2.specs import common_spec, whisper_spec

WIDTH, HEADS, LAYERS = 32, 2, 1
BANDS = 80
MULTILINGUAL = ""
"""The token by which CTranslate2 tells a multilingual model (`src/models/whisper.cc`)."""
LANGUAGES = ("<|en|>", "<|de|>", "<|fr|>", "<|ja|>")


def make_multilingual(folder: Path, english: Path) -> Path:
    """Write the model into `folder`, with the tokens of an English-only one, which has the languages' too."""
    tokenizer = json.loads((english / "tokenizer.json").read_text(encoding="utf-8"))
    specials = {special["content"]: special["id"] for special in tokenizer["added_tokens"]}
    numbers: dict[str, int] = tokenizer["model"]["vocab"] | specials
    names = [*sorted(numbers, key=lambda name: numbers[name]), MULTILINGUAL]

    spec = whisper_spec.WhisperSpec(LAYERS, HEADS, LAYERS, HEADS)
    random = np.random.default_rng(11)

    def weights(*shape: int) -> np.ndarray:
        return (0.3 * random.standard_normal(shape)).astype(np.float32)

    def fill_linear(layer: common_spec.LinearSpec, out: int, size: int) -> None:
        layer.weight, layer.bias = weights(out, size), weights(out)

    def fill_norm(layer: common_spec.LayerNormSpec) -> None:
        layer.gamma, layer.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    def fill_block(layer: object, *, cross: bool) -> None:
        fill_norm(layer.self_attention.layer_norm)  # type: ignore[attr-defined]
        fill_linear(layer.self_attention.linear[0], 3 * WIDTH, WIDTH)  # type: ignore[attr-defined]
        fill_linear(layer.self_attention.linear[1], WIDTH, WIDTH)  # type: ignore[attr-defined]
        if cross:
            fill_norm(layer.attention.layer_norm)  # type: ignore[attr-defined]
            for part, out in zip(layer.attention.linear, (WIDTH, 2 * WIDTH, WIDTH), strict=True):  # type: ignore[attr-defined]
                fill_linear(part, out, WIDTH)
        fill_norm(layer.ffn.layer_norm)  # type: ignore[attr-defined]
        fill_linear(layer.ffn.linear_0, 4 * WIDTH, WIDTH)  # type: ignore[attr-defined]
        fill_linear(layer.ffn.linear_1, WIDTH, 4 * WIDTH)  # type: ignore[attr-defined]

    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = weights(WIDTH, BANDS, 3), weights(WIDTH)
    encoder.conv2.weight, encoder.conv2.bias = weights(WIDTH, WIDTH, 3), weights(WIDTH)
    encoder.position_encodings.encodings = weights(1500, WIDTH)
    fill_norm(encoder.layer_norm)
    decoder.embeddings.weight = weights(len(names), WIDTH)
    decoder.position_encodings.encodings = weights(448, WIDTH)
    decoder.projection.weight = decoder.embeddings.weight
    fill_norm(decoder.layer_norm)
    for block in encoder.layer:
        fill_block(block, cross=False)
    for block in decoder.layer:
        fill_block(block, cross=True)

    spec.config.lang_ids = [numbers[name] for name in LANGUAGES]
    spec.config.alignment_heads = [(0, 0), (0, 1)]
    spec.config.suppress_ids = [numbers["<|startoftranscript|>"]]
    spec.config.suppress_ids_begin = [numbers["<|endoftext|>"]]
    spec.register_vocabulary(names)
    spec.validate()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder
