"""CoNLL, records and manifests of recordings, read by other programs."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ls_pipeline.domain.converters.conll import Span, find_place, tokens
from ls_pipeline.resources.converter import convert

CONFIG = """<View><Text name="t" value="$text"/><Labels name="what" toName="t">
<Label value="A"/><Label value="B"/></Labels></View>"""
TWO = CONFIG.replace("</View>", '<Labels name="who" toName="t"><Label value="P"/></Labels></View>')
TEXT = st.text(st.sampled_from("ab1-. \n\t,京東のé😀\u00a0\u200b"), min_size=1, max_size=30)


def span(start, end, label="A", text=None, **more):
    value = {"start": start, "end": end, "labels": [label]} | ({"text": text} if text else {})
    names = {"type": "labels", "from_name": "what", "to_name": "t"}
    return {"id": f"{start}", **names, "value": value, **more}


def task(text, results, task_id=1):
    annotation = {"id": task_id, "completed_by": 1, "was_cancelled": False, "result": results}
    return {"id": task_id, "data": {"text": text}, "annotations": [annotation]}


def read_conll(body):
    """Return the sentences of a CoNLL file, each a list of (token, entity)."""
    blocks = [block.splitlines() for block in re.split("\n\n+", body.strip("\n")) if block]
    assert blocks[0] == ["-DOCSTART- -X- O O"]
    sentences = []
    for block in blocks[1:]:
        columns = [line.split(" ") for line in block]
        assert all(len(each) == 4 and each[0].split() == [each[0]] for each in columns)
        sentences.append([(each[0], each[3]) for each in columns])
    return sentences


def spans_of(text, sentence):
    """Return the characters of each entity, found by the tokens alone."""
    found, place, begin = [], 0, None
    for token, entity in [*sentence, ("", "O")]:
        start = text.index(token, place)
        assert not text[place:start].strip() or not token
        if begin and not entity.startswith("I-"):
            found.append((*begin, place))
            begin = None
        if entity.startswith("B-"):
            begin = (entity[2:], start)
        place = start + len(token)
    return [(start, end, label) for label, start, end in found]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), text=TEXT)
def test_tokens_are_the_text_and_spans_end_where_tokens_end(data, text):
    borders = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = [Span(*pair, "A") for pair in zip(borders[::2], borders[1::2], strict=False)]
    found = list(tokens(text, spans))

    assert "".join(text[start:end] for start, end in found) == "".join(text.split())
    for start, end in found:
        assert all(
            each.start >= end or each.end <= start or (each.start <= start and end <= each.end)
            for each in spans
        )


@settings(max_examples=50, deadline=None)
@given(data=st.data(), text=TEXT)
def test_every_span_is_read_back(tmp_path_factory, data, text):
    borders = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    wanted = [
        (start, end, data.draw(st.sampled_from("AB")))
        for start, end in zip(borders[::2], borders[1::2], strict=False)
    ]
    folder = tmp_path_factory.mktemp("conll")
    results = [span(start, end, label, text[start:end]) for start, end, label in wanted]
    report = convert([task(text, results)], CONFIG, "CONLL2003", folder)
    sentences = read_conll((folder / "result.conll").read_bytes().decode())
    found = [each for sentence in sentences for each in spans_of(text, sentence)]
    trimmed = [trim(text, each) for each in wanted if text[each[0] : each[1]].split()]

    assert found == trimmed
    assert report.lost == len(wanted) - len(trimmed)


def trim(text, wanted):
    start, end, label = wanted
    inside = text[start:end]
    return start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip()), label


def test_each_control_has_its_file_and_overlaps_are_lost(tmp_path):
    results = [span(0, 4, "P", from_name="who"), span(0, 8), span(5, 8, "B"), span(9, 10)]
    report = convert([task("Anna sings in Rome", results)], TWO, "CONLL2003", tmp_path)
    what = read_conll((tmp_path / "0-what.conll").read_text())[0]
    who = read_conll((tmp_path / "1-who.conll").read_text())[0]

    assert what[:4] == [("Anna", "B-A"), ("sin", "I-A"), ("g", "O"), ("s", "B-A")]
    assert who[0] == ("Anna", "B-P")
    assert (report.lost, report.reasons) == (1, {"it overlaps with another span of its control": 1})


def test_offsets_of_browsers_are_found_by_the_text():
    text = "😀😀 Anna"

    assert find_place(text, 5, 9, "Anna") == (3, 7)
    assert find_place(text, 3, 7, "Anna") == (3, 7)


@pytest.mark.parametrize(("name", "ending"), [("CSV", "csv"), ("TSV", "tsv")])
def test_own_id_of_the_data_and_that_of_the_task_are_both_there(tmp_path, name, ending):
    config = """<View><Text name="t" value="$text"/><Choices name="label" toName="t">
    <Choice value="good"/></Choices></View>"""
    chosen = {"choices": ["good"]}
    result = {"id": "r", "type": "choices", "from_name": "label", "to_name": "t", "value": chosen}
    document = task("=SUM(1)\r\n\tfine", [result], 7)
    document["data"] |= {"id": "ticket-17", "label": "imported"}
    convert([document, task("b", [], 8)], config, name, tmp_path)
    separator = "," if name == "CSV" else "\t"
    frame = pd.read_csv(tmp_path / f"result.{ending}", sep=separator, keep_default_na=False)

    assert frame["id"].tolist() == [7, 8]
    assert frame["_data_id"].tolist() == ["ticket-17", ""]
    assert frame[["_data_label", "label"]].iloc[0].tolist() == ["imported", "good"]
    with (tmp_path / f"result.{ending}").open(newline="") as stream:
        assert "=SUM(1)\r\n\tfine" in stream.read()


@pytest.mark.parametrize("name", ["CSV", "JSON_MIN"])
def test_fields_of_a_record_have_different_names(tmp_path, name):
    config = CONFIG.replace('name="what"', 'name="lead_time"')
    document = task("Anna", [span(0, 4, from_name="lead_time"), span(0, 2, from_name="gone")])
    document["data"] |= {"id": "a", "_data_id": "b", "lead_time": "c", "gone": "d"}
    convert([document], config, name, tmp_path)
    if name == "CSV":
        (record,) = pd.read_csv(tmp_path / "result.csv").to_dict("records")
    else:
        (record,) = json.loads((tmp_path / "result.json").read_text())

    assert [record[key] for key in ("id", "_data_id", "_data__data_id")] == [1, "a", "b"]
    assert (record["_data_lead_time"], record["_data_gone"]) == ("c", "d")
    assert "labels" in str(record["_label_lead_time"])


def test_results_about_one_region_keep_its_id_in_a_record(tmp_path):
    config = CONFIG.replace(
        "</View>", '<Choices name="c" toName="t"><Choice value="x"/></Choices></View>'
    )
    about = span(0, 4) | {"type": "choices", "from_name": "c", "value": {"choices": ["x"]}}
    convert([task("Anna sings", [span(0, 4), about])], config, "JSON_MIN", tmp_path)
    (record,) = json.loads((tmp_path / "result.json").read_text())

    assert record["what"][0]["id"] == record["c"]["id"] == "0"


SOUND = """<View><Audio name="a" value="$clip"/><Labels name="who" toName="a"><Label value="P"/>
</Labels><TextArea name="said" toName="a"/><TextArea name="note" toName="a"/></View>"""


def test_manifest_has_a_line_for_each_recording_and_part(tmp_path):
    def fetch(uri, file):
        soundfile.write(file, np.zeros(12000), 8000)
        return True

    def said(text, id_, name="said", **place):
        names = {"type": "textarea", "from_name": name, "to_name": "a"}
        return {"id": id_, **names, "value": {"text": [text], **place}}

    part = {"id": "p", "type": "labels", "from_name": "who", "to_name": "a"}
    part["value"] = {"start": 0.5, "end": 1.25, "labels": ["P"]}
    whole = [said("good morning", "w"), said("loud", "n", "note")]
    documents = [task("", whole), task("", [part, said("hello", "p", start=0.5, end=1.25)], 2)]
    for document in documents:
        document["data"] = {"clip": "s3://b/one.wav"}
    report = convert(documents, SOUND, "ASR_MANIFEST", tmp_path, fetch)
    lines = [json.loads(line) for line in (tmp_path / "manifest.json").read_text().splitlines()]

    assert [line["text"] for line in lines] == ["good morning", "hello"]
    assert lines[0]["duration"] == soundfile.info(tmp_path / lines[0]["audio_filepath"]).duration
    assert (lines[1]["offset"], lines[1]["duration"], lines[1]["labels"]) == (0.5, 0.75, ["P"])
    assert report.reasons == {"it is a second text of its recording": 1}


def test_recordings_are_measured_without_a_copy(tmp_path):
    def measure(uri, file):
        soundfile.write(file, np.zeros(4000), 8000)
        return True

    document = task("", [])
    document["data"] = {"clip": "s3://b/one.wav"}
    convert([document], SOUND, "ASR_MANIFEST", tmp_path, measure=measure)
    line = json.loads((tmp_path / "manifest.json").read_text())

    assert (line["audio_filepath"], line["duration"]) == ("s3://b/one.wav", 0.5)
    assert {file.name for file in tmp_path.iterdir()} == {"manifest.json", "lost.json"}
