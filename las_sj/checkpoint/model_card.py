"""README.md of a converted model: what it is, how it is loaded, and the figures of its conversion."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

TAGS = ["spiking-neural-network", "neuromorphic", "las", "spikingjelly"]


def model_card(report: dict[str, Any], figures: str) -> ModelCard:
    """A model card.

    Args:
        report: the content of las_report.json.
        figures: Markdown that the card holds below its first section.
    """
    source = report["model"]
    on_the_hub = source.count("/") == 1 and not Path(source).exists() and " " not in source
    name = Path(source).name if Path(source).exists() else source
    data = ModelCardData(library_name="transformers", tags=TAGS, base_model=source if on_the_hub else None)
    architecture = report["architecture"]
    return ModelCard(
        f"""---
{data.to_yaml()}
---

# Spiking {architecture}

A spiking network made of {name} by las_sj {report["versions"]["las_sj"]}, without retraining, with
T = {report["settings"]["time_steps"]} time steps and {report["settings"]["levels"]} levels. It runs on SpikingJelly,
and loads like any model of transformers once las_sj is imported:

```python
import las_sj
from transformers import {architecture}

model = {architecture}.from_pretrained("path/to/this/folder")   # a temporal network
las_sj.set_execution(model, "accumulated")                      # the same network, its windows summed up
```

{figures}"""
    )
