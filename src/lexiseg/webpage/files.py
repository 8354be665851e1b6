"""What a visitor takes along of an answer: labels, overlay, all numbers, and COCO's form."""

from pathlib import Path
from typing import Any

from lexiseg.errors import ConfigError
from lexiseg.inference.result import Segmentation
from lexiseg.storage import write_json
from lexiseg.webpage.desk import Sitting


def write_answer(sitting: Sitting, folder: Path) -> tuple[Path, Path, Path, Path]:
    """Write the first answer at the photograph's own size: label PNG, overlay PNG, JSON, COCO's JSON.

    Args:
        sitting: With an answer.
        folder: Of this visitor; the files of an answer before are written over.

    Raises:
        ConfigError: There is no answer.
        LexisegError: The folder cannot be written to.
    """
    if not sitting.answers:
        raise ConfigError("there is no answer yet; ask for some words first")
    answer = sitting.answers[0]
    paths = answer.result.save(folder, sitting.stem, image=answer.encoded.image)
    coco = folder / f"{sitting.stem}_coco.json"
    write_json(coco_file(answer.result, sitting.stem), coco)
    return paths["labels"], paths["overlay"], paths["json"], coco


def coco_file(result: Segmentation, name: str) -> dict[str, Any]:
    """The annotations of one photograph as a whole COCO file."""
    height, width = result.size
    annotations = [
        {**annotation, "id": index, "image_id": 1}
        for index, annotation in enumerate(result.to_coco(), start=1)
    ]
    return {
        "images": [{"id": 1, "file_name": name, "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": index, "name": label} for index, label in result.id2label.items()],
    }
