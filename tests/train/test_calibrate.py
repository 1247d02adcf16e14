import numpy as np
import pytest
from scipy import sparse
from scipy.special import softmax

from twinrank.train import fit_scale


def test_finds_the_scale_labels_were_drawn_with():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 6))
    drawn = [rng.choice(6, p=row) for row in softmax(3.0 * scores, axis=1)]
    labels = sparse.csr_array(np.eye(6)[drawn])
    assert fit_scale(scores, labels) == pytest.approx(3.0, rel=0.1)
