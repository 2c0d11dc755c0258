from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.snapshot.leaks import LeakFinder
from ls_pipeline.domain.snapshot.parts import to_table
from ls_pipeline.domain.snapshot.splits import SPLITS, SplitRule
from ls_pipeline.domain.snapshot.tables import table_rows
from tests.domain.snapshot.test_tables import labeled

CONFIG = '<View><Text name="t" value="$text"/></View>'


def found(*tasks, config=CONFIG):
    """Return the leaks among tasks, each its data and its split."""
    completions = [labeled(number, [], data=data) for number, (data, _) in enumerate(tasks, 1)]
    rows = table_rows(completions, SplitRule())["tasks"]
    finder = LeakFinder(config)
    for row, (_, split) in zip(rows, tasks, strict=True):  # in parts of one task
        finder.add(to_table("tasks", [{**row, "split": split}]))
    return finder.find()


def test_equal_data_in_two_splits_is_found_and_named():
    leaks = found(
        ({"text": "a"}, "test"),
        ({"text": "b"}, "train"),
        ({"text": "a"}, "train"),
        ({"text": "a"}, "test"),
    )

    assert (leaks.contents, leaks.tasks) == (1, 3)
    assert [[(task.task_id, task.split) for task in tasks] for tasks in leaks.examples] == [
        [(3, "train"), (1, "test")]
    ]


def test_only_what_the_label_config_shows_is_compared():
    tasks = (({"text": "a", "id": 1}, "train"), ({"text": "a", "id": 2}, "test"))

    assert (found(*tasks).contents, found(*tasks, config="<View/>").contents) == (1, 0)


def test_data_without_what_the_label_config_shows_is_compared_whole():
    assert found(({"id": 1}, "train"), ({"id": 2}, "test"), ({"id": 1}, "test")).tasks == 2


def test_label_config_that_is_not_xml_compares_all_data():
    assert found(({"text": "a"}, "train"), ({"text": "a"}, "test"), config="<").contents == 1


def test_nothing_leaks_without_tasks():
    assert LeakFinder(CONFIG).find().contents == 0


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(SPLITS)), max_size=12))
def test_contents_leak_if_they_are_in_several_splits(tasks):
    splits = {text: {split for other, split in tasks if other == text} for text, _ in tasks}
    leaked = {text for text in splits if len(splits[text]) > 1}
    leaks = found(*(({"text": text}, split) for text, split in tasks))

    assert leaks.contents == len(leaked)
    assert leaks.tasks == sum(text in leaked for text, _ in tasks)
