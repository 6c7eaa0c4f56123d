"""Heads that are not learnt by gradient: fitted on the embeddings of a frozen backbone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesionlab.recipe.schema import NeighboursProbe

LEAST = 1e-6
"""Share of the votes that a class keeps without any vote, so that its logit is a number."""


class NeighboursHead(nn.Module):
    """Weighted vote of the nearest training embeddings (Wu et al., CVPR 2018, section 3.4).

    Nearness is cosine similarity s, a vote weighs exp(s / temperature). Without embeddings, as a
    network is built, all classes are alike; `fit` or saved weights bring them.

    Args:
        in_features: length of an embedding.
        classes: how many logits.
        settings: how many vote, how sharply, and whether classes are balanced.
    """

    bank: Tensor
    votes: Tensor

    def __init__(self, in_features: int, classes: int, settings: NeighboursProbe) -> None:
        super().__init__()
        self.in_features, self.out_features, self.settings = in_features, classes, settings
        self.register_buffer("bank", torch.zeros(0, in_features))
        self.register_buffer("votes", torch.zeros(0, classes))

    def fit(self, embeddings: Tensor, targets: Tensor) -> None:
        """Take over the training part.

        Args:
            embeddings: float, shape (n, in_features), of any length.
            targets: class indices, shape (n,).
        """
        votes = functional.one_hot(targets, self.out_features).to(torch.float32)
        if self.settings.balanced:
            votes = votes / votes.mean(dim=0).clamp_min(1 / len(votes))
        self.bank = functional.normalize(embeddings.to(torch.float32), dim=1).to(self.bank.device)
        self.votes = votes.to(self.bank.device)

    def forward(self, features: Tensor) -> Tensor:
        """Logarithms of the shares of the votes, shape (n, classes).

        Args:
            features: shape (n, in_features) or (n, in_features, 1, 1).
        """
        features = features.flatten(1).float()
        if not len(self.bank):
            return features.new_zeros(len(features), self.out_features)
        similarity = functional.normalize(features, dim=1) @ self.bank.T
        nearest = similarity.topk(min(self.settings.neighbours, len(self.bank)), dim=1)
        weight = (nearest.values / self.settings.temperature).softmax(dim=1)
        votes = (weight[:, :, None] * self.votes[nearest.indices]).sum(dim=1)
        return (votes / votes.sum(dim=1, keepdim=True)).clamp_min(LEAST).log()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("bank", "votes"):  # their length is that of the training part
            if (found := state.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(found.shape))
        super()._load_from_state_dict(state, prefix, *rest)
