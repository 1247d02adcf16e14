"""An encoder as a folder that OpenVINO alone runs: its network converted, without the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from twinrank.encoding.encoder import Encoder, load_tokenizer
from twinrank.encoding.model_files import NETWORK_FILES, PACKAGED, Packaged, network_folder
from twinrank.encoding.openvino_backend import ConversionError, load_openvino, open_network
from twinrank.encoding.sentence_settings import SETTINGS_FILES, TRANSFORMER
from twinrank.errors import EncoderError
from twinrank.files import checksum


def package_encoder(encoder: Encoder, folder: Path) -> None:
    """Write an encoder into a new folder, with its network in place of its weights.

    Its name there is the folder; its identity and its features stay the same.

    Raises:
        EncoderError: if OpenVINO cannot convert it.
        TwinrankError: if it is still to be converted, and torch is not installed.
    """
    files = encoder.files
    settings = files.settings.file
    root = settings.parent if settings else files.folder
    if files.packaged:
        shutil.copytree(root, folder)
        return
    target = folder / files.folder.relative_to(root)
    target.mkdir(parents=True)
    try:
        network = open_network(files, network_folder(encoder.identity))
        load_openvino().save_model(network, target / NETWORK_FILES[0])  # in half precision
    except (ConversionError, RuntimeError) as error:  # the latter of OpenVINO
        raise EncoderError(f"{encoder.name}: openvino cannot convert it: {error}") from error
    for file in [file for pattern in SETTINGS_FILES if settings for file in root.glob(pattern)]:
        if file not in files.weights:
            (folder / file.relative_to(root)).parent.mkdir(exist_ok=True)
            shutil.copyfile(file, folder / file.relative_to(root))
    for name in ("config.json", TRANSFORMER):
        if (files.folder / name).is_file():
            shutil.copyfile(files.folder / name, target / name)
    load_tokenizer(files).save(str(target / "tokenizer.json"))
    names = ("config.json", "tokenizer.json", *NETWORK_FILES)
    sums = {name: checksum(target / name) for name in names}
    packaged = Packaged(original=files.checksums(), files=sums)
    (target / PACKAGED).write_text(packaged.model_dump_json(indent=2) + "\n", encoding="utf-8")
