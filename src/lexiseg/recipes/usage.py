"""Help of the commands that take Hydra overrides: what each does, then its groups and keys as the files of conf say."""

from lexiseg.dense.names import METHODS
from lexiseg.recipes.ablations import MEASURED, SWEPT, read_table, table_names
from lexiseg.recipes.conf_files import benchmark_names, choices, conf_dir, groups

_TRAIN = """usage: lexiseg train [group=choice ...] [key=value ...]

Train a model on the seen classes of a split.

  lexiseg train experiment=toy                               the toy world, offline, a few minutes on two cores
  lexiseg train experiment=camvid data.root=PATH             street photographs
  lexiseg train experiment=cascade_voc data.root=PATH trainer=ddp trainer.devices=4      the published PASCAL VOC 15/5 recipe
  lexiseg train experiment=cascade_voc_st data.root=PATH trainer=ddp trainer.devices=4   the same, then self-training
  lexiseg train data=folder data.root=PATH split=custom split.unseen='[zebra]' clip=vit_b16
  lexiseg train trainer=ddp trainer.devices=4 trainer.precision=bf16-mixed logger=wandb
  lexiseg train --config [...]                               print the composed configuration and stop

The run folder (output_dir, by default runs/NAME) receives config.yaml, metrics.csv, last.ckpt, best.ckpt, pictures and
result.json. The same command goes on where a killed run stopped.
"""

_EVAL = """usage: lexiseg eval PATH [group=choice ...] [key=value ...]

Judge a trained model on a data set: seen, unseen and harmonic mIoU, pixel accuracy, IoU of every class; or its names of masks.

  lexiseg eval runs/toy/best.ckpt                            on the data and split of its run
  lexiseg eval runs/voc/last.ckpt data=voc split=voc_15_5 data.root=PATH
  lexiseg eval runs/coco/last.ckpt data=voc split=all        another data set than it was trained on
  lexiseg eval runs/toy/best.ckpt protocol.seen_penalty=0    change one setting of the checkpoint's protocol
  lexiseg eval runs/toy/best.ckpt masks=ground_truth         the names alone: one mask for every class that is there
  lexiseg eval runs/toy/best.ckpt clip=/other/ViT-B-16.pt    the CLIP weights have moved
  lexiseg eval runs/regions/best.ckpt segments=panoptic      panoptic quality; segments=instances: mask AP

Writes a JSON file that carries every setting beside the score (output, by default eval.json beside the checkpoint,
or NAME.eval.json beside a published folder NAME).
"""

_PIXELCLIP = """usage: lexiseg pixelclip images=FOLDER [group=choice ...] [key=value ...]

Make a CLIP's image tower better at pixels, with photographs and masks but without one label (PixelCLIP).

  lexiseg pixelclip experiment=pixelclip/toy                       the toy world, offline, a few minutes on two cores
  lexiseg masks build photos/                                      masks of your photographs, once …
  lexiseg pixelclip images=photos clip=vit_b16                     … then the released recipe on them
  lexiseg pixelclip images=photos masks=superpixels                both in one
  lexiseg pixelclip images=PATH/sa1b experiment=pixelclip/vit_b16 trainer=ddp trainer.devices=4 mask_data.batch_size=12
  lexiseg pixelclip images=photos trainer=bf16 trainer.accumulate_grad_batches=4 mask_data.batch_size=12 logger=wandb
  lexiseg pixelclip images=photos ablation=pixelclip_components/no_momentum model.clusters=32
  lexiseg pixelclip --config [...]                                 print the composed configuration and stop

The run folder (output_dir, by default runs/NAME) receives clip, the tuned CLIP as an ordinary folder; clusters.png, what
the clusters became; config.yaml, metrics.csv, last.ckpt and result.json. The same command goes on where a killed run
stopped. Whatever takes a CLIP takes the tuned one:

  lexiseg predict photo.jpg --classes "dog, grass" --clip runs/NAME/clip --method pixelclip
  lexiseg benchmark clip=file clip.source=runs/NAME/clip methods=[pixelclip,maskclip,sclip] output=runs/NAME/benchmark
  lexiseg train clip=file clip.source=runs/NAME/clip [...]
"""

_MASKADAPT = """usage: lexiseg maskadapt pairs.images=FOLDER pairs.folder=FOLDER [group=choice ...] [key=value ...]

Adapt a CLIP to regions cut out of photographs, on pairs of a region and a word (OVSeg). First its image tower, then mask prompt
tokens on what became of it:

  lexiseg masks pairs photos/ --captions captions.json --output pairs/            the pairs, once
  lexiseg maskadapt pairs.images=photos pairs.folder=pairs name=tower                 the released recipe, for ViT-L/14
  lexiseg maskadapt pairs.images=photos pairs.folder=pairs clip=runs/tower/clip model=prompts name=prompts
  lexiseg maskadapt pairs.images=photos pairs.folder=pairs data=ade20k data.root=PATH name=judged   … and name its val's regions
  lexiseg maskadapt --config [...]                                                    print the composed configuration and stop

The run folder (output_dir, by default runs/NAME) receives clip, the adapted CLIP as an ordinary folder, its tokens beside it;
config.yaml, metrics.csv, last.ckpt and result.json. The same command goes on where a killed run stopped. OVSeg takes both:

  lexiseg train experiment=ovseg_coco clip=runs/prompts/clip data.root=PATH trainer=ddp trainer.devices=8
"""

_SWEEP = """usage: lexiseg sweep ablation=TABLE [rows=[…]] [seeds=[…]] [output=FOLDER] [processes=N] [key=value ...]

Train every row of one of the papers' tables over several seeds and write table.md and results.json, mean ± spread. A sweep
that was stopped goes on where it stood: finished runs are not run again, a half one resumes.

  lexiseg sweep ablation=table8 experiment=toy                          ways to aggregate, toy world, three seeds
  lexiseg sweep ablation=table10 experiment=toy rows=[zegclip,zegclip_cascade] seeds=[0,1,2,3,4]
  lexiseg sweep ablation=table6 experiment=cascade_coco data.root=PATH trainer=ddp trainer.devices=4
  lexiseg sweep ablation=table6 experiment=cascade_coco data.root=PATH hydra/launcher=submitit_slurm \\
      hydra.launcher.partition=gpu hydra.launcher.gpus_per_node=4 hydra.launcher.timeout_min=2880
  lexiseg sweep ablation=pixelclip_clusters experiment=pixelclip/toy score.limit=50     CLIPs tuned with masks, then measured
  lexiseg sweep ablation=pixelclip_components images=photos score.benchmarks=[voc20,ade20k] score.data_root=/data

One row alone, as an ordinary training run: lexiseg train experiment=toy ablation=table8/concat
processes=N and the SLURM launcher need the extra: pip install 'lexiseg[sweep]'
"""

_BENCHMARK = """usage: lexiseg benchmark [benchmarks=[…]] [methods=[…]] [group=choice ...] [key=value ...]

Put methods and trained models side by side: mIoU on every benchmark, parameters, operations, speed, in one table (table.md),
and with every setting beside each score (results.json). A run that was stopped goes on where it stood.

  lexiseg benchmark clip=toy                                             all methods on the toy world, offline
  lexiseg benchmark benchmarks=[voc21,voc20] data_root=/data             data sets in mmsegmentation's layout
  lexiseg benchmark benchmarks=[ade20k] methods=[sclip,sc-clip,tg-clip] ade20k.data.root=/other/ADEChallengeData2016
  lexiseg benchmark clip=toy methods=[sclip] checkpoints=[runs/toy/best.ckpt] masks=ground_truth   the names alone
  lexiseg benchmark benchmarks=[folder] folder.data.images=… folder.data.masks=… folder.data.classes=…
  lexiseg benchmark clip=toy methods='[{name: tg-clip, strength: 0.2, label: strong},{name: gem, templates: single}]'
  lexiseg benchmark clip=toy methods='[tg-clip-text,{name: tg-clip, uniform: true, unit_features: false, label: own length}]'
  lexiseg benchmark benchmarks=[voc21,context60] ablation=tg_clip_table4    a table of a paper, its numbers beside ours
"""

_UNTOLD = ("#", "defaults", "  - ")
"""Lines of a root that are no keys."""

_TOLD = {
    "train": _TRAIN,
    "eval": _EVAL,
    "pixelclip": _PIXELCLIP,
    "maskadapt": _MASKADAPT,
    "sweep": _SWEEP,
    "benchmark": _BENCHMARK,
}


def usage(command: str) -> str:
    """The whole help of a command."""
    return f"{_TOLD[command]}\n{_choices(command)}"


def _choices(command: str) -> str:
    if command == "sweep":
        return "\n".join(["tables and their rows:", *_tables(*SWEPT)])
    if command == "benchmark":
        names = {"methods": METHODS, "benchmarks": benchmark_names(), "clip": choices("benchmark", "clip")}
        listed = [f"{name + ':':11s} {', '.join(values)}" for name, values in names.items()]
        tables = ["", "tables (ablation=NAME) and their rows:", *_tables(MEASURED)]
        return "\n".join([*listed, *tables, "", "keys:", *_keys("benchmark")])
    if command in SWEPT:
        rows = ", ".join(f"{table}/…" for table in table_names(command))
        return f"ablation=TABLE/ROW: {rows}; rows: lexiseg sweep --help\n\n{_groups(command)}"
    return _groups(command)


def _tables(*commands: str) -> list[str]:
    """The tables of commands, each with its rows on a line."""
    names = table_names(*commands)
    longest = max(map(len, names))
    return [f"  {table:{longest}s} {', '.join(read_table(table, *commands))}" for table in names]


def _groups(command: str) -> str:
    """Groups with their choices, then the keys of the command's root."""
    lines = [f"  {group:13s} {', '.join(choices(command, group))}" for group in sorted(groups(command))]
    head = "keys (key=value), besides those of the chosen groups:"
    return "\n".join(["groups (group=choice):", *lines, "", head, *_keys(command)])


def _keys(command: str) -> list[str]:
    """The keys of a command's root with their comments, line by line."""
    text = (conf_dir() / f"{command}.yaml").read_text(encoding="utf-8")
    return [f"  {line}" for line in text.splitlines() if line and not line.startswith(_UNTOLD)]
