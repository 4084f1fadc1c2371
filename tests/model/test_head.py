"""The parts of the head do what their formulas say."""

import math

import pytest
import torch

from judgeflow.model.config import ModelConfig
from judgeflow.model.preference import PreferenceHead
from judgeflow.model.random_features import ContextFeatures, OddFeatures
from judgeflow.model.spectral import BoundedLinear
from judgeflow.model.uncertainty import ContextUncertainty, median_distance


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def largest_singular_value(linear: BoundedLinear) -> float:
    """Of the map as it is applied, whatever the module claims."""
    with torch.no_grad():
        return float(torch.linalg.svdvals(linear(torch.eye(linear.weight.shape[1])).double())[0])


@pytest.mark.parametrize("factor", [1.5, 20.0])
def test_a_map_above_its_bound_is_shrunk_to_it_while_training_and_after(factor):
    linear = BoundedLinear(40, 16, bound=1.0)
    with torch.no_grad():
        linear.weight.copy_(factor * torch.randn(16, 40) / 8)
    for _ in range(200):
        linear(torch.randn(4, 40))
    assert largest_singular_value(linear) == pytest.approx(1.0, abs=1e-3)
    linear.settle()
    linear.eval()
    assert largest_singular_value(linear) == pytest.approx(1.0, abs=1e-6)


def test_a_map_below_its_bound_is_left_alone():
    linear = BoundedLinear(40, 16, bound=3.0)
    before = linear.weight.detach().clone()
    linear.settle()
    linear.eval()
    x = torch.randn(5, 40)
    assert torch.equal(linear(x), x @ before.T)


def test_the_bound_passes_gradients_to_the_weights():
    linear = BoundedLinear(8, 4, bound=0.5)
    linear(torch.randn(3, 8)).square().sum().backward()
    assert float(linear.weight.grad.abs().sum()) > 0


def test_context_features_approximate_a_gaussian_kernel():
    features = ContextFeatures(6, 20_000, length_scale=2.0)
    x, y = torch.randn(30, 6), torch.randn(30, 6)
    kernel = (features(x) * features(y)).sum(1)
    exact = torch.exp(-(x - y).square().sum(1) / (2 * 2.0**2))
    assert torch.allclose(kernel, exact, atol=0.03)


def test_odd_features_approximate_their_kernel_and_are_odd():
    features = OddFeatures(5, 40_000, context_scale=2.0, difference_scale=1.5)
    c, d = torch.randn(20, 5), torch.randn(20, 5)
    e, f = c + 0.3 * torch.randn(20, 5), d + 0.3 * torch.randn(20, 5)

    def gauss(distance, scale):
        return torch.exp(-distance.square().sum(1) / (2 * scale**2))

    exact = gauss(c - e, 2.0) * (gauss(d - f, 1.5) - gauss(d + f, 1.5))
    assert torch.allclose((features(c, d) * features(e, f)).sum(1), exact, atol=0.04)
    assert torch.equal(features(c, -d), -features(c, d))
    assert not features(c, torch.zeros_like(d)).any()


def test_the_raw_logit_is_odd_the_context_even_and_equal_responses_are_worth_nothing():
    head = PreferenceHead(12, ModelConfig(projection=8, features=64)).eval()
    with torch.no_grad():
        head.beta.copy_(torch.randn(64))
    a, b = torch.randn(7, 12), torch.randn(7, 12)
    forward, backward = head(a, b), head(b, a)
    assert torch.allclose(forward.logit, -backward.logit, atol=1e-5)
    assert torch.equal(forward.context, backward.context)
    assert forward.logit.abs().min() > 0
    assert not head(a, a).logit.any()


def fitted(contexts, **kwargs):
    model = ContextUncertainty(contexts.shape[1], 128)
    settings = {"length_scale": 1.0, "prior_precision": 1.0, "known_share": 1.0} | kwargs
    return model, model.fit(contexts, **settings)


def test_the_variance_is_that_of_a_float64_reference():
    contexts, new = torch.randn(300, 4), 3 * torch.randn(50, 4)
    model, posterior = fitted(contexts, prior_precision=0.7)
    psi, test = (model.features(x).double().numpy() for x in (contexts, new))
    precision = 0.7 * torch.eye(128, dtype=torch.float64).numpy() + psi.T @ psi
    inverse = torch.linalg.inv(torch.tensor(precision)).numpy()
    reference = 0.7 * (test @ inverse * test).sum(1)
    assert posterior.tau == 0.7
    assert torch.allclose(model(new).double(), torch.tensor(reference), atol=1e-5)


def test_the_variance_stays_between_nothing_and_the_prior():
    model, _ = fitted(torch.randn(500, 4))
    new = 5 * torch.randn(200, 4)
    v, prior = model(new), model.features(new).square().sum(1)
    assert bool((v >= 0).all())
    assert bool((v <= prior + 1e-5).all())


def test_training_contexts_are_known_and_far_ones_are_not():
    contexts = torch.randn(2000, 4)
    model, posterior = fitted(contexts, known_share=0.2)
    far = 50 + 10 * torch.randn(500, 4)
    expected = (1 - posterior.known_share) * model.features(far).square().sum(1)
    assert float(model(contexts).mean()) < 0.35
    assert float(model(far).mean()) == pytest.approx(float(expected.mean()), rel=0.1)


def test_before_it_is_fitted_nothing_is_known():
    model = ContextUncertainty(4, 64)
    x = torch.randn(10, 4)
    assert torch.allclose(model(x), model.features(x).square().sum(1))


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_tau_is_raised_until_no_more_than_the_share_is_known(share):
    contexts = torch.randn(3000, 4)
    _, posterior = fitted(contexts, prior_precision=1e-3, known_share=share)
    assert posterior.known_share == pytest.approx(share, rel=1e-6)
    assert posterior.tau > 1e-3
    _, generous = fitted(contexts, prior_precision=1e6, known_share=share)
    assert generous.tau == 1e6


def test_the_median_distance_is_that_of_the_pairs():
    rows = torch.randn(60, 3)
    distances = sorted(math.dist(a, b) for i, a in enumerate(rows.tolist()) for b in rows.tolist()[:i])
    assert median_distance(rows) == pytest.approx(distances[(len(distances) - 1) // 2], rel=1e-5)
    assert median_distance(torch.ones(5, 3)) == 1.0
