"""A ranker with its encoders converted, in a folder that is served without torch."""

from __future__ import annotations

import shutil
from pathlib import Path

from twinrank.errors import RankerError
from twinrank.extras import check_installed
from twinrank.files import new_folder
from twinrank.ranking import RULES, Ranker
from twinrank.ranking.manifest import encoder_name


def check_original(ranker: Ranker) -> None:
    """Refuse a packaged ranker: it has networks for OpenVINO in place of weights."""
    if ranker.dense and any(encoder.files.packaged for encoder in ranker.dense.reader.encoders):
        raise RankerError(
            "a packaged ranker has no weights; give the ranker that it was packaged from"
        )


def package(path: Path, out: Path) -> None:
    """Write a ranker into a new folder, with all that it ranks by: rules, and converted encoders.

    The previous version and a local index stay behind.

    Raises:
        RankerError: if the folder is there already, or there is no ranker to package.
        EncoderError: if OpenVINO cannot convert an encoder.
    """
    check_installed("packages", "openvino", "openvino")
    from twinrank.encoding.packaging import package_encoder

    if out.exists():
        raise RankerError(f"{out}: is there already; give the name of a new folder")
    ranker = Ranker.load(path, device="cpu")
    with new_folder(out) as folder:
        for encoder in ranker.dense.reader.encoders if ranker.dense else ():
            package_encoder(encoder, folder / encoder_name(encoder.identity))
        ranker.save(folder)
        if (path / RULES).is_file():
            shutil.copyfile(path / RULES, folder / RULES)
