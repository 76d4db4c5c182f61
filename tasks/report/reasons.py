"""Drop reasons in words: short names in tables, sentences on pages."""

from tasks.kernels.statistics_columns import COLUMNS

REASONS = {
    "archive": "an archive of files, which is never opened",
    "bomb": "unpacks to more than any text would",
    "contaminated": "holds text that models are judged on",
    "damaged_record": "damaged record",
    "damaged_rows": "damaged rows",
    "damaged_stream": "damaged inside its compression",
    "dangling_link": "link to what is not there",
    "duplicate_id": "an id that an earlier record has",
    "earlier_copy": "copy of a document in an earlier corpus",
    "empty": "empty once mended",
    "empty_file": "empty file",
    "empty_text": "no text in it",
    "exact_copy": "exact copy",
    "also_held_out": "stands among the held-out examples too",
    "duplicate_example": "copy of an example",
    "equal_choices": "with choices that are the same",
    "html_broken": "page that ends its parser",
    "html_lost_text": "page whose main text could not be decoded",
    "html_too_deep": "page with elements too deep in one another",
    "html_too_large": "page with too much markup",
    "html_too_slow": "page that takes too long",
    "http_status": "answer other than a page",
    "ignored_label": "with the label -100, which says that it is not to be learnt",
    "indicator_labels": "with a list of 0 and 1 for labels",
    "languages": "in none of the languages kept",
    "large_window": "packed with a larger window than is read",
    "malformed": "not what its format says",
    "missing_field": "without a field that it must have",
    "mixture": "left out by the mixture",
    "near_copy": "near copy",
    "no_pages": "web archive that holds no pages",
    "nested_label": "with a list or an object for a label",
    "no_answer": "question without an answer",
    "no_dictionary": "packed with a dictionary that is not in the file",
    "no_label": "without a label",
    "no_list": "something else where a list belongs",
    "no_main_text": "page without a main text",
    "no_question": "answer without a question",
    "no_such_choice": "with an answer that is none of its choices",
    "not_a_number": "without a number",
    "not_text": "no text but other data",
    "not_text_type": "of a type that is no text",
    "other_format": "a document of another program, such as PDF or RTF",
    "revisit": "visit of a page that another record holds",
    "segment": "part of a record that is cut into several",
    "one_choice": "with fewer than two choices",
    "other_number_of_choices": "with more or fewer choices than most",
    "several_turns": "conversation of more than one question and its answer",
    "special_file": "pipe, socket or device in place of a file",
    "subfolder": "folder beside the files, which was not read",
    "too_large": "too large a record",
    "trailing_junk": "bytes behind the end of its compression",
    "truncated_record": "record that breaks off",
    "truncated_stream": "compression that breaks off",
    "unclear_choice": "with numbers for choices and for the answer, which may count them or be one",
    "unclear_label": "with a label that names no class, such as 0.5",
    "uneven_labels": "with more or fewer labels than tokens",
    "uneven_row": "row with too few or too many fields",
    "unknown_role": "with a message of nobody, or of neither side",
    "unknown_charset": "in a charset that its looks do not tell (name it: encoding of the source)",
    "unknown_encoding": "in an encoding that was not recognised",
    "unknown_record": "record of a type that nobody knows",
    "unseen_label": "with a label that no training example has",
    "unreadable_file": "file that could not be read",
    "wrong_checksum": "packed text with a wrong checksum",
    "main_text": "mended: a page's main text",
    "masked": "mended: personal data masked",
    "white_space": "mended: white space",
    "bidi": "mended: marks of direction",
    "control": "mended: control characters",
    "invisible": "mended: characters nobody sees",
    "marks": "mended: too many marks on a letter",
    "mojibake": "mended: letters decoded wrongly",
    "noncharacter": "mended: code points that are no characters",
    "nul": "mended: null characters",
    "private_use": "mended: private-use characters",
    "surrogate": "mended: lone surrogates",
}
PRESETS = {
    "c4": "C4",
    "classic": "classic",
    "fineweb": "FineWeb",
    "fineweb2": "FineWeb2",
    "gopher": "Gopher",
}
RULES = {
    "alpha": "too few words with a letter",
    "brackets": "curly brackets",
    "bullets": "too many lines with a bullet",
    "digits": "too many digits",
    "duplicate_line_chars": "too much in repeated lines",
    "duplicate_lines": "too many repeated lines",
    "duplicate_paragraph_chars": "too much in repeated paragraphs",
    "duplicate_paragraphs": "too many repeated paragraphs",
    "ellipsis": "too many ellipses",
    "ellipsis_lines": "too many lines that end in an ellipsis",
    "hash": "too many number signs",
    "language_score": "language not sure enough",
    "letters": "too few letters",
    "lorem_ipsum": "lorem ipsum",
    "newlines": "too many line breaks",
    "punctuated_lines": "too few lines that end in punctuation",
    "sentences": "too few sentences",
    "short_lines": "too many short lines",
    "stop_words": "too few stop words",
    "symbols": "too many symbols",
    "word_chars_max": "words too long",
    "word_chars_min": "words too short",
    "words": "too few words",
    "words_max": "too many words",
    "words_min": "too few words",
}
SIDES = {"min": "below the minimum", "max": "above the maximum"}
PII = {
    "pii_email": "an e-mail address",
    "pii_phone": "a telephone number",
    "pii_id_card": "an identity number",
    "pii_bank_card": "a bank card number",
    "pii_ip": "an IP address",
    "pii_secret": "a key or password",
}


def reason_text(reason: str) -> str:
    """`near_copy` -> `near copy`, `gopher_words_min` -> `Gopher: too few words`, `min_chars` -> `chars below the minimum`."""
    if reason in REASONS:
        return REASONS[reason]
    if reason in PII:
        return f"holds {PII[reason]}"
    side, _, column = reason.partition("_")
    if side in SIDES and column in COLUMNS:
        return f"{column.replace('_', ' ')} {SIDES[side]}"
    preset, _, rule = reason.partition("_")
    if preset in PRESETS and rule:
        return f"{PRESETS[preset]}: {_rule_text(rule)}"
    return reason.replace("_", " ")


def _rule_text(rule: str) -> str:
    kind, _, grams = rule.rpartition("_")
    if kind in ("duplicate", "top") and grams.endswith("gram"):
        return f"too much in {'repeated' if kind == 'duplicate' else 'the commonest'} {grams[:-4]}-grams"
    return RULES.get(rule, rule.replace("_", " "))
