"""What the page says, as HTML; whatever a visitor typed is escaped."""

from collections.abc import Sequence
from html import escape

from lexiseg.clip.model import DEFAULT_CLIP, FrozenCLIP
from lexiseg.drawing.palette import class_colours
from lexiseg.inference.pictures import NO_CLASS
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.words import names_read
from lexiseg.webpage.desk import Answer, Point

_ROWS = 24
"""Of a legend, and of a list of scores."""

_HEAD = '<header class="ls-head"><h1>lexiseg</h1><p>Which pixel is what, in your words.</p></header>'
_NO_COLOUR = (90, 90, 90)


def about(pipeline: Pipeline) -> str:
    """Which CLIP answers, and what it knows."""
    clip = pipeline.clip
    read = names_read(clip) if isinstance(clip, FrozenCLIP) else ()
    knows = "It may know any word; try."
    if read:
        knows = (
            f"It is small and has read only these words: <em>{escape(', '.join(read))}</em>. It knows rendered toy scenes and "
            f"says nothing about photographs; start <code>lexiseg app --clip {DEFAULT_CLIP}</code> for those."
        )
    of = f"The CLIP is <strong>{escape(clip.source)}</strong>. {knows}"
    split = pipeline.split
    if split is not None and split.classes:
        seen, unseen = ", ".join(split.seen), ", ".join(split.unseen)
        of += f" A trained model stands on it, with labels for <em>{escape(seen)}</em>"
        of += f", and without any for <em>{escape(unseen)}</em>." if unseen else "."
    return f'{_HEAD}<p class="ls-about">{of}</p>'


def notice(text: str, kind: str = "wrong") -> str:
    """One sentence to the visitor; ``kind`` is ``wrong``, ``warning`` or ``hint``."""
    role = "alert" if kind == "wrong" else "status"
    return f'<p class="ls-notice ls-{kind}" role="{role}">{escape(text)}</p>' if text else ""


def times(answers: Sequence[Answer]) -> str:
    """How long photograph and words took, by method."""
    rows = []
    for answer in answers:
        encode = "encoded before" if answer.encode_ms is None else f"encode {answer.encode_ms:.0f} ms"
        rows.append(f"{escape(answer.title)}: {encode} · words {answer.words_ms:.0f} ms")
    return f'<p class="ls-times">{" &nbsp;|&nbsp; ".join(rows)}</p>'


def legend(answer: Answer) -> str:
    """Swatch, name, share of the picture and mean score of each class that occurs, the largest first; the others after."""
    result, names = answer.result, answer.names
    colours = dict(zip(names, class_colours([n for n in names if n != NO_CLASS]), strict=False))
    rows = [
        _row(
            name, f"{100 * share:.1f} %", _told(result.mean_scores.get(name)), colours, name in result.unseen
        )
        for name, share in list(result.areas.items())[:_ROWS]
    ]
    more = len(result.areas) - len(rows)
    rows += [f'<tr><td></td><td colspan="3">and {more} more</td></tr>'] if more > 0 else []
    absent = [name for name in names if name not in result.areas and name != NO_CLASS]
    told = f'<p class="ls-absent">Nowhere: {escape(", ".join(absent[:_ROWS]))}</p>' if absent else ""
    head = "<tr><th></th><th>class</th><th>share</th><th>mean score</th></tr>"
    return f'<table class="ls-legend">{head}{"".join(rows)}</table>{told}'


def point(answers: Sequence[Answer], points: Sequence[Point]) -> str:
    """The word at a pixel and every score there, by method."""
    parts = []
    for answer, there in zip(answers, points, strict=True):
        names = [name for name in answer.names if name != NO_CLASS]
        colours = dict(zip(names, class_colours(names), strict=True))
        bars = "".join(
            f'<tr><td>{escape(name)}</td><td class="ls-track"><i style="width:{100 * min(max(score, 0), 1):.1f}%;'
            f'background:{_css(colours.get(name, _NO_COLOUR))}"></i></td><td>{score:.3f}</td></tr>'
            for name, score in there.scores[:_ROWS]
        )
        parts.append(
            f"<section><h3>{escape(there.name)} <small>{escape(answer.title)}, pixel {there.column}, {there.row}</small></h3>"
            f'<table class="ls-scores">{bars}</table></section>'
        )
    return f'<div class="ls-points">{"".join(parts)}</div>'


def _row(name: str, share: str, score: str, colours: dict[str, tuple[int, int, int]], hatched: bool) -> str:
    kind = "ls-swatch ls-hatched" if hatched else "ls-swatch"
    swatch = f'<i class="{kind}" style="background-color:{_css(colours.get(name, _NO_COLOUR))}"></i>'
    unseen = " <small>unseen</small>" if hatched else ""
    return f"<tr><td>{swatch}</td><td>{escape(name)}{unseen}</td><td>{share}</td><td>{score}</td></tr>"


def _told(score: float | None) -> str:
    return "–" if score is None else f"{score:.2f}"


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
