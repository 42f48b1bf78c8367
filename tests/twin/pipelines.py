# SPDX-License-Identifier: Apache-2.0
"""Pictures of the Stable Diffusion family against diffusers' own, on demand:

    cmake -S . -B build && python tests/twin/pipelines.py --build build
    python tests/twin/pipelines.py --build build --full-size --family sd_turbo --draw 0

For each family, diffusers builds the published structure with seeded random weights, a tenth as wide (--full-size: as wide as
published), and saves it as a folder and, with --script, as one file of the LDM layout: --script names a copy of diffusers'
scripts/convert_diffusers_to_original_stable_diffusion.py, which its package does not contain. diffusers' pipeline and this
library draw the same requests from the same seeds; folders bring their scheduler_config.json, one-file checkpoints are drawn
with a sampler that the request names. Prints a table of peak signal-to-noise ratios in dB, over the bytes of the pictures, and
exits with 1 where one is below 60 (fp32), 40 (bf16) or 30 (int8).

Pictures of random weights may be much alike, so each model has controls for each kind of picture: the comparison with one thing
wrong must fail. diffusers' own picture of another seed must fail even as int8, of another prompt as bf16, and of another sampler
or without the adapter as fp32, ten decibels below its limit.

A random UNet does not predict noise, and the latents that it leaves are fifteen times as large as real ones, which TAESD clamps
at 3. So the last layer is not random alone: it is fitted so that the UNet takes noise for noise, see fit_to_noise.

What is set alike, since the two differ on purpose: the mask's edges lie on the grid of the latents (a place of the latents is
painted here if any of its pixels is, there if the first is), and of inpainted pictures only what is painted is compared (what is
not stays here as it was, and there as the autoencoder gives it back).
"""
import argparse
import contextlib
import importlib.util
import json
import math
import os
from pathlib import Path
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import diffusers  # noqa: E402
import numpy  # noqa: E402
import PIL.Image  # noqa: E402
import torch  # noqa: E402
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel  # noqa: E402
from peft import LoraConfig, inject_adapter_in_model  # noqa: E402
from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: E402
from peft.utils import get_peft_model_state_dict  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: E402

import on_demand  # noqa: E402
import twin  # noqa: E402
from full_size import CLIP_L, OPEN_CLIP_H, VAE, sd_unet, write_tokenizer  # noqa: E402

LIMITS = {"fp32": 60.0, "bf16": 40.0, "int8": 30.0}
PROMPT, NEGATIVE = "A photograph of the 2 cats, it's late at night!", "the photo of a cat's hat"

# Schedulers as the folders' files say, and as the models' cards make of them (from_config).
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PNDM = ("PNDMScheduler", {**NOISE, "skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1})
DDIM = ("DDIMScheduler", {**NOISE, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1})
EULER = ("EulerDiscreteScheduler", {**NOISE, "steps_offset": 1})
EULER_A = ("EulerAncestralDiscreteScheduler", {**NOISE, "steps_offset": 1})
DPM = ("DPMSolverMultistepScheduler", {**NOISE, "steps_offset": 1})
DPM_KARRAS = ("DPMSolverMultistepScheduler", {**NOISE, "steps_offset": 1, "use_karras_sigmas": True})
TURBO = ("EulerDiscreteScheduler", {**NOISE, "timestep_spacing": "trailing", "steps_offset": 1})
LCM = ("LCMScheduler", {**NOISE, "set_alpha_to_one": True, "steps_offset": 1, "original_inference_steps": 50})


def draw(scheduler, steps, guidance, **more):
    """more: strength and inpaint; lora; layout "ldm" with a sampler of this library; tiny_vae; prediction."""
    return dict(scheduler=scheduler, steps=steps, guidance=guidance) | more


def usual(guidance=7.5, steps=20):
    """Every sampler that cards of Stable Diffusion name, every layout, and what pictures can begin with."""
    one_file = {"layout": "ldm", "sampler": {"name": "euler", "spacing": "linspace"}}
    plain = ("EulerDiscreteScheduler", NOISE)
    return [
        *(draw(s, steps, guidance) for s in (PNDM, DDIM, EULER, EULER_A, DPM, DPM_KARRAS)),
        draw(plain, steps, guidance, **one_file),
        draw(DDIM, steps, guidance, lora=True),
        draw(plain, steps, guidance, lora=True, **one_file),
        draw(PNDM, steps, guidance, tiny_vae=True),
        *(draw(s, steps, guidance, strength=0.6) for s in (PNDM, DDIM, EULER, EULER_A, DPM_KARRAS)),
        draw(DDIM, steps, guidance, strength=0.6, tiny_vae=True),
        *(draw(s, steps, guidance, strength=1.0, inpaint=True) for s in (PNDM, DDIM, EULER_A, DPM_KARRAS)),
        draw(DDIM, steps, guidance, strength=0.8, inpaint=True),
    ]


def distilled():
    one_file = {"layout": "ldm", "sampler": {"name": "euler", "spacing": "linspace"}}
    return [draw(PNDM, 25, 7.5), draw(DPM, 25, 7.5), draw(("EulerDiscreteScheduler", NOISE), 20, 7.5, **one_file),
            draw(PNDM, 25, 7.5, tiny_vae=True), draw(PNDM, 25, 7.5, lora=True), draw(PNDM, 25, 7.5, strength=0.6)]


def paints():
    kinds = [(s, {}) for s in (PNDM, DDIM, EULER_A, DPM_KARRAS)] + [(PNDM, {"tiny_vae": True}), (DDIM, {"lora": True})]
    one_file = {"layout": "ldm", "sampler": {"name": "euler", "spacing": "linspace"}}
    return [draw(s, 20, 7.5, strength=1.0, inpaint=True, **more) for s, more in kinds] + [
        draw(s, 20, 7.5, strength=0.8, inpaint=True) for s in (PNDM, DDIM, EULER_A)] + [
        draw(("EulerDiscreteScheduler", NOISE), 20, 7.5, strength=1.0, inpaint=True, **one_file)]


def one_step():
    return [draw(DPM, 1, 0.0), draw(TURBO, 1, 0.0), draw(TURBO, 1, 0.0, lora=True),
            draw(TURBO, 1, 0.0, layout="ldm", sampler={"name": "euler", "spacing": "trailing"})]


SECOND = dict(cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True)
SECOND_OF_3 = SECOND | dict(attention_head_dim=(5, 10, 20))
SDXS = dict(down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))
TURBO_DRAWS = [draw(TURBO, 1, 0.0), draw(TURBO, 4, 0.0), draw(TURBO, 1, 0.0, tiny_vae=True), draw(TURBO, 4, 0.0, lora=True),
               draw(TURBO, 2, 0.0, strength=0.5), draw(TURBO, 4, 0.0, strength=1.0, inpaint=True),
               draw(TURBO, 4, 0.0, layout="ldm", sampler={"name": "euler", "spacing": "trailing"})]
LCM_DRAWS = [draw(LCM, 4, 8.0), draw(LCM, 1, 8.0), draw(LCM, 8, 8.0), draw(LCM, 4, 8.0, tiny_vae=True), draw(LCM, 4, 8.0, lora=True),
             draw(LCM, 4, 8.0, strength=0.5), draw(LCM, 4, 8.0, layout="ldm", sampler={"name": "lcm"})]
FAMILIES = {
    "sd15": dict(unet=sd_unet(), draws=usual()),
    "sd15_inpainting": dict(unet=sd_unet(in_channels=9), draws=paints()),
    "lcm_dreamshaper": dict(unet=sd_unet(time_cond_proj_dim=256), draws=LCM_DRAWS),
    "sd21_base": dict(unet=sd_unet(**SECOND), draws=usual()),
    "sd21": dict(unet=sd_unet(**SECOND, sample_size=96), prediction="v_prediction", draws=usual()),
    "sd_turbo": dict(unet=sd_unet(**SECOND), draws=TURBO_DRAWS),
    "sd2_inpainting": dict(unet=sd_unet(**SECOND, in_channels=9), draws=paints()),
    "bk_sdm_base": dict(unet=sd_unet(1), draws=distilled()),
    "bk_sdm_small": dict(unet=sd_unet(1, mid_block_type=None), draws=distilled()),
    "bk_sdm_tiny": dict(unet=sd_unet(1, 3, mid_block_type=None), draws=distilled()),  # and tiny-sd
    "bk_sdm_v2_base": dict(unet=sd_unet(1, **SECOND), draws=distilled()),
    "bk_sdm_v2_small": dict(unet=sd_unet(1, mid_block_type=None, **SECOND), draws=distilled()),
    "bk_sdm_v2_tiny": dict(unet=sd_unet(1, 3, mid_block_type=None, **SECOND_OF_3), draws=distilled()),
    "sdxs_512_dreamshaper": dict(unet=sd_unet(1, 3, mid_block_type=None, **SDXS), tiny_vae=True, draws=one_step()),
    "sdxs_512_09": dict(unet=sd_unet(1, 3, mid_block_type=None, only_cross_attention=(True, False, False),
                                     **SECOND | dict(attention_head_dim=(8, 8, 8))),  # IDKiro/sdxs-512-0.9, unet/config.json
                        tiny_vae=True, draws=one_step()),
}


def reduced(unet):
    """As reduced() in pipelines.cpp."""
    widths = tuple(w // 10 for w in unet["block_out_channels"])
    heads = unet["attention_head_dim"]
    eight = heads == 8 or set(heads) == {8}
    return unet | dict(block_out_channels=widths, norm_num_groups=8, cross_attention_dim={768: 64, 1024: 96}[unet["cross_attention_dim"]],
                       attention_head_dim=4 if eight else tuple(w // 16 for w in widths),
                       time_cond_proj_dim=32 if unet.get("time_cond_proj_dim") else None)


class Networks:
    """A family's, with random weights whose pictures are neither flat nor chaotic."""

    def __init__(self, family, full_size):
        self.prediction = family.get("prediction", "epsilon")
        unet, self.second = family["unet"], family["unet"]["cross_attention_dim"] == 1024
        text, vae, tiny = (OPEN_CLIP_H if self.second else CLIP_L), VAE, (64,) * 4
        side = 8 * unet["sample_size"]
        self.height, self.width = side, side
        if not full_size:
            self.height, self.width = 128, 192
            unet = reduced(unet)
            width = unet["cross_attention_dim"]
            text = text | dict(vocab_size=526, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=3, num_attention_heads=4)
            vae = vae | dict(block_out_channels=(32, 64, 128, 128), norm_num_groups=8, sample_size=128)
            tiny = (16,) * 4
        self.unet = twin.randomize(UNet2DConditionModel(**unet), 1).eval()
        self.text = twin.randomize(CLIPTextModel(CLIPTextConfig(**text)), 2).eval()
        self.vae = twin.randomize(AutoencoderKL(**vae), 3).eval()
        self.tiny_vae = twin.randomize(
            AutoencoderTiny(encoder_block_out_channels=tiny, decoder_block_out_channels=tiny), 4).eval()
        self.calibrate(unet)

    @torch.inference_mode()
    def calibrate(self, unet):
        g = torch.Generator().manual_seed(5)
        h, w = min(self.height, 256) // 8, min(self.width, 256) // 8
        z = torch.randn(1, 4, h, w, generator=g)
        for name, p in self.unet.named_parameters():
            if name.endswith("time_emb_proj.weight"):
                p.mul_(2)  # so that samplers' times count
            if ".conv2." in name or ".proj_out." in name:
                p.mul_(0.5)  # branches add to what passes beside them
        self.fit_to_noise(unet, h, w, g)
        picture = 2 * torch.rand(1, 3, 8 * h, 8 * w, generator=g) - 1
        scale(self.vae.encoder.conv_out, self.vae.encode(picture).latent_dist.parameters, 4.0)
        self.vae.quant_conv.weight[4:] *= 0.2  # the posterior is narrower than the latents are wide
        self.vae.quant_conv.bias[4:] = -2.0
        scale(self.vae.decoder.conv_out, self.vae.decode(z / 0.18215).sample, 0.4)
        for name, p in self.tiny_vae.named_parameters():
            if ".conv.4." in name:
                p.mul_(0.5)  # branches add to what passes beside them
        scale(self.tiny_vae.encoder.layers[-1], self.tiny_vae.encode(picture).latents, 1.0)
        scale(self.tiny_vae.decoder.layers[-1], self.tiny_vae.decode(3 * z).sample, 0.4)  # without norms, and latents are larger

    def fit_to_noise(self, unet, h, w, generator):
        """Makes the UNet's last layer a tenth of what it is, and adds what predicts the noise of latents that are normal numbers:
        sqrt(1 - abar) of what it sees (of v: 0, and the layer stays as large as v). Least squares, an error of x0 at one time
        as bad as at another."""
        abar = diffusers.DDIMScheduler(**NOISE).alphas_cumprod
        self.unet.conv_in.weight.mul_(2)
        for p in (self.unet.conv_norm_out.weight, self.unet.conv_norm_out.bias):
            p.mul_(0.2)  # where SiLU is all but linear
        layer, embedded, seen = self.unet.conv_out, unet.get("time_cond_proj_dim"), []
        hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        random = lambda *shape: torch.randn(shape, generator=generator)
        rows, targets, weights = [], [], []
        n = max(1, 1536 // (h * w))
        for t in range(999, 0, -120):
            z = random(n, 4, h, w)
            self.unet(torch.cat([z, random(n, unet.get("in_channels", 4) - 4, h, w)], 1), t, random(n, 77, unet["cross_attention_dim"]),
                      timestep_cond=random(n, embedded) if embedded else None)
            patches = torch.nn.functional.unfold(seen.pop(), 3, padding=1)
            rows.append(torch.cat([patches, torch.ones_like(patches[:, :1])], 1).transpose(1, 2).flatten(0, 1).double())
            targets.append((z * (1 - abar[t]).sqrt()).flatten(2).transpose(1, 2).flatten(0, 1).double())
            weights.append(((1 - abar[t]) / abar[t]).sqrt().double().expand(len(rows[-1]), 1))
        hook.remove()
        x, y, weight = torch.cat(rows), torch.cat(targets), torch.cat(weights)
        wanted = 0.1 if self.prediction == "epsilon" else 1.0
        layer.weight.mul_(wanted / (x[:, :-1] @ layer.weight.flatten(1).T.double()).std())
        layer.bias.zero_()
        if self.prediction == "epsilon":
            x, y = x * weight, y * weight
            squares = x.T @ x
            squares += 1e-6 * squares.diagonal().mean() * torch.eye(len(squares))
            fit = torch.linalg.solve(squares, x.T @ y).T.float()
            layer.weight += fit[:, :-1].reshape(layer.weight.shape)
            layer.bias += fit[:, -1]


def scale(layer, output, wanted):
    factor = wanted / output.std().item()
    layer.weight.mul_(factor)
    layer.bias.mul_(min(factor, 1.0))


def pipeline(kind, networks, tokenizer, scheduler, vae):
    return kind(vae=vae, text_encoder=networks.text, tokenizer=tokenizer, unet=networks.unet, scheduler=scheduler, safety_checker=None,
                feature_extractor=None, requires_safety_checker=False)


def scheduler_of(name, config, prediction):
    return getattr(diffusers, name)(**config, prediction_type=prediction)


def write_adapter(networks, path):
    """LoRA of attention, of feed-forward, of convolutions and of the text encoder, by PEFT, as diffusers saves it."""
    unet = LoraConfig(r=4, lora_alpha=6, init_lora_weights="gaussian",
                      target_modules=["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "proj_in", "conv1", "conv_shortcut"])
    text = LoraConfig(r=3, lora_alpha=3, target_modules=["q_proj", "v_proj", "fc1"])
    generator = torch.Generator().manual_seed(6)
    for module, config in ((networks.unet, unet), (networks.text, text)):
        inject_adapter_in_model(config, module)
        with torch.no_grad():
            for name, p in sorted(module.named_parameters()):
                if "lora_" in name:
                    p.copy_(0.5 * torch.randn(p.shape, generator=generator) / math.sqrt(p[0].numel()))
    diffusers.StableDiffusionPipeline.save_lora_weights(
        path.parent, unet_lora_layers=get_peft_model_state_dict(networks.unet),
        text_encoder_lora_layers=get_peft_model_state_dict(networks.text), weight_name=path.name,
        unet_lora_adapter_metadata=unet.to_dict(), text_encoder_lora_adapter_metadata=text.to_dict())


def adapters(networks, on):
    for module in [*networks.unet.modules(), *networks.text.modules()]:
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(on)


def write_one_file(networks, script, path, tiny):
    spec = importlib.util.spec_from_file_location("script", script)
    convert = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(convert)
    text = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in networks.text.state_dict().items()}
    with contextlib.redirect_stdout(None):
        parts = {"model.diffusion_model.": convert.convert_unet_state_dict(networks.unet.state_dict()),
                 "first_stage_model.": convert.convert_vae_state_dict((networks.tiny_vae if tiny else networks.vae).state_dict())}
        if networks.second:
            text = {"transformer." + k: v for k, v in text.items()}  # as the script calls it
            parts["cond_stage_model.model."] = convert.convert_text_enc_state_dict_v20(text)
        else:
            parts["cond_stage_model.transformer."] = convert.convert_text_enc_state_dict(text)
    save_file({front + k: v.contiguous() for front, part in parts.items() for k, v in part.items()}, path)


def picture_to_edit(width, height):
    y, x = numpy.mgrid[0:height, 0:width].astype(float)
    waves = [numpy.sin(x / 17 + y / 31), numpy.cos(y / 13 - x / 47), numpy.sin(x * y / 3000)]
    rgb = 127.5 + 90 * numpy.stack(waves, -1)
    rgb[(x - width / 3) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] = (230, 180, 40)
    mask = numpy.zeros((height, width, 3), numpy.uint8)
    mask[height // 4 // 8 * 8 : height // 4 * 3 // 8 * 8, width // 2 // 8 * 8 : width // 8 * 7 // 8 * 8] = 255
    return rgb.round().astype(numpy.uint8), mask


class Family:
    def __init__(self, name, folder, args):
        self.name, self.folder, self.family = name, folder, FAMILIES[name]
        folder.mkdir(parents=True)
        self.networks = Networks(self.family, args.full_size)
        self.height, self.width = self.networks.height, self.networks.width
        n = self.networks
        parts = folder / "parts"
        for part, module in (("unet", n.unet), ("text_encoder", n.text), ("vae", n.vae), ("tiny", n.tiny_vae)):
            module.save_pretrained(parts / part)
        write_tokenizer(parts / "tokenizer", "!" if n.second else "<|endoftext|>", False)
        self.tokenizer = CLIPTokenizer.from_pretrained(parts / "tokenizer", model_max_length=77)
        self.one_file = folder / "ldm.safetensors"
        if args.script:
            write_one_file(n, args.script, self.one_file, self.is_tiny({}))
        self.lora = folder / "adapter.safetensors"
        self.has_lora = False
        self.picture, self.mask = picture_to_edit(self.width, self.height)
        self.picture.tofile(folder / "picture.rgb")
        self.mask.tofile(folder / "mask.rgb")

    def is_tiny(self, d):
        return d.get("tiny_vae", self.family.get("tiny_vae", False))

    def model_folder(self, d):
        """A folder of links, with the scheduler of this draw."""
        kind, config = d["scheduler"]
        name = f"{kind}{abs(hash(json.dumps(config, sort_keys=True)))}{'_tiny' if self.is_tiny(d) else ''}"
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            for part in ("unet", "text_encoder", "tokenizer"):
                (folder / part).symlink_to(self.folder / "parts" / part)
            (folder / "vae").symlink_to(self.folder / "parts" / ("tiny" if self.is_tiny(d) else "vae"))
            scheduler_of(kind, config, self.networks.prediction).save_pretrained(folder / "scheduler")
        return folder

    @torch.inference_mode()
    def draw_by_diffusers(self, d, prompt=PROMPT, seed=11):
        n = self.networks
        if d.get("lora") and not self.has_lora:
            write_adapter(n, self.lora)
            self.has_lora = True
        adapters(n, bool(d.get("lora")))
        lcm = self.name.startswith("lcm")
        kind = (diffusers.StableDiffusionInpaintPipeline if d.get("inpaint") else
                (diffusers.LatentConsistencyModelImg2ImgPipeline if lcm else diffusers.StableDiffusionImg2ImgPipeline) if "strength" in d else
                diffusers.LatentConsistencyModelPipeline if lcm else diffusers.StableDiffusionPipeline)
        pipe = pipeline(kind, n, self.tokenizer, scheduler_of(*d["scheduler"], self.networks.prediction), n.tiny_vae if self.is_tiny(d) else n.vae)
        pipe.set_progress_bar_config(disable=True)
        more = {} if lcm else {"negative_prompt": NEGATIVE}
        if "strength" in d:
            more |= {"strength": d["strength"], "image": PIL.Image.fromarray(self.picture)}
        if d.get("inpaint"):
            more |= {"mask_image": PIL.Image.fromarray(self.mask)}
        if d.get("inpaint") or "strength" not in d:
            more |= {"height": self.height, "width": self.width}
        made = pipe(prompt, num_inference_steps=d["steps"], guidance_scale=d["guidance"], generator=torch.Generator("cpu").manual_seed(seed), **more)
        adapters(n, False)
        return self.compared(d, numpy.asarray(made.images[0]))

    def compared(self, d, rgb):
        """The pixels to compare: of an inpainted picture those that were painted."""
        return rgb[self.mask[..., 0] >= 128] if d.get("inpaint") else rgb

    def job(self, k, d, format):
        made = {"prompt": PROMPT, "negative": NEGATIVE, "seed": 11, "steps": d["steps"], "guidance": d["guidance"],
                "out": str(self.out(k, format))}
        if "strength" in d:
            made |= {"strength": d["strength"], "picture": str(self.folder / "picture.rgb")}
        if d.get("inpaint"):
            made["mask"] = str(self.folder / "mask.rgb")
        if "sampler" in d:
            made["sampler"] = d["sampler"]
        one_file = d.get("layout") == "ldm"
        return {"preset": self.name, "tiny_vae": self.is_tiny(d), "format": format, "draws": [made],
                "model": str(self.one_file if one_file else self.model_folder(d)),
                "vocabulary": str(self.folder / "parts" / "tokenizer") if one_file else "",
                "loras": [[str(self.lora), 1.0]] if d.get("lora") else []}

    def out(self, k, format):
        return self.folder / f"{k}.{format}.rgb"

    def read(self, k, d, format):
        return self.compared(d, numpy.fromfile(self.out(k, format), numpy.uint8).reshape(self.height, self.width, 3))


def decibels(a, b):
    error = numpy.mean((a.astype(float) - b.astype(float)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def title(d):
    kind, config = d["scheduler"]
    words = [kind.removesuffix("Scheduler").replace("Discrete", "").replace("Multistep", "")]
    words += ["Karras"] if config.get("use_karras_sigmas") else []
    words += [f"{d['steps']} step{'s' if d['steps'] > 1 else ''}", f"guidance {d['guidance']:g}"]
    if "strength" in d:
        words.append(f"{'inpainting' if d.get('inpaint') else 'image to image'} {d['strength']:g}")
    return ", ".join(words + ["LoRA"] * bool(d.get("lora")) + ["TAESD"] * bool(d.get("tiny_vae")))


def program(args, name):
    if args.program:
        return args.program.resolve()
    second = FAMILIES[name]["unet"]["cross_attention_dim"] == 1024
    distilled = name.startswith(("bk_sdm", "sdxs"))
    group = ("bk_sdm_v2" if second else "bk_sdm") if distilled else "sd2" if second else "sd1"
    target = f"pipelines_full_{name}" if args.full_size else f"pipelines_{group}"
    subprocess.run(["cmake", "--build", args.build, "--target", target], check=True, stdout=subprocess.DEVNULL)
    return args.build / "tests" / target


CONTROLS = {"seed": 30.0, "prompt": 40.0, "sampler": 50.0, "adapter": 50.0}


def controls(family, d, picture):
    """What diffusers' picture is from its own for another seed, prompt and sampler."""
    others = {"seed": family.draw_by_diffusers(d, seed=12), "prompt": family.draw_by_diffusers(d, prompt="the bat")}
    if d["steps"] > 1 and d["scheduler"][0] != "LCMScheduler":
        others["sampler"] = family.draw_by_diffusers(d | {"scheduler": DDIM if d["scheduler"][0] != "DDIMScheduler" else EULER})
    if d.get("lora"):
        others["adapter"] = family.draw_by_diffusers(d | {"lora": False})
    return {name: decibels(picture, other) for name, other in others.items()}


def run(args, folder):
    good = True
    print("| model | layout | drawn with | fp32 | bf16 | int8 | diffusers' own with another |\n|---|---|---|---|---|---|---|")
    formats = args.format or list(LIMITS)
    for name in args.family or FAMILIES:
        ours = program(args, name)
        family = Family(name, folder / name, args)
        draws = [(k, d) for k, d in enumerate(family.family["draws"]) if args.draw is None or k in args.draw]
        draws = [(k, d) for k, d in draws if d.get("layout") != "ldm" or args.script]
        theirs = {k: family.draw_by_diffusers(d) for k, d in draws}
        jobs = folder / name / "jobs.json"
        jobs.write_text(json.dumps([family.job(k, d, f) for k, d in draws for f in formats]))
        subprocess.run([ours, jobs], check=True)
        controlled = set()
        for k, d in draws:
            kind = ("strength" in d, *(bool(d.get(what)) for what in ("inpaint", "lora", "tiny_vae")))
            other = controls(family, d, theirs[k]) if args.controls and kind not in controlled else {}
            controlled.add(kind)
            row = {f: decibels(family.read(k, d, f), theirs[k]) for f in formats}
            bad = [f for f, value in row.items() if not value >= LIMITS[f]]
            bad += [c for c, value in other.items() if not value < CONTROLS[c]] + ["flat"] * (not theirs[k].std() > 10)
            good &= not bad
            cells = ["same" if row.get(f) == math.inf else f"{row[f]:.0f}" if f in row else "" for f in LIMITS]
            layout = "one file" if d.get("layout") == "ldm" else "folder"
            told = ", ".join(f"{c} {v:.0f}" for c, v in other.items())
            print("|", " | ".join([name, layout, title(d), *cells, told]), "|", f"<- {', '.join(bad)}" if bad else "", flush=True)
        if not args.work:
            shutil.rmtree(folder / name)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(",")[0])
    parser.add_argument("--family", choices=FAMILIES, action="append", help="default: all")
    parser.add_argument("--draw", type=int, action="append", help="numbers of the family's draws; default: all")
    parser.add_argument("--format", choices=LIMITS, action="append", help="default: all")
    parser.add_argument("--full-size", action="store_true", help="as published: up to 12 GB of memory and 6 GB of disk")
    parser.add_argument("--script", type=Path, help="convert_diffusers_to_original_stable_diffusion.py, for one-file checkpoints")
    parser.add_argument("--no-controls", dest="controls", action="store_false", help="no other seeds, prompts and samplers")
    parser.add_argument("--program", type=Path, help="our side, already built")
    return on_demand.run(on_demand.parse(parser), run)


if __name__ == "__main__":
    sys.exit(main())
