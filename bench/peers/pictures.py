# SPDX-License-Identifier: Apache-2.0
"""Prompt to PNG on one checkpoint, beside the programs that people draw with: time and peak memory.

    cmake --preset bench && cmake --build build-bench --target bench_pictures
    python -m pip install torch diffusers transformers stable-diffusion-cpp-python "optimum-intel[openvino,diffusers]" \\
      openvino-genai
    python bench/peers/pictures.py [--model sd_turbo] [--rounds 3] [--engines ours-int8,...] [--taesd] [--threads 2] [--steps 4]

The checkpoint has the published structure and random weights (seeded, fp16): a folder as diffusers saves it, the same as one file
of the LDM layout, and as Optimum Intel converts the folder for OpenVINO GenAI. Every engine is a process that keeps its model
loaded and first draws a picture of one step that is not timed; engines run one after the other, since several models do not fit
into memory. Peak memory is the process's, loading included, conversion not. sd_turbo: one step, no guidance. sd15: 20 steps,
guidance 7.5. Samplers take one pass of the UNet a step: ours DDIM, the others Euler's method.
"""
import argparse
import functools
import io
import json
import os
from pathlib import Path
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROMPT = "a photograph of a lighthouse at dusk"
MODELS = {"sd_turbo": dict(twin="sd21_base", steps=1, guidance=1.0), "sd15": dict(twin="sd15", steps=20, guidance=7.5)}
# The weights of an engine of OpenVINO (openvino_folder) and the precision that it is told to compute in.
OPENVINO = {"openvino-fp32": ("fp16", "f32"), "openvino-bf16": ("fp16", "bf16"), "openvino-int8weights": ("int8weights", "bf16"),
            "openvino-int8": ("int8", "bf16")}
ENGINES = ["ours-fp32", "ours-bf16", "ours-int8", "sdcpp-f32", "sdcpp-f16", "sdcpp-q8_0", "diffusers-fp32", "diffusers-bf16",
           *OPENVINO]


@functools.cache
def ldm_names(section):
    """[(name in the LDM layout, name in diffusers' layout, shape)] of tests/golden/ldm_names.txt."""
    rows, here, names = [], False, ["", ""]
    for line in (ROOT / "tests/golden/ldm_names.txt").read_text().splitlines():
        if line.startswith("= "):
            here, names = line[2:] == section, ["", ""]
        elif here:
            words = line.split(" ")  # the rest of a name may be empty
            names = [names[0][: int(words[0])] + words[1], names[1][: int(words[2])] + words[3]]
            rows.append((names[0], names[1], tuple(map(int, words[4:]))))
    return rows


def make_checkpoint(folder, model):
    """folder/diffusers and folder/model.safetensors, and folder/taesd.safetensors."""
    if (folder / "made").exists():
        return
    import torch
    from diffusers import AutoencoderTiny
    from safetensors.torch import load_file, save_file
    sys.path.insert(0, str(ROOT / "tests/twin"))
    import full_size
    import twin
    twin_name = MODELS[model]["twin"]
    full_size.write_model(folder / "diffusers", twin_name, torch.float16, {}, False)
    tokenizer = folder / "diffusers" / "tokenizer"
    for old in tokenizer.iterdir():
        old.unlink()
    merges = (ROOT / "examples/clip/merges.txt").read_text("utf-8")
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    made = [line.replace(" ", "") for line in merges.splitlines() if " " in line and not line.startswith("#version")]
    tokens = letters + [x + "</w>" for x in letters] + made + ["<|startoftext|>", "<|endoftext|>"]
    (tokenizer / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}), "utf-8")
    (tokenizer / "merges.txt").write_text(merges, "utf-8")
    name_as_published(folder / "diffusers")
    parts = {part: load_file(folder / "diffusers" / part / file)
             for part, file in (("unet", "diffusion_pytorch_model.safetensors"), ("vae", "diffusion_pytorch_model.safetensors"),
                                ("text_encoder", "model.safetensors"))}
    text = parts["text_encoder"]
    out = {}

    def add(section, state):
        for ldm in dict.fromkeys(name for name, _, _ in ldm_names(section)):
            rows = [(ours, shape) for name, ours, shape in ldm_names(section) if name == ldm and ours in state]
            if len(rows) == 1:
                out[ldm] = state[rows[0][0]].reshape(rows[0][1]).contiguous()
            elif rows:  # thirds: q, k, v
                values = dict((next(x for x in "qkv" if f".{x}_proj." in ours), state[ours]) for ours, _ in rows)
                out[ldm] = torch.cat([values[x] for x in "qkv"]).contiguous()

    add(twin_name, parts["unet"])
    add("vae", parts["vae"])
    if twin_name == "sd15":
        out |= {"cond_stage_model.transformer." + k: v.contiguous() for k, v in text.items()}
    else:
        add("open_clip", text)
        front = "cond_stage_model.model.transformer.resblocks."
        for name in [n for n in out if n.startswith(front + "22.")]:  # the layer that is there and not read
            out.setdefault(name.replace(front + "22.", front + "23."), out[name].clone())
        out["cond_stage_model.model.text_projection"] = torch.eye(1024, dtype=torch.float16)
    save_file(out, folder / "model.safetensors")
    tiny = twin.randomize(AutoencoderTiny(), 9).half()
    save_file({k: v.contiguous() for k, v in tiny.state_dict().items()}, folder / "taesd.safetensors")
    tiny.save_pretrained(folder / "taesd")
    (folder / "made").write_text("")


def name_as_published(folder):
    """Names of a text encoder as published folders have them: the newest transformers leave out the front, others need it."""
    from safetensors.torch import load_file, save_file
    path = folder / "text_encoder" / "model.safetensors"
    state = load_file(path)
    if not all(k.startswith("text_model.") for k in state):
        save_file({"text_model." + k.removeprefix("text_model."): v.contiguous() for k, v in state.items()}, path, {"format": "pt"})


def complete_folder(folder, model):
    """What a whole pipeline's folder has beside its networks."""
    pad = "<|endoftext|>" if MODELS[model]["twin"] == "sd15" else "!"
    write = lambda path, value: path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
    write(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "feature_extractor": [None, None], "requires_safety_checker": False,
        "safety_checker": [None, None], "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})
    write(folder / "tokenizer" / "tokenizer_config.json", {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>", "pad_token": pad})
    write(folder / "scheduler" / "scheduler_config.json", {
        "_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000, "prediction_type": "epsilon", "timestep_spacing": "trailing", "steps_offset": 1})


def openvino_folder(folder, model, kind, taesd):
    """The diffusers folder as Optimum Intel converts it for OpenVINO, tokenizer included; made where it is not there.
    fp16: no number is changed. int8weights: 8-bit weights of all networks, products as they are (what `optimum-cli export openvino
    --weight-format int8` does). int8: NNCF's hybrid quantization, weights and inputs of the UNet's convolutions in 8 bits, 8-bit
    weights elsewhere; its ranges come from four passes of the UNet as it draws our prompt."""
    out = folder / f"openvino-{kind}"
    if not (out / "made").exists():
        from optimum.exporters.openvino.convert import export_tokenizer
        from optimum.intel import OVConfig, OVQuantizer, OVStableDiffusionPipeline, OVWeightQuantizationConfig
        steps, guidance = MODELS[model]["steps"], MODELS[model]["guidance"]

        class AsDrawn(OVStableDiffusionPipeline):  # the quantizer would draw with 50 steps
            def __call__(self, **options):
                return super().__call__(num_inference_steps=steps, guidance_scale=guidance, **options)

        if kind == "fp16":
            pipe = OVStableDiffusionPipeline.from_pretrained(folder / "diffusers", export=True, compile=False)
            pipe.save_pretrained(out)
        else:
            pipe = OVStableDiffusionPipeline.from_pretrained(openvino_folder(folder, model, "fp16", False), compile=False)
            pipe.__class__ = AsDrawn
            hybrid = dict(quant_method="hybrid", dataset=[PROMPT] * 4, num_samples=4) if kind == "int8" else {}
            config = OVConfig(quantization_config=OVWeightQuantizationConfig(bits=8, **hybrid))
            OVQuantizer(pipe).quantize(ov_config=config, save_directory=out)
        export_tokenizer(pipe.tokenizer, out / "tokenizer")
        (out / "made").write_text("")
    if not taesd:
        return out
    tiny = folder / f"openvino-{kind}-taesd"
    if not (tiny / "made").exists():
        import openvino
        import torch
        from diffusers import AutoencoderTiny

        class Decoder(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.vae = AutoencoderTiny.from_pretrained(folder / "taesd").float()

            def forward(self, latent_sample):
                return self.vae.decode(latent_sample, return_dict=False)[0]

        tiny.mkdir(exist_ok=True)
        for part in out.iterdir():
            if not part.name.startswith("vae") and part.name != "made" and not (tiny / part.name).exists():
                (tiny / part.name).symlink_to(part)
        decoder = openvino.convert_model(Decoder().eval(), example_input=torch.zeros(1, 4, 64, 64),
                                         input=[("latent_sample", [-1, 4, -1, -1])])
        decoder.outputs[0].tensor.set_names({"sample"})
        (tiny / "vae_decoder").mkdir(exist_ok=True)
        openvino.save_model(decoder, tiny / "vae_decoder" / "openvino_model.xml")
        config = json.loads((out / "vae_decoder" / "config.json").read_text())
        (tiny / "vae_decoder" / "config.json").write_text(json.dumps(config | {"scaling_factor": 1.0}))
        (tiny / "made").write_text("")
    return tiny


# ---- engines: each answers "time N" with the seconds of N pictures, one line ------------------------------------------------


def serve(draw, steps):
    """draw(steps) makes one picture; the first, in one step, is not timed."""
    draw(1)
    print("ready {}", flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        seconds = []
        for _ in range(int(line.split()[1])):
            start = time.perf_counter()
            draw(steps)
            seconds.append(time.perf_counter() - start)
        print(*seconds, flush=True)


def as_png(image):
    image.save(io.BytesIO(), "PNG")


def serve_diffusers(folder, model, dtype, taesd, threads):
    import torch
    import diffusers
    torch.set_num_threads(threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]  # from the first: loading in fp32 would take more memory
    tiny = {"vae": diffusers.AutoencoderTiny.from_pretrained(folder / "taesd", torch_dtype=dtype)} if taesd else {}
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder / "diffusers", torch_dtype=dtype, **tiny)
    pipe.set_progress_bar_config(disable=True)
    m = MODELS[model]
    serve(lambda steps: as_png(pipe(PROMPT, num_inference_steps=steps, guidance_scale=m["guidance"],
                                    generator=torch.Generator().manual_seed(42)).images[0]), m["steps"])


def serve_sdcpp(folder, model, wtype, taesd, threads):
    from stable_diffusion_cpp import StableDiffusion
    m = MODELS[model]
    sd = StableDiffusion(model_path=str(folder / "model.safetensors"), taesd_path=str(folder / "taesd.safetensors") if taesd else "",
                         wtype=wtype, n_threads=threads, vae_decode_only=True, prediction="eps", diffusion_flash_attn=True,
                         verbose=False)
    serve(lambda steps: as_png(sd.generate_image(prompt=PROMPT, width=512, height=512, sample_steps=steps,
                                                 cfg_scale=m["guidance"], sample_method="euler", seed=42)[0]), m["steps"])


def serve_openvino(folder, model, kind, taesd, threads):
    import openvino_genai
    from PIL import Image
    m = MODELS[model]
    weights, precision = OPENVINO[f"openvino-{kind}"]
    pipe = openvino_genai.Text2ImagePipeline(folder / f"openvino-{weights}{'-taesd' if taesd else ''}")
    pipe.reshape(1, 512, 512, m["guidance"])
    pipe.compile("CPU", INFERENCE_PRECISION_HINT=precision, INFERENCE_NUM_THREADS=threads, PERFORMANCE_HINT="LATENCY")
    serve(lambda steps: as_png(Image.fromarray(pipe.generate(PROMPT, width=512, height=512, num_inference_steps=steps,
                                                             guidance_scale=m["guidance"], rng_seed=42).data[0])), m["steps"])


def command_of(engine, args, folder):
    program, kind = engine.split("-")
    m = MODELS[args.model]
    if program == "ours":
        vae = ["--vae", folder / "taesd.safetensors"] if args.taesd else []
        return [args.build / "bench/bench_pictures", folder / "model.safetensors", args.model, "--format", kind, "--threads",
                str(args.threads), "--steps", str(m["steps"]), "--guidance", str(m["guidance"]), "--vocabulary", ROOT / "examples/clip",
                *vae]
    return [sys.executable, __file__, "--model", args.model, "--threads", str(args.threads), "--folder", args.folder,
            "--serve", engine] + (["--taesd"] if args.taesd else []) + (["--steps", args.steps] if args.steps else [])


def answer(process):
    while True:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the engine ended")
        if line.startswith("error"):
            raise RuntimeError(line.strip())
        if line.startswith("ready") or line[:1].isdigit():
            return line


def peak_mebibytes(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="sd_turbo")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="instead of the model's")
    parser.add_argument("--taesd", action="store_true", help="the tiny autoencoder instead of the model's own")
    parser.add_argument("--build", type=Path, default=ROOT / "build-bench")
    parser.add_argument("--folder", type=Path, default=Path("pictures-checkpoint"), help="where the checkpoint is made, 6 GB")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--convert", help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = (args.folder / args.model).resolve()
    if args.steps:
        MODELS[args.model]["steps"] = args.steps
    if args.convert:
        openvino_folder(folder, args.model, args.convert, args.taesd)
        return 0
    if args.serve:
        program, kind = args.serve.split("-")
        serve_as = {"diffusers": serve_diffusers, "sdcpp": serve_sdcpp, "openvino": serve_openvino}[program]
        serve_as(folder, args.model, kind, args.taesd, args.threads)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    make_checkpoint(folder, args.model)
    complete_folder(folder / "diffusers", args.model)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    rows = {}
    for engine in args.engines.split(","):
        if engine in OPENVINO:  # in a process of its own, whose memory is given back
            convert = [sys.executable, __file__, "--model", args.model, "--folder", args.folder, "--convert", OPENVINO[engine][0]]
            if subprocess.run(list(map(str, convert)) + (["--taesd"] if args.taesd else []), stdout=subprocess.DEVNULL).returncode:
                print(f"{engine}: cannot be converted", flush=True)
                continue
        process = subprocess.Popen(list(map(str, command_of(engine, args, folder))), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        try:
            answer(process)
            seconds = []
            for _ in range(args.rounds):
                process.stdin.write("time 1\n")
                process.stdin.flush()
                seconds.append(float(answer(process)))
            rows[engine] = (statistics.median(seconds), min(seconds), max(seconds), peak_mebibytes(process.pid))
            print(f"{engine}: {rows[engine][0]:.2f} s ({rows[engine][1]:.2f} to {rows[engine][2]:.2f}), {rows[engine][3]:.0f} MiB",
                  flush=True)
            process.stdin.write("quit\n")
            process.stdin.flush()
        except (RuntimeError, BrokenPipeError) as e:
            print(f"{engine}: {e}", flush=True)
        process.wait()
    best = min((r[0] for e, r in rows.items() if e.startswith("ours")), default=None)
    print(f"\n| {args.model}{', TAESD' if args.taesd else ''} | seconds | times our best | peak MiB |\n|---|---|---|---|")
    for engine, (median, _, _, peak) in rows.items():
        ratio = f"{median / best:.2f}" if best else ""
        print(f"| {engine} | {median:.2f} | {ratio} | {peak:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
