"""Weights: checkpoints, CLIP folders and files, model folders, programs and archives, damaged in every way."""

import contextlib
import io
import json
import pickle
import random
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import lexiseg
from campaign.case import Answer, Case, Expected
from campaign.made import SHARED, SIZE, check_prediction, predicting, scene
from hostile import CLASSES, as_pickle, as_torch_file, small_checkpoint
from lexiseg.cli.main import main
from lexiseg.dense.region_bank import RegionBank
from program_cases import save_checkpoint

KIND = "weights"
_TOY = Path(lexiseg.__file__).parent / "assets" / "toy_clip"
_MODEL_WORDS = ", ".join(CLASSES)

Damage = Callable[[bytes], bytes]


def cases() -> Iterator[Case]:
    """Checkpoints, then CLIPs, then folders that were exported."""
    yield from _checkpoints()
    yield from _clip_folders()
    yield from _clip_files()
    yield from _banks()
    yield from _model_folders()
    yield from _programs()


def _with_model(name: str) -> list[str]:
    """Arguments of ``predict`` with a trained model."""
    return [
        "predict",
        "photo.png",
        "--classes",
        _MODEL_WORDS,
        "--checkpoint",
        name,
        "--out",
        "out",
        "--no-overlay",
    ]


def _judge(_: Answer) -> None:
    check_prediction("photo", SIZE, CLASSES)


def _photo() -> None:
    Image.fromarray(scene()).save("photo.png")


@cache
def _good_checkpoint() -> bytes:
    content = io.BytesIO()
    torch.save(small_checkpoint(), content)
    return content.getvalue()


def _cut(share: float) -> Damage:
    return lambda content: content[: int(share * len(content))]


def _flipped(seed: int, count: int) -> Damage:
    def damage(content: bytes) -> bytes:
        chance, damaged = random.Random(seed), bytearray(content)
        for _ in range(count):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        return bytes(damaged)

    return damage


def _without_member(ending: str) -> Damage:
    return lambda content: _rezipped(content, lambda name, data: None if name.endswith(ending) else data)


def _member(ending: str, change: Damage) -> Damage:
    return lambda content: _rezipped(
        content, lambda name, data: change(data) if name.endswith(ending) else data
    )


def _rezipped(content: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return made.getvalue()


def _zip_of(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    return made.getvalue()


def _tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as new:
        member = tarfile.TarInfo("../escaped")
        member.size = 4
        new.addfile(member, io.BytesIO(b"data"))
    return made.getvalue()


def _hostile(write: Callable[[Path, Path], None]) -> bytes:
    path = Path("evil")
    write(Path("was-run").absolute(), path)
    content = path.read_bytes()
    path.unlink()
    return content


_DAMAGES: dict[str, Damage] = {
    **{f"cut at {share:.0%}": _cut(share) for share in (0, 0.001, 0.3, 0.9, 0.999)},
    "no data.pkl": _without_member("data.pkl"),
    "no tensor": _without_member("data/3"),
    "no version": _without_member("version"),
    "a short tensor": _member("data/3", lambda data: data[: len(data) // 2]),
    "an empty data.pkl": _member("data.pkl", lambda _: b""),
    "a garbled data.pkl": _member("data.pkl", _flipped(3, 40)),
    "a cut data.pkl": _member("data.pkl", _cut(0.5)),
    "compressed": lambda content: _zip_of(**_members(content)),
    "a zip of something else": lambda _: _zip_of(readme=b"hello"),
    "an empty zip": lambda _: _zip_of(),
    "a zip bomb": lambda _: _zip_of(**{"archive/data.pkl": bytes(300_000_000), "archive/version": b"3"}),
    "a tar archive": lambda _: _tar(),
    "zeros": lambda content: bytes(len(content)),
    "random bytes": lambda content: random.Random(1).randbytes(5000),
    "text": lambda _: b"weights\n",
    "a pointer of git-lfs": lambda _: (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    ),
    "a page": lambda _: b"<!DOCTYPE html><html>",
    "a picture": lambda _: Path("photo.png").read_bytes(),
    "a pickle of a list": lambda _: pickle.dumps([1, 2]),
    "a deep pickle": lambda _: b"\x80\x02" + b"(" * 100_000 + b".",
    "a pickle that asks for memory": lambda _: b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
    "a pickle that acts": lambda _: _hostile(as_pickle),
    "a torch file that acts": lambda _: _hostile(as_torch_file),
    "a safetensors file": lambda _: (_TOY / "model.safetensors").read_bytes()[:100_000],
}


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        return {name: old.read(name) for name in old.namelist()}


def _saved(value: Any) -> Damage:
    def damage(_: bytes) -> bytes:
        content = io.BytesIO()
        torch.save(value() if callable(value) else value, content)
        return content.getvalue()

    return damage


def _changed(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def make() -> dict[str, Any]:
        content = small_checkpoint()
        change(content)
        return content

    return _saved(make)


_FIRST = "model.stages.1.decoder.last.q.weight"
_CONTENTS: dict[str, Damage] = {
    "a tensor alone": _saved(torch.ones(3)),
    "nothing in it": _saved(dict),
    "a number": _saved(7),
    "no weights": _changed(lambda c: c.pop("state_dict")),
    "no description": _changed(lambda c: c.pop("lexiseg")),
    "weights are a list": _changed(lambda c: c.update(state_dict=[1])),
    "weights are numbers": _changed(lambda c: c.update(state_dict={"model.x": 3})),
    "a tensor missing": _changed(lambda c: c["state_dict"].pop(_FIRST)),
    "a tensor too many": _changed(lambda c: c["state_dict"].update({"model.more": torch.ones(2)})),
    "another shape": _changed(lambda c: c["state_dict"].update({_FIRST: torch.ones(3, 5)})),
    "a scalar for a matrix": _changed(lambda c: c["state_dict"].update({_FIRST: torch.tensor(1.0)})),
    "a newer format": _changed(lambda c: c["lexiseg"].update(format=99)),
    "a format of words": _changed(lambda c: c["lexiseg"].update(format="one")),
    "no split": _changed(lambda c: c["lexiseg"].pop("split")),
    "a split of numbers": _changed(lambda c: c["lexiseg"].update(split=5)),
    "a split without classes": _changed(lambda c: c["lexiseg"]["split"].update(classes=[])),
    "a class twice": _changed(lambda c: c["lexiseg"]["split"].update(classes=["a", "a"], unseen=[])),
    "an unknown unseen class": _changed(lambda c: c["lexiseg"]["split"].update(unseen=["zebra"])),
    "no protocol": _changed(lambda c: c["lexiseg"].pop("protocol")),
    "a protocol out of range": _changed(lambda c: c["lexiseg"]["protocol"].update(window=-5)),
    "a protocol that is not a number": _changed(
        lambda c: c["lexiseg"]["protocol"].update(logit_scale=float("nan"))
    ),
    "a protocol of words": _changed(lambda c: c["lexiseg"].update(protocol="fast")),
    "a protocol key too many": _changed(lambda c: c["lexiseg"]["protocol"].update(more=1)),
    "views of words": _changed(lambda c: c["lexiseg"]["protocol"].update(views="many")),
    "templates of numbers": _changed(lambda c: c["lexiseg"].update(templates=[5])),
    "templates without braces": _changed(lambda c: c["lexiseg"].update(templates=["photo"])),
    "no templates": _changed(lambda c: c["lexiseg"].update(templates=[])),
    "no CLIP": _changed(lambda c: c["lexiseg"].pop("clip")),
    "a CLIP that is gone": _changed(lambda c: c["lexiseg"]["clip"].update(source="gone/away")),
    "a CLIP of numbers": _changed(lambda c: c["lexiseg"]["clip"].update(source=5)),
    "another CLIP's fingerprint": _changed(lambda c: c["lexiseg"]["clip"].update(fingerprint="0000")),
    "no such model": _changed(lambda c: c["lexiseg"]["model"].update(name="none")),
    "a model without a name": _changed(lambda c: c["lexiseg"]["model"].pop("name")),
    "stages beyond the tower": _changed(lambda c: c["lexiseg"]["model"].update(stages=[[11], [99]])),
    "a prompt without end": _changed(lambda c: c["lexiseg"]["model"].update(prompt_length=10**12)),
    "heads that do not divide": _changed(lambda c: c["lexiseg"]["model"].update(decoder_heads=7)),
    "a model of words": _changed(lambda c: c["lexiseg"].update(model="big")),
}
_SILENT: dict[str, Damage] = {
    "as it should be": lambda content: content,
    "a few flipped bits": _flipped(11, 3),
    "many flipped bits": _flipped(12, 3000),
    "weights that are not numbers": _changed(
        lambda c: c["state_dict"].update({_FIRST: torch.full_like(c["state_dict"][_FIRST], float("nan"))})
    ),
    "weights in half precision": _changed(
        lambda c: c.update(
            state_dict={k: v.half() if v.is_floating_point() else v for k, v in c["state_dict"].items()}
        )
    ),
    "weights in double precision": _changed(
        lambda c: c.update(
            state_dict={k: v.double() if v.is_floating_point() else v for k, v in c["state_dict"].items()}
        )
    ),
    "complex weights": _changed(
        lambda c: c["state_dict"].update({_FIRST: c["state_dict"][_FIRST].to(torch.complex64)})
    ),
    "whole numbers for weights": _changed(
        lambda c: c["state_dict"].update({_FIRST: c["state_dict"][_FIRST].to(torch.int32)})
    ),
    "sparse weights": _changed(
        lambda c: c["state_dict"].update({_FIRST: c["state_dict"][_FIRST].to_sparse()})
    ),
}
_READERS: dict[str, Callable[[], list[str]]] = {
    "predict": lambda: _with_model("bad.ckpt"),
    "eval": lambda: ["eval", "bad.ckpt", "data.val.length=1", "output=out/eval.json"],
    "export": lambda: ["export", "bad.ckpt", "--to", "folder", "--out", "out"],
    "import": lambda: ["import", "bad.ckpt", "--clip", "toy", "--out", "out/model.ckpt"],
    "resume": lambda: training("resume=bad.ckpt"),
    "init_from": lambda: training("init_from=bad.ckpt"),
}


def training(*more: str) -> list[str]:
    return [
        "train",
        "trainer=cpu",
        "trainer.max_steps=1",
        "data.train.image_size=[40,56]",
        "data.train.length=60",
        "data.batch_size=2",
        "data.train_transform.base=[40,56]",
        "data.train_transform.crop=[40,56]",
        "data.val.image_size=[40,56]",
        "data.val.length=1",
        "model.stages=[[11],[12]]",
        "model.prompt_length=2",
        "model.decoder_layers=1",
        "validation.panels=0",
        "optim.warmup_steps=1",
        "output_dir=out",
        *more,
    ]


def _checkpoints() -> Iterator[Case]:
    def given(damage: Damage, reader: str) -> Callable[[], list[str]]:
        def prepare() -> list[str]:
            _photo()
            Path("bad.ckpt").write_bytes(damage(_good_checkpoint()))
            return _READERS[reader]()

        return prepare

    for number, (name, damage) in enumerate({**_DAMAGES, **_CONTENTS}.items()):
        readers = list(_READERS)
        for reader in dict.fromkeys(("predict", readers[1 + number % (len(readers) - 1)])):
            # A fresh start takes weights only; what it does not read may be as it likes.
            expected = Expected.EITHER if name == "compressed" or reader == "init_from" else Expected.REFUSED
            yield Case(KIND, f"checkpoint {name}, {reader}", given(damage, reader), expected, mebibytes=2048)
    for name, damage in _SILENT.items():
        expected = Expected.ANSWERED if name == "as it should be" else Expected.EITHER
        yield Case(KIND, f"checkpoint {name}, predict", given(damage, "predict"), expected, _judge)
    for name, make in {
        "a folder": lambda path: path.mkdir(),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "an empty device": lambda path: path.symlink_to("/dev/null"),
    }.items():
        for reader in _READERS:

            def prepare_place(make: Callable[[Path], object] = make, reader: str = reader) -> list[str]:
                _photo()
                make(Path("bad.ckpt"))
                return _READERS[reader]()

            yield Case(KIND, f"checkpoint {name}, {reader}", prepare_place)


def _json(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(content: bytes) -> bytes:
        values = json.loads(content)
        change(values)
        return json.dumps(values).encode()

    return damage


_IN_CLIP: dict[str, dict[str, Damage | None]] = {
    "config.json": {
        "missing": None,
        "empty": _cut(0),
        "cut": _cut(0.5),
        "a list": lambda _: b"[]",
        "a number": lambda _: b"3",
        "no text tower": _json(lambda c: c.pop("text_config")),
        "no image tower": _json(lambda c: c.pop("vision_config")),
        "another kind": _json(lambda c: c.update(model_type="bert")),
        "an unknown kind": _json(lambda c: c.update(model_type="x")),
        "no kind": _json(lambda c: c.pop("model_type")),
        "patches of 0": _json(lambda c: c["vision_config"].update(patch_size=0)),
        "negative width": _json(lambda c: c["vision_config"].update(hidden_size=-8)),
        "width of words": _json(lambda c: c["vision_config"].update(hidden_size="wide")),
        "endless width": _json(lambda c: c["vision_config"].update(hidden_size=10**9)),
        "no heads": _json(lambda c: c["vision_config"].update(num_attention_heads=0)),
        "heads that do not divide": _json(lambda c: c["vision_config"].update(num_attention_heads=7)),
        "no layers": _json(lambda c: c["vision_config"].update(num_hidden_layers=0)),
        "more layers": _json(lambda c: c["vision_config"].update(num_hidden_layers=40)),
        "another image size": _json(lambda c: c["vision_config"].update(image_size=96)),
        "code of its own": _json(lambda c: c.update(auto_map={"AutoModel": "evil.Model"})),
    },
    "model.safetensors": {
        "missing": None,
        "empty": _cut(0),
        "cut at 10 %": _cut(0.1),
        "cut at 99 %": _cut(0.99),
        "zeros": lambda c: bytes(len(c)),
        "a header without end": lambda c: struct.pack("<Q", 2**60) + c[8:],
        "a garbled header": lambda c: c[:8] + b"x" * 200 + c[208:],
        "text": lambda _: b"weights",
        "a pointer of git-lfs": lambda _: b"version https://git-lfs.github.com/spec/v1\n",
    },
    "preprocessor_config.json": {
        "empty": _cut(0),
        "a list": lambda _: b"[]",
        "no deviation": _json(lambda c: c.update(image_std=[0, 0, 0])),
        "two means": _json(lambda c: c.update(image_mean=[0.5, 0.5])),
        "means of words": _json(lambda c: c.update(image_mean=["a"] * 3)),
        "a mean alone": _json(lambda c: c.update(image_mean=0.5)),
        "means that are not numbers": _json(lambda c: c.update(image_mean=[float("nan")] * 3)),
    },
    "tokenizer.json": {"empty": _cut(0), "cut": _cut(0.5), "a list": lambda _: b"[]"},
    "vocab.json": {"empty": _cut(0), "a list": lambda _: b"[]", "no words": lambda _: b"{}"},
    "merges.txt": {"empty": _cut(0), "binary": lambda _: bytes(range(256))},
    "tokenizer_config.json": {
        "empty": _cut(0),
        "a list": lambda _: b"[]",
        "no length": _json(lambda c: c.update(model_max_length="long")),
    },
    "known_words.txt": {"empty": _cut(0), "binary": lambda _: bytes(range(128, 256))},
}
_MAY_PASS = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "known_words.txt")


def _clip_folders() -> Iterator[Case]:
    for file, damages in _IN_CLIP.items():
        for name, damage in damages.items():

            def prepare(file: str = file, damage: Damage | None = damage) -> list[str]:
                _photo()
                shutil.copytree(_TOY, "clip")
                path = Path("clip", file)
                content = path.read_bytes()
                path.unlink()
                if damage is not None:
                    path.write_bytes(damage(content))
                arguments = predicting("photo.png")
                arguments[arguments.index("toy")] = "clip"
                return arguments

            lenient = file in _MAY_PASS or name in ("code of its own", "no kind")
            expected = Expected.EITHER if lenient else Expected.REFUSED
            yield Case(KIND, f"CLIP folder, {file}: {name}", prepare, expected)


def _told(change: Callable[[dict[str, Any]], None]) -> Damage:
    """A bank's record with something else in it."""

    def damage(content: bytes) -> bytes:
        about = json.loads(content)
        change(about)
        return json.dumps(about).encode()

    return damage


_IN_BANK: dict[str, dict[str, Damage | None]] = {
    "bank.json": {
        "gone": None,
        "cut": _cut(0.5),
        "empty": lambda _: b"",
        "random": lambda _: random.Random(2).randbytes(300),
        "a list": lambda _: b"[1, 2]",
        "of another format": _told(lambda about: about.update(format=2)),
        "without a CLIP": _told(lambda about: about.pop("clip")),
        "without a method": _told(lambda about: about.pop("method")),
        "of more regions": _told(lambda about: about.update(regions=8)),
        "of no number of regions": _told(lambda about: about.update(regions="many")),
        "wider": _told(lambda about: about["width"].update(keys=4)),
    },
    **{
        f"{name}.npy": {
            "gone": None,
            "empty": lambda _: b"",
            "cut in its head": _cut(0.3),
            "a byte short": lambda content: content[:-1],
            "random": lambda _: random.Random(3).randbytes(300),
            "acts": lambda _: _hostile(as_pickle),
            "an archive": lambda _: _zip_of(keys=b"1"),
        }
        for name in ("keys", "values")
    },
}


def _banks() -> Iterator[Case]:
    for file, damages in _IN_BANK.items():
        for name, damage in damages.items():

            def prepare(file: str = file, damage: Damage | None = damage) -> list[str]:
                _photo()
                about = {"format": 1, "regions": 5, "width": {"keys": 3, "values": 2}}
                about |= {kind: {"source": "x", "weights": "y"} for kind in ("clip", "proxy")}
                about |= {"method": {}, "protocol": {}}
                parts = {key: iter([torch.ones(5, width).half()]) for key, width in about["width"].items()}
                RegionBank.write(Path("bank"), about, parts)
                path = Path("bank", file)
                content = path.read_bytes()
                path.unlink()
                if damage is not None:
                    path.write_bytes(damage(content))
                inside = ("--masks", "superpixels", "--bank", "bank")
                return predicting("photo.png", *inside, method="corrclip")

            yield Case(KIND, f"bank, {file}: {name}", prepare, says=("bank",))


def _clip_files() -> Iterator[Case]:
    for name in ("clip.pt", "clip.bin", "clip.safetensors", "clip.pth"):
        for told, damage in {
            "text": lambda: b"weights",
            "empty": lambda: b"",
            "random": lambda: random.Random(2).randbytes(3000),
            "another model's": lambda: _saved({"a": torch.ones(2)})(b""),
            "acts": lambda: _hostile(as_torch_file),
        }.items():

            def prepare(name: str = name, damage: Callable[[], bytes] = damage) -> list[str]:
                _photo()
                Path(name).write_bytes(damage())
                arguments = predicting("photo.png")
                arguments[arguments.index("toy")] = f"./{name}"
                return arguments

            yield Case(KIND, f"CLIP file {name}: {told}", prepare)


def _model_folders() -> Iterator[Case]:
    damages: dict[str, dict[str, Damage | None]] = {
        "config.json": {
            "missing": None,
            "empty": _cut(0),
            "a list": lambda _: b"[]",
            "a newer format": _json(lambda c: c.update(format=9)),
            "no split": _json(lambda c: c.pop("split")),
            "facts of words": _json(lambda c: c.update(facts="good")),
        },
        "model.safetensors": {"missing": None, "cut": _cut(0.5), "text": lambda _: b"x"},
        "text_embeddings.safetensors": {"missing": None, "cut": _cut(0.5)},
        "clip/model.safetensors": {"missing": None, "cut": _cut(0.5)},
        "clip/config.json": {"missing": None, "a list": lambda _: b"[]"},
        "README.md": {"missing": None},
    }
    for file, changes in damages.items():
        for name, damage in changes.items():

            def prepare(file: str = file, damage: Damage | None = damage) -> list[str]:
                _photo()
                Path("good.ckpt").write_bytes(_good_checkpoint())
                assert main(["export", "good.ckpt", "--to", "folder", "--out", "model"]) == 0
                path = Path("model", file)
                content = path.read_bytes()
                path.unlink()
                if damage is not None:
                    path.write_bytes(damage(content))
                return _with_model("model")

            unneeded = file == "README.md" or (file.startswith("text_emb") and damage is None)
            yield Case(
                KIND,
                f"model folder, {file}: {name}",
                prepare,
                Expected.ANSWERED if unneeded else Expected.REFUSED,
                _judge,
            )


def _program() -> Path:
    """The folder of an exported program, which the first case makes: tracing takes seconds."""
    folder = SHARED / "program"
    if not folder.is_dir():
        checkpoint = save_checkpoint(Path.cwd())
        assert main(["export", str(checkpoint), "--to", "torch", "--out", "made"]) == 0
        SHARED.mkdir(exist_ok=True)
        with contextlib.suppress(OSError):  # another case was first
            Path("made").rename(folder)
        shutil.rmtree("clip")
        checkpoint.unlink()
    return folder


def _programs() -> Iterator[Case]:
    def prepare_program(file: str, damage: Damage | None) -> list[str]:
        _photo()
        shutil.copytree(_program(), "program")
        path = Path("program", file)
        content = path.read_bytes()
        path.unlink()
        if damage is not None:
            path.write_bytes(damage(content))
        return _with_model("program")

    damages: dict[str, dict[str, Damage | None]] = {
        "program.json": {
            "missing": None,
            "empty": _cut(0),
            "a list": lambda _: b"[]",
            "a newer format": _json(lambda c: c.update(format=9)),
            "patches of 0": _json(lambda c: c.update(patch_size=0)),
            "another runtime": _json(lambda c: c.update(program="x")),
            "no deviation": _json(lambda c: c.update(std=[0, 0, 0])),
            "another width": _json(lambda c: c.update(embed_dim=3)),
        },
        "model.pt2": {
            "missing": None,
            "empty": _cut(0),
            "cut": _cut(0.5),
            "text": lambda _: b"x",
            "a zip": lambda _: _zip_of(a=b"b"),
        },
        "text_embeddings.safetensors": {"missing": None, "cut": _cut(0.5)},
    }
    for file, changes in damages.items():
        for name, damage in changes.items():

            def prepare(file: str = file, damage: Damage | None = damage) -> list[str]:
                return prepare_program(file, damage)

            yield Case(
                KIND, f"program, {file}: {name}", prepare, Expected.REFUSED, seconds=120, mebibytes=4096
            )
