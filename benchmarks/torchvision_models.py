"""torchvision's classifiers with random weights on photographs: how far both executions are from the ANN.

    python benchmarks/torchvision_models.py [--models resnet18 swin_t] [--size 224] [--images 1]

Needs torchvision, and scikit-learn for its two sample photographs. Pieces of these are the calibration data, others
are what the networks are compared on; the audit, which is slow, is of the same model for small ones. Weights
are as torchvision draws them, but for what it begins with zeros or nearly so (the head of a ViT, the scales of
ConvNeXt's blocks), which would hide all that comes before; batch norms get the statistics of the calibration images, as
trained ones have them. An error is ‖SNN − ANN‖/‖ANN‖ of the logits.
"""

import argparse
import copy
import time
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from timing import machine, print_header, print_row
from torch import Tensor, nn
from torchvision import models

import las_sj
from las_sj.analysis import audit

NAMES = ("resnet18", "convnext_tiny", "vit_b_16", "swin_t", "mobilenet_v3_small", "mobilenet_v3_large")
EXECUTIONS = ("accumulated", "temporal")
SIZE, AUDITED, CALIBRATION = 224, 64, 6  # pixels twice, images
# Of ImageNet, by which all of these models have their images normalised.
_MEAN, _DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def pieces(count: int, size: int = SIZE) -> Tensor:
    """Squares of scikit-learn's photographs, [count, 3, size, size], evenly spread over both in turn."""
    found = []
    for number in range(count):
        picture = torch.tensor(load_sample_images().images[number % 2]) / 255
        place = (picture.shape[1] - picture.shape[0]) * (number // 2) // max((count - 1) // 2, 1)
        square = picture[:, place : place + picture.shape[0]]
        found.append(((square - _MEAN) / _DEVIATION).permute(2, 0, 1))
    return F.interpolate(torch.stack(found), size=(size, size), mode="bilinear", antialias=True)


@torch.no_grad()
def build(name: str, calibration: Tensor) -> nn.Module:
    """A model whose every layer matters for its output, always the same.

    Args:
        name: of torchvision.
        calibration: images, whose statistics its batch norms get.
    """
    torch.manual_seed(0)
    options = {"image_size": calibration.shape[-1]} if name.startswith("vit") else {}
    model: nn.Module = models.get_model(name, weights=None, **options).eval()
    for weight in model.parameters():
        if weight.dim() > 1 and float(weight.abs().max()) < 1e-3:
            nn.init.normal_(weight, std=0.2)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = None  # the mean of what it has seen, and nothing of what it began with
    if norms:
        model(calibration)
    return model.eval()


def converted(model: nn.Module, calibration: Tensor) -> nn.Module:
    """The network, made of a copy of the model."""
    return las_sj.convert(copy.deepcopy(model), None, [{"x": calibration}])


@torch.no_grad()
def errors(snn: nn.Module, images: Tensor, expected: Tensor) -> dict[str, tuple[float, float]]:
    """Relative error and seconds of a call, by execution."""
    found = {}
    for execution in EXECUTIONS:
        las_sj.set_execution(snn, execution)
        start = time.perf_counter()
        difference = (snn(images) - expected).norm() / expected.norm()
        found[execution] = (float(difference), time.perf_counter() - start)
    return found


def verdict(snn: nn.Module, image: Tensor) -> str:
    """What an audit finds: nothing analog, or each operation that is, with its module."""
    report = audit(snn, {"x": image})
    analog = [f"{row.operator} in {row.module}" for row in report.analog]
    return "fully spike-driven" if report.fully_spike_driven else ", ".join(dict.fromkeys(analog)) or "no spikes"


def audited(name: str, calibration: Tensor) -> str:
    """The verdict on the same model converted for small images, of which an audit is quick."""
    small = F.interpolate(calibration, size=(AUDITED, AUDITED))
    return verdict(converted(build(name, small), small), small[:1])


@torch.no_grad()
def row_of(name: str, calibration: Tensor, images: Tensor, with_audit: bool) -> list[Any]:
    """A row of the table; see `COLUMNS`."""
    model = build(name, calibration)
    start = time.perf_counter()
    snn = converted(model, calibration)
    seconds = time.perf_counter() - start
    found = errors(snn, images, model(images))
    size = sum(weight.numel() for weight in model.parameters()) / 1e6
    cells = [f"{error:.1e}" for error, _ in found.values()]
    times = [f"{taken:.1f}" for _, taken in found.values()]
    said = audited(name, calibration) if with_audit else "not run"
    return [name, f"{size:.1f}", *cells, said, f"{seconds:.0f}", *times]


COLUMNS = ["model", "million weights", "error accumulated", "error temporal", "audit", "conversion s"]
COLUMNS += [f"{execution} s" for execution in EXECUTIONS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=NAMES, help="names of torchvision (%(default)s)")
    parser.add_argument("--size", type=int, default=SIZE, help="of the images, pixels (%(default)s)")
    parser.add_argument("--images", type=int, default=1, help="that are compared (%(default)s)")
    parser.add_argument("--no-audit", action="store_true")
    arguments = parser.parse_args()
    print(f"{machine('cpu')}; {arguments.images} images of {arguments.size} pixels, T = 16\n")
    images = pieces(CALIBRATION + arguments.images, arguments.size)
    print_header(COLUMNS)
    for name in arguments.models:
        print_row(row_of(name, images[:CALIBRATION], images[CALIBRATION:], not arguments.no_audit))


if __name__ == "__main__":
    main()
