# SPDX-License-Identifier: Apache-2.0
"""The networks, as include/mobilediffusion/models has them. A whole model's state dict has the names of the library's files."""
import json
import math

import torch
from torch import nn
import torch.nn.functional as F

from .config import ModelConfig, SeparableConfig, TextEncoderConfig, UnetConfig, VaeConfig, parse_configuration
from .layers import ACTIVATE, Attention, Middle, ResnetBlock, Stage, Transformer2D, attend, convolution, group_norm, part


class Embedding(nn.Module):
    def __init__(self, inputs, width, guidance_width=0):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inputs, width), nn.Linear(width, width)
        if guidance_width:
            self.cond_proj = nn.Linear(guidance_width, inputs, bias=False)

    def forward(self, x, guidance=None):
        if guidance is not None:
            x = x + self.cond_proj(guidance)
        return self.linear_2(F.silu(self.linear_1(x)))


def timestep_embedding(t, dim, dtype):
    """Cosine half first; in double, since t * frequency loses what a float has."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float64, device=t.device) / half)
    angles = t.double()[:, None] * frequencies
    return F.pad(torch.cat([angles.cos(), angles.sin()], 1), (0, dim % 2)).to(dtype)


def guidance_embedding(guidance, dim, dtype):
    """As latent consistency models have it (arXiv 2310.04378): sines first."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float64, device=guidance.device) / (half - 1))
    angles = 1000 * (guidance.double() - 1)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1).to(dtype)


class Unet(nn.Module):
    def __init__(self, c: UnetConfig):
        super().__init__()
        self.config = c
        stages = c.stages[:c.levels]
        widths = [s.channels for s in stages]
        time_width = c.time_width or 4 * widths[0]

        def transformer(configs, i, level):
            if i >= len(configs) or configs[i].depth == 0:
                return None
            return Transformer2D(widths[level], c.heads(level), (c.height >> level) * (c.width >> level), c.groups,
                                 c.context_width, configs[i], c.attention, c.feed_forward)

        self.conv_in = convolution(c.input_channels or c.latent_channels, widths[0])
        self.time_embedding = Embedding(widths[0], time_width, c.guidance_width)
        if c.pooled_width:
            self.add_embedding = Embedding(c.pooled_width, time_width)
        skips, down, up = [widths[0]], [], []
        for l, s in enumerate(stages):
            inputs = lambda i: widths[max(l - 1, 0)] if i == 0 else s.channels
            last = l + 1 == c.levels
            down.append(Stage([(inputs(i), transformer(s.down_transformers, i, l)) for i in range(s.down_resnets)], s.channels,
                              c.groups, time_width, s.separable, None if last else "down", s.separable_sampler))
            skips += [s.channels] * (s.down_resnets + (not last))
        for l, s in reversed(list(enumerate(stages))):
            inputs = lambda i: (widths[min(l + 1, c.levels - 1)] if i == 0 else s.channels) + skips.pop()
            up.append(Stage([(inputs(i), transformer(s.up_transformers, i, l)) for i in range(s.up_resnets)], s.channels,
                            c.groups, time_width, s.separable, "up" if l > 0 else None, s.separable_sampler))
        self.down_blocks, self.up_blocks = nn.ModuleList(down), nn.ModuleList(up)
        if c.middle.resnets:
            self.mid_block = Middle([ResnetBlock(widths[-1], widths[-1], c.groups, time_width, c.middle.separable)
                                     for _ in range(c.middle.resnets)], transformer([c.middle.transformer], 0, c.levels - 1))
        self.conv_norm_out = nn.GroupNorm(c.groups, widths[0], 1e-5)
        self.conv_out = convolution(widths[0], c.latent_channels)

    def forward(self, z, timesteps, context, pooled=None, guidance=None, beside=None):
        """z [batch][latent_channels][height][width], timesteps [batch] in [0, 1000), context [batch][tokens][context_width]; where
        the configuration has them: pooled [batch][pooled_width], guidance [batch] of at least 1, and what conv_in reads beside the
        latents. Returns what has the shape of z."""
        if guidance is not None:
            guidance = guidance_embedding(guidance, self.config.guidance_width, z.dtype)
        time = self.time_embedding(timestep_embedding(timesteps, self.config.stages[0].channels, z.dtype), guidance)
        if pooled is not None:
            time = time + self.add_embedding(pooled)
        time = F.silu(time)
        skips = [self.conv_in(z if beside is None else torch.cat([z, beside], 1))]
        for stage in self.down_blocks:
            skips += stage.down(skips[-1], time, context)
        h = skips[-1]
        if hasattr(self, "mid_block"):
            h = self.mid_block(h, time, context)
        for stage in self.up_blocks:
            h = stage.up(h, skips, time, context)
        return self.conv_out(F.silu(self.conv_norm_out(h)))


class VaeAttention(Attention):
    def __init__(self, channels, groups):
        super().__init__(channels, 1, channels, shared_kv=False, bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, 1e-6)

    def forward(self, x, _=None):
        n = self.group_norm(x).flatten(2).mT
        return x + super().forward(n, n).mT.unflatten(2, x.shape[2:])


def vae_middle(channels, groups, attention):
    return Middle([ResnetBlock(channels, channels, groups) for _ in range(2)],
                  VaeAttention(channels, groups) if attention else None)


class Encoder(nn.Module):
    def __init__(self, c: VaeConfig):
        super().__init__()
        self.patch, w = c.patch, c.encoder_channels[:c.levels]
        self.conv_in = convolution(3 * c.patch**2, w[0])
        self.down_blocks = nn.ModuleList([
            Stage([(w[max(l - 1, 0)] if i == 0 else w[l], None) for i in range(c.encoder_resnets)], w[l], c.groups, 0,
                  SeparableConfig(), "down" if l + 1 < c.levels else None, False, pad_end=True) for l in range(c.levels)])
        self.mid_block = part(c.middle, lambda: vae_middle(w[-1], c.groups, c.middle_attention))
        self.conv_norm_out = group_norm(c.groups, w[-1], 1e-6)
        self.conv_out = convolution(w[-1], 2 * c.latent_channels)

    def forward(self, x):
        x = self.conv_in(F.pixel_unshuffle(x, self.patch))
        for stage in self.down_blocks:
            x = stage.down(x)[-1]
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, c: VaeConfig):
        super().__init__()
        self.patch, levels, groups = c.decoder_end()
        w = c.decoder_channels[:levels]
        self.conv_in = convolution(c.latent_channels, w[-1])
        self.mid_block = part(c.middle and c.decoder_middle, lambda: vae_middle(w[-1], groups, c.middle_attention))
        self.up_blocks = nn.ModuleList([
            Stage([(w[min(l + 1, levels - 1)] if i == 0 else w[l], None) for i in range(c.decoder_resnets)], w[l], groups, 0,
                  c.decoder_separable, "up" if l > 0 else None, c.separable_samplers) for l in reversed(range(levels))])
        self.conv_norm_out = group_norm(groups, w[0], 1e-6)
        self.conv_out = convolution(w[0], 3 * self.patch**2)

    def forward(self, z):
        h = self.mid_block(self.conv_in(z))
        for stage in self.up_blocks:
            h = stage.up(h)
        return F.pixel_shuffle(self.conv_out(F.silu(self.conv_norm_out(h))), self.patch)


class Vae(nn.Module):
    """diffusers' AutoencoderKL."""

    def __init__(self, c: VaeConfig):
        super().__init__()
        self.config = c
        self.encoder = Encoder(c)
        self.quant_conv = part(c.quant_conv, lambda: nn.Conv2d(2 * c.latent_channels, 2 * c.latent_channels, 1))
        self.decoder = Decoder(c)
        self.post_quant_conv = part(c.quant_conv, lambda: nn.Conv2d(c.latent_channels, c.latent_channels, 1))

    def encode(self, picture):
        """Moments: means, then log variances."""
        return self.quant_conv(self.encoder(picture))

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))

    def to_latents(self, picture):
        """Pictures [batch][3][height][width] in [-1, 1] -> the means of their latents, of unit variance: what a UNet learns."""
        return self.config.scaling * self.encode(picture).chunk(2, 1)[0]

    def to_picture(self, z):
        return self.decode(z / self.config.scaling)


class TinyBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        conv = lambda: convolution(width, width)
        self.conv = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU(), conv())

    def forward(self, x):
        return F.relu(self.conv(x) + x)


class TinyLayers(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class TinyVae(nn.Module):
    """diffusers' AutoencoderTiny: latents of a diffusion model as they are."""
    magnitude = 3.0  # latents beyond it bend back

    def __init__(self, c: VaeConfig):
        super().__init__()
        self.config = c
        encoder, width = [], c.encoder_channels[0]
        for l in range(c.levels):
            encoder.append(nn.Conv2d(width if l else 3, width, 3, 2 if l else 1, 1, bias=l == 0))
            encoder += [TinyBlock(width) for _ in range(c.encoder_resnets if l else 1)]
        self.encoder = TinyLayers([*encoder, convolution(width, c.latent_channels)])
        width = c.decoder_channels[0]
        decoder = [convolution(c.latent_channels, width), nn.ReLU()]
        for l in reversed(range(c.levels)):
            decoder += [TinyBlock(width) for _ in range(c.decoder_resnets if l else 1)]
            if l:
                decoder += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, 1, 1, bias=False)]
        self.decoder = TinyLayers([*decoder, convolution(width, 3)])

    def encode(self, picture):
        return self.encoder(0.5 * picture + 0.5)

    def decode(self, z):
        return 2 * self.decoder(torch.tanh(z / self.magnitude) * self.magnitude) - 1

    def to_latents(self, picture):
        return self.encode(picture)

    def to_picture(self, z):
        return self.decode(z)


def make_vae(c: VaeConfig):
    return TinyVae(c) if c.kind == "autoencoder_tiny" else Vae(c)


class TextAttention(nn.Module):
    def __init__(self, c: TextEncoderConfig):
        super().__init__()
        self.heads, self.causal = c.heads, c.causal
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(c.width, c.width) for _ in range(4))

    def forward(self, x):
        return self.out_proj(attend(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.heads, causal=self.causal))


class TextMlp(nn.Module):
    def __init__(self, c: TextEncoderConfig):
        super().__init__()
        self.activation = c.activation
        self.fc1, self.fc2 = nn.Linear(c.width, c.width * c.mlp_ratio), nn.Linear(c.width * c.mlp_ratio, c.width)

    def forward(self, x):
        return self.fc2(ACTIVATE[self.activation](self.fc1(x)))


class TextLayer(nn.Module):
    def __init__(self, c: TextEncoderConfig):
        super().__init__()
        self.self_attn, self.mlp = TextAttention(c), TextMlp(c)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(c.width), nn.LayerNorm(c.width)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    padding = 0

    def __init__(self, c: TextEncoderConfig):
        super().__init__()
        self.config = c
        m = self.text_model = nn.Module()
        m.embeddings, m.encoder = nn.Module(), nn.Module()
        m.embeddings.token_embedding = nn.Embedding(c.vocabulary, c.width)
        m.embeddings.position_embedding = nn.Embedding(c.length, c.width)
        m.encoder.layers = nn.ModuleList([TextLayer(c) for _ in range(c.layers)])
        m.final_layer_norm = nn.LayerNorm(c.width)
        if c.projection:
            self.text_projection = nn.Linear(c.width, c.projection, bias=False)

    def forward(self, ids):
        """ids [batch][length] -> context [batch][length][width], and the pooled vector where the configuration has one, else None:
        with `pooled` that many sums of the embeddings of the tokens that are not padding, weighted by the first cosines over the
        places; with `projection` that of the caption's end, the first token of the greatest number."""
        c, m = self.config, self.text_model
        tokens = m.embeddings.token_embedding(ids)
        x = tokens + m.embeddings.position_embedding.weight
        context = x
        for i, layer in enumerate(m.encoder.layers):
            context = x  # what enters the last layer
            if c.penultimate and not c.projection and i + 1 == c.layers:
                break
            x = layer(x)
        last = m.final_layer_norm(x)
        if not c.penultimate:
            context = last
        if c.projection:
            return context, self.text_projection(last[torch.arange(len(ids), device=ids.device), ids.argmax(1)])
        if not c.pooled:
            return context, None
        places = (torch.arange(ids.shape[1], device=ids.device) + 0.5) / ids.shape[1]
        weights = torch.cos(torch.pi * torch.arange(c.pooled, device=ids.device)[:, None] * places)
        words = tokens * (ids != self.padding)[..., None]
        return context, torch.einsum("kt,btw->bkw", weights.to(words.dtype), words).flatten(1)


class Model(nn.Module):
    """text_encoder, text_encoder_2 where there is one, unet and vae: the names of the library's files."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.metadata = {}  # what the library's file must say
        self.text_encoder = TextEncoder(config.text)
        if config.text_2.layers:
            self.text_encoder_2 = TextEncoder(config.text_2)
        self.unet = Unet(config.unet)
        self.vae = make_vae(config.vae)


def from_json(text):
    """The model of what `inspect --json PRESET` wrote, with PyTorch's own initial weights (initialize() gives those that the
    library begins with). Raises ValueError for a configuration that is not exactly one that this program knows, and where the
    modules' names and shapes are not those that the library lists. Under torch.device("meta") it takes no memory."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"configuration: not JSON: {e}") from None
    keys = {"preset", "configuration", "metadata", "tensors"}
    if not isinstance(whole, dict) or set(whole) != keys:
        raise ValueError(f"configuration: expected an object of {', '.join(sorted(keys))}, as `inspect --json PRESET` writes it")
    model = Model(parse_configuration(whole["configuration"]))
    mine = {name: list(t.shape) for name, t in model.state_dict().items()}
    for name in (*whole["tensors"], *mine):
        if mine.get(name) != whole["tensors"].get(name):
            raise ValueError(f"tensor {name}: the library has {whole['tensors'].get(name, 'none')}, "
                             f"these modules have {mine.get(name, 'none')}: they cannot build this configuration")
    model.metadata = dict(whole["metadata"])
    return model


def initialize(module, seed):
    """The rules of train/initialize.hpp, by names: biases 0, norm scales 1, matrices normal with variance 1 / fan-in, embeddings
    normal; what ends a residual branch, and the UNet's last convolution, start at zero (arXiv 1706.02677, 5.1)."""
    generator = torch.Generator().manual_seed(seed)
    ends = ("conv2.weight", "conv2.pointwise", "to_out.0", "ff.net.2", "proj_out", "out_proj", "mlp.fc2")
    with torch.no_grad():
        for name, p in module.named_parameters():
            normal = lambda deviation: p.copy_(deviation * torch.randn(p.shape, generator=generator))
            if name.endswith(".bias"):
                p.zero_()
            elif "norm" in name:
                p.fill_(1.0)
            elif "token_embedding" in name:
                normal(0.3)
            elif "position_embedding" in name or "pos_embed" in name:
                normal(0.02)
            elif any(end in name for end in ends) or name in ("conv_out.weight", "unet.conv_out.weight"):
                p.zero_()
            else:
                normal(1 / math.sqrt(p[0].numel()))
    return module
