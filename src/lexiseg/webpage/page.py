"""The page itself, in Gradio: what stands where, and which action leads to which answer."""

import os
import shutil
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lexiseg.errors import ConfigError, LexisegError, own_sentence
from lexiseg.interruption import Kept, keeping
from lexiseg.webpage import markup
from lexiseg.webpage.desk import MASKS, Desk, Question, Sitting, place_shown
from lexiseg.webpage.examples import draw_examples
from lexiseg.webpage.files import write_answer
from lexiseg.webpage.server import listening, running

_NONE = "none"
_UPLOAD = "64mb"
_VISITORS = 16
"""Whose photographs and encodings are kept; the one who was away longest loses them first."""

_KEPT_SECONDS = 3600
_FONT = ("system-ui", "sans-serif")
_MONO = ("ui-monospace", "monospace")
"""Of the visitor's own machine: the page loads nothing from elsewhere."""

_MOST_STEPS = 40
_HINT = "Upload or paste a photograph, or take an example; then name what may be there."
_NO_WORDS = "Name what may be in the photograph."
_CLICK = "Click on the picture to see the word and all scores at that place."


def gradio() -> Any:
    """The library, told not to report anything.

    Raises:
        ConfigError: It is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        return import_module("gradio")
    except ImportError as error:
        raise ConfigError(
            "lexiseg app needs Gradio, which is not installed: pip install 'lexiseg[app]'"
        ) from error


@contextmanager
def served(desk: Desk, *, host: str, port: int, show: bool = False) -> Iterator[str]:
    """Serve the page while the block runs; nothing is shared beyond ``host``.

    Args:
        desk: Answers.
        host: Address to listen at.
        port: Likewise; 0 for any that is free.
        show: Whether to open it in a browser.

    Yields:
        Its address.

    Raises:
        ConfigError: Gradio is not installed, or the address cannot be had.
    """
    with listening(host, port) as door, tempfile.TemporaryDirectory(prefix="lexiseg-app-") as folder:
        application = Page(desk, Path(folder)).application()
        with (
            running(application, door) as address,
            keeping(lambda: Kept("the page kept nothing", goes_on=False)),
        ):
            if show:
                webbrowser.open(address)
            yield address


@dataclass(frozen=True)
class _Side:
    """One method's picture and legend."""

    column: Any
    picture: Any
    legend: Any


class Page:
    """Gradio's blocks, laid out and wired.

    Args:
        desk: Answers.
        folder: For files to take along; it has to outlive the page.
    """

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk, self.folder = desk, folder
        self.gr = gradio()
        self.examples = draw_examples(folder / "examples")
        with self.gr.Blocks(
            title="lexiseg", analytics_enabled=False, delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS)
        ) as self.blocks:
            self._lay_out()
            self._wire()

    def application(self) -> Any:
        """The page as an ASGI application; the library's own server would ask proxies for the way to this machine."""
        self.blocks.state_session_capacity = _VISITORS
        whole = import_module("fastapi").FastAPI(openapi_url=None)
        self.gr.mount_gradio_app(
            whole,
            self.blocks,
            path="/",
            show_error=False,
            max_file_size=_UPLOAD,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            enable_monitoring=False,
            theme=self.theme(),
            css_paths=Path(__file__).with_name("style.css"),
        )
        return whole

    def theme(self) -> Any:
        """Calm colours, and fonts that are there already."""
        soft = self.gr.themes.Soft(
            primary_hue="slate",
            neutral_hue="slate",
            radius_size="md",
            font=list(_FONT),
            font_mono=list(_MONO),
        )
        return soft.set(
            body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300"
        )  # legible

    def _lay_out(self) -> None:
        gr = self.gr
        self.sitting = gr.State(Sitting(), time_to_live=_KEPT_SECONDS, delete_callback=self._leave)
        gr.HTML(markup.about(self.desk.readers.first))
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                self._lay_out_question()
            with gr.Column(scale=7, min_width=320):
                self._lay_out_answer()

    def _lay_out_question(self) -> None:
        gr, titles = self.gr, list(self.desk.readers.titles)
        self.photo = gr.Image(
            type="filepath", sources=["upload", "clipboard"], label="Photograph", height=260, elem_id="photo",
            buttons=[],
        )  # fmt: skip
        # Gradio would open the file itself and answer a broken one with an error of its own.
        self.photo.preprocess = _path_of
        self.example = gr.Dataset(
            components=[gr.Image(visible=False)],
            samples=[[str(example.path)] for example in self.examples],
            type="index", label="Examples: scenes of the toy world", elem_id="examples",
        )  # fmt: skip
        self.words = gr.Textbox(
            label="Words", info='Classes with commas between, synonyms behind ";". Enter answers.', lines=1, max_lines=6,
            placeholder="cat; kitten, sofa, wall", value="", elem_id="words",
        )  # fmt: skip
        with gr.Row():
            self.method = gr.Dropdown(
                titles, value=titles[0], label="Method", elem_id="method", min_width=140
            )
            self.other = gr.Dropdown(
                [_NONE, *titles], value=_NONE, label="Beside it", elem_id="other", min_width=140
            )
        with gr.Accordion("Background, threshold, refinement, masks", open=False):
            self.background = gr.Textbox(
                label="Background", info="What else may be there.", placeholder="wall, sky", value=""
            )
            self.threshold = gr.Slider(
                0, 0.99, 0, step=0.01, label="Threshold", info="Scored below: no class."
            )
            self.refine = gr.Slider(
                0, _MOST_STEPS, 0, step=1, label="Refinement steps", info="Borders along colours."
            )
            self.masks = gr.Dropdown(list(MASKS), value=MASKS[0], label="Masks", info="One class for each.")
        self.go = gr.Button("Find them", variant="primary", elem_id="go")

    def _lay_out_answer(self) -> None:
        gr = self.gr
        self.notice = gr.HTML(markup.notice(_HINT, "hint"), elem_id="notice")
        with gr.Row(equal_height=False):
            self.sides = (self._lay_out_side("overlay", True), self._lay_out_side("beside", False))
        self.times = gr.HTML(elem_id="times")
        self.opacity = gr.Slider(0, 1, 0.55, step=0.05, label="Opacity", elem_id="opacity")
        self.point = gr.HTML(markup.notice(_CLICK, "hint"), elem_id="point")
        with gr.Accordion("Score map of one word", open=False, elem_id="score-map"):
            self.word = gr.Dropdown([], label="Word", elem_id="word")
            self.map = gr.Image(label="Scores", interactive=False, format="png", buttons=[], elem_id="map")
        with gr.Row():
            self.files = tuple(
                gr.DownloadButton(label, interactive=False, size="sm", min_width=120, elem_id=f"get-{name}")
                for name, label in (
                    ("labels", "Labels, PNG"), ("overlay", "Overlay, PNG"), ("json", "Numbers, JSON"), ("coco", "COCO, JSON"),
                )
            )  # fmt: skip

    def _lay_out_side(self, name: str, visible: bool) -> _Side:
        gr = self.gr
        with gr.Column(min_width=300, visible=visible) as column:
            picture = gr.Image(
                label="Overlay", interactive=False, format="png", buttons=["fullscreen"], elem_id=name
            )
            legend = gr.HTML(elem_id=f"{name}-legend")
        return _Side(column, picture, legend)

    def _wire(self) -> None:
        settings = (self.background, self.threshold, self.refine, self.masks)
        asked = [self.sitting, self.opacity, self.words, self.method, self.other, *settings]
        shown = [self.notice, self.times, self.point, self.word, self.map, *self.files]
        shown += [part for side in self.sides for part in (side.column, side.picture, side.legend)]
        quiet = {"show_progress": "minimal", "api_visibility": "private"}
        self.example.click(self._take_example, [self.example], [self.photo, self.words], **quiet)
        self.photo.change(self._take, [self.photo, *asked], shown, **quiet).then(
            self._pack, [self.sitting], [*self.files], **quiet
        )
        self.gr.on(
            [self.go.click, self.words.submit, self.method.change, self.other.change, self.background.submit,
             self.threshold.release, self.refine.release, self.masks.change],
            self._ask, asked, shown, **quiet,
        ).then(self._pack, [self.sitting], [*self.files], **quiet)  # fmt: skip
        drawn = [side.picture for side in self.sides]
        self.opacity.release(self._draw, [self.sitting, self.opacity], drawn, **quiet)
        self.word.input(self._map, [self.sitting, self.word], [self.notice, self.map], **quiet)
        for side in self.sides:
            side.picture.select(self._on_click(), [self.sitting], [self.point], **quiet)

    def _on_click(self) -> Callable[[Sitting, Any], str]:
        def look(sitting: Sitting, event: Any) -> str:
            column, row = event.index
            return self._look(sitting, int(row), int(column))

        look.__annotations__["event"] = self.gr.SelectData  # by this Gradio knows that it is to be told where
        return look

    def _leave(self, sitting: Sitting) -> None:
        """Clear up behind a visitor who has gone."""
        if sitting.name:
            shutil.rmtree(self.folder / sitting.name, ignore_errors=True)
        sitting.forget()

    def _take_example(self, index: int) -> tuple[str, str]:
        example = self.examples[index]
        return str(example.path), example.words

    def _take(self, path: str | None, sitting: Sitting, *asked: Any) -> tuple[Any, ...]:
        """Another photograph, or none any more."""
        try:
            if path is None:
                sitting.forget()
                return self._without(sitting, markup.notice(_HINT, "hint"))
            sitting.show(path, Path(path).stem)
        except LexisegError as error:
            return self._without(sitting, markup.notice(own_sentence(error)))
        return self._ask(sitting, *asked)

    def _ask(
        self, sitting: Sitting, opacity: float, words: str, method: str, other: str, *settings: Any
    ) -> tuple[Any, ...]:
        """Answers by one method or two, or one sentence that says why not."""
        if not words.strip() or sitting.pixels is None:
            sitting.answers = ()
            return self._without(
                sitting, markup.notice(_HINT if sitting.pixels is None else _NO_WORDS, "hint")
            )
        methods = [method] if other in (_NONE, method) else [method, other]
        try:
            answers = self.desk.ask(sitting, [Question(words, title, *settings) for title in methods])
        except LexisegError as error:
            return self._without(sitting, markup.notice(own_sentence(error)))
        gr, sides = self.gr, []
        for side in answers:
            picture = gr.update(value=side.overlay(opacity), label=side.title)
            sides += [gr.update(visible=True), picture, markup.legend(side)]
        sides += [gr.update(visible=False), None, ""] * (len(self.sides) - len(answers))
        words_known = gr.update(choices=list(answers[0].segmenter.vocabulary.names), value=None)
        return (
            markup.notice(answers[0].warning, "warning"),
            markup.times(answers),
            markup.notice(_CLICK, "hint"),
            words_known,
            None,
            *self._no_files(),
            *sides,
        )

    def _without(self, sitting: Sitting, told: str) -> tuple[Any, ...]:
        """The page with a sentence instead of an answer; the photograph itself stays to be seen."""
        gr = self.gr
        bare = None if sitting.pixels is None else sitting.bare()
        first = [gr.update(visible=True), gr.update(value=bare, label="Overlay"), ""]
        others = [gr.update(visible=False), None, ""] * (len(self.sides) - 1)
        return (
            told,
            "",
            markup.notice(_CLICK, "hint"),
            gr.update(choices=[], value=None),
            None,
            *self._no_files(),
            *first,
            *others,
        )

    def _no_files(self) -> list[Any]:
        return [self.gr.update(value=None, interactive=False)] * len(self.files)

    def _pack(self, sitting: Sitting) -> list[Any]:
        """The files of the first answer, after it is shown."""
        if not sitting.answers:
            return self._no_files()
        try:
            paths = write_answer(sitting, self.folder / sitting.name)
        except LexisegError:
            return self._no_files()
        return [self.gr.update(value=str(path), interactive=True) for path in paths]

    def _draw(self, sitting: Sitting, opacity: float) -> list[Any]:
        """The same answers in other opacity."""
        drawn = [self.gr.update(value=answer.overlay(opacity)) for answer in sitting.answers]
        return drawn + [self.gr.skip()] * (len(self.sides) - len(drawn))

    def _map(self, sitting: Sitting, word: str | None) -> tuple[Any, Any]:
        """Where one word scores high."""
        if not sitting.answers or not word:
            return self.gr.skip(), None
        answer = sitting.answers[0]
        try:
            picture, highest = self.desk.look(lambda: answer.word_map(word))
        except LexisegError as error:
            return markup.notice(own_sentence(error)), None
        told = f"{word}, {answer.title}: dark is 0, light is {highest:.3g}"
        return self.gr.skip(), self.gr.update(value=picture, label=told)

    def _look(self, sitting: Sitting, row: int, column: int) -> str:
        """The words at a pixel of what is drawn."""
        if not sitting.answers:
            return markup.notice(_CLICK, "hint")
        row, column = place_shown(row, column, sitting.answers[0].result.size)
        points = self.desk.look(lambda: [answer.at(row, column) for answer in sitting.answers])
        return markup.point(sitting.answers, points)


def _path_of(payload: Any) -> str | None:
    return None if payload is None else str(payload.path)
