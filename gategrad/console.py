"""What people see: progress bars and tables on standard error, results on standard output."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

#: Wide where it goes to a file, so that tables are not cut.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False)

#: What one-time work is called: the tools are WebAssembly and each is compiled on its first run.
COMPILING = "compiling the tool's WebAssembly, once on this machine"


class Bar:
    """One line of progress; ``update`` may be called as often as one likes."""

    def __init__(self, progress: Progress, task):
        self._progress, self._task = progress, task

    def update(self, fraction: float | None, note: str = "") -> None:
        """``fraction`` done (None: unknown), and what is going on."""
        total = None if fraction is None else 1.0
        self._progress.update(self._task, completed=fraction or 0.0, total=total, note=note)


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """A progress bar on standard error that stays, with the time it took, when it is done."""
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(title, total=None, note="")
        yield Bar(progress, task)
        progress.update(task, total=1.0, completed=1.0, note="")


class Stages:
    """Bars for the stages of a build, one after another, as ``boards.build`` reports them."""

    def __init__(self) -> None:
        self._open: dict[str, tuple] = {}

    def __call__(self, stage: str, fraction: float | None, note: str) -> None:
        if stage not in self._open:
            self.close()
            context = bar(stage)
            self._open[stage] = (context, context.__enter__())
        self._open[stage][1].update(fraction, note)

    def close(self) -> None:
        """End the bar that is open."""
        for context, _ in self._open.values():
            context.__exit__(None, None, None)
        self._open.clear()

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A plain table; numbers to the right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numbers = rows and all(_numeric(row[index]) for row in rows)
        made.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def _numeric(text: str) -> bool:
    return not text or text[0].isdigit() or text[0] == "-"

