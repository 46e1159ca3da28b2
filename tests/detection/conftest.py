"""A real, small DistilRoBERTa-shaped classifier, trained here in seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from classifiers import ANSWERS, REFUSALS, roberta, tokenizer_in, trained
from servers import Server


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained classifier; REJECTION is label 1, as in the reference model."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = tokenizer_in(folder)
    model = roberta(len(tokenizer), "NORMAL", "REJECTION")
    return trained(folder, tokenizer, model, [1] * len(REFUSALS) + [0] * len(ANSWERS))


@pytest.fixture
def relabelled(classifier: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes a copy of the classifier whose label 0 and 1 bear other names."""

    def copy(normal: str, refusal: str) -> Path:
        folder = tmp_path / f"{normal}-{refusal}".replace("/", "_")
        shutil.copytree(classifier, folder)
        config = json.loads((folder / "config.json").read_text())
        config["id2label"] = {"0": normal, "1": refusal}
        config["label2id"] = {normal: 0, refusal: 1}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return copy


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Any], Any]], Server]]:
    servers: list[Server] = []

    def start(act: Callable[[Any], Any]) -> Server:
        servers.append(Server(act))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
