# SPDX-License-Identifier: Apache-2.0
"""One rival and one network in a process of its own: answers the commands that ours.cpp answers, one a line.

    python worker.py prepare NETWORK ENGINE FOLDER THREADS     writes the rival's own file of the network, where it is missing
    python worker.py serve NETWORK ENGINE FOLDER THREADS       ready {...}, then: time N | output FILE | quit
"""
import importlib.metadata
import json
import os
from pathlib import Path
import shutil
import sys
import time

import networks

CALIBRATION = 4  # random inputs that int8's ranges are taken from


def version(package):
    return importlib.metadata.version(package)


def first_line(error):
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def listed(counts):
    """{precision: products} as text, the most frequent first."""
    return " + ".join(f"{k} ({n})" for k, n in sorted(counts.items(), key=lambda kn: -kn[1]) if n)


# ---- PyTorch -------------------------------------------------------------------------------------


class Torch:
    def __init__(self, name, engine, folder, threads):
        import torch
        self.torch = torch
        torch.set_num_threads(threads)
        dtype = torch.bfloat16 if engine.endswith("bf16") else torch.float32
        module = networks.load(folder, name).to(dtype)
        inputs = [x if x.ndim == 1 else x.to(dtype) for x in networks.load_inputs(folder, name)]  # timesteps stay exact
        self.compiled = "compile" in engine
        if self.compiled:
            import torch._inductor.config as inductor
            inductor.freezing = True  # weights become constants, packed once for oneDNN
            self.layout = "channels_last"
            self.module, self.inputs = self.arranged(module, inputs, torch.channels_last)
            self.module = torch.compile(self.module, dynamic=False)
        else:
            self.layout, self.module, self.inputs = self.better_layout(module, inputs)
        for _ in range(2):
            self.run()

    def arranged(self, module, inputs, memory_format):
        return module.to(memory_format=memory_format), [x.to(memory_format=memory_format) if x.ndim == 4 else x for x in inputs]

    def better_layout(self, module, inputs):
        times = {}
        for layout in ("contiguous_format", "channels_last"):
            self.module, self.inputs = self.arranged(module, inputs, getattr(self.torch, layout))
            self.run()
            times[layout] = min(timed(self.run) for _ in range(2))
        layout = min(times, key=times.get)
        return layout, *self.arranged(module, inputs, getattr(self.torch, layout))

    def run(self):
        # Freezing wants the first call, which compiles, without gradients; inference_mode is that and more.
        with self.torch.inference_mode():
            self.y = self.module(*self.inputs)

    def output(self):
        return self.y.float()

    def about(self):
        dtype = str(self.y.dtype).removeprefix("torch.")
        how = ", torch.compile (inductor, freezing)" if self.compiled else ""
        return {"executes": {"float32": "fp32", "bfloat16": "bf16"}[dtype], "how": f"inference_mode, {self.layout}{how}"}


# ---- OpenVINO ------------------------------------------------------------------------------------


def openvino_path(name, folder, int8):
    kind = f"int8-nncf-{version('nncf')}" if int8 else "fp32"
    return Path(folder) / f"openvino-{version('openvino')}-{kind}-recipe-{networks.RECIPE}" / f"{name}.xml"


def in_place(path, make):
    """make(temporary path): its files appear under their names only when all are whole."""
    if path.exists():
        return
    temporary = path.parent / (path.stem + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    make(temporary / path.name)
    for file in sorted(temporary.iterdir(), key=lambda f: f.name == path.name):
        file.rename(path.parent / file.name)
    temporary.rmdir()


def prepare_openvino(name, engine, folder, threads):
    import openvino as ov

    def convert(path):
        import torch
        inputs = networks.load_inputs(folder, name)
        model = ov.convert_model(torch.export.export(networks.load(folder, name), tuple(inputs)))
        model.reshape({i: list(x.shape) for i, x in enumerate(inputs)})  # static: the importer leaves sizes open
        ov.save_model(model, path, compress_to_fp16=False)

    def quantize(path):
        import nncf
        model = ov.Core().read_model(openvino_path(name, folder, False))
        data = [[x.numpy() for x in networks.random_inputs(name, 100 + i).values()] for i in range(CALIBRATION)]
        model = nncf.quantize(model, nncf.Dataset(data), preset=nncf.QuantizationPreset.MIXED, subset_size=CALIBRATION,
                              model_type=nncf.ModelType.TRANSFORMER if name == "unet" else None)
        ov.save_model(model, path, compress_to_fp16=False)

    in_place(openvino_path(name, folder, False), convert)
    if engine.endswith("int8"):
        in_place(openvino_path(name, folder, True), quantize)


class OpenVino:
    def __init__(self, name, engine, folder, threads):
        import openvino as ov
        int8 = engine.endswith("int8")
        # What int8 leaves in floating point runs fastest in bf16.
        hint = "f32" if engine.endswith("fp32") else "bf16"
        self.model = ov.Core().compile_model(openvino_path(name, folder, int8), "CPU", {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1})
        self.request = self.model.create_infer_request()
        for i, x in enumerate(networks.load_inputs(folder, name)):
            self.request.set_input_tensor(i, ov.Tensor(x.numpy().copy()))
        self.how = f"LATENCY, hint {hint}" + (f", NNCF mixed preset, {CALIBRATION} random inputs" if int8 else "")
        for _ in range(2):
            self.run()

    def run(self):
        self.request.infer()

    def output(self):
        import torch
        return torch.from_numpy(self.request.get_output_tensor(0).data.copy()).float()

    def about(self):
        """The precision that the compiled graph names for its products."""
        counts = {}
        for op in self.model.get_runtime_model().get_ops():
            info = op.get_rt_info()
            if info["layerType"].astype(str) in ("Convolution", "FullyConnected", "MatMul", "ScaledDotProductAttention", "MHA"):
                precision = info["runtimePrecision"].astype(str)
                counts[precision] = counts.get(precision, 0) + 1
        short = {"f32": "fp32", "bf16": "bf16", "u8": "int8", "i8": "int8"}
        totals = {}
        for k, n in counts.items():
            totals[short.get(k, k)] = totals.get(short.get(k, k), 0) + n
        return {"executes": listed(totals), "how": self.how}


# ---- ONNX Runtime --------------------------------------------------------------------------------


def onnx_path(name, folder, int8):
    kind = f"int8-onnxruntime-{version('onnxruntime')}" if int8 else f"torch-{version('torch')}"
    return Path(folder) / f"onnx-{kind}-recipe-{networks.RECIPE}" / f"{name}.onnx"


def prepare_onnxruntime(name, engine, folder, threads):
    def export(path):
        import torch
        inputs = networks.load_inputs(folder, name)
        torch.onnx.export(networks.load(folder, name), tuple(inputs), path, dynamo=True, external_data=True,
                          input_names=list(networks.random_inputs(name, 0)), output_names=["output"], verbose=False)

    def quantize(path):
        from onnxruntime import quantization as q

        class Data(q.CalibrationDataReader):
            def __init__(self):
                self.left = iter([{k: x.numpy() for k, x in networks.random_inputs(name, 100 + i).items()}
                                  for i in range(CALIBRATION)])

            def get_next(self):
                return next(self.left, None)

        q.quantize_static(onnx_path(name, folder, False), path, Data(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                          activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
                          op_types_to_quantize=["Conv", "MatMul", "Gemm"], use_external_data_format=True)

    in_place(onnx_path(name, folder, False), export)
    if engine.endswith("int8"):
        in_place(onnx_path(name, folder, True), quantize)


class OnnxRuntime:
    def __init__(self, name, engine, folder, threads):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.force_spinning_stop", "1")  # spins within a run, not after it
        options.enable_profiling = True  # of the first run: it tells which products the optimized graph has
        options.profile_file_prefix = str(Path(folder) / f"{name}-{engine}-profile")
        int8 = engine.endswith("int8")
        self.session = ort.InferenceSession(onnx_path(name, folder, int8), options, providers=["CPUExecutionProvider"])
        self.inputs = {i.name: x.numpy() for i, x in zip(self.session.get_inputs(), networks.load_inputs(folder, name))}
        self.how = "all optimizations" + (f", static QDQ, MinMax over {CALIBRATION} random inputs" if int8 else "")
        self.run()
        self.executes = self.products(Path(self.session.end_profiling()))
        self.run()

    @staticmethod
    def products(profile):
        """int8's have names of their own; the others compute in fp32."""
        operations = {}
        for event in json.loads(profile.read_text()):
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                operations[event["name"]] = event["args"]["op_name"]
        profile.unlink()
        int8 = [o for o in operations.values() if o.startswith(("QLinear", "QGemm", "QAttention", "MatMulInteger", "ConvInteger",
                                                                "DynamicQuantizeMatMul"))
                and any(k in o for k in ("Conv", "MatMul", "Gemm", "Attention"))]
        fp32 = [o for o in operations.values() if any(k in o for k in ("Conv", "MatMul", "Gemm", "Attention")) and o not in int8]
        return listed({"int8": len(int8), "fp32": len(fp32)})

    def run(self):
        self.y, = self.session.run(None, self.inputs)

    def output(self):
        import torch
        return torch.from_numpy(self.y)

    def about(self):
        return {"executes": self.executes, "how": self.how}


# ---- the protocol --------------------------------------------------------------------------------

FAMILIES = {"torch": Torch, "openvino": OpenVino, "onnxruntime": OnnxRuntime}
PREPARE = {"openvino": prepare_openvino, "onnxruntime": prepare_onnxruntime}


def timed(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def serve(engine, answers):
    say = lambda text: (answers.write(text + "\n"), answers.flush())
    say("ready " + json.dumps(engine.about()))
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "quit":
            return
        try:
            if command == "time":
                say(" ".join(f"{timed(engine.run):.6f}" for _ in range(int(argument))))
            elif command == "output":
                networks.write(Path(argument), {"output": networks.channels_last(engine.output())})
                say("done")
            else:
                say("error expected time, output or quit")
        except Exception as e:
            say("error " + first_line(e))


def main():
    mode, name, engine, folder, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    family = engine.split("-")[0]
    try:
        if mode == "prepare":
            if family in PREPARE:
                PREPARE[family](name, engine, folder, int(threads))
        else:
            serve(FAMILIES[family](name, engine, folder, int(threads)), answers)
    except Exception as e:
        import traceback
        traceback.print_exc()
        print("error " + first_line(e), file=answers, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
