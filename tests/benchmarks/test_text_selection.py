import json

import pytest

from text_selection import main


def test_it_measures_articles_that_are_too_long(help_centre_folder, tiny_model, tmp_path, capsys):
    out = tmp_path / "figures.json"
    settings = {"encoder": str(tiny_model), "language": "english"}
    main(help_centre_folder, articles=20, budget=64, out=out, **settings)
    figures = json.loads(out.read_text())
    assert figures["articles"] == 20
    assert figures["too long"] > 0.5
    assert figures["tokens read"] <= 64
    steps = figures["seconds"]
    both = steps["words weighed"]["wall"] + steps["sentences chosen"]["wall"]
    assert steps["both"]["wall"] == pytest.approx(both) and both > 0
    assert "sentences chosen" in capsys.readouterr().out
