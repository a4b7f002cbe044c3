"""What the prediction columns of tasks promise."""

import pyarrow as pa

from schemas.kinds.columns import COMMON_FIELDS, answer_column, reserved_columns, task_fields
from tests.label_tasks import KIND


def test_columns_of_predictions_do_not_depend_on_the_labels() -> None:
    """Added columns are those that a corpus may not have, of the same types for every model."""
    fields = task_fields("topics", KIND, ("oil", "grain"), "map", tasks=1)

    names = [field.name for field in (*fields, *COMMON_FIELDS)]
    assert names == list(reserved_columns({"topics": KIND}))
    assert fields == task_fields("topics", KIND, ("gold",), "map", tasks=1)


def test_struct_has_one_field_a_label_in_order() -> None:
    """On request; and probabilities can be left out."""
    struct = pa.struct([("oil", pa.float32()), ("grain", pa.float32())])
    labels = ("oil", "grain")
    with_struct = task_fields("topics", KIND, labels, "struct", tasks=1)
    without = task_fields("topics", KIND, labels, "none", tasks=1)

    assert [field.type for field in with_struct if "prob" in field.name] == [struct]
    assert not [field for field in without if "prob" in field.name]


def test_predictions_of_several_tasks_have_their_names() -> None:
    """Each task has columns of its own, in order, before those that all rows have."""
    labels = {"topics": ("oil",), "roles": ("hero", "victim")}
    fields = [
        field
        for task, names in labels.items()
        for field in task_fields(task, KIND, names, "map", tasks=len(labels))
    ]

    assert [(field.name, str(field.type)) for field in fields] == [
        ("topics_labels", "list<item: string>"),
        ("topics_probabilities", "map<string, float>"),
        ("roles_labels", "list<item: string>"),
        ("roles_probabilities", "map<string, float>"),
    ]
    assert reserved_columns(dict.fromkeys(labels, KIND)) == tuple(
        field.name for field in (*fields, *COMMON_FIELDS)
    )


def test_answer_column_is_the_first_of_a_task() -> None:
    """It exists whatever the format of probabilities, with the task's name among several."""
    alone, shared = (answer_column("topics", KIND, tasks=tasks) for tasks in (1, 2))

    assert (alone, shared) == ("labels", "topics_labels")
    assert task_fields("topics", KIND, ("oil",), "none", tasks=2)[0].name == shared
