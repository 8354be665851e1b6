"""OpenSeg on photographs with captions, through the ordinary training recipe."""

import numpy as np
import pytest
import torch

from caption_cases import captioned_scenes
from lexiseg.cli.ablations import compose_training
from lexiseg.cli.composing import plain
from lexiseg.cli.main import main
from lexiseg.clip.vocabulary import embed_words
from lexiseg.data.captioned_regions import CaptionedRegions
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


def a_mixed_run(scenes, *more):
    return a_run(scenes, "data=toy_mixed", "data.train.labelled.length=3", *more)


def test_labels_stand_beside_captions_in_the_same_batches(scenes):
    run = a_mixed_run(scenes)
    split = run.split.of(run.data.train.classes)
    data, train = run.data.module(split, run.seed), run.data.train
    assert len(train) == 4 + 3
    assert set(train.words) >= set(split.classes)
    stream = data.train_dataloader().dataset
    rng = np.random.default_rng(2)
    for index in range(4):
        said = {train.words[each] for each in stream.draw(index, rng).captions[0]}
        assert 0 < len(said) <= 2, "a caption names two"
    for index in range(3):
        sample = stream.draw(4 + index, np.random.default_rng(5))
        table = data.training_table[train.labelled[index].label]
        _, label = run.data.train_transform(train.labelled[index].image, table, np.random.default_rng(5))
        shown = [each for each in np.unique(label) if each != 255]
        assert [train.words[each] for each in sample.captions[0]] == [split.classes[each] for each in shown]
        assert not {train.words[each] for each in sample.captions[0]} & set(split.unseen)
        assert (sample.label == 255).all(), "nothing reaches the loss as a label"
        for number, each in enumerate(shown):
            assert ((sample.segments.ids == number) == (label == each)).all()
    batch = collate([stream.draw(index, rng) for index in (0, 4, 5)])
    assert len(batch.words) == len(batch.segments) == 3


def test_labels_of_other_classes_are_refused(scenes):
    train = a_run(scenes).data.train
    with pytest.raises(
        ConfigError, match="labelled: expected labelled photographs of the 42 classes bricks, grass"
    ):
        CaptionedRegions(
            photographs=train._photographs,
            captions=scenes / "captions.json",
            words="toy",
            classes="toy",
            labelled=ForgottenNames(),
        )


class ForgottenNames:
    classes = ("bricks", "sand")


@pytest.mark.slow
def test_a_teacher_s_masks_and_labels_in_ten_steps(scenes, capsys):
    """The teacher learns from exact masks; its own take their place for the student, beside labelled scenes."""
    training.train(a_run(scenes))
    masks, teacher = scenes / "teachers", scenes / "run" / "last.ckpt"
    assert (
        main(
            [
                "masks",
                "build",
                str(scenes),
                "--provider",
                "regions",
                "--model",
                str(teacher),
                "--output",
                str(masks),
            ]
        )
        == 0
    )
    student = a_mixed_run(
        scenes,
        f"data.train.photographs.masks.folder={masks}",
        f"output_dir={scenes / 'student'}",
        "trainer.max_steps=10",
    )
    own, exact = (run.data.train[0].segments for run in (student, a_run(scenes)))
    assert len(own) > 0
    assert not np.array_equal(own.ids, exact.ids)
    assert set(training.train(student)) >= {"seen", "unseen", "miou"}
    checkpoint = torch.load(scenes / "student" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 10
