"""What a visitor takes along of an answer: labels, overlay, all numbers, and COCO's form."""

import shutil
from pathlib import Path

from lexiseg.errors import ConfigError
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.result_formats import ResultFiles, ResultFormats
from lexiseg.webpage.desk import Sitting


def write_answer(sitting: Sitting, folder: Path) -> tuple[Path, Path, Path, Path]:
    """Write the first answer at the photograph's own size: label PNG, overlay PNG, JSON, COCO's JSON.

    Args:
        sitting: With an answer.
        folder: Of this visitor; what was there of another answer goes.

    Raises:
        ConfigError: There is no answer.
        LexisegError: The folder cannot be written to.
    """
    if not sitting.answers:
        raise ConfigError("there is no answer yet; ask for some words first")
    shutil.rmtree(folder, ignore_errors=True)
    result, pixels = sitting.answers[0].result, sitting.require_pixels()
    paths = result.save(folder, sitting.stem, image=pixels)
    files = ResultFiles(folder, ResultFormats(("coco",)))
    with files.open():
        files.add(Photograph(folder / sitting.stem, sitting.stem, pixels), result)
    coco = files.lists[0].replace(folder / f"{sitting.stem}_coco.json")
    return paths["labels"], paths["overlay"], paths["json"], coco
