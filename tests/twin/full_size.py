# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion's family at full size against diffusers and transformers, on demand:

    cmake -S . -B build && python tests/twin/full_size.py --build build --preset sd15

Lets diffusers and transformers build the published configuration with seeded random weights and save it as a folder of their
layout (--dtype, --shard-size, --variant), loads it with both sides, and compares a UNet pass, the encoder, the decoder, the text
encoder (relative error, max |a - b| / max |b|) and a prompt's tokens. Exits with 1 above 1e-4. Ours and the reference compute in
fp32, both from the weights as they are stored. Up to 10 GB of memory and, for the files, 6 GB of disk. With --one-file, ours reads
the same model out of a one-file checkpoint, which diffusers' own script writes from the folder.
"""
import argparse
import gc
import json
from pathlib import Path
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: E402
import torch  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import on_demand  # noqa: E402
import twin  # noqa: E402

LIMIT = 1e-4
PROMPT = "A photograph of the 2 cats, it's late at night!"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
VAE = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, norm_num_groups=32, sample_size=512,
           down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
CLIP_L = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu",
              projection_dim=768)
OPEN_CLIP_H = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu",
                   projection_dim=512)


def sd_unet(layers=2, levels=4, **changes):
    """As the unet/config.json of the published models; levels=3: without the lowest, whose blocks have no attention."""
    down = (("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))[:levels]
    up = (("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)[4 - levels:]
    return dict(sample_size=64, block_out_channels=(320, 640, 1280, 1280)[:levels], layers_per_block=layers, down_block_types=down,
                up_block_types=up, cross_attention_dim=768, attention_head_dim=8) | changes


# Parameters of the UNets: those of the published models.
PRESETS = {
    "sd15": dict(unet=sd_unet(), text=CLIP_L, pad="<|endoftext|>", prediction="epsilon", parameters=859_520_964),
    "sd21_base": dict(unet=sd_unet(cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True),
                 text=OPEN_CLIP_H, pad="!", prediction="epsilon", parameters=865_910_724),
    "bk_sdm_base": dict(unet=sd_unet(1), text=CLIP_L, pad="<|endoftext|>", prediction="epsilon", parameters=579_384_964),
    "bk_sdm_small": dict(unet=sd_unet(1, mid_block_type=None), text=CLIP_L, pad="<|endoftext|>", prediction="epsilon",
                         parameters=482_346_884),
    "bk_sdm_tiny": dict(unet=sd_unet(1, 3, mid_block_type=None), text=CLIP_L, pad="<|endoftext|>", prediction="epsilon",
                        parameters=323_384_964),
}


def write_tokenizer(folder, pad, one_file):
    """CLIP's alphabet and a few merges of our own, as vocab.json and merges.txt or as transformers 5 saves them, in one file."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    merges = ["t h", "th e</w>", "a t", "c at", "cat s</w>", "p h", "o t", "ph ot", "o f</w>", "' s</w>", "n i", "t e</w>"]
    tokens = letters + [x + "</w>" for x in letters] + [m.replace(" ", "") for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    vocab, text = folder / "vocab.json", folder / "merges.txt"
    vocab.write_text(json.dumps({t: i for i, t in enumerate(tokens)}), "utf-8")
    text.write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    CLIPTokenizer.from_pretrained(folder, pad_token=pad).save_pretrained(folder)
    if one_file:
        vocab.unlink()
        text.unlink()
        if not (folder / "tokenizer.json").exists():
            raise SystemExit("--tokenizer-json: this version of transformers writes none")


def write_model(folder, preset, dtype, saving, tokenizer_json):
    p = PRESETS[preset]
    makers = {"unet": lambda: UNet2DConditionModel(**p["unet"]), "vae": lambda: AutoencoderKL(**VAE),
              "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**p["text"]))}
    for seed, (part, make) in enumerate(makers.items(), 1):
        module = twin.randomize(make(), seed)
        parameters = sum(x.numel() for x in module.parameters())
        if part == "unet" and parameters != p["parameters"]:
            raise SystemExit(f"{preset}: expected {p['parameters']} parameters of the UNet, found {parameters}")
        module.to(dtype).save_pretrained(folder / part, **saving)
    DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
                  prediction_type=p["prediction"]).save_pretrained(folder / "scheduler")
    write_tokenizer(folder / "tokenizer", p["pad"], tokenizer_json)


def write_one_file(folder, model, checkout, half):
    """The folder as one file of the LDM layout beside its tokenizer, by diffusers' script. That reads the names of transformers 4."""
    text = model / "text_encoder" / "model.safetensors"
    weights = load_file(text)
    save_file({k if k.startswith("text_model.") else "text_model." + k: v for k, v in weights.items()}, text, {"format": "pt"})
    script = checkout / "scripts" / "convert_diffusers_to_original_stable_diffusion.py"
    path = folder / "one" / "model.safetensors"
    shutil.copytree(model / "tokenizer", folder / "one" / "tokenizer")
    options = ["--use_safetensors"] + (["--half"] if half else [])
    subprocess.run([sys.executable, script, "--model_path", model, "--checkpoint_path", path, *options], check=True,
                   stdout=subprocess.DEVNULL)
    return path


def random_inputs(width):
    """Channels last; ids as of a caption of 20 tokens."""
    g = torch.Generator().manual_seed(7)
    ids = torch.randint(0, 49406, (1, 77), generator=g, dtype=torch.int32)
    ids[0, 0], ids[0, 21:] = 49406, 49407
    return {"ids": ids, "z": torch.randn(1, 64, 64, 4, generator=g), "timesteps": torch.tensor([431.0]),
            "context": torch.randn(1, 77, width, generator=g), "picture": 2 * torch.rand(1, 512, 512, 3, generator=g) - 1,
            "latents": torch.randn(1, 64, 64, 4, generator=g)}


@torch.inference_mode()
def reference(folder, inputs, variant):
    first = lambda x: x.permute(0, 3, 1, 2).contiguous()
    last = lambda x: x.permute(0, 2, 3, 1).contiguous()

    def load(kind, part, **options):
        gc.collect()  # the part before it
        return kind.from_pretrained(folder / part, variant=variant, torch_dtype=torch.float32, **options).eval()

    y = {"text": load(CLIPTextModel, "text_encoder")(inputs["ids"].long()).last_hidden_state}
    usual = {"low_cpu_mem_usage": False}  # True needs another package
    unet = load(UNet2DConditionModel, "unet", **usual)
    y["unet"] = last(unet(first(inputs["z"]), inputs["timesteps"], inputs["context"]).sample)
    del unet
    vae = load(AutoencoderKL, "vae", **usual)
    y["encoder"] = last(vae.encode(first(inputs["picture"])).latent_dist.parameters)
    y["decoder"] = last(vae.decode(first(inputs["latents"])).sample)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    y["tokens"] = torch.tensor([tokenizer(PROMPT, padding="max_length", max_length=77).input_ids], dtype=torch.int32)
    return y


def context_width(folder):
    return json.loads((folder / "text_encoder" / "config.json").read_text())["hidden_size"]


def compare(ours, theirs):
    good = True
    for part, y in theirs.items():
        if part == "tokens":
            same = torch.equal(ours[part], y)
            good &= same
            print(f"{part:8s} {'the same' if same else 'different: ' + str((ours[part].tolist(), y.tolist()))}")
            continue
        error = twin.relative_error(ours[part], y) if ours[part].shape == y.shape else float("inf")
        good &= error < LIMIT  # false for NaN
        print(f"{part:8s} relative error {error:.1e}, largest {y.abs().max():.3g}, shape {list(y.shape)}")
    return good


def run(args, folder):
    target = f"parity_{args.preset}"
    subprocess.run(["cmake", "--build", args.build, "--target", target], check=True, stdout=subprocess.DEVNULL)
    model = args.model or folder / "model"
    if not args.model:
        saving = {"max_shard_size": args.shard_size} if args.shard_size else {}
        write_model(model, args.preset, DTYPES[args.dtype], saving | ({"variant": args.variant} if args.variant else {}),
                    args.tokenizer_json)
    inputs = random_inputs(context_width(model))
    save_file(inputs, folder / "inputs.safetensors")
    theirs = reference(model, inputs, args.variant)
    gc.collect()
    outputs = folder / "outputs.safetensors"
    ours = write_one_file(folder, model, args.one_file, args.dtype == "fp16") if args.one_file else model
    subprocess.run([args.build / "tests" / target, ours, folder / "inputs.safetensors", outputs, PROMPT], check=True)
    shown = args.model.name if args.model else f"{args.dtype}, {len(list(model.glob('*/*.safetensors')))} files"
    print(f"{args.preset} ({shown})")
    return compare(load_file(outputs), theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(",")[0])
    parser.add_argument("--preset", choices=PRESETS, default="sd15")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="of the files")
    parser.add_argument("--shard-size", help="of the files, as 1GB; default: each network in one file")
    parser.add_argument("--variant", choices=["fp16", "bf16"], help="in the files' names, as diffusers' save_pretrained puts it")
    parser.add_argument("--tokenizer-json", action="store_true", help="no vocab.json and merges.txt, as transformers 5 saves it")
    parser.add_argument("--one-file", type=Path, metavar="DIFFUSERS",
                        help="ours reads one file of the LDM layout, by the script of this checkout of huggingface/diffusers")
    parser.add_argument("--model", type=Path, help="an existing folder of this preset instead of random weights")
    args = on_demand.parse(parser)
    if args.one_file and (args.model or args.variant or args.shard_size or args.dtype == "bf16"):
        parser.error("--one-file: the script reads whole networks of random weights in fp32 or fp16")
    return on_demand.run(args, run)


if __name__ == "__main__":
    sys.exit(main())
