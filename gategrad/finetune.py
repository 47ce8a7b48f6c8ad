"""Training with quantised values: what few bits lose, the float parameters learn to make good.

Forward and backward see weights and activations as the integers will be (straight-through
estimator: the rounding has slope 1), while the update goes to the float parameters.
"""

from dataclasses import replace

import numpy as np

from gategrad.data import Dataset
from gategrad.quantise import Context
from gategrad.reference import Params
from gategrad.training import Progress, train


def finetune(context: Context, data: Dataset, epochs: int, progress: Progress | None) -> Params:
    """Float parameters after ``epochs`` with the formats of ``context``, at a third of the rate."""
    # A fused activation's name leads to the node that computes it.
    formats = {name: fmt for name, (_, fmt) in context.found.items()}
    fused = {n.name for n in context.network.nodes} - {
        name for name, (node, _) in context.found.items() if name == node
    }
    swallowed = {context.found[name][0] for name in fused}

    def view(params: Params) -> Params:
        seen = {}
        for node, named in params.items():
            if "weight" not in named:
                seen[node] = named
                continue
            fmt, scales = context.weights[node]
            # Units with a scale of their own: to the nominal scale and back.
            ratio = (scales / fmt.step).astype(named["weight"].dtype)
            ratio = ratio.reshape(-1, *[1] * (named["weight"].ndim - 1))
            seen[node] = named | {"weight": _round(named["weight"] / ratio, fmt) * ratio}
        return seen

    def hook(name: str, values: np.ndarray) -> np.ndarray:
        # Where ReLU is part of the node before, only its output is ever rounded.
        if name not in formats or name in swallowed or formats[name].width > 16:
            return values
        return _round(values, formats[name])

    settings = context.network.training
    settings = replace(settings, epochs=epochs, rate=settings.rate / 3, seed=settings.seed + 1)
    return train(
        context.network, data, settings, progress=progress, params=context.params, view=view,
        hook=hook,
    ).params


def _round(values: np.ndarray, fmt) -> np.ndarray:
    scaled = np.floor(np.ldexp(values, fmt.frac) + values.dtype.type(0.5))
    return np.ldexp(np.clip(scaled, fmt.min, fmt.max), -fmt.frac).astype(values.dtype)
