"""What a trace answers, over all its queries. Schema `whence.trace/2`, documented in docs/json.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, cast

from whence.data import Json
from whence.errors import InputError, install_extra
from whence.files import write_result
from whence.results.labels import labels_of
from whence.results.serialise import SchemaError, decode, encode, json_object, json_text
from whence.results.table import hit_frame, hit_table
from whence.results.types import Hit, QueryResult

if TYPE_CHECKING:
    import datasets
    import pandas as pd

SCHEMA = "whence.trace/2"


@dataclass(frozen=True, slots=True)
class TraceResult:
    """Rankings of one or many queries against one index."""

    index: str
    model: str
    adapter: str | None
    queries: tuple[QueryResult, ...]
    index_hash: str = ""
    """Hash of the model and of the data that the index was built from; "" in files written before it was kept."""

    @property
    def hits(self) -> tuple[Hit, ...]:
        """The hits of the only query; ask `queries[i].hits` when there are several."""
        if len(self.queries) != 1:
            raise ValueError(f"this result has {len(self.queries)} queries; use result.queries[i].hits")
        return self.queries[0].hits

    def __iter__(self) -> Iterator[QueryResult]:
        return iter(self.queries)

    def to_dict(self) -> dict[str, Json]:
        """The documented JSON object."""
        return {"schema": SCHEMA, **cast("dict[str, Json]", encode(self))}

    @classmethod
    def from_dict(cls, content: Mapping[str, Json]) -> TraceResult:
        """The result that `to_dict` wrote: `TraceResult.from_dict(result.to_dict()) == result`.

        Raises SchemaError for another schema, and for content that is not what the schema says; names the place.
        """
        if content.get("schema") != SCHEMA:
            raise SchemaError(_other_schema(content.get("schema")))
        return decode(cls, {name: value for name, value in content.items() if name != "schema"})

    def without_text(self) -> TraceResult:
        """The result without what comes from the text of training rows: prompts, responses, words, phrases and
        metadata that are texts (`labels_of`)."""

        def bare(query: QueryResult) -> QueryResult:
            hits = tuple(
                replace(hit, prompt="", response="", words=None, metadata=labels_of(hit.metadata)) for hit in query.hits
            )
            return replace(query, hits=hits, phrases=())

        return replace(self, queries=tuple(map(bare, self.queries)))

    def to_json(self, path: str | Path | None = None, *, show_text: bool = True) -> str:
        """The JSON text; also written to `path` when one is given. show_text: as for `without_text`."""
        return json_text(SCHEMA, encode(self if show_text else self.without_text()), path)

    def to_pandas(self) -> pd.DataFrame:
        """A table with one row for each hit, in the order of queries and ranks.

        `query`: the query's number, from 0. `flagged`: whether the verdict flags the row; None without a verdict. Then
        the fields of `Hit`, what the data carried as `metadata.NAME`, what else could explain the rank as
        `confounds.NAME`.

        Raises InputError where pandas is not installed.
        """
        try:
            import pandas as _  # noqa: F401
        except ImportError as error:
            raise InputError(
                "pandas is not installed.", "to_pandas makes a data frame.", install_extra("tables")
            ) from error
        return hit_frame(self.queries)

    def to_dataset(self) -> datasets.Dataset:
        """The same rows as a Hugging Face data set.

        A column of the data whose values are of several types, or are lists or objects, holds them as JSON text.
        """
        import datasets

        return datasets.Dataset(hit_table(self.queries))

    def to_parquet(self, path: str | Path) -> None:
        """Writes the rows of `to_dataset` to a Parquet file."""
        import pyarrow.parquet as pq

        content = BytesIO()
        pq.write_table(hit_table(self.queries), content)
        write_result(path, content.getvalue())

    def to_html(self, path: str | Path | None = None, *, title: str | None = None, show_text: bool = True) -> str:
        """The self-contained page, see `whence.report.html.render_page`; also written to `path` when one is given."""
        from whence.report import render_page

        return _written(render_page(self, title=title, show_text=show_text), path)

    def to_markdown(self, path: str | Path | None = None, *, show_text: bool = True) -> str:
        """The result as Markdown; also written to `path` when one is given."""
        from whence.report import render_markdown

        return _written(render_markdown(self, show_text=show_text), path)

    def to_summary(self, path: str | Path | None = None, *, show_text: bool = True) -> str:
        """A short Markdown summary, as for a pull request; also written to `path` when one is given."""
        from whence.report import render_summary

        return _written(render_summary(self, show_text=show_text), path)

    def __str__(self) -> str:
        from whence.report import render_text

        return render_text(self)

    def _repr_html_(self) -> str:
        from whence.report import render_html

        return render_html(self)


def _other_schema(found: Json) -> str:
    """What is wrong with a schema that is not `SCHEMA`."""
    name, _, version = SCHEMA.partition("/")
    number = str(found).removeprefix(f"{name}/")
    if number == str(found) or not number.isdecimal():
        return f"its schema is {found!r}"
    return f"its schema is {found!r}, written by {'an older' if int(number) < int(version) else 'a newer'} whence"


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        write_result(path, text)
    return text


def read_trace(path: str | Path) -> TraceResult:
    """The trace that `whence trace --json` wrote. Raises InputError for another or a damaged file."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no trace at {path}.", "Expected what `whence trace --json` wrote.", "Check it.")
    try:
        return TraceResult.from_dict(json_object(path.read_text("utf-8")))
    except ValueError as error:
        raise InputError(
            f"{path} is no trace that can be read: {error}.", f"Expected schema {SCHEMA!r}.", "Trace again."
        ) from error
