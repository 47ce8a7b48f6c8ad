"""The float reference, against which learning is measured, beside PyTorch where that is installed
(the extra ``fixtures``): outputs, losses and every gradient, in 64 bits."""

import numpy as np
import pytest

from gategrad import reference
from gategrad.graph import Network
from gategrad.image_layers import AveragePool2D, Conv2D, MaxPool2D
from gategrad.layers import Dense, Flatten
from gategrad.losses import LOSSES, targets

torch = pytest.importorskip("torch", reason="no torch; pip install 'gategrad[fixtures]'")
F = torch.nn.functional

NETWORK = Network(
    (
        Conv2D(4, kernel=3, padding="same", activation="relu", name="first"),
        MaxPool2D(2),
        Conv2D(6, kernel=3, stride=2, activation="tanh", name="second"),
        AveragePool2D(2),
        Flatten(),
        Dense(8, activation="sigmoid", name="third"),
        Dense(5, activation="leaky_relu", name="fourth"),
        Dense(3, name="output"),
    ),
    (14, 14, 2),
)


def by_torch(params, x):
    """Outputs of NETWORK from its parameters, as tensors that have gradients."""
    def conv(name, value, **how):
        p = params[name]
        return F.conv2d(value, p["weight"].permute(0, 3, 1, 2), p["bias"], **how)

    def dense(name, value):
        return F.linear(value, params[name]["weight"], params[name]["bias"])

    value = torch.tensor(x).permute(0, 3, 1, 2)
    value = F.max_pool2d(F.relu(conv("first", value, padding=1)), 2)
    value = F.avg_pool2d(torch.tanh(conv("second", value, stride=2)), 2)
    value = value.permute(0, 2, 3, 1).flatten(1)  # channels fastest, as here
    value = F.leaky_relu(dense("fourth", torch.sigmoid(dense("third", value))), 0.01)
    return dense("output", value)


def torch_loss(kind, out, labels):
    if kind == "softmax_cross_entropy":
        return F.cross_entropy(out, labels)
    one_hot = F.one_hot(labels, 3).double()
    if kind == "sigmoid_cross_entropy":
        return F.binary_cross_entropy_with_logits(out, one_hot, reduction="sum") / len(out)
    if kind == "squared_error":
        return 0.5 * ((out - one_hot) ** 2).sum() / len(out)
    # PyTorch divides by the number of classes.
    return F.multi_margin_loss(out, labels) * 3


@pytest.mark.parametrize(
    "kind", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error", "hinge"]
)
def test_outputs_losses_and_gradients_are_those_of_torch(kind):
    random = np.random.default_rng(5)
    params = reference.initialise(NETWORK, 3)
    x, labels = random.normal(size=(6, 14, 14, 2)), random.integers(0, 3, 6)
    values, saved = reference.run(NETWORK, params, x)
    out = values["output"]
    loss, delta = LOSSES[kind](out, targets(labels, 3))
    _, gradients = reference.backward(NETWORK, params, saved, delta)

    theirs = {
        node: {k: torch.tensor(v, requires_grad=True) for k, v in named.items()}
        for node, named in params.items()
    }
    their_out = by_torch(theirs, x)
    their_loss = torch_loss(kind, their_out, torch.tensor(labels))
    their_loss.backward()
    np.testing.assert_allclose(out, their_out.detach().numpy(), rtol=1e-9, atol=1e-12)
    assert loss == pytest.approx(float(their_loss.detach()), rel=1e-9)
    for node, named in theirs.items():
        for name, value in named.items():
            np.testing.assert_allclose(
                gradients[node][name], value.grad.numpy(), rtol=1e-7, atol=1e-10
            )
