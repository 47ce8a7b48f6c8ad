"""A board whose weights and biases can be changed, in use.

    with gategrad.connect("/dev/ttyUSB1", build="build") as device:
        device.load_weights(gategrad.load("second.npz"))
        outputs = device.predict(x)
"""

import numpy as np

from gategrad.boards.build import no_progress
from gategrad.boards.host import Link
from gategrad.boards.tools import Progress
from gategrad.device import Device, told
from gategrad.errors import GategradError
from gategrad.loadable import WeightFile
from gategrad.model import Model


class LoadableDevice(Device):
    """Inference with weights that can be changed, on a board at the other end of ``link``.

    ``file``: what the bitstream was made from; ``together``: samples computed at once. A board that
    is started again while it is in use has other weights: :meth:`predict`, :meth:`forward` and
    :meth:`weights` raise :class:`GategradError` then.
    """

    readable = True

    def __init__(self, link: Link, file: WeightFile, together: int = 1):
        super().__init__(link, file.model, together=together)
        self.file = file
        self._written = link.identify().written

    def forward(self, x, progress: Progress = no_progress) -> np.ndarray:
        outputs = super().forward(x, progress)
        self._unchanged()
        return outputs

    def _unchanged(self) -> None:
        """Raise :class:`GategradError` if weights that were written are not there any more."""
        if self._written and not self.link.identify().written:
            raise GategradError(
                "the board was started again (power or reset) and has forgotten the weights that "
                "were loaded; load them again (load_weights)"
            )

    def weights(self, progress: Progress = no_progress) -> Model:
        """The model with the weights and biases that are in the board's memories now."""
        image = self.link.read(told(progress, "reading weights"))
        self._unchanged()
        return self.file.from_bytes(image)

    @property
    def model(self) -> Model:
        """:meth:`weights`."""
        return self.weights()

    def load_weights(self, model: Model | None = None, progress: Progress = no_progress) -> None:
        """Write weights and biases of ``model`` (default: those it was built with) into the board
        and read them back.

        Raises :class:`GategradError` for a model of other layers or formats.
        """
        image = self.file.to_bytes(self.file.adapted(model) if model else self.file.model)
        self._write(image, progress)

    def _written_over(self) -> None:
        self._written = True
