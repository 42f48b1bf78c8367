# SPDX-License-Identifier: Apache-2.0
"""Writes adapters of a toy network and the weights that PEFT and LyCORIS merge from them: python lora.py [file].

Needs torch, peft, safetensors and lycoris-lora (4.1 or later). Tensors:
  base/PATH         the network's own weights
  CASE/I/NAME       the adapter's file number I of this case, as the tools name its tensors
  CASE/scales       how much of each file
  CASE/merged/PATH  what the case's files change, once merged
"""
from pathlib import Path
import sys

import torch
from torch import nn
from safetensors.torch import save_file
import peft
from lycoris.modules.full import FullModule
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule

tensors = {}
generator = torch.Generator().manual_seed(1)


def randomize(parameters):
    for p in parameters:
        if p.is_floating_point() and p.ndim > 0:
            p.data = torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.3


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q = nn.Linear(12, 8)
        self.conv1 = nn.Conv2d(6, 4, 3, padding=1)
        self.proj_in = nn.Conv2d(6, 8, 1)
        self.norm1 = nn.LayerNorm(6)


def toy():
    module = Toy().double()
    module.load_state_dict(base)
    return module


base = {k: v.double() for k, v in Toy().state_dict().items()}
randomize(base.values())
base = {k: v.float().double() for k, v in base.items()}
linears, convolutions = ["to_q"], ["conv1", "proj_in"]


def store(case, files, scales, merged):
    """files: a dictionary of tensors each."""
    for i, file in enumerate(files):
        for name, value in file.items():
            tensors[f"{case}/{i}/{name}"] = value.detach().float().contiguous()
    tensors[f"{case}/scales"] = torch.tensor(scales)
    changed = {k: v for k, v in merged.items() if not torch.equal(v, base[k])}
    assert changed, case
    for name, value in changed.items():
        tensors[f"{case}/merged/{name}"] = value.detach().float().contiguous()


def by_peft(case, configs, scales):
    """Several adapters, merged in their order; each config: what LoraConfig takes besides."""
    model = toy()
    files = []
    names = [f"adapter{i}" for i in range(len(configs))]
    for name, config in zip(names, configs):
        model = peft.inject_adapter_in_model(peft.LoraConfig(target_modules=linears + convolutions, **config), model, name)
    model.double()
    randomize(p for n, p in model.named_parameters() if "lora_" in n and "magnitude" not in n)
    for n, p in model.named_parameters():
        if "magnitude" in n:
            p.data = (1 + 0.5 * torch.rand(p.shape, generator=generator, dtype=p.dtype)) * 0.8
    for p in model.parameters():
        p.data = p.data.float().double()
    for name, config, scale in zip(names, configs, scales):
        file = {f"unet.{k}": v for k, v in peft.get_peft_model_state_dict(model, adapter_name=name).items()}
        for module in linears + convolutions:
            strength = config["lora_alpha"] * (config["r"] ** 0.5 if config.get("use_rslora") else 1)
            file[f"unet.{module}.alpha"] = torch.tensor(float(strength))
        files.append(file)
        for layer in model.modules():
            if isinstance(layer, peft.tuners.lora.LoraLayer):
                layer.set_scale(name, scale)
                layer.set_adapter(names)
    for layer in model.modules():
        if isinstance(layer, peft.tuners.lora.LoraLayer):
            layer.merge(adapter_names=names)
    merged = {k.replace(".base_layer", ""): v for k, v in model.state_dict().items() if "lora_" not in k}
    store(case, files, scales, merged)


def by_lycoris(case, kind, modules, scale=1.0, **options):
    model = toy()
    file, merged = {}, dict(base)
    for name in modules:
        module = kind(f"lora_unet_{name}", model.get_submodule(name), **options).double()
        if kind is FullModule:
            module.apply_to()
        randomize(p for n, p in module.named_parameters() if "dora" not in n)
        if hasattr(module, "dora_scale"):
            module.dora_scale.data = module.dora_scale.data.double() * (
                1 + torch.rand(module.dora_scale.shape, generator=generator, dtype=torch.double))
        for p in module.parameters():
            p.data = p.data.float().double()
        state = module.custom_state_dict() or {k: v for k, v in module.named_parameters() if k.endswith("_norm")}
        file |= {f"lora_unet_{name}.{k}": v for k, v in state.items()}
        weight, bias = module.get_merged_weight(multiplier=scale, shape=base[f"{name}.weight"].shape)
        if kind in (LohaModule, LokrModule):  # they have alpha / rank twice there, and once in their own forward pass
            weight = base[f"{name}.weight"] + module.get_weight(base[f"{name}.weight"].shape) * scale
            if hasattr(module, "dora_scale"):
                weight = module.apply_weight_decompose(weight)
        merged[f"{name}.weight"] = weight
        if bias is not None:
            merged[f"{name}.bias"] = bias
    store(case, [file], [scale], merged)


def main(path):
    plain, dora = dict(r=3, lora_alpha=2), dict(r=2, lora_alpha=3, use_dora=True)
    by_peft("lora", [plain], [0.7])
    by_peft("rslora_with_bias", [dict(r=4, lora_alpha=2, use_rslora=True, lora_bias=True)], [0.5])
    by_peft("rank_1", [dict(r=1, lora_alpha=1)], [-1.0])
    by_peft("lora_and_lora", [plain, dict(r=2, lora_alpha=1)], [0.7, 0.4])
    by_peft("dora", [dora], [1.0])
    by_peft("weak_dora", [dora], [0.6])
    by_peft("lora_then_dora", [plain, dora], [0.7, 0.6])
    by_peft("dora_then_lora", [dora, plain], [0.6, 0.7])
    by_peft("dora_then_dora", [dora, dict(r=3, lora_alpha=1, use_dora=True)], [0.6, 0.9])
    every = linears + convolutions
    dims = dict(lora_dim=3, alpha=2)
    by_lycoris("locon", LoConModule, every, 0.5, **dims)
    by_lycoris("locon_tucker", LoConModule, every, 0.5, use_tucker=True, **dims)
    by_lycoris("locon_dora", LoConModule, every, weight_decompose=True, wd_on_out=True, **dims)
    by_lycoris("locon_dora_of_inputs", LoConModule, every, weight_decompose=True, wd_on_out=False, **dims)
    by_lycoris("loha", LohaModule, every, 0.5, **dims)
    by_lycoris("loha_tucker", LohaModule, every, 0.5, use_tucker=True, **dims)
    by_lycoris("loha_dora", LohaModule, every, weight_decompose=True, wd_on_out=True, **dims)
    by_lycoris("lokr", LokrModule, every, 0.5, lora_dim=1, alpha=2, factor=2)
    by_lycoris("lokr_both", LokrModule, every, 0.5, lora_dim=1, alpha=2, factor=4, decompose_both=True)
    by_lycoris("lokr_tucker", LokrModule, every, 0.5, lora_dim=1, alpha=2, factor=2, use_tucker=True)
    by_lycoris("lokr_whole", LokrModule, every, 0.5, lora_dim=100, alpha=2, factor=2)
    by_lycoris("full", FullModule, every, 0.5)
    by_lycoris("norms", NormModule, ["norm1"], 0.5)
    for name, value in base.items():
        tensors[f"base/{name}"] = value.float()
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, peft))
    save_file(tensors, path, {"made_with": versions})  # one entry: several come in random order
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "golden" / "lora.safetensors")
