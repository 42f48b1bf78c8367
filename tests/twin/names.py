#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/stable_diffusion_names.txt: every tensor of Stable Diffusion 1.5 with its shape, as diffusers and
transformers build it from the published configuration. One line a tensor: part, name, dimensions."""
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

with torch.device("meta"):
    parts = {
        "unet": UNet2DConditionModel(
            sample_size=64,
            cross_attention_dim=768,
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=8,
        ),
        "vae": AutoencoderKL(
            sample_size=512,
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408,
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                max_position_embeddings=77,
            )
        ),
    }

with open(sys.argv[1], "w") as out:
    for part, model in parts.items():
        for name, tensor in model.state_dict().items():
            if name.endswith("position_ids"):
                continue  # a constant that old releases stored
            if part == "text_encoder" and not name.startswith("text_model."):
                name = "text_model." + name  # transformers 5 dropped the prefix that published files have
            print(part, name, *tensor.shape, file=out)
