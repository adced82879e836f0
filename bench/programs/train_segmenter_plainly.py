"""Trains a segmenter as tutorials of transformers do, and nothing else: the lower bound for segmenting.py.

Run with the interpreter of the environment ``pipelines``: ``train_segmenter_plainly.py ARRAYS NAME EPOCHS BATCH THREADS FOLDER``.
ARRAYS is an npz file with images ``[n, 3, size, size]`` as bytes and class maps ``[n, size, size]``, 0 for no class, of
the splits train and validation. The network, augmentation, optimizer and learning rate are those of our step; each
epoch ends with an evaluation of the validation split and a saved network.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import Mask2FormerForUniversalSegmentation

from pelagos_pipelines.training import mask2former_networks

MEAN, DEVIATION = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def altered(images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Augment images: rotate, scale, mirror, and change the contrast; maps are transformed like their images."""
    count = len(images)
    angle, scale = (torch.rand(count) * 2 - 1) * math.radians(15), 0.85 + torch.rand(count) * 0.3
    flips = torch.randint(0, 2, (2, count)) * 2 - 1
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rotation = torch.stack((cosine * flips[0], -sine * flips[0], sine * flips[1], cosine * flips[1]), dim=1)
    matrix = torch.cat((rotation.view(count, 2, 2), torch.zeros(count, 2, 1)), dim=2)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    with_maps = functional.grid_sample(maps[:, None].float(), grid, mode="nearest", align_corners=False)
    return moved * (0.8 + torch.rand(count, 1, 1, 1) * 0.4), with_maps[:, 0].to(torch.uint8)


def taught(maps: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """For each map, the masks of the classes in it, and the class ids."""
    masks, classes = [], []
    for one in maps:
        present = one.unique()
        present = present[present > 0]
        masks.append((one[None] == present[:, None, None]).float())
        classes.append(present.long() - 1)
    return masks, classes


def main() -> None:
    """Train, and save the network after each epoch."""
    arrays, name, epochs, batch, threads, folder = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with np.load(arrays) as content:
        known = {key: torch.from_numpy(content[key]) for key in content.files}
    images, maps = known["train_images"], known["train_maps"]
    classes = int(max(maps.max(), known["validation_maps"].max()))
    model = Mask2FormerForUniversalSegmentation(mask2former_networks.build(name, classes).config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0005, weight_decay=0.0005)
    steps = math.ceil(len(images) / int(batch))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(epochs) * steps)

    def placed(chosen: Any, split: str, *, alter: bool) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        some = known[f"{split}_images"][chosen].float() / 255
        of_them = known[f"{split}_maps"][chosen]
        if alter:
            some, of_them = altered(some, of_them)
        masks, ids = taught(of_them)
        return (
            ((some - MEAN) / DEVIATION).to(device),
            [one.to(device) for one in masks],
            [one.to(device) for one in ids],
        )

    for epoch in range(int(epochs)):
        model.train()
        total = 0.0
        for chosen in torch.randperm(len(images)).split(int(batch)):
            pixels, masks, ids = placed(chosen, "train", alter=True)
            loss = model(pixels, mask_labels=masks, class_labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        right = seen = 0
        model.eval()
        with torch.inference_mode():
            for held in torch.arange(len(known["validation_images"])).split(int(batch)):
                pixels, masks, ids = placed(held, "validation", alter=False)
                found = model(pixels, mask_labels=masks, class_labels=ids)
                queries = found.class_queries_logits.softmax(-1)[..., :-1]
                scores = torch.einsum("bqc,bqhw->bchw", queries, found.masks_queries_logits.sigmoid())
                true = known["validation_maps"][held].to(device)
                size = list(true.shape[-2:])
                answer = functional.interpolate(scores, size, mode="bilinear").argmax(1) + 1
                right += int((answer == true)[true > 0].sum())
                seen += int((true > 0).sum())
        torch.save(model.state_dict(), Path(folder) / "last.pt")
        print(epoch, total / len(images), right / max(seen, 1), flush=True)


if __name__ == "__main__":
    main()
