"""Words of a report taken out of what a server says, which may repeat the prompt, and is kept and shown."""

import re

BLOT = "▇"
_WORD = re.compile(r"[^\W_]+")
_SHORTEST = 3
_ORDINARY = frozenset(
    "the and for not with this that was has are can from than more into please try again error status server model "
    "models memory system requires require available unable load loading loaded loads failed failure fail out cuda "
    "gpu device context length input prompt token tokens exceeds exceed exceeded maximum window limit size request "
    "requests pending busy unexpectedly stopped runner process terminated exit signal killed invalid found unknown "
    "resource resources limitations internal due may host http https localhost connection refused dropped reset "
    "closed answer answers answered words that unauthorized forbidden timeout seconds bytes version update ollama "
    "schema json type missing list string enum text evidence category polarity statements ended".split()
)
"""What servers say by themselves; a report may say it too, without being told by it."""


def blotted(message: str, text: str) -> str:
    """``message`` without the words and numbers of ``text`` that are not a server's own.

    Escaped characters are read first, and the start of a word, where the message was cut, counts as the word.
    """
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found.group(1), 16)), message)
    plain = re.sub(r"\\[nrtbf]", " ", plain)
    words = {word.casefold() for word in _WORD.findall(text)} - _ORDINARY
    starts = {word[:length] for word in words for length in range(_SHORTEST, len(word))}

    def blot(found: re.Match[str]) -> str:
        word = found.group().casefold()
        cut = found.end() == len(plain.rstrip(".…'\")} ")) or " (status" in plain[found.end() : found.end() + 9]
        known = len(word) >= _SHORTEST and (word in words or (cut and word in starts and word not in _ORDINARY))
        return BLOT if known else found.group()

    shown = _WORD.sub(blot, plain)
    return message if BLOT not in shown else re.sub(rf"{BLOT}(?:\W+{BLOT})+", BLOT, shown)
