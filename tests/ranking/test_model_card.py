import logging
import re

import polars as pl
import pytest
from huggingface_hub import ModelCard

from twinrank.ranking import Ranker
from twinrank.ranking.model_card import about, model_card, quality


@pytest.fixture(params=["bm25", "fused"])
def ranker(request, fitted):
    return fitted(request.param)


def test_a_folder_has_a_card_that_hubs_read(ranker, tmp_path):
    ranker.save(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    values = card.data.to_dict()
    assert (values["library_name"], values["pipeline_tag"]) == ("twinrank", "text-ranking")
    assert values.get("license") is None  # left to its owner
    assert re.findall("^##? (.*)$", card.text, re.MULTILINE) == [
        *(ranker.recipe.name, "How it was made", "Data", "Intended use", "Quality"),
        *("Confidence", "Limits", "How to load it"),
    ]


def test_the_card_says_what_was_measured_on_how_many(ranker, help_centre, tiny_model):
    text = re.sub(r"\\(.)", r"\1", model_card(ranker))  # without Markdown's escapes
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
    assert ("past.jsonl" in about(ranker)["Limits"]) == (ranker.past is not None)
    for folder in (tiny_model.parent, ranker.origin.folder):  # of this machine
        assert str(folder) not in text


def test_the_code_on_the_card_runs(fitted, tmp_path, capsys):
    fitted("bm25").save(tmp_path)
    (code,) = re.findall("```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    exec(compile(code.replace("FOLDER", str(tmp_path)), "README.md", "exec"), {})  # noqa: S102
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2", "3"]


def test_what_its_owner_wrote_around_it_is_kept(fitted, tmp_path):
    ranker = fitted("bm25")
    ranker.save(tmp_path)
    file = tmp_path / "README.md"
    license_, own = "license: apache-2.0", "\n## Ask\n\nthe support team.\n"
    text = file.read_text().replace("# license: yours to choose", license_) + own
    file.write_text(text.replace("It ranks 74 answers", "It ranks some answers"))
    ranker.save(tmp_path)
    assert file.read_text() == text


@pytest.mark.parametrize("text", [b"# mine", b"# caf\xe9"])
def test_anothers_readme_stays_and_is_named(fitted, tmp_path, caplog, text):
    (tmp_path / "README.md").write_bytes(text)
    with caplog.at_level(logging.WARNING):
        fitted("bm25").save(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == text
    assert "README.md: not written by twinrank" in caplog.text


def test_a_ranker_that_knows_no_counts_and_no_quality_has_a_card_too(fitted):
    ranker = fitted("bm25")
    origin = ranker.origin.model_copy(update={"labelled": None, "quality": None})
    bare = Ranker(ranker.recipe, ranker.answers, ranker.scoring, origin)
    assert quality(bare) is None
    text = model_card(bare)
    assert "Not measured" in text
    assert "It knows none" in text


def test_what_data_hold_stays_text(fitted):
    ranker = fitted("bm25")
    seen = {"validation": {"<script>|`x`": 3}}
    quality = {**ranker.origin.quality, "types": {"<script>|`x`": ranker.origin.quality}}
    changed = {"labelled": seen, "quality": quality, "data": "a\n# heading"}
    origin = ranker.origin.model_copy(update=changed)
    text = model_card(Ranker(ranker.recipe, ranker.answers, ranker.scoring, origin))
    assert "<script>" not in text
    assert "\n# heading" not in text
    assert "| \\<script\\>\\|\\`x\\` | 3 |" in text
