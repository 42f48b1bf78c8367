# SPDX-License-Identifier: Apache-2.0
"""Shows that examples/pytorch builds every preset of the library: presets.py INSPECT [GENERATE].

INSPECT --json PRESET gives the configuration and the tensors of each; the modules made from it must have exactly those names and
shapes (on PyTorch's meta device, without memory). The preset `tiny` must put out what the golden files hold, and with GENERATE the
shipped one-step model must draw in PyTorch what GENERATE draws of the same words, and the base model have the loss that it was
trained to. Exits with 77 where PyTorch is missing."""
import json
from pathlib import Path
import re
import subprocess
import sys
import tempfile

try:
    import torch
    from safetensors.torch import load_file
    import numpy
except ImportError as e:
    print(f"skipped: {e}; pip install torch safetensors numpy, and pillow sentencepiece for the rest")
    sys.exit(77)

import twin

ROOT = twin.ROOT


def refusals(text):
    """What is not exactly a known configuration is refused by its name."""
    whole = json.loads(text)

    def changed(change):
        copy = json.loads(text)
        change(copy)
        return json.dumps(copy)

    unet = lambda c: c["configuration"]["unet"]
    for change, words in (
            (lambda c: unet(c)["stages"][1]["separable"].update(conv3=True), "unet.stages.1.separable.conv3: unknown"),
            (lambda c: unet(c)["attention"].pop("kind"), "unet.attention.kind: missing"),
            (lambda c: unet(c)["attention"].update(kind="linear"), "unet.attention.kind: expected one of softmax, relu"),
            (lambda c: unet(c).update(groups="4"), "unet.groups: expected a whole number"),
            (lambda c: c["configuration"]["text"].update(causal=1), "text.causal: expected true or false"),
            (lambda c: unet(c).update(levels=2), "tensor unet.down_blocks.1"),
            (lambda c: c["tensors"].update({"unet.conv_in.weight": [8, 3, 1, 1]}), "tensor unet.conv_in.weight: the library has"),
            (lambda c: c.pop("tensors"), "expected an object of")):
        try:
            twin.from_json(changed(change))
        except ValueError as e:
            assert words in str(e), f"expected '{words}', found: {e}"
        else:
            raise AssertionError(f"expected a refusal: {words}")
    assert whole == json.loads(changed(lambda c: None))


def golden_outputs(model):
    """The golden file's outputs from its weights and inputs, in double."""
    tensors = load_file(ROOT / "tests/golden/models.safetensors")
    of = lambda kind, case: {k.split("/", 2)[2]: t for k, t in tensors.items() if k.startswith(f"{case}/{kind}/")}
    first = lambda x: x.permute(0, 3, 1, 2).double() if x.ndim == 4 else x.double()
    for case, module, run in (
            ("unet", model.unet, lambda m, x: {"y": m(first(x["z"]), x["timesteps"], first(x["context"]), first(x["pooled"]))}),
            ("vae", model.vae, lambda m, x: {"moments": m.encode(first(x["picture"])), "picture": m.decode(first(x["z"]))}),
            ("text", model.text_encoder, lambda m, x: dict(zip(("context", "pooled"), m(x["ids"]))))):
        module.load_state_dict({k: t.double() for k, t in of("weights", case).items()})
        with torch.no_grad():
            outputs = run(module.double(), of("inputs", case))
        for name, expected in of("outputs", case).items():
            error = twin.relative_error(outputs[name], first(expected))
            print(f"tiny, {case} {name}: error {error:.1e}")
            assert error < 1e-6, f"{case} {name}: {error}"


def draw(generate, folder, model, prompts, config):
    """The library's pictures, [prompts][3][height][width] in [-1, 1]."""
    from mobilediffusion.data import read_picture
    pictures = []
    for i, prompt in enumerate(prompts):
        out = Path(folder) / f"{i}.png"
        subprocess.run([generate, prompt, "--model", model, "-o", out], check=True, capture_output=True)
        pictures.append(read_picture(out, config.vae.height, config.vae.width))
        out.unlink()
    return torch.stack(pictures)


@torch.no_grad()
def drawn_alike(text, generate):
    """The shipped models: in one step over another noise than the library's, of which pictures hardly depend; and the loss that
    the base model was trained to, on pictures that it draws."""
    from mobilediffusion.diffusion import Samples
    from mobilediffusion.model_file import load_part, read_tokenizer

    prompts = ["a fox on a red background", "a red apple on a white background", "an owl on a teal background"]
    model = twin.from_json(text).eval()
    c = model.config

    def load(path):
        for part in ("text_encoder", "unet", "vae"):
            load_part(model, part, path)
        tokenizer = read_tokenizer(path)
        return [tokenizer.encode(p, c.text.length) for p in prompts]

    with tempfile.TemporaryDirectory() as folder:
        path = ROOT / "examples/emoji_one_step.safetensors"
        context, pooled = model.text_encoder(torch.tensor(load(path)))
        noise = torch.randn(3, c.unet.latent_channels, c.unet.height, c.unet.width, generator=torch.Generator().manual_seed(1))
        v = model.unet(noise, torch.full((3,), 999.999), context, pooled)
        mine = model.vae.to_picture(-v).clamp(-1, 1)  # at t = 1: alpha 0, sigma 1
        theirs = draw(generate, folder, path, prompts, c)
        decibels = lambda a, b: float(10 * torch.log10(4 / (a - b).square().mean()))
        for i, prompt in enumerate(prompts):
            same, other = decibels(mine[i], theirs[i]), decibels(mine[i], theirs[(i + 1) % 3])
            print(f"{prompt}: {same:.1f} dB from the library's picture, {other:.1f} dB from that of another prompt")
            assert same > 28 and other < 15, "expected the library's picture"

        path = ROOT / "examples/emoji.safetensors"
        ids = load(path)
        latents = model.vae.to_latents(draw(generate, folder, path, prompts, c))

        def loss(shift):
            """With the captions of other pictures where shift is not 0."""
            data = [(latents[i], ids[(i + shift) % 3]) for i in range(3)]
            samples = Samples(data, c.sampler, None, 24, 1, 0.0)
            batch = torch.utils.data.default_collate([samples[i] for i in range(24)])
            y = model.unet(batch["z"], batch["timestep"], *model.text_encoder(batch["ids"]))
            return float((y - batch["goal"]).square().mean())

        right, wrong = loss(0), loss(1)
        print(f"loss of the shipped model: {right:.3f} (its training ended at 0.09), with wrong captions {wrong:.3f}")
        assert right < 0.13 and wrong > 3 * right


def main():
    inspect = sys.argv[1]
    json_of = lambda preset: subprocess.run([inspect, "--json", preset], check=True, capture_output=True, text=True).stdout
    found = re.search(r"--json PRESET:\{([^}]*)\}", subprocess.run([inspect, "--help"], check=True, capture_output=True, text=True).stdout)
    presets = re.split(r"[,\s]+", found.group(1).strip())
    for preset in presets:
        with torch.device("meta"):
            model = twin.from_json(json_of(preset))
        print(f"{preset}: {len(model.state_dict())} tensors, {sum(p.numel() for p in model.parameters()):,} parameters")
    assert {"tiny", "emoji", "full", "lite", "sdxl"} <= set(presets), presets
    refusals(json_of("tiny"))
    golden_outputs(twin.from_json(json_of("tiny")))
    if len(sys.argv) > 2:
        try:
            import PIL, sentencepiece  # noqa: F401
        except ImportError as e:
            print(f"pictures: skipped: {e}")
        else:
            drawn_alike(json_of("emoji"), sys.argv[2])


if __name__ == "__main__":
    main()
