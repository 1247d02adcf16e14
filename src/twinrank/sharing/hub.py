"""A ranker pushed to a model hub, without what people wrote unless that is wanted."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from twinrank.errors import RankerError, first_line
from twinrank.files import write_file
from twinrank.ranking import RULES, Ranker
from twinrank.ranking.manifest import ENCODER
from twinrank.ranking.model_card import hub_card
from twinrank.ranking.storage import HUB_FILES, VERSIONS
from twinrank.recipe import Recipe
from twinrank.sharing.package import check_original

README = "README.md"

log = logging.getLogger(__name__)


def push(path: Path, name: str, *, private: bool = False, with_queries: bool = False) -> str:
    """Push the current version of a ranker to a model hub, and return its address there.

    It is first said what others will be able to read. The hub is that of $HF_ENDPOINT. What else
    the repository has stays, but for other versions of the ranker.

    Args:
        path: folder of the ranker.
        name: of the repository, `user/name`; it is made if there is none.
        private: make it private; one that is there stays as it is.
        with_queries: push what people wrote, too: past queries, and rules.

    Raises:
        RankerError: if the name is none, its encoder is a folder that nobody else has, or the hub
            refuses.
    """
    from huggingface_hub import HfApi  # here: it takes a moment to import

    if name.count("/") != 1:
        raise RankerError(f"{name!r} is no name on a hub; give USER/NAME")
    with copied(path, name, with_queries=with_queries) as folder:
        api = HfApi()
        try:
            url = api.create_repo(name, private=private or None, exist_ok=True)
            api.upload_folder(
                repo_id=name,
                folder_path=folder,
                allow_patterns=[README, *HUB_FILES],
                delete_patterns=[f"{VERSIONS}/*", f"{ENCODER}-*", RULES],
                commit_message="A ranker made by twinrank",
            )
        except Exception as error:  # the hub's own errors, and those of its network client
            raise RankerError(
                f"{name}: the hub does not take it ({first_line(error)}); check the name, the "
                "network, and that you are logged in: hf auth login"
            ) from None
    return str(url)


@contextmanager
def copied(path: Path, name: str, *, with_queries: bool) -> Iterator[Path]:
    """Give a folder for a while, with a ranker as it is pushed, and say what is in it."""
    ranker = Ranker.load(path)
    check_original(ranker)
    scoring = ranker.scoring if with_queries else ranker.scoring.without_texts()
    # Neither folders of this machine, nor answers that were removed.
    origin = ranker.origin.model_copy(update={"folder": None})
    recipe = _without_folders(ranker.recipe)
    pushed = replace(ranker, recipe=recipe, scoring=scoring, origin=origin, removed=())
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if (path / README).is_file():
            shutil.copyfile(path / README, folder / README)
        pushed.save(folder)
        if with_queries and ranker.rules:
            shutil.copyfile(path / RULES, folder / RULES)
        text = (folder / README).read_text(encoding="utf-8", errors="replace")
        write_file(folder / README, hub_card(pushed, text, name))
        for line in list_contents(ranker, with_queries=with_queries):
            log.info("%s: %s", name, line)
        yield folder


def _without_folders(recipe: Recipe) -> Recipe:
    """Return a recipe that names no folder of this machine, or refuse one that needs it."""
    if (settings := recipe.encoder) is None:
        return recipe
    for name in settings.others if recipe.tuning else (settings.name, *settings.others):
        if (folder := Path(name).expanduser()).is_absolute() or folder.is_dir():
            raise RankerError(
                f"the encoder {name} is a folder that nobody else has; push it by `hf upload`, and "
                "train with its name on the hub"
            )
    if not recipe.tuning:
        return recipe
    name = Path(settings.name).name if Path(settings.name).is_absolute() else settings.name
    return recipe.model_copy(update={"encoder": settings.model_copy(update={"name": name})})


def list_contents(ranker: Ranker, *, with_queries: bool) -> list[str]:
    """Say what of a ranker others will be able to read, a line each."""
    lines = [f"texts and metadata of {ranker.answers.height:,} answers"]
    past = ranker.past
    if past and with_queries and past.has_texts:
        lines.append(f"the texts of {len(past.texts):,} past queries, AS PEOPLE WROTE THEM")
    elif past:
        lines.append(
            f"vectors of {len(past.texts):,} past queries, from which their topics can be guessed, "
            "and how much their words speak for each answer; not their texts (--with-queries)"
        )
    if ranker.rules:
        sent = "too" if with_queries else "not pushed (--with-queries)"
        lines.append(f"pins and synonyms of {RULES}: {sent}")
    return lines
