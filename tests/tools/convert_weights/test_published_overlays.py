# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Converted weights run at once, through the overlays, and give what the published networks gave."""

import json
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from small_published import close, gives_the_reference_outputs
from workflows import scripts_of, started

from bundles.fastsam3d.scripts.networks.image_encoder import ImageEncoder3D
from bundles.fastsam3d.scripts.networks.mask_decoder import MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.published import PublishedStudent3D, SwappedFourierCode
from bundles.ssam_2d.scripts.networks.published import PublishedImageEncoder, PublishedTextDecoder
from bundles.ssam_2d.scripts.networks.sam import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from common.geometry import Grid, cube_around, resample
from tools.convert_weights import images, volumes
from tools.convert_weights import ssam as ssam_kind
from tools.convert_weights.kinds import KINDS
from tools.convert_weights.report import overrides


@pytest.fixture
def volume(tmp_path):
    """A blob above zero in a volume of 64 voxels a side at 1.5 mm, partly below zero."""
    axes = np.meshgrid(*[np.arange(64) - 31.5] * 3, indexing="ij")
    values = (
        200 * np.exp(-sum(a**2 for a in axes) / 300) - 20 + 10 * np.random.default_rng(0).standard_normal((64,) * 3)
    )
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([1.5, 1.5, 1.5, 1])), path)
    return path


def shown(volume, click):
    """The 64 voxels a side around a click, normalised once by the mean and deviation of what is above zero."""
    image = nib.load(volume)
    grid = Grid(image.affine, image.shape)
    values, inside = resample(
        torch.from_numpy(image.get_fdata(dtype=np.float32))[None],
        grid,
        cube_around(grid.to_mm(np.array(click)), 1.5, 64),
    )
    counted = values[:, inside][values[:, inside] > 0]
    return (values - counted.mean()) / counted.std() * inside


class Recorder:
    """Keeps what a network was shown and what it said."""

    def __init__(self, network):
        self.cubes, self.prompts, self.logits = [], [], []
        encode, decode = network.encode, network.decode

        def encoded(image):
            self.cubes.append(image)
            return encode(image)

        def decoded(embedding, points, labels, boxes=None, masks=None, **more):
            logits, iou = decode(embedding, points, labels, boxes, masks, **more)
            self.prompts.append((points, labels, masks))
            self.logits.append(logits)
            return logits, iou

        network.encode, network.decode = encoded, decoded


@pytest.fixture
def ssam_2d_path():
    """The bundle's folder, whose ``scripts`` are importable."""
    with scripts_of(Path("bundles/ssam_2d").resolve()) as path:
        yield path


def converted(bundle, configs, found, **options):
    """The workflow of converted weights, initialised, with the sizes that were found in them."""
    return started(bundle, configs, **overrides([str(bundle / "configs" / name) for name in configs], found), **options)


def recorded(network):
    """The images that are encoded and what the decoder answers, both filled as the network is used."""
    shown, answers = [], []
    encode, decode = network.encode, network.decode
    network.encode = lambda image: shown.append(image) or encode(image)
    network.decode = lambda *given, **more: answers.append(decode(*given, **more)) or answers[-1]
    return shown, answers


@pytest.fixture
def run_published(fastsam3d_path, tmp_path):
    """The bundle's inference with overlays: ``run(kind, settings, weights, **options) -> (Recorder, summary)``."""

    def run(kind, settings, weights, **options):
        workflow = converted(
            fastsam3d_path,
            KINDS[kind].configs,
            settings,
            ckpt_path=weights,
            output_dir=tmp_path / "eval",
            preview=False,
            device="cpu",
            **{"inferer#progress": False},
            **options,
        )
        recorder = Recorder(workflow.parser.get_parsed_content("network"))
        workflow.run()
        workflow.finalize()
        return recorder, json.loads(next((tmp_path / "eval").glob("*.json")).read_text())

    return run


@pytest.mark.parametrize("kind", ["fastsam3d", "sammed3d"])
def test_the_whole_workflow_of_fastsam3d(kind, golden, publish, convert, volume, run_published):
    """From a published file to logits: those of the reference networks put together by hand."""
    parts = golden("fastsam3d_student_dense" if kind == "fastsam3d" else "sammed3d_image_encoder")
    prompts = golden("sammed3d_prompt_decoder")
    state = {**{f"image_encoder.{k}": v for k, v in parts.state.items()}, **prompts.state}
    assert convert(publish(state, prefix="module."), "--kind", kind)[0] == 0
    settings = getattr(volumes, kind)(state).network
    weights = volume.parent / "out" / "converted.pt"
    recorder, summary = run_published(
        kind, settings, weights, image=str(volume), foreground=[[30, 33, 31]], background=[[33, 33, 31]]
    )
    cube, (points, labels, masks), logits = recorder.cubes[0], recorder.prompts[0], recorder.logits[0]
    close(cube[0], shown(volume, [30, 33, 31]))
    assert labels.tolist() == [[1]]
    assert masks is None
    config = dict(parts.config)
    if kind == "fastsam3d":
        config.pop("use_rel_pos"), config.pop("window_size")
    encoder = (PublishedStudent3D if kind == "fastsam3d" else ImageEncoder3D)(**config)
    encoder.load_state_dict(parts.state)
    prompt_encoder = PromptEncoder3D(48, 16, code=SwappedFourierCode(48))
    decoder = MaskDecoder3D(48, 2, 8, 2048, 3, 3, 32)
    prompt_encoder.load_state_dict(volumes.part(prompts.state, "prompt_encoder"))
    decoder.load_state_dict(volumes.part(prompts.state, "mask_decoder"))
    with torch.no_grad():
        # The first click with an empty mask, as SAM-Med3D is used.
        sparse, dense = prompt_encoder((64,) * 3, (8,) * 3, points, labels, masks=torch.zeros(1, 1, 32, 32, 32))
        expected, _ = decoder(encoder(cube), prompt_encoder.pe_layer.grid((8, 8, 8)), sparse, dense)
    close(logits, expected)
    # The second click is shown with the first one and with the mask so far, once: rounds is 1.
    assert recorder.prompts[1][1].tolist() == [[1, 0]]
    close(recorder.prompts[1][2], logits.clamp(-10, 10))
    assert summary["decoder_calls"] == len(recorder.logits)


def test_the_configured_network_gives_the_reference_outputs(golden_student, fastsam3d_path, convert, publish, tmp_path):
    """The network that the overlay makes, with the references' own inputs."""
    state, encoder, decoder = golden_student
    assert convert(publish(state))[0] == 0
    workflow = converted(fastsam3d_path, KINDS["fastsam3d"].configs, volumes.fastsam3d(state).network)
    network = workflow.parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(tmp_path / "out" / "converted.pt", weights_only=True))
    gives_the_reference_outputs(network, encoder, decoder)


@pytest.mark.parametrize(
    ("attention", "form"),
    [("StridedGroupAttention", "fastsam3d_student_sparse_flash"), ("RelativeAttention", "fastsam3d_student_dense")],
)
def test_the_form_of_attention_is_one_word_of_the_configuration(attention, form, golden, fastsam3d_path):
    reference = golden(form)
    settings = {"image_encoder": volumes.student_settings(reference.state)}
    form = {"network_def#image_encoder#attention#_target_": f"scripts.networks.published.{attention}"}
    workflow = converted(fastsam3d_path, KINDS["fastsam3d"].configs, settings, **form)
    encoder = workflow.parser.get_parsed_content("network_def").image_encoder
    encoder.load_state_dict(reference.state)
    with torch.no_grad():
        ours = encoder(reference.inputs["image"])
    expected = reference.outputs["embedding"]
    assert (ours - expected).abs().max() <= reference.tolerance * expected.abs().max()


def options(folder):
    """Of ssam_2d, for the picture and the weights in a folder."""
    paths = {"ckpt_path": folder / "out" / "converted.pt", "image": folder / "image.png", "output_dir": folder / "eval"}
    return {**paths, "device": "cpu", "overlay": False}


def test_the_whole_workflow_of_ssam_2d(ssam, publish, convert, ssam_2d_path, tmp_path):
    """From a checkpoint of the S-SAM code to probabilities: those of the published network."""
    generator = torch.Generator().manual_seed(7)
    features = {"gland": torch.randn(20, generator=generator), "lumen": torch.randn(20, generator=generator)}
    (tmp_path / "features.json").write_text(json.dumps({name: value.tolist() for name, value in features.items()}))
    status, _, text = convert(publish(ssam, ""), "--labels", tmp_path / "features.json")
    assert status == 0, text
    assert "--image_size 32" in text and "--text_dim" not in text
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    workflow = converted(
        ssam_2d_path,
        KINDS["ssam"].configs,
        ssam_kind.ssam(ssam).network,
        **options(tmp_path),
        # No shape shows how many heads there are; these weights were not made with the published number.
        **{"network_def#mask_decoder#transformer#num_heads": 4},
    )
    shown, logits = recorded(workflow.parser.get_parsed_content("network"))
    workflow.run()
    workflow.finalize()
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    close(shown[0], torch.from_numpy(((pixels - mean) / std).transpose(2, 0, 1)[None]).float())
    encoder = PublishedImageEncoder(32, 8, 24, 2, 12, 16, 2)
    encoder.load_state_dict(volumes.part(ssam, "sam_encoder"))
    decoder = PublishedTextDecoder(16, 4, 32, 8, 20, 2, 32, 4, 3, 3, 16).eval()
    decoder.load_state_dict({k: v for k, v in ssam.items() if not k.startswith(("sam_encoder", "clip_model"))})
    with torch.no_grad():
        masks, _ = decoder(encoder(shown[0]).expand(2, -1, -1, -1), torch.stack(list(features.values())))
    close(torch.cat([rows for rows, _ in logits], dim=1)[0], masks[:, 0])
    summary = json.loads((tmp_path / "eval" / "image_seg.json").read_text())
    assert "gland" in json.dumps(summary)


def test_a_converted_sam_takes_boxes_at_once(sam, publish, convert, ssam_2d_path, tmp_path):
    """The printed command, small: what SAM itself says of the box."""
    assert convert(publish(sam, ""))[0] == 0
    settings = images.sam(sam).network
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "image.png")
    workflow = converted(
        ssam_2d_path,
        ("inference.json", "vit_b.json"),
        settings,
        **options(tmp_path),
        box=[10, 12, 40, 50],
        image_size=64,
        **{"network_def#text_affine#embed_dim": 16},
    )
    shown, logits = recorded(workflow.parser.get_parsed_content("network"))
    workflow.run()
    workflow.finalize()
    transformer = TwoWayTransformer(**settings["mask_decoder#transformer"])
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    encoder = ImageEncoderViT(**settings["image_encoder"], use_rel_pos=True, norm_layer=norm)
    prompts = PromptEncoder(**settings["prompt_encoder"])
    decoder = MaskDecoder(**settings["mask_decoder"], transformer=transformer)
    for name, part in ("image_encoder", encoder), ("prompt_encoder", prompts), ("mask_decoder", decoder):
        part.load_state_dict(volumes.part(sam, name))
    with torch.no_grad():
        sparse, dense = prompts(None, torch.tensor([[10.0, 12, 40, 50]]), None)
        expected, _ = decoder(encoder(shown[0]), prompts.get_dense_pe(), sparse, dense, multimask_output=False)
    close(logits[0][0][0], expected[0])
    assert (tmp_path / "eval" / "image_seg.png").is_file()
