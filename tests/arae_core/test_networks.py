"""Critic, classifier, and their MLP."""

import pytest
import torch
from torch import nn

from arae_core.networks import Classifier, Critic, mlp
from tests.arae_core.small import text_settings


def test_the_critic_scores_samples_one_by_one() -> None:
    critic = Critic(text_settings()).double()
    codes = torch.randn(5, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(critic(codes), torch.cat([critic(code[None]) for code in codes]))


@pytest.mark.parametrize(("normalization", "layer"), [("layer", nn.LayerNorm), ("batch", nn.BatchNorm1d)])
def test_critic_and_classifier_do_not_normalize_their_first_layer(normalization: str, layer: type[nn.Module]) -> None:
    plain = mlp((7, 11, 5, 3), nn.ReLU, normalization)
    assert [type(part) for part in plain] == [*(nn.Linear, layer, nn.ReLU) * 2, nn.Linear]
    changes = {"critic.normalization": normalization, "critic.objective": "wgan-clip"}
    critic = Critic(text_settings(changes)).layers
    assert [type(part) for part in critic] == [nn.Linear, nn.LeakyReLU, nn.Linear, layer, nn.LeakyReLU, nn.Linear]
    two_layers = {"classifier.normalization": normalization, "classifier.hidden": (13, 5)}
    classifier = Classifier(text_settings(two_layers), 3).layers
    assert [type(part) for part in classifier] == [nn.Linear, nn.ReLU, nn.Linear, layer, nn.ReLU, nn.Linear]
    assert classifier[-1].out_features == 3


def test_without_hidden_layers_it_is_one_linear_map() -> None:
    assert len(mlp((7, 3), nn.ReLU, "layer")) == 1
