"""The clients against a running service."""

import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.client.conftest import READ, WRITE
from twinrank import Client
from twinrank.client import ClientError, Ranking, Section

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "client.md"


def verdicts(service, key):
    return [verdict for verdict in service.verdicts() if verdict.key == key]


def test_a_text_is_ranked(service, made):
    ranking = made(service.url, lambda c: c.rank("refund an invoice", k=3), key=READ)
    assert isinstance(ranking, Ranking)
    assert [answer.rank for answer in ranking.answers] == [1, 2, 3]
    assert ranking.answers[0].confidence == ranking.confidence
    assert ranking.answers[0].channels
    bare = made(service.url, lambda c: c.rank("refund an invoice", k=3, explain=False), key=READ)
    assert [answer.id for answer in bare.answers] == [answer.id for answer in ranking.answers]
    assert bare.answers[0].channels is None


def test_a_batch_of_any_length_keeps_its_order(service, made):
    texts = ["refund " * 7_000] * 6 + [f"refund number {number}" for number in range(6, 70)]
    rankings = made(service.url, lambda c: c.rank_batch(texts, k=1, explain=False), key=READ)
    assert len(rankings) == 70
    for place in (0, 63, 64, 69):
        alone = made(service.url, lambda c, text=texts[place]: c.rank(text, k=1), key=READ)
        assert rankings[place].answers[0].id == alone.answers[0].id
        assert rankings[place].answers[0].score == pytest.approx(alone.answers[0].score, abs=1e-4)
    assert made(service.url, lambda c: c.rank_batch([]), key=READ) == []


def test_answers_are_found_and_read(service, made, help_centre):
    found = made(service.url, lambda c: c.find_answers("password", limit=1), key=READ)
    assert len(found.answers) == 1
    titles = help_centre.answers["title"].str.to_lowercase()
    assert found.total == titles.str.contains("password").sum()
    answer = made(service.url, lambda c: c.answer(found.answers[0].id), key=READ)
    assert answer.text
    assert answer.sections[1].title


IDS = ["..", ".", "with space", "50%2F", "a?b#c&d", "ÆØÅ-é", "kb:12;v=1"]


@pytest.mark.parametrize("id", IDS)
def test_an_answer_of_any_id_is_put_ranked_and_deleted(service, id):
    words = f"zeppelin hangar {uuid4().hex}"
    with Client(service.url, WRITE) as client:
        sections = [Section(title="Where", text=words), {"title": "When", "text": "never"}]
        stored = client.put_answer(id, title=words, text=f"{words} never", sections=sections)
        assert client.answer(id) == stored
        assert id in [answer.id for answer in client.rank(words, k=100).answers]
        assert stored.sections[1].text == "never"
        assert client.delete_answer(id) is None
        with pytest.raises(ClientError, match="no answer") as caught:
            client.answer(id)
        assert caught.value.status == 404


def test_a_deletion_whose_reply_is_lost_is_no_error(service, made):
    with Client(service.url, WRITE) as client:
        client.put_answer("gone", title="Gone")
        made(service.url, lambda c: c.delete_answer("gone"), key=WRITE, lossy=True)
        with pytest.raises(ClientError, match="no answer 'gone'"):
            client.answer("gone")
    with pytest.raises(ClientError, match="no answer 'gone'"):
        made(service.url, lambda c: c.delete_answer("gone"), key=WRITE)


def test_a_deletion_is_undone(service, made):
    with Client(service.url, WRITE) as client:
        stored = client.put_answer("undone/ÆØÅ", title="Undone")
        client.delete_answer("undone/ÆØÅ")
        again = made(service.url, lambda c: c.restore_answer("undone/ÆØÅ"), key=WRITE, lossy=True)
        assert again == client.answer("undone/ÆØÅ") == stored
        client.delete_answer("undone/ÆØÅ")
    with pytest.raises(ClientError, match="no answer 'never'"):
        made(service.url, lambda c: c.restore_answer("never"), key=WRITE)


def test_feedback_whose_reply_is_lost_is_stored_once(service, made):
    before = made(service.url, lambda c: c.stats(), key=WRITE).verdicts
    ask = {"answer": "nw-101", "right": True, "shown": ["nw-104", "nw-101"], "type": "question"}
    stored = made(service.url, lambda c: c.feedback("let me in", **ask), key=WRITE, lossy=True)
    assert stored.duplicate
    assert made(service.url, lambda c: c.stats(), key=WRITE).verdicts == before + 1


def test_a_verdict_is_taken_back_by_the_key_that_its_caller_was_told(service, made):
    stored = made(service.url, lambda c: c.feedback("let me in", right=False), key=WRITE)
    assert len(verdicts(service, stored.key)) == 1
    assert made(service.url, lambda c: c.take_back(stored.key), key=WRITE) is None
    assert verdicts(service, stored.key) == []
    with pytest.raises(ClientError, match=f"no verdict '{stored.key}'") as caught:
        made(service.url, lambda c: c.take_back(stored.key), key=WRITE)
    assert caught.value.status == 404


def test_keys_and_roles(service, made):
    with pytest.raises(ClientError, match="key is needed") as caught:
        made(service.url, lambda c: c.rank("refund"))
    assert caught.value.status == 401
    with pytest.raises(ClientError, match="may only read") as caught:
        made(service.url, lambda c: c.delete_answer("nw-101"), key=READ)
    assert caught.value.status == 403
    assert made(service.url, lambda c: c.ready()).ready  # open to all
    assert made(service.url, lambda c: c.stats(), key=f"{WRITE}\n").ranker


def test_the_example_of_the_guide_runs(service, capsys):
    examples = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (example,) = [each for each in examples if "with Client(" in each]
    assert "http://127.0.0.1:8000" in example
    example = example.replace('"http://127.0.0.1:8000"', f'"{service.url}", key="{WRITE}"')
    exec(compile(example, "client.md", "exec"), {})  # noqa: S102 (our own text)
    assert capsys.readouterr().out.count("\n") >= 3


def test_a_client_loads_nothing_heavy():
    code = "import sys, twinrank; twinrank.Client; twinrank.AsyncClient; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "httpx" in loaded
    assert not {"torch", "transformers", "polars", "numpy", "fastapi", "sqlalchemy"} & loaded
