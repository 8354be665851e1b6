"""Flags of ``lexiseg app``."""

from lexiseg.cli.parsers.shared import DEVICE, METHOD, READER, Command, Flag

_DESCRIPTION = """A page in the browser: a photograph, words, and which pixel is what.

A photograph is encoded once; other words answer at once. A click on the picture tells the word and all scores there. Two
methods stand side by side. Labels, overlay, numbers and COCO's form can be taken along. The page listens on this machine
alone, loads nothing from elsewhere and sends nothing anywhere. Needs Gradio: pip install 'lexiseg[app]'"""

_EXAMPLES = """examples:
  lexiseg app --clip toy --open                        offline, toy scenes only
  lexiseg app                                          OpenAI's ViT-B/16 from the hub
  lexiseg app --checkpoint runs/camvid/best.ckpt --device cuda
  lexiseg app --host 0.0.0.0 --port 8000               for others on the network too: whoever reaches it may use it"""

COMMAND = Command(
    "app",
    "a page in the browser: a photograph, words, and which pixel is what",
    "lexiseg.cli.app:run",
    _DESCRIPTION,
    _EXAMPLES,
    (
        *READER,
        DEVICE,
        Flag("--host", "ADDRESS", "address to listen at", default="127.0.0.1"),
        Flag("--port", "PORT", "port to listen at, 0 for any that is free", default=7860, kind=int),
        Flag("--open", None, "open the page in a browser"),
        METHOD,
    ),
)
