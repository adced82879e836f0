"""Refusals for a loss that is not finite, in the same words for all families. Files saved before the epoch stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import Hyperparameters

_NAMED = 3
"""How many images a message lists."""
_LONGEST_NAME = 80


def of_batch(
    value: float, epoch: int, best_epoch: int, images: Sequence[str], parameters: Hyperparameters
) -> RefusedError:
    """TRAINING_DIVERGED for a loss of ``value`` over the images of a batch; ``best_epoch`` is 0 if none was finished."""
    names = [PurePath(image).name[:_LONGEST_NAME] for image in dict.fromkeys(images)]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    where = f"the loss became {value} in epoch {epoch}, over the images {', '.join(names[:_NAMED])}{more}"
    return _refusal(where, epoch, best_epoch, parameters)


def of_validation(value: float, epoch: int, best_epoch: int, parameters: Hyperparameters) -> RefusedError:
    """TRAINING_DIVERGED for a loss of ``value`` on the validation split, after the last steps of the epoch broke the weights."""
    return _refusal(f"the loss on the validation split became {value} in epoch {epoch}", epoch, best_epoch, parameters)


def _refusal(where: str, epoch: int, best_epoch: int, parameters: Hyperparameters) -> RefusedError:
    advice = f"lower hyperparameters.learningRate, now {parameters.learning_rate}"
    kept = (
        f"; what the {epoch - 1} epochs before it came to is on record, and the best of them is epoch {best_epoch}"
        if best_epoch
        else ""
    )
    return RefusedError(Reason.TRAINING_DIVERGED, f"{where}; {advice}{kept}", "hyperparameters.learningRate")
