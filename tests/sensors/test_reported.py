from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.sensors.reported import Reported

DIGESTS = st.sampled_from(["", "", "a", "b"])
FOUND = st.dictionaries(st.integers(1, 30), DIGESTS)


@given(rounds=st.lists(st.tuples(FOUND, st.integers(0, 9)), max_size=8))
def test_each_other_result_is_reported_and_no_other(rounds):
    reported, known = Reported(), {}
    for found, at_once in rounds:
        changed = reported.changed(found)
        assert set(changed) == {
            number
            for number, digest in found.items()
            if digest != known.get(number, "" if number <= reported.newest else None)
        }
        now = changed[:at_once]
        reported = Reported.model_validate_json(reported.after(found, now).model_dump_json())
        known = {number: known[number] for number in known if number in found}
        known |= {number: found[number] for number in now}


def test_a_thousand_connections_that_fail_alike_take_few_bytes():
    found = dict.fromkeys(range(1, 1001), "0123456789abcdef")
    reported = Reported().after(found, Reported().changed(found))

    assert reported.model_dump_json() == ('{"newest":1000,"failed":{"0123456789abcdef":"1-1000"}}')
    assert reported.changed(found | {500: ""}) == [500]
