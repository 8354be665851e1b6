"""``lexiseg app``: a photograph and words on a page in the browser."""

import argparse
import threading

from rich.console import Console

from lexiseg.cli.flags import read_own_settings, read_pipeline
from lexiseg.progress import say_no_more
from lexiseg.webpage.desk import Desk
from lexiseg.webpage.page import gradio, served
from lexiseg.webpage.readers import Readers


def run(args: argparse.Namespace) -> int:
    """Load the model, then serve the page until Ctrl-C or SIGTERM."""
    gradio()  # that it is missing shows before a model is loaded
    settings, first = read_own_settings(args), read_pipeline(args)
    readers = Readers(first, checkpoint=args.checkpoint, templates=args.templates, settings=settings)
    with served(Desk(readers, device=args.device), host=args.host, port=args.port, show=args.open) as address:
        Console().print(f"the page is at {address}; Ctrl-C ends it", soft_wrap=True)
        say_no_more()  # whoever waits for visitors is not at work
        threading.Event().wait()
    return 0
