"""One-shot magnitude pruning."""

from fairlth.config import Run
from fairlth.images import Data
from fairlth.masks import prunable
from fairlth.methods.base import Ticket
from fairlth.methods.dense import dense_model
from fairlth.selection import magnitude as score
from fairlth.selection import select
from fairlth.training import fit


def magnitude(run: Run, data: Data) -> Ticket:
    """Trains the dense network, keeps its largest weights over all layers together, trains them again from where they are.

    Source: Han et al., 2015 (prune what is small, retrain), the second training with the whole schedule of the first
    (learning-rate rewinding, Renda et al., 2020), the strongest of the variants in use; the paper does not say which it
    compared with. It differs from `lth` in that weights are not rewound and all are pruned at once.
    """
    model = dense_model(run, data)
    mask = select(score(prunable(model)), run.density)
    mask.apply(model)
    fit(model, data, run.settings.schedule, seed=run.seed, after_step=mask.apply, label="pruned")
    return Ticket(model, mask, cost=2.0)
