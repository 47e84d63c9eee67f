"""Performance-weighted loss: the pruned net learns most from what the dense net gets wrong."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fairlth.config import Run
from fairlth.images import Data
from fairlth.lottery import Dense, Ticket
from fairlth.methods.plain import magnitude
from fairlth.training import Batch, Loss, logits

GAMMA = 1.0


def pw_loss(run: Run, data: Data, dense: Dense) -> Ticket:
    """One-shot magnitude pruning; then images weigh more, the worse the dense net predicts them.

    An image i weighs omega_i = theta + (1 - theta)(1 - p_i)^gamma, p_i the dense net's probability
    of its class. Its label is the dense net's probabilities where their highest is right, the class
    itself where it is wrong. Needs no groups.

    `pressure` is 1 - theta in [0, 1]: 0 weighs all images alike, 1 leaves an image that the dense
    net is sure of no weight.

    Source: robbiemeyer/pw_loss_pruning, from its code. The source prunes filters and uses the loss
    there too; reconstructed is its combination with unstructured magnitude pruning, whose scores
    need no loss.
    """
    outputs = logits(dense.at(dense.trained), data.train)
    loss = performance_weighted(outputs.softmax(1), data.train.y, run.knob)
    return magnitude(run, data, dense, loss)


def performance_weighted(dense: Tensor, y: Tensor, pressure: float) -> Loss:
    """The loss mean_i omega_i CE(outputs_i, label_i) from the dense net's probabilities (n,
    classes) and the classes (n,).
    """
    weights = image_weights(dense, y, pressure)
    labels = corrected_labels(dense, y)

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        return (
            weights[batch.rows] * F.cross_entropy(outputs, labels[batch.rows], reduction="none")
        ).mean()

    return loss


def image_weights(dense: Tensor, y: Tensor, pressure: float) -> Tensor:
    """(n,) weights omega_i = theta + (1 - theta)(1 - p_i)^gamma, theta = 1 - pressure."""
    right = dense.gather(1, y[:, None])[:, 0]
    return 1 - pressure + pressure * (1 - right) ** GAMMA


def corrected_labels(dense: Tensor, y: Tensor) -> Tensor:
    """(n, classes) soft labels: the dense net's probabilities if it is right, else the classes."""
    one_hot = F.one_hot(y, dense.shape[1]).to(dense)
    return torch.where((dense.argmax(1) == y)[:, None], dense, one_hot)
