"""A tiny encoder, the bundled data set, and recipes small enough to train in a second."""

import os
import string
import sys
from pathlib import Path

# It configures logging as it is imported, and with that closes absl's handler, and whatever stream
# that had: pytest's own, if a test redirects stderr at that moment. So it is imported here.
import pymilvus  # noqa: F401
import pytest
from hypothesis import settings

from tests.postgres import server
from twinrank.data import Dataset
from twinrank.recipe import Recipe

# A busy machine makes no test wrong: Hypothesis sets no deadline.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

HELP_CENTRE = Path(__file__).parents[1] / "examples" / "help-centre"
WORDS = ["password", "reset", "invoice", "refund", "calendar", "booking", "hello", "the"]

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that would reach for a model hub must fail
os.environ["TWINRANK_BACKEND"] = "torch"  # nothing is converted in each test process


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    os.environ["TWINRANK_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A BERT with random weights, 32 wide, whose word pieces spell any text."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-bert")
    pieces = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *pieces, *(f"##{piece}" for piece in pieces), *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertWordPieceTokenizer(str(folder / "vocab.txt")).save(str(folder / "tokenizer.json"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def help_centre_folder() -> Path:
    return HELP_CENTRE


@pytest.fixture(scope="session")
def help_centre() -> Dataset:
    return Dataset.load(HELP_CENTRE)


@pytest.fixture(scope="session")
def recipe_files(tiny_model, tmp_path_factory) -> dict[str, Path]:
    """Recipe files of every kind, on the tiny encoder."""
    folder = tmp_path_factory.mktemp("recipes")
    encoder = f'[encoder]\nname = "{tiny_model}"\nmax_tokens = 64\nprecision = "fp32"\n'
    training = "[training]\nepochs = 8\nlearning_rate = 3e-3\n"
    sections = encoder.replace("max_tokens", 'answers = "sections"\nmax_tokens')
    texts = {
        "bm25": 'channel = "bm25"\n[words]\n',
        "zero-shot": encoder,
        "towers": f'{encoder}[towers]\nkind = "residual"\n{training}',
        "fused": f"{sections}[words]\n[memory]\n[towers]\noffsets = true\n{training}",
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return {name: folder / f"{name}.toml" for name in texts}


@pytest.fixture(scope="session")
def recipes(recipe_files) -> dict[str, Recipe]:
    return {name: Recipe.load(file) for name, file in recipe_files.items()}


@pytest.fixture(scope="session")
def trained(recipes, help_centre, tmp_path_factory) -> Path:
    """A ranker's folder that no test may change."""
    from twinrank.encoding import FeatureStore
    from twinrank.training import train

    folder = tmp_path_factory.mktemp("trained") / "ranker"
    train(help_centre, recipes["fused"], store=FeatureStore(), out=folder)
    return folder


@pytest.fixture(scope="session")
def postgres():
    """The address of a database in a real PostgreSQL server, started for the tests."""
    with server() as address:
        yield address


if sys.platform == "linux":  # two test processes share two cores better without spinning threads
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
