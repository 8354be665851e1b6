"""Flags of ``lexiseg export``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import Command, Flag, Group

_LAYOUTS = ("published", "folder", "onnx", "torch")

_TOLD = """Write a checkpoint in the layout that ZegCLIP, SPT-SEG and Cascade-CLIP released (mmsegmentation's keys):

  lexiseg export voc.ckpt --to published --out voc.pth

Tensors that lexiseg does not use come from the side-car that `lexiseg import` left beside the checkpoint. Without one, the
CLIP is written from its own weights, and what the release allocates and never reads is zero.

  lexiseg export runs/mine/best.ckpt --to folder --out my_model --license apache-2.0 [--push ORG/NAME]

One folder that needs nothing else: weights (safetensors), settings, the CLIP with its tokenizer, a model card with the split,
the protocol and the scores that lie beside the checkpoint. `lexiseg predict --checkpoint my_model` takes it, and so do eval,
compare and lexiseg.PretrainedSegmenter.from_pretrained, by its path or, once pushed, as ORG/NAME.

  lexiseg export runs/mine/best.ckpt --to onnx --out my_program     (or --to torch, for torch.export.load)

A folder with one program, images and text embeddings in, mask logits out, for any batch, image size and number of classes;
beside it what a graph cannot say. It is compared with the live model at three sizes, and nothing is written where they
differ. `lexiseg predict --checkpoint my_program` runs either, without the CLIP for words of the model's own split; a
torch program, whose reader can be made to run code, only with --trust.
"""

_DATASET = "a data set of the hub that it was trained on, for the model card; may be repeated"

_OF_A_FOLDER = (
    Flag("--license", "NAME", "of the trained weights, for the model card (default: unknown)"),
    Flag("--clip-license", "NAME", "of the CLIP's weights, likewise"),
    Flag("--dataset", "ORG/NAME", _DATASET, more={"action": "append", "dest": "datasets"}),
    Flag("--without-clip", None, "only name the CLIP, which must be one of the hub's, instead of copying it"),
    Flag("--push", "ORG/NAME", "upload the folder to the Hugging Face hub as well"),
)

COMMAND = Command(
    "export",
    "write a trained model in another layout",
    "lexiseg.cli.exporting:run",
    _TOLD,
    takes=(
        Flag("checkpoint", "CKPT", "last.ckpt, best.ckpt or an imported checkpoint", kind=Path),
        Flag("--to", None, "the layout", choices=_LAYOUTS, required=True),
        Flag("--out", "PATH", "the file or folder to write", kind=Path, required=True),
        Flag("--clip", "NAME|PATH", "its CLIP, if the weights have moved"),
        Flag("--sidecar", "FILE", "default: the one beside the checkpoint", kind=Path),
        Group(_OF_A_FOLDER, "--to folder"),
    ),
)
