"""A model of regions that was trained for one step, as a run leaves it."""

from lexiseg.cli.ablations import compose_training
from lexiseg.cli.composing import plain
from lexiseg.recipes.records import training_run
from lexiseg.recipes.training import train


class TrainedRegions:
    """A model of regions that was trained for one step on one scene."""

    def save_pretrained(self, folder):
        scenes = {
            "_target_": "lexiseg.data.toy.world.ToyWorld", "partition": "val", "length": 1, "image_size": [64, 64],
        }  # fmt: skip
        size = ["trainer.max_steps=1", "data.batch_size=1", "data.train.length=60", "validation.panels=0"]
        config = plain(compose_training(["experiment=toy", "model=open_seg", "trainer=cpu", *size]))
        config |= {"output_dir": str(folder), "data": config["data"] | {"val": scenes}}
        train(training_run(config))
