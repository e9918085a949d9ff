"""README.md of a converted model: what it is, how it is loaded, and the figures of its conversion."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from las_sj.config import LASConfig

TAGS = ["spiking-neural-network", "neuromorphic", "las", "spikingjelly"]

_CARD = """---
{data}
---

# Spiking {architecture}

A spiking network made of {name} by las_sj {version}, without retraining, with
T = {time_steps} time steps and {levels} levels. It runs on SpikingJelly,
and loads like any model of transformers once las_sj is imported:

```python
import las_sj
from transformers import {architecture}

model = {architecture}.from_pretrained("path/to/this/folder")   # a temporal network
las_sj.set_execution(model, "accumulated")                      # the same network, its windows summed up
```

{figures}"""


def model_card(source: str, architecture: str, settings: LASConfig, version: str, figures: str) -> ModelCard:
    """The card of a converted model.

    Args:
        source: hub name or folder of the original, or what it is in words.
        architecture: class of the model.
        settings: of the conversion.
        version: of las_sj.
        figures: Markdown that the card holds below its first section.
    """
    on_the_hub = source.count("/") == 1 and not Path(source).exists() and " " not in source
    data = ModelCardData(library_name="transformers", tags=TAGS, base_model=source if on_the_hub else None)
    content = _CARD.format(
        data=data.to_yaml(),
        architecture=architecture,
        name=Path(source).name if Path(source).exists() else source,
        version=version,
        time_steps=settings.time_steps,
        levels=settings.levels,
        figures=figures,
    )
    return ModelCard(content)
