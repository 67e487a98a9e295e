# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Label names as vectors: by encoders from local folders, by the table; known names, unknown ones, wrong encoders."""

import json
import sys

import pytest
import torch

from bundles.ssam_2d.scripts.name_features import name_features
from bundles.ssam_2d.scripts.text_features import encode_names, text_encoder
from common.label_names import matched

LABELS = ["polyp", "Left Kidney", "spleen"]
NAMES = ["liver", "left kidney"]


@pytest.fixture
def clip_folder(tmp_path):
    """A tiny CLIP as ``save_pretrained`` writes it."""
    transformers = pytest.importorskip("transformers")
    letters = [chr(c) for c in range(33, 127)]
    words = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 8,
            "projection_dim": 12,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "bos_token_id": len(words) - 2,
            "eos_token_id": len(words) - 1,
        },
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        },
        projection_dim=12,
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture
def sentence_folder(tmp_path):
    """A tiny BERT, the kind that most sentence encoders are."""
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "liver", "left", "kidney"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def forget_encoders():
    yield
    text_encoder.cache_clear()


def test_clip_features_are_those_of_the_whole_model(clip_folder):
    import transformers

    features = encode_names(NAMES, clip_folder, 12)
    assert features.shape == (2, 12) and not torch.allclose(features[0], features[1])
    # One by one, without padding, through the model with both of its halves.
    model, tokenizer = (c.from_pretrained(clip_folder) for c in (transformers.CLIPModel, transformers.CLIPTokenizer))
    for name, row in zip(NAMES, features, strict=True):
        with torch.no_grad():
            text = model.text_model(**tokenizer(name, return_tensors="pt")).pooler_output
            assert torch.allclose(row, model.text_projection(text)[0], atol=1e-5)


def test_sentence_encoders_are_pooled_as_they_say(sentence_folder):
    import transformers

    model = transformers.BertModel.from_pretrained(sentence_folder).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(sentence_folder)
    with torch.no_grad():
        states = [model(**tokenizer(name, return_tensors="pt")).last_hidden_state[0] for name in NAMES]
    mean = encode_names(NAMES, str(sentence_folder), 12)
    assert torch.allclose(mean, torch.stack([s.mean(0) for s in states]), atol=1e-5)
    (sentence_folder / "1_Pooling").mkdir()
    (sentence_folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    text_encoder.cache_clear()
    first = encode_names(NAMES, str(sentence_folder), 12)
    assert torch.allclose(first, torch.stack([s[0] for s in states]), atol=1e-5)


def test_the_table_depends_on_the_name_alone():
    features = encode_names(LABELS, "table", 512)
    assert features.shape == (3, 512) and abs(features.std() - 1) < 0.1
    assert torch.equal(encode_names([" POLYP "], "table", 512)[0], features[0])
    # The value of one machine, which every other one has to draw as well.
    assert features[0, :2].tolist() == pytest.approx(FIRST_OF_POLYP, abs=1e-6)
    assert torch.cosine_similarity(features[:1], features[1:]).abs().max() < 0.2


FIRST_OF_POLYP = [0.0484739691, -0.3239150345]


def test_known_names_need_no_text_model():
    features = torch.randn(3, 7)
    assert torch.equal(name_features(["spleen", "left kidney"], LABELS, features), features[[2, 1]])
    assert matched("LEFT kidney ", LABELS) == "Left Kidney" and matched("kidney", LABELS) is None


def test_an_unknown_name_is_refused_with_what_is_known_and_near():
    with pytest.raises(
        ValueError, match="unknown label 'polypes'.*polyp, Left Kidney, spleen.*'polypes' is near to polyp"
    ):
        name_features(["spleen", "polypes"], LABELS, torch.randn(3, 7))


def test_an_unknown_name_is_encoded_by_the_labels_own_text_model(clip_folder):
    features = encode_names(LABELS, clip_folder, 12)
    mixed = name_features(["liver", "polyp"], LABELS, features, clip_folder)
    assert torch.allclose(mixed, encode_names(["liver", "polyp"], clip_folder, 12), atol=1e-6)
    with pytest.raises(ValueError, match="is not the one that the labels were trained with"):
        name_features(["liver"], LABELS, torch.randn(3, 12), clip_folder)


def test_text_models_that_do_not_serve_are_refused(clip_folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="gives 12 channels, the network's text layer takes 512"):
        encode_names(NAMES, clip_folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="cannot be read as a text encoder.*expected table, clip"):
        encode_names(NAMES, str(tmp_path / "empty"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="pip install 'transformers"):
        encode_names(NAMES, "elsewhere")
