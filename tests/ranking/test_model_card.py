import logging
import re

import polars as pl
import pytest
from huggingface_hub import ModelCard

from twinrank.encoding import FeatureStore
from twinrank.ranking import Ranker
from twinrank.ranking.model_card import about, model_card, quality
from twinrank.training import train

KINDS = ["bm25", "zero-shot", "towers", "fused"]


@pytest.fixture(scope="module")
def rankers(recipes, help_centre):
    return {kind: train(help_centre, recipes[kind], store=FeatureStore()) for kind in KINDS}


@pytest.fixture(params=KINDS)
def ranker(request, rankers):
    return rankers[request.param]


def body(text):
    """The words of a card, Markdown's escapes undone."""
    return re.sub(r"\\(.)", r"\1", text)


def test_every_folder_has_a_card_that_hubs_read(ranker, tmp_path):
    ranker.save(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    values = card.data.to_dict()
    assert (values["library_name"], values["pipeline_tag"]) == ("twinrank", "text-ranking")
    assert values.get("license") is None  # left to its owner
    assert f"# {ranker.recipe.name}" in card.text
    headings = re.findall("^## (.*)$", card.text, re.MULTILINE)
    assert headings == [
        *("How it was made", "Data", "Intended use", "Quality", "Confidence", "Limits"),
        "How to load it",
    ]


def test_the_card_says_what_was_measured_on_how_many(ranker, help_centre):
    text = body(model_card(ranker))
    validation = help_centre.split("validation").frame
    for kind in ("question", "conversation"):
        count = validation.filter(pl.col("type") == kind).height
        figures = ranker.origin.quality["types"][kind]
        cells = [f"{figures[m]:.3f}".removeprefix("0") for m in ("accuracy@1", "accuracy@3")]
        assert f"| {kind} | {count} | {cells[0]} | {cells[1]} |" in text
    assert f"| overall | {validation.height} |" in text
    assert help_centre.fingerprint in text
    assert f"fitted on the {validation.height} queries of the validation split" in text
    assert f"{ranker.confidence.slope:.3f}" in text


def test_what_holds_peoples_texts_is_said(rankers):
    assert "past.jsonl" in about(rankers["fused"])["Limits"]
    assert "past.jsonl" not in about(rankers["towers"])["Limits"]


def test_no_folder_of_the_machine_is_named(ranker, tiny_model):
    text = model_card(ranker)
    assert str(tiny_model.parent) not in text
    assert str(ranker.origin.folder) not in text


def test_the_code_on_the_card_runs(rankers, tmp_path, capsys):
    rankers["bm25"].save(tmp_path)
    (code,) = re.findall("```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    exec(compile(code.replace("FOLDER", str(tmp_path)), "README.md", "exec"), {})  # noqa: S102
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2", "3"]


def test_what_its_owner_wrote_around_it_is_kept(rankers, tmp_path):
    ranker = rankers["bm25"]
    ranker.save(tmp_path)
    file = tmp_path / "README.md"
    license_, own = "license: apache-2.0", "\n## Ask\n\nthe support team.\n"
    text = file.read_text().replace("# license: yours to choose", license_) + own
    file.write_text(text.replace("It ranks 74 answers", "It ranks some answers"))
    ranker.save(tmp_path)
    assert file.read_text() == text


def test_anothers_readme_stays_and_is_named(rankers, tmp_path, caplog):
    (tmp_path / "README.md").write_text("# mine")
    with caplog.at_level(logging.WARNING):
        rankers["bm25"].save(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# mine"
    assert "README.md: not written by twinrank" in caplog.text


def test_without_a_card_it_loads(rankers, tmp_path):
    rankers["bm25"].save(tmp_path)
    (tmp_path / "README.md").unlink()
    loaded = Ranker.load(tmp_path)
    assert loaded.origin == rankers["bm25"].origin


def test_a_ranker_that_knows_no_counts_and_no_quality_has_a_card_too(rankers):
    ranker = rankers["bm25"]
    origin = ranker.origin.model_copy(update={"labelled": None, "quality": None})
    bare = Ranker(ranker.recipe, ranker.answers, ranker.scoring, origin)
    assert quality(bare) is None
    text = model_card(bare)
    assert "Not measured" in text
    assert "It knows none" in text


def test_what_data_hold_stays_text(rankers):
    ranker = rankers["bm25"]
    seen = {"validation": {"<script>|`x`": 3}}
    quality = {**ranker.origin.quality, "types": {"<script>|`x`": ranker.origin.quality}}
    changed = {"labelled": seen, "quality": quality, "data": "a\n# heading"}
    origin = ranker.origin.model_copy(update=changed)
    text = model_card(Ranker(ranker.recipe, ranker.answers, ranker.scoring, origin))
    assert "<script>" not in text
    assert "\n# heading" not in text
    assert "| \\<script\\>\\|\\`x\\` | 3 |" in text
