# SPDX-License-Identifier: Apache-2.0
"""The library's models in PyTorch (examples/pytorch), and what the scripts here do with them.

A development tool: golden.py writes the tensors that the C++ tests compare with, check.py shows that the modules equal those of
diffusers and transformers where an architecture exists there, presets.py that they are those of every preset, train_step.py times
them. Nothing in the library needs it."""
import json
import math
from pathlib import Path
import sys

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples/pytorch"))
from mobilediffusion import *  # noqa: E402, F401, F403
from mobilediffusion import TransformerConfig, parse_configuration  # noqa: E402


def full_blocks(depth):
    return TransformerConfig(depth)


def preset(name):
    """`tiny` or `full`, as `inspect --json` has the configuration; tests hold these files to the library's."""
    return parse_configuration(json.loads((ROOT / f"tests/golden/{name}.json").read_text()))


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
