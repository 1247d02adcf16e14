"""HTML and Markdown as text; what only looks like either stays."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinrank.data.markup import is_html, read_markup, strip_markup

HTML = [
    ("<p>Open &amp; sign&nbsp;in.</p>", "Open & sign in."),
    ("<p>One<p>Two", "One\nTwo"),
    ("it says<br>no", "it says\nno"),
    ("Hi <b>there</b>\nyou", "Hi there\nyou"),
    ("<p>Hi\n  there</p>\n<p>you</p>", "Hi there\nyou"),
    ("Press &amp; wait", "Press & wait"),
    ("<ul><li>One<li>Two</ul>", "One\nTwo"),
    ("<ol><li><p>One</p></li><li>Two <b>b</b></li></ol>", "One\nTwo b"),
    ("<pre><code>if x:\n    y &lt; 1</code></pre>", "if x:\ny < 1"),
    ("<p>a</p><script>var t = '<p>1</p>';</script><style>p {}</style><!-- <p>c</p> -->", "a"),
    ('<p><img src="x.png" alt="The blue button"> it</p>', "The blue button it"),
    ('<p>See<img alt="image.png"> it</p>', "See it"),
    ("<p>x</p><img alt='a &lt; b'>", "x\na < b"),
    ("<!DOCTYPE html><html><head><title>T</title></head><body>x</body></html>", "x"),
    ("<details><summary>More</summary>text</details>", "More\ntext"),
    ("<p>a\0b\x02c\fd</p>", "abc d"),
    ("<h5>five</h5><p>x</p>", "five\nx"),
    ("<p></p>", ""),
]
TABLES = [
    ("<tr><td>A</td><td>B</td></tr><tr><td>C</td><td>D</td></tr>", "A | B\nC | D"),
    ("<thead><tr><th>A<th>B</thead>\n <tbody>\n <tr>\n <td>C\n <td>D", "A | B\nC | D"),
    ("<tr><td><p>A</p><p>a</p></td><td><p>B</p></td></tr>", "A\na | B"),
    ("<tr><td></td><td>B</td><td></td><td>D</td></tr>", "| B |  | D"),
]
PLAIN = [
    *("a < b and c > d", "if (a<b && c>d) return", "List<String> a = new List<String>()", "x <- y"),
    *(
        "use <br> here",
        "the <div> tag",
        "<div> is a block",
        "wrap it in <div> and </div>",
        "<3 you",
    ),
    *("AT&T", "a & b", "<john@example.com> wrote:", "`<b>x</b>` is bold", "```\n<p>x</p>\n```", ""),
    *("error <unknown>", "Use (<h1>), <p>, or '<b>'.", "<!here> please", "<> <a", "&copy now"),
    *("# 1 issue with my printer", "ticket #4\n#5 too", "# one comment of a shell\nls -l", "#\n#"),
    "```\n# a comment\n# another\n```",
]


@pytest.mark.parametrize(("source", "text"), HTML)
def test_html_becomes_text(source, text):
    assert read_markup(source) == (text, [], "HTML")
    assert not is_html(text) or "<" in text


@pytest.mark.parametrize(("rows", "text"), TABLES)
def test_cells_of_tables_stay_in_order(rows, text):
    marked = read_markup(f"<p>above</p><table>{rows}</table><p>below</p>")
    assert marked.text == f"above\n{text}\nbelow"


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_markup_stays_as_it_is(text):
    assert read_markup(text) == (text, [], "")
    assert strip_markup(text) == text


def test_headings_become_sections():
    source = "<p>Intro</p><h1>One <i>1</i></h1><p>a</p><h3></h3><p>b</p><h4>Two</h4><h5>c</h5>"
    text, sections, _ = read_markup(source)
    assert text == "Intro\nOne 1\na\nb\nTwo\nc"
    assert sections == [
        {"title": "", "text": "Intro"},
        {"title": "One 1", "text": "a\nb"},
        {"title": "Two", "text": "c"},
    ]


def test_macros_of_confluence_keep_their_bodies():
    source = (
        '<p>Intro</p><ac:structured-macro ac:name="info"><ac:parameter ac:name="icon">false'
        '</ac:parameter><ac:parameter ac:name="title">Note</ac:parameter><ac:rich-text-body>'
        "<p>Kept</p></ac:rich-text-body></ac:structured-macro><h2>Code</h2><ac:structured-macro"
        ' ac:name="code"><ac:plain-text-body><![CDATA[if a < b; then\n  echo "<x>"\nfi]]>'
        "</ac:plain-text-body></ac:structured-macro><p>See <ac:link><ri:page ri:content-title="
        '"VPN" /></ac:link>, <ac:link><ri:page ri:content-title="Other" /><ac:plain-text-link-body>'
        '<![CDATA[that]]></ac:plain-text-link-body></ac:link> by <time datetime="2024-01-02" />.'
        '</p><ac:image><ri:attachment ri:filename="a.png" /></ac:image><p>after</p>'
    )
    text, sections, _ = read_markup(source)
    code = 'if a < b; then\necho "<x>"\nfi\nSee VPN, that by 2024-01-02.\nafter'
    assert sections == [
        {"title": "", "text": "Intro\nNote\nKept"},
        {"title": "Code", "text": code},
    ]
    assert text == f"Intro\nNote\nKept\nCode\n{code}"


def test_markdown_with_headings_becomes_text():
    source = "# A\n**bold** text, a < b, <div> and `<p>`\n\n## B\n1. x\n2. y\n"
    source += "\n| a | b |\n|--|--|\n| 1 | 2 |"
    text, sections, kind = read_markup(source)
    assert (text, kind) == ("A\nbold text, a < b, <div> and <p>\nB\nx\ny\na | b\n1 | 2", "Markdown")
    assert [part["title"] for part in sections] == ["A", "B"]
    assert read_markup("# Title\n\nText<br>more").text == "Title\nText\nmore"
    assert read_markup("*plain*").kind == ""
    assert read_markup("*plain*", is_markdown=True) == ("plain", [], "Markdown")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_and_keeps_its_words_if_it_has_no_tags(text):
    marked = read_markup(text)
    if not marked.kind:
        assert marked.text == text
    for part in marked.sections:
        assert part["title"] or part["text"]


WORDS = st.lists(st.from_regex(r"[a-zæøå]{1,8}", fullmatch=True), min_size=1, max_size=4)
TAGS = ["p", "div", "li", "h2", "h4", "td", "b", "blockquote", "pre", "span"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(TAGS), WORDS), min_size=1, max_size=12))
def test_no_word_of_html_is_lost_or_moved(parts):
    source = "<div>" + "".join(f"<{tag}>{' '.join(w)}</{tag}> " for tag, w in parts) + "</div>"
    assert re.findall(r"\w+", read_markup(source).text) == [w for _, words in parts for w in words]


HOSTILE = {
    "div": "<div>" * 40_000,
    "pre": "<p>x</p>" + "<pre" * 50_000,
    "cdata": "<p>x</p>" + "<![CDATA[" * 20_000,
    "links": "<p>x</p>" + "<a href=" * 25_000,
    "less": "<" * 200_000 + ">",
    "ampersands": "&" * 200_000,
    "rows": "<table><tr><td>" * 13_000,
    "ticks": "`" * 200_000 + "<p>x</p>",
    "fences": "# a\n\n" + "```\n# a\n# b\n" * 3_000,
    "stars": "# a\n\n" + "*a **b " * 5_000,
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_take_time_in_proportion(source):
    begin = time.process_time()
    read_markup(source)
    assert time.process_time() - begin < 5
