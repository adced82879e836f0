"""A family: one convolution and the mean over the image, trained with torch. Imported when a training needs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from extension_example.descriptions import FAMILY as DESCRIPTION
from pelagos_contract import disk
from pelagos_pipelines.evaluation import classification
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving import tasks
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictions import Floats, Prediction, Settings, Thresholds
from pelagos_pipelines.training import checkpoints, graphs
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.progress import Progress
from pelagos_pipelines.training.training_history import TrainingHistory

_SERVING = tasks.named(DESCRIPTION.task.value)


class Tiny:
    """See `families.Family` for the contract of its methods."""

    DESCRIPTION = DESCRIPTION

    def train(self, job: Job, history: TrainingHistory) -> int:
        """All images are one batch."""
        torch.manual_seed(job.request.seed)
        parameters, last = job.request.hyperparameters, job.folder / "last.pt"
        model = _build(len(job.truth.labels))
        optimizer = torch.optim.AdamW(model.parameters(), lr=float(parameters.learning_rate))
        progress = Progress()
        if last.exists():
            content = torch.load(last, weights_only=True)
            model.load_state_dict(content["model"])
            optimizer.load_state_dict(content["optimizer"])
            progress = Progress.of(content)
        history.continue_after(progress.epoch)
        size = parameters.image_size
        images, truth = _batch(job.truth.samples("train"), size)
        validation, expected = _batch(job.truth.samples("validation"), size)
        while not progress.is_over(job.request):
            loss = functional.cross_entropy(model(images), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.inference_mode():
                guesses = model(validation).argmax(dim=1)
            scores = classification.score(expected.numpy(), guesses.numpy(), len(job.truth.labels))
            metrics = {"train/loss": float(loss.detach()), "validation/F1": scores.shares["F1"].macro}
            progress = progress.after(history.record(progress.epoch + 1, metrics), job.request.task)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), **progress.content()}
            checkpoints.save_atomically(state, last)
            if progress.is_best:
                best = {"labels": list(job.truth.labels), "imageSize": size, "model": model.state_dict()}
                checkpoints.save_atomically(best, job.best)
            history.keep()
        return progress.best_epoch

    def predict(self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds) -> Iterator[Prediction]:
        """Class probabilities."""
        return (prediction for _, prediction in self.prove(checkpoint, images, thresholds))

    def prove(
        self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds
    ) -> Iterator[tuple[Floats, Prediction]]:
        """Likewise, with the probabilities by themselves."""
        model, settings = self._restored(checkpoint)
        for image in images:
            placed = _SERVING.fitted(image, settings.image_size, settings.stride)
            with torch.inference_mode():
                raw = model(torch.from_numpy(_SERVING.values(placed.canvas[None])))[0].numpy()
            yield raw, _SERVING.decode(raw, placed, settings, thresholds)

    def export(self, checkpoint: Path, onnx: Path) -> Settings:
        """With softmax; the batch dimension is dynamic."""
        model, settings = self._restored(checkpoint)
        written = onnx.with_name("exported.onnx")
        with graphs.tracing(), disk.written(written):
            torch.onnx.export(
                model,
                (torch.zeros(2, 3, settings.image_size, settings.image_size),),
                str(written),
                input_names=["image"],
                output_names=["probabilities"],
                dynamic_axes={"image": {0: "batch"}, "probabilities": {0: "batch"}},
                opset_version=graphs.OPSET,
                dynamo=False,
            )
        graphs.finalize_onnx(written, onnx)
        return settings

    def _restored(self, checkpoint: Path) -> tuple[nn.Module, Settings]:
        content = torch.load(checkpoint, weights_only=True)
        model = _build(len(content["labels"]))
        model.load_state_dict(content["model"])
        size = content["imageSize"]
        settings = Settings(self.DESCRIPTION.task.value, tuple(content["labels"]), size, size)
        return nn.Sequential(model, nn.Softmax(dim=1)).eval(), settings


def _build(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)
    )


def _batch(samples: Sequence[Sample], size: int) -> tuple[Tensor, Tensor]:
    canvases: Any = np.stack([_SERVING.fitted(sample.pixels(), size, size).canvas for sample in samples])
    labels = np.array([sample.class_ids[0] for sample in samples])
    return torch.from_numpy(_SERVING.values(canvases)), torch.from_numpy(labels)


FAMILY = Tiny()
