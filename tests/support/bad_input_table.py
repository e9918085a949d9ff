"""Bad inputs of the five commands: what is wrong with each, what the one line says, and the exit code."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from bad_inputs import (
    Edit,
    as_sentence_transformer,
    configured,
    containing,
    linked,
    nan_in,
    pickled,
    quantised,
    weighted,
    with_dense_module,
    without,
)

GLUE = Path(__file__).parents[1] / "data" / "glue"
TEXT = "All: Speak, speak.\n\nFirst Citizen: You are all resolved rather to die than to famish?\n" * 12
ADAPTER = json.dumps({"base_model_name_or_path": "some/base", "peft_type": "LORA"}).encode()
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}).encode()
Options = tuple[object, ...]


class Bad(NamedTuple):
    command: str
    model: str
    edits: tuple[Edit, ...]
    options: Options
    says: str  # a pattern
    code: int = 1


def of_gpt(says: str, *edits: Edit, options: Options = (), code: int = 1) -> Bad:
    return Bad("convert", "gpt", edits, ("--calibration", "text.txt", *options), says, code)


def of_bert(says: str, *edits: Edit) -> Bad:
    return Bad("convert", "bert", edits, ("--calibration", "text.txt"), says)


def evaluated(says: str, *edits: Edit, options: Options = (), code: int = 1) -> Bad:
    given = options or ("--task", "text", "--text", "text.txt")
    return Bad("evaluate", "converted", edits, (*given, "--limit", 40, "--window", 16), says, code)


def reported(says: str, *edits: Edit, options: Options = (), code: int = 1) -> Bad:
    return Bad("report", "converted", edits, ("--no-equal-loss", "--tokens", 8, *options), says, code)


def inspected(says: str, *edits: Edit, options: Options = (), code: int = 1) -> Bad:
    return Bad("inspect", "converted", edits, options, says, code)


def tuned(says: str, *edits: Edit, options: Options = (), model: str = "bert", code: int = 1) -> Bad:
    return Bad("finetune", model, edits, ("--task", "SST-2", "--data", GLUE, "--rows", 4, *options), says, code)


HEAD = "transformer.h.1.mlp.c_fc.weight"
NEURON = "transformer.h.1.ln_1.bias"

COUNTS: tuple[tuple[Callable[..., Bad], Options, tuple[str, ...]], ...] = (
    (of_gpt, (), ("batch-size", "window", "calibration-tokens", "evaluation-tokens")),
    (evaluated, ("--task", "text", "--text", "text.txt"), ("batch-size", "stride", "calibration-tokens")),
    (reported, (), ("tokens", "window")),
    (inspected, (), ("tokens",)),
    (tuned, (), ("rows", "epochs", "batch-size", "max-length")),
)

BAD: dict[str, Bad] = {
    # what is not a model of transformers
    "pickle": of_gpt("model holds its weights as a pickle .pytorch_model.bin.* save them as safetensors", pickled),
    "adapter": of_gpt(
        "model holds an adapter .* of some/base, no whole model: merge it",
        without("config.json", "model.safetensors"),
        containing("adapter_config.json", ADAPTER),
    ),
    "adapter beside a model": of_gpt("model holds an adapter .*merge it", containing("adapter_config.json", ADAPTER)),
    "sentence-transformers": of_bert(
        "give the folder of the transformer in it, .*0_Transformer", as_sentence_transformer
    ),
    "sentence-transformers with weights": of_bert("weights outside its transformer .2_Dense.* copy", with_dense_module),
    "modules.json": of_bert("modules.json is broken: remove it", containing("modules.json", b"[1")),
    "remote code": of_gpt(
        "needs Python code of its own .*never run unasked: give",
        configured(model_type="new", auto_map={"AutoConfig": "x.Y"}),
    ),
    "unknown type": of_gpt("names the model_type 'new', .*upgrade it, or give", configured(model_type="new")),
    "no type": of_gpt("config.json names no model_type: give", configured(model_type=None)),
    "GGUF file": of_gpt("--gguf-file a.gguf", without("config.json"), containing("a.gguf", b"GGUF")),
    "no GGUF file": of_gpt("no file .*a.gguf: --gguf-file names", options=("--gguf-file", "a.gguf")),
    # config.json
    "config of bytes": of_gpt(
        "config.json is no JSON file .*: download or save", containing("config.json", b"\xff\xfe")
    ),
    "config cut off": of_gpt("config.json is no JSON file .*: download or save", containing("config.json", b'{"a":')),
    "config of a list": of_gpt("config.json holds no JSON object: download or save", containing("config.json", b"[]")),
    "config too deep": of_gpt("config.json is no JSON file .*: download", containing("config.json", b"[" * 100_000)),
    "size of a wrong type": of_gpt("config.json of .*'n_layer'.*: mend it", configured(n_layer="two")),
    "no head": of_gpt("model cannot be loaded .*: mend its config.json", configured(n_head=0)),
    "activation": of_gpt("cannot be loaded .no entry 'magic'.: mend its", configured(activation_function="magic")),
    "dtype": of_gpt("config.json of .*float99.*: mend it", configured(dtype="float99")),
    "method": of_gpt(
        "quantised already .gptq.: give the original", configured(quantization_config={"quant_method": "gptq"})
    ),
    # weights and config.json that do not belong together
    "fewer layers": of_gpt("no place for: transformer.h.1.* and 10 more; give", configured(n_layer=1)),
    "more layers": of_gpt("lacks weights of .*transformer.h.2.*; give", configured(n_layer=3)),
    "layers without end": of_gpt("asks for 1000000000 layers, but .* 28 weights; give", configured(n_layer=10**9)),
    "layers without end, evaluated": evaluated("asks for 1000000000 layers", configured(n_layer=10**9)),
    "layers without end, inspected": inspected("asks for 1000000000 layers", configured(n_layer=10**9)),
    "layers without end, fine-tuned": tuned("asks for 1000000000 layers", configured(num_hidden_layers=10**9)),
    "wider": of_gpt("has shape .96., but config.json asks for .192.; give", configured(n_embd=64)),
    "untied": of_gpt("lacks weights of GPT2LMHeadModel: lm_head.weight; give", configured(tie_word_embeddings=False)),
    "another family": of_gpt(
        "'BertForMaskedLM' in architectures.*name the", configured(architectures=["BertForMaskedLM"])
    ),
    "no class": of_gpt("'X' in architectures.*: name the class that was", configured(architectures=["X"])),
    "class without a head": of_gpt("GPT2Model has none: name the class that", configured(architectures=["GPT2Model"])),
    "class of a classifier": of_gpt("score.weight; give", configured(architectures=["GPT2ForSequenceClassification"])),
    "shape of one weight": of_gpt(
        f"{NEURON} in .* has shape .31.*; give", weighted(lambda t: t.update({NEURON: torch.ones(31)}))
    ),
    "NaN": of_gpt(f"weight {HEAD} in model has infinite or NaN values: .* save it again", nan_in(HEAD)),
    "NaN in float16": of_gpt(
        f"weight {HEAD} in model has infinite .* --dtype float32",
        weighted(lambda t: t[HEAD].view(-1)[:1].fill_(1e6)),
        options=("--dtype", "float16"),
    ),
    "NaN in the configuration": of_gpt("config.json has NaN in resid_pdrop: mend", configured(resid_pdrop=math.nan)),
    "NaN in the configuration, inspected": inspected(
        "config.json has NaN in resid_pdrop: mend", configured(resid_pdrop=math.nan)
    ),
    "text for settings": of_gpt("quantization_config that is no .*: remove", configured(quantization_config="x")),
    "text for settings, inspected": inspected("quantization_config that is no", configured(quantization_config="x")),
    "generation of text": of_gpt(
        "generation_config.json cannot be used .an entry is of a wrong kind.: mend it, or remove",
        containing("generation_config.json", b'{"max_new_tokens":"x"}'),
    ),
    "generation of a list": of_gpt(
        "generation_config.json holds no JSON object: download", containing("generation_config.json", b"[]")
    ),
    "generation, fine-tuned": tuned(
        "generation_config.json is no JSON file", containing("generation_config.json", b'{"max_new')
    ),
    "empty index": of_gpt(
        "index.json names no files of weights: download",
        without("model.safetensors"),
        containing("model.safetensors.index.json", b'{"weight_map":{}}'),
    ),
    "index without metadata": of_gpt(
        "index.json has no metadata of the weights: download",
        without("model.safetensors"),
        containing("model-00001-of-00002.safetensors", b""),
        containing("model.safetensors.index.json", INDEX),
    ),
    "all analog": of_gpt("--keep-analog \\*: GPT2LMHeadModel has no layer.*; give", options=("--keep-analog", "*")),
    "nothing analog": of_gpt("--keep-analog nothing: 'nothing' names no.*; give", options=("--keep-analog", "nothing")),
    "nothing analog, evaluated": evaluated(
        "--keep-analog nothing: 'nothing' names no.*; give",
        options=("--task", "text", "--text", "text.txt", "--keep-analog", "nothing"),
    )._replace(model="gpt"),
    "GPU 7": of_gpt(
        "--max-memory 7=1GiB: torch finds .* leave out", options=("--device-map", "auto", "--max-memory", "7=1GiB")
    ),
    "GPU x": of_gpt(
        "--max-memory names GPUs by number, .* got 'x'",
        options=("--device-map", "auto", "--max-memory", "x=1GiB"),
        code=2,
    ),
    "lost shard": of_gpt(
        "lacks model-00001-of-00002.safetensors, .*: download",
        without("model.safetensors"),
        containing("model.safetensors.index.json", INDEX),
    ),
    "shard elsewhere": of_gpt(
        "index.json names no files of weights: download",
        without("model.safetensors"),
        containing("model.safetensors.index.json", INDEX.replace(b"model-", b"../model-")),
    ),
    "pointer": of_gpt(
        "is a pointer of Git LFS.*: fetch", containing("model.safetensors", b"version https://git-lfs.x")
    ),
    # tokenizers and texts
    "no tokenizer": of_gpt("no tokenizer in .*model: save", without("tokenizer.json", "tokenizer_config.json")),
    "broken tokenizer": of_gpt("tokenizer of .*model cannot be loaded .*: save", containing("tokenizer.json", b"{")),
    "empty tokenizer": of_gpt("tokenizer of .*model cannot be loaded .*: save", containing("tokenizer.json", b"{}")),
    "no text": of_gpt("cannot read text from no.txt .No such file.*: give", options=("--calibration", "no.txt")),
    "text without end": of_gpt("/dev/zero .no regular file.: give", options=("--calibration", "/dev/zero")),
    "other text without end": of_gpt("/dev/zero .no regular file.: give", options=("--evaluation", "/dev/zero")),
    "pipe": of_gpt("from pipe .no regular file.: give", options=("--calibration", "pipe")),
    "weights without end": of_gpt(
        "model.safetensors is no regular file: remove", without("model.safetensors"), linked("model.safetensors")
    ),
    "config without end": of_gpt(
        "config.json is no regular file: remove", without("config.json"), linked("config.json")
    ),
    "GGUF without end": of_gpt("no file model/a.gguf", linked("a.gguf"), options=("--gguf-file", "a.gguf")),
    "text without end, evaluated": evaluated(
        "/dev/zero .no regular file.: give", options=("--task", "text", "--text", "/dev/zero")
    ),
    "rows without end, evaluated": evaluated(
        "dev.tsv .no regular file.: give", options=("--task", "SST-2", "--data-dir", "endless")
    ),
    "text without end, reported": reported("/dev/zero .no regular file.: give", options=("--text", "/dev/zero")),
    "rows without end, fine-tuned": tuned("train.tsv .no regular file.: give", options=("--data", "endless")),
    "text of bytes": of_gpt("byte 0 is no UTF-8.: give", options=("--calibration", "bytes.txt")),
    # outputs
    "output at the root": of_gpt("/ is the root of all folders: give another", options=("--output", "/"), code=2),
    "output in a loop": of_gpt(
        "loop/x cannot be written .Too many levels of symbolic links.: give", options=("--output", "loop/x")
    ),
    "output at the root, evaluated": evaluated(
        "/ is no name for", options=("--task", "text", "--text", "text.txt", "--output", "/"), code=2
    ),
    "output at the root, fine-tuned": tuned("/ is the root of all folders: give", options=("--output", "/"), code=2),
    # command lines
    **{
        f"endless {name} of {made.__name__}": made(
            f"--{name} must be at most 2147483647, got 1000", options=(*given, f"--{name}", 10**30), code=2
        )
        for made, given, names in COUNTS
        for name in names
    },
    "steps": of_gpt("--time-steps must be an integer in 1…24, got 0", options=("--time-steps", 0), code=2),
    "device": of_gpt("--device must be cpu, cuda", options=("--device", "gpu"), code=2),
    "dtype of the command": of_gpt("argument --dtype: invalid choice", options=("--dtype", "fp8"), code=2),
    "memory": of_gpt("--max-memory needs a --device-map", options=("--max-memory", "cpu=1GiB"), code=2),
    "sizes": of_gpt(
        "--max-memory takes sizes such as 8GiB", options=("--device-map", "auto", "--max-memory", "cpu=lots"), code=2
    ),
    "task": evaluated("--task nothing: there is no such task", options=("--task", "nothing"), code=2),
    "no --text": evaluated("text needs --text FILE", options=("--task", "text"), code=2),
    "stride": evaluated(
        "--stride 64 is more than --window",
        options=("--task", "text", "--text", "text.txt", "--stride", 64, "--window", 16),
        code=2,
    ),
    "folder of data": evaluated("--data-dir no is no folder: give", options=("--task", "SST-2", "--data-dir", "no")),
    "own settings": evaluated(
        "has its own settings: leave out --levels", options=("--task", "text", "--text", "text.txt", "--levels", 3)
    ),
    "NaN, evaluated": evaluated(f"weight {HEAD} in .* has infinite or NaN", nan_in(HEAD)),
    "settings, evaluated": evaluated(
        "config.json of .*levels must be .*: convert the model again", quantised(levels=0)
    ),
    "layers, evaluated": evaluated("no place for: transformer.h.1.* more; give", configured(n_layer=1)),
    "head, evaluated": evaluated("GPT2Model has none: name the class", configured(architectures=["GPT2Model"])),
    "pickle, evaluated": evaluated("weights as a pickle", pickled),
    "NaN, reported": reported(f"weight {HEAD} in .* has infinite or NaN", nan_in(HEAD)),
    "sample of other tokens": reported(
        "las_sample.safetensors cannot be read .*: give a text", containing("las_sample.safetensors", b"no sample")
    ),
    "report over a model": reported(
        "config.json exists, and was not written by las-sj report: give another",
        options=("--output", "model/config.json"),
    ),
    "report nowhere": reported(
        "cannot write no/r.html .No such file.*: give another", options=("--output", "no/r.html")
    ),
    "report of a long name": reported(
        "cannot write x+.html .File name too long.: give", options=("--output", "x" * 251 + ".html")
    ),
    "report of a name that leaves no room": reported(
        "cannot write x+.html .File name too long.: give", options=("--output", "x" * 250 + ".html")
    ),
    "report to a loop": reported(
        "cannot write loop .Too many levels of symbolic links.: give", options=("--output", "loop")
    ),
    "report to the root": reported("/ is a folder: give a file", options=("--output", "/")),
    "costs": reported("argument --costs: invalid choice: 'fp8'", options=("--costs", "fp8"), code=2),
    "adapter, reported": reported("model holds an adapter", containing("adapter_config.json", b"{}")),
    "NaN, inspected": inspected(f"weight {HEAD} in .* has infinite or NaN", nan_in(HEAD)),
    "layers, inspected": inspected("no place for: transformer.h.1.* more; give", configured(n_layer=1)),
    "ranges": inspected("model cannot be loaded.*hg_ranges", quantised(hg_ranges={})),
    "not converted": Bad("inspect", "gpt", (), (), "is not converted: give the output of las-sj convert"),
    "tokens": inspected("--tokens must be at most 64", options=("--tokens", 65)),
    "no tokens": inspected("--tokens must be at least 1, got 0", options=("--tokens", 0), code=2),
    "NaN, fine-tuned": tuned(
        "weight bert.*embeddings.* has infinite or NaN", nan_in("embeddings.word_embeddings.weight")
    ),
    "layers, fine-tuned": tuned("no place for: encoder.layer.1.*; give", configured(num_hidden_layers=1)),
    "layers of another head": tuned(
        "no place for: bert.encoder.layer.1", configured(num_hidden_layers=1), model="masked"
    ),
    "other classes": tuned("the head of .* is for other classes .*: give the model without", model="three"),
    "pickle, fine-tuned": tuned("weights as a pickle", pickled),
    "adapter, fine-tuned": tuned("holds an adapter", containing("adapter_config.json", ADAPTER)),
    "rate": tuned("--learning-rate must be positive, got 0.0", options=("--learning-rate", 0), code=2),
    "rate too high": tuned("infinite or NaN: .* a smaller --learning-rate", options=("--learning-rate", 1e30)),
    "no rows": tuned("cannot read text from .*train.tsv, .* give a folder that holds", options=("--data", "no")),
}
