"""The stems of the published algorithm's own examples, and those of nltk's implementation of it."""

from __future__ import annotations

import pytest
from nltk.stem.snowball import SnowballStemmer

from captioner.metrics.meteor.stemmer import stem

# From the rules of the steps: Porter 2001.
CASES = (
    "caresses caress|ties tie|cries cri|gas gas|this this|gaps gap|kiwis kiwi|agreed agre|luxuriated luxuri|"
    "hopping hop|hoping hope|cry cri|by by|say say|relational relat|conditional condit|vietnamization vietnam|"
    "sensibilities sensibl|skis ski|dying die|news news|innings inning|proceeded proceed|generously generous|"
    "communism communism|arsenal arsenal|bed bed|shed shed|embed emb|entry entri|youth youth|boyish boyish|"
    "sayings say|dogs' dog|dog's dog|'tis tis|realization realiz|rotational rotat|earring's earring|"
    "possibly possibl|geology geolog|adjustment adjust|adoption adopt"
)
# Where nltk differs: the second region of a word whose suffix step 2 replaces, and 's before an exception.
NLTK_DIFFERS = {"realization", "rotational", "earring's", "vietnamization"}


@pytest.mark.parametrize("case", CASES.split("|"))
def test_stems(case: str) -> None:
    word, expected = case.split()
    assert stem(word) == expected
    if word not in NLTK_DIFFERS:
        assert SnowballStemmer("english").stem(word) == expected
