"""Thresholds, tables and ranges of a checkpoint are those that were saved, or loading says which are not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import Model, convert_tiny, gpt2, run, token_ids
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM

from las_sj.checkpoint.node_digests import digest_of, digests_of
from las_sj.models import named_sites
from las_sj.models.site_codes import SiteCode
from las_sj.neurons import HGNode

THETA = "transformer.h.0.mlp.c_fc.input_node.theta_outlier"
TABLE = "transformer.h.0.mlp.act.node.bias"
CELLS = "transformer.h.0.mlp.act.node.cells"
COARSE = "transformer.h.0.mlp.c_fc.input_node"
NOT_SAVED = "are not those that were saved"


@pytest.fixture(scope="module")
def snn() -> Model:
    return convert_tiny(gpt2(n_layer=1))


@pytest.fixture
def folder(snn: Model, tmp_path: Path) -> Path:
    snn.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def entry_of(folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads((folder / "config.json").read_text())["quantization_config"]
    return entry


def edit_entry(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(config["quantization_config"])
    (folder / "config.json").write_text(json.dumps(config))


def edit_tensor(folder: Path, name: str, edit: Callable[[Tensor], Tensor]) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = edit(tensors[name])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def next_number(tensor: Tensor) -> Tensor:
    return torch.nextafter(tensor, tensor + 1)


def filled(value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: torch.full_like(tensor, value)


@pytest.mark.parametrize("name", [THETA, TABLE])
@pytest.mark.parametrize("loader", [AutoModelForCausalLM, AutoModel])
@pytest.mark.parametrize("options", [{}, {"dtype": torch.float64}, {"device_map": {"": "disk"}}], ids=str)
def test_the_smallest_change_is_refused(name: str, loader: Any, options: dict[str, Any], folder: Path) -> None:
    """Of a model with a head and of its base, in any precision, offloaded or not."""
    edit_tensor(folder, name, next_number)
    site = name.rpartition(".")[0].removeprefix("transformer.")
    with pytest.raises(ValueError, match=rf"{site} {NOT_SAVED}, by their digest in config\.json"):
        loader.from_pretrained(folder, offload_folder=folder / "offload", **options)


def test_a_changed_range_is_refused(folder: Path) -> None:
    edit_entry(folder, lambda entry: entry["hg_ranges"].update({"transformer.h.0.mlp.act.node": [-77.0, 77.0]}))
    with pytest.raises(ValueError, match=f"mlp.act.node {NOT_SAVED}"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_site_without_a_digest_is_refused(folder: Path) -> None:
    edit_entry(folder, lambda entry: entry["node_digests"].pop(THETA.rpartition(".")[0]))
    with pytest.raises(ValueError, match=f"c_fc.input_node {NOT_SAVED}"):
        AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("edit", [lambda e: e.pop("node_digests"), lambda e: e.update(node_digests=None)])
def test_checkpoints_that_are_older_load(edit: Callable[[dict[str, Any]], Any], snn: Model, folder: Path) -> None:
    edit_entry(folder, edit)
    assert digests_of(AutoModelForCausalLM.from_pretrained(folder)) == digests_of(snn)


@pytest.fixture(scope="module")
def coded() -> Model:
    """A network of which two populations have codes of their own, one of them outside of its base."""
    return convert_tiny(gpt2(n_layer=1), site_codes=(SiteCode(COARSE, 63), SiteCode("lm_head.input_node", 7, 2)))


@pytest.fixture
def coded_folder(coded: Model, tmp_path: Path) -> Path:
    coded.save_pretrained(tmp_path / "coded")
    return tmp_path / "coded"


def first_code(entry: dict[str, Any], place: int, value: object) -> None:
    entry["site_codes"][0][place] = value


@pytest.mark.parametrize("loader", [AutoModelForCausalLM, AutoModel])
def test_codes_of_populations_are_loaded(loader: Any, coded: Model, coded_folder: Path) -> None:
    """By the base model too, which has not all of the populations that have codes of their own."""
    loaded = dict(named_sites(loader.from_pretrained(coded_folder)))
    for name, site in named_sites(coded):
        here = loaded.get(name) or loaded.get(name.removeprefix("transformer."))
        assert here is not None or name == "lm_head.input_node"
        assert here is None or getattr(here.node, "code", None) == getattr(site.node, "code", None)


@pytest.mark.parametrize("loader", [AutoModelForCausalLM, AutoModel])
@pytest.mark.parametrize("name", ["unknown", COARSE.rpartition(".")[0], "transformer.h.0.mlp.act.node"])
def test_codes_of_what_is_no_population_are_refused(name: str, loader: Any, coded_folder: Path) -> None:
    edit_entry(coded_folder, lambda entry: first_code(entry, 0, name))
    with pytest.raises(ValueError, match=f"site_codes of config.json name {name}, which is no population"):
        loader.from_pretrained(coded_folder)


@pytest.mark.parametrize("loader", [AutoModelForCausalLM, AutoModel])
@pytest.mark.parametrize(
    "edit",
    [
        lambda entry: entry.pop("site_codes"),
        lambda entry: entry["site_codes"].pop(0),
        lambda entry: first_code(entry, 1, 5),
        lambda entry: first_code(entry, 2, 3),
        lambda entry: entry.update(levels=3),
        lambda entry: entry.update(max_spikes=2),
        lambda entry: entry.update(rounding="floor"),
    ],
)
def test_a_changed_code_is_refused(edit: Callable[[dict[str, Any]], Any], loader: Any, coded_folder: Path) -> None:
    edit_entry(coded_folder, edit)
    with pytest.raises(ValueError, match=f"the code .*{NOT_SAVED}"):
        loader.from_pretrained(coded_folder)


def of_format_5(model: Model, folder: Path) -> None:
    """Have a folder be as las_sj of format 5 saved it, whose digests are of no codes."""
    digests = {name: digest_of(site.node, of_code=False) for name, site in named_sites(model)}
    edit_entry(folder, lambda entry: entry.update(format_version=5, node_digests=digests))


@pytest.mark.parametrize("loader", [AutoModelForCausalLM, AutoModel])
def test_digests_without_codes_are_read(loader: Any, coded: Model, coded_folder: Path) -> None:
    of_format_5(coded, coded_folder)
    loaded = loader.from_pretrained(coded_folder)
    entry = loaded.config.quantization_config.to_dict()
    assert (entry["format_version"], entry["node_digests"]) == (6, digests_of(loaded))
    loaded.save_pretrained(coded_folder / "again")
    assert digests_of(loader.from_pretrained(coded_folder / "again")) == digests_of(loaded)
    edit_tensor(coded_folder, THETA, next_number)
    with pytest.raises(ValueError, match=NOT_SAVED):
        loader.from_pretrained(coded_folder)


def test_codes_that_were_set_are_saved(coded_folder: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(coded_folder)
    node = loaded.get_submodule("transformer.h.0.attn.c_proj.input_node")
    node.code = replace(node.code, levels=3)
    loaded.save_pretrained(coded_folder / "again")
    assert ["transformer.h.0.attn.c_proj.input_node", 3, None] in entry_of(coded_folder / "again")["site_codes"]
    again = AutoModelForCausalLM.from_pretrained(coded_folder / "again")
    assert digests_of(again) == digests_of(loaded)


@pytest.mark.parametrize("version", [5, 6])
def test_digests_of_another_format_are_refused(version: int, coded: Model, coded_folder: Path) -> None:
    if version == 6:
        of_format_5(coded, coded_folder)
    edit_entry(coded_folder, lambda entry: entry.update(format_version=version))
    with pytest.raises(ValueError, match=NOT_SAVED):
        AutoModelForCausalLM.from_pretrained(coded_folder)


@pytest.mark.parametrize(
    ("name", "edit", "fault"),
    [
        (THETA, filled(1e-45), "finite and positive, within"),
        (THETA, filled(1e30), "finite and positive, within"),
        (THETA, filled(1e-20), "must not be below theta_normal"),
        (THETA, lambda tensor: tensor.to(torch.int64), "floating-point numbers, got torch.int64"),
        (TABLE, filled(float("nan")), "not the table that its function, time steps and tolerance give"),
        (TABLE, filled(0.0), "not the table"),
        (TABLE, lambda tensor: tensor * 1.001, "not the table"),
        (TABLE, lambda tensor: tensor.to(torch.int8), "the type torch.float32, got torch.int8"),
        (CELLS, filled(2**31 - 1), "not the table"),
        (CELLS, lambda tensor: tensor - 1, "not the table"),
        (CELLS, lambda tensor: tensor.to(torch.int64), "the type torch.int32, got torch.int64"),
    ],
)
def test_what_no_neuron_has_is_refused_without_digests(
    name: str, edit: Callable[[Tensor], Tensor], fault: str, folder: Path
) -> None:
    edit_entry(folder, lambda entry: entry.pop("node_digests"))
    edit_tensor(folder, name, edit)
    with pytest.raises(ValueError, match=rf"{name} is missing from the checkpoint or broken, it .*{fault}"):
        AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("value", [1, "text", [], ["a"], {"a": 1}])
def test_broken_digests(value: object, folder: Path) -> None:
    edit_entry(folder, lambda entry: entry.update(node_digests=value))
    with pytest.raises(ValueError, match=r"the checkpoint is broken|are not those that were saved"):
        AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hg_ranges", [1], "hg_ranges must give a value for each name"),
        ("hg_ranges", {"a": [0, 10**400]}, "the range of a must be two numbers"),
        ("hg_ranges", {"a": [0, float("nan")]}, "the range of a must be two numbers"),
        ("hg_ranges", {"a": 3}, "the range of a must be two numbers"),
        ("islands", "text", "islands must be a list of names"),
        ("islands", [1], "islands must be a list of names"),
        ("max_spiked", 3, "has an entry 'max_spiked'"),
    ],
)
def test_broken_entries(name: str, value: object, message: str, folder: Path) -> None:
    edit_entry(folder, lambda entry: entry.update({name: value}))
    with pytest.raises(ValueError, match=message):
        AutoModelForCausalLM.from_pretrained(folder)


def test_thresholds_that_were_set_are_saved(snn: Model, folder: Path) -> None:
    """Whoever sets or trains thresholds, or ranges, saves others than the conversion found."""
    before = entry_of(folder)["node_digests"]
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    for model in (loaded, convert_tiny(gpt2(n_layer=1))):
        model.get_parameter(THETA).data.mul_(1.5)
        act = model.get_submodule("transformer.h.0.mlp.act.node")
        act.set_range(-50.0, 60.0)
        model.save_pretrained(folder)
        entry = entry_of(folder)
        assert {name for name in before if before[name] != entry["node_digests"][name]} == {
            THETA.rpartition(".")[0],
            "transformer.h.0.mlp.act.node",
        }
        assert entry["hg_ranges"]["transformer.h.0.mlp.act.node"] == [-50.0, 60.0]
        again = AutoModelForCausalLM.from_pretrained(folder)
        assert torch.equal(again.get_parameter(THETA), model.get_parameter(THETA))
        ids = {"input_ids": token_ids()}
        assert torch.equal(run(again, "accumulated", **ids).logits, run(model, "accumulated", **ids).logits)


def test_double_precision(folder: Path, tmp_path: Path) -> None:
    """Thresholds are loaded as single precision, in which they are compared."""
    model = AutoModelForCausalLM.from_pretrained(folder).double()
    model.get_parameter(THETA).data.mul_(1 + 1e-12)
    model.save_pretrained(tmp_path / "double")
    assert load_file(tmp_path / "double" / "model.safetensors")[THETA].dtype == torch.float64
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "double")
    assert again.get_parameter(THETA).dtype == torch.float32
    edit_tensor(tmp_path / "double", THETA, lambda tensor: tensor * (1 + 1e-6))
    with pytest.raises(ValueError, match=NOT_SAVED):
        AutoModelForCausalLM.from_pretrained(tmp_path / "double")


def test_offloaded_models_are_saved_with_their_digests(snn: Model, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model = AutoModelForCausalLM.from_pretrained(folder, device_map={"": "disk"}, offload_folder=tmp_path / "offload")
    assert model.get_parameter(THETA).is_meta
    with pytest.warns(UserWarning, match="offloaded"):
        model.save_pretrained(tmp_path / "again")
    assert entry_of(tmp_path / "again")["node_digests"] == digests_of(snn)


def test_tables_are_derived_once_for_many_neurons(snn: Model) -> None:
    nodes = [site.node for _, site in named_sites(snn) if isinstance(site.node, HGNode)]
    squares = [node for node in nodes if node.function.name == "square"]
    assert len(squares) > 1
    assert len({id(node.gates.tables()) for node in squares}) == 1
    assert len({node.get_buffer("bias").data_ptr() for node in squares}) == len(squares)
