"""The one moving average behind PixelCLIP's teacher and self-training's."""

import copy

import pytest
import torch
from torch import nn

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings
from lexiseg.models.momentum_teacher import MomentumTeacher
from lexiseg.models.tuned_tower import TunedTower, tuned_names


def test_a_moving_average_by_hand():
    student = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1), nn.Dropout(0.9))
    nn.init.constant_(student[0].weight, 1.0)
    teacher = MomentumTeacher(student, 0.75)
    nn.init.constant_(student[0].weight, 2.0)
    student[1].running_mean.fill_(7.0)
    teacher.update(student)
    assert teacher.average[0].weight.item() == pytest.approx(0.75 * 1 + 0.25 * 2)
    assert teacher.average[1].running_mean.item() == 7.0, "buffers are copied"
    assert not teacher.average[0].weight.requires_grad
    assert student[0].weight.requires_grad


def test_it_answers_without_dropout_and_without_gradient():
    teacher = MomentumTeacher(nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.9)), 0.5)
    assert not teacher.train().average.training
    inputs = torch.randn(2, 3, requires_grad=True)
    assert torch.equal(teacher(inputs), teacher(inputs))
    assert not teacher(inputs).requires_grad


def test_of_a_mask_model_everything_but_the_tower_is_copied(tiny_clip):
    settings = CascadeSettings(stages=((1, 2), (3,)), prompt_length=2, decoder_layers=1, decoder_heads=2)
    student = CascadeCLIP(VisionTower(tiny_clip), settings)
    teacher = MomentumTeacher(student, 0.5, shared=[student.tower])
    assert teacher.average.tower is student.tower
    assert teacher.average.stages[0].projections["1"]._tower[0] is student.tower
    assert teacher.average.prompts.tokens is not student.prompts.tokens
    assert teacher.state_dict().keys() == {f"average.{name}" for name in student.state_dict()}


def test_of_a_tuned_tower_only_what_trains_is_copied(tiny_clip):
    tower = VisionTower(copy.deepcopy(tiny_clip))
    student = TunedTower(tower, tuned_names(tower, "attention"))
    teacher = MomentumTeacher(student, 0.75, shared=student.frozen_parameters())
    layers = [each.tower.vision.encoder.layers[0] for each in (student, teacher.average)]
    assert layers[0].mlp.fc1.weight is layers[1].mlp.fc1.weight
    assert layers[0].self_attn.q_proj.weight is not layers[1].self_attn.q_proj.weight
    assert dict(teacher.average.named_parameters()).keys() == dict(student.named_parameters()).keys()
    with torch.no_grad():
        layers[0].self_attn.q_proj.weight.add_(4.0)
    before = layers[1].self_attn.q_proj.weight.clone()
    teacher.update(student)
    torch.testing.assert_close(layers[1].self_attn.q_proj.weight, before + 1.0)
