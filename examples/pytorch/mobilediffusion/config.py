# SPDX-License-Identifier: Apache-2.0
"""A model's configuration: the structs of include/mobilediffusion/config/config.hpp, field by field, read from the JSON that
`inspect --json PRESET` writes. Lists may be shorter than the arrays of C++: what is missing is a default, which is never used."""
from dataclasses import dataclass, field, fields, is_dataclass
import json
import math
import typing

Count = int  # std::size_t


def _choice(default, *choices):
    """An enumerator, by its name."""
    return field(default=default, metadata={"choices": choices})


def _of(make):
    return field(default_factory=make)


ACTIVATIONS = ("none", "silu", "gelu", "quick_gelu", "relu")


@dataclass
class TransformerConfig:
    depth: Count = 0
    self_attention: bool = True
    cross_attention: bool = True
    self_reads_context: bool = False


@dataclass
class SeparableConfig:
    conv1: bool = False
    conv2: bool = False


@dataclass
class StageConfig:
    channels: Count = 0
    down_resnets: Count = 1
    up_resnets: Count = 2
    down_transformers: list[TransformerConfig] = _of(list)
    up_transformers: list[TransformerConfig] = _of(list)
    separable: SeparableConfig = _of(SeparableConfig)
    heads: Count = 0
    separable_sampler: bool = False


@dataclass
class MiddleConfig:
    resnets: Count = 2
    transformer: TransformerConfig = _of(TransformerConfig)
    separable: SeparableConfig = _of(SeparableConfig)


@dataclass
class AttentionConfig:
    head_dim: Count = 64
    heads: Count = 0
    shared_kv: bool = True
    kind: str = _choice("softmax", "softmax", "relu")
    projections: bool = True
    linear_projections: bool = False
    position_embedding: bool = False


@dataclass
class FeedForwardConfig:
    ratio: Count = 6
    activation: str = _choice("silu", *ACTIVATIONS)


@dataclass
class UnetConfig:
    height: Count = 64
    width: Count = 64
    latent_channels: Count = 4
    input_channels: Count = 0
    levels: Count = 3
    stages: list[StageConfig] = _of(list)
    middle: MiddleConfig = _of(MiddleConfig)
    attention: AttentionConfig = _of(AttentionConfig)
    feed_forward: FeedForwardConfig = _of(FeedForwardConfig)
    context_length: Count = 77
    context_width: Count = 768
    pooled_width: Count = 0
    guidance_width: Count = 0
    time_width: Count = 0
    groups: Count = 32

    def heads(self, level):
        stage = self.stages[level]
        return stage.heads or self.attention.heads or stage.channels // self.attention.head_dim


@dataclass
class VaeConfig:
    kind: str = _choice("autoencoder_kl", "autoencoder_kl", "autoencoder_tiny")
    height: Count = 512
    width: Count = 512
    latent_channels: Count = 4
    patch: Count = 1
    decoder_patch: Count = 0
    levels: Count = 4
    encoder_channels: list[Count] = _of(lambda: [128, 256, 512, 512])
    decoder_channels: list[Count] = _of(lambda: [128, 256, 512, 512])
    encoder_resnets: Count = 2
    decoder_resnets: Count = 3
    middle: bool = True
    decoder_middle: bool = True
    middle_attention: bool = True
    quant_conv: bool = True
    decoder_separable: SeparableConfig = _of(SeparableConfig)
    separable_samplers: bool = False
    groups: Count = 32
    decoder_norms: bool = True
    scaling_millionths: Count = 182150

    @property
    def scaling(self):
        return self.scaling_millionths / 1e6

    def decoder_end(self):
        """The decoder's patch, its levels (one less for each doubling of the patch) and its groups."""
        patch = self.decoder_patch or self.patch
        return patch, self.levels - int(math.log2(patch // self.patch)), self.groups if self.decoder_norms else 0


@dataclass
class TextEncoderConfig:
    vocabulary: Count = 49408
    length: Count = 77
    width: Count = 768
    layers: Count = 12
    heads: Count = 12
    mlp_ratio: Count = 4
    activation: str = _choice("quick_gelu", *ACTIVATIONS)
    causal: bool = True
    pooled: Count = 0
    penultimate: bool = False
    projection: Count = 0


@dataclass
class SamplerConfig:
    schedule: str = _choice("scaled_linear", "scaled_linear", "cosine")
    prediction: str = _choice("v", "epsilon", "v", "sample")
    shift_percent: Count = 100
    steps: Count = 20
    guidance_percent: Count = 300


@dataclass
class ModelConfig:
    text: TextEncoderConfig = _of(TextEncoderConfig)
    text_2: TextEncoderConfig = _of(lambda: TextEncoderConfig(layers=0))
    unet: UnetConfig = _of(UnetConfig)
    vae: VaeConfig = _of(VaeConfig)
    sampler: SamplerConfig = _of(SamplerConfig)


def _parse(kind, value, path, choices=None):
    """value, of a JSON text, as the type `kind`. Raises ValueError naming the path, what was expected and what was found."""
    def expect(holds, what):
        if not holds:
            raise ValueError(f"configuration: {path or 'the whole'}: expected {what}, found {json.dumps(value)[:80]}")

    if is_dataclass(kind):
        expect(isinstance(value, dict), "an object")
        types, known = typing.get_type_hints(kind), {f.name: f for f in fields(kind)}
        inside = lambda name: f"{path}.{name}" if path else name
        for name in value:
            if name not in known:
                raise ValueError(f"configuration: {inside(name)}: unknown to this program, which is older or newer than the library")
        for name in known:
            if name not in value:
                raise ValueError(f"configuration: {inside(name)}: missing; take what `inspect --json PRESET` writes")
        return kind(**{n: _parse(types[n], value[n], inside(n), f.metadata.get("choices")) for n, f in known.items()})
    if typing.get_origin(kind) is list:
        expect(isinstance(value, list), "an array")
        return [_parse(typing.get_args(kind)[0], v, f"{path}.{i}") for i, v in enumerate(value)]
    if kind is bool:
        expect(isinstance(value, bool), "true or false")
    elif kind is int:
        expect(isinstance(value, int) and not isinstance(value, bool) and value >= 0, "a whole number")
    else:
        expect(value in choices, "one of " + ", ".join(choices))
    return value


def parse_configuration(value):
    """A ModelConfig of what json.loads made of the configuration."""
    return _parse(ModelConfig, value, "")
