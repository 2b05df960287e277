"""Sentences of a text in pieces of any size: where they end, when that is known, and that the size never shows."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tts import sentences
from tts.sentences import LONGEST, SentenceSplitter

pytestmark = pytest.mark.unit


def take(splitter: SentenceSplitter) -> list[str]:
    """The sentences that are known by now."""
    return list(iter(splitter.next, None))


def split(pieces: list[str]) -> list[str]:
    """Every sentence of a text in pieces."""
    splitter = SentenceSplitter()
    found: list[str] = []
    for piece in pieces:
        splitter.feed(piece)
        found += take(splitter)
    splitter.finish()
    return found + take(splitter)


CASES: list[tuple[str, list[str]]] = [
    ("Dr. Smith came at 5 p.m. on Monday. He left.", ["Dr. Smith came at 5 p.m. on Monday.", "He left."]),
    ("Ask Prof. Higgins, e.g. Henry. Or not.", ["Ask Prof. Higgins, e.g. Henry.", "Or not."]),
    ("Mr. and Mrs. Jones met Gen. Lee. They talked.", ["Mr. and Mrs. Jones met Gen. Lee.", "They talked."]),
    (
        "It is approx. five miles, i.e. eight kilometers. Not far.",
        ["It is approx. five miles, i.e. eight kilometers.", "Not far."],
    ),
    ("See Fig. 3 and pp. 4-5. Then go on.", ["See Fig. 3 and pp. 4-5.", "Then go on."]),
    ("Is that No. 5? No. It is not.", ["Is that No. 5?", "No.", "It is not."]),
    ("Apple Inc. CEO Tim Cook spoke. He smiled.", ["Apple Inc. CEO Tim Cook spoke.", "He smiled."]),
    ("He works at Apple Inc. She does not.", ["He works at Apple Inc.", "She does not."]),
    ("Apples, pears, etc. are fruit. We like them.", ["Apples, pears, etc. are fruit.", "We like them."]),
    ("We bought apples, pears, etc. The rest was sold.", ["We bought apples, pears, etc.", "The rest was sold."]),
    ("She lives on Main St. near St. Paul's. We visit.", ["She lives on Main St. near St. Paul's.", "We visit."]),
    ("He lives on Main St. The house is red.", ["He lives on Main St.", "The house is red."]),
    ("Smith et al. showed it. We agree.", ["Smith et al. showed it.", "We agree."]),
    ("Meet me on Jan. 5 or Sept. 3. Bring Bob.", ["Meet me on Jan. 5 or Sept. 3.", "Bring Bob."]),
    ("They moved to the U.S. in 1990. It was cold.", ["They moved to the U.S. in 1990.", "It was cold."]),
    ("They moved to the U.S. They liked it.", ["They moved to the U.S.", "They liked it."]),
    ("The U.S. Army vs. the U.K. Navy. Who won?", ["The U.S. Army vs. the U.K. Navy.", "Who won?"]),
    ("John Smith Jr. was there. John Smith Sr. was not.", ["John Smith Jr. was there.", "John Smith Sr. was not."]),
    ("MR. SMITH SHOUTED. NOBODY HEARD.", ["MR. SMITH SHOUTED.", "NOBODY HEARD."]),
    ("Yes. One. Two. Go!", ["Yes.", "One.", "Two.", "Go!"]),
    ("I do. So do I. We all do.", ["I do.", "So do I.", "We all do."]),
    ("It starts at 9 a.m. tomorrow. Be there.", ["It starts at 9 a.m. tomorrow.", "Be there."]),
    ("It ends at 5 p.m. The doors close then.", ["It ends at 5 p.m.", "The doors close then."]),
    ("At 9:30. The bus leaves.", ["At 9:30.", "The bus leaves."]),
    ("J. R. R. Tolkien wrote it. C. S. Lewis read it.", ["J. R. R. Tolkien wrote it.", "C. S. Lewis read it."]),
    ("J.R.R. Tolkien wrote it. George W. Bush did not.", ["J.R.R. Tolkien wrote it.", "George W. Bush did not."]),
    ("It costs 3.50 dollars. Nothing more!", ["It costs 3.50 dollars.", "Nothing more!"]),
    ("Version 2.10.3 is out. Version 3 is not.", ["Version 2.10.3 is out.", "Version 3 is not."]),
    ("See www.example.org/a.b?c=d for more. Then call.", ["See www.example.org/a.b?c=d for more.", "Then call."]),
    ("Visit https://example.com. It is free.", ["Visit https://example.com.", "It is free."]),
    ("Write to joe.bloggs@example.co.uk. He answers.", ["Write to joe.bloggs@example.co.uk.", "He answers."]),
    ("We were 5. 20 more came.", ["We were 5.", "20 more came."]),
    ("In the year 1984. Then came 1985.", ["In the year 1984.", "Then came 1985."]),
    ("Open main.py and README.md. Read both.", ["Open main.py and README.md.", "Read both."]),
    ("Well... I see. Fine.", ["Well...", "I see.", "Fine."]),
    ("Wait... what? Nothing.", ["Wait... what?", "Nothing."]),
    ("Hmm… Maybe.", ["Hmm…", "Maybe."]),
    ("So… yes. Good.", ["So… yes.", "Good."]),
    ("What?! No way!! Really.", ["What?!", "No way!!", "Really."]),
    ("wow! that is great. thanks!", ["wow!", "that is great.", "thanks!"]),
    ("hello there. how are you? fine.", ["hello there.", "how are you?", "fine."]),
    ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
    ('"Stop!" he said. She did.', ['"Stop!" he said.', "She did."]),
    ('"Go!" He went.', ['"Go!"', "He went."]),
    ("“It is late.” “So it is.”", ["“It is late.”", "“So it is.”"]),
    ("(It was late.) We left.", ["(It was late.)", "We left."]),
    ("It was late (very late!) and cold. We left.", ["It was late (very late!) and cold.", "We left."]),
    ("**It is bold.** It is not.", ["**It is bold.**", "It is not."]),
    ("He said: 'Go.' Then he went.", ["He said: 'Go.'", "Then he went."]),
    ("1. Open the door.\n2. Close it. …", ["1. Open the door.", "2. Close it.", "…"]),
    ("Steps: 1. Open it. 2. Close it.", ["Steps: 1. Open it.", "2. Close it."]),
    ("- milk\n- eggs\n- bread", ["- milk", "- eggs", "- bread"]),
    ("To buy:\n* milk\n* eggs", ["To buy:", "* milk", "* eggs"]),
    ("a) first\nb) second", ["a) first", "b) second"]),
    ("Do this. 1. Open it. 2. Close it.", ["Do this.", "1. Open it.", "2. Close it."]),
    ("A. Apples\nB. Pears", ["A. Apples", "B. Pears"]),
    ("# A title\nThe text begins here. It goes on.", ["# A title", "The text begins here.", "It goes on."]),
    ("One paragraph\n\nanother one", ["One paragraph", "another one"]),
    (
        "This line is long enough that someone has wrapped it,\nand it goes on here. Here not.",
        ["This line is long enough that someone has wrapped it,\nand it goes on here.", "Here not."],
    ),
    (
        "This line was wrapped by somebody who likes short ones and\nGoes on with a capital.",
        ["This line was wrapped by somebody who likes short ones and\nGoes on with a capital."],
    ),
    ("Roses are red\nViolets are blue", ["Roses are red", "Violets are blue"]),
    ("| a | b |\n|---|---|\n| 1 | 2 |", ["| a | b |", "|---|---|", "| 1 | 2 |"]),
    ("Great! 😀 Let's go. Now.", ["Great!", "😀 Let's go.", "Now."]),
    ("Done.🎉 Next one. Last one.", ["Done.🎉", "Next one.", "Last one."]),
    ("你好。再见！真的吗？好", ["你好。", "再见！", "真的吗？", "好"]),
    ("「行くよ。」と言った。そして行った。", ["「行くよ。」と言った。", "そして行った。"]),
    ("नमस्ते। आप कैसे हैं? ठीक।", ["नमस्ते।", "आप कैसे हैं?", "ठीक।"]),
    ("مرحبا. كيف حالك؟ بخير.", ["مرحبا.", "كيف حالك؟", "بخير."]),
    ("Am 3. Mai kam er, d.h. spät. Dann ging er.", ["Am 3. Mai kam er, d.h. spät.", "Dann ging er."]),
    ("Es gibt z.B. Hunde bzw. Katzen. Beide bellen nicht.", ["Es gibt z.B. Hunde bzw. Katzen.", "Beide bellen nicht."]),
    ("¿Qué tal? ¡Bien! Vamos.", ["¿Qué tal?", "¡Bien!", "Vamos."]),
    ("Say [[ h@l.oU? w! ]] now. Then stop.", ["Say [[ h@l.oU? w! ]] now.", "Then stop."]),
    ("[[ a. b. ]] and [[ c. D ]]. End.", ["[[ a. b. ]] and [[ c. D ]].", "End."]),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_sentences(text: str, expected: list[str]) -> None:
    """Whole, and one character at a time."""
    assert split([text]) == expected
    assert split(list(text)) == expected


PARTS = [
    "Hello",
    "world",
    "a",
    "B",
    " ",
    ". ",
    ".",
    "...",
    "!",
    "?",
    "!!",
    "\n",
    "\n\n",
    "1. ",
    "3.5",
    ", ",
    "Dr. ",
    "Prof.",
    "e.g. ",
    " I",
    "…",
    "。",
    '"',
    "'",
    ")",
    "*",
    "”",
    "»",
    "』",
    "😀",
    "[[",
    "]]",
    "St. ",
    "5 p.m.",
    " The ",
    "- ",
    "3. Mai",
    "؟",
    "と",
    "",
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.integers(1, 7), st.integers(0, 1000))
@example('Dr.  …"\n\nHello', 1, 0)
@example('.. …""\n1. \n', 1, 0)
@example("[[ a. B ]] c. D", 2, 0)
def test_the_size_of_a_fragment_never_shows(text: str, size: int, seed: int) -> None:
    """One character at a time, a few, some that chance picks, or all at once: the same sentences."""
    whole = split([text])
    assert split(list(text)) == whole
    assert split([text[start : start + size] for start in range(0, len(text), size)]) == whole
    assert split(cut_by_chance(text, random.Random(seed))) == whole


def cut_by_chance(text: str, chance: random.Random) -> list[str]:
    """Pieces as a language model's tokens: of up to eight characters."""
    pieces = []
    while text:
        length = chance.randint(1, 8)
        pieces.append(text[:length])
        text = text[length:]
    return pieces


def test_many_a_text_in_tokens_gives_the_sentences_of_the_whole() -> None:
    """Three hundred texts made of the sentences above, each cut in its own way."""
    chance = random.Random(5)
    for _ in range(300):
        text = chance.choice((" ", "\n", "\n\n")).join(text for text, _ in chance.sample(CASES, 4))
        assert split(cut_by_chance(text, chance)) == split([text])


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        ("Hello there. H", "Hello there."),
        ("Are you? ", "Are you?"),
        ("It was late.\n", "It was late."),
        ("hello there. h", "hello there."),
        ("We were 5. 2", "We were 5."),
        ("你好。再", "你好。"),
        ("It ends at 5 p.m. The ", "It ends at 5 p.m."),
        ('"Stop!" H', '"Stop!"'),
        ("A title\n\n", "A title"),
        ("- milk\n-", "- milk"),
    ],
)
def test_a_sentence_is_known_as_soon_as_it_can_be(known: str, sentence: str) -> None:
    """With the character that decides, and not before it."""
    splitter = SentenceSplitter()
    for character in known[:-1]:
        splitter.feed(character)
        assert splitter.next() is None
    splitter.feed(known[-1])
    assert splitter.next() == sentence


@settings(deadline=None)
@given(TEXTS)
@example("Hello\n\n\n\n, world Hello world. Hello")
@example("a Hello, Hello Hello Hello. Hello Hello, a. Hello")
def test_the_size_of_a_fragment_never_shows_in_text_that_must_be_broken(text: str) -> None:
    """Nor in where a text is broken that does not end for too long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "LONGEST", 20)
        assert split(list(text)) == split([text])


@settings(deadline=None)
@given(TEXTS)
def test_no_word_is_lost(text: str) -> None:
    """Sentences hold every letter and digit of the text, in order."""
    assert [each for each in "".join(split([text])) if each.isalnum()] == [each for each in text if each.isalnum()]


@settings(deadline=None)
@given(TEXTS)
def test_what_waits_is_counted(text: str) -> None:
    """Everything waits until it is taken; then nothing does."""
    splitter = SentenceSplitter()
    splitter.feed(text)
    assert len(text.lstrip()) <= splitter.waiting() <= len(text)
    splitter.finish()
    while splitter.next() is not None:
        pass
    assert splitter.waiting() == 0


def test_text_without_an_end_is_broken_at_the_best_place() -> None:
    """Pieces of at most 2,000 characters, at commas where there are any, and nothing is lost."""
    text = ", ".join(["some words"] * 1000)
    pieces = split([text])
    assert all(len(piece) <= LONGEST for piece in pieces)
    assert all(piece.endswith(",") for piece in pieces[:-1])
    assert " ".join(pieces) == text
    assert "".join(split(["x" * 5000])) == "x" * 5000
    inside = "a" * 1200 + " " + "[[ b, c ]]" * 200
    assert all(piece.count("[[") == piece.count("]]") for piece in split([inside]))


@pytest.mark.parametrize("unit", ["It was a bright day. ", "word ", ".", "[[ a", "Dr. ", "\n", "好。"])
def test_a_long_text_is_never_looked_at_as_a_whole(unit: str) -> None:
    """Of 100,000 characters no more than one too long sentence is held beside what waits untouched."""
    text = (unit * 100_000)[:100_000]
    splitter = SentenceSplitter()
    splitter.feed(text)
    splitter.finish()
    left = 100_000
    spoken = 0
    while (sentence := splitter.next()) is not None:
        assert len(sentence) <= LONGEST
        assert len(splitter._open) <= LONGEST + 1
        assert splitter.waiting() < left
        left = splitter.waiting()
        spoken += sum(not each.isspace() for each in sentence)
    assert splitter.waiting() == 0
    assert spoken == sum(not each.isspace() for each in text)
