import numpy as np
import pytest
from scipy import optimize, sparse
from scipy.special import expit, log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from twinrank.errors import DivergedError
from twinrank.training.calibration import WEIGHT_PENALTY, fit_confidence, fit_scale, fit_weights


def test_finds_the_scale_labels_were_drawn_with():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 6))
    answers = [rng.choice(6, p=row) for row in softmax(3.0 * scores, axis=1)]
    labels = sparse.csr_array(np.eye(6)[answers])
    assert fit_scale(lambda scale: scale * scores, labels) == pytest.approx(3.0, rel=0.1)


def fused_problem():
    """Labels drawn by 1.5 times one signal; another is noise, a third is never different."""
    rng = np.random.default_rng(1)
    signals = {name: rng.normal(size=(3000, 5)) for name in ("true", "noise")}
    signals["flat"] = np.ones((3000, 5))
    answers = [rng.choice(5, p=row) for row in softmax(1.5 * signals["true"], axis=1)]
    return signals, sparse.csr_array(np.eye(5)[answers])


def test_weights_are_the_minimum_of_what_is_documented():
    signals, labels = fused_problem()
    start = {"true": 1.0, "noise": 0.5, "flat": 0.3}

    def cost(weights):
        by_name = dict(zip(signals, weights, strict=True))
        scores = sum(weight * signals[name] for name, weight in by_name.items())
        loss = -log_softmax(scores, axis=1)[labels.toarray() > 0].mean()
        moved = sum((weight - start[name]) ** 2 for name, weight in by_name.items())
        return loss + WEIGHT_PENALTY * moved

    weights = list(fit_weights(signals, labels, start).values())
    least = optimize.minimize(cost, list(start.values()), method="Nelder-Mead", bounds=[(0, 9)] * 3)
    assert cost(weights) <= least.fun + 1e-6


def test_confidence_is_a_logistic_regression():
    rng = np.random.default_rng(2)
    odds = rng.normal(size=20_000) * 2
    right = rng.random(20_000) < expit(0.6 * odds - 0.4)
    slope, intercept = fit_confidence(odds, right)
    model = LogisticRegression(C=np.inf).fit(odds[:, None], right)
    assert slope == pytest.approx(model.coef_[0, 0], abs=0.01)
    assert intercept == pytest.approx(model.intercept_[0], abs=0.01)


@pytest.mark.parametrize("right", [True, False])
def test_confidence_stays_short_of_certainty(right):
    odds = np.linspace(-3, 3, 30)
    slope, intercept = fit_confidence(odds, np.full(30, right))
    assert abs(slope) < 20 and abs(intercept) < 20
    assert (expit(slope * odds + intercept).mean() > 0.5) is np.bool_(right)


def test_nothing_is_fitted_to_what_is_not_finite():
    scores, labels = np.array([[0.0, np.nan]]), sparse.csr_array(np.eye(2)[:1])
    signals = {"finite": np.ones((1, 2)), "other": scores}
    for fit in (
        lambda: fit_scale(lambda scale: scale * scores, labels),
        lambda: fit_weights(signals, labels, dict.fromkeys(signals, 1.0)),
        lambda: fit_confidence(scores[0], np.array([True, False])),
    ):
        with pytest.raises(DivergedError, match="not finite"):
            fit()
