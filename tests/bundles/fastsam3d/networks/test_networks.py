# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The networks that this project trains itself: any grid, any type, several objects at once, the same every time."""

import pytest
import torch

from bundles.fastsam3d.scripts.networks.embedding import Embedding
from bundles.fastsam3d.scripts.networks.fastsam3d import FastSAM3D
from bundles.fastsam3d.scripts.networks.layers import ChannelNorm, resize_grid
from bundles.fastsam3d.scripts.networks.mask_decoder import MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D, RandomFourierCode
from bundles.fastsam3d.scripts.networks.student import ConvStem3D, StudentEncoder3D

PATTERNS = ((8, 1), (64, 8), (None, 1))


def build(stem: bool = True, order: str = "morton", boxes: bool = True, **prompts) -> FastSAM3D:
    torch.manual_seed(0)
    encoder = StudentEncoder3D(
        image_size=32,
        patch_size=8,
        embed_dim=24,
        depth=3,
        heads=3,
        ffn_blocks=1,
        out_channels=48,
        patterns=PATTERNS,
        order=order,
        stem=ConvStem3D((4, 8), 24) if stem else None,
    )
    decoder = MaskDecoder3D(48, mlp_dim=32, iou_head_hidden_dim=16, skip_channels=(8, 4) if stem else ())
    return FastSAM3D(encoder, PromptEncoder3D(48, boxes=boxes, **prompts), decoder).eval()


@pytest.fixture(scope="module")
def network():
    return build()


@pytest.fixture(scope="module")
def image():
    return torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))


def points(*places, labels=None):
    return torch.tensor(places, dtype=torch.float32)[None], torch.tensor([labels or [1] * len(places)])


@torch.no_grad()
def decoded(network, image, *args, **kwargs):
    return network.decode(network.encode(image), *args, **kwargs)


# ---- the joined network


@pytest.mark.parametrize("shape", [(8, 8, 8), (16, 24, 40), (32, 32, 32), (40, 8, 16)])
@pytest.mark.parametrize("stem", [True, False])
@pytest.mark.parametrize("order", ["raster", "morton"])
@torch.no_grad()
def test_any_grid(shape, stem, order):
    network = build(stem, order)
    image = torch.randn(1, 1, *shape)
    embedding = network.encode(image)
    grid = tuple(n // 8 for n in shape)
    assert embedding.features.shape == (1, 48, *grid) and embedding.image_size == shape
    logits, iou = network.decode(embedding, *points((1, 2, 3)))
    assert logits.shape == (1, 1, *(4 * n for n in grid)) and iou.shape == (1, 1)
    out = network(image)
    assert out.shape == image.shape and torch.isfinite(out).all()


@torch.no_grad()
def test_image_alone_means_a_click_in_its_centre(network, image):
    logits, _ = decoded(network, image, *points((15.5, 15.5, 15.5)))
    expected = torch.nn.functional.interpolate(logits, size=(32, 32, 32), mode="trilinear", align_corners=False)
    torch.testing.assert_close(network(image), expected)
    both = network(torch.cat([image, -image]))
    assert both.shape == (2, 1, 32, 32, 32)
    torch.testing.assert_close(both[:1], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("with_box", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("multimask", [False, True])
def test_several_objects_at_once_are_as_one_by_one(network, image, with_box, with_mask, multimask):
    generator = torch.Generator().manual_seed(2)
    places = 32 * torch.rand(5, 3, 3, generator=generator)
    labels = torch.tensor([[1, 0, 1], [1, 1, 1], [1, 0, 0], [1, -1, -1], [1, 1, -1]])
    corners = 32 * torch.rand(5, 2, 3, generator=generator)
    boxes = torch.stack([corners.amin(1), corners.amax(1)], dim=1) if with_box else None
    masks = 5 * torch.randn(5, 1, 16, 16, 16, generator=generator) if with_mask else None
    together, scores = decoded(network, image, places, labels, boxes, masks, multimask)
    count = 3 if multimask else 1
    assert together.shape == (5, count, 16, 16, 16) and scores.shape == (5, count)
    for i in range(5):
        one = slice(i, i + 1)
        alone, score = decoded(
            network,
            image,
            places[one],
            labels[one],
            None if boxes is None else boxes[one],
            None if masks is None else masks[one],
            multimask,
        )
        torch.testing.assert_close(alone, together[one], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(score, scores[one], atol=1e-4, rtol=1e-4)


def test_every_prompt_changes_the_answer(network, image):
    base, _ = decoded(network, image, *points((10, 10, 10)))
    box = torch.tensor([[[3.0, 4, 5], [20, 21, 22]]])
    others = {
        "another place": decoded(network, image, *points((22, 10, 10)))[0],
        "another axis": decoded(network, image, *points((10, 10, 22)))[0],
        "background": decoded(network, image, *points((10, 10, 10), labels=[0]))[0],
        "a further click": decoded(network, image, *points((10, 10, 10), (3, 3, 3), labels=[1, 0]))[0],
        "a box": decoded(network, image, *points((10, 10, 10)), box)[0],
        "a box from high to low": decoded(network, image, *points((10, 10, 10)), box.flip(1))[0],
        "a mask": decoded(network, image, *points((10, 10, 10)), None, torch.full((1, 1, 16, 16, 16), 5.0))[0],
        "another image": decoded(network, -image, *points((10, 10, 10)))[0],
    }
    seen = [base, *others.values()]
    for i, a in enumerate(seen):
        for b in seen[i + 1 :]:
            assert (a - b).abs().max() > 1e-5, list(others)


def test_the_order_of_clicks_does_not_matter(network, image):
    one, _ = decoded(network, image, *points((10, 10, 10), (20, 9, 8), (3, 3, 3), labels=[1, 1, 0]))
    two, _ = decoded(network, image, *points((3, 3, 3), (10, 10, 10), (20, 9, 8), labels=[0, 1, 1]))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_a_box_without_clicks(network, image):
    logits, _ = decoded(
        network,
        image,
        torch.zeros(1, 0, 3),
        torch.zeros(1, 0, dtype=torch.long),
        torch.tensor([[[3.0, 4, 5], [9, 9, 9]]]),
    )
    assert torch.isfinite(logits).all()


def test_multimask_offers_other_masks_than_the_single_one(network, image):
    single, _ = decoded(network, image, *points((10, 10, 10)))
    several, _ = decoded(network, image, *points((10, 10, 10)), multimask=True)
    assert all((single[:, 0] - several[:, k]).abs().max() > 1e-6 for k in range(3))


def test_zeros_for_no_mask(image):
    network = build()
    learned, _ = decoded(network, image, *points((10, 10, 10)))
    network.zeros_for_no_mask = True
    zeros, _ = decoded(network, image, *points((10, 10, 10)))
    given, _ = decoded(network, image, *points((10, 10, 10)), masks=torch.zeros(1, 1, 16, 16, 16))
    torch.testing.assert_close(zeros, given, rtol=1e-5, atol=1e-6)
    assert (zeros - learned).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_types(image, dtype):
    exact = build()(image)
    network = build().to(dtype)
    out = network(image.to(dtype))
    assert out.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float64 else 0.1
    assert (out.float() - exact).abs().max() <= tolerance * exact.abs().max()


def test_gradients_reach_every_parameter_in_use(image):
    network = build().train()
    boxes = torch.tensor([[[3.0, 4, 5], [20, 21, 22]]])
    embedding = network.encode(image)
    place = points((10, 10, 10), (3, 3, 3), labels=[1, 0])
    total = 0
    for masks, multimask, box in ((None, False, boxes), (torch.randn(1, 1, 16, 16, 16), True, None)):
        logits, iou = network.decode(embedding, *place, box, masks, multimask)
        total = total + logits.square().mean() + iou.square().mean()
    total.backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert missing == []


@torch.no_grad()
def test_the_same_every_time(network, image):
    assert torch.equal(network(image), network(image))
    assert torch.equal(build()(image), network(image))


def test_keys_stay_what_they_are(tmp_path):
    network = build()
    keys = list(network.state_dict())
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = build()
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
        other(torch.zeros(1, 1, 16, 16, 16))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True), strict=True)
    assert list(other.state_dict()) == keys
    with torch.no_grad():
        assert torch.equal(other(torch.ones(1, 1, 16, 16, 16)), network(torch.ones(1, 1, 16, 16, 16)))


# ---- the encoder


@torch.no_grad()
def test_a_side_that_the_patch_does_not_divide(network):
    with pytest.raises(ValueError, match=r"\(32, 30, 32\).*expected multiples of 8"):
        network.encode(torch.zeros(1, 1, 32, 30, 32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": "hilbert"}, "order 'hilbert': expected raster or morton"),
        ({"stem": ConvStem3D((4,), 24)}, "patch size 4 in an encoder of patch size 8"),
        ({"heads": 5}, "each must divide"),
        ({"patterns": ((4, 1), (8, 2))}, "each must divide"),
    ],
)
def test_encoder_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        StudentEncoder3D(
            **{"image_size": 32, "patch_size": 8, "embed_dim": 24, "heads": 3, "patterns": PATTERNS, **settings}
        )


@torch.no_grad()
def test_the_first_blocks_have_no_attention():
    """A change in one corner stays where it is until the first block with attention."""
    encoder = build(stem=False).image_encoder
    image = torch.randn(1, 1, 32, 32, 32)
    changed = image.clone()
    changed[..., :8, :8, :8] += 1
    _, before, _ = encoder.forward_features(image)
    _, after, _ = encoder.forward_features(changed)
    differs = [(a - b).abs().amax(dim=-1)[0] > 1e-6 for a, b in zip(before, after, strict=True)]
    assert differs[0].sum() == 1 and differs[0][0, 0, 0]
    assert differs[1].sum() > 1
    assert [hasattr(b, "attn") for b in encoder.blocks] == [False, True, True]


@torch.no_grad()
def test_order_of_tokens_changes_neighbourhoods_not_places():
    """With dense attention alone the order cannot matter; with segments it must."""
    image = torch.randn(1, 1, 32, 32, 32)
    for patterns, same in ((((None, 1),), True), (((8, 1),), False)):
        outs = []
        for order in ("raster", "morton"):
            torch.manual_seed(0)
            encoder = StudentEncoder3D(32, 8, 24, 3, 3, ffn_blocks=1, out_channels=12, patterns=patterns, order=order)
            outs.append(encoder(image).features)
        assert torch.allclose(*outs, atol=1e-4) == same


def test_stem_halves_at_each_step():
    tokens, finer = ConvStem3D((4, 8), 24)(torch.zeros(2, 1, 16, 24, 32))
    assert tokens.shape == (2, 2, 3, 4, 24)
    assert [tuple(f.shape) for f in finer] == [(2, 8, 4, 6, 8), (2, 4, 8, 12, 16)]


def test_resize_grid():
    table = torch.rand(1, 4, 4, 4, 6)
    assert resize_grid(table, (4, 4, 4)) is table
    ramp = torch.linspace(0, 1, 4).view(1, 4, 1, 1, 1).expand(1, 4, 4, 4, 2)
    larger = resize_grid(ramp, (8, 5, 3))
    assert larger.shape == (1, 8, 5, 3, 2)
    assert (larger[0, 1:, 0, 0, 0] >= larger[0, :-1, 0, 0, 0]).all()
    assert torch.allclose(larger[0, :, :1, :1], larger[0], atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 5, 3, 4, 2), (1, 7, 6)])
def test_channel_norm_is_layer_norm_over_channels(shape):
    norm = ChannelNorm(shape[1])
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = 3 * torch.randn(shape) + 2
    expected = torch.nn.functional.layer_norm(x.movedim(1, -1), shape[1:2], norm.weight, norm.bias, 1e-6)
    torch.testing.assert_close(norm(x), expected.movedim(-1, 1))


# ---- prompts


def test_positional_code():
    code = RandomFourierCode(12)
    out = code(torch.tensor([[0.5, 0.5, 0.5], [0.1, 0.2, 0.9]]))
    assert out.shape == (2, 12)
    torch.testing.assert_close(out[0], torch.tensor([0.0] * 4 + [1.0] * 4 + [0.0] * 4))
    torch.testing.assert_close(out[:, :4], out[:, 8:])
    with pytest.raises(ValueError, match="multiple of 3"):
        RandomFourierCode(16)


def test_a_click_has_the_code_of_its_cell():
    """Points and cells share one space: the centre of a cell has the cell's code."""
    code = RandomFourierCode(12)
    dense = code.grid((2, 3, 4))
    assert dense.shape == (1, 12, 2, 3, 4)
    for cell in ((0, 0, 0), (1, 2, 3), (1, 0, 2)):
        place = (torch.tensor(cell) + 0.5) / torch.tensor([2, 3, 4])
        torch.testing.assert_close(code(place), dense[(0, slice(None), *cell)])


def test_prompt_tokens():
    encoder = PromptEncoder3D(48, boxes=True)
    place = torch.zeros(2, 3, 3), torch.tensor([[1, 0, -1], [1, 1, 1]])
    sparse, dense = encoder((32, 32, 32), (4, 4, 4), *place)
    assert sparse.shape == (2, 4, 48) and dense.shape == (2, 48, 4, 4, 4)
    torch.testing.assert_close(sparse[0, 2], sparse[0, 3])  # a padding point and the one that stands for no box
    sparse, _ = encoder((32, 32, 32), (4, 4, 4), *place, torch.zeros(2, 2, 3))
    assert sparse.shape == (2, 5, 48)


def test_prompts_that_do_not_fit():
    place = points((1, 2, 3))
    with pytest.raises(ValueError, match="without box embeddings"):
        PromptEncoder3D(48)((32, 32, 32), (4, 4, 4), *place, torch.zeros(1, 2, 3))
    assert not PromptEncoder3D(48).takes_boxes and PromptEncoder3D(48, boxes=True).takes_boxes
    for size in (4, 8):
        with pytest.raises(ValueError, match=rf"mask of \({size}, {size}, {size}\).*expected 4 times"):
            PromptEncoder3D(48)((32, 32, 32), (4, 4, 4), *place, masks=torch.zeros(1, 1, size, size, size))


def test_encoders_without_skips_hand_over_features_alone(image):
    plain = build(stem=False)
    assert plain.encode(image).skips == ()

    class Bare(torch.nn.Module):
        def forward(self, x):
            return plain.image_encoder(x).features

    bare = FastSAM3D(Bare(), plain.prompt_encoder, plain.mask_decoder).eval()
    with torch.no_grad():
        assert isinstance(bare.encode(image), Embedding)
        assert torch.equal(bare(image), plain(image))


def test_decoder_whose_heads_do_not_divide():
    with pytest.raises(ValueError, match="cannot be divided among 7 heads"):
        MaskDecoder3D(48, heads=7)


@pytest.mark.parametrize("images", [1, 3])
def test_objects_decoded_one_by_one_are_those_of_a_batch(images):
    torch.manual_seed(0)
    decoder = MaskDecoder3D(24, heads=4, mlp_dim=32, skip_channels=(8, 4)).eval()
    features, code, dense = torch.randn(images, 24, 2, 3, 4), torch.randn(1, 24, 2, 3, 4), torch.randn(3, 24, 2, 3, 4)
    skips = decoder.project_skips([torch.randn(images, c, *(f * n for n in (2, 3, 4))) for c, f in ((8, 2), (4, 4))])
    given = features, code, torch.randn(3, 5, 24), dense
    for multimask in (False, True):
        together = decoder(*given, multimask, skips)
        with torch.no_grad():
            one_by_one = decoder(*given, multimask, skips)
        assert together[0].requires_grad and not one_by_one[0].requires_grad
        torch.testing.assert_close(one_by_one, together, rtol=1e-5, atol=1e-6)
