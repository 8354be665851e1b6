"""Captions for crops of the toy world, and the tokenizer that knows their words."""

import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

from lexiseg.data.toy.world import TOY_GROUNDS, TOY_OBJECTS

CONTEXT = 77
"""Longest text in tokens, as in every CLIP."""

QUALITIES = (
    "bad", "good", "bright", "dark", "clean", "dirty", "nice", "weird", "cool", "small", "medium", "large",
    "blurry", "cropped", "pixelated", "close-up", "low resolution", "jpeg corrupted", "black and white",
)  # fmt: skip
MEDIA = (
    "photo", "picture", "image", "rendering", "rendition", "painting", "drawing", "sketch", "doodle",
    "sculpture", "tattoo", "graffiti", "art", "itap", "cartoon",
)  # fmt: skip
MATERIALS = ("plastic", "toy", "plushie", "origami", "embroidered", "cartoon", "hard to see", *QUALITIES[:12])
ARTICLES = ("a", "the", "one", "my", "many")
ENDINGS = (" in the scene", " in a video game")


def tell(objects: tuple[str, ...], draw: random.Random) -> tuple[str, ...]:
    """What a caption says of the objects: mostly everything, of a lone object sometimes its shape alone.

    People do not always name a colour, and captions that leave it out are about nothing but the shape.
    """
    if len(objects) == 1 and draw.random() < 0.35:
        return (objects[0].split()[1],)
    return objects


def tells(told: tuple[str, ...], shown: tuple[str, ...]) -> bool:
    """Whether what ``tell`` said of one picture's objects holds for another's."""
    if len(told) == 1 and " " not in told[0]:
        return len(shown) == 1 and shown[0].endswith(f" {told[0]}")
    return sorted(told) == sorted(shown)


def caption(objects: tuple[str, ...], grounds: tuple[str, ...], draw: random.Random) -> str:
    """Tell in words what a crop shows: often plainly, sometimes with the filler words that templates use."""
    ground = " and ".join(grounds)
    end = draw.choice(("", "", "."))
    if not objects:
        named, place = ground, ""
    else:
        order = draw.sample(objects, len(objects))
        joint = draw.choice((" and a ", " and a ", " next to a ", ", a "))
        named, place = joint.join(order), f" on {ground}"
    style = draw.random()
    if style < 0.12:
        return named + end
    if style < 0.32:
        return f"a photo of a {named}{end}"
    if style < 0.42:
        return f"{draw.choice(('a photo of ', 'a picture of ', ''))}{'a ' if objects else ''}{named}{end}"
    if style < 0.72:
        verb = draw.choice((" on ", " on ", " lies on ", " lying on "))
        start = draw.choice(("a photo of a ", "a picture of a ", "a ", "there is a "))
        return f"{start}{named}{place.replace(' on ', verb)}{end}"
    return filled_caption(named, place, draw) + end


def filled_caption(named: str, place: str, draw: random.Random) -> str:
    """Dress a name in words that say nothing about it, as prompt template sets do."""
    article, extra = draw.choice(ARTICLES), draw.choice(("", "", draw.choice(MATERIALS) + " "))
    thing = f"{article} {extra}{named}"
    ending = draw.choice(("", "", place, draw.choice(ENDINGS)))
    style = draw.random()
    if style < 0.25:
        return f"{draw.choice(('this is ', 'there is ', ''))}{thing}{ending}"
    if style < 0.45:
        return f"this is a photo of {thing}{ending}"
    quality = draw.choice(("", draw.choice(QUALITIES) + " "))
    return f"{draw.choice(('a ', 'a ', 'the ', ''))}{quality}{draw.choice(MEDIA)} of {thing}{ending}"


def caption_words() -> list[str]:
    """Every word a caption can use, sorted."""
    draw = random.Random(0)
    words: set[str] = set()
    for names in (TOY_OBJECTS, TOY_GROUNDS, QUALITIES, MEDIA, MATERIALS, ARTICLES, ENDINGS):
        words.update(word for name in names for word in name.replace("-", " ").split())
    for _ in range(20000):
        ground = draw.choice(TOY_GROUNDS)
        text = caption(tuple(draw.sample(TOY_OBJECTS, draw.choice((0, 1, 2)))), (ground, ground), draw)
        words.update(text.replace("-", " ").replace(",", " ").replace(".", " ").split())
    return sorted(words)


def byte_symbols() -> list[str]:
    """The 256 printable characters that stand for bytes in CLIP's (and GPT-2's) byte-level vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(rest))]


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, until each word is one symbol ending in ``</w>``."""
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for symbols in spelled for pair in pairwise(symbols))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for symbols in spelled:
            place = 0
            while place < len(symbols) - 1:
                if (symbols[place], symbols[place + 1]) == best:
                    symbols[place : place + 2] = ["".join(best)]
                place += 1


def make_tokenizer(words: list[str], folder: Path) -> CLIPTokenizer:
    """Write a CLIP tokenizer in which known words are single tokens and any other text falls to bytes.

    End-of-text gets the highest id: transformers pools the text at the highest id when a configuration names
    2 as its end-of-text, and at the named id otherwise; this way both agree.
    """
    symbols, merges = byte_symbols(), learn_merges(words)
    tokens = [
        *symbols,
        *(symbol + "</w>" for symbol in symbols),
        *dict.fromkeys("".join(pair) for pair in merges),
    ]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False)
    )
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n"
    )
    settings: dict[str, str | int] = {"tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT}
    settings |= {"do_lower_case": True, "bos_token": "<|startoftext|>", "errors": "replace"}
    settings |= dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer
