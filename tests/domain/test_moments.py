from datetime import timedelta

import pytest

from ls_pipeline.domain.moments import check_moment, earlier


def test_earlier_time_has_the_form_of_label_studio():
    moment = earlier("2026-03-01T00:00:01.000000Z", timedelta(seconds=2))

    assert moment == "2026-02-28T23:59:59.000000Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T00:00:00.5Z",  # as a text, it would follow .49
        "2026-3-1T0:0:0.000000Z",
        "2026-03-01T00:00:00Z",
        "2026-03-01T00:00:00.000000",
        "2026-03-01T00:00:00.000000+00:00",
        "2026-02-30T00:00:00.000000Z",
        "2026-03-01T00:00:60.000000Z",
        "١٠٢٦-03-01T00:00:00.000000Z",
        "2026-03-01T00:00:00.000000Z\n",
        "1969-12-31T23:59:59.999999Z",
    ],
)
def test_time_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match=r"time|1970|day|second"):
        check_moment(text)
