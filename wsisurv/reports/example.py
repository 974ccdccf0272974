"""The worked example of the prompt, and how its words are known again.

A small model gives the example's findings instead of the report's own. So each of them has a word that no report has,
invented for this page: a finding that quotes one, or says one, is parroted, wherever else its words may stand.
"""

import re

PASSAGE = """\
SPECIMEN: Velquor, 14 cm, received in strandolin. MICROSCOPIC: Brimosal carcinoma, brimosal grade 9, with 30% \
ornelic mucin. No perineural invasion of tarvic nerves. QLX7 retained."""
_INVENTED = frozenset({"velquor", "strandolin", "brimosal", "ornelic", "tarvic", "qlx7"})
PARROTED = "parroted: its words are those of the prompt's worked example"


def parroted(*texts: str) -> bool:
    """True where one of ``texts`` has a word that only the worked example has."""
    return any(word in _INVENTED for text in texts for word in re.findall(r"\w+", text.casefold()))
