"""What narrower numbers cost: accuracy against the memory of the weights, as a table and a plot."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gategrad.errors import GategradError
from gategrad.model import Model

PLOTS = (".png", ".svg")


@dataclass(frozen=True)
class Row:
    """One choice of widths.

    ``step``: what it changes; ``widths``: by integer node the bits of its weights, if it has any,
    and of what leaves it; ``weight_memory``: bits of all weights together; ``accuracy``: share;
    ``points_lost``: of the float network's accuracy, in points (hundredths).
    """

    step: str
    widths: dict[str, dict[str, int]]
    weight_memory: int
    accuracy: float
    points_lost: float
    chosen: bool = False

    @classmethod
    def of(cls, step: str, model: Model, accuracy: float, float_accuracy: float) -> "Row":
        """The row of ``model``."""
        widths, memory = {}, 0
        for node in model.nodes:
            found = {"out_bits": node.out.width}
            weight = model.params.get(node.name, {}).get("weight")
            if weight is not None:
                found = {"weight_bits": node.spec.weight.width, **found}
                memory += weight.size * node.spec.weight.width
            widths[node.name] = found
        return cls(step, widths, memory, accuracy, 100 * (float_accuracy - accuracy))

    @property
    def kilobytes(self) -> float:
        """Memory of the weights in kB (8,000 bits)."""
        return self.weight_memory / 8000


@dataclass(frozen=True)
class Precision:
    """The choices that were tried, in order, and the ``model`` of the one that was chosen.

    ``float_accuracy``: of the float network; ``drop``: points that could be lost, None where
    nothing was asked; ``samples``: held-out ones that accuracy was measured on.
    """

    rows: tuple[Row, ...]
    model: Model = field(repr=False)
    float_accuracy: float
    drop: float | None
    samples: int

    @property
    def chosen(self) -> Row:
        """The row of :attr:`model`."""
        return next(row for row in self.rows if row.chosen)

    def table(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "float_accuracy": self.float_accuracy,
            "accuracy_drop": self.drop,
            "samples": self.samples,
            "rows": [asdict(row) | {"weight_kilobytes": row.kilobytes} for row in self.rows],
        }

    def plot(self, path: str | Path) -> None:
        """Accuracy against weight memory, as .png or .svg.

        Raises :class:`GategradError` for another suffix, a folder that does not exist, and where
        matplotlib is missing.
        """
        check_plot(path)
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        limit = None if self.drop is None else 100 * self.float_accuracy - self.drop
        passed = [r for r in self.rows if limit is None or 100 * r.accuracy >= limit - 1e-9]
        others = [r for r in self.rows if r not in passed]
        for rows, colour, label in (
            (others, "tab:gray", "loses too much"),
            (passed, "tab:blue", "tried"),
            ([self.chosen], "tab:red", "chosen"),
        ):
            if rows:
                axes.scatter(
                    [r.kilobytes for r in rows], [100 * r.accuracy for r in rows],
                    c=colour, label=label, s=60 if label == "chosen" else 25, zorder=3,
                )  # fmt: skip
        # Steps of single layers lie close together: their names would hide each other.
        named: dict[tuple[float, float], list[str]] = {}
        for row in self.rows:
            if ":" not in row.step and not row.chosen:
                named.setdefault((row.kilobytes, row.accuracy), []).append(row.step)
        for (memory, accuracy), steps in named.items():
            axes.annotate(
                ", ".join(steps), (memory, 100 * accuracy), xytext=(-5, -10),
                textcoords="offset points", fontsize=7, ha="right",
            )  # fmt: skip
        chosen = self.chosen
        axes.annotate(
            chosen.step, (chosen.kilobytes, 100 * chosen.accuracy), xytext=(-5, 8),
            textcoords="offset points", fontsize=7, ha="right", color="tab:red",
        )  # fmt: skip
        axes.axhline(100 * self.float_accuracy, color="black", linewidth=0.8, label="float")
        if limit is not None:
            axes.axhline(limit, color="black", linewidth=0.8, linestyle=":", label="limit")
        axes.set_xlabel("weights, kB")
        axes.set_ylabel(f"accuracy on {self.samples} held-out samples, %")
        axes.set_title(self.model.name)
        axes.margins(x=0.15)  # for the names
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        # The same file every time.
        metadata = {"Date": None} if Path(path).suffix.lower() == ".svg" else None
        with rc_context({"svg.hashsalt": "gategrad"}):
            figure.savefig(path, metadata=metadata, dpi=150)


def check_plot(path: str | Path) -> None:
    """Raises :class:`GategradError` where :meth:`Precision.plot` would: before a long search."""
    path = Path(path)
    if path.suffix.lower() not in PLOTS:
        raise GategradError(f"{path}: a plot is a file that ends in {' or '.join(PLOTS)}")
    if path.is_dir() or not path.parent.is_dir():
        raise GategradError(f"{path}: cannot be written: not a file in a folder that exists")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise GategradError(
            f"{path}: a plot needs matplotlib: pip install 'gategrad[plot]'"
        ) from None
