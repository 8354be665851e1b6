"""``lexiseg app``: a photograph and words on a page in the browser."""

import argparse
import threading

from rich.console import Console

from lexiseg.cli.flags import read_pipeline, read_settings
from lexiseg.recipes.method_settings import own_settings
from lexiseg.webpage.desk import Desk
from lexiseg.webpage.page import gradio, served
from lexiseg.webpage.readers import Readers


def run(args: argparse.Namespace) -> int:
    """Load the model, then serve the page until Ctrl-C or SIGTERM."""
    gradio()  # that it is missing shows before a model is loaded
    settings = own_settings(read_settings(args, "proxy", "sam", "bank"), args.method)
    readers = Readers(
        read_pipeline(args), checkpoint=args.checkpoint, templates=args.templates, settings=settings
    )
    with served(Desk(readers, device=args.device), host=args.host, port=args.port, show=args.open) as address:
        Console().print(f"the page is at {address}; Ctrl-C ends it", soft_wrap=True)
        threading.Event().wait()
    return 0
