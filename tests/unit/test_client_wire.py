"""Every wire message and every setting, there and back."""

from __future__ import annotations

import typing
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus.asr import AsrProtocol
from chorus.contract import StreamProtocol
from chorus.errors import ContractViolation
from chorus.tts import TtsProtocol
from chorus.wire import asr, common, tts
from chorus.wire.common import encode
from chorus.wire.settings import SettingsError, as_dict, from_query, merge

pytestmark = pytest.mark.unit

SERVER = [("asr", each) for each in get_args(asr.ServerMessage)] + [
    ("tts", each) for each in get_args(tts.ServerMessage)
]
CLIENT = [("asr", each) for each in get_args(asr.ClientMessage)] + [
    ("tts", each) for each in get_args(tts.ClientMessage)
]
UNIONS: dict[tuple[str, str], Any] = {
    ("asr", "server"): asr.ServerMessage,
    ("tts", "server"): tts.ServerMessage,
    ("asr", "client"): asr.ClientMessage,
    ("tts", "client"): tts.ClientMessage,
}
WHOLE = st.integers(min_value=0, max_value=2**53)
REAL = st.floats(allow_nan=False, allow_infinity=False)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    origin, arguments = typing.get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        meta = arguments[1]
        if arguments[0] is str:
            return st.text(min_size=meta.min_length or 0, max_size=min(meta.max_length or 20, 20))
        number = st.integers if arguments[0] is int else st.floats
        return number(meta.ge, meta.le)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | WHOLE | st.text(max_size=8), max_size=4)
    if arguments:  # a union
        return st.one_of(*(values(each) for each in arguments))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return structs(kind)
    known: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=20),
        int: WHOLE,
        float: REAL,
        bool: st.booleans(),
        type(None): st.none(),
        msgspec.UnsetType: st.just(msgspec.UNSET),
    }
    return known[kind]


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Any message of a type, every field of it given."""
    hints = get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{name: values(hints[name]) for name in kind.__struct_fields__})


@pytest.mark.parametrize(("service", "kind"), SERVER, ids=lambda each: getattr(each, "__name__", each))
@given(data=st.data())
def test_server_messages_survive_the_wire(service: str, kind: type[msgspec.Struct], data: st.DataObject) -> None:
    """A message decodes to what was encoded, also where a newer server has added a field."""
    message = data.draw(structs(kind))
    text = encode(message)
    union = UNIONS[service, "server"]
    assert msgspec.json.decode(text, type=union) == message
    newer = msgspec.json.encode({**msgspec.json.decode(text), "added_in_a_later_version": {"a": [1]}})
    assert msgspec.json.decode(newer, type=union) == message


@pytest.mark.parametrize(("service", "kind"), CLIENT, ids=lambda each: getattr(each, "__name__", each))
@given(data=st.data())
def test_client_messages_survive_the_wire(service: str, kind: type[msgspec.Struct], data: st.DataObject) -> None:
    """A message decodes to what was encoded."""
    message = data.draw(structs(kind))
    assert msgspec.json.decode(encode(message), type=UNIONS[service, "client"]) == message


@pytest.mark.parametrize(("service", "kind"), CLIENT, ids=lambda each: getattr(each, "__name__", each))
def test_an_unknown_field_of_a_client_is_an_error(service: str, kind: type[msgspec.Struct]) -> None:
    """A misspelt field is told, never ignored; of `synthesize` it is a setting, which the service checks."""
    fields = {"text": "a"} if "text" in kind.__struct_fields__ else {}
    body = msgspec.json.encode({"type": kind.__struct_config__.tag, **fields, "request_idd": "a"})
    if kind is tts.Synthesize:
        assert msgspec.json.decode(body, type=UNIONS[service, "client"]) == tts.Synthesize(text="a")
    else:
        with pytest.raises(msgspec.ValidationError, match="request_idd"):
            msgspec.json.decode(body, type=UNIONS[service, "client"])


@pytest.mark.parametrize("module", [asr, tts])
def test_every_client_type_is_listed(module: Any) -> None:
    """`CLIENT_TYPES`, which error messages quote, names each message of the union, and `config`."""
    tags = {each.__struct_config__.tag for each in get_args(module.ClientMessage)}
    assert set(module.CLIENT_TYPES) == tags | {"config"}


def frames(protocol: StreamProtocol[Any]) -> dict[str, str]:
    """Every text frame that the client can make."""
    made = {"close": protocol.close(), "config": protocol.configure(language="en")}
    if isinstance(protocol, AsrProtocol):
        return made | {"finalize": protocol.finalize(), "reset": protocol.reset()}
    assert isinstance(protocol, TtsProtocol)
    return made | {
        "synthesize": protocol.synthesize("Hello.", "a", speed=2),
        "text": protocol.append("Hel", "a"),
        "flush": protocol.flush("a"),
        "cancel": protocol.cancel(),
        "list_voices": protocol.list_voices(),
    }


@pytest.mark.parametrize(("kind", "module"), [(AsrProtocol, asr), (TtsProtocol, tts)])
def test_the_client_can_say_all_there_is_to_say(kind: type[AsrProtocol] | type[TtsProtocol], module: Any) -> None:
    """There is a call for every message, and what it makes is what the server decodes."""
    made = frames(kind())
    assert set(made) == set(module.CLIENT_TYPES)
    for name, frame in made.items():
        assert msgspec.json.decode(frame)["type"] == name
        if name != "config":
            msgspec.json.decode(frame, type=module.ClientMessage)
    assert msgspec.json.decode(made["config"]) == {"type": "config", "language": "en"}


@pytest.mark.parametrize("kind", [AsrProtocol, TtsProtocol])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("frame", ["", "[]", "{}", '{"type":"nonsense"}', '{"type":"done"}'])
def test_what_no_server_says_is_a_violation(
    kind: type[AsrProtocol] | type[TtsProtocol], strict: bool, frame: str
) -> None:
    """A frame that is no message is an error and noted, strict or not."""
    protocol = kind(strict=strict)
    with pytest.raises(ContractViolation):
        protocol.receive(frame)
    assert protocol.violations


@given(settings=structs(asr.Settings))
def test_recognition_settings_survive_ready(settings: asr.Settings) -> None:
    """What `ready` reports of settings is what the settings are."""
    assert msgspec.convert(as_dict(settings), asr.Settings) == settings


@given(settings=structs(tts.Settings))
def test_synthesis_settings_survive_ready(settings: tts.Settings) -> None:
    """What `ready` reports of settings is what the settings are."""
    assert msgspec.convert(as_dict(settings), tts.Settings) == settings


def test_settings_change_together() -> None:
    """Every change takes effect, the others stay, and the old settings are left as they were."""
    before = asr.Settings(language="en")
    after = merge(before, {"sample_rate": 8000, "encoding": "mulaw"})
    assert after == asr.Settings(language="en", sample_rate=8000, encoding="mulaw")
    assert before == asr.Settings(language="en")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sample_rate": 8000, "langage": "en"}, "unknown setting 'langage'; known are encoding, sample_rate"),
        ({"sample_rate": 7999}, "sample_rate: "),
        ({"sample_rate": 48001}, "sample_rate: "),
        ({"sample_rate": "8000"}, "sample_rate: "),
        ({"sample_rate": 8000.5}, "sample_rate: "),
        ({"sample_rate": True}, "sample_rate: "),
        ({"encoding": "mp3"}, "encoding: "),
        ({"channels": 3}, "channels: "),
        ({"interim_results": "yes"}, "interim_results: "),
        ({"vad_threshold": 1.5}, "vad_threshold: "),
        ({"max_utterance_s": 29}, "max_utterance_s: "),
        ({"prompt": "x" * 1001}, "prompt: "),
        ({"language": None, "task": None}, "task: "),
    ],
)
def test_a_wrong_change_names_its_key(changes: dict[str, Any], told: str) -> None:
    """Nothing of a wrong change takes effect, and the message says which key it was."""
    with pytest.raises(SettingsError) as error:
        merge(asr.Settings(), changes)
    assert str(error.value).startswith(told)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_number_must_be_finite(text: str) -> None:
    """Query strings can spell numbers that JSON can't."""
    with pytest.raises(SettingsError, match="vad_threshold"):
        from_query(asr.Settings(), [("vad_threshold", text)])
    with pytest.raises(SettingsError, match="start_offset_s"):
        from_query(asr.Settings(), [("start_offset_s", text)])


def test_a_number_without_bounds_must_be_finite_too() -> None:
    """Bounds catch the others; a setting that has none is no way in for a NaN."""

    class Unbounded(msgspec.Struct, frozen=True):
        gain: float = 0.0

    assert from_query(Unbounded(), [("gain", "-1e6")]) == Unbounded(-1e6)
    with pytest.raises(SettingsError, match="gain: must be a finite number"):
        from_query(Unbounded(), [("gain", "nan")])


def test_a_query_string_is_read_as_the_types_it_means() -> None:
    """Numbers and booleans come as text; text stays text, also where it looks like a number."""
    pairs = [("sample_rate", "8000"), ("interim_results", "false"), ("vad_threshold", "0.7"), ("prompt", "42")]
    settings = from_query(asr.Settings(), pairs)
    assert settings == asr.Settings(sample_rate=8000, interim_results=False, vad_threshold=0.7, prompt="42")
    assert from_query(tts.Settings(), [("speaker", "3"), ("speed", "2")]) == tts.Settings(speaker="3", speed=2)


def test_a_query_string_may_not_say_a_thing_twice() -> None:
    """Which of two values would hold is no riddle for the client."""
    with pytest.raises(SettingsError, match="language: given twice"):
        from_query(asr.Settings(), [("language", "en"), ("language", "de")])


def test_an_error_without_the_optional_fields_leaves_them_out() -> None:
    """`request_id` and `retry_after_ms` are there where they apply, and only there."""
    bare = common.Error(code="bad_message", message="no", recoverable=True)
    assert msgspec.json.decode(encode(bare)) == {
        "type": "error",
        "code": "bad_message",
        "message": "no",
        "recoverable": True,
    }
