"""Document tables as works of file tasks: by path and content, one task each."""

from dataclasses import dataclass, field

from tasks.artifacts import Artifact, read_manifest


@dataclass(frozen=True)
class TableFile:
    """A table of an earlier stage, by path and content."""

    path: str
    digest: str
    size: int
    rows: int
    facts: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class TableWork:
    """What the works over one table share; each says by itself what its outcome is a function of."""

    table: TableFile

    @property
    def label(self) -> str:
        """The table's path."""
        return self.table.path

    @property
    def size(self) -> int:
        """Bytes of its file."""
        return self.table.size


def tables_of(artifact: Artifact, pattern: str = "documents-*.parquet") -> list[TableFile]:
    """The artifact's tables in order, with the digests that its manifest has of them."""
    manifest = read_manifest(artifact.path)
    assert manifest is not None, f"{artifact.folder}: no manifest"
    names = {path.name for path in artifact.path.glob(pattern)}
    return [
        TableFile(str(artifact.path / entry.path), entry.sha256, entry.bytes, entry.rows)
        for entry in sorted(manifest.files, key=lambda entry: entry.path)
        if entry.path in names
    ]
