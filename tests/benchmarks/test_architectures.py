"""The harness over all architectures on small types; and what is not equivalent is not counted."""

import copy
import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from every_type.building import NotRun, Subject, build
from every_type.journal import EARLIER, Journal
from every_type.judging import CONVERTED, errors_of
from every_type.mappings import MAPPINGS, Entry, entries_of
from every_type.table import lines_of
from programs import run

import las_sj

ROOT = Path(__file__).parents[2]
TYPES = ("llama", "distilbert", "vit")


def started(*arguments: object) -> CompletedProcess[str]:
    return run(ROOT / "benchmarks" / "architectures.py", *arguments)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("architectures") / "rows.jsonl"


@pytest.fixture(scope="module")
def printed(journal: Path) -> list[str]:
    done = started("--types", *TYPES, "--generation", "--saving", "--journal", journal)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_small_types_convert(printed: list[str]) -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed[2:5]]
    assert [row[:3] for row in rows] == [
        ["distilbert", "masked-lm", "text"],
        ["llama", "causal-lm", "text"],
        ["vit", "image-classification", "images"],
    ]
    assert all(0 < float(error) < 1e-3 for row in rows for error in row[3:5])
    assert {row[5] for row in rows} == {"fully spike-driven"}
    assert [row[6] for row in rows] == ["does not generate", "same tokens", "does not generate"]
    assert {row[7] for row in rows} == {"bit-identical"}
    assert printed[-1] == "3 of 3 architectures convert"


def test_finished_types_are_not_run_again(printed: list[str], journal: Path) -> None:
    lines = journal.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["entry"]["model_type"] for row in rows} == set(TYPES)
    journal.write_text("\n".join(lines[:-1]) + '\n{"entry": {"mapp')  # a run that was killed
    again = started("--types", *TYPES, "--generation", "--saving", "--journal", journal)
    assert again.stdout.splitlines() == printed
    assert len(journal.read_text().splitlines()) == len(TYPES) + 1


def test_rows_of_other_versions_do_not_count(tmp_path: Path) -> None:
    row = {"entry": vars(Entry("ctc", "wav2vec2", "Wav2Vec2ForCTC")), "status": "converted", "project": "another"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    done = started("--types", "dinat", "--journal", tmp_path / "rows.jsonl")
    assert "natten" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 of 0 architectures convert"


def test_rows_of_an_earlier_state_count_where_they_are_asked_for(tmp_path: Path) -> None:
    path, entries = tmp_path / "rows.jsonl", entries_of(["causal-lm"], ["gpt2", "llama", "opt", "phi"])
    now, (gpt2, llama, opt, phi) = Journal(path, ["saving"]), entries
    for entry, status, other in (
        (gpt2, CONVERTED, {"project": "an earlier one"}),
        (llama, "inaccurate", {"project": "an earlier one"}),
        (opt, CONVERTED, {"transformers": "4.0"}),
        (phi, "inaccurate", {}),
        (phi, CONVERTED, {"project": "an earlier one"}),
    ):
        now.add(entry, {"status": status})
        lines = path.read_text().splitlines()
        path.write_text("".join(f"{line}\n" for line in (*lines[:-1], json.dumps(json.loads(lines[-1]) | other))))
    assert {entry: row["status"] for entry, row in now.finished().items()} == {phi: "inaccurate"}
    found = Journal(path, ["saving"], earlier=True).finished()
    assert {entry: (row["status"], EARLIER in row) for entry, row in found.items()} == {
        gpt2: (CONVERTED, True),
        phi: ("inaccurate", False),
    }
    rows = {gpt2: found[gpt2] | {"inputs": "text", "accumulated": 0.0, "temporal": 0.0, "audit": ""}}
    assert "1 of the 1 rows were measured with earlier states of the project." in list(lines_of(rows))


def test_stages_of_an_entry_are_joined(tmp_path: Path) -> None:
    path, (gpt2, llama, opt) = tmp_path / "rows.jsonl", entries_of(["causal-lm"], ["gpt2", "llama", "opt"])
    for stage in ("saving", "monitor"):
        for entry in (gpt2, llama):
            Journal(path, [stage]).add(entry, {"status": CONVERTED, "audit": f"with {stage}", stage: "sound"})
    Journal(path, ["saving"]).add(opt, {"status": CONVERTED, "audit": "with saving", "saving": "sound"})
    Journal(path, ["monitor"]).add(opt, {"status": "inaccurate"})
    first, *others = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in (json.dumps(json.loads(first) | {"project": "other"}), *others)))
    both = {"status": CONVERTED, "audit": "with monitor", "saving": "sound", "monitor": "sound"}
    found = Journal(path, ["saving", "monitor"]).finished()
    assert {name: found[llama][name] for name in both} == both
    assert set(found) == {llama}  # of the others, one saved in an earlier state, and one does not convert
    found = Journal(path, ["saving", "monitor"], earlier=True).finished()
    assert set(found) == {gpt2, llama}
    assert {entry: EARLIER in row for entry, row in found.items()} == {gpt2: True, llama: False}
    assert Journal(path, ["monitor"]).finished()[opt]["status"] == "inaccurate"


def test_unknown_types_are_named() -> None:
    done = started("--types", "llama", "lama", "--journal", "nowhere.jsonl")
    assert done.returncode == 2
    assert "no such types in" in done.stderr
    assert done.stderr.rstrip().endswith(": lama")
    assert not Path("nowhere.jsonl").exists()


@pytest.fixture(scope="module")
def subject() -> Subject:
    return build(entries_of(["causal-lm"], ["llama"])[0])


def test_an_inaccurate_network_is_not_counted(subject: Subject) -> None:
    snn = las_sj.convert(copy.deepcopy(subject.model), None, [subject.inputs.make(seed) for seed in (1, 2)])
    assert errors_of(snn, subject)["status"] == CONVERTED
    with torch.no_grad():
        snn.lm_head.weight[0] += 0.1
    row = errors_of(snn, subject)
    assert row["status"] == "inaccurate"
    assert row["why"].startswith("error accumulated")
    entry = Entry("causal-lm", "llama", "LlamaForCausalLM")
    assert [*lines_of({entry: row})][-1] == "0 of 1 architectures convert"


def test_a_network_of_other_outputs_is_not_counted(subject: Subject) -> None:
    with torch.no_grad():
        nowhere = copy.deepcopy(subject.model)
        snn = las_sj.convert(nowhere, None, [subject.inputs.make(1)])
        snn.lm_head.weight.fill_(torch.nan)
    assert errors_of(snn, subject)["status"] == "inaccurate"


@pytest.mark.parametrize(
    ("mapping", "model_type", "kind"),
    [
        ("seq2seq-lm", "t5", "text"),
        ("image-text", "qwen2_5_vl", "images and text"),
        ("speech-seq2seq", "whisper", "sound"),
        ("ctc", "wav2vec2", "sound"),
    ],
)
def test_models_are_given_what_they_take(mapping: str, model_type: str, kind: str) -> None:
    (entry,) = entries_of([mapping], [model_type])
    found = build(entry)
    assert found.inputs.kind == kind
    assert found.parameters < 200_000
    assert any(value.is_floating_point() for value in found.inputs.make(1).values()) == (kind != "text")


def test_missing_packages_are_named() -> None:
    (entry,) = entries_of(["image-classification"], ["dinat"])
    with pytest.raises(NotRun, match="natten"):
        build(entry)


def test_mappings_are_those_of_transformers() -> None:
    entries = entries_of(list(MAPPINGS))
    assert len(entries) > 400
    assert len(set(entries)) == len(entries)
