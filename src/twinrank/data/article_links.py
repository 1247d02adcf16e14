"""The articles of a data set by what people call them: an id, or a URL on any host."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

# A link of HTML with its words, one of Markdown, or a URL by itself. All parts are bounded, so that
# no text takes more than a time in proportion to its length.
LINK = re.compile(
    r"<a\b[^<>]{0,1000}?href\s*=\s*[\"']?(?P<href>[^\s\"'<>]+)[^<>]{0,1000}>"
    r"(?:(?!<a\b|</a).){0,2000}</a\s*>"
    r"|\[[^\[\]\n]{0,300}\]\((?P<target>[^\s()]+)\)"
    r"|(?P<url>(?:https?://|(?<=[\s\"'(=>])/(?=\w))[^\s\"'<>()\[\]]+)",
    re.IGNORECASE | re.DOTALL,
)
# Ids in the URLs of articles: Zendesk, Intercom, Freshdesk; Zammad; Discourse; Confluence.
ARTICLE_ID = re.compile(
    r"/articles/(\d+)|/help/[\w-]{1,20}/\d+-[^/]{0,200}/(\d+)\b"
    r"|/t/(?:(?=\d{0,200}[^/\d])[^/]{1,200}/)?(\d+)\b|/pages/(\d+)\b|[?&]pageId=(\d+)",
    re.IGNORECASE,
)
LOCALE = re.compile(r"[a-z]{2}(-[a-z0-9]{2,4})?")
REPLACEMENT = "[article]"
MAX_URL_CHARACTERS = 2_000
TIMES_QUOTED = 2  # by mail filters that wrap a link in theirs

Variant = tuple[str, str]  # a locale and an answer's id


@dataclass
class ArticleLinks:
    """Answers by id and URL.

    Attributes:
        ids: of all answers.
        variants: the languages of each article, the usual one first, by what names the article.
        has_commas: an id holds one.
        unknown: how many links led to articles that are not there.
    """

    ids: set[str] = field(default_factory=set)
    variants: dict[str, list[Variant]] = field(default_factory=dict)
    has_commas: bool = False
    unknown: int = 0

    def add(self, id: str, url: object = None, *, article: str = "", locale: str = "") -> None:
        """Add an answer.

        Args:
            id: of the answer.
            url: where people read it, if that is known.
            article: its id in its help desk, if that differs, as that of a translation does.
            locale: its language, such as `da` or `en-us`.
        """
        self.ids.add(id)
        self.has_commas |= "," in id
        keys = {f"#{article or id}"}
        if isinstance(url, str) and "/" in url:
            keys |= {key for key in _read_url(url)[1] if not ("?" in url and "?" not in key)}
        for key in keys:
            self.variants.setdefault(key, []).append((locale.lower(), id))

    def find(self, name: str) -> str | None:
        """Find the answer that an id or a URL names; none if it is not there."""
        if name in self.ids:
            return name
        locales, keys = _read_url(name) if "/" in name else ([], [f"#{name}"])
        known = next((self.variants[key] for key in keys if key in self.variants), None)
        if not known:
            return None
        for locale in locales:
            language = locale.split("-")[0]
            for wanted in (locale, language):
                for variant, id in known:
                    if wanted in (variant, variant.split("-")[0]):
                        return id
        return known[0][1]

    def take_out(self, text: str) -> tuple[str, list[str]]:
        """Put a placeholder for each link to an article, in HTML or not, and give the answers' ids.

        Any other link stays. Of a link in HTML or Markdown the words go too: they are often the
        article's title, and would tell a ranker the answer.
        """
        names: dict[str, None] = {}

        def replace(link: re.Match[str]) -> str:
            url = html.unescape(link["href"] or link["target"] or link["url"])
            for _ in range(TIMES_QUOTED + 1):
                if name := self.find(url):
                    names[name] = None
                    return REPLACEMENT
                url = unquote(url)
            self.unknown += bool(ARTICLE_ID.search(url))
            return link[0]

        return LINK.sub(replace, text), list(names)

    def split(self, cell: str, separator: str) -> list[str]:
        """Split a cell that names several answers; a comma separates only where no id has one."""
        if cell in self.ids:
            return [cell]
        names = cell.split(separator)
        if separator == ";" and not self.has_commas:
            names = [part for name in names for part in name.split(",")]
        return [name.strip() for name in names]


def _read_url(url: str) -> tuple[list[str], list[str]]:
    """Give the locales in a URL, and what may name its article: all of it, an id, its path."""
    if len(url) > MAX_URL_CHARACTERS:
        return [], []
    whole = re.sub(r"^https?://", "", unquote(url).lower().split("#")[0]).rstrip("/.,;:!")
    address = whole.split("?")[0].rstrip("/")
    parts = address.split("/")[1:]
    locales = [part for part in parts if LOCALE.fullmatch(part)]
    path = "/".join(part for part in parts if part not in locales)
    number = next((id for match in ARTICLE_ID.finditer(url) for id in match.groups() if id), None)
    keys = [whole, address, *([f"#{number}"] if number else []), *([f"/{path}"] if path else [])]
    return locales, keys
