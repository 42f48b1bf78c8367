# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/sdxl.safetensors: a Stable Diffusion XL in small with random weights, and what diffusers' pipeline draws
with it: latents and pictures, channels last.

    sdxl.py [FOLDER]

The file holds the folder that the pipeline saves: tensors by their files' folder, and its JSON files as metadata."""
import json
from pathlib import Path
import sys
import tempfile

import diffusers
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
import torch
import transformers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import twin

# As tests/io/clip_files.hpp.
TOKENS = ["!", "a", "c", "d", "e", "f", "r", "s", "t", "'", "Ã", "a</w>", "c</w>", "d</w>", "s</w>", "t</w>", "1</w>", "2</w>",
          ",</w>", "©</w>", "ł</w>", "re", "red</w>", "ca", "cat</w>", "aa", "'s</w>", "<|startoftext|>", "<|endoftext|>"]
MERGES = "#version: 0.2\nr e\nre d</w>\nc a\nca t</w>\na a\n' s</w>\n"
NOISE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


def tokenizer(folder, pad):
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(TOKENS)}), "utf-8")
    (folder / "merges.txt").write_text(MERGES, "utf-8")
    return CLIPTokenizer.from_pretrained(folder, pad_token=pad, model_max_length=7)


def text_config(**more):
    return CLIPTextConfig(vocab_size=29, max_position_embeddings=7, bos_token_id=27, eos_token_id=28, pad_token_id=28, **more)


def scale(layer, output, wanted):
    factor = wanted / output.std().item()
    layer.weight.mul_(factor)
    layer.bias.mul_(factor)


@torch.inference_mode()
def make(work):
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=[1, 2],
        cross_attention_dim=40, transformer_layers_per_block=[1, 2], use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=12 + 6 * 256)
    vae = AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4, scaling_factor=0.13025,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
    first = CLIPTextModel(text_config(
        hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, hidden_act="quick_gelu"))
    second = CLIPTextModelWithProjection(text_config(
        hidden_size=24, intermediate_size=96, num_hidden_layers=3, num_attention_heads=3, hidden_act="gelu", projection_dim=12))
    for seed, module in enumerate((unet, vae, first, second), 1):
        twin.randomize(module, seed).eval()
    generator = torch.Generator().manual_seed(5)
    random = lambda *shape: torch.randn(shape, generator=generator)
    noise = random(1, 4, 4, 8)
    sizes = torch.tensor([[8.0, 16, 0, 0, 8, 16]])
    seen = unet(noise, 500, random(1, 7, 40), added_cond_kwargs={"text_embeds": random(1, 12), "time_ids": sizes}).sample
    scale(unet.conv_out, seen, 1.0)
    scale(vae.decoder.conv_out, vae.decode(noise / 0.13025).sample, 0.4)
    for module in (unet, vae, first, second):
        module.half().float()

    pipe = StableDiffusionXLPipeline(
        vae=vae, text_encoder=first, text_encoder_2=second, tokenizer=tokenizer(work / "1", "<|endoftext|>"),
        tokenizer_2=tokenizer(work / "2", "!"), unet=unet, scheduler=EulerDiscreteScheduler(**NOISE), add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    turbo = EulerAncestralDiscreteScheduler(**NOISE, timestep_spacing="trailing")
    tensors = {"noise": noise.permute(0, 2, 3, 1).contiguous()}

    def draw(name, zeros=True, **request):
        pipe.register_to_config(force_zeros_for_empty_prompt=zeros)
        for output, kind in (("latents", "latent"), ("picture", "np")):
            made = pipe("a cat", height=8, width=16, latents=noise.clone(), output_type=kind, **request).images
            tensors[f"{name}/{output}"] = (made.permute(0, 2, 3, 1) if output == "latents" else torch.from_numpy(made)).contiguous()

    guided = dict(num_inference_steps=3, guidance_scale=5.0)
    draw("empty", **guided)
    draw("empty_encoded", zeros=False, **guided)
    draw("negative", negative_prompt="red", **guided)
    pipe.register_to_config(force_zeros_for_empty_prompt=True)
    pipe.to(torch.float16).save_pretrained(work / "saved")
    turbo.save_pretrained(work / "turbo")
    pipe.to(torch.float32)
    pipe.scheduler = turbo
    draw("turbo", num_inference_steps=1, guidance_scale=0.0)
    assert min(t.std() for k, t in tensors.items() if k.endswith("picture")) > 0.1
    files = {}
    for path in sorted((work / "saved").rglob("*")):
        name = str(path.relative_to(work / "saved"))
        if path.suffix == ".safetensors":
            tensors |= {f"{name.split('/')[0]}/{k}": t for k, t in load_file(path).items()}
        elif path.suffix in (".json", ".txt"):
            files[name] = path.read_text("utf-8")
    files["turbo"] = (work / "turbo" / "scheduler_config.json").read_text()
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, diffusers, transformers))
    return tensors, {"files": json.dumps(files, sort_keys=True), "made_with": versions}


if __name__ == "__main__":
    torch.set_num_threads(1)
    path = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "../golden") / "sdxl.safetensors"
    with tempfile.TemporaryDirectory() as work:
        save_file(*(lambda made: (made[0], path, made[1]))(make(Path(work))))
    print(f"{path.name}: {path.stat().st_size} bytes")
