"""Zero-shot tasks over local files ask what lm-eval's own tasks of that name ask, character for character."""

import json
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from las_sj.evaluation.errors import ZeroShotError
from las_sj.evaluation.zero_shot import LOCAL_FILES, load_tasks

pytest.importorskip("lm_eval", reason="the extra evaluate is not installed")

DATA = Path(__file__).parents[4] / "shared" / "data"
NAMES = sorted(path.stem for path in LOCAL_FILES.glob("*.yaml"))
ROWS = {
    "arc_challenge": 1172,
    "arc_easy": 2376,
    "copa": 100,
    "lambada_openai": 5153,
    "openbookqa": 500,
    "piqa": 1838,
    "social_iqa": 1954,
    "winogrande": 1267,
    "wsc273": 273,
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("lm_eval")
    level = logger.level
    yield
    logger.setLevel(level)


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def task_over(name: str, folder: Path) -> Any:
    (task,) = load_tasks(name, folder)
    return task


def own(name: str) -> dict[str, Any]:
    """lm-eval's own settings of a task."""
    from lm_eval.tasks._yaml_loader import load_yaml

    return dict(load_yaml(index_of_lm_eval()[name].yaml_path, resolve_func=True, recursive=True))


@cache
def index_of_lm_eval() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager().task_index


def test_names() -> None:
    assert list(ROWS) == NAMES


@pytest.mark.parametrize("name", ["piqa", "arc_easy", "arc_challenge", "social_iqa", "lambada_openai"])
def test_templates_are_those_of_lm_eval(name: str) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    ours, theirs = load_yaml(LOCAL_FILES / f"{name}.yaml", resolve_func=True), own(name)
    assert ours["doc_to_text"] == theirs["doc_to_text"]
    assert ours["output_type"] == theirs["output_type"]
    metrics = [{metric["metric"] for metric in settings["metric_list"]} for settings in (ours, theirs)]
    assert metrics[0] == metrics[1]


def requests_of(task: Any, doc: dict[str, Any]) -> list[tuple[str, str]]:
    """What lm-eval asks a model."""
    context = task.fewshot_context(doc, 0)
    options = {"apply_chat_template": False, "chat_template": None}
    requests = task.construct_requests(doc, context, metadata=(task.config.task, 0, 1), **options)
    return [request.args for request in (requests if isinstance(requests, list) else [requests])]


def of_lm_eval(name: str, rows: list[dict[str, Any]]) -> Any:
    """lm-eval's own task, with these rows in place of the hub's."""
    from datasets import Dataset, DatasetDict
    from lm_eval.api.task import ConfigurableTask

    settings = own(name) | {"dataset_path": None, "dataset_name": None}
    split = settings.get("test_split", "validation")
    settings["custom_dataset"] = lambda **_: DatasetDict({split: Dataset.from_list(rows)})
    unwanted = ("training_split", "tag", "include")
    return ConfigurableTask(config={name: value for name, value in settings.items() if name not in unwanted})


def assert_same_requests(ours: Any, theirs: Any) -> None:
    docs = [list(task.test_docs() if task.has_test_docs() else task.validation_docs()) for task in (ours, theirs)]
    assert len(docs[0]) == len(docs[1]) > 0
    for doc, other in zip(*docs, strict=True):
        assert requests_of(ours, doc) == requests_of(theirs, other)
        assert ours.doc_to_target(doc) == theirs.doc_to_target(other)
        assert ours.doc_to_text(doc) == theirs.doc_to_text(other)


def test_winogrande(tmp_path: Path) -> None:
    sentence, options = "Sarah was better than Maria so _ always won.", ["Sarah", "Maria"]
    write(tmp_path, "zeroshot/winogrande/dev.jsonl", [{"question": sentence, "choices": options, "label": 1}])
    task = task_over("winogrande", tmp_path)
    hub = {"sentence": sentence, "option1": "Sarah", "option2": "Maria", "answer": "2"}
    assert_same_requests(task, of_lm_eval("winogrande", [hub]))
    (doc,) = task.test_docs()
    beginnings = [f"Sarah was better than Maria so {name}" for name in options]
    assert requests_of(task, doc) == [(beginning, " always won.") for beginning in beginnings]
    assert task.doc_to_text(doc) == 1


def test_copa(tmp_path: Path) -> None:
    row = {"premise": "The man fell.", "choice1": "He wept.", "choice2": "It rained."}
    rows = [row | {"question": word, "label": label} for word, label in (("cause", 1), ("effect", 0))]
    write(tmp_path, "superglue/COPA/val.jsonl", rows)
    task = task_over("copa", tmp_path)
    assert_same_requests(task, of_lm_eval("copa", rows))
    first, _ = task.test_docs()
    choices = ["  he wept.", "  it rained."]  # with lm-eval's own second space
    assert requests_of(task, first) == [("The man fell because", choice) for choice in choices]


SCHEMA = """<schema><text><txt1>
{0}</txt1><pron> {1} </pron><txt2>{2} </txt2></text>
<answers><answer>{3} </answer><answer>{4}</answer></answers><correctAnswer> {5}. </correctAnswer></schema>
"""
SCHEMAS = [
    ("The trophy is in the case.", "It", "is big.", "The trophy", "the case", "A"),
    ("The man told the boy that", "he", "left.", "The man", "The boy", "B"),
    ("The man told the boy to take", "his", "hat.", "The man", "The boy", "B"),
    ("Ann gave the keys to", "them", ".", "The boys", "The men", "A"),
    ("", "They", "sleep when Ann and Eve work for the boys", "The boys", "Ann and Eve", "A"),
]


def write_schemas(folder: Path, schemas: list[tuple[str, ...]]) -> None:
    (folder / "wsc").mkdir(parents=True, exist_ok=True)
    text = "".join(SCHEMA.format(*schema) for schema in schemas)
    (folder / "wsc" / "WSCollection.xml").write_text(f"<collection>{text}</collection>")


def test_wsc273(tmp_path: Path) -> None:
    write_schemas(tmp_path, SCHEMAS)
    hub = [
        {
            "text": f"{before} {pronoun} {after}".strip(),
            "pronoun": pronoun,
            "pronoun_loc": len(before) + 1 if before else 0,
            "options": [one, other],
            "label": "AB".index(right),
        }
        for before, pronoun, after, one, other, right in SCHEMAS
    ]
    task = task_over("wsc273", tmp_path)
    assert_same_requests(task, of_lm_eval("wsc273", hub))
    first, second, third, *_ = (requests_of(task, doc) for doc in task.test_docs())
    assert first == [(f"The trophy is in the case. {name}", "  is big.") for name in ("The trophy", "the case")]
    assert second == [(f"The man told the boy that {name}", "  left.") for name in ("the man", "the boy")]
    assert third == [(f"The man told the boy to take {name}'s", "  hat.") for name in ("the man", "the boy")]


@pytest.mark.parametrize(
    ("place", "value"), [(1, ""), (3, " "), (5, "C"), (5, "")], ids=["pronoun", "answer", "right", "no right one"]
)
def test_schemas_that_are_none(place: int, value: str, tmp_path: Path) -> None:
    broken = [*SCHEMAS[1][:place], value, *SCHEMAS[1][place + 1 :]]
    write_schemas(tmp_path, [SCHEMAS[0], tuple(broken)])
    with pytest.raises(ZeroShotError, match="schema 2: not a text with a pronoun, two answers"):
        load_tasks("wsc273", tmp_path)


def test_what_is_no_xml(tmp_path: Path) -> None:
    write_schemas(tmp_path, SCHEMAS)
    path = tmp_path / "wsc" / "WSCollection.xml"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ZeroShotError, match=r"WSCollection\.xml: no XML"):
        load_tasks("wsc273", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "row"),
    [
        ("piqa", "zeroshot/piqa/dev.jsonl", {"goal": "Open a jar", "sol1": "Turn it.", "sol2": ""}),
        ("arc_easy", "zeroshot/arc_easy/test.jsonl", {"question": " ", "choices": ["I", "you"], "label": 0}),
        ("arc_easy", "zeroshot/arc_easy/test.jsonl", {"question": "Who?", "choices": ["I", "you"], "label": True}),
        ("winogrande", "zeroshot/winogrande/dev.jsonl", {"question": "Ann.", "choices": ["I", "you"], "label": 0}),
        ("winogrande", "zeroshot/winogrande/dev.jsonl", {"question": "Ann _.", "choices": ["I"], "label": 0}),
        ("lambada_openai", "lambada/lambada_test.jsonl", {"text": ""}),
        (
            "copa",
            "superglue/COPA/val.jsonl",
            {"premise": "He fell.", "choice1": "", "choice2": "It rained.", "question": "cause", "label": 0},
        ),
    ],
)
def test_rows_that_ask_nothing(name: str, file: str, row: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, file, [row])
    (tmp_path / file).with_name("dev-labels.lst").write_text("0\n")
    with pytest.raises(ZeroShotError, match=f"{Path(file).name}(, line 1)?: .*(blank|two choices)"):
        load_tasks(name, tmp_path)


def test_labels_in_a_file_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, "zeroshot/piqa/dev.jsonl", [{"goal": "Open a jar", "sol1": "Turn it.", "sol2": "Eat it."}] * 2)
    (tmp_path / "zeroshot/piqa/dev-labels.lst").write_text("0\n1\n")
    task = task_over("piqa", tmp_path)
    first, second = task.test_docs()
    assert task.doc_to_text(first) == "Question: Open a jar\nAnswer:"
    assert task.doc_to_choice(first) == ["Turn it.", "Eat it."]
    assert (task.doc_to_target(first), task.doc_to_target(second)) == (0, 1)
    (tmp_path / "zeroshot/piqa/dev-labels.lst").write_text("0\n")
    with pytest.raises(ZeroShotError, match="2 rows, 1 labels"):
        load_tasks("piqa", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "row"),
    [
        ("arc_easy", "zeroshot/arc_easy/test.jsonl", {"question": "Who?", "choices": ["I", "you"]}),
        ("winogrande", "zeroshot/winogrande/dev.jsonl", {"question": "Ann saw _.", "choices": ["Bob", "Eve"]}),
        (
            "copa",
            "superglue/COPA/val.jsonl",
            {"premise": "He fell.", "choice1": "He wept.", "choice2": "It rained.", "question": "cause"},
        ),
        ("piqa", "zeroshot/piqa/dev.jsonl", {"goal": "Open a jar", "sol1": "Turn it.", "sol2": "Eat it."}),
        (
            "social_iqa",
            "zeroshot/siqa/dev.jsonl",
            {"context": "He fell.", "question": "Why?", "answerA": "Rain.", "answerB": "Ice.", "answerC": "Wine."},
        ),
    ],
)
def test_label_of_no_choice(name: str, file: str, row: dict[str, Any], tmp_path: Path) -> None:
    """Labels that count from another number would give wrong figures."""
    first = 1 if name == "social_iqa" else 0
    last = 3 if name == "social_iqa" else 1
    for label, known in ((first, True), (last, True), (first - 1, False), (last + 1, False)):
        write(tmp_path, file, [row | {"label": label}])
        (tmp_path / file).with_name("dev-labels.lst").write_text(f"{label}\n")
        if known:
            assert task_over(name, tmp_path).has_test_docs()
        else:
            with pytest.raises(ZeroShotError, match=r"label -?\d is of no choice|not a number"):
                load_tasks(name, tmp_path)


def test_other_separators_within_a_line(tmp_path: Path) -> None:
    text = "to be or\u2028not\x85to be"
    (tmp_path / "lambada").mkdir()
    (tmp_path / "lambada" / "lambada_test.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    (doc,) = task_over("lambada_openai", tmp_path).test_docs()
    assert doc["text"] == text


@pytest.mark.parametrize("choices", [["I", " "], ["I", 2], []])
def test_choices_that_are_none(choices: list[Any], tmp_path: Path) -> None:
    write(tmp_path, "zeroshot/arc_easy/test.jsonl", [{"question": "Who?", "choices": choices, "label": 0}])
    with pytest.raises(ZeroShotError, match=r"line 1: (choices that are no text|the label 0 is of no choice)"):
        load_tasks("arc_easy", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_missing_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroShotError, match=f"cannot read the data of {name}.*No such file"):
        load_tasks(name, tmp_path)


@pytest.mark.skipif(not DATA.exists(), reason="needs the evaluation data in ../shared/data")
@pytest.mark.parametrize("name", NAMES)
def test_real_files(name: str) -> None:
    """All rows are there, and each has its right answer among its choices."""
    task = task_over(name, DATA)
    docs = list(task.test_docs())
    assert len(docs) == ROWS[name]
    for doc in docs:
        target = task.doc_to_target(doc)
        if task.OUTPUT_TYPE == "multiple_choice":
            choices = task.doc_to_choice(doc)
            assert len(choices) >= 2
            assert all(isinstance(choice, str) and choice for choice in choices)
            answer = target if isinstance(target, int) else task.doc_to_text(doc)
            assert answer in range(len(choices)) or target in choices
        assert target != ""
