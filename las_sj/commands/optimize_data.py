"""What an optimisation calibrates, checks and compares on, where it is a task of GLUE."""

from transformers import PreTrainedModel

from las_sj.commands.convert_data import Data
from las_sj.commands.optimize_request import OptimizeRequest
from las_sj.data.processors import Processors
from las_sj.evaluation.classification import by_length, columns_of, read_rows, unseen_batches
from las_sj.evaluation.glue import TASKS
from las_sj.extras import require_extra
from las_sj.optimisation.errors import OptimisationError


def task_data(request: OptimizeRequest, model: PreTrainedModel, processors: Processors) -> Data:
    """Unlabelled test rows of the task that the model classifies (else training rows), and its development split.

    Args:
        request: names the task, and says how many rows are compared on.
        model: a classifier of it.
        processors: of the model.

    Raises:
        GlueError: rows cannot be read, or the model is no classifier of the task.
        MissingExtraError: `datasets` is not installed.
        OptimisationError: the model has no tokenizer.
    """
    require_extra("glue", "datasets")
    task, tokenizer = TASKS[str(request.task)], processors.tokenizer
    columns_of(model, task)  # raises where it is no classifier of it
    if tokenizer is None:
        raise OptimisationError("the model has no tokenizer: save it in its folder")
    rows = read_rows(task, request.data_dir, request.task_rows)
    batches, _ = by_length(task, model, tokenizer, rows, request.convert.batch_size)
    calibration, called = unseen_batches(task, model, tokenizer, request.data_dir, request.convert.batch_size)
    source = {
        "calibration": called,
        "evaluation": f"{len(rows)} rows of its {rows.info.description}",
    }
    return Data(calibration, batches, source)
