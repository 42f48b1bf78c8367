# SPDX-License-Identifier: Apache-2.0
"""The library's models in PyTorch: the same configuration fields, the same state-dict names, channels first as PyTorch has it.

A development tool: golden.py writes the tensors that the C++ tests compare with, check.py shows that this module equals
diffusers and transformers where an architecture exists there, train_step.py times it. Nothing in the library needs it.
"""
from dataclasses import dataclass, field
import math

import torch
from torch import nn
import torch.nn.functional as F

# ---- config/config.hpp ---------------------------------------------------------------------------


@dataclass
class TransformerConfig:
    depth: int = 0
    self_attention: bool = True
    cross_attention: bool = True


@dataclass
class SeparableConfig:
    conv1: bool = False
    conv2: bool = False


@dataclass
class StageConfig:
    channels: int = 0
    down_resnets: int = 1
    up_resnets: int = 2
    down_transformers: list = field(default_factory=list)  # shorter lists mean none at the end
    up_transformers: list = field(default_factory=list)
    separable: SeparableConfig = field(default_factory=SeparableConfig)
    separable_sampler: bool = False


@dataclass
class MiddleConfig:
    resnets: int = 2
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    separable: SeparableConfig = field(default_factory=SeparableConfig)


@dataclass
class AttentionConfig:
    head_dim: int = 64
    heads: int = 0
    shared_kv: bool = True
    kind: str = "softmax"  # or "relu"
    projections: bool = True
    linear_projections: bool = False
    position_embedding: bool = False


@dataclass
class FeedForwardConfig:
    ratio: int = 6
    activation: str = "silu"


@dataclass
class UnetConfig:
    height: int = 64
    width: int = 64
    latent_channels: int = 4
    levels: int = 3
    stages: list = field(default_factory=list)
    middle: MiddleConfig = field(default_factory=MiddleConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    feed_forward: FeedForwardConfig = field(default_factory=FeedForwardConfig)
    context_length: int = 77
    context_width: int = 768
    pooled_width: int = 0
    time_width: int = 0
    groups: int = 32


@dataclass
class VaeConfig:
    height: int = 512
    width: int = 512
    latent_channels: int = 4
    patch: int = 1
    levels: int = 4
    encoder_channels: list = field(default_factory=lambda: [128, 256, 512, 512])
    decoder_channels: list = field(default_factory=lambda: [128, 256, 512, 512])
    encoder_resnets: int = 2
    decoder_resnets: int = 3
    middle: bool = True
    middle_attention: bool = True
    quant_conv: bool = True
    separable_samplers: bool = False
    groups: int = 32
    decoder_norms: bool = True
    decoder_patch: int = 0
    decoder_middle: bool = True
    decoder_separable: SeparableConfig = field(default_factory=SeparableConfig)
    scaling_millionths: int = 182150


@dataclass
class TextEncoderConfig:
    vocabulary: int = 49408
    length: int = 77
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    activation: str = "quick_gelu"
    causal: bool = True
    pooled: int = 0


@dataclass
class ModelConfig:
    text: TextEncoderConfig
    unet: UnetConfig
    vae: VaeConfig


# ---- config/presets.hpp --------------------------------------------------------------------------

none = TransformerConfig()


def cross_only(depth):
    return TransformerConfig(depth, self_attention=False)


def full_blocks(depth):
    return TransformerConfig(depth)


_conv1, _conv2, _both = SeparableConfig(conv1=True), SeparableConfig(conv2=True), SeparableConfig(True, True)

emoji = ModelConfig(
    text=TextEncoderConfig(vocabulary=3072, length=28, width=192, layers=3, heads=6, mlp_ratio=4, causal=False, pooled=4),
    unet=UnetConfig(
        height=16, width=16, latent_channels=8, levels=3,
        stages=[StageConfig(96, separable=_conv1, separable_sampler=True),
                StageConfig(192, down_transformers=[cross_only(1)], up_transformers=[cross_only(1)], separable=_conv1,
                            separable_sampler=True),
                StageConfig(320, down_transformers=[full_blocks(1)], up_transformers=[full_blocks(1), cross_only(1)],
                            separable=_both, separable_sampler=True)],
        middle=MiddleConfig(2, full_blocks(1), _both), attention=AttentionConfig(head_dim=32, position_embedding=True),
        context_length=28, context_width=192, pooled_width=4 * 192, time_width=384, groups=16),
    vae=VaeConfig(height=128, width=128, latent_channels=8, patch=2, levels=3, encoder_channels=[32, 64, 128],
                  decoder_channels=[32, 64, 128], encoder_resnets=1, decoder_resnets=2, middle=False, middle_attention=False,
                  quant_conv=False, separable_samplers=True, groups=8, scaling_millionths=1000000))


def mobile_unet(width, depth, separable_everywhere):
    """Three resolutions of 64x64 latents; separable_everywhere: else at the lowest resolution only."""
    high = SeparableConfig(conv1=separable_everywhere)
    return UnetConfig(
        latent_channels=8,
        stages=[StageConfig(320, separable=high),
                StageConfig(640, down_transformers=[cross_only(1)], up_transformers=[cross_only(1)], separable=high),
                StageConfig(width, down_transformers=[full_blocks(depth)], up_transformers=[full_blocks(depth), cross_only(1)],
                            separable=_conv1)],
        middle=MiddleConfig(2, full_blocks(depth), _conv1))


tapered_vae = VaeConfig(latent_channels=8, encoder_channels=[64, 128, 256, 256], decoder_channels=[32, 64, 160, 320],
                        decoder_resnets=2)
light_vae = VaeConfig(latent_channels=8, encoder_channels=[64, 128, 256, 256], decoder_channels=[64, 160, 320],
                      decoder_resnets=1, decoder_patch=2, decoder_middle=False, separable_samplers=True, decoder_norms=False)
full = ModelConfig(TextEncoderConfig(), mobile_unet(1024, 5, False), tapered_vae)
lite = ModelConfig(TextEncoderConfig(), mobile_unet(896, 4, True), light_vae)

tiny = ModelConfig(
    text=TextEncoderConfig(vocabulary=40, length=7, width=16, layers=2, heads=2, mlp_ratio=2, pooled=1),
    unet=UnetConfig(
        height=8, width=4, latent_channels=3, levels=3,
        stages=[StageConfig(8),
                StageConfig(16, down_transformers=[cross_only(1)], up_transformers=[none, cross_only(2)], separable=_conv1,
                            separable_sampler=True),
                StageConfig(24, down_transformers=[full_blocks(2)], up_transformers=[full_blocks(1), cross_only(1)],
                            separable=_both, separable_sampler=True)],
        middle=MiddleConfig(2, full_blocks(1), _conv2), attention=AttentionConfig(head_dim=8, position_embedding=True),
        context_length=7, context_width=16, pooled_width=16, groups=4),
    vae=VaeConfig(height=32, width=16, latent_channels=3, patch=2, levels=2, encoder_channels=[8, 16], decoder_channels=[8, 16],
                  encoder_resnets=1, decoder_resnets=2, separable_samplers=True, groups=4, scaling_millionths=1000000))

# ---- layers/ -------------------------------------------------------------------------------------


def activate(name, x):
    if name == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return {"silu": F.silu, "gelu": F.gelu, "relu": F.relu}[name](x)


def part(present, make):
    """A part that the configuration leaves out has no weights; its place in a list stays."""
    return make() if present else nn.Identity()


class Separable(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class Convolution(nn.Conv2d):
    """3x3; pad_end: zeros right and below only, as the VAE's down-sampling has them."""

    def __init__(self, inputs, outputs, stride=1, pad_end=False):
        super().__init__(inputs, outputs, 3, stride, 0 if pad_end else 1)
        self.pad_end = pad_end

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.pad_end else x)


def convolution(inputs, outputs, stride=1, pad_end=False, separable=False):
    return Separable(inputs, outputs, stride) if separable else Convolution(inputs, outputs, stride, pad_end)


class Attention(nn.Module):
    def __init__(self, width, heads, context_width, shared_kv=True, kind="softmax", bias=False):
        super().__init__()
        self.heads, self.kind = heads, kind
        self.to_q = nn.Linear(width, width, bias)
        if shared_kv:
            self.to_kv = nn.Linear(context_width, width, bias)
        else:
            self.to_k = nn.Linear(context_width, width, bias)
            self.to_v = nn.Linear(context_width, width, bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x, context):
        q = self.to_q(x)
        k = self.to_kv(context) if hasattr(self, "to_kv") else self.to_k(context)
        v = k if hasattr(self, "to_kv") else self.to_v(context)
        return self.to_out[0](attend(q, k, v, self.heads, self.kind))


def attend(q, k, v, heads, kind="softmax", causal=False):
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    if kind == "relu":
        y = F.relu(q @ k.mT / math.sqrt(q.shape[-1])) @ v / k.shape[-2]
    else:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return y.transpose(1, 2).flatten(2)


class GatedProjection(nn.Module):
    def __init__(self, width, hidden, activation):
        super().__init__()
        self.proj, self.activation = nn.Linear(width, 2 * hidden), activation

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, -1)
        return value * activate(self.activation, gate)


class FeedForward(nn.Module):
    def __init__(self, width, ratio, activation):
        super().__init__()
        hidden = width * ratio // 2
        self.net = nn.ModuleList([GatedProjection(width, hidden, activation), nn.Identity(), nn.Linear(hidden, width)])

    def forward(self, x):
        for layer in self.net:
            x = layer(x)
        return x


# ---- blocks/ -------------------------------------------------------------------------------------


class ResnetBlock(nn.Module):
    def __init__(self, inputs, outputs, groups, time_width=0, separable=SeparableConfig()):
        super().__init__()
        epsilon = 1e-5 if time_width else 1e-6
        self.norm1 = part(groups, lambda: nn.GroupNorm(groups, inputs, epsilon))
        self.conv1 = convolution(inputs, outputs, separable=separable.conv1)
        if time_width:
            self.time_emb_proj = nn.Linear(time_width, outputs)
        self.norm2 = part(groups, lambda: nn.GroupNorm(groups, outputs, epsilon))
        self.conv2 = convolution(outputs, outputs, separable=separable.conv2)
        self.conv_shortcut = part(inputs != outputs, lambda: nn.Conv2d(inputs, outputs, 1))

    def forward(self, x, time=None):
        """time has been through SiLU already."""
        h = self.conv1(F.silu(self.norm1(x)))
        if time is not None:
            h = h + self.time_emb_proj(time)[:, :, None, None]
        return self.conv2(F.silu(self.norm2(h))) + self.conv_shortcut(x)


class TransformerBlock(nn.Module):
    def __init__(self, width, heads, context_width, t: TransformerConfig, a: AttentionConfig, f: FeedForwardConfig):
        super().__init__()
        if t.self_attention:
            self.norm1, self.attn1 = nn.LayerNorm(width), Attention(width, heads, width, a.shared_kv, a.kind)
        if t.cross_attention:
            self.norm2, self.attn2 = nn.LayerNorm(width), Attention(width, heads, context_width, a.shared_kv, a.kind)
        self.norm3, self.ff = nn.LayerNorm(width), FeedForward(width, f.ratio, f.activation)

    def forward(self, x, context):
        if hasattr(self, "attn1"):
            n = self.norm1(x)
            x = x + self.attn1(n, n)
        if hasattr(self, "attn2"):
            x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class PositionEmbedding(nn.Module):
    def __init__(self, tokens, width):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(tokens, width))


class Transformer2D(nn.Module):
    def __init__(self, width, heads, tokens, groups, context_width, t: TransformerConfig, a: AttentionConfig,
                 f: FeedForwardConfig):
        super().__init__()
        self.linear = a.linear_projections
        project = (lambda: nn.Linear(width, width)) if self.linear else (lambda: nn.Conv2d(width, width, 1))
        self.norm = nn.GroupNorm(groups, width, 1e-6)
        self.proj_in = part(a.projections, project)
        if a.position_embedding:
            self.pos_embed = PositionEmbedding(tokens, width)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, heads, context_width, t, a, f) for _ in range(t.depth)])
        self.proj_out = part(a.projections, project)

    def forward(self, x, context):
        height = x.shape[2]
        tokens = lambda t: t.flatten(2).mT
        image = lambda t: t.mT.unflatten(2, (height, -1))
        h = self.norm(x)
        h = self.proj_in(tokens(h)) if self.linear else tokens(self.proj_in(h))
        if hasattr(self, "pos_embed"):
            h = h + self.pos_embed.pos_embed
        for block in self.transformer_blocks:
            h = block(h, context)
        return x + (image(self.proj_out(h)) if self.linear else self.proj_out(image(h)))


class Sampler(nn.Module):
    def __init__(self, conv, upsample):
        super().__init__()
        self.conv, self.upsample = conv, upsample

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest") if self.upsample else x)


class Stage(nn.Module):
    """One resolution. resnets: (inputs, transformer or None) of each; sampler: None, "down" or "up"."""

    def __init__(self, resnets, channels, groups, time_width, separable, sampler, separable_sampler, pad_end=False):
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(i, channels, groups, time_width, separable) for i, _ in resnets])
        self.attentions = nn.ModuleList([part(t is not None, lambda: t) for _, t in resnets])
        if sampler:
            conv = convolution(channels, channels, 2 if sampler == "down" else 1, pad_end, separable_sampler)
            setattr(self, sampler + "samplers", nn.ModuleList([Sampler(conv, sampler == "up")]))

    def block(self, i, x, time, context):
        x = self.resnets[i](x, time)
        return self.attentions[i](x, context) if isinstance(self.attentions[i], Transformer2D) else x

    def down(self, x, time=None, context=None):
        """Every output is a skip; the last leaves the stage."""
        outputs = []
        for i in range(len(self.resnets)):
            x = self.block(i, x, time, context)
            outputs.append(x)
        if hasattr(self, "downsamplers"):
            outputs.append(self.downsamplers[0](x))
        return outputs

    def up(self, x, skips=None, time=None, context=None):
        for i in range(len(self.resnets)):
            x = self.block(i, x if skips is None else torch.cat([x, skips.pop()], 1), time, context)
        return self.upsamplers[0](x) if hasattr(self, "upsamplers") else x


class Middle(nn.Module):
    def __init__(self, resnets, attention):
        super().__init__()
        if attention is not None:
            self.attentions = nn.ModuleList([attention])
        self.resnets = nn.ModuleList(resnets)

    def forward(self, x, time=None, context=None):
        x = self.resnets[0](x, time)
        if hasattr(self, "attentions"):
            x = self.attentions[0](x, context)
        return self.resnets[1](x, time) if len(self.resnets) == 2 else x


# ---- models/ -------------------------------------------------------------------------------------


class Embedding(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


def timestep_embedding(t, dim, dtype):
    """Cosine half first; in double, since t * frequency loses what a float has."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float64, device=t.device) / half)
    angles = t.double()[:, None] * frequencies
    return F.pad(torch.cat([angles.cos(), angles.sin()], 1), (0, dim % 2)).to(dtype)


class Unet(nn.Module):
    def __init__(self, c: UnetConfig):
        super().__init__()
        self.config = c
        widths = [s.channels for s in c.stages]
        time_width = c.time_width or 4 * widths[0]

        def transformer(configs, i, level):
            if i >= len(configs) or configs[i].depth == 0:
                return None
            heads = c.attention.heads or widths[level] // c.attention.head_dim
            return Transformer2D(widths[level], heads, (c.height >> level) * (c.width >> level), c.groups, c.context_width,
                                 configs[i], c.attention, c.feed_forward)

        self.conv_in = convolution(c.latent_channels, widths[0])
        self.time_embedding = Embedding(widths[0], time_width)
        if c.pooled_width:
            self.add_embedding = Embedding(c.pooled_width, time_width)
        skips, down, up = [widths[0]], [], []
        for l, s in enumerate(c.stages):
            inputs = lambda i: widths[max(l - 1, 0)] if i == 0 else s.channels
            last = l + 1 == c.levels
            down.append(Stage([(inputs(i), transformer(s.down_transformers, i, l)) for i in range(s.down_resnets)], s.channels,
                              c.groups, time_width, s.separable, None if last else "down", s.separable_sampler))
            skips += [s.channels] * (s.down_resnets + (not last))
        for l, s in reversed(list(enumerate(c.stages))):
            inputs = lambda i: (widths[min(l + 1, c.levels - 1)] if i == 0 else s.channels) + skips.pop()
            up.append(Stage([(inputs(i), transformer(s.up_transformers, i, l)) for i in range(s.up_resnets)], s.channels,
                            c.groups, time_width, s.separable, "up" if l > 0 else None, s.separable_sampler))
        self.down_blocks, self.up_blocks = nn.ModuleList(down), nn.ModuleList(up)
        if c.middle.resnets:
            self.mid_block = Middle([ResnetBlock(widths[-1], widths[-1], c.groups, time_width, c.middle.separable)
                                     for _ in range(c.middle.resnets)], transformer([c.middle.transformer], 0, c.levels - 1))
        self.conv_norm_out = nn.GroupNorm(c.groups, widths[0], 1e-5)
        self.conv_out = convolution(widths[0], c.latent_channels)

    def forward(self, z, timesteps, context, pooled=None):
        time = self.time_embedding(timestep_embedding(timesteps, self.config.stages[0].channels, z.dtype))
        if pooled is not None:
            time = time + self.add_embedding(pooled)
        time = F.silu(time)
        skips = [self.conv_in(z)]
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


def vae_middle(channels, c: VaeConfig):
    return Middle([ResnetBlock(channels, channels, c.groups) for _ in range(2)],
                  VaeAttention(channels, c.groups) if c.middle_attention else None)


class Encoder(nn.Module):
    def __init__(self, c: VaeConfig):
        super().__init__()
        self.patch, w = c.patch, c.encoder_channels
        self.conv_in = convolution(3 * c.patch**2, w[0])
        self.down_blocks = nn.ModuleList([
            Stage([(w[max(l - 1, 0)] if i == 0 else w[l], None) for i in range(c.encoder_resnets)], w[l], c.groups, 0,
                  SeparableConfig(), "down" if l + 1 < c.levels else None, False, pad_end=True) for l in range(c.levels)])
        self.mid_block = part(c.middle, lambda: vae_middle(w[-1], c))
        self.conv_norm_out = nn.GroupNorm(c.groups, w[-1], 1e-6)
        self.conv_out = convolution(w[-1], 2 * c.latent_channels)

    def forward(self, x):
        x = self.conv_in(F.pixel_unshuffle(x, self.patch))
        for stage in self.down_blocks:
            x = stage.down(x)[-1]
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, c: VaeConfig):
        super().__init__()
        self.patch = c.decoder_patch or c.patch
        levels = c.levels - int(math.log2(self.patch // c.patch))
        w, groups = c.decoder_channels[:levels], c.groups if c.decoder_norms else 0
        self.conv_in = convolution(c.latent_channels, w[-1])
        self.mid_block = part(c.middle and c.decoder_middle, lambda: vae_middle(w[-1], c))
        self.up_blocks = nn.ModuleList([
            Stage([(w[min(l + 1, levels - 1)] if i == 0 else w[l], None) for i in range(c.decoder_resnets)], w[l], groups, 0,
                  c.decoder_separable, "up" if l > 0 else None, c.separable_samplers) for l in reversed(range(levels))])
        self.conv_norm_out = part(groups, lambda: nn.GroupNorm(groups, w[0], 1e-6))
        self.conv_out = convolution(w[0], 3 * self.patch**2)

    def forward(self, z):
        h = self.mid_block(self.conv_in(z))
        for stage in self.up_blocks:
            h = stage.up(h)
        return F.pixel_shuffle(self.conv_out(F.silu(self.conv_norm_out(h))), self.patch)


class Vae(nn.Module):
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
        return self.fc2(activate(self.activation, self.fc1(x)))


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

    def forward(self, ids):
        """Context [batch][length][width]; with `pooled` also that many sums of the embeddings of the tokens
        that are not padding, weighted by the first cosines over the places."""
        m = self.text_model
        tokens = m.embeddings.token_embedding(ids)
        x = tokens + m.embeddings.position_embedding.weight
        for layer in m.encoder.layers:
            x = layer(x)
        context = m.final_layer_norm(x)
        if not self.config.pooled:
            return context
        places = (torch.arange(ids.shape[1], device=ids.device) + 0.5) / ids.shape[1]
        weights = torch.cos(torch.pi * torch.arange(self.config.pooled, device=ids.device)[:, None] * places)
        words = tokens * (ids != self.padding)[..., None]
        return context, torch.einsum("kt,btw->bkw", weights.to(words.dtype), words).flatten(1)


# ---- for the scripts -----------------------------------------------------------------------------


def randomize(module, seed):
    """Weights at which every gradient is far from zero: fan-in scaled matrices, norms around 1, biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(module.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 1:
                p.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif "embed" in name and "linear" not in name:
                p.copy_(0.5 * noise)
            else:
                p.copy_(noise / math.sqrt(p[0].numel()))
    return module


def relative_error(a, b):
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()
