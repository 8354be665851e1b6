"""Every configuration composes, and every model, loss, optimiser, split and protocol in it can be built."""

import pytest
from omegaconf import OmegaConf

from lexiseg.cli.composing import compose_config
from lexiseg.cli.conf_files import conf_dir, describe_groups
from lexiseg.errors import ConfigError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.models.registry import complete_settings
from lexiseg.training.optim import OptimSettings


def _choices(group):
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _build(config):
    plain = OmegaConf.to_container(config, resolve=True)
    complete_settings(plain["model"])
    MaskLossWeights(**plain["loss"])
    OptimSettings(**plain["optim"])
    InferenceProtocol.from_dict(plain["protocol"])
    assert plain["split"]["unseen_pixels"] in ("shown", "excluded"), "every split says it by name"
    assert plain["trainer"]["_target_"] == "pytorch_lightning.Trainer"


@pytest.mark.parametrize("experiment", _choices("experiment"))
def test_experiments(experiment):
    config = compose_config("train", [f"experiment={experiment}"])
    _build(config)
    assert config.name == experiment


GROUPS = ("clip", "model", "data", "split", "loss", "optim", "protocol", "trainer", "logger", "debug")


@pytest.mark.parametrize(("group", "choice"), [(g, c) for g in GROUPS for c in _choices(g)])
def test_groups(group, choice):
    extra = ["clip.source=x"] if choice == "file" else []
    _build(compose_config("train", [f"{group}={choice}", *extra]))


def test_eval_composes():
    assert compose_config("eval", ["checkpoint=x.ckpt"]).device == "auto"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.prompt_lenght=3"], "prompt_lenght"),
        (["data=cocostuff"], "cocostuff"),
        (["clip=file"], "clip.source has no default"),
        (["trainer.max_steps"], "trainer.max_steps"),
        (["nonsense=1"], "nonsense"),
    ],
)
def test_mistakes_name_the_key(overrides, message):
    with pytest.raises(ConfigError, match=message):
        compose_config("train", overrides)


def test_help_names_every_group():
    told = describe_groups("train")
    assert all(f"  {group}" in told for group in GROUPS)


def test_a_misspelt_row_is_told_its_neighbours():
    with pytest.raises(ConfigError, match=r"'ablation/table8/concatt'\. table8 has concat, nga, .* See"):
        compose_config("train", ["ablation=table8/concatt"])
