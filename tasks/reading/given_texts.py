"""Given texts: word lists and texts that a recipe names by path, in whatever charset they are."""

from pathlib import Path

from tasks.errors import UserError
from tasks.reading.faults import Fault
from tasks.reading.files import SourceFile
from tasks.reading.lines import read_text
from tasks.settings import given_path


def given_file(place: str, path: str) -> Path:
    """The file that a recipe names. UserError where there is none."""
    file = given_path(path)
    if not file.is_file():
        raise UserError(f"{place}: {path} is no file. Fix: correct the path.")
    return file


def given_lines(place: str, path: str) -> list[str]:
    """Its lines with their ends. UserError where its charset cannot be told, or bytes of it mean nothing."""
    file = given_file(place, path)
    stat = file.stat()
    lines: list[str] = []
    for number, line in enumerate(read_text(SourceFile(file.name, str(file.absolute()), stat.st_size)), 1):
        if isinstance(line, Fault) or "replaced" in line.repairs:
            found = line.reason if isinstance(line, Fault) else f"bytes that are no {line.charset or 'utf-8'}"
            raise UserError(f"{place}: {path}:{number}: found {found}, expected text. Fix: save the file as UTF-8.")
        lines.append(line.text)
    return lines
