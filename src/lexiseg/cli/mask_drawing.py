"""Pictures of the masks of photographs, for ``lexiseg masks show``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.markup import escape

from lexiseg.cli.photographs import Photograph, Step, conclude, each_photograph
from lexiseg.drawing.grid import panel_size
from lexiseg.drawing.mask_sheet import mask_sheet
from lexiseg.masks.build import MaskTask
from lexiseg.storage import write_png

_SHOWN_SIDE = 640


def draw_all(tasks: Sequence[MaskTask], output: Path) -> int:
    """Write ``STEM_masks.png`` of each photograph; 1 if one was skipped.

    Args:
        tasks: The photographs, each with the store that holds its masks.
        output: Folder of the pictures.
    """
    console = Console(stderr=True, soft_wrap=True)
    stores = {task.image: task.store for task in tasks}

    def draw(photograph: Photograph, _: Step) -> None:
        image = photograph.pixels
        masks = stores[photograph.path].read(photograph.path, (image.shape[0], image.shape[1]))
        height, width = panel_size(image.shape[0], image.shape[1], _SHOWN_SIDE)
        small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
        title = f"{photograph.path.name}: {len(masks)} masks"
        path = output / f"{photograph.stem}_masks.png"
        write_png(mask_sheet(small, masks.arrays((height, width)), title=title), path)
        console.print(f"wrote {escape(str(path))}")

    photos = list(stores)
    failures = each_photograph(photos, console, draw, told="drawing masks")
    return conclude(console, photos, failures, done="drawn")
