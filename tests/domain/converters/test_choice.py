"""Which annotations are chosen, if several people labeled a task."""

from ls_pipeline.domain.converters.choice import choose


def annotation(number, *choices, **more):
    result = [
        {
            "id": f"{number}-{name}",
            "type": "choices",
            "from_name": name,
            "to_name": "t",
            "value": {"choices": [choice]},
        }
        for name, choice in choices
    ]
    return {"id": number, "completed_by": number, "result": result, **more}


def chosen(annotations):
    return [
        [(result["from_name"], result["value"]["choices"][0]) for result in each["result"]]
        for each in annotations
    ]


GOOD, BAD, NEW = ("c", "good"), ("c", "bad"), ("d", "new")
THREE = [
    annotation(1, BAD, updated_at="2026-01-03T00:00:00Z"),
    annotation(2, GOOD, NEW, updated_at="2026-01-02T00:00:00Z", ground_truth=True),
    annotation(3, GOOD, NEW, updated_at="2026-01-01T00:00:00Z"),
]


def test_latest_is_the_one_that_was_changed_last():
    assert [each["id"] for each in choose(THREE, "latest")] == [1]


def test_ground_truth_may_be_missing():
    assert [each["id"] for each in choose(THREE, "ground-truth")] == [2]
    assert choose(THREE[:1], "ground-truth") == []


def test_majority_is_what_more_than_half_said():
    assert chosen(choose(THREE, "majority")) == [[GOOD, NEW]]
    assert chosen(choose(THREE[:2], "majority")) == [[]]
    assert chosen(choose(THREE[:1], "majority")) == [[BAD]]


def test_majority_keeps_what_the_first_person_lacks():
    people = [annotation(1, GOOD), annotation(2, GOOD, NEW), annotation(3, NEW)]

    assert sorted(chosen(choose(people, "majority"))[0]) == [GOOD, NEW]


def test_majority_keeps_relations_between_what_it_keeps():
    relation = {"type": "relation", "from_id": "1-c", "to_id": "1-d"}
    people = [annotation(number, GOOD, NEW) for number in (1, 2)]
    people[0]["result"].append(relation)

    assert choose(people, "majority")[0]["result"][-1] == relation


def test_majority_of_results_of_any_form_is_found():
    people = [{"id": 1, "result": [{"id": []}]}, {"id": 1, "result": [None, {"id": {}}]}]

    assert len(choose(people, "majority")) == 1
