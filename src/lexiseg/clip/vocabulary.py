"""A vocabulary: class names with synonyms, and their text embeddings."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.tokenizer import TextTooLongError
from lexiseg.errors import ConfigError
from lexiseg.progress import doing
from lexiseg.storage import read_words, tell_unreadable, write_atomically
from lexiseg.types import chunks

if TYPE_CHECKING:
    from lexiseg.clip.model import FrozenCLIP
    from lexiseg.clip.towers.text import TextTower

_SENTENCES = 8192
"""Sentences encoded before they are averaged over the templates: bounds memory for any number of words."""

_SHOWN_LETTERS = 40
_SHOWN_WORDS = 8


@dataclass(frozen=True)
class TextEmbeddings:
    """Unit text embeddings of a vocabulary.

    Attributes:
        vectors: ``(M, D)`` one row per word or synonym, unit norm; of a tower that does not pool its tokens, of any.
        class_ids: ``(M,)`` int64, the class that each row stands for; ascending.
    """

    vectors: Tensor
    class_ids: Tensor

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return int(self.class_ids[-1]) + 1


@dataclass(frozen=True)
class Vocabulary:
    """Class names, each with optional synonyms, and the templates they are spoken in.

    Attributes:
        words: One tuple per class: its name, then synonyms.
        templates: A template set's name, or templates with one ``{}`` each; None where whoever uses the words decides,
            as a :class:`lexiseg.Pipeline` does.
        shared: Whether two classes may share a word, as in the published words of COCO-Object, where "bed" is
            a class and one of the background's. A tie goes to the first class.

    Raises:
        ConfigError: No class, an empty or a repeated name.
    """

    words: tuple[tuple[str, ...], ...]
    templates: str | tuple[str, ...] | None = None
    shared: bool = False

    def __post_init__(self) -> None:
        """Reject a vocabulary that could not name its own output."""
        if not self.words:
            raise ConfigError(
                'the vocabulary is empty; give at least one class name, such as "dog, grass, sky"'
            )
        if any(not group or any(not word.strip() for word in group) for group in self.words):
            raise ConfigError("a class name is empty; look for two commas in a row or a blank line")
        cleaned = [[word.strip().lower() for word in group] for group in self.words]
        scopes = cleaned if self.shared else [[word for group in cleaned for word in group]]
        repeated = sorted(word for scope in scopes for word, count in Counter(scope).items() if count > 1)
        if repeated:
            told = ", ".join(word[:_SHOWN_LETTERS] for word in repeated[:_SHOWN_WORDS])
            more = f" and {len(repeated) - _SHOWN_WORDS} more" if len(repeated) > _SHOWN_WORDS else ""
            raise ConfigError(f"named twice: {told}{more}; every class and synonym may stand once")
        if self.templates is not None:
            resolve_templates(self.templates)

    @classmethod
    def from_text(cls, text: str, templates: str | tuple[str, ...] | None = None) -> "Vocabulary":
        """Classes separated by commas or new lines, synonyms within a class by ``;``: ``"cat; kitten, sofa, wall"``."""
        separator = "\n" if "\n" in text.strip() else ","
        groups = [group for group in text.strip().split(separator) if group.strip() or separator == ","]
        words = (
            tuple(tuple(word.strip() for word in group.split(";")) for group in groups)
            if text.strip()
            else ()
        )
        return cls(words, templates)

    @classmethod
    def from_file(cls, path: Path | str, templates: str | tuple[str, ...] | None = None) -> "Vocabulary":
        """One class a line, synonyms separated by ``;``.

        Raises:
            ConfigError: The file cannot be read as UTF-8 text, or its content is no vocabulary.
        """
        try:
            text = read_words(Path(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{tell_unreadable(Path(path), error)}; expected a UTF-8 text file with one class name a line"
            ) from error
        lines = [line for line in text.splitlines() if line.strip()]
        return cls(tuple(tuple(word.strip() for word in line.split(";")) for line in lines), templates)

    @classmethod
    def from_names(cls, names: Sequence[str], templates: str | tuple[str, ...] | None = None) -> "Vocabulary":
        """One word per class, as a data set lists them."""
        return cls(tuple((name,) for name in names), templates)

    @property
    def names(self) -> tuple[str, ...]:
        """The first word of each class: what legends and result files call it."""
        return tuple(group[0] for group in self.words)

    @property
    def id2label(self) -> dict[int, str]:
        """Class index to name."""
        return dict(enumerate(self.names))

    def __len__(self) -> int:
        return len(self.words)

    def spoken_in(self, templates: str | tuple[str, ...]) -> "Vocabulary":
        """The same words, in these templates unless they were given templates of their own."""
        return self if self.templates is not None else replace(self, templates=templates)

    def embed(self, clip: "FrozenCLIP", cache_dir: Path | None = None) -> TextEmbeddings:
        """Unit text embeddings: per word, the normalised mean over templates of normalised sentence embeddings.

        Of raw ones where the text tower says so. A tower that does not pool gives what it gives, of one template.

        Args:
            clip: A CLIP with its text tower.
            cache_dir: Where to keep and look for results, by weight fingerprint, templates and words; no disk is
                touched without it.

        Raises:
            ConfigError: Nobody has decided on templates, or a word does not fit what CLIP reads.
        """
        templates = self._resolved()
        flat = [word for group in self.words for word in group]
        class_ids = torch.tensor([index for index, group in enumerate(self.words) for _ in group])
        path = None if cache_dir is None else cache_dir / f"{self._key(clip.fingerprint, flat)}.safetensors"
        if path is not None and path.exists():
            return TextEmbeddings(load_file(path)["vectors"], class_ids)
        vectors = embed_words(clip, flat, templates)
        if path is not None:
            write_atomically(path, lambda part: save_file({"vectors": vectors.contiguous()}, part))
        return TextEmbeddings(vectors, class_ids)

    def _key(self, fingerprint: str, flat: list[str]) -> str:
        content = json.dumps([fingerprint, self._resolved(), flat], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def _resolved(self) -> tuple[str, ...]:
        if self.templates is None:
            raise ConfigError(
                'the vocabulary says no templates to put its words in; give it some, such as templates="single", or let a '
                "Pipeline embed it in the model's own"
            )
        return resolve_templates(self.templates)


def embed_words(clip: "FrozenCLIP", words: Sequence[str], templates: tuple[str, ...]) -> Tensor:
    """``(M, D)`` unit embeddings of ``words``: template ensemble as CLIP's authors build it.

    Raises:
        ConfigError: A word does not fit what CLIP reads; the message shows its beginning and the limit. Or several templates
            for a tower whose sentences cannot be averaged.
    """
    tower = clip.require_text()
    if not tower.pools and len(templates) > 1:
        raise ConfigError(
            f"'{clip.source}' reads a word token by token, and {len(templates)} sentences of it cannot be averaged; leave "
            "templates out, or give one such as plain"
        )
    encode = tower.encode if tower.unit_sentences else tower.encode_raw
    _try_long_words(tower, words, templates)
    rows = []
    with doing("embedding words", len(words)) as work:
        for part in chunks(len(words), max(1, _SENTENCES // len(templates))):
            sentences = [_sentence(template, word) for word in words[part] for template in templates]
            try:
                vectors = encode(sentences)
            except TextTooLongError as error:
                raise _word_too_long(error, words[part], templates) from error
            rows.append(vectors.unflatten(0, (-1, len(templates))).mean(1))
            work.advance(len(words[part]))
    vectors = torch.cat(rows).cpu()
    return F.normalize(vectors, dim=-1) if tower.pools else vectors


def _sentence(template: str, word: str) -> str:
    return template.replace("{}", word)


def _try_long_words(tower: "TextTower", words: Sequence[str], templates: tuple[str, ...]) -> None:
    """Words that may be too long are tried before any is encoded, which takes minutes for long lists."""
    longest = max(templates, key=len)
    for word in words:
        sentence = _sentence(longest, word)
        if len(sentence.encode()) > tower.context_length - 2:  # a token is at least a byte
            try:
                tower.tokenizer([sentence], tower.context_length)
            except TextTooLongError as error:
                raise _word_too_long(error, [word], templates) from error


def _word_too_long(error: TextTooLongError, words: Sequence[str], templates: tuple[str, ...]) -> ConfigError:
    word = next(word for word in words if any(_sentence(t, word) == error.text for t in templates))
    shown = word if len(word) <= _SHOWN_LETTERS else f"{word[:_SHOWN_LETTERS]}…"
    return ConfigError(
        f"the class name '{shown}' ({len(word)} characters) makes a sentence of {error.tokens} tokens, and CLIP "
        f"reads at most {error.limit}; shorten the name"
    )


def default_cache_dir() -> Path:
    """``$LEXISEG_CACHE`` or ``~/.cache/lexiseg``."""
    return Path(os.environ.get("LEXISEG_CACHE", Path.home() / ".cache" / "lexiseg"))
