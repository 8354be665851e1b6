"""Words as a segmenter uses them: embedded, and with the one rule of who bears the seen penalty."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from lexiseg.clip.loading import DEFAULT_CLIP, FrozenCLIP
from lexiseg.clip.templates import TEMPLATE_SETS
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.errors import ConfigError
from lexiseg.inference.adapted_words import AdaptedWords
from lexiseg.types import ClassSplit, ClassWords

Words = Vocabulary | ClassSplit | str | Sequence[str | Sequence[str]] | None
"""A vocabulary; a data set's classes, to be judged as a whole; names separated by commas, or by new lines, with synonyms
behind semicolons; a list of such names, or of lists of a name and its synonyms; None for the model's own classes."""

Synonyms = Mapping[str, Sequence[str]]
"""Further words of a class by its name, as training had them."""

_NONE: Synonyms = MappingProxyType({})
_TOLD = 12
_KNOWN_TOLD = 40
_LETTERS = 40


@dataclass(frozen=True)
class EmbeddedWords:
    """A vocabulary with all that segmenting needs of it.

    Attributes:
        vocabulary: Class names with synonyms.
        embeddings: Of exactly these words.
        seen_ids: Classes that bear the seen penalty.
        known_ids: Classes that carried labels in training, whoever bears what: for models that trust CLIP more on others.
        crops: Embeddings of the same words in the templates of a classifier of crops.
        known_words: The words that make them known, as they are written here; None where nobody knows of a training.
        adapted: What a few photographs taught about them; None where nobody showed any.

    Raises:
        ConfigError: Embeddings of another vocabulary, or a seen id that is no class.
    """

    vocabulary: Vocabulary
    embeddings: TextEmbeddings
    seen_ids: tuple[int, ...] = ()
    known_ids: tuple[int, ...] = ()
    crops: TextEmbeddings | None = None
    known_words: tuple[str, ...] | None = None
    adapted: AdaptedWords | None = None

    @property
    def unseen(self) -> tuple[str, ...]:
        """Names of the classes that are not seen, if any is."""
        seen = {self.vocabulary.names[index] for index in self.seen_ids}
        return tuple(name for name in self.vocabulary.names if name not in seen) if seen else ()

    def class_words(self, device: torch.device) -> ClassWords:
        """All classes at once, for a model that names regions."""
        known = torch.zeros(len(self.vocabulary), dtype=torch.bool, device=device)
        known[list(self.known_ids)] = True
        crops = None if self.crops is None else self.crops.vectors.to(device)
        rows = self.embeddings
        return ClassWords(rows.vectors.to(device), rows.class_ids.to(device), known, crops)

    def __post_init__(self) -> None:
        """Reject parts that do not belong together."""
        vocabulary, embeddings = self.vocabulary, self.embeddings
        expected = [index for index, group in enumerate(vocabulary.words) for _ in group]
        if embeddings.class_ids.tolist() != expected or len(embeddings.vectors) != len(expected):
            raise ConfigError(
                f"the vocabulary has {len(vocabulary)} classes with {len(expected)} words, the embeddings "
                f"{embeddings.num_classes} with {len(embeddings.vectors)}; embed this very vocabulary"
            )
        wrong = [index for index in self.seen_ids if not 0 <= index < len(vocabulary)]
        if wrong:
            raise ConfigError(f"seen_ids names {wrong[0]}, but there are classes 0 to {len(vocabulary) - 1}")


def seen_class_ids(
    vocabulary: Vocabulary,
    trained: ClassSplit | None,
    judged: ClassSplit | None = None,
    synonyms: Synonyms = _NONE,
) -> tuple[int, ...]:
    """Classes that count as seen: they bear the protocol's penalty, and the others are unseen.

    A class counts as seen if training had labels for any of its words, whatever case they are written in; the background
    is no exception. None does where training had no unseen class, so that there is nobody to favour.

    A data set that is judged as a whole has a rule of its own: its classes count as seen only if they are the very ones
    of training, and if some of them are judged as unseen. On another data set none is. The published cross-data-set
    configurations call all its classes seen and take the penalty from all alike, which changes no label.

    Args:
        vocabulary: The words asked for.
        trained: What the model was trained on, if anything.
        judged: The classes of a data set, where the words are those.
        synonyms: Further words of training.
    """
    if trained is None or not trained.unseen:
        return ()
    if judged is not None and not (judged.unseen and judged.classes == trained.classes):
        return ()
    return known_class_ids(vocabulary, trained, synonyms)


def known_class_ids(
    vocabulary: Vocabulary, trained: ClassSplit | None, synonyms: Synonyms = _NONE
) -> tuple[int, ...]:
    """Classes of which any word is one of :func:`known_words`: FC-CLIP's overlap with the training vocabulary."""
    known = set(known_words(vocabulary, trained, synonyms))
    return tuple(index for index, group in enumerate(vocabulary.words) if not known.isdisjoint(group))


def known_words(
    vocabulary: Vocabulary, trained: ClassSplit | None, synonyms: Synonyms = _NONE
) -> tuple[str, ...]:
    """Words of the vocabulary for which training had labels, under a class's name or a synonym of it, whatever the case.

    Released, FC-CLIP compares words with their case, and so parts "bike Lane" from "bike lane".
    """
    if trained is None:
        return ()
    labelled = trained.classes if trained.setting == "supervised" else trained.seen
    seen = {_plain(word) for name in labelled for word in (name, *synonyms.get(name, ()))}
    return tuple(word for group in vocabulary.words for word in group if _plain(word) in seen)


def _plain(word: str) -> str:
    return word.strip().lower()


def tell_unknown(clip: FrozenCLIP, vocabulary: Vocabulary, negative: Sequence[str] = ()) -> str:
    """Which words a small CLIP has never read, so that its answer for them means nothing; empty where it knows all.

    Args:
        clip: The CLIP.
        vocabulary: What is looked for.
        negative: Words of the background, if they are not in the vocabulary.
    """
    asked = [*(word for group in vocabulary.words for word in group), *map(str.strip, negative)]
    unknown = clip.unknown_words(tuple(dict.fromkeys(word for word in asked if word)))
    if not unknown:
        return ""
    read = clip.known_words or frozenset()
    told = [_with_strange(name, read) for name in unknown[:_TOLD]]
    if len(unknown) > _TOLD:
        told.append(f"and {len(unknown) - _TOLD} more")
    names = ", ".join(names_read(clip)[:_KNOWN_TOLD])
    return (
        f"the CLIP '{clip.source}' has never read {', '.join(told)}; its answer for that means nothing. Ask for names made of "
        f"what it knows ({names}), or take a CLIP that has read more, such as {DEFAULT_CLIP}"
    )


def names_read(clip: FrozenCLIP) -> tuple[str, ...]:
    """The words that a small CLIP has read and that may name something, in order; none of one that may know any."""
    read = clip.known_words or frozenset()
    return tuple(sorted(read - _template_words()) or sorted(read))


def _with_strange(name: str, read: Collection[str]) -> str:
    """A name, shortened, with those of its words that were never read where others were."""
    told = name if len(name) <= _LETTERS else f"{name[:_LETTERS]}…"
    words = name.lower().split()
    strange = [word for word in words if word not in read]
    return told if len(strange) == len(words) else f"{told} ({', '.join(strange)[:_LETTERS]})"


def _template_words() -> set[str]:
    """What stands around a name in prompts: a small CLIP has read it, and it names nothing."""
    prompts = (prompt for templates in TEMPLATE_SETS.values() for prompt in templates)
    return {word.strip(".,\"'").lower() for prompt in prompts for word in prompt.split()}
