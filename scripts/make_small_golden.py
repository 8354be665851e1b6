"""Write tests/golden/small: published numbers that need no weights, and our outputs on models made by a rule.

Usage: LEXISEG_GOLDEN=FOLDER python scripts/make_small_golden.py

FOLDER holds the full golden set. The full golden tests run first, and nothing is written unless all of them pass:
the outputs are numbers of our own code, worth something only because that code agrees with the published ones.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "golden")]

from small_cases import CASES, outputs  # noqa: E402

from support import GOLDEN_VARIABLE, SMALL_GOLDEN, golden_folders, load_numbers  # noqa: E402

NEEDED = ("cascade", "zegclip", "spt", "training-free", "more-training-free", "pixelclip")
CHECKS = (
    str(TESTS / "golden"),
    f"--ignore={TESTS / 'golden' / 'test_small.py'}",
    *(str(TESTS / "ops" / f"test_{name}.py") for name in ("resize", "sinkhorn", "sliding_window")),
    str(TESTS / "metrics" / "test_functional.py"),
)
"""Every test that compares with published numbers."""

PUBLISHED = SMALL_GOLDEN / "published"


def main() -> int:
    """Check, then write; the status is that of the golden tests."""
    folders = {kind: golden_folders(kind) for kind in NEEDED}
    missing = [kind for kind in NEEDED if not folders[kind]]
    if missing:
        print(f"{GOLDEN_VARIABLE} names no folder {', '.join(missing)}; nothing was written")
        return 2
    status = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CHECKS]
    ).returncode
    if status != 0:
        print("the golden tests do not pass; nothing was written")
        return status
    write_published({kind: found[0] for kind, found in folders.items()})
    for name in CASES:
        save(SMALL_GOLDEN / "ours" / f"{name}.npz", {k: v.numpy() for k, v in outputs(name).items()})
    sizes = [path.stat().st_size for path in SMALL_GOLDEN.rglob("*") if path.is_file()]
    print(f"{len(sizes)} files of {sum(sizes) / 1000:.0f} kB in all under {SMALL_GOLDEN}")
    return 0


def write_published(folders: dict[str, Path]) -> None:
    """Copy what is small and needs no weights."""
    cascade = PUBLISHED / "cascade"
    cascade.mkdir(parents=True, exist_ok=True)
    for name in ("lr_schedule.json", "test_resize.json"):
        content = json.loads((folders["cascade"] / name).read_text())
        (cascade / name).write_text(json.dumps(content, indent=1) + "\n")
    losses = load_numbers(folders["cascade"] / "losses.pt")
    chosen = {name: case for name, case in losses.items() if name.endswith(("_up", "_functions"))}
    save(cascade / "losses.npz", flatten(chosen))
    save(cascade / "eval_metrics.npz", flatten(load_numbers(folders["cascade"] / "eval_metrics.pt")))
    with np.load(folders["training-free"] / "preprocess.npz") as archive:
        smallest = min((k for k in archive.files if k.endswith("_bgr")), key=lambda key: archive[key].size)
        chosen = {key: archive[key] for key in ("orig", smallest)}
    save(PUBLISHED / "training-free" / "preprocess.npz", chosen)
    source = min(folders["pixelclip"].glob("PixelCLIP__*.npz"))
    with np.load(source) as archive:
        keys = [key for key in archive.files if key.startswith(("sinkhorn/eps1/", "sinkhorn/clumped/"))]
        save(PUBLISHED / "pixelclip" / "PixelCLIP__sinkhorn.npz", {key: archive[key] for key in keys})


def flatten(nested: dict, prefix: str = "") -> dict[str, np.ndarray]:
    """Tensors and numbers of nested dicts under names joined by ``/``; label maps as single bytes."""
    flat: dict[str, np.ndarray] = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
            small = array.dtype == np.int64 and array.size and 0 <= array.min() <= array.max() < 256
            flat[f"{prefix}{name}"] = array.astype(np.uint8) if small else array
    return flat


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Compressed; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
