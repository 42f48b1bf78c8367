#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/ldm_names.txt: the tensors of one-file checkpoints of the LDM layout, with their shapes, and what diffusers
and transformers call them.

    ldm_names.py STABLEDIFFUSION DIFFUSERS GENERATIVE_MODELS OUT

The names are not derived by rules of ours. Those of the layout come from its own code: STABLEDIFFUSION is a checkout of
Stability-AI/stablediffusion, whose UNetModel, Encoder and Decoder are built here in the published sizes, GENERATIVE_MODELS one of
Stability-AI/generative-models, whose UNetModel is Stable Diffusion XL's, and open_clip_torch. What
diffusers calls them comes from its reader of such files, which is run on small models of the same structure whose tensors hold
their own number. The files that diffusers' own script writes number their blocks otherwise: for them, DIFFUSERS is a checkout of
huggingface/diffusers, whose script is run on its own models. Needs torch, diffusers, transformers, einops, omegaconf, open_clip_torch.

A section begins with "= NAME". A line is a tensor, in the order of the layout's names: how many characters the name shares with
that of the line before, the rest of it, the same of diffusers' name, dimensions. A tensor that becomes three has three lines."""
import contextlib
import importlib.util
import io
import sys
import types

import torch

with contextlib.redirect_stdout(io.StringIO()):
    sys.path.insert(0, sys.argv[1])
    import open_clip
    from ldm.modules.diffusionmodules.model import Decoder, Encoder
    from ldm.modules.diffusionmodules.openaimodel import UNetModel
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as reader
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

for name in ("sgm", "sgm.modules"):  # without what their own __init__ asks for
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [f"{sys.argv[3]}/{name.replace('.', '/')}"]
from sgm.modules.diffusionmodules.openaimodel import UNetModel as XlUNetModel  # noqa: E402

spec = importlib.util.spec_from_file_location(
    "script", sys.argv[2] + "/scripts/convert_diffusers_to_original_stable_diffusion.py"
)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def numbered(names, shapes):
    """Tensors that hold their own number, and in thirds of their rows also which."""
    out = {}
    for i, name in enumerate(names):
        t = torch.full(shapes[name], float(4 * i))
        if name.endswith(("in_proj_weight", "in_proj_bias")):
            rows = t.shape[0] // 3
            t[rows : 2 * rows] += 1
            t[2 * rows :] += 2
        out[name] = t
    return out


def pairs(small, read):
    """(name of the layout, third or None, name of diffusers) for every tensor that the reader takes."""
    names = sorted(small)
    out = []
    for diffusers, value in read(numbered(names, small)).items():
        number = int(value.flatten()[0])
        assert bool((value == number).all()), diffusers
        name = names[number // 4]
        out.append((name, number % 4, diffusers))
    return sorted(out)


def shapes_of(state):
    return {name: tuple(t.shape) for name, t in state.items()}


def ldm_unet(width, context, levels, resnets, linear):
    with torch.device("meta"):
        model = UNetModel(
            image_size=32,
            in_channels=4,
            out_channels=4,
            model_channels=width,
            attention_resolutions=[4, 2, 1],
            num_res_blocks=resnets,
            channel_mult=[1, 2, 4, 4][:levels],
            num_heads=8,
            use_spatial_transformer=True,
            use_linear_in_transformer=linear,
            transformer_depth=1,
            context_dim=context,
            legacy=False,
        )
    return {"model.diffusion_model." + k: s for k, s in shapes_of(model.state_dict()).items()}


def unet_section(context, levels, resnets, linear):
    config = {"layers_per_block": resnets}
    small = pairs(
        ldm_unet(32, 32, levels, resnets, linear), lambda c: reader.convert_ldm_unet_checkpoint(c, dict(config))
    )
    full = ldm_unet(320, context, levels, resnets, linear)
    assert len(small) == len(full)
    return [(name, diffusers, full[name]) for name, _, diffusers in small]


def xl_unet_section():
    def ldm(width, context, pooled):
        with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
            model = XlUNetModel(
                in_channels=4,
                out_channels=4,
                model_channels=width,
                attention_resolutions=[4, 2],
                num_res_blocks=2,
                channel_mult=[1, 2, 4],
                num_head_channels=32 if width == 32 else 64,
                use_linear_in_transformer=True,
                transformer_depth=[1, 2, 10],
                context_dim=context,
                num_classes="sequential",
                adm_in_channels=pooled,
            )
        return {"model.diffusion_model." + k: s for k, s in shapes_of(model.state_dict()).items()}

    config = {"layers_per_block": 2, "class_embed_type": None, "addition_embed_type": "text_time"}
    small = pairs(ldm(32, 32, 32), lambda c: reader.convert_ldm_unet_checkpoint(c, dict(config)))
    full = ldm(320, 2048, 2816)
    assert len(small) == len(full)
    return [(name, diffusers, full[name]) for name, _, diffusers in small]


def script_section(context, levels, resnets):
    """As diffusers' script writes a UNet of its own."""
    widths = (320, 640, 1280, 1280)[:levels]
    down = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    with torch.device("meta"):
        model = UNet2DConditionModel(
            block_out_channels=widths,
            layers_per_block=resnets,
            cross_attention_dim=context,
            attention_head_dim=8,
            down_block_types=down[:levels],
            up_block_types=up[4 - levels :],
            mid_block_type="UNetMidBlock2DCrossAttn" if levels == 4 else None,
        )
    shapes = shapes_of(model.state_dict())
    written = script.convert_unet_state_dict({k: (k, s) for k, s in shapes.items()})
    return sorted(("model.diffusion_model." + name, k, s) for name, (k, s) in written.items())


def vae_section():
    def ldm(width):
        c = dict(
            double_z=True, z_channels=4, resolution=256, in_channels=3, out_ch=3, ch=width, ch_mult=[1, 2, 4, 4],
            num_res_blocks=2, attn_resolutions=[], dropout=0.0,
        )  # fmt: skip
        with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
            parts = torch.nn.ModuleDict(
                {
                    "encoder": Encoder(**c),
                    "decoder": Decoder(**c),
                    "quant_conv": torch.nn.Conv2d(8, 8, 1),
                    "post_quant_conv": torch.nn.Conv2d(4, 4, 1),
                }
            )
        return {"first_stage_model." + k: s for k, s in shapes_of(parts.state_dict()).items()}

    with torch.device("meta"):
        kl = AutoencoderKL(
            block_out_channels=(32, 64, 128, 128),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
    small = pairs(ldm(32), lambda c: reader.convert_ldm_vae_checkpoint(c, kl.config))
    full = ldm(128)
    assert len(small) == len(full)
    return [(name, diffusers, full[name]) for name, _, diffusers in small]


def open_clip_section(prefix, kind, full_width, layers, kept):
    """kept: layers that diffusers reads; kind: transformers' class."""

    def ldm(width):
        config = dict(
            embed_dim=width,
            vision_cfg=dict(image_size=32, layers=1, width=64, head_width=64, patch_size=16),
            text_cfg=dict(context_length=77, vocab_size=49408, width=width, heads=width // 64, layers=layers),
        )
        with torch.device("meta"):
            model = open_clip.CLIP(**config)
        del model.visual  # as the layout's code does
        return {prefix + k: s for k, s in shapes_of(model.state_dict()).items()}

    def read(checkpoint):
        with torch.device("meta"):
            text = kind(CLIPTextConfig(hidden_size=64, num_hidden_layers=kept, projection_dim=64))
        found = reader.convert_open_clip_checkpoint(text, checkpoint, prefix=prefix)
        return {k: v for k, v in found.items() if k != "text_projection.weight" or kept == layers}

    small = ldm(64)
    full = ldm(full_width)
    assert small.keys() == full.keys()
    taken = pairs(small, read)
    known = {name for name, _, _ in taken}
    out = []
    for name, third, diffusers in taken:
        shape = full[name]
        if "in_proj" in name:
            assert third == "qkv".index(diffusers[diffusers.index("_proj.") - 1]), diffusers
            shape = (shape[0] // 3, *shape[1:])
        out.append((name, diffusers, shape))
    return sorted(out + [(name, "-", full[name]) for name in full if name not in known])


def shared(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


sections = {
    "sd15": unet_section(768, 4, 2, False),
    "sd21_base": unet_section(1024, 4, 2, True),
    "bk_sdm_base": unet_section(768, 4, 1, False),
    "bk_sdm_tiny": unet_section(768, 3, 1, False),
    "bk_sdm_base by script": script_section(768, 4, 1),
    "bk_sdm_tiny by script": script_section(768, 3, 1),
    "vae": vae_section(),
    "open_clip": open_clip_section("cond_stage_model.model.", CLIPTextModel, 1024, 24, 23),
    "sdxl": xl_unet_section(),
    "sdxl open_clip": open_clip_section("conditioner.embedders.1.model.", CLIPTextModelWithProjection, 1280, 32, 32),
}
with open(sys.argv[4], "w") as out:
    for section, tensors in sections.items():
        print("=", section, file=out)
        before = ("", "")
        for name, diffusers, shape in tensors:
            if name.startswith("model.diffusion_model.middle_block") and section == "bk_sdm_tiny":
                continue  # the layout's code cannot leave it out
            text = [f"{shared(a, b)} {b[shared(a, b):]}" for a, b in zip(before, (name, diffusers))]
            print(*text, *shape, file=out)
            before = (name, diffusers)
        print(section, len(tensors), file=sys.stderr)
