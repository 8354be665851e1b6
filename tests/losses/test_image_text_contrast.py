"""CLIP's loss: number by number, and over two processes."""

import pytest
import torch
import torch.multiprocessing as mp

from lexiseg.losses.image_text_contrast import contrastive_loss

SCALE = torch.tensor(1.3)


def features(seed=0, pairs=6):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(pairs, 5, generator=generator) for _ in range(2))


def naive(images, texts):
    def cosine(a, b):
        return (a * b).sum() / (a.norm() * b.norm())

    count = len(images)
    table = [[SCALE.exp() * cosine(image, text) for text in texts] for image in images]
    total = 0.0
    for i in range(count):
        row = torch.stack(table[i])
        column = torch.stack([table[j][i] for j in range(count)])
        total = total - row.log_softmax(0)[i] - column.log_softmax(0)[i]
    return total / (2 * count)


def test_equals_a_naive_second_form():
    images, texts = features()
    torch.testing.assert_close(contrastive_loss(images, texts, SCALE), naive(images, texts))
    assert contrastive_loss(texts, texts, SCALE) < contrastive_loss(images, texts, SCALE)


def _process(rank, store, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    images, texts = (each.chunk(2)[rank].clone().requires_grad_() for each in features())
    loss = contrastive_loss(images, texts, SCALE)
    loss.backward()
    torch.save({"loss": loss.detach(), "images": images.grad, "texts": texts.grad}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_see_each_others_pairs(tmp_path):
    """The loss of all pairs, in each process; and the gradient of its own."""
    mp.start_processes(_process, args=(tmp_path / "store", tmp_path), nprocs=2, start_method="spawn")
    images, texts = (each.requires_grad_() for each in features())
    loss = contrastive_loss(images, texts, SCALE)
    loss.backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["loss"], loss.detach())
        torch.testing.assert_close(found["images"], images.grad.chunk(2)[rank])
        torch.testing.assert_close(found["texts"], texts.grad.chunk(2)[rank])
