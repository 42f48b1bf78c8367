# SPDX-License-Identifier: Apache-2.0
"""Writes the tensors that the C++ tests compare with: python golden.py [folder, default ../golden [files]].

Everything is computed in double from weights that are halfs and inputs that are floats, then rounded to float. Names:
  CASE/weights/PATH    CASE/gradients/PATH           PATH: the state-dict name, shaped as PyTorch has it
  CASE/inputs/NAME     CASE/input_gradients/NAME     pictures channels last, [batch][height][width][channels]
  CASE/outputs/NAME    CASE/cotangents/NAME          gradients are those of sum(cotangent * output) over all outputs
"""
from pathlib import Path
import sys

import torch
from torch import nn
from safetensors.torch import save_file

import twin
from twin import SeparableConfig, TransformerConfig
from check import sd_unet_config


def stored(x):
    """Channels last, in a file's type."""
    x = x.detach()
    if x.ndim == 4:
        x = x.permute(0, 2, 3, 1)
    return x.to(torch.float32 if x.is_floating_point() else torch.int32).contiguous()


class Golden:
    def __init__(self, seed):
        self.tensors, self.seed = {}, seed

    def add(self, case, module, run=None, **inputs):
        """run(module, *inputs) -> {name: output}; default: the module itself, output y. Shapes stand for random inputs."""
        self.seed += 1
        generator = torch.Generator().manual_seed(self.seed)
        random = lambda shape: torch.randn(shape, generator=generator)
        twin.randomize(module, self.seed).half().float()  # weights are stored as half to keep the files small
        state = {k: v for k, v in module.state_dict().items() if "position_ids" not in k}
        weights = {k: v.half() for k, v in state.items()}
        module = module.double()
        xs = {k: random(x).double().requires_grad_() if isinstance(x, tuple) else x for k, x in inputs.items()}
        outputs = run(module, *xs.values()) if run else {"y": module(*xs.values())}
        cotangents = {k: random(y.shape) for k, y in outputs.items()}
        sum((y * cotangents[k]).sum() for k, y in outputs.items()).backward()
        put = lambda kind, tensors, f: self.tensors.update({f"{case}/{kind}/{k}": f(t) for k, t in tensors.items()})
        put("weights", weights, torch.Tensor.contiguous)
        put("gradients", {k: p.grad.float() for k, p in module.named_parameters()}, torch.Tensor.contiguous)
        put("inputs", xs, stored)
        put("input_gradients", {k: x.grad for k, x in xs.items() if x.grad is not None}, stored)
        put("outputs", outputs, stored)
        put("cotangents", cotangents, stored)

    def save(self, path):
        import diffusers, transformers
        versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, diffusers, transformers))
        save_file(self.tensors, path, {"made_with": versions})  # one entry: several come in random order
        print(f"{path.name}: {len(self.tensors)} tensors, {path.stat().st_size} bytes")


class Silu(nn.GroupNorm):
    def forward(self, x):
        return nn.functional.silu(super().forward(x))


def layers():
    g = Golden(100)
    g.add("linear", nn.Linear(13, 35), x=(2, 6, 13))
    g.add("linear_no_bias", nn.Linear(13, 35, bias=False), x=(2, 6, 13))
    g.add("linear_1x1", nn.Conv2d(13, 35, 1), x=(2, 13, 3, 2))
    doubled = lambda m, x: {"y": m(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))}
    for name, separable in (("conv", False), ("separable", True)):
        g.add(name, twin.convolution(6, 10, separable=separable), x=(2, 6, 6, 4))
        g.add(name + "_stride2", twin.convolution(6, 10, 2, separable=separable), x=(2, 6, 6, 4))
        g.add(name + "_upsample", twin.convolution(6, 10, separable=separable), doubled, x=(2, 6, 3, 5))
    g.add("conv_pad_end", twin.convolution(6, 10, 2, pad_end=True), x=(2, 6, 6, 4))
    g.add("group_norm", nn.GroupNorm(3, 12, 1e-6), x=(2, 12, 5, 3))
    g.add("group_norm_silu", Silu(3, 12, 1e-5), x=(2, 12, 5, 3))
    g.add("layer_norm", nn.LayerNorm(20), x=(2, 7, 20))
    itself = lambda m, x: {"y": m(x, x)}
    g.add("attention_self_shared", twin.Attention(16, 2, 16), itself, x=(2, 9, 16))
    g.add("attention_self_separate_bias", twin.Attention(16, 1, 16, shared_kv=False, bias=True), itself, x=(2, 9, 16))
    g.add("attention_self_separate_relu", twin.Attention(16, 2, 16, shared_kv=False, kind="relu"), itself, x=(2, 9, 16))
    g.add("attention_cross_shared", twin.Attention(24, 3, 10), x=(2, 9, 24), context=(2, 7, 10))
    g.add("attention_cross_separate", twin.Attention(24, 1, 10, shared_kv=False), x=(2, 9, 24), context=(2, 7, 10))
    g.add("attention_cross_shared_relu", twin.Attention(24, 3, 10, kind="relu"), x=(2, 9, 24), context=(2, 7, 10))
    g.add("feed_forward_silu", twin.FeedForward(12, 6, "silu"), x=(2, 5, 12))
    g.add("feed_forward_gelu", twin.FeedForward(12, 8, "gelu"), x=(2, 5, 12))
    return g


def blocks():
    g = Golden(200)
    g.add("resnet", twin.ResnetBlock(8, 8, 4), x=(2, 8, 4, 3))
    g.add("resnet_time_shortcut", twin.ResnetBlock(8, 12, 4, 10), x=(2, 8, 4, 3), time=(2, 10))
    g.add("resnet_separable1", twin.ResnetBlock(8, 12, 4, 10, SeparableConfig(conv1=True)), x=(2, 8, 4, 3), time=(2, 10))
    g.add("resnet_separable2", twin.ResnetBlock(12, 12, 4, 10, SeparableConfig(conv2=True)), x=(2, 12, 4, 3), time=(2, 10))
    shared = twin.AttentionConfig(head_dim=8)
    separate = twin.AttentionConfig(head_dim=8, shared_kv=False, linear_projections=True)
    silu, gelu = twin.FeedForwardConfig(6, "silu"), twin.FeedForwardConfig(8, "gelu")
    full, cross = TransformerConfig(1), TransformerConfig(1, self_attention=False)
    own = TransformerConfig(1, cross_attention=False)
    inputs = dict(x=(2, 6, 16), context=(2, 5, 12))
    g.add("transformer_block", twin.TransformerBlock(16, 2, 12, full, shared, silu), **inputs)
    g.add("transformer_block_cross_only", twin.TransformerBlock(16, 2, 12, cross, shared, silu), **inputs)
    alone = lambda m, x: {"y": m(x, None)}
    g.add("transformer_block_self_only", twin.TransformerBlock(16, 2, 12, own, shared, silu), alone, x=(2, 6, 16))
    g.add("transformer_block_separate_gelu", twin.TransformerBlock(16, 2, 12, full, separate, gelu), **inputs)
    inputs = dict(x=(2, 16, 3, 2), context=(2, 5, 12))
    position = twin.AttentionConfig(head_dim=8, position_embedding=True)
    bare = twin.AttentionConfig(head_dim=8, projections=False)
    g.add("transformer2d_position", twin.Transformer2D(16, 2, 6, 4, 12, TransformerConfig(2), position, silu), **inputs)
    g.add("transformer2d_linear", twin.Transformer2D(16, 2, 6, 4, 12, full, separate, gelu), **inputs)
    g.add("transformer2d_bare", twin.Transformer2D(16, 2, 6, 4, 12, full, bare, silu), **inputs)
    return g


def picture(*shape):
    """Without a gradient: the library's encoder gives none of its input."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def vae(m, picture, z):
    return {"moments": m.encode(picture.double()), "picture": m.decode(z)}


def models():
    g = Golden(300)
    c = twin.preset("tiny")
    g.add("unet", twin.Unet(c.unet), z=(2, 3, 8, 4), timesteps=torch.tensor([12.5, 731.0]), context=(2, 7, 16), pooled=(2, 16))
    g.add("vae", twin.Vae(c.vae), vae, picture=picture(2, 3, 32, 16), z=(2, 3, 8, 4))
    ids = torch.tensor([[1, 3, 17, 22, 22, 2, 0], [1, 39, 2, 0, 0, 0, 0]], dtype=torch.int32)
    g.add("text", twin.TextEncoder(c.text), lambda m, i: dict(zip(("context", "pooled"), m(i))), ids=ids)
    return g


def decoders():
    """A decoder that is not built as its encoder is: depth to space at its end, no middle, no norms, separable convolutions."""
    g = Golden(700)
    light = twin.VaeConfig(height=16, width=8, latent_channels=2, levels=3, encoder_channels=[8, 8, 8], decoder_channels=[8, 12],
                           encoder_resnets=1, decoder_resnets=2, decoder_patch=2, decoder_middle=False,
                           decoder_separable=SeparableConfig(True, True), separable_samplers=True, groups=4, decoder_norms=False)
    g.add("light", twin.Vae(light), vae, picture=picture(2, 3, 16, 8), z=(2, 2, 4, 2))
    return g


def guidance_embedding(guidance, width):
    """As diffusers' LatentConsistencyModelPipeline has it."""
    frequencies = torch.exp(-torch.log(torch.tensor(10000.0, dtype=guidance.dtype)) *
                            torch.arange(width // 2, dtype=guidance.dtype) / (width // 2 - 1))
    angles = 1000 * (guidance - 1)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def stable_diffusion():
    """diffusers' and transformers' own models and names, in small."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    g = Golden(400)
    g.add("unet", UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=1), lambda m, z, t, c: {"y": m(z, t, c).sample}, z=(2, 4, 4, 8),
        timesteps=torch.tensor([7.0, 431.0]), context=(2, 7, 16))
    g.add("vae", AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2),
        lambda m, x, z: {"moments": m.quant_conv(m.encoder(x.double())), "picture": m.decode(z).sample},
        picture=picture(2, 3, 8, 16), z=(2, 4, 4, 8))
    clip = CLIPTextModel(CLIPTextConfig(
        vocab_size=40, hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=7, hidden_act="quick_gelu", bos_token_id=38, eos_token_id=39, pad_token_id=39))
    ids = torch.tensor([[38, 3, 17, 22, 5, 39, 39], [38, 9, 39, 39, 39, 39, 39]], dtype=torch.int32)
    g.add("text", clip, lambda m, i: {"context": m(i.long()).last_hidden_state}, ids=ids)
    if "text/weights/text_model.final_layer_norm.weight" not in g.tensors:  # published files have it; transformers 5 does not
        for kind in ("text/weights/", "text/gradients/"):
            g.tensors = {k.replace(kind, kind + "text_model."): t for k, t in g.tensors.items()}
    return g


def variants():
    """What published relatives of Stable Diffusion have besides, by diffusers' own models in small."""
    from diffusers import AutoencoderTiny, UNet2DConditionModel
    g = Golden(500)
    small = dict(sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16)
    cross, plain = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")
    levels = lambda *kinds: dict(down_block_types=[k[0] for k in kinds], up_block_types=[k[1] for k in reversed(kinds)])
    # latent consistency and inpainting: sinusoids of the guidance, nine channels
    g.add("lcm_inpainting", UNet2DConditionModel(
        in_channels=9, attention_head_dim=1, time_cond_proj_dim=12, mid_block_type=None, **small, **levels(cross, plain)),
        lambda m, z, t, c, guidance, beside:
            {"y": m(torch.cat([z, beside.double()], 1), t, c, timestep_cond=guidance_embedding(guidance.double(), 12)).sample},
        z=(2, 4, 4, 8), timesteps=torch.tensor([499.0, 999.0]), context=(2, 7, 16), guidance=torch.tensor([1.5, 8.0]),
        beside=picture(2, 5, 4, 8))
    # SDXS-512-0.9: both attentions of the first level read the text, heads by level
    g.add("sdxs", UNet2DConditionModel(
        attention_head_dim=[1, 2], only_cross_attention=[True, False], use_linear_projection=True, mid_block_type=None, **small,
        **levels(cross, cross)), lambda m, z, t, c: {"y": m(z, t, c).sample}, z=(2, 4, 4, 8),
        timesteps=torch.tensor([999.0, 250.0]), context=(2, 7, 16))
    # Stable Diffusion XL: depth by level, pooled text and sinusoids of six sizes beside the time
    sizes = torch.tensor([[1024.0, 768, 0, 0, 1024, 1024], [512, 512, 100, 3, 768, 1024]])
    g.add("sdxl", UNet2DConditionModel(
        attention_head_dim=[1, 2], transformer_layers_per_block=[1, 2], use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=6, projection_class_embeddings_input_dim=10 + 36, **small,
        **levels(plain, cross)),
        lambda m, z, t, c, text, sizes:
            {"y": m(z, t, c, added_cond_kwargs={"text_embeds": text.double(), "time_ids": sizes.double()}).sample},
        z=(2, 4, 4, 8), timesteps=torch.tensor([7.0, 431.0]), context=(2, 7, 16), text=picture(2, 10), sizes=sizes)
    g.add("taesd", AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 2, 2),
        num_decoder_blocks=(3, 3, 1), latent_channels=4),
        lambda m, x, z: {"latents": m.encode(x.double()).latents, "picture": m.decode(z).sample},
        picture=picture(2, 3, 8, 16), z=(2, 4, 2, 4))
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection
    clip = CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=40, hidden_size=16, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=7, hidden_act="gelu", projection_dim=12, bos_token_id=38, eos_token_id=39, pad_token_id=0))
    def both(m, i):
        out = m(i.long(), output_hidden_states=True)
        return {"context": out.hidden_states[-2], "pooled": out.text_embeds}
    ids = torch.tensor([[38, 3, 17, 22, 5, 39, 39], [38, 9, 39, 0, 0, 0, 0]], dtype=torch.int32)
    g.add("text", clip, both, ids=ids)
    return g


def prompts():
    """What programs make of prompts: chunks, weights of tokens, layers that are skipped; transformers' text encoder in small."""
    from transformers import CLIPTextConfig, CLIPTextModel
    g = Golden(600)
    clip = CLIPTextModel(CLIPTextConfig(
        vocab_size=40, hidden_size=16, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=7, hidden_act="quick_gelu", bos_token_id=38, eos_token_id=39, pad_token_id=39))
    nothing = [38, 39, 39, 39, 39, 39, 39]
    ids = torch.tensor([[[38, 3, 17, 22, 5, 8, 39], [38, 9, 4, 39, 39, 39, 39]], [[38, 7, 39, 39, 39, 39, 39], nothing]],
                       dtype=torch.int32)
    weights = torch.ones(2, 2, 7)
    weights[0, 0, 2:4], weights[0, 1, 1:3], weights[1, 0, 1] = 1.5, torch.tensor([0.0, -2.0]), 1 / 1.1

    def contexts(m, ids, weights):
        states = m(ids.flatten(0, 1).long(), output_hidden_states=True).hidden_states
        norm = getattr(m, "text_model", m).final_layer_norm
        rows = lambda z: z.reshape(2, 14, 16)  # chunks behind each other
        out = {f"context_{skip}": rows(norm(states[-1 - skip])) for skip in range(3)}
        out["penultimate_1"] = rows(states[-3])
        for skip in range(2):
            z = norm(states[-1 - skip])
            weighted = z * weights.reshape(4, 7, 1)
            out[f"weighted_{skip}"] = rows(weighted * z.mean((1, 2), True) / weighted.mean((1, 2), True))
        return out

    g.add("text", clip, contexts, ids=ids, weights=weights)
    g.tensors = {k: t for k, t in g.tensors.items() if "gradients/" not in k and "/cotangents/" not in k}
    if "text/weights/text_model.final_layer_norm.weight" not in g.tensors:
        g.tensors = {k.replace("text/weights/", "text/weights/text_model."): t for k, t in g.tensors.items()}
    return g


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "../golden")
    for make in (layers, blocks, models, decoders, stable_diffusion, variants, prompts):
        if len(sys.argv) < 3 or make.__name__ in sys.argv[2:]:
            make().save(folder / f"{make.__name__}.safetensors")
