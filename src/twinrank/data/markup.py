"""HTML and Markdown as plain text: recognised with care, and divided by headings into sections."""

from __future__ import annotations

import html
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from markdown_it import MarkdownIt
from selectolax.lexbor import LexborHTMLParser

Section = dict[str, str]  # title and text

BLOCK_TAGS = (
    "p|div|br|hr|li|ul|ol|dl|dt|dd|h1|h2|h3|h4|h5|h6|pre|blockquote|table|tr|figure|figcaption|section|article"
    "|header|footer|main|nav|aside|form|details|summary"
    "|ac:structured-macro|ac:rich-text-body|ac:plain-text-body|ac:layout-cell|ac:task"
)
INLINE_TAGS = (
    "a|abbr|b|big|center|code|del|em|font|i|iframe|img|ins|kbd|mark|q|s|samp|script|small|span"
    "|strike|strong|style|sub|sup|td|th|thead|tbody|tt|u|video|html|head|body|(?:ac|ri):[a-z-]+"
)
TAG = re.compile(rf"<(/?)({BLOCK_TAGS}|{INLINE_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
VOID = re.compile(r"<(br|hr|img)\b", re.IGNORECASE)
BLOCK = re.compile(rf"</?(?:{BLOCK_TAGS})\b", re.IGNORECASE)
ENTITY = re.compile(r"&(nbsp|amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-f]{1,6});", re.IGNORECASE)
PAGE = re.compile(r"\s*(<!doctype html|<\?xml|<!--)", re.IGNORECASE)
QUOTED_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
FENCES = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,4} +\S", re.MULTILINE)
FIRST_HEADING = re.compile(r"\s*#{1,4} +\S[^\n]*\n\s*\n\s*\S")
# Marks that stand in the text for what its tags say. That of a line is a blank, which may stand
# anywhere, between the rows of a table too; those of cells stand in them.
LINE, CELL, FIRST_CELL, TITLE, END_OF_TITLE = "\f", "\x01", "\x04", "\x02", "\x03"
BEGIN = re.compile(r"</?[a-zA-Z][a-zA-Z0-9:-]*")  # to ignore case would take twice the time
MARKS = {  # what stands before a tag, by how it begins
    **{f"<{slash}{name}": LINE for name in BLOCK_TAGS.split("|") for slash in ("", "/")},
    **{f"<h{level}": f"{LINE}{TITLE}" for level in range(1, 5)},
    **{f"</h{level}": f"{END_OF_TITLE}{LINE}" for level in range(1, 5)},
}
FIRST_OR_CELL = re.compile(r"<[tT]([rR]\b[^<>]*>\s*<[tT])?[dDhH]\b[^<>]*>")
# An element that is left open holds all that follows; a parser's time is the square of its depth.
MAX_TAGS_UNCHECKED, MAX_OPEN_TAGS = 10_000, 2_000
CLOSES_ITSELF = {"p", "li", "dt", "dd", "tr", "td", "th", "br", "hr", "img", "thead", "tbody"}
EMPTY_ELEMENT = re.compile(r"<((?:ac|ri):[\w-]+|time)\b([^<>]*)/>", re.IGNORECASE)
PRE = re.compile(r"(</?pre\b)", re.IGNORECASE)
UNSEEN = ["script", "style", "template", "noscript", "title", "svg"]
UNSEEN_IN_CONFLUENCE = {
    *("ac:parameter", "ac:task-id", "ac:task-status", "ac:placeholder", "ac:emoticon")
}
IMAGE = re.compile(r"<[iI][mM][gG]\b[^<>]*>")
ALTERNATIVE = re.compile(r"""\balt\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+))""", re.IGNORECASE)
IMAGE_FILE = re.compile(r"\S+\.(png|jpe?g|gif|svg|webp|bmp)", re.IGNORECASE)
HTML, MARKDOWN = "HTML", "Markdown"


class Marked(NamedTuple):
    """A text without its markup.

    Attributes:
        text: plain; a paragraph, an item of a list, a row of a table a line.
        sections: what its headings h1 to h4 divide it into; none without headings.
        kind: HTML or Markdown; empty if there was none, and the text is as it was.
    """

    text: str
    sections: list[Section]
    kind: str


@dataclass
class MarkupCounts:
    """How many texts held markup and are plain text now, by whose they are and what they held."""

    texts: Counter[tuple[str, str]] = field(default_factory=Counter)
    divided: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, noun: str, marked: Marked) -> None:
        """Count a text of the answers or the queries."""
        if marked.kind:
            self.texts[noun, marked.kind] += 1
            self.divided[noun, marked.kind] += bool(marked.sections)

    def sentences(self) -> list[str]:
        """Say what was done, a sentence for each kind."""
        lines = []
        for key, count in self.texts.items():
            parts = self.divided[key]
            tail = f", {parts:,} with sections" if parts else ""
            lines.append(f"{count:,} {key[0]} held {key[1]}: made text{tail}")
        return lines


def read_markup(text: str, *, is_markdown: bool = False) -> Marked:
    """Make plain text of HTML or Markdown; leave any other text as it is.

    Args:
        text: any. Markdown is recognised by its headings alone: by two, or by one above all else.
        is_markdown: it is Markdown, with headings or without.
    """
    has_tags = is_html(text)
    if (is_markdown or _has_headings(text)) and not text.lstrip().startswith("<"):
        return Marked(*_read_html(_markdown(has_tags).render(text)), MARKDOWN)
    return Marked(*_read_html(text), HTML) if has_tags else Marked(text, [], "")


def strip_markup(text: str) -> str:
    """Make one line of plain text of a title that may hold HTML."""
    return " ".join(_read_html(text)[0].split()) if is_html(text) else text


def is_html(text: str) -> bool:
    """Say whether a text is HTML, and not plain text that speaks of it or has a `<` in it.

    HTML begins with a tag, or has one next to a word, and it is closed; or it has entities. A tag
    that stands as a word by itself (`use <br> here`), or between backticks, is a word.
    """
    if ("<" not in text or ">" not in text) and "&" not in text:
        return False
    if PAGE.match(text):
        return True
    prose = QUOTED_CODE.sub("", text) if "`" in text else text
    begins = len(prose) - len(prose.lstrip())
    names: set[str] = set()
    opened: set[str] = set()
    closed: set[str] = set()
    for tag in TAG.finditer(prose):
        name = tag[2].lower()
        names.add(name)
        before, after = prose[tag.start() - 1 : tag.start()], prose[tag.end() : tag.end() + 1]
        is_first = tag.start() == begins
        is_word = before in " \"'(" and after in " \"'.,;:!?)"  # `in` takes an empty text too
        if tag[1]:
            closed.add(name)
        elif not is_word and (is_first or VOID.match(tag[0]) or tag[0].endswith("/>")):
            return True
        elif is_first or not is_word or "=" in tag[0]:
            opened.add(name)
    return bool(opened & closed) or (not names and bool(ENTITY.search(prose)))


def _has_headings(text: str) -> bool:
    """Say whether headings show that a text is Markdown."""
    if "#" not in text or not HEADING.search(text):
        return False
    prose = FENCES.sub("", text)
    return len(HEADING.findall(prose)) > 1 or bool(FIRST_HEADING.match(prose))


@cache
def _markdown(has_tags: bool) -> MarkdownIt:
    """Make a renderer; without tags of HTML, what speaks of a tag stays."""
    return MarkdownIt("commonmark", {"html": has_tags}).enable(["table", "strikethrough"])


def _read_html(source: str) -> tuple[str, list[Section]]:
    """Read text and sections of HTML, by marks that are set before it is parsed."""
    for mark in ("\0", CELL, FIRST_CELL, TITLE, END_OF_TITLE):
        source = source.replace(mark, "")
    source = source.replace(LINE, " ")
    if "<![CDATA[" in source:
        source = _escape_cdata(source)
    if not TAG.search(source):
        return html.unescape(source).replace("\xa0", " ").strip(), []
    if not BLOCK.search(source):  # its line breaks are all the structure there is
        source = source.replace("\n", LINE)
    source = _mark_lines_of_code(source)
    is_confluence = any(tag in source for tag in ("<ac:", "<ri:", "<time"))
    if is_confluence:  # HTML closes no element by `/>`
        source = EMPTY_ELEMENT.sub(r"<\1\2></\1>", source)
    source = IMAGE.sub(_name_image, source)
    source = FIRST_OR_CELL.sub(lambda cell: cell[0] + (FIRST_CELL if cell[1] else CELL), source)
    source = BEGIN.sub(lambda tag: MARKS.get(tag[0].lower(), "") + tag[0], source)
    if source.count("<") > MAX_TAGS_UNCHECKED and _count_open(source) > MAX_OPEN_TAGS:
        return _divide(html.unescape(TAG.sub("", source)))
    tree = LexborHTMLParser(f"<body>{source}")
    tree.strip_tags(UNSEEN)
    if is_confluence:
        _show_confluence(tree)
    return _divide(tree.body.text(deep=True) if tree.body else "")


def _name_image(image: re.Match[str]) -> str:
    """Give what stands for an image: its alternative text, unless that is a file's name."""
    alternative = ALTERNATIVE.search(image[0])
    text = next((part for part in alternative.groups() if part), "") if alternative else ""
    return " " if IMAGE_FILE.fullmatch(text) else f" {text} "


def _count_open(source: str) -> int:
    """Count the elements that are opened and never closed."""
    tags = Counter(tag[0].lower() for tag in BEGIN.finditer(source))
    names = {name[1:] for name in tags if name[1] != "/"} - CLOSES_ITSELF
    return sum(max(tags[f"<{name}"] - tags[f"</{name}"], 0) for name in names)


def _escape_cdata(source: str) -> str:
    """Write what CDATA holds, code of Confluence's macros, as HTML has it."""
    before, *parts = source.split("<![CDATA[")
    texts = [before]
    for part in parts:
        code, _, rest = part.partition("]]>")
        texts += [html.escape(code).replace("\n", LINE), rest]
    return "".join(texts)


def _mark_lines_of_code(source: str) -> str:
    """Mark the lines between <pre> and </pre>, which HTML has as they are."""
    if "<pre" not in source and "<PRE" not in source:
        return source
    pieces = PRE.split(source)
    depth = 0
    for index, piece in enumerate(pieces):
        if index % 2:
            depth = max(depth + (-1 if piece.startswith("</") else 1), 0)
        elif depth:
            pieces[index] = piece.replace("\n", LINE)
    return "".join(pieces)


def _show_confluence(tree: LexborHTMLParser) -> None:
    """Leave what a reader of Confluence sees: bodies and titles of macros, names of links."""
    for node in tree.css("*"):
        name = node.tag or ""
        if name == "ac:parameter" and node.attributes.get("ac:name") == "title":
            continue
        if name in UNSEEN_IN_CONFLUENCE:
            node.decompose()
        elif name == "ri:page" and not (node.parent and node.parent.text(deep=True).strip()):
            node.replace_with(node.attributes.get("ri:content-title") or "")
        elif name == "time" and not node.text(deep=True).strip():
            node.replace_with(node.attributes.get("datetime") or "")


def _divide(text: str) -> tuple[str, list[Section]]:
    """Make lines, rows and cells of the marks, and sections of the headings."""
    lines = (" ".join(line.split()) for line in text.split(LINE))
    text = "\n".join(line for line in lines if line)
    text = " | ".join(map(str.strip, text.split(CELL)))
    text = "\n".join(map(str.strip, text.split(FIRST_CELL)))
    before, *parts = text.split(TITLE)
    sections: list[Section] = [{"title": "", "text": before.replace(END_OF_TITLE, "").strip()}]
    for part in parts:
        title, _, body = part.partition(END_OF_TITLE)
        title, body = " ".join(title.split()), body.replace(END_OF_TITLE, "").strip()
        if title:
            sections.append({"title": title, "text": body})
        elif body:
            sections[-1]["text"] = f"{sections[-1]['text']}\n{body}".strip()
    if not sections[0]["text"]:
        del sections[0]
    text = "\n".join(line for part in sections for line in part.values() if line)
    return text, sections if any(part["title"] for part in sections) else []
