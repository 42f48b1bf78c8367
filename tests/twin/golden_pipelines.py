#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/pipelines.safetensors: pictures that diffusers' pipelines draw with two small models of Stable Diffusion's
structure, for tests/golden/test_golden_pipelines.cpp.

    pip install torch numpy diffusers==0.42.1 transformers peft
    python3 tests/twin/golden_pipelines.py tests/golden

Weights are not stored: `weight` below gives them by their names, and so does the test. Metadata hold the tokenizer's files and,
for each picture, how it was drawn."""
import json
from pathlib import Path
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import diffusers  # noqa: E402
from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: E402
import numpy  # noqa: E402
import PIL.Image  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
import torch  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: E402

from full_size import write_tokenizer  # noqa: E402
from pipelines import DDIM, DPM_KARRAS, EULER_A, LCM, PNDM, TURBO, decibels, picture_to_edit, pipeline, scheduler_of  # noqa: E402

HEIGHT, WIDTH, LENGTH = 32, 48, 16
PROMPT, NEGATIVE, SEED = "the cat's photo", "a hat", 11
UNET = dict(block_out_channels=(16, 32), layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), sample_size=16,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=2, cross_attention_dim=16, norm_num_groups=4)
VAE = dict(block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=32,
           down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
TEXT = dict(vocab_size=526, hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, hidden_act="quick_gelu",
            max_position_embeddings=LENGTH)
SCALES = {"unet.conv_out.weight": 3.0, "vae.encoder.conv_out.weight": 3.0, "vae.decoder.conv_out.weight": 0.5}


def weight(name, shape):
    """Numbers of mean 0 and variance 1 by a hash of the name and the place, scaled by the fan-in; norms' scales are around 1."""
    h = 2166136261
    for c in name.encode():
        h = (h ^ c) * 16777619 & 0xFFFFFFFF
    x = (h + numpy.arange(int(numpy.prod(shape)), dtype=numpy.uint64) * 0x9E3779B9) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> numpy.uint64(shift))) * numpy.uint64(factor) & numpy.uint64(0xFFFFFFFF)
    x ^= x >> numpy.uint64(16)
    u = ((x >> numpy.uint64(8)).astype(numpy.float64) / 2**24 - 0.5) * 12**0.5
    if len(shape) == 1:
        u = 0.2 * u + (1.0 if name.endswith("weight") else 0.0)
    elif "embedding.weight" in name:
        u *= 0.5
    else:
        u *= SCALES.get(name, 1.0) / numpy.sqrt(numpy.prod(shape[1:]))
    return torch.from_numpy(u.astype(numpy.float32).reshape(shape))


def filled(part, module):
    with torch.no_grad():
        for name, p in module.named_parameters():
            prefix = "text_model." if part == "text_encoder" and not name.startswith("text_model.") else ""
            p.copy_(weight(f"{part}.{prefix}{name}", tuple(p.shape)))
    return module.eval()


class Networks:
    def __init__(self, inputs):
        self.unet = filled("unet", UNet2DConditionModel(**UNET, in_channels=inputs))
        self.text = filled("text_encoder", CLIPTextModel(CLIPTextConfig(**TEXT)))
        self.vae = filled("vae", AutoencoderKL(**VAE))


CASES = {
    **{name: dict(scheduler=s, steps=6, guidance=5.0) for name, s in
       {"pndm": PNDM, "ddim": DDIM, "euler_ancestral": EULER_A, "dpm_karras": DPM_KARRAS}.items()},
    "one_step": dict(scheduler=TURBO, steps=1, guidance=0.0),
    "lcm": dict(scheduler=LCM, steps=4, guidance=1.0),
    "image_to_image": dict(scheduler=DDIM, steps=6, guidance=5.0, strength=0.6),
    "image_to_image_euler_ancestral": dict(scheduler=EULER_A, steps=6, guidance=5.0, strength=0.6),
    "inpaint": dict(scheduler=PNDM, steps=6, guidance=5.0, strength=1.0, inpaint=True),
    "inpaint_euler_ancestral": dict(scheduler=EULER_A, steps=6, guidance=5.0, strength=0.7, inpaint=True),
    "inpainting_model": dict(scheduler=EULER_A, steps=6, guidance=5.0, strength=1.0, inpaint=True, inputs=9),
    "inpainting_model_weaker": dict(scheduler=DDIM, steps=6, guidance=5.0, strength=0.7, inpaint=True, inputs=9),
}


@torch.inference_mode()
def draw(c, tokenizer, picture, mask, seed=SEED, prompt=PROMPT):
    kind = (diffusers.StableDiffusionInpaintPipeline if c.get("inpaint") else
            diffusers.StableDiffusionImg2ImgPipeline if "strength" in c else diffusers.StableDiffusionPipeline)
    networks = Networks(c.get("inputs", 4))
    pipe = pipeline(kind, networks, tokenizer, scheduler_of(*c["scheduler"], "epsilon"), networks.vae)
    pipe.set_progress_bar_config(disable=True)
    more = {"strength": c["strength"], "image": PIL.Image.fromarray(picture)} if "strength" in c else {}
    more |= {"mask_image": PIL.Image.fromarray(mask)} if c.get("inpaint") else {}
    more |= {"height": HEIGHT, "width": WIDTH} if c.get("inpaint") or "strength" not in c else {}
    rgb = numpy.asarray(pipe(prompt, negative_prompt=NEGATIVE, num_inference_steps=c["steps"], guidance_scale=c["guidance"],
                             generator=torch.Generator("cpu").manual_seed(seed), **more).images[0])
    return numpy.where(mask >= 128, rgb, picture) if c.get("inpaint") else rgb


def main():
    diffusers.utils.logging.set_verbosity_error()
    picture, mask = picture_to_edit(WIDTH, HEIGHT)
    tensors, metadata = {"picture": picture, "mask": mask}, {"prompt": PROMPT, "negative": NEGATIVE, "seed": str(SEED)}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "tokenizer"
        write_tokenizer(folder, "<|endoftext|>", False)
        tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH)
        for name in ("vocab.json", "merges.txt"):
            metadata[name] = (folder / name).read_text("utf-8")
        for name, c in CASES.items():
            tensors[name] = draw(c, tokenizer, picture, mask)
            others = [draw(c, tokenizer, picture, mask, seed=12), draw(c, tokenizer, picture, mask, prompt="of photos")]
            print(f"{name:32s} deviation {tensors[name].std():.0f}, other seed {decibels(tensors[name], others[0]):.0f} dB, "
                  f"prompt {decibels(tensors[name], others[1]):.0f} dB")
            kind, config = c["scheduler"]
            text = scheduler_of(kind, config, "epsilon").to_json_string()  # as scheduler_config.json has it, which may be no JSON
            metadata[name] = json.dumps({"scheduler": text} | {k: v for k, v in c.items() if k != "scheduler"})
    save_file(tensors, Path(sys.argv[1]) / "pipelines.safetensors", metadata)


if __name__ == "__main__":
    main()
