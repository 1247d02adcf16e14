import pytest

from twinrank.errors import AnswerIndexError
from twinrank.ranking.index import MilvusPlace


def test_settings_stand_between_the_uri_and_the_name():
    to = "https://me:secret@host:19530?shards=4&replicas=2&consistency=bounded#mine"
    place = MilvusPlace.of(to)
    assert place.model_dump() == {
        "uri": "https://me:secret@host:19530",
        "name": "mine",
        "shards": 4,
        "replicas": 2,
        "consistency": "Bounded",
    }
    shown = "https://host:19530?shards=4&replicas=2&consistency=Bounded#mine"
    assert (str(place), place.typed, place.where) == (shown, f"'{shown}'", "https://host:19530")
    assert MilvusPlace.of(str(place)) == place.model_copy(update={"uri": "https://host:19530"})


@pytest.mark.parametrize("to", ["a.db", "a.db#mine", "http://host:19530", "http://host#mine"])
def test_what_is_left_out_is_left_to_milvus_and_not_shown(to):
    place = MilvusPlace.of(to)
    assert (place.shards, place.replicas, place.consistency) == (None, None, "Session")
    assert str(place) == place.typed == to


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ("shards=0", "shards=0: Input should be greater than 0"),
        ("shards=many", "shards=many: Input should be a valid integer"),
        ("replicas=", "replicas=: Input should be a valid integer"),
        ("shards=2&shards=3", "shards=2 3: Input should be a valid integer"),
        ("consistency=Sometimes", "consistency=Sometimes: Input should be 'Strong', 'Bounded'"),
        ("shard=2", "'shard' is no setting"),
        ("uri=elsewhere", "'uri' is no setting"),
    ],
)
def test_a_setting_that_is_none_is_one_line(settings, wrong):
    with pytest.raises(AnswerIndexError) as error:
        MilvusPlace.of(f"http://me:secret@host:19530?{settings}")
    assert str(error.value).startswith(f"http://host:19530: {wrong}")
    assert str(error.value).endswith(
        "settings are shards=N, replicas=N and consistency=Strong, Bounded, Session or Eventually"
    )


def test_a_file_takes_no_settings_and_a_name_is_an_identifier():
    with pytest.raises(AnswerIndexError, match=r"^a\.db: a file has no shards: settings are for"):
        MilvusPlace.of("a.db?shards=2")
    for name in ("my-answers", "1st", "æ", "a b"):
        with pytest.raises(AnswerIndexError, match=rf"^http://host: '{name}' names no collection"):
            MilvusPlace.of(f"http://host#{name}")
