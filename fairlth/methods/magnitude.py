"""One-shot magnitude pruning."""

from fairlth.config import Run
from fairlth.data import Data
from fairlth.methods.base import Ticket, fresh_model
from fairlth.models import prunable
from fairlth.selection import magnitude as score
from fairlth.selection import select
from fairlth.training import fit

RATE = 0.1  # learning rate of the fine-tuning over that of the training


def magnitude(run: Run, data: Data) -> Ticket:
    """Trains the dense network, keeps its largest weights over all layers together, fine-tunes them from where they are.

    Source: Han et al., 2015 (prune what is small, retrain); global and one-shot is our choice among the variants in use, the
    paper does not say which it compared with. It differs from `lth` in rewinding and in the number of levels only.
    """
    preset = run.settings
    model = fresh_model(run, data)
    fit(model, data, preset.schedule, seed=run.seed, label="dense")
    mask = select(score(prunable(model)), run.density)
    mask.apply(model)
    short = {"epochs": preset.finetune_epochs, "lr": RATE * preset.schedule.lr, "warmup": 0.0}
    tuning = preset.schedule.model_copy(update=short)
    fit(model, data, tuning, seed=run.seed, after_step=mask.apply, label="fine-tuning")
    return Ticket(model, mask, cost=1 + preset.finetune_epochs / preset.schedule.epochs)
