"""FairScratch (Fair Scratch Tickets): a fair subnetwork found in random weights, without or with training them afterwards."""

from fairlth.allocation import uniform
from fairlth.config import Run
from fairlth.images import Data
from fairlth.masks import prunable
from fairlth.methods.base import Ticket, fresh_model
from fairlth.popup import Popup, signed_constants
from fairlth.surrogates import loss_variance
from fairlth.training import Loss, fit


def fairscratch(run: Run, data: Data) -> Ticket:
    """Edge-popup on frozen signed-constant weights with a fairness penalty; no weight is ever trained.

    Scores are trained on cross-entropy + lambda * variance of the groups' losses, uniform density per layer, batch norm
    without scale and shift. `pressure` is lambda.

    Source: Tang et al., CVPR 2023 (HungerPWAY/Fair-Scratch-Tickets), edge-popup from Ramanujan et al., 2020. Reconstructed:
    the two-sided surrogate for any number of classes or groups, where the source has one-sided ones for two of each; the
    run's own schedule instead of three epochs; weights scaled for the density, an option that the source leaves off.
    """
    popup = search(run, data, _surrogate(run, data))
    mask = popup.mask()
    mask.apply(popup.model)
    return Ticket(popup.model, mask, cost=1.0)


def fairscratch_train(run: Run, data: Data) -> Ticket:
    """FairScratch's mask with the run's initial weights trained under it, by the same loss (the source's `ft_reinit`)."""
    loss = _surrogate(run, data)
    mask, model = search(run, data, loss).mask(), fresh_model(run, data)
    mask.apply(model)
    fit(model, data, run.settings.schedule, seed=run.seed, after_step=mask.apply, loss=loss, label="found ticket")
    return Ticket(model, mask, cost=2.0)


def search(run: Run, data: Data, loss: Loss, signed: bool = True) -> Popup:
    """Trains the scores of a frozen network for the schedule's epochs."""
    model = fresh_model(run, data)
    budget = uniform(run.density, prunable(model))
    signed_constants(model, budget, signed)
    popup = Popup(model, budget, run.seed)
    fit(popup, data, run.settings.schedule, seed=run.seed, loss=loss, label="searching")
    return popup


def _surrogate(run: Run, data: Data) -> Loss:
    return loss_variance(run.knob, data.train.n_groups)
