"""torchvision's classifiers: a model that las_sj knows nothing of, on photographs."""

import pytest
import torch

from las_sj.models.execution import is_converted

pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("sklearn", reason="scikit-learn, whose photographs are looked at, is not installed")

from torchvision_models import EXECUTIONS, build, converted, errors, pieces, verdict


def test_resnet18() -> None:
    images = pieces(4, 32)
    assert len({float(image.mean()) for image in images}) == 4  # all of them others
    model = build("resnet18", images)
    with torch.no_grad():
        expected, other = model(images[:1]), model(images[1:2])
    assert (expected - other).norm() / expected.norm() > 0.1  # the image matters
    snn = converted(model, images)
    assert is_converted(snn)
    found = errors(snn, images[:1], expected)
    assert list(found) == list(EXECUTIONS)
    assert all(0 < error < 1e-3 for error, _ in found.values())
    assert verdict(snn, images[:1]) == "fully spike-driven"
