"""The schema of `GET /v1/report`: what an engine contributes to the site report, in a form that any renderer can show."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from rich.console import Console

from ..terminal import print_line, print_rows
from .schemas import Response

Cell = str | int | float | bool | None


class ReportProblem(Response):
    """Something that an operator has to look at."""

    name: str
    detail: str


class ReportTable(Response):
    """A table; each row has one cell per column."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]

    @model_validator(mode="after")
    def _one_cell_per_column(self) -> ReportTable:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.title}: every row needs {len(self.columns)} cells, one per column")
        return self


class ReportLink(Response):
    """A link to more about the engine."""

    text: str
    url: str


class Report(Response):
    """An engine's section of the site report."""

    title: str
    problems: Annotated[list[ReportProblem], Field(description="empty when there is nothing to do")]
    tables: list[ReportTable]
    links: list[ReportLink]


def print_report(report: Report, out: Console) -> None:
    """Print a report on a terminal or into a pipe."""
    print_line(out, report.title)
    for problem in report.problems:
        print_line(out, f"! {problem.name}: {problem.detail}")
    for table in report.tables:
        print_line(out, table.title)
        print_rows(out, [column.upper() for column in table.columns], table.rows)
    for link in report.links:
        print_line(out, f"{link.text}: {link.url}")
