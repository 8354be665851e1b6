"""The words of a caption that may name something to be seen: of a list, or whatever a tagger takes for a noun."""

import re
from collections.abc import Callable, Iterator, Sequence

from lexiseg.errors import ConfigError
from lexiseg.lazy import locate

CaptionWords = Callable[[str], tuple[str, ...]]
"""A caption to its words, each once, in the order in which they stand there."""

_PLURAL = "NNS"
_NOUN_TAGS = ("NN", _PLURAL)
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "geese": "goose",
    "leaves": "leaf",
    "shelves": "shelf",
    "knives": "knife",
}


class ListedWords:
    """Words of a list that stand in a caption, in singular or plural, whatever the case; the longest match counts.

    "red circles on bricks" holds "red circle" and "bricks" where the list has both, and then not "circle". A hyphen parts
    words as a blank does. No grammar is looked at: "fly" is found in "flies" whether it is an insect or a verb. Every plural
    that a word may have is known beforehand: from "buses" alone nobody can tell whether its singular ends in an e.

    Args:
        groups: What is to be found; each a name and its synonyms, which all mean the name.
    """

    def __init__(self, groups: Sequence[Sequence[str]]) -> None:
        self._names = {tokens: group[0] for group in groups for word in group if (tokens := _tokens(word))}
        for tokens, name in tuple(self._names.items()):
            *first, last = tokens
            for other in (singular(last), *plurals(singular(last)), *plurals(last)):
                self._names.setdefault((*first, other), name)  # what the list itself says goes first
        self._longest = max(map(len, self._names), default=0)

    def __call__(self, caption: str) -> tuple[str, ...]:
        """The names of what it mentions."""
        return tuple(dict.fromkeys(self._found(_tokens(caption))))

    def _found(self, tokens: tuple[str, ...]) -> Iterator[str]:
        place = 0
        while place < len(tokens):
            for length in range(min(self._longest, len(tokens) - place), 0, -1):
                name = self._names.get(tokens[place : place + length])
                if name is not None:
                    yield name
                    place += length
                    break
            else:
                place += 1


class TaggedNouns:
    """Every common noun, in singular, by NLTK's tagger: words that no list holds are found too.

    Raises:
        ConfigError: NLTK, or a part of its data, is not installed.
    """

    def __init__(self) -> None:
        try:
            self._split = locate("nltk:word_tokenize")
            self._tag = locate("nltk:pos_tag")
        except ImportError as error:
            raise ConfigError(
                "words=nouns needs NLTK, which is not installed: pip install 'lexiseg[captions]', or name a word list instead"
            ) from error

    def __call__(self, caption: str) -> tuple[str, ...]:
        """Its nouns, small letters."""
        try:
            tagged = self._tag(self._split(caption))
        except LookupError as error:
            raise ConfigError(
                "words=nouns needs NLTK's tokenizer and tagger; get them once: python -m nltk.downloader punkt_tab "
                "averaged_perceptron_tagger_eng"
            ) from error
        nouns = [(word.lower(), tag) for word, tag in tagged if tag in _NOUN_TAGS]
        return tuple(dict.fromkeys(singular(word) if tag == _PLURAL else word for word, tag in nouns))


def singular(word: str) -> str:
    """The singular of an English plural by its ending, or the word itself where it does not look like one."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return (
        word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
    )


def plurals(word: str) -> tuple[str, ...]:
    """What the plural of an English word may be; most of these are no words, and so stand in no caption."""
    irregular = tuple(many for many, one in _IRREGULAR.items() if one == word)
    return (f"{word}s", f"{word}es", *([f"{word[:-1]}ies"] if word.endswith("y") else []), *irregular)


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(text.lower()))
