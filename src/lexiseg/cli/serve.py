"""``lexiseg serve``: the model of the flags, answering over HTTP."""

import argparse

from lexiseg.cli.flags import read_pipeline
from lexiseg.recipes.serve import Serving, require_unmasked
from lexiseg.serving.limits import Limits


def run(args: argparse.Namespace) -> int:
    """Answer until a signal ends it.

    Raises:
        LexisegError: A wrong flag, a missing package, no model, or an address that cannot be listened at.
    """
    require_unmasked(args.method)
    limits = Limits().changed(args.limits or ())
    serving = Serving(args.host, args.port, args.token_file, limits)
    serving.run(lambda: read_pipeline(args), lambda told: print(told, flush=True))
    return 0
