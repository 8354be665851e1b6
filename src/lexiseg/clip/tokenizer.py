"""Tokenizers: from a Hugging Face folder or name, or from OpenAI's own vocabulary file."""

import gzip
import html
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import ftfy
import regex
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from lexiseg.errors import LexisegError
from lexiseg.storage import tell_unreadable

_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_MERGES = 49152 - 256 - 2
"""OpenAI keeps this many of the merges in its file: 49,408 tokens less 512 bytes and two markers."""


class TextTooLongError(LexisegError):
    """A sentence does not fit what CLIP reads.

    Attributes:
        text: The sentence.
        tokens: Its length, markers included.
        limit: What CLIP reads.
    """

    def __init__(self, text: str, *, tokens: int, limit: int) -> None:
        super().__init__(
            f"text of {tokens} tokens is longer than the {limit} that CLIP reads: "
            f"'{text[:60]}…'; shorten the class name or the template"
        )
        self.text, self.tokens, self.limit = text, tokens, limit


class TextTokenizer(Protocol):
    """Sentences to fixed-length token ids."""

    def __call__(self, texts: Sequence[str], context_length: int) -> Tensor:
        """``(B, context_length)`` int64, with whatever markers and padding the family's text tower reads."""

    def save(self, folder: Path, *, context_length: int) -> None:
        """Write it as a Hugging Face tokenizer."""


def clean_text(text: str) -> str:
    """Mend encodings, unescape HTML twice, collapse white space and lower the case, as OpenAI does before tokenising."""
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    return regex.sub(r"\s+", " ", mended).strip().lower()


class ClipBpe:
    """Pads and guards a byte-pair tokenizer.

    A sentence longer than the context raises, for a cut sentence silently loses the class name it was about.
    """

    def __init__(self, tokenizer: Tokenizer, *, start: int, end: int, pad: int) -> None:
        self._tokenizer, self._start, self._end, self._pad = tokenizer, start, end, pad

    def __call__(self, texts: Sequence[str], context_length: int) -> Tensor:
        """Tokenise; see :class:`TextTokenizer`.

        Raises:
            TextTooLongError: A sentence does not fit the context; names its length and its beginning.
        """
        ids = torch.full((len(texts), context_length), self._pad, dtype=torch.long)
        for row, text in enumerate(texts):
            tokens = [
                self._start,
                *self._tokenizer.encode(clean_text(text), add_special_tokens=False).ids,
                self._end,
            ]
            if len(tokens) > context_length:
                raise TextTooLongError(text, tokens=len(tokens), limit=context_length)
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids

    def save(self, folder: Path, *, context_length: int) -> None:
        """Write it as a Hugging Face CLIP tokenizer, whichever file it came from; its tokens stay the same.

        Padding becomes the end marker, which no word can be; text towers never see it.

        Args:
            folder: Must exist.
            context_length: What the CLIP reads, for readers that cut or pad.
        """
        from transformers import CLIPTokenizer

        model = json.loads(self._tokenizer.to_str())["model"]
        # The library writes a merge as a pair or as a text with a blank, as its version likes.
        merges: Any = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        start, end = (str(self._tokenizer.id_to_token(marker)) for marker in (self._start, self._end))
        CLIPTokenizer(
            vocab=model["vocab"],
            merges=merges,
            bos_token=start,
            eos_token=end,
            unk_token=end,
            pad_token=end,
            model_max_length=context_length,
        ).save_pretrained(folder)


def openai_tokenizer(path: Path) -> ClipBpe:
    """Build OpenAI's tokenizer from its ``bpe_simple_vocab_16e6.txt.gz``.

    Raises:
        LexisegError: The file is missing or of another form.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise LexisegError(
            f"{tell_unreadable(path, error)}; expected OpenAI's bpe_simple_vocab_16e6.txt.gz"
        ) from error
    merges = [tuple(line.split()) for line in lines[1 : _MERGES + 1]]
    if len(merges) != _MERGES or any(len(pair) != 2 for pair in merges):
        raise LexisegError(
            f"{path}: expected a header and at least {_MERGES} merges of two, got {len(lines)} lines"
        )
    alphabet = _byte_alphabet()
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", continuing_subword_prefix="")  # type: ignore[arg-type]
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    end = len(tokens) - 1
    return ClipBpe(tokenizer, start=end - 1, end=end, pad=0)


def huggingface_tokenizer(source: str) -> ClipBpe:
    """Load a CLIP tokenizer from a Hugging Face folder or name.

    Raises:
        LexisegError: None can be had there.
    """
    from transformers import CLIPTokenizer

    try:
        loaded = CLIPTokenizer.from_pretrained(source)
        backend = getattr(loaded, "backend_tokenizer", None) or getattr(loaded, "_tokenizer")  # noqa: B009
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise LexisegError(
            f"no CLIP tokenizer at '{source}' ({str(error).splitlines()[0]}); give a Hugging Face CLIP folder or name, "
            "or OpenAI's bpe_simple_vocab_16e6.txt.gz, as clip.tokenizer"
        ) from error
    return ClipBpe(backend, start=loaded.bos_token_id, end=loaded.eos_token_id, pad=loaded.pad_token_id or 0)


class FolderTokenizer:
    """A tokenizer of transformers as its folder describes it: its own markers, padding and side of padding.

    Like :class:`ClipBpe` it refuses a sentence that does not fit, where processors would cut it.

    Args:
        tokenizer: transformers' tokenizer.
        lowercase: Whether the towers were trained on lower case, which not every stored tokenizer sees to.
    """

    def __init__(self, tokenizer: Any, *, lowercase: bool) -> None:
        self._tokenizer, self._lowercase = tokenizer, lowercase

    def __call__(self, texts: Sequence[str], context_length: int) -> Tensor:
        """Tokenise; see :class:`TextTokenizer`.

        Raises:
            TextTooLongError: A sentence does not fit the context; names its length and its beginning.
        """
        said = [text.lower() if self._lowercase else text for text in texts]
        rows = self._tokenizer(said, padding="max_length", max_length=context_length)["input_ids"]
        for text, row in zip(texts, rows, strict=True):
            if len(row) > context_length:
                raise TextTooLongError(text, tokens=len(row), limit=context_length)
        return torch.tensor(rows, dtype=torch.long)

    def save(self, folder: Path, *, context_length: int) -> None:
        """Write it as it came; ``context_length`` stands in the model's configuration."""
        del context_length
        self._tokenizer.save_pretrained(folder)


def folder_tokenizer(source: str, *, lowercase: bool = False) -> FolderTokenizer:
    """Load whatever tokenizer a Hugging Face folder or name brings.

    Raises:
        LexisegError: None can be had there.
    """
    from transformers import AutoTokenizer

    try:
        return FolderTokenizer(AutoTokenizer.from_pretrained(source), lowercase=lowercase)
    except (OSError, ImportError, TypeError, ValueError, KeyError) as error:
        raise LexisegError(
            f"no tokenizer at '{source}' ({str(error).strip().splitlines()[0]}); give the Hugging Face folder or name of "
            "this very CLIP as clip.tokenizer"
        ) from error


def lowercase_tokenizer(source: str) -> FolderTokenizer:
    """:func:`folder_tokenizer` of towers that were trained on lower case."""
    return folder_tokenizer(source, lowercase=True)


def _byte_alphabet() -> list[str]:
    """The printable stand-ins for the 256 bytes, in the order in which OpenAI numbers them."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    return [chr(code) for code in printable] + [chr(256 + extra) for extra in range(256 - len(printable))]
