"""What is said for what is written: a table, and that no text is lost, changed twice, or beyond it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tts.english.numbers import cardinal, ordinal, plural, year
from tts.normalise import Piece, normalise

pytestmark = pytest.mark.unit


def spoken(written: str, language: str = "en_US") -> str:
    """What is said, its spaces made even."""
    return " ".join(normalise(written, language).text.split())


CASES: list[tuple[str, str]] = [
    ("It costs $5.20.", "It costs five dollars and twenty cents."),
    ("He owes £1.01 and €0.99.", "He owes one pound and one penny and ninety-nine cents."),
    ("It is $1 or $1,200.50.", "It is one dollar or one thousand two hundred dollars and fifty cents."),
    ("It cost €3m, not $2.5bn.", "It cost three million euros, not two point five billion dollars."),
    ("They raised $5 million and $10k.", "They raised five million dollars and ten thousand dollars."),
    ("US$5 is C$7.", "five US dollars is seven Canadian dollars."),
    ("$5-10 or $5–$10", "five to ten dollars or five to ten dollars"),
    ("$1.5M-$2M", "one point five to two million dollars"),
    ("10 EUR, 5 €, 5.50€", "ten euros, five euros, five euros and fifty cents"),
    ("¥500 or ₹20", "five hundred yen or twenty rupees"),
    ("$12/month, $5/GB", "twelve dollars per month, five dollars per gigabyte"),
    ("-$5 and +$3", "minus five dollars and plus three dollars"),
    ("5 km, 1 km and 5km", "five kilometers, one kilometer and five kilometers"),
    ("20 °C or 68°F, -5 °C", "twenty degrees Celsius or sixty-eight degrees Fahrenheit, minus five degrees Celsius"),
    ("60 km/h and 9.81 m/s²", "sixty kilometers per hour and nine point eight one meters per second squared"),
    ("3 GB at 100 MB/s", "three gigabytes at one hundred megabytes per second"),
    ("5 m² and 3 m³", "five square meters and three cubic meters"),
    ("a 5-km run", "a five kilometer run"),
    ("3.5 kg and 100 ml", "three point five kilograms and one hundred milliliters"),
    ("10 min, 5 h, 30 s", "ten minutes, five hours, thirty seconds"),
    (
        "12 MHz, 60 W, 230 V, 4000 mAh",
        "twelve megahertz, sixty watts, two hundred thirty volts, four thousand milliamp hours",
    ),
    ("5'10\" tall", "five foot ten tall"),
    ("5% to 10 %, 3–4%", "five percent to ten percent, three to four percent"),
    ("10–20 people, pages 10-20", "ten to twenty people, pages ten to twenty"),
    ("1939–1945, 1939–45", "nineteen thirty-nine to nineteen forty-five, nineteen thirty-nine to forty-five"),
    ("5 - 3 = 2", "five minus three equals two"),
    ("50-50", "fifty fifty"),
    ("1-2-3", "one two three"),
    ("call 555-1234", "call five five five, one two three four"),
    ("+1 555 123 4567", "plus one, five five five, one two three, four five six seven"),
    (
        "(555) 123-4567 or 555.123.4567",
        "five five five, one two three, four five six seven or five five five, one two three, four five six seven",
    ),
    ("1-800-555-0199", "one, eight zero zero, five five five, zero one nine nine"),
    ("+49 30 1234567", "plus four nine, three zero, one two three four five six seven"),
    ("call 112, 911", "call one one two, nine one one"),
    ("4111 1111 1111 1111", "four one one one, one one one one, one one one one, one one one one"),
    ("123-45-6789", "one two three, four five, six seven eight nine"),
    ("Account 12345678901", "Account one two three four five six seven eight nine zero one"),
    ("007 and 0301234567", "zero zero seven and zero three zero one two three four five six seven"),
    ("1/2 cup, 3/4, 2/3, 7/16", "one half cup, three quarters, two thirds, seven sixteenths"),
    ("1 1/2 cups", "one and a half cups"),
    ("½ cup, 1½ cups, 2 ¾", "one half cup, one and a half cups, two and three quarters"),
    ("8/10 and 24/7", "eight out of ten and twenty-four seven"),
    (
        "version 2.10.3, v1.2, Python 3.11",
        "version two point ten point three, version one point two, Python three point eleven",
    ),
    ("192.168.0.1", "one hundred ninety-two dot one hundred sixty-eight dot zero dot one"),
    ("May 3, 1999", "May third, nineteen ninety-nine"),
    ("May 3rd and 3rd of May", "May third and the third of May"),
    ("on 3 May 1999", "on the third of May, nineteen ninety-nine"),
    ("2024-05-03", "May third, twenty twenty-four"),
    ("5/3/2024", "May third, twenty twenty-four"),
    ("25/12/2024", "December twenty-fifth, twenty twenty-four"),
    ("03.05.2024", "May third, twenty twenty-four"),
    ("Jan. 5, Sept. 3", "January fifth, September third"),
    ("July 4-6", "July fourth to sixth"),
    ("August 2024", "August twenty twenty-four"),
    (
        "in 1999, in 2007, in 2024, since 1815",
        "in nineteen ninety-nine, in two thousand seven, in twenty twenty-four, since eighteen fifteen",
    ),
    ("the 1990s and the '90s", "the nineteen nineties and the nineties"),
    ("the class of '98", "the class of ninety-eight"),
    ("1500 people", "one thousand five hundred people"),
    ("2024 was good", "twenty twenty-four was good"),
    ("9 a.m. tomorrow", "nine a.m tomorrow"),
    ("at 9:30, 9:05 p.m. or 7:00", "at nine thirty, nine oh five p.m or seven o'clock"),
    ("from 9-5 pm", "from nine to five p.m"),
    ("14:00, 00:00, 10:15:30", "fourteen hundred, midnight, ten fifteen and thirty seconds"),
    ("16:9 and 3:1", "sixteen to nine and three to one"),
    ("1st, 2nd, 3rd, 21st, 100th", "first, second, third, twenty-first, one hundredth"),
    ("1,234,567", "one million two hundred thirty-four thousand five hundred sixty-seven"),
    ("1 000 000 and 1.000.000", "one million and one million"),
    ("3.14, .5", "three point one four, zero point five"),
    ("-5 degrees, ±5, ~5", "minus five degrees, plus or minus five, about five"),
    ("1.5e10, 10^5, 10²", "one point five times ten to the power of ten, ten to the power of five, ten squared"),
    ("1920x1080, 5 x 3, 5*3", "nineteen twenty by one thousand eighty, five times three, five times three"),
    ("x², m²", "x squared, m squared"),
    ("Henry VIII, World War II, Chapter IV", "Henry the eighth, World War two, Chapter four"),
    ("H2O, A4, MP3, GPT-4o, 3D, B2B", "H two O, A-four, MP three, GPT-four o, three D, B two B"),
    ("https://www.example.com/a_b?x=1", "example dot com slash a underscore b"),
    ("www.example.org.", "example dot org."),
    ("example.com/docs and file.txt", "example dot com slash docs and file.txt"),
    ("joe_x@example.co.uk", "joe underscore x at example dot co dot uk"),
    ("R&D, AT&T, salt & pepper", "R and D, AT and T, salt and pepper"),
    ("@joe #winning #1 C# C++", "at joe hashtag winning number one C sharp C plus plus"),
    ("x = y + 2, a < b, 5 ≠ 6", "x equals y plus two, a less than b, five is not six"),
    ("a → b, a -> b, a => b", "a to b, a to b, a to b"),
    ("and/or, w/o, he/she", "and or, without, he slash she"),
    ("**bold** and *italic* and ~~gone~~", "bold and italic and gone"),
    ("__bold__, _italic_, snake_case", "bold, italic, snake case"),
    ("`code` and ```more```", "code and more"),
    ("# Heading", "Heading"),
    ("## A **bold** one", "A bold one"),
    ("- item", "item"),
    ("* item", "item"),
    ("> quoted", "quoted"),
    ("- [x] done", "done"),
    ("[a link](https://example.com/a) here", "a link here"),
    ("![a picture](x.png)", "a picture"),
    ("| a | b |", "a , b ,"),
    ("|---|---|", ""),
    ("---", ""),
    ("```python", ""),
    ("hello <b>bold</b> &amp; more", "hello bold and more"),
    ("note[^1]", "note"),
    ("hello 😀 world 👩\u200d🔬!", "hello world !"),
    ("★ star ™", "star"),
    ("1️⃣ first", "one first"),
    ("🇩🇪 flag", "flag"),
    ("Dr. Smith, Mr. Jones, Mrs. X", "Doctor Smith, Mister Jones, Missus X"),
    ("DR. SMITH", "Doctor SMITH"),
    ("St. James's St. is here", "Saint James's Street is here"),
    ("J. R. R. Tolkien", "J R R Tolkien"),
    ("the U.S. Army", "the U.S Army"),
    ("e.g. this, i.e. that", "for example this, that is that"),
    ("apples, etc. are", "apples, et cetera are"),
    ("apples, etc.", "apples, et cetera."),
    ("No. 5, pp. 3-5, Fig. 2", "number five, pages three to five, figure two"),
    ("Smith vs. Jones", "Smith versus Jones"),
    ("Ph.D. student", "PhD student"),
    ("Apple Inc. CEO", "Apple incorporated CEO"),
    ("wait... what", "wait, what"),
    ("Well…", "Well."),
    ("hello — world – and - more", "hello, world, and, more"),
    ("ﬁne ｆｕｌｌ ①", "fine full one"),
    ("he\u200bllo wo\xadrld", "hello world"),
    ("\x00\x01a\x7fb", "a b"),
    ('It\'s 90% of "A"', 'It\'s ninety percent of "A"'),
    ("$", "dollars"),
    ("5$", "five dollars"),
    ("100%", "one hundred percent"),
    ("1,5", "one,five"),
    ("a_b.c", "a b.c"),
]


@pytest.mark.parametrize(("written", "expected"), CASES)
def test_english(written: str, expected: str) -> None:
    """As a person would read it."""
    assert spoken(written) == expected


@pytest.mark.parametrize(
    ("written", "language", "expected"),
    [
        ("5/3/2024", "en_GB", "March fifth, twenty twenty-four"),
        ("25/3/2024", "en-us", "March twenty-fifth, twenty twenty-four"),
        ("5 km für 3,50 € am 3.5.2024", "de_DE", "5 km für 3,50 € am 3.5.2024"),
        ("## **fett** und `Code`: [hier](https://x.de) 😀", "de", "fett und Code: hier"),
        ("5 × 3 = 15 & #1 @joe 50%", "de", "5 × 3 = 15 & #1 @joe 50%"),
        ("C'est 5 % — non… si", "fr_FR", "C'est 5 % — non, si"),
        ("你好，世界。", "zh_CN", "你好，世界。"),
        ("क्\u200dष नमस्ते।", "hi_IN", "क्\u200dष नमस्ते।"),
        ("می\u200cخواهم", "fa_IR", "می\u200cخواهم"),
        ("\u202bשלום\u202c", "he_IL", "שלום"),
    ],
)
def test_languages(written: str, language: str, expected: str) -> None:
    """English words are for English voices; other languages lose what nobody reads, and nothing else."""
    assert spoken(written, language) == expected


@pytest.mark.parametrize("block", ["[[ h@l'oU ]]", "[[ *a* $5 #1 & 😀 ]]", "[[]]"])
def test_phonemes_are_left_alone(block: str) -> None:
    """What is between the brackets is spoken as it is, what is around them is not."""
    assert spoken(f"Say {block} for $1.") == f"Say {block} for one dollar."
    assert Piece(f"{block} ", f"{block} ") in normalise(f"Say {block} now", "en").pieces
    assert spoken("[[ open, and [one] $5") == "open, and one five dollars"


def test_each_written_word_has_what_is_spoken_for_it() -> None:
    """One piece a word, but where several are one expression; nothing for what is passed over."""
    reading = normalise("Hi **Dr. Smith**, pay $5 million 😀 by 3 May!", "en_US")
    assert reading.pieces == (
        Piece("Hi ", "Hi "),
        Piece("**Dr. ", "Doctor "),
        Piece("Smith**, ", "Smith, "),
        Piece("pay ", "pay "),
        Piece("$5 million ", "five million dollars "),
        Piece("😀 ", "  "),
        Piece("by ", "by "),
        Piece("3 May!", "the third of May!"),
    )


USUAL_PARTS = (
    "5 12 1999 3.5 1,000 007 0 555 1234 . , : ; ! ? - – — / $ € % ° °C km m GB k M s am a.m. May Jan. 3rd th in of Dr. "
    "St. J. R. U.S. e.g. etc. No. p. www. https:// example.com .com @ joe # & * ** _ __ ` ``` ~~ [ ] ( ) [[ ]] [a](b) "
    "<b> < > &amp; \\ \" ' ’ | … ... 😀 ★ ½ ² x ^ = + 1. II Henry A4 v1.2 ﬁ ① 你好 。 नमस्ते שלום A I a vs w/ Ph.D. "
    "10-20 call -5 90s 000 1e5"
)
ODD_PARTS = (" ", "  ", "\n", "\n\n", "\t", "- ", "> ", "# ", "\u200b", "\u200d", "\u0301", "\ufeff", "\x00", "\ud800")
TEXTS = st.one_of(
    st.lists(st.sampled_from([*USUAL_PARTS.split(), *ODD_PARTS]), max_size=12).map("".join),
    st.text(max_size=40),
)
LANGUAGES = st.sampled_from(["en_US", "en_GB", "de_DE", "fr"])


@settings(deadline=None, max_examples=300)
@given(TEXTS, LANGUAGES)
@example("etc.example.com5", "en_US")
@example("...# a", "fr")
def test_no_text_is_beyond_it(text: str, language: str) -> None:
    """It never raises; the pieces are the text; a second time changes nothing."""
    reading = normalise(text, language)
    assert "".join(piece.written for piece in reading.pieces) == text
    assert normalise(reading.text, language).text == reading.text
    for piece in reading.pieces[:-1]:
        assert piece.written[-1].isspace()
        assert not piece.spoken or piece.spoken[-1].isspace()


@settings(deadline=None)
@given(TEXTS)
def test_english_has_words_for_every_figure_and_symbol(text: str) -> None:
    """No digit is left, nor a sign that espeak-ng would spell out."""
    said = normalise(text.replace("[[", "["), "en_US").text
    assert not set(said) & set("0123456789@#$%&*_+=<>[]{}\\|^`~")


def test_no_word_is_lost() -> None:
    """Every word of a text without figures and symbols is said as it is written."""
    text = "It isn't, or so they say, a well-known one: “quite” (so) he's told; naïve, and café-like!"
    assert normalise(text, "en_US").text == text


def test_numbers_in_words() -> None:
    """Of every size."""
    assert cardinal(0) == "zero"
    assert cardinal(1_000_015) == "one million fifteen"
    assert cardinal(987_654_321) == (
        "nine hundred eighty-seven million six hundred fifty-four thousand three hundred twenty-one"
    )
    assert [ordinal(each) for each in (3, 12, 20, 21, 40, 100, 109)] == [
        "third",
        "twelfth",
        "twentieth",
        "twenty-first",
        "fortieth",
        "one hundredth",
        "one hundred ninth",
    ]
    assert [year(each) for each in (1066, 1900, 1905, 2000, 2007, 2010)] == [
        "ten sixty-six",
        "nineteen hundred",
        "nineteen oh five",
        "two thousand",
        "two thousand seven",
        "twenty ten",
    ]
    assert [plural(each) for each in ("foot", "hertz", "square mile", "penny", "degree Celsius", "mile per hour")] == [
        "feet",
        "hertz",
        "square miles",
        "pence",
        "degrees Celsius",
        "miles per hour",
    ]
