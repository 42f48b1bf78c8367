#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains UNet and text encoder of any architecture of the library on pictures with captions, and writes what TextToImage opens:

    build/examples/inspect --json full > full.json
    torchrun --nproc-per-node 8 train.py --config full.json --data PICTURES --vae VAE --out FOLDER

One process, several under torchrun, or what `accelerate launch` starts. A killed training goes on from its last checkpoint, on any
number of processes. FOLDER then holds model.safetensors (with CLIP's tokenizer: a folder `model`), the losses, the latents."""
import argparse
import csv
import hashlib
from pathlib import Path
import sys
import time

import torch

from mobilediffusion import from_json, initialize
from mobilediffusion.checkpoint import load_checkpoint, save_checkpoint
from mobilediffusion.data import Latents, encode_pictures, list_pictures
from mobilediffusion.diffusion import Average, Samples, decays, learning_rate
from mobilediffusion.model_file import has_part, load_part, read_tokenizer, write_model
from mobilediffusion.processes import start_processes
from mobilediffusion.tokenizer import SentencepieceTokenizer, train_tokenizer

COLUMNS = ["step", "seconds", "samples_per_second", "loss", "t<.25", "t<.5", "t<.75", "t<.9", "t<1", "gradient_norm", "learning_rate"]
BANDS = torch.tensor([0.25, 0.5, 0.75, 0.9])


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    path = dict(type=Path, metavar="PATH")
    p.add_argument("--config", required=True, help="what `inspect --json PRESET` wrote", **path)
    p.add_argument("--data", required=True, help="a folder of pictures with captions, or of latents (OUT/latents of a training)", **path)
    p.add_argument("--out", required=True, help="folder for checkpoint, losses, latents and the model", **path)
    p.add_argument("--vae", help="a model file of the library, or a folder with diffusers' autoencoder; default: that of --from", **path)
    p.add_argument("--from", dest="start", help="a model file or a diffusers folder: networks and tokenizer to start from", **path)
    p.add_argument("--freeze-text-encoder", action="store_true", help="it stays as --from has it")
    p.add_argument("--steps", type=int, default=100000)
    p.add_argument("--batch", type=int, default=64, help="of all processes together")
    p.add_argument("--micro-batch", type=int, help="samples that a process computes at once; default: its share of the batch")
    p.add_argument("--rate", type=float, default=1e-4, help="peak learning rate; it ends at 0.03 of it")
    p.add_argument("--warmup", type=int, default=300, help="steps")
    p.add_argument("--decay-start", type=int, help="step; default: half of the steps")
    p.add_argument("--weight-decay", type=float, default=0.01)
    p.add_argument("--clip", type=float, default=1.0, help="of the gradient's norm")
    p.add_argument("--ema", type=float, default=0.999, help="decay of the average, which is what draws")
    p.add_argument("--caption-dropout", type=float, default=0.1, help="share of samples without their caption")
    p.add_argument("--precision", choices=("fp32", "bf16"), default="bf16", help="of products")
    p.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), default="float16", help="of the model's file")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--save-every", type=int, default=1000, help="steps")
    p.add_argument("--log-every", type=int, default=20, help="steps")
    p.add_argument("--workers", type=int, default=0, help="processes that load data, for each that trains")
    p.add_argument("--launcher", choices=("auto", "accelerate", "torch"), default="auto", help="auto: accelerate where installed")
    return p.parse_args()


class Learner(torch.nn.Module):
    """What learns: text encoder and UNet, one call a pass."""

    def __init__(self, model):
        super().__init__()
        self.text_encoder, self.unet = model.text_encoder, model.unet

    def forward(self, batch):
        context, pooled = self.text_encoder(batch["ids"])
        y = self.unet(batch["z"], batch["timestep"], context, pooled)
        return (y.float() - batch["goal"]).square().mean((1, 2, 3))  # of each sample


def make_model(args):
    model = from_json(args.config.read_text())
    c = model.config
    for unknown, what in ((c.text_2.layers, "a second text encoder"), (c.unet.guidance_width, "guidance as an input"),
                          (c.unet.input_channels not in (0, c.unet.latent_channels), "an inpainting UNet")):
        if unknown:
            raise ValueError(f"{args.config}: {what}: this program cannot train it, as the library's trainer")
    initialize(model, args.seed)
    for part in ("text_encoder", "unet"):
        if args.start and has_part(args.start, part):
            load_part(model, part, args.start)
    if args.freeze_text_encoder and not (args.start and has_part(args.start, "text_encoder")):
        raise ValueError("--freeze-text-encoder: expected --from with a text encoder")
    if not (args.vae or (args.start and has_part(args.start, "vae"))):
        raise ValueError("--vae: expected an autoencoder, since latents come of one, and it is part of the model; train it with "
                         "examples/train, or take that of a diffusers folder")
    load_part(model, "vae", args.vae or args.start)
    return model.eval()


def make_latents(args, model, processes):
    """Of the pictures: each process encodes its share, once."""
    c = model.config.unet
    shape = [c.latent_channels, c.height, c.width]
    if any(args.data.glob("*.safetensors")):
        return Latents(args.data, shape)
    digest = hashlib.sha256()
    for name, t in sorted(model.vae.encoder.state_dict().items()):
        digest.update(name.encode() + t.numpy().tobytes())
    folder = args.out / "latents" / digest.hexdigest()[:16]  # latents of another encoder are another language
    done = folder / "done"
    if not done.exists():
        pairs, (rank, world) = list_pictures(args.data), (processes.rank, processes.world)
        mine = pairs[len(pairs) * rank // world:len(pairs) * (rank + 1) // world]
        model.vae.to(processes.device)
        if mine:
            encode_pictures(mine, model.vae, folder / f"{rank:05}-of-{world:05}.safetensors", processes.device,
                            report=lambda n: print(f"\rencoding: {n} of {len(mine)}", end="", flush=True) if rank == 0 else None)
        processes.wait()
        if rank == 0:
            print()
            done.touch()
    processes.wait()
    model.vae.cpu()
    return Latents(folder, shape)


def make_tokenizer(args, model, data, processes):
    text, path = model.config.text, args.out / "tokenizer.model"
    tokenizer = read_tokenizer(args.start) if args.start else None
    if not tokenizer:
        if processes.rank == 0 and not path.exists():
            path.write_bytes(train_tokenizer(data.captions, text.vocabulary))
        processes.wait()
        tokenizer = SentencepieceTokenizer(path.read_bytes())
    if tokenizer.vocabulary > text.vocabulary:
        raise ValueError(f"tokenizer: expected at most {text.vocabulary} pieces, found {tokenizer.vocabulary}")
    return tokenizer


class Log:
    """A CSV file that grows with the training; rows behind the last checkpoint are dropped, and time goes on from there."""

    def __init__(self, path, step):
        rows = [r for r in csv.reader(path.open()) if r[:1] != ["step"] and int(r[0]) <= step] if path.exists() and step else []
        self.before, self.start = float(rows[-1][1]) if rows else 0.0, time.perf_counter()
        self.file = path.open("w", newline="")
        self.writer = csv.writer(self.file, lineterminator="\n")
        self.writer.writerows([COLUMNS, *rows])

    def row(self, step, rate, values):
        seconds = self.before + time.perf_counter() - self.start
        self.writer.writerow([step, f"{seconds:.2f}", f"{rate:.2f}", *(f"{v:.6g}" for v in values)])
        self.file.flush()


def train(args, processes):
    args.out.mkdir(parents=True, exist_ok=True)
    model = make_model(args)
    if args.batch % processes.world:
        raise ValueError(f"--batch {args.batch}: expected a multiple of the {processes.world} processes")
    share = args.batch // processes.world
    micro = args.micro_batch or share
    if share % micro:
        raise ValueError(f"--micro-batch {micro}: expected a divisor of {share}, a process's share of the batch")
    data = make_latents(args, model, processes)
    tokenizer = make_tokenizer(args, model, data, processes)
    length = model.config.text.length
    data.encode = lambda caption: tokenizer.encode(caption, length)
    samples = Samples(data, model.config.sampler, data.encode(""), args.batch, args.seed, args.caption_dropout)

    learner = Learner(model).to(processes.device).train()
    learner.unet.to(memory_format=torch.channels_last)
    learner.text_encoder.requires_grad_(not args.freeze_text_encoder)
    parameters = {k: p for k, p in learner.named_parameters() if p.requires_grad}
    groups = [[p for k, p in parameters.items() if decays(k, p) == flag] for flag in (True, False)]
    optimizer = torch.optim.AdamW([{"params": groups[0], "weight_decay": args.weight_decay}, {"params": groups[1], "weight_decay": 0.0}],
                                  lr=args.rate, betas=(0.9, 0.99), eps=1e-8)
    average = Average(parameters, args.ema)
    checkpoint, identity = args.out / "checkpoint.safetensors", {"seed": str(args.seed), "batch": str(args.batch)}
    step = load_checkpoint(checkpoint, parameters, average, optimizer, identity) if checkpoint.exists() else 0
    run, prepared = processes.prepare(learner, optimizer, find_unused_parameters=model.config.text.penultimate)

    first, last = step * args.batch, args.steps * args.batch
    mine = (n for n in range(first, last) if n % args.batch // share == processes.rank)
    loader = iter(torch.utils.data.DataLoader(samples, batch_size=micro, sampler=mine, num_workers=args.workers,
                                              pin_memory=processes.device.type == "cuda"))
    head = processes.rank == 0
    log = Log(args.out / "training.csv", step) if head else None
    if head:
        print(f"{processes.text}: {len(data)} pictures, {sum(p.numel() for p in parameters.values()):,} parameters, "
              f"steps {step} to {args.steps} of {args.batch} samples", flush=True)
    begin, counted = time.perf_counter(), 0
    while step < args.steps:
        losses = torch.zeros(2, len(BANDS) + 1)  # sums and numbers by time
        prepared.zero_grad()
        for i in range(share // micro):
            batch = {k: v.to(processes.device, non_blocking=True) for k, v in next(loader).items()}
            batch["z"] = batch["z"].to(memory_format=torch.channels_last)
            with processes.without_sum(run) if i + 1 < share // micro else torch.enable_grad():
                with processes.autocast():
                    each = run(batch)
                processes.backward(each.mean() * micro / share)
            band = torch.bucketize(batch["t"].cpu(), BANDS.double(), right=True)
            losses[0].index_add_(0, band, each.detach().float().cpu())
            losses[1].index_add_(0, band, torch.ones(micro))
        norm = float(torch.nn.utils.clip_grad_norm_(parameters.values(), args.clip))
        step += 1
        if norm - norm != 0:
            raise ValueError(f"training: the gradient is not finite at step {step}; lower the learning rate")
        rate = learning_rate(step, args.rate, 0.03 * args.rate, args.warmup, args.decay_start or args.steps // 2, args.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        prepared.step()
        average.update(parameters, step)
        counted += args.batch
        if step % args.log_every == 0 or step == args.steps:
            sums, numbers = processes.sum(losses.to(processes.device)).cpu()
            if head:
                seconds = time.perf_counter() - begin
                log.row(step, counted / seconds, [sums.sum() / args.batch, *(sums / numbers.clamp_min(1)), norm, rate])
                print(f"step {step} of {args.steps}, loss {sums.sum() / args.batch:.4f}, {counted / seconds:.1f} samples/s", flush=True)
            begin, counted = time.perf_counter(), 0
        if head and (step % args.save_every == 0 or step == args.steps):
            save_checkpoint(checkpoint, parameters, average, optimizer, step, identity)
    if head:
        state = {**model.state_dict(), **average.values}
        path = args.out / ("model" if tokenizer.is_clip else "model.safetensors")
        write_model(path, model, state, tokenizer, data.captions, getattr(torch, args.dtype),
                    {"training.samples": str(args.steps * args.batch), "training.seed": str(args.seed)})
        print(f"wrote {path}")
    processes.wait()


def main():
    args = parse()
    processes = None
    try:
        processes = start_processes(args.launcher, args.precision == "bf16")
        train(args, processes)
    except (ValueError, OSError) as e:
        print(f"train.py: {e}", file=sys.stderr)
        return 1
    finally:
        if processes:
            processes.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
