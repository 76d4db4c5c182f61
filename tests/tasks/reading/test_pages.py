"""Pages: their charset is found wherever a page says it, and when it says it wrongly."""

import pytest

from tasks.reading.pages import html_page

GREEK = "Ο μύλος στέκεται δίπλα στο ποτάμι και κάθε άνοιξη το νερό ανεβαίνει ως το τρίτο σκαλοπάτι."
HEAD = "<title>t</title>" + "<style>p {margin: 0}</style>" * 200


@pytest.mark.parametrize(
    ("declaration", "header", "repairs"),
    [
        ("", "windows-1253", ()),
        ("<meta charset=windows-1253>", None, ()),
        ("<meta http-equiv=content-type content='text/html; charset=x-cp1253'>", None, ()),
        (HEAD + "<meta charset='windows-1253'>", None, ()),
        ("<!-- <meta charset=utf-8> --><meta charset=windows-1253>", None, ()),
        ("<meta charset=utf-16>", None, ("wrong_charset",)),
        ("<meta charset=windows-1253>", "utf-8", ("wrong_charset",)),
        ("", None, ()),
    ],
)
def test_page_is_read_in_its_charset(declaration: str, header: str | None, repairs: tuple[str, ...]):
    page = f"<html><head>{declaration}</head><body><p>{GREEK}</p></body></html>"
    found = html_page(page.encode("cp1253"), header).decoded
    assert (found.text, found.repairs, found.fault) == (page, repairs, None)


def test_charset_of_the_xml_declaration_is_taken():
    page = f'<?xml version="1.0" encoding="windows-1253"?><html><body><p>{GREEK}</p></body></html>'
    assert html_page(page.encode("cp1253")).decoded.text == page
