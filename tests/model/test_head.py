"""The parts of the head do what their formulas say."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from judgeflow.model.config import ModelConfig
from judgeflow.model.preference import (
    ConcatHead,
    Judged,
    LinearHead,
    SiameseHead,
    Standardise,
    SurfaceTerm,
    make_head,
    median_distance,
    surface_width,
)
from judgeflow.model.random_features import ContextFeatures, OddFeatures
from judgeflow.model.spectral import BoundedLinear
from judgeflow.model.uncertainty import ContextVariance, FeatureVariance


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


def with_random_weights(head):
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name.endswith(("beta", "weight")) and not parameter.any():
                parameter.copy_(torch.randn_like(parameter))
    return head.eval()


TINY = ModelConfig(projection=8, features=64)


@pytest.mark.parametrize("surface", [False, True])
@pytest.mark.parametrize("make", [SiameseHead, LinearHead])
def test_the_raw_logit_is_odd_the_context_even_and_equal_responses_are_worth_nothing(make, surface):
    config = replace(TINY, surface=surface)
    width = 12 + surface_width(config)
    head = with_random_weights(make(12, config))
    a, b = torch.randn(7, width), torch.randn(7, width)
    (forward,), (backward,) = head.views(a, b), head.views(b, a)
    assert torch.allclose(forward.logit, -backward.logit, atol=1e-5)
    assert torch.allclose(forward.features, -backward.features, atol=1e-6)
    if make is LinearHead:
        assert forward.features.shape == (7, 12 + surface_width(config))
    assert forward.logit.abs().min() > 0
    assert not head.views(a, a)[0].logit.any()
    if make is SiameseHead:
        assert torch.equal(forward.context, backward.context)


@pytest.mark.parametrize("config", [TINY, replace(TINY, surface=True), replace(TINY, uncertainty="none")])
def test_a_concat_head_tells_both_orders_in_the_order_of_the_pair(config):
    config = replace(config, encoder="concat")
    width = 12 + 2 * surface_width(config)
    head = with_random_weights(make_head(12, config))
    ab, ba = torch.randn(7, width), torch.randn(7, width)
    one, other = head.views(ab, ba)
    swapped = head.views(ba, ab)
    assert torch.equal(one.logit, -swapped[1].logit)
    assert torch.equal(other.logit, -swapped[0].logit)
    assert not torch.allclose(one.logit, other.logit)


def test_the_concat_head_is_the_papers_formula():
    head = with_random_weights(ConcatHead(12, replace(TINY, encoder="concat", logit_scale=1.0)))
    h = torch.randn(50, 12)
    with torch.no_grad():
        head.prepare(h, h)
        head.settle(h, h)
    z = h.double() @ head.projection.weight.double().T + head.projection.bias.double()
    z = (z - z.mean(0)) / z.std(0, correction=0)
    phi = math.sqrt(2 / 64) * torch.cos(z @ head.features.frequencies.double().T + head.features.phases.double())
    judged = head.views(h, h)[0]
    assert torch.allclose(judged.features.double(), phi, atol=1e-5)
    assert torch.allclose(judged.logit.double(), phi @ head.beta.double(), atol=1e-5)


def test_the_concat_kernels_length_scale_is_the_median_distance():
    head = ConcatHead(12, replace(TINY, encoder="concat", features=4096, length_scale=2.0))
    h = 5 * torch.randn(200, 12)
    with torch.no_grad():
        head.prepare(h, h)
        z = head.standardise(head.projection(h))
    assert float(head.features.frequencies.std()) == pytest.approx(1 / (2 * median_distance(torch.cat([z, z]))), rel=0.02)


def test_standardised_values_have_no_mean_and_unit_variance_over_what_settled_them_and_follow_training_before():
    data = 3.0 + 2.0 * torch.randn(400, 5)
    standardise = Standardise(5)
    for batch in data.repeat(3, 1).split(20):
        followed = standardise(batch)
    assert float(followed.mean()) == pytest.approx(0.0, abs=0.3)
    standardise.eval()
    standardise.settle(data)
    assert torch.allclose(standardise(data).mean(0), torch.zeros(5), atol=1e-5)
    assert torch.allclose(standardise(data).std(0, correction=0), torch.ones(5), atol=1e-5)


def test_the_surface_term_is_standardised_and_outliers_count_no_more_than_five_deviations():
    term = SurfaceTerm(3)
    data = torch.randn(500, 3) * torch.tensor([1.0, 50.0, 0.001]) + torch.tensor([0.0, 7.0, 3.0])
    term.prepare(data)
    with torch.no_grad():
        term.weight.copy_(torch.tensor([1.0, 0.0, 0.0]))
    assert value(term(torch.tensor([[1e9, 0.0, 0.0]]), torch.tensor([[-1e9, 0.0, 0.0]]))) == pytest.approx(10.0)
    step = value(term(data[:1] + torch.tensor([[0.1, 0.0, 0.0]]), data[:1]))
    assert step == pytest.approx(0.1 / float(data[:, 0].std(correction=0)), rel=1e-3)


def value(tensor):
    return float(tensor.detach())


def fitted(contexts, **kwargs):
    settings = {"uncertainty_scale": 1.0, "prior_precision": 1.0, "known_share": 0.999} | kwargs
    model = ContextVariance(ModelConfig(projection=contexts.shape[1], features=128, **settings))
    posterior = model.fit([alike(judged(context)) for context in contexts.split(100)])
    return lambda c: model(judged(c)), model.features, posterior


def alike(views):
    """Views of pairs that all count the same."""
    return views, torch.ones(len(views.logit))


def judged(context, features=None, logit=None):
    nothing = torch.zeros(len(context))
    return Judged(nothing if logit is None else logit, context if features is None else features, context)


def test_the_variance_is_that_of_a_float64_reference():
    contexts, new = torch.randn(300, 4), 3 * torch.randn(50, 4)
    variance, features, posterior = fitted(contexts, prior_precision=0.7)
    psi, test = (features(x).double().numpy() for x in (contexts, new))
    precision = 0.7 * torch.eye(128, dtype=torch.float64).numpy() + psi.T @ psi
    reference = 0.7 * (test @ np.linalg.inv(precision) * test).sum(1)
    assert posterior.tau == 0.7
    assert variance(new).double().numpy() == pytest.approx(reference, abs=1e-5)


@pytest.mark.parametrize("evidence", ["preference", "relative"])
@pytest.mark.parametrize("weights", ["one", "fisher"])
def test_the_variance_of_the_heads_own_features_is_that_of_a_float64_reference(evidence, weights):
    phi, logit, new = torch.randn(300, 16), 3 * torch.randn(300), torch.randn(50, 16)
    config = ModelConfig(features=16, evidence=evidence, weights=weights, prior_precision=0.5, known_share=0.999)
    model = FeatureVariance(16, config)
    posterior = model.fit([alike(judged(phi, phi, logit))])
    x, t = phi.double().numpy(), new.double().numpy()
    p = 1 / (1 + np.exp(-logit.double().numpy()))
    w = p * (1 - p) if weights == "fisher" else np.ones(300)
    reference = 0.5 * (t @ np.linalg.inv(0.5 * np.eye(16) + (x * w[:, None]).T @ x) * t).sum(1)
    if evidence == "relative":
        reference = reference / (t**2).sum(1)
    assert posterior.tau == 0.5
    assert model(judged(new)).double().detach().numpy() == pytest.approx(reference, rel=1e-4)


@pytest.mark.parametrize("weights", ["one", "fisher"])
def test_a_pair_counts_in_the_precision_by_its_strength(weights):
    phi, strength = torch.randn(30, 8), torch.tensor([3.0, 1.0, 2.0]).repeat(10)
    config = ModelConfig(features=8, weights=weights, known_share=0.999)
    once, repeated = FeatureVariance(8, config), FeatureVariance(8, config)
    once.fit([(judged(phi), strength)])
    repeated.fit([alike(judged(phi.repeat_interleave(strength.int(), dim=0)))])
    assert torch.allclose(once.precision.root, repeated.precision.root, atol=1e-6)


def test_the_context_counts_from_the_first_step():
    """Running statistics that started at 0 and 1 would leave a small context unseen for dozens of steps."""
    head = SiameseHead(12, TINY)
    a, b = 0.01 * torch.randn(200, 12) + 1.0, 0.01 * torch.randn(200, 12) + 1.0
    with torch.no_grad():
        head.prepare(a, b)
        (view,) = head.views(a, b)
    assert float(view.context.std()) == pytest.approx(1.0, abs=0.1)
    assert float(view.context.mean()) == pytest.approx(0.0, abs=0.1)


def test_a_pair_that_is_read_in_both_orders_counts_once():
    phi = torch.randn(40, 8)
    known = [FeatureVariance(8, ModelConfig(encoder=encoder, features=8, known_share=0.999)) for encoder in ("siamese", "concat")]
    known[0].fit([alike(judged(phi))])
    known[1].fit([alike(judged(phi)), alike(judged(phi))])
    assert torch.allclose(known[0].precision.root, known[1].precision.root, atol=1e-6)


def test_with_many_features_the_variance_is_that_of_an_exact_gaussian_process():
    """v = k(x, x) - k(x, X) (K + tau I)^-1 k(X, x) for the Gaussian kernel that the features approximate."""
    train, new = torch.randn(40, 2, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64) * 2
    model = ContextVariance(ModelConfig(projection=2, features=2048, uncertainty_scale=1.0, prior_precision=0.5, known_share=0.999))
    model.fit([alike(judged(train.float()))])
    scale = median_distance(train)

    def kernel(x, y):
        return torch.exp(-torch.cdist(x, y).square() / (2 * scale**2))

    gram = kernel(train, train) + 0.5 * torch.eye(40, dtype=torch.float64)
    exact = 1.0 - (kernel(new, train) @ torch.linalg.inv(gram) * kernel(new, train)).sum(1)
    assert torch.allclose(model(judged(new.float())).double(), exact, atol=0.08)


def test_the_variance_stays_between_nothing_and_the_prior():
    variance, features, _ = fitted(torch.randn(500, 4))
    new = 5 * torch.randn(200, 4)
    v, prior = variance(new), features(new).square().sum(1)
    assert bool((v >= 0).all())
    assert bool((v <= prior + 1e-5).all())


def test_training_contexts_are_known_and_far_ones_are_not():
    contexts = torch.randn(2000, 4)
    variance, features, posterior = fitted(contexts, known_share=0.2)
    far = 50 + 10 * torch.randn(500, 4)
    expected = (1 - posterior.known_share) * features(far).square().sum(1)
    assert float(variance(contexts).mean()) < 0.35
    assert float(variance(far).mean()) == pytest.approx(float(expected.mean()), rel=0.1)


def test_before_it_is_fitted_nothing_is_known():
    model = ContextVariance(ModelConfig(projection=4, features=64))
    x = torch.randn(10, 4)
    assert torch.allclose(model(judged(x)), model.features(x).square().sum(1))


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_tau_is_raised_until_no_more_than_the_share_is_known(share):
    contexts = torch.randn(3000, 4)
    _, _, posterior = fitted(contexts, prior_precision=1e-3, known_share=share)
    assert posterior.known_share == pytest.approx(share, rel=1e-6)
    assert posterior.tau > 1e-3
    _, _, generous = fitted(contexts, prior_precision=1e6, known_share=share)
    assert generous.tau == 1e6


def test_the_median_distance_is_that_of_the_pairs():
    rows = torch.randn(60, 3)
    distances = sorted(math.dist(a, b) for i, a in enumerate(rows.tolist()) for b in rows.tolist()[:i])
    assert median_distance(rows) == pytest.approx(distances[(len(distances) - 1) // 2], rel=1e-5)
    assert median_distance(torch.ones(5, 3)) == 1.0
