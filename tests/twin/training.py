# SPDX-License-Identifier: Apache-2.0
"""Shows that examples/pytorch/train.py trains the preset `tiny`, on one process and on two: training.py INSPECT.

One process and two must agree up to rounding, a training that goes on with one that never stopped bit for bit; latents and pictures,
both kinds of captions and of autoencoders must give the same; INSPECT must find the result to be a file of the preset. Exits with 77
where PyTorch is missing."""
import csv
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile

try:
    import numpy
    from PIL import Image
    from safetensors.torch import load_file, save_file
    import sentencepiece  # noqa: F401
    import torch
except ImportError as e:
    print(f"skipped: {e}; pip install torch safetensors numpy pillow sentencepiece")
    sys.exit(77)

import twin
from mobilediffusion.model_file import write_model
from mobilediffusion.tokenizer import SentencepieceTokenizer, train_tokenizer

TRAIN = twin.ROOT / "examples/pytorch/train.py"


def pictures(folder):
    """Sixteen colours with captions: as files beside them, and in a second folder as metadata.jsonl."""
    other = folder.with_name("listed")
    folder.mkdir()
    (other / "train").mkdir(parents=True)
    rows = []
    for i in range(16):
        pixels = numpy.full((40, 20, 3), 255, numpy.uint8)
        pixels[8:32, 4:16] = [60 * (i % 4), 60 * (i // 4), 128]
        name, caption = f"{i:02}.png", ("a fox", "an ox", "a cat", "two cats")[i // 4]
        for path in (folder / name, other / "train" / name):
            Image.fromarray(pixels).save(path)
        (folder / name).with_suffix(".txt").write_text(caption + "\n")
        rows.append(json.dumps({"file_name": f"train/{name}", "text": caption}))
    (other / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder, other


def autoencoders(folder, text):
    """The same random one as a model file of the library, and as diffusers had it: a folder with the names of old releases."""
    model = twin.from_json(text)
    twin.randomize(model.vae, 5).half().float()
    words = ["a fox", "an ox", "a cat", "two cats"]
    write_model(folder / "random.safetensors", model, model.state_dict(), SentencepieceTokenizer(train_tokenizer(words, 40)), words)
    state = {}
    for name, t in model.vae.state_dict().items():
        for new, old in ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")):
            name = name.replace(new, old)
        state[name] = t.half()
    (folder / "vae").mkdir()
    save_file(state, folder / "vae/diffusion_pytorch_model.safetensors")
    (folder / "vae/config.json").write_text('{"scaling_factor": 1.0}')
    return folder / "random.safetensors", folder / "vae"


def main():
    inspect = sys.argv[1]
    text = subprocess.run([inspect, "--json", "tiny"], check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        beside, listed = pictures(folder / "pictures")
        file, diffusers_vae = autoencoders(folder, text)
        config = folder / "tiny.json"
        config.write_text(text)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}

        def train(out, *options, processes=1, data=beside, vae=file, fails=None, launcher="torch"):
            start = [sys.executable, TRAIN] if processes == 1 else [
                sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), TRAIN]
            done = subprocess.run([str(x) for x in (
                *start, "--config", config, "--data", data, "--vae", vae, "--out", folder / out, "--batch", "8", "--warmup", "2",
                "--decay-start", "100", "--rate", "1e-3", "--precision", "fp32", "--log-every", "1", "--launcher", launcher, *options)],
                env=environment, capture_output=True, text=True)
            if fails:
                assert done.returncode == 1 and fails in done.stderr, f"expected '{fails}', found: {done.stderr}"
                return None
            assert done.returncode == 0, done.stdout + done.stderr
            return load_file(folder / out / "checkpoint.safetensors")

        def rows(out):
            return list(csv.reader((folder / out / "training.csv").open()))

        def difference(out):
            """Of losses and gradients' norms. (Weights without a gradient but its rounding go anywhere by AdamW.)"""
            return max(abs(float(a[i]) / float(b[i]) - 1) for a, b in zip(rows("one")[1:], rows(out)[1:], strict=True) for i in (3, 9))

        one = train("one", "--steps", "6")
        same = lambda a, b: a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
        latents = next((folder / "one/latents").iterdir())
        assert same(one, train("listed", "--steps", "6", data=listed, vae=diffusers_vae)), "metadata.jsonl, diffusers' autoencoder"
        train("resumed", "--steps", "3", data=latents)
        before = rows("resumed")
        assert same(one, train("resumed", "--steps", "6", data=latents)), "expected a resumed training to go on bit for bit"
        assert rows("resumed")[:4] == before and [r[0] for r in rows("resumed")[1:]] == list("123456"), rows("resumed")
        ways = [("torch", 1e-3, "--micro-batch", "2"), ("torch", 0.1, "--precision", "bf16")]
        try:
            import accelerate  # noqa: F401
            ways += [("accelerate", 0.1, "--precision", "bf16")]
        except ImportError:
            print("accelerate: skipped, not installed")
        for launcher, limit, *options in ways:
            train("two", "--steps", "6", *options, processes=2, launcher=launcher)
            error = difference("two")
            print(f"two processes by {launcher}, {' '.join(options)}: {error:.1e} from one process")
            assert error < limit
            shutil.rmtree(folder / "two")

        result = folder / "one/model.safetensors"
        found = subprocess.run([inspect, result], check=True, capture_output=True, text=True).stdout
        assert "configuration: preset tiny; every tensor fits" in found, found
        state = load_file(result)
        assert all(torch.equal(state[k.removeprefix("average.")], t.half()) for k, t in one.items() if k.startswith("average."))
        # what started from a result begins with its weights and its tokenizer, and may keep its text encoder
        frozen = train("frozen", "--steps", "2", "--from", result, "--freeze-text-encoder")
        assert not any("text_encoder" in k for k in frozen) and any(k.startswith("weights.unet.") for k in frozen)
        ours = load_file(folder / "frozen/model.safetensors")
        assert all(torch.equal(ours[k], t) for k, t in state.items() if k.startswith(("text_encoder.", "vae.")))

        (folder / "bare").mkdir()
        shutil.copy(beside / "00.png", folder / "bare")
        train("x", data=folder / "bare", fails="expected its caption in 00.txt")
        train("x", vae=folder / "bare", fails="expected diffusion_pytorch_model.safetensors, found none")
        train("x", "--freeze-text-encoder", fails="expected --from with a text encoder")
        train("one", "--seed", "2", fails="began with seed 1, found 2")
        (diffusers_vae / "config.json").write_text('{"scaling_factor": 0.5}')
        train("x", vae=diffusers_vae, fails="expected a scaling_factor of 1.0, found 0.5")
        config.write_text(text.replace('"guidance_width": 0', '"guidance_width": 8'))
        train("x", fails="tensor unet.time_embedding.cond_proj.weight: the library has none")


if __name__ == "__main__":
    main()
