# SPDX-License-Identifier: Apache-2.0
"""The processes of a training, each with a device of its own: by accelerate, or by PyTorch alone under torchrun, or just one."""
import contextlib
import os

import torch
import torch.distributed as dist


class Processes:
    """PyTorch's DistributedDataParallel; without torchrun's environment one process."""

    def __init__(self, bf16):
        self.bf16 = bf16
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
        if self.world > 1:
            dist.init_process_group("nccl" if cuda else "gloo")

    def prepare(self, module, optimizer, **ddp):
        if self.world > 1:
            module = torch.nn.parallel.DistributedDataParallel(
                module, device_ids=[self.device.index] if self.device.type == "cuda" else None, **ddp)
        return module, optimizer

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def without_sum(self, module):
        """Gradients stay with their processes: there is more of this step to come."""
        return module.no_sync() if self.world > 1 else contextlib.nullcontext()

    def backward(self, loss):
        loss.backward()

    def sum(self, tensor):
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def wait(self):
        if self.world > 1:
            dist.barrier()

    def end(self):
        if self.world > 1:
            dist.destroy_process_group()

    @property
    def text(self):
        return f"{self.world} process{'es' if self.world > 1 else ''} on {self.device.type}"


class AcceleratedProcesses(Processes):
    """accelerate's, as `accelerate launch` or torchrun starts them. One network whole on each device: states by our names need it."""

    def __init__(self, bf16, accelerate):
        kind = accelerate.DistributedType
        self.accelerator = a = accelerate.Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=not torch.cuda.is_available())
        if a.distributed_type not in (kind.NO, kind.MULTI_CPU, kind.MULTI_GPU):
            raise ValueError(f"accelerate: {a.distributed_type.value} splits a network over devices, which this program cannot save; "
                             "choose one process for each device (MULTI_GPU or MULTI_CPU)")
        self.bf16, self.world, self.rank, self.device = bf16, a.num_processes, a.process_index, a.device

    def prepare(self, module, optimizer, **ddp):
        from accelerate.utils import DistributedDataParallelKwargs
        self.accelerator.ddp_handler = DistributedDataParallelKwargs(**ddp)
        return self.accelerator.prepare(module, optimizer)

    def autocast(self):
        return self.accelerator.autocast()

    def without_sum(self, module):
        return self.accelerator.no_sync(module)

    def backward(self, loss):
        self.accelerator.backward(loss)

    def end(self):
        self.accelerator.end_training()

    @property
    def text(self):
        return super().text + " by accelerate"


def start_processes(launcher, bf16):
    """launcher: "accelerate", "torch", or "auto": accelerate where it is installed."""
    if launcher != "torch":
        try:
            import accelerate
            return AcceleratedProcesses(bf16, accelerate)
        except ImportError:
            if launcher == "accelerate":
                raise ValueError("accelerate: not installed; pip install accelerate, or --launcher torch") from None
    return Processes(bf16)
