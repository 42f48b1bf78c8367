# SPDX-License-Identifier: Apache-2.0
"""The library's models in PyTorch: the same configuration fields, the same state-dict names."""
from .config import (
    AttentionConfig,
    FeedForwardConfig,
    MiddleConfig,
    ModelConfig,
    SamplerConfig,
    SeparableConfig,
    StageConfig,
    TextEncoderConfig,
    TransformerConfig,
    UnetConfig,
    VaeConfig,
    parse_configuration,
)
from .layers import Attention, FeedForward, ResnetBlock, Transformer2D, TransformerBlock, convolution
from .models import Model, TextEncoder, TinyVae, Unet, Vae, from_json, initialize, make_vae
