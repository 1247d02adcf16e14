"""The help desks and wikis whose exports are read: where each has what a data set needs.

One more is one more entry of `HELP_DESKS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

SET: Final = ("any value but none, false and empty",)

# A path to a value in an object: steps with dots between. `a|b` is the first of the two that is
# set; `section_id>section.name` is the name in the object of the kind `section` with that id;
# `@key` is the name under which the object stands in the one that holds it.
Path = str
Rule = tuple[str, Path, tuple[object, ...]]  # a state, a path, and the values that say it, or SET

ANSWER, TRANSLATION, QUERY, MESSAGE, MACRO = "answer", "translation", "query", "message", "macro"
PUBLIC = "public"
DATES = "created_at updated_at"


@dataclass(frozen=True)
class Kind:
    """One kind of object in an export.

    Attributes:
        needs: the fields that such an object has, blanks between; `a|b` is one of two, `a=b,c` one
            of two values. An object is of the first kind in the table that it fits.
        reads: our fields, blanks between, each with the path to theirs: `title=name|subject`, or
            `title` where the two are called alike. Those that no reader below names are metadata.
    """

    needs: str
    reads: str = ""

    @cached_property
    def fields(self) -> dict[str, Path]:
        """Paths by our fields."""
        pairs = (word.partition("=") for word in self.reads.split())
        return {name: path or name for name, _, path in pairs}


@dataclass(frozen=True)
class HelpDesk:
    """An export of one help desk.

    Attributes:
        documentation: of its public API.
        kinds: `answer` (id, title, text, url, locale) and `translation` (of: its answer); `query`
            (id, title, text, requester) and `message` (id, of: its query, text, author, at);
            `macro` (id, text), and whatever else paths lead to.
        states: of an answer or a translation, the first that fits; public if none does.
        notes: messages that customers do not see, as states are written.
        roles: `User` or `Agent`, as states are written; who asked is a user, anybody else an agent.
        accepted: in a query, the number of the message that solved it, which becomes an answer.
    """

    documentation: str
    kinds: dict[str, Kind]
    states: tuple[Rule, ...] = ()
    notes: tuple[Rule, ...] = ()
    roles: tuple[Rule, ...] = ()
    accepted: Path = ""


ZENDESK = HelpDesk(
    documentation="https://developer.zendesk.com/api-reference/help_center/help-center-api/articles",
    kinds={
        TRANSLATION: Kind(
            "source_id locale title body",
            f"of=source_id title text=body locale url=html_url {DATES}",
        ),
        MESSAGE: Kind(
            "public author_id|author body|html_body|plain_body",
            "id of=ticket_id text=html_body|body|plain_body author=author_id|author.id "
            "at=created_at macro=macro_id",
        ),
        "use": Kind("macro_id type", "of=ticket_id macro=macro_id"),
        ANSWER: Kind(
            "title body section_id|locale|draft|html_url",
            f"id title=title|name text=body url=html_url locale {DATES} labels=label_names "
            "brand=brand_id>brand.name|brand_id section=section_id>section.name "
            "category=section_id>section.category_id>category.name",
        ),
        MACRO: Kind("title actions", "id title text=actions.value"),
        QUERY: Kind(
            "id subject|raw_subject|description status|requester_id|comments",
            f"id title=raw_subject|subject text=description {DATES} status tags "
            "requester=requester_id|requester.id macro=macro_ids|macro_id channel=via.channel "
            "brand=brand_id>brand.name|brand_id",
        ),
        "user": Kind("id role"),
        "segment": Kind("id user_type"),
        "section": Kind("id name category_id"),
        "brand": Kind("id name subdomain"),
        "category": Kind("id name source_locale|locale|position"),
    },
    states=(
        ("draft", "draft", (True,)),
        ("archived", "archived|archived_at", SET),
        (PUBLIC, "user_segment_id>segment.user_type", ("signed_in_users",)),
        ("internal", "user_segment_id", SET),
    ),
    notes=(("note", "public", (False,)),),
    roles=(
        ("User", "author_id>user.role", ("end-user",)),
        ("Agent", "author_id>user.role", ("agent", "admin")),
        ("User", "author.role", ("end-user",)),
        ("Agent", "author.role", ("agent", "admin")),
    ),
)

INTERCOM = HelpDesk(
    documentation="https://developers.intercom.com/docs/references/rest-api/api.intercom.io/articles",
    kinds={
        TRANSLATION: Kind("type=article_content title", f"title text=body locale=@key url {DATES}"),
        ANSWER: Kind(
            "type=article,internal_article title",
            f"id title text=body url {DATES} locale=default_locale|locale "
            "collection=parent_id>collection.name|parent_ids>collection.name",
        ),
        MESSAGE: Kind("author body", "id text=body author=author.id at=created_at"),
        QUERY: Kind(
            "type=conversation,ticket id",
            "id title=source.subject|ticket_attributes._default_title_|title "
            f"text=ticket_attributes._default_description_ {DATES} channel=source.type "
            "status=state tags=tags.tags.name requester=source.author.id",
        ),
        "collection": Kind("type=collection,section id name"),
    },
    states=(
        ("internal", "type", ("internal_article",)),
        ("draft", "state", ("draft",)),
    ),
    notes=(("note", "part_type", ("note", "note_and_reopen", "assignment_note")),),
    roles=(
        ("User", "author.type", ("user", "lead", "contact", "visitor")),
        ("Agent", "author.type", ("admin", "bot", "team", "operator")),
    ),
)

FRESHDESK = HelpDesk(
    documentation="https://developers.freshdesk.com/api/#solution_article_attributes",
    kinds={
        MESSAGE: Kind(
            "incoming body|body_text",
            "id of=ticket_id text=body|body_text author=user_id at=created_at",
        ),
        QUERY: Kind(
            "id subject description|description_text|requester_id",
            f"id title=subject text=description|description_text {DATES} requester=requester_id "
            "status tags product=product_id channel=source ticket_type=type",
        ),
        ANSWER: Kind(
            "id title description|description_text",
            "id title text=description|description_text url tags "
            f"locale=language|language_code|locale folder=folder_id>folder.name "
            f"category=category_id>category.name {DATES}",
        ),
        "folder": Kind("id name visibility"),
        "category": Kind("id name"),
    },
    states=(
        ("draft", "status", (1,)),
        ("archived", "archived", SET),
        ("internal", "folder_id>folder.visibility", (3, 4, 5, 6, 7)),  # 1: all; 2: customers
    ),
    notes=(("note", "private", (True,)),),
    roles=(("User", "incoming", (True,)), ("Agent", "incoming", (False,))),
)

ZAMMAD = HelpDesk(
    documentation="https://docs.zammad.org/en/latest/api/knowledgebase.html",
    kinds={
        MESSAGE: Kind(
            "ticket_id body", "id of=ticket_id text=body author=created_by_id at=created_at"
        ),
        TRANSLATION: Kind(
            "answer_id title",
            f"of=answer_id title {DATES} "
            "text=content_id>content.body|content.body|content_attributes.body "
            "locale=kb_locale_id>language.system_locale_id>locale.locale|kb_locale_id",
        ),
        ANSWER: Kind(
            "id category_id published_at|internal_at|archived_at|translation_ids",
            f"id tags {DATES} category=category_id>category.translation_ids>category_title.title",
        ),
        "category": Kind("id knowledge_base_id translation_ids"),
        "category_title": Kind("category_id title"),
        QUERY: Kind(
            "id title number|customer_id",
            f"id title requester=customer_id {DATES} status=state group tags",
        ),
        "language": Kind("id system_locale_id"),
        "locale": Kind("id locale name"),
        "content": Kind("id body"),
    },
    states=(
        ("archived", "archived_at", SET),
        (PUBLIC, "published_at", SET),
        ("internal", "internal_at", SET),
        ("draft", "id", SET),
    ),
    notes=(
        ("note", "internal", (True,)),
        ("system", "sender", ("System",)),
        ("system", "sender_id", (3,)),
    ),
    roles=(
        *(("User", "sender", ("Customer",)), ("Agent", "sender", ("Agent",))),
        *(("User", "sender_id", (2,)), ("Agent", "sender_id", (1,))),
    ),
)

DISCOURSE = HelpDesk(
    documentation="https://docs.discourse.org/#tag/Topics/operation/getTopic",
    kinds={
        QUERY: Kind(
            "id title post_stream",
            f"id title requester=user_id|details.created_by.id tags {DATES} "
            "category=category_id>category.name slug",
        ),
        MESSAGE: Kind(
            "post_number cooked|raw",
            "id of=topic_id text=cooked|raw at=created_at author=user_id|username "
            "number=post_number",
        ),
        "category": Kind("id name slug"),
    },
    states=(
        ("internal", "archetype", ("private_message",)),
        ("internal", "category_id>category.read_restricted", (True,)),
        ("archived", "deleted_at", SET),
        ("archived", "visible", (False,)),
    ),
    notes=(
        ("note", "post_type", (4,)),  # a whisper of the staff
        ("system", "post_type", (2, 3)),  # closed, moved, listed
        ("system", "deleted_at|hidden|user_deleted", SET),
    ),
    accepted="accepted_answer.post_number",
)

CONFLUENCE = HelpDesk(
    documentation="https://developer.atlassian.com/cloud/confluence/rest/v2/api-group-page/",
    kinds={
        ANSWER: Kind(
            "id title body",
            "id title url=_links.webui "
            "text=body.storage.value|body.view.value|body.export_view.value|body.styled_view.value "
            "space=space.name|spaceId>space.name|space.key|spaceId "
            "labels=metadata.labels.results.name|labels.results.name "
            "created_at=createdAt|history.createdDate updated_at=version.createdAt|version.when",
        ),
        "space": Kind("id key name"),
    },
    states=(
        ("draft", "status", ("draft",)),
        ("archived", "status", ("archived", "trashed", "deleted", "historical")),
        ("internal", "restrictions.read.restrictions.user.results", SET),
        ("internal", "restrictions.read.restrictions.group.results", SET),
    ),
)

HELP_DESKS = {
    "zendesk": ZENDESK,
    "intercom": INTERCOM,
    "freshdesk": FRESHDESK,
    "zammad": ZAMMAD,
    "discourse": DISCOURSE,
    "confluence": CONFLUENCE,
}
