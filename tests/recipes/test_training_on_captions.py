"""OpenSeg on photographs with captions, through the ordinary training recipe."""

import pytest
import torch

from caption_cases import captioned_scenes
from lexiseg.cli.ablations import compose_training
from lexiseg.cli.composing import plain
from lexiseg.clip.vocabulary import embed_words
from lexiseg.data.datamodule import collate
from lexiseg.errors import ConfigError
from lexiseg.recipes import training
from lexiseg.recipes.records import training_run

SMALL = [
    "trainer=cpu",
    "trainer.max_steps=2",
    "optim.warmup_steps=1",
    "data.train_transform.crop=[64,64]",
    "data.batch_size=3",
    "data.val.length=1",
    "validation.panels=0",
]


def a_run(folder, *more):
    overrides = [
        "experiment=toy_captions",
        f"data.root={folder}",
        *SMALL,
        f"output_dir={folder / 'run'}",
        *more,
    ]
    return training_run(plain(compose_training(overrides)))


@pytest.fixture
def scenes(tmp_path):
    captioned_scenes(tmp_path)
    return tmp_path


def built(run):
    clip = run.clip.load()
    return training.build_task(run, clip, run.split.of(run.data.train.classes))


def test_the_words_of_the_captions_are_what_is_taught(scenes):
    run = a_run(scenes)
    task, clip = built(run), run.clip.load()
    words = run.data.train.words
    assert torch.equal(task.caption_text, embed_words(clip, words, ("a photo of a {}",)))
    assert len(words) < len(run.data.train.classes)
    samples = [run.data.train[index] for index in range(3)]
    batch = collate(samples)
    losses = task._caption_losses(task.model.normalize(batch.images), batch, task.caption_text)
    assert losses["loss_grounding"] > 0
    assert losses["loss_masks"] > 0
    losses["loss"].backward()
    trained = [parameter for parameter in task.model.alignment.parameters() if parameter.grad is not None]
    assert trained
    assert all(parameter.grad.abs().sum() > 0 for parameter in trained)


def test_a_run_from_captions_to_scores(scenes):
    scores = training.train(a_run(scenes))
    assert set(scores) >= {"seen", "unseen", "miou"}
    told = (scenes / "run" / "config.yaml").read_text()
    assert "CaptionedRegions" in told
    checkpoint = torch.load(scenes / "run" / "last.ckpt", weights_only=True)
    assert not [name for name in checkpoint["state_dict"] if "text" in name], "words are embedded, not kept"


def test_no_other_model_learns_from_captions(scenes):
    with pytest.raises(
        ConfigError, match="are captions, which model 'zegclip' cannot learn from; take model=open_seg"
    ):
        built(a_run(scenes, "model=zegclip"))
