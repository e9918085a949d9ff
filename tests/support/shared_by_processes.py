"""Run by each of several processes: load a converted model that they share, run and save it, say what is refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM
from transformers.distributed import DistributedConfig

import las_sj
from las_sj.analysis import SpikeMonitor, audit
from las_sj.analysis.plots.membrane import plot_membrane
from las_sj.models import named_sites


def shared(folder: Path, **settings: Any) -> Any:
    plan = DistributedConfig(tp_size=dist.get_world_size(), **settings)
    return AutoModelForCausalLM.from_pretrained(folder, distributed_config=plan, dtype=torch.float64)


def said(run: Callable[[], Any]) -> str:
    try:
        return str(run())
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def monitored(model: Any) -> None:
    with SpikeMonitor(model):
        pass


def refusals(folder: Path, inputs: dict[str, torch.Tensor]) -> dict[str, str]:
    model = shared(folder)
    site = next(name for name, _ in named_sites(model))
    return {
        "gradients": said(lambda: model(**inputs)),
        "monitor": said(lambda: monitored(model)),
        "audit": said(lambda: audit(model, inputs)),
        "picture": said(lambda: plot_membrane(model, inputs, site)),
        "conversion": said(lambda: las_sj.convert(shared(folder.parent / "ann"))),
        "tokens": said(lambda: shared(folder.parent / "Gemma3", tp_plan={"model.layers.*.mlp": "sequence_parallel"})),
        "experts": said(lambda: shared(folder.parent / "Mixtral", ep_size=dist.get_world_size())),
        "no plan": said(lambda: shared(folder.parent / "OPT")),
    }


@torch.no_grad()
def outputs(folder: Path, inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    model = shared(folder)
    found: dict[str, Any] = {"shards": sum(hasattr(weight, "to_local") for weight in model.parameters())}
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(model, execution)
        found[execution] = model(**inputs).logits
        found[f"{execution} text"] = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    model.to(torch.float32).save_pretrained(folder / "again")
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    dist.init_process_group("gloo")
    inputs = torch.load(folder / "inputs.pt")
    found: dict[str, Any] = {name: outputs(folder / name, inputs) for name in sys.argv[2:]}
    found["refused"] = refusals(folder / sys.argv[2], inputs)
    torch.save(found, folder / f"process-{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
