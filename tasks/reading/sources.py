"""Sources: what kinds of text ingest reads, and what a recipe says about each."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tasks.reading.encodings import known_codec
from tasks.reading.lines import MAX_DOCUMENT_BYTES
from tasks.reading.splitting import Split
from tasks.settings import Placement, Section


def known_encoding(name: str) -> str:
    """The name of a charset, or auto. ValueError for one that nobody knows."""
    if name != "auto" and known_codec(name) is None:
        raise ValueError(f"{name!r} is no charset; give a name such as gb18030, or auto")
    return name


Encoding = Annotated[str, AfterValidator(known_encoding)]
Language = Annotated[str, Field(pattern=r"^(auto|code|[a-z]{2,3})$")]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class Source(Section):
    """What all kinds of sources share."""

    name: str = Field(pattern=NAME, description="shown in every table; part of document ids")
    language: Language = Field(
        default="auto", description="an ISO 639 code of two or three letters, code, or auto: detected later, page by page"
    )


class FileSource(Source):
    """A source made of files, packed or not: what is inside tells, not the ending."""

    paths: Annotated[list[Annotated[str, Field(min_length=1)]], Placement()] = Field(
        min_length=1, description="files, folders, globs (** for any folders) or URLs (s3://...); gz, bz2, xz, zst too"
    )
    max_document_bytes: int = Field(
        default=MAX_DOCUMENT_BYTES, ge=1024, description="of a line, row or page unpacked; a longer one is refused"
    )


class EncodedSource(FileSource):
    """Files whose charset is not fixed by their format."""

    encoding: Encoding = Field(default="auto", description="charset of all files, such as gb18030; auto: detected, file by file")


class CutSource(EncodedSource):
    """Files of running text, cut into documents."""

    split: Split = Field(
        default="file", description="what a document is: a file, paragraphs up to window_chars, what follows a heading, lines up to it"
    )
    heading: str | None = Field(
        default=None, min_length=1, description="for split heading: an expression found in the first line of a document"
    )
    window_chars: int = Field(
        default=16_000, ge=100, description="most characters of a document; longer ones are cut at line ends, too long lines inside"
    )

    @model_validator(mode="after")
    def _heading_goes_with_its_split(self) -> Self:
        if (self.heading is not None) != (self.split == "heading"):
            raise ValueError("heading and split: heading need one another")
        try:
            re.compile(self.heading or "")
        except re.error as error:
            raise ValueError(f"heading {self.heading!r} is no regular expression: {error}") from error
        return self


class TextSource(CutSource):
    """Plain text files."""

    kind: Literal["text"]


class MarkdownSource(CutSource):
    """Markdown files; front matter goes to meta, not into the text."""

    kind: Literal["markdown"]


class RowSource(FileSource):
    """Files of rows; one of their fields holds the text."""

    text_field: str = Field(default="text", min_length=1, description="the field that holds a document's text")
    id_field: str | None = Field(default=None, description="a field that names a row for good; without one its position does")
    meta_fields: list[str] = Field(default=[], description="fields kept in meta; one called group is never split over train and validation")


class JsonLinesSource(RowSource):
    """One JSON object a line."""

    kind: Literal["jsonl"]
    encoding: Encoding = Field(default="auto", description="charset of all files; auto: detected, file by file")


class JsonSource(RowSource):
    """A JSON list of objects, or objects one behind the other."""

    kind: Literal["json"]
    encoding: Encoding = Field(default="auto", description="charset of all files; auto: detected, file by file")


class CsvSource(RowSource):
    """CSV, or TSV by its ending."""

    kind: Literal["csv"]
    encoding: Encoding = Field(default="auto", description="charset of all files; auto: detected, file by file")
    delimiter: str | None = Field(default=None, min_length=1, max_length=1, description="by the ending when absent: tab for .tsv")
    header: bool = Field(default=True, description="without a header, fields are named 0, 1, 2")


class ParquetSource(RowSource):
    """Parquet tables."""

    kind: Literal["parquet"]


class HtmlSource(EncodedSource):
    """Web pages, one a file; the markup stays in the text until the pages are annotated."""

    kind: Literal["html"]


class WarcSource(FileSource):
    """Web archives: the pages and plain texts of their responses and resources."""

    kind: Literal["warc"]


class HubSource(Source):
    """A data set that `datasets.load_dataset` opens: from the Hugging Face hub, or a local folder or data files."""

    kind: Literal["hub"]
    path: Annotated[str, Placement()] = Field(min_length=1, description="name on the hub, a folder, or a format such as json")
    data_files: Annotated[list[str] | None, Placement()] = Field(default=None, min_length=1, description="files of a format")
    subset: str | None = Field(default=None, description="the data set's configuration")
    split: str = Field(default="train", min_length=1)
    revision: str | None = Field(default=None, description="commit or tag; give one, or a changed data set goes unnoticed")
    text_field: str = Field(default="text", min_length=1)
    streaming: Annotated[bool, Placement()] = Field(default=False, description="read over the network without a copy on disk")
    limit: int | None = Field(default=None, ge=1, description="documents taken from the start")


class PythonSource(Source):
    """This interpreter's language reference and the docstrings and sources of its standard library."""

    kind: Literal["python"]
    name: str = Field(default="python", pattern=NAME)
    window_chars: int = Field(default=8_000, ge=500, description="most characters of a part of source code")


RowFileSource = JsonLinesSource | JsonSource | CsvSource | ParquetSource
AnySource = (
    TextSource
    | MarkdownSource
    | JsonLinesSource
    | JsonSource
    | CsvSource
    | ParquetSource
    | HtmlSource
    | WarcSource
    | HubSource
    | PythonSource
)


def place_of(source: Source) -> str:
    """Where in the recipe a message about a source points to."""
    return f"ingest source {source.name!r}"
