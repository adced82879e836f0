"""Trains a classifier as torch's tutorials do, and nothing else: the lower bound for our training of classifiers.

Run with the interpreter of the environment ``pipelines``:
``train_plainly.py VIEW ARCHITECTURE EPOCHS SIZE BATCH THREADS FOLDER``.
VIEW contains images by split and class. The network,
augmentation, optimizer and learning rate are those of our step, and images are also decoded only once.
Each epoch ends with an evaluation of the validation split and a saved network.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

MEAN, DEVIATION = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def load(folder: Path, size: int) -> tuple[Tensor, Tensor]:
    """Load images ``[n, 3, size, size]`` as bytes, and their classes."""
    images, labels = [], []
    for number, name in enumerate(sorted(path.name for path in folder.iterdir())):
        for file in sorted((folder / name).iterdir()):
            image: Any = cv2.resize(cv2.imread(str(file)), (size, size), interpolation=cv2.INTER_AREA)
            images.append(torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))))
            labels.append(number)
    return torch.stack(images), torch.tensor(labels)


def normalised(images: Tensor) -> Tensor:
    """Scale the images to the usual mean and standard deviation."""
    return (images.float() / 255 - MEAN.to(images.device)) / DEVIATION.to(images.device)


def altered(images: Tensor) -> Tensor:
    """Augment images: rotate, scale, mirror, and change the contrast."""
    count, device = len(images), images.device
    angle = (torch.rand(count, device=device) * 2 - 1) * math.radians(15)
    scale = 0.85 + torch.rand(count, device=device) * 0.3
    flips = torch.randint(0, 2, (2, count), device=device) * 2 - 1
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rotation = torch.stack((cosine * flips[0], -sine * flips[0], sine * flips[1], cosine * flips[1]), dim=1)
    matrix = torch.cat((rotation.view(count, 2, 2), torch.zeros(count, 2, 1, device=device)), dim=2)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved * (0.8 + torch.rand(count, 1, 1, 1, device=device) * 0.4)


def main() -> None:
    """Train, and save the network after each epoch."""
    view, architecture, epochs, size, batch, threads, folder = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, validation = (load(Path(view) / split, int(size)) for split in ("train", "validation"))
    model = torchvision.models.get_model(architecture, weights=None, num_classes=int(train[1].max()) + 1).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.0005)
    steps = math.ceil(len(train[0]) / int(batch))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(epochs) * steps)
    for epoch in range(int(epochs)):
        model.train()
        total = 0.0
        for chosen in torch.randperm(len(train[0])).split(int(batch)):
            images, labels = train[0][chosen].to(device), train[1][chosen].to(device)
            with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
                loss = functional.cross_entropy(model(altered(normalised(images))), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        with torch.inference_mode():
            found = nn.Module.eval(model)(normalised(validation[0].to(device))).cpu()
        accuracy = (found.argmax(1) == validation[1]).float().mean().item()
        torch.save(model.state_dict(), Path(folder) / "last.pt")
        print(epoch, total / len(train[0]), accuracy)


if __name__ == "__main__":
    main()
