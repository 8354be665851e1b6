"""Time and memory of labelling GeoTIFFs of several sizes tile by tile, with the toy CLIP on tiled scenes of its world.

python scripts/bench_huge.py --sizes 5000 20000
python scripts/bench_huge.py --compare            2,000 x 3,001 pixels whole as well: in how many pixels do they differ?

Each raster is labelled in a process of its own, whose largest resident size the system tells. Needs the extra geo.
"""

import argparse
import multiprocessing
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench_support import peak_mib
from lexiseg.data.raster import Raster, open_raster, require_rasterio
from lexiseg.data.toy.world import ToyWorld
from lexiseg.inference.pipeline import Pipeline
from lexiseg.recipes.predict_raster import at_scale, class_names, write_label_raster

WORDS = "red circle, blue square, green triangle, bricks, stripes, grass"
CRS = "EPSG:32632"
METRES = 0.5
_COMPARED = (2000, 3001)
_SCENES = (5, 7)
_BAND = 512


def main() -> None:
    """Label rasters of all sizes and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="sides of square rasters, in pixels")
    parser.add_argument("--stride", type=int, help="of the windows of 48 pixels (default: the protocol's 24)")
    parser.add_argument("--compare", action="store_true", help="label a smaller raster whole as well")
    args = parser.parse_args()
    jobs = [((side, side), args.stride, False) for side in args.sizes]
    jobs += [(_COMPARED, args.stride, True)] if args.compare else []
    fresh = multiprocessing.get_context("spawn")
    for job in jobs:
        with tempfile.TemporaryDirectory() as folder, fresh.Pool(1, maxtasksperchild=1) as pool:
            path = Path(folder) / "scene.tif"
            pool.apply(make_raster, (path, job[0]))
            told = pool.apply(measure, (path, *job[1:]))  # in a process that has made nothing
        print(", ".join(f"{name} {value}" for name, value in told.items()), flush=True)


def make_raster(path: Path, size: tuple[int, int]) -> None:
    """A GeoTIFF of so many rows and columns, scenes of the toy world side by side over and over."""
    world = ToyWorld(partition="val", length=_SCENES[0] * _SCENES[1])
    scenes = np.stack([world[index].image for index in range(len(world))])
    rows = scenes.reshape(*_SCENES, *scenes.shape[1:]).transpose(0, 2, 1, 3, 4)
    mosaic = rows.reshape(rows.shape[0] * rows.shape[1], -1, 3)
    rasterio = require_rasterio()
    place = require_rasterio("rasterio.transform").from_origin(500000, 5200000, METRES, METRES)
    kind: dict[str, Any] = {"driver": "GTiff", "tiled": True, "compress": "deflate", "zlevel": 1}
    across = np.arange(size[1]) % mosaic.shape[1]
    with (
        rasterio.Env(GDAL_CACHEMAX=64),
        rasterio.open(
            path, "w", height=size[0], width=size[1], count=3, dtype="uint8", crs=CRS, transform=place, **kind
        ) as target,
    ):
        for top in range(0, size[0], _BAND):
            stop = min(top + _BAND, size[0])
            band = mosaic[np.arange(top, stop) % mosaic.shape[0]][:, across]
            target.write(band.transpose(2, 0, 1), window=((top, stop), (0, size[1])))


def measure(path: Path, stride: int | None, compare: bool) -> dict[str, Any]:
    """Label one raster; what it took, and what became of it."""
    pipeline = at_scale(Pipeline.load(clip="toy", device="cpu"), "native")
    changes = {} if stride is None else {"stride": stride}
    segmenter = replace(pipeline, protocol=replace(pipeline.protocol, **changes)).segmenter(WORDS)
    labels, names, before = (
        path.with_name("labels.tif"),
        class_names(segmenter),
        peak_mib(torch.device("cpu")),
    )
    began, worked = time.perf_counter(), time.process_time()
    with open_raster(path) as dataset:
        counts = write_label_raster(segmenter, Raster(path, dataset), labels, names)
    told: dict[str, Any] = {
        "stride": segmenter.protocol.stride,
        "wall s": round(time.perf_counter() - began),
        "processor s": round(time.process_time() - worked),
        "loaded MiB": round(before),
        "peak MiB": round(peak_mib(torch.device("cpu"))),
        "file MiB": round(labels.stat().st_size / 2**20, 1),
        "pixels": int(counts.sum()),
    }
    with open_raster(labels) as dataset, open_raster(path) as source:
        told = {"height": dataset.height, "width": dataset.width, **told}
        told["place kept"] = dataset.crs == source.crs and dataset.transform == source.transform
        if compare:
            whole: npt.NDArray[np.integer] = segmenter.segment(
                source.read().transpose(1, 2, 0), scores=False
            ).labels
            told["pixels that differ"] = int((whole != dataset.read(1)).sum())
            told["classes found"] = len(np.unique(whole))
    return told


if __name__ == "__main__":
    main()
