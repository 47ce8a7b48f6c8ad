"""DropConnect in floating point: the masks that golden makes, in any layer with weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gategrad.golden import dropconnect
from gategrad.golden.noise import Noise


@dataclass(frozen=True)
class Masked:
    """What backward needs of samples that had weights of their own: for each of them the masks,
    times what is left is scaled by, the parameters, and what the layer saved."""

    factors: list[np.ndarray]
    params: list[dict[str, np.ndarray]]
    saved: list[Any]

    def backward(self, operation: Any, layer: Any, delta: np.ndarray):
        """As that of ``operation``, of the samples that went forward."""
        dxs: list[np.ndarray] = []
        total: dict[str, Any] = {}
        for n, (factor, params, saved) in enumerate(
            zip(self.factors, self.params, self.saved, strict=True)
        ):
            (dx,), found = operation.backward(layer, params, saved, delta[n : n + 1])
            dxs.append(dx)
            for name, value in dropconnect.masked(found, factor).items():
                total[name] = total[name] + value if name in total else value
        return (np.concatenate(dxs),), total


def forward(operation: Any, layer: Any, params, x: np.ndarray, noise: Noise):
    """Outputs of ``operation`` with other weights for each sample, and a :class:`Masked`."""
    spec, weight = dropconnect.dropping(layer.dropconnect), params["weight"]
    size = len(weight), weight[0].size + 1
    scale = weight.dtype.type(spec.factor)
    outs, found = [], Masked([], [], [])
    for n, word in enumerate(noise.words(len(x)).tolist()):
        factor = dropconnect.mask(spec, word, *size) * scale
        own = dropconnect.masked(params, factor)
        out, saved = operation.forward(layer, own, [x[n : n + 1]])
        outs.append(out)
        found.factors.append(factor)
        found.params.append(own)
        found.saved.append(saved)
    return np.concatenate(outs), found
