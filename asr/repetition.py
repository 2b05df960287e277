"""Whether a text repeats itself the way a decoder does that has lost its place."""

from __future__ import annotations

import re

RUN = 3
"""Words in a row that are not likely to be said twice in a row by chance."""


def repeats_itself(text: str) -> bool:
    """Whether a run of words is said again at once, or the text begins anew in its midst.

    People do that too ("tear down the fence, tear down the fence"): it is a reason to look again, not a verdict.
    """
    words = re.findall(r"[\w'’]+", text.lower())
    if len(words) == 2 * len(set(words)) and words[: len(words) // 2] == words[len(words) // 2 :]:
        return len(words) > 2
    return _said_again_at_once(words) or _begins_anew(words)


def _said_again_at_once(words: list[str]) -> bool:
    for length in range(RUN, len(words) // 2 + 1):
        for start in range(len(words) - 2 * length + 1):
            if words[start : start + length] == words[start + length : start + 2 * length]:
                return True
    return False


def _begins_anew(words: list[str]) -> bool:
    opening = words[:RUN]
    return any(words[at : at + RUN] == opening for at in range(RUN, len(words) - RUN + 1))
