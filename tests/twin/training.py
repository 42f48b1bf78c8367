# SPDX-License-Identifier: Apache-2.0
"""Shows that examples/pytorch/train.py trains the preset `tiny`, on one process and on two, and a small Stable Diffusion with
CLIP's tokenizer: training.py INSPECT [CLI_FILES TEXT_TO_IMAGE_TOY].

One process and two must agree up to rounding, a training that goes on with one that never stopped bit for bit; latents and pictures,
both kinds of captions and of autoencoders must give the same; INSPECT must find the result to be a file of the preset, and
TEXT_TO_IMAGE_TOY draw the same with a folder that went through it. Exits with 77 where PyTorch is missing."""
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


def clip_tokenizer(folder):
    """The whole of CLIP's, as vocab.json and merges.txt."""
    folder.mkdir()
    merges = (twin.ROOT / "examples/clip/merges.txt").read_text("utf-8")
    rows = [row for row in merges.splitlines()[1:] if row]
    letters = [chr(b) for b in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + i) for i in range(256 - len(letters))]
    tokens = [*letters, *(c + "</w>" for c in letters), *(r.replace(" ", "") for r in rows), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}), "utf-8")
    (folder / "merges.txt").write_text(merges, "utf-8")


def stable_diffusion(folder, train, files, draw):
    """A folder as diffusers has it is trained on, with its text encoder as it was; without a step it draws as it did."""
    try:
        import transformers  # noqa: F401
    except ImportError as e:
        print(f"CLIP's tokenizer: skipped: {e}")
        return
    toy, picture = folder / "toy", folder / "toy.png"
    subprocess.run([files, "sd_toy", toy], check=True)
    clip_tokenizer(toy / "tokenizer")
    config = folder / "sd_toy.json"
    config.write_bytes(subprocess.run([files, "sd_toy_json"], check=True, capture_output=True).stdout)

    def drawn(model):
        subprocess.run([draw, "--preset", "sd_toy", "--model", model, "two cats at dusk", "-o", picture], check=True, capture_output=True)
        pixels = numpy.asarray(Image.open(picture).convert("RGB"))
        picture.unlink()
        return pixels

    options = ("--from", toy, "--freeze-text-encoder")
    train("untrained", "--steps", "0", *options, config=config, vae=toy)
    assert numpy.array_equal(drawn(toy), drawn(folder / "untrained/model")), "expected the same picture without training"
    state = train("sd", "--steps", "2", *options, config=config, vae=toy / "vae")
    assert not any("text_encoder" in k for k in state)
    assert not numpy.array_equal(drawn(toy), drawn(folder / "sd/model")), "expected another picture"
    print("a folder of Stable Diffusion's layout: drawn as before without a step, otherwise after two")


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

        def train(out, *options, processes=1, data=beside, vae=file, fails=None, launcher="torch", config=config):
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
            checkpoint = folder / out / "checkpoint.safetensors"
            return load_file(checkpoint) if checkpoint.exists() else None

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

        if len(sys.argv) > 3:
            stable_diffusion(folder, train, *sys.argv[2:])

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
