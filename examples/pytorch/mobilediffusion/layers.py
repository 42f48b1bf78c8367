# SPDX-License-Identifier: Apache-2.0
"""Layers and blocks, as include/mobilediffusion/layers and blocks have them; channels first, as PyTorch has it."""
import math

import torch
from torch import nn
import torch.nn.functional as F

from .config import AttentionConfig, FeedForwardConfig, SeparableConfig, TransformerConfig

ACTIVATE = {
    "none": lambda x: x,
    "silu": F.silu,
    "gelu": F.gelu,
    "relu": F.relu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


def part(present, make):
    """A part that the configuration leaves out has no weights; its place in a list stays."""
    return make() if present else nn.Identity()


def group_norm(groups, channels, epsilon):
    return part(groups > 0, lambda: nn.GroupNorm(groups, channels, epsilon))


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
        return value * ACTIVATE[self.activation](gate)


class FeedForward(nn.Module):
    def __init__(self, width, ratio, activation):
        super().__init__()
        hidden = width * ratio // 2
        self.net = nn.ModuleList([GatedProjection(width, hidden, activation), nn.Identity(), nn.Linear(hidden, width)])

    def forward(self, x):
        for layer in self.net:
            x = layer(x)
        return x


class ResnetBlock(nn.Module):
    def __init__(self, inputs, outputs, groups, time_width=0, separable=SeparableConfig()):
        super().__init__()
        epsilon = 1e-5 if time_width else 1e-6
        self.norm1 = group_norm(groups, inputs, epsilon)
        self.conv1 = convolution(inputs, outputs, separable=separable.conv1)
        if time_width:
            self.time_emb_proj = nn.Linear(time_width, outputs)
        self.norm2 = group_norm(groups, outputs, epsilon)
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
        self.self_reads_context = t.self_reads_context
        if t.self_attention:
            self.norm1 = nn.LayerNorm(width)
            self.attn1 = Attention(width, heads, context_width if t.self_reads_context else width, a.shared_kv, a.kind)
        if t.cross_attention:
            self.norm2, self.attn2 = nn.LayerNorm(width), Attention(width, heads, context_width, a.shared_kv, a.kind)
        self.norm3, self.ff = nn.LayerNorm(width), FeedForward(width, f.ratio, f.activation)

    def forward(self, x, context):
        if hasattr(self, "attn1"):
            n = self.norm1(x)
            x = x + self.attn1(n, context if self.self_reads_context else n)
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
