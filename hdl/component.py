# amaranth: UnusedElaboratable=no
"""Components whose ports are made when somebody first asks for them."""

from typing import Any

from amaranth.lib import wiring


class Component(wiring.Component):
    """A :class:`amaranth.lib.wiring.Component` that costs nothing until it is connected.

    The planner makes thousands of components only to ask what they would cost; the signals of
    their ports would be most of that work. A subclass says its ports in :meth:`ports`, calls no
    constructor above it, and is otherwise like any other.
    """

    def __init__(self) -> None:  # the ports come later
        pass

    def ports(self) -> dict[str, wiring.Member]:
        """The members of the signature, by name; a function of the constructor's arguments."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is not there (yet).
        if name.startswith("__") or "_ports_made" in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        self._ports_made = True
        wiring.Component.__init__(self, self.ports())
        return getattr(self, name)
