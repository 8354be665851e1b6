"""A folder of toy scenes with captions and their exact masks, as the commands make them; light to import."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from lexiseg.data.toy.world import TOY_CLASSES, ToyWorld
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore

SIZE = (64, 80)


def shown(sample) -> list[int]:
    """Class ids of a scene, the largest first."""
    ids, counts = np.unique(sample.label, return_counts=True)
    return ids[np.argsort(-counts, kind="stable")].tolist()


def captioned_scenes(folder: Path, count: int = 4, *, told: int = 2) -> list:
    """Write scenes, captions.json that names the largest regions of each, and a mask of every class; the samples."""
    world = ToyWorld(partition="train", length=count, image_size=SIZE, seed=3)
    samples = [world[index] for index in range(count)]
    images, annotations = [], []
    for index, sample in enumerate(samples):
        name = f"deep/{sample.name}.png" if index % 2 else f"{sample.name}.png"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image).save(path)
        present = shown(sample)
        masks = MaskSet.from_masks(np.stack([sample.label == each for each in present]))
        MaskStore().write(path, masks, {"provider": "exact"})
        images.append({"id": index, "file_name": path.name})
        words = " and a ".join(TOY_CLASSES[each] for each in present[:told])
        annotations.append({"id": index, "image_id": index, "caption": f"A photo of {words}."})
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return samples
