import torch
from torch import nn
from torch.optim import Optimizer

from trainer.config import ParallelName
from trainer.distributed.parallel import Parallel as Parallel
from trainer.distributed.parallel import optimizer_parts as optimizer_parts
from trainer.distributed.processes import Processes as Processes
from trainer.distributed.processes import ProcessLostError as ProcessLostError
from trainer.distributed.processes import joined_processes as joined_processes
from trainer.distributed.rank import read_ranks as read_ranks
from trainer.distributed.rank import resolve_process_device as resolve_process_device

def parallelize(
    model: nn.Module, optimizer: Optimizer, name: ParallelName, processes: Processes, device: torch.device
) -> Parallel: ...
