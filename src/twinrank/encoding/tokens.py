"""Texts to token ids, with the tokenizers library alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from twinrank.encoding.model_files import EncoderFiles
from twinrank.errors import EncoderError

AT_ONCE = 1024


def load_tokenizer(files: EncoderFiles, max_tokens: int | None = None) -> Tokenizer:
    """The encoder's tokenizer, without padding, and cutting at `max_tokens` if that is given.

    Raises:
        EncoderError: if the file is not a tokenizer's, or of another model.
    """
    first = files.tokenizer[0]
    try:
        if first.name == "tokenizer.json":
            tokenizer = Tokenizer.from_file(str(first))
        else:
            from transformers import AutoTokenizer  # slow to import, and rarely needed

            fast = AutoTokenizer.from_pretrained(
                files.folder, use_fast=True, trust_remote_code=False, local_files_only=True
            )
            tokenizer = fast.backend_tokenizer
    except Exception as error:  # tokenizers raises bare Exception on a file it cannot read
        raise EncoderError(f"{first}: not a tokenizer: {error}; restore the file") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    _check_ids(tokenizer, files)
    if max_tokens is not None:
        tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _check_ids(tokenizer: Tokenizer, files: EncoderFiles) -> None:
    """Refuse ids without an embedding: torch fails on them, OpenVINO reads what lies behind."""
    special = tokenizer.encode("").ids  # a template may name ids that no token has
    last = max((*tokenizer.get_vocab().values(), *special, files.pad), default=0)
    if files.embeddings is not None and (files.pad < 0 or last >= files.embeddings):
        raise EncoderError(
            f"{files.tokenizer[0]}: the tokenizer has ids up to {last:,}, the model embeddings for "
            f"{files.embeddings:,} alone (the padding is {files.pad}): take both from one model, "
            "or save it again after resize_token_embeddings"
        )


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Ids of each text's tokens, special ones included.

    Raises:
        EncoderError: if a text is not valid Unicode.
    """
    ids: list[np.ndarray] = []
    for start in range(0, len(texts), AT_ONCE):  # the tokenizer holds more a text than its ids
        some = list(texts[start : start + AT_ONCE])
        try:
            found = tokenizer.encode_batch_fast(some)
        except TypeError:  # does not say which text, nor why
            _refuse(some)
            raise
        ids.extend(np.array(encoding.ids, np.int32) for encoding in found)
    return ids


def _refuse(texts: Sequence[str]) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise EncoderError(f"a text is no string but {text!r}; give strings") from None
        try:
            text.encode()
        except UnicodeEncodeError:
            raise EncoderError(
                f"a text is not valid Unicode: {text[:40]!r}; replace its lone surrogates"
            ) from None
