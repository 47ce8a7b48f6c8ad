"""What people see: progress on standard error, results on standard output."""

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

#: Wide where it goes to a file, so that tables are not cut. Text is never taken for markup.
out = Console(
    highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200
)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


class Stages:
    """The progress of a verb: called with a stage's name, the share done (None: unknown), a note.

    A bar for each stage, one after another, which stays with the time it took; ``prefix`` stands
    before their names. Where standard error is no terminal: a line when a stage begins, and one for
    every note without a share, which is what people wait for. Use it in ``with``.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix, self._stage, self._note = prefix, "", ""
        self._progress: Progress | None = None

    def __call__(self, stage: str, fraction: float | None, note: str = "") -> None:
        if stage != self._stage:
            self._end(done=True)
            self._begin(stage)
        if self._progress:
            total = None if fraction is None else 1.0
            self._progress.update(
                self._progress.task_ids[0], completed=fraction or 0.0, total=total, note=note
            )
        elif fraction is None and note not in ("", self._note):
            err.print(f"{self._prefix}{stage}: {note}")
            self._note = note

    def _begin(self, stage: str) -> None:
        self._stage, self._note, title = stage, "", self._prefix + stage
        if not err.is_terminal:
            err.print(title)
            return
        self._progress = Progress(
            TextColumn("{task.description:<34}", markup=False),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=err,
        )
        self._progress.start()
        self._progress.add_task(title, total=None, note="")

    def _end(self, done: bool) -> None:
        if self._progress:
            if done:
                task = self._progress.task_ids[0]
                self._progress.update(task, total=1.0, completed=1.0, note="")
            self._progress.stop()
        self._progress, self._stage = None, ""

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, kind, *_) -> None:
        self._end(done=kind is None)


class bar:
    """One stage, for work that says nothing but how far it is."""

    def __init__(self, title: str) -> None:
        self._title, self._stages = title, Stages()

    def update(self, fraction: float | None, note: str = "") -> None:
        """``fraction`` done (None: unknown), and what is going on."""
        self._stages(self._title, fraction, note)

    def __enter__(self) -> "bar":
        self.update(None)
        return self

    def __exit__(self, *exception) -> None:
        self._stages.__exit__(*exception)


def table(columns: list[str], rows: list[list[str]]) -> Table:
    """A plain table; numbers to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numbers = rows and all(_numeric(row[index]) for row in rows)
        made.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def _numeric(text: str) -> bool:
    return not text or text[0].isdigit() or text[0] == "-"
