"""Labelled text is read as its author meant it: the columns, the task and the meaning of each label."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import write_jsonl
from keras_peft.data import names
from keras_peft.data.examples import read_examples
from keras_peft.errors import DataError, KerasPeftError, OptionError
from keras_peft.inputs.cells import decode

TEXTS = ["one bus", "two trams", "three trains", "four boats"]


def rows_with(labels, column="label"):
    return [{"text": f"{TEXTS[n % 4]} {n}", column: label} for n, label in enumerate(labels)]


@pytest.fixture
def read(tmp_path):
    def reader(rows, **options):
        return read_examples(write_jsonl(tmp_path / "d.jsonl", rows), **options)

    return reader


@pytest.fixture
def read_text(tmp_path):
    def reader(content, name="d.csv", **options):
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
        return read_examples(tmp_path / name, **options)

    return reader


@pytest.mark.parametrize(
    ("row", "name", "texts", "label"),
    [
        ({"text": "a", "label": "b"}, "single-label", ("text",), "label"),
        ({"text": "a", "label": 3}, "single-label", ("text",), "label"),
        ({"text": "a", "label": 3.0}, "single-label", ("text",), "label"),
        ({"text": "a", "label": 3.5}, "regression", ("text",), "label"),
        ({"text": "a", "label": ["b"]}, "single-label", ("text",), "label"),
        ({"text": "a", "label": ["b", "c"]}, "multi-label", ("text",), "label"),
        ({"text": "a", "labels": "b|c"}, "multi-label", ("text",), "labels"),
        ({"text": "a", "labels": ["b"]}, "multi-label", ("text",), "labels"),
        ({"text": "a", "labels": 1}, "single-label", ("text",), "labels"),
        ({"text_a": "a", "text_b": "b", "label": "c"}, "pairs", ("text_a", "text_b"), "label"),
        ({"text_a": "a", "text_b": "b", "label": 0.5}, "regression", ("text_a", "text_b"), "label"),
        ({"text_a": "a", "text_b": "b", "labels": ["c"]}, "multi-label", ("text_a", "text_b"), "labels"),
        ({"sentence1": "a", "sentence2": "b", "label": "c"}, "pairs", ("sentence1", "sentence2"), "label"),
        ({"tokens": ["a"], "tags": ["O"]}, "token-labels", ("tokens",), "tags"),
        ({"tokens": ["a"], "ner_tags": [0]}, "token-labels", ("tokens",), "ner_tags"),
        ({"text": "a", "tokens": ["a"], "ner_tags": [0]}, "token-labels", ("tokens",), "ner_tags"),
        ({"text": "a", "label": "b", "tokens": ["a"], "tags": ["O"]}, "single-label", ("text",), "label"),
        ({"id": 7, "Review": "a", "Sentiment": "b"}, "single-label", ("Review",), "Sentiment"),
        (
            {"id": 7, "comment_text": "a", "toxic": 0, "rude": 1},
            "multi-label",
            ("comment_text",),
            "toxic,rude",
        ),
    ],
)
def test_the_task_and_the_columns(read, row, name, texts, label):
    examples = read([row])
    assert (examples.task.name, examples.columns) == (name, (*texts, label))


def test_columns_that_are_named(read):
    row = {"one": "a", "two": "b", "score": 0.5, "kind": "x", "a,b": "y"}
    for texts, label, name in (
        ("one", "kind", "single-label"),
        ("one,two", "kind", "pairs"),
        ("one,two", "score", "regression"),
        ("one", "a,b", "single-label"),
    ):
        examples = read([row], text_column=texts, label_column=label)
        assert (examples.task.name, examples.columns) == (name, (*texts.split(","), names.joined([label])))
    with pytest.raises(
        DataError, match=r"no column 'knd'; it has: one, .* Did you mean 'kind'\? Set `label_column`"
    ):
        read([row], text_column="one", label_column="knd")
    with pytest.raises(DataError, match="several columns that could contain the text"):
        read([{"review": "a", "comment": "b", "label": "c"}])


def test_a_named_task_is_kept(read):
    row = {"text": "a", "label": 3, "tokens": ["a"], "tags": ["O"]}
    assert read([row], task="regression").labels == (3.0,)
    assert read([row], task="token-labels").columns == ("tokens", "tags")
    assert read([{"text": "a", "label": ["bus"]}], task="single-label").labels == ("bus",)
    with pytest.raises(DataError, match="1 row has no label"):
        read([{"text": "a", "label": ["bus", "late"]}], task="single-label")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a", "b"], ("a", "b")),
        ([1, 2.0, True], ("1", "2", "true")),
        (["True", "false"], ("true", "false")),
        (["True", "maybe"], ("True", "maybe")),
        (["1.0", "2"], ("1", "2")),
        (["1.0", "a"], ("1.0", "a")),
        (["01", "02"], ("01", "02")),
        ([-1, 0, 1, 0], ("-1", "0", "1", "0")),
        ([-1, -1, 0, 0, 1], ("-1", "-1", "0", "0", "1")),
        ([0, 0, 1, 1, -1, -1], ("0", "0", "1", "1", "-1", "-1")),
        (["A", "A-"], ("A", "A-")),
        (["NA", "null", "None"], ("NA", "null", "None")),
        (["C#", "F#"], ("C#", "F#")),
        (["(other)", "[x"], ("(other)", "[x")),
    ],
)
def test_single_labels(read, labels, expected):
    examples = read(rows_with(labels))
    assert (examples.task.name, examples.labels) == ("single-label", expected)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([["b", "a", "b"], []], (("a", "b"), ())),
        ([["a"], ["b", 1]], (("a",), ("1", "b"))),
        (["a|b, c", "b, c"], (("a", "b, c"), ("b, c",))),
        (["a; b", "b"], (("a", "b"), ("b",))),
        (["a#b", "c"], (("a", "b"), ("c",))),
        (["['a', 'b']", "['c']"], (("a", "b"), ("c",))),
        (["['a' 'b']", "['c']"], (("a", "b"), ("c",))),
        (["{'b', 'a'}", "set()"], (("a", "b"), ())),
        (['["a, b", "c"]', "[]"], (("a, b", "c"), ())),
        (['{"choices": ["a", "b"]}', "c"], (("a", "b"), ("c",))),
        ([[1, 0, 0], [0, 1, 1]], (("0",), ("1", "2"))),
        (["[1. 0.]", "[0. 1.]"], (("0",), ("1",))),
    ],
)
def test_several_labels(read, labels, expected):
    examples = read(rows_with(labels))
    assert (examples.task.name, examples.labels) == ("multi-label", expected)


def test_names_of_labels(read):
    hot = rows_with([[1, 0], [1, 1]])
    assert read(hot, label_names="bus,tram").labels == (("bus",), ("bus", "tram"))
    assert "set `label_names` to name them" in read(hot).reading.line
    with pytest.raises(OptionError, match="expected 2 names, one for each position, got 3"):
        read(hot, label_names="a,b,c")
    with pytest.raises(OptionError, match="expected unique, non-empty names"):
        read(hot, label_names="a,a")
    assert read(rows_with([0, 1]), label_names=["bus", "tram"]).labels == ("bus", "tram")
    one_hot = read(rows_with([[1, 0], [0, 1]]), task="single-label", label_names="bus,tram")
    assert one_hot.labels == ("bus", "tram")


def test_minus_one_in_a_row_is_no_label(read):
    rows = rows_with([0, 1, 0, 1, -1, -1])
    with pytest.raises(DataError, match=r"2 rows have no label \(rows 5, 6\).* -1 for rows without one"):
        read(rows)
    assert read(rows, skip_bad_rows=True).labels == ("0", "1", "0", "1")


def test_labels_that_differ_in_case(read):
    rows = rows_with(["Great", "great", "great", "BAD", "bad"])
    assert len(set(read(rows).labels)) == 4
    assert read(rows, merge_labels="case").labels == ("great", "great", "great", "BAD", "BAD")
    with pytest.raises(OptionError, match="`merge_labels='kind'`: expected 'case'"):
        read(rows, merge_labels="kind")


def test_numbers(read, read_text):
    assert read(rows_with([1, 2.5])).labels == (1.0, 2.5)
    content = "text;score\na;1,5\nb;2\n"
    assert read_text(content).labels == (1.5, 2.0)
    # With a comma as separator, 1,234 is ambiguous.
    assert read_text('text,label\na,"1,234"\nb,"2,345"\n').task.name == "single-label"
    assert "set `task='regression'`" in read(rows_with([1, 2, 3])).reading.line
    assert "regression" not in read(rows_with([0, 1])).reading.line
    with pytest.raises(DataError, match="1 row has no label"):
        read(rows_with([1, "x"]), task="regression")


def test_what_is_shown_in_one_line(read_text):
    examples = read_text("Text;Label\na bus;x\na tram;y\n")
    assert examples.reading.line == (
        'CSV, separator ";"; text from "Text", labels from "Label"; single-label (one label in each row), 2 labels, '
        "2 rows"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('text,label\n"a, b\nc,d\n', "line 2: a quoted value is never closed, so the 2 lines"),
        ('text,label\n"a" b,c\n', "line 2: after a closing quote, expected the end of the value"),
        (
            'label,text\nx,"she said\ny,third\nx,fourth\ny,and left"\nx,last\ny,more\ny,most\n',
            "line 2: a quoted value continues over the next 3 lines, and they look like rows of their own",
        ),
        (
            "a good bus,pos\na bad bus,neg\n",
            "If that is a row, add a line with the names of the columns above it",
        ),
        ("text,label\na,b,c\n", r"line 2 has 3 values. Quote values that contain"),
    ],
)
def test_rows_that_quotes_or_separators_swallow(read_text, content, message):
    with pytest.raises(DataError, match=message):
        read_text(content)


def test_a_text_of_several_lines_is_not_suspected(read_text):
    content = 'text,label\n"Dear all,\nthe bus, as so often, was late.\nYours, Anna",x\nshort,y\n'
    assert read_text(content).texts[0].count("\n") == 2


def test_the_separator_may_be_named(read_text):
    assert read_text("text:label\na:b\nc:d\n", separator=":").labels == ("b", "d")
    assert read_text("text,x\tlabel\na,b\tc\n", separator="tab").columns == ("text,x", "label")
    with pytest.raises(OptionError, match="which does not contain it; name another"):
        read_text("text,label\na,b\n", separator=";")
    with pytest.raises(OptionError, match="expected a single character"):
        read_text("text,label\na,b\n", separator=";;")


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("text,stars\na,4.5\nb,1.5\nc,NA\nd,3\n", (4.5, 1.5, 3.0)),
        ("text,stars\na,4\nb,1\nc,NULL\nd,\\N\n", ("4", "1")),
        ("text,label\na,pos\nb,NA\n", ("pos", "NA")),
        ("\ntext,label\na,pos\nb,neg\n", ("pos", "neg")),
        ("sep=;\n\ntext;label\na;pos\nb;neg\n", ("pos", "neg")),
        ('text, label\na, "pos"\nb, "neg"\n', ("pos", "neg")),
        ('"text","label"\n"1","a","pos"\n"2","b","neg"\n', ("pos", "neg")),
        ("text\ttags\na\tc#,asp.net\nb\tpython,pandas\n", (("asp.net", "c#"), ("pandas", "python"))),
        (
            "text,category\na,FOOD#PRICE\nb,FOOD#QUALITY\nc,SERVICE#GENERAL\n",
            ("FOOD#PRICE", "FOOD#QUALITY", "SERVICE#GENERAL"),
        ),
        ("text,category\na,Books|Fiction\nb,Books|Science\n", ("Books|Fiction", "Books|Science")),
        ("text\tlabel\na\t2,5\nb\t27\nc\t0,1\n", ("2,5", "27", "0,1")),
        ('text,labels\na,"[np.int64(1), np.int64(0)]"\nb,"[np.int64(0), np.int64(1)]"\n', (("0",), ("1",))),
        ("text,labels\na,\"[np.str_('x'), np.str_('y')]\"\nb,\"['x', nan]\"\n", None),
        ('text,labels\na,"[late, bus]"\nb,"{late,food}"\n', (("bus", "late"), ("food", "late"))),
        ('text,labels\na,"c(""late"", ""food"")"\nb,"c(""late"")"\n', (("food", "late"), ("late",))),
        ("comment,token,label\na b c,secret,x\nd e f,other,y\n", ("x", "y")),
        ("content,tokens,label\na b c,3,x\nd e f,4,y\n", ("x", "y")),
        ("sentence,word,label\na hard word,hard,x\nan easy word,easy,y\n", ("x", "y")),
        ("sentence_id,words,labels\n0,a,O\n0,b,B-x\n1,c,O\n", (("O", "B-x"), ("O",))),
        ("text,label\na,-1\nb,-1\nc,1\nd,0\ne,1\n", ("1", "0", "1")),
        ("text,label\na,-1\nb,-1\nc,1\nd,2\ne,1\n", ("-1", "-1", "1", "2", "1")),
    ],
)
def test_what_programs_write(read_text, content, labels):
    name = "d.tsv" if "\t" in content else "d.csv"
    if labels is None:
        with pytest.raises(DataError, match="1 row has no label"):
            read_text(content, name)
    else:
        assert read_text(content, name, skip_bad_rows=True).labels == labels


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("text,food,late\na,1,\nb,,1\n", (("food",), ("late",))),
        ("text,food,late\na,yes,no\nb,x,x\n", (("food",), ("food", "late"))),
        ("text,food,late\na,1,0\nb,-1,-1\n", (("food",),)),
        ("text,food,late\na,1,0\nb,0,0\nc,1,\n", (("food",), ())),
        ("text,food,late\na,x,\nb,,\n", (("food",),)),
    ],
)
def test_columns_of_labels(read_text, content, labels):
    assert read_text(content, label_columns="food,late", skip_bad_rows=True).labels == labels


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("text,food,late\na,0.83,0\n", {"label_columns": "food,late"}, "row 1: .* got '0.83' in 'food'"),
        ("text,label\na,1\nb,5\n", {"label_names": "x,y"}, "numbers up to 5, but there are 2 names"),
        ("text,label\na,-1\nb,0\n", {"label_names": "x,y"}, "expected labels that are numbers from 0 on"),
        ("text,label\na,1\nb,0.5\n", {"label_names": "x,y"}, "expected labels that are numbers from 0 on"),
        ("text,a,b\nx,1,0\n", {"label_columns": "a,b", "label_column": "a"}, "exclude each other"),
        ("text,a,b\nx,1,0\n", {"label_columns": "a"}, "expected at least two columns"),
        ("token,tag\n10,000,O\n\na,O\n", {}, "line 2 has 3 values"),
        ("id,kind,label\n1,a,b\n", {}, "has no column 'text'"),
        ("text_a,text_b,label\na,b,\"[[0,1,'X']]\"\n", {}, "are two texts; name one of them"),
        ("text,label\na,b\nc,d\n", {"label_names": "x,y"}, "expected labels that are numbers from 0 on"),
        ("text,label\na,²\nc,d\n", {"label_names": "x,y"}, "expected labels that are numbers from 0 on"),
        ("token,tag\na,O\nb,B-x\n", {}, "nothing says where a sentence ends"),
        (
            "text,tags,sentiment\na,x,y\n",
            {},
            r"several columns that could contain the label \(tags, sentiment\)",
        ),
        ("id,label\n1,x\n2,y\n", {}, "has no column 'text'"),
        ("text,split\na,train\nb,train\nc,train\n", {}, "has no column 'label'"),
        ("text,is_reply,is_quote,kind\na,0,1,x\nb,1,1,y\n", {}, "has no column 'label'"),
        ('text,labels\na,"[0 0 0 ... 0 1]"\nb,"[1 0 0 ... 0 1]"\n', {}, "shortened by NumPy"),
    ],
)
def test_what_is_refused(read_text, content, options, message):
    with pytest.raises(KerasPeftError, match=message):
        read_text(content, **options)


def test_case_is_merged_in_lists(read):
    rows = rows_with([["Bus"], ["bus"], ["bus", "Late"]])
    assert read(rows, merge_labels="case").labels == (("bus",), ("bus",), ("Late", "bus"))
    with pytest.raises(OptionError, match="no effect on tags"):
        read(
            [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["b", "c"], "tags": ["O", "B-x"]}],
            merge_labels="case",
        )


def test_spans_that_cannot_be_used(read):
    spans = [[[6, 9, "CITY"]], [[6, 900, "CITY"]], [[0, 5, "X"], [3, 9, "Y"]]]
    rows = [{"text": "Go to Ulm. ", "label": one} for one in spans]
    with pytest.raises(
        DataError, match=r"has a span outside of its text \(row 2\); 1 row has spans that overlap"
    ):
        read(rows)
    assert read(rows, skip_bad_rows=True).labels == (("O", "O", "B-CITY", "O"),)


def test_parts_of_speech_are_no_entities(read):
    tags = ["N", "V", "O", "N"]
    assert read([{"tokens": ["a", "b", "c", "d"], "tags": tags}] * 2).labels[0] == tuple(tags)
    entities = read([{"tokens": ["a", "b", "c", "d"], "tags": ["O", "PER", "PER", "O"]}])
    assert entities.labels == (("O", "B-PER", "I-PER", "O"),)


def test_annotators_of_several_questions(tmp_path):
    def record(**answers):
        responses = {name: [{"value": value, "status": "submitted"}] for name, value in answers.items()}
        return {"fields": {"text": f"text {answers}"}, "responses": responses}

    records = [record(topic="bus"), record(topic="food", sentiment="bad"), record(sentiment="good")]
    with pytest.raises(DataError, match=r"could contain the label \(topic, sentiment\)"):
        read_examples(write_jsonl(tmp_path / "d.jsonl", records))
    examples = read_examples(tmp_path / "d.jsonl", label_column="topic", skip_bad_rows=True)
    assert examples.labels == ("bus", "food")


def test_names_of_numbers_from_one_on(read_text):
    content = "text,label\na,1\nb,2\nc,3\n"
    assert read_text(content, label_names="x,y,z").labels == ("x", "y", "z")


def test_rows_of_json_that_lack_a_key(read):
    assert read([{"text": "a"}, {"text": "b", "label": "x"}], skip_bad_rows=True).labels == ("x",)
    with pytest.raises(DataError, match=r"1 row has no label \(row 1\)"):
        read([{"text": "a", "label": None}, {"text": "b", "label": ["x"]}])
    with pytest.raises(DataError, match="has spans of characters, but 'tokens' has tokens"):
        read([{"tokens": ["a", "b"], "entities": [{"start": 0, "end": 1, "type": "x"}]}])


def test_lines_of_text(read_text):
    assert read_text("__label__a x y\n__label__b z\n", "d.txt").task.name == "single-label"
    with pytest.raises(DataError, match="It was read as plain text, one text per line"):
        read_text("ham\tsome words\n", "d.txt")
    with pytest.raises(DataError, match="the first column numbers the tokens"):
        read_text("1\tThe\tDET\n2\ttrain\tNOUN\n\n", "d.conll")
    assert read_text("Token\tNER\nAnna\tB-x\n\n#\tO\n=\tO\n\n", "d.conll").texts == (("Anna",), ("#", "="))


@given(
    st.recursive(
        st.text("ab'\"\\, ", max_size=6) | st.integers(-5, 5),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=6,
    ).filter(lambda value: isinstance(value, list))
)
def test_lists_survive_python_and_json(value):
    def plain(one):
        return [plain(item) for item in one] if isinstance(one, list) else one

    assert decode(json.dumps(value)) == plain(value)
    written = repr(value)
    # Adjacent strings could be NumPy's form; such cells remain text rather than be joined.
    assert decode(written) in (plain(value), written)


@given(st.text(max_size=40))
def test_any_cell_is_decoded(text):
    decoded = decode(text)
    assert isinstance(decoded, str | list | dict) or decoded is None


@given(
    labels=st.lists(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.lists(
            st.text(max_size=3) | st.integers(0, 2) | st.none() | st.lists(st.integers(), max_size=3),
            max_size=3,
        )
        | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        min_size=1,
        max_size=6,
    ),
    column=st.sampled_from(["label", "labels", "tags", "rating"]),
)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_labels_are_read_or_refused(tmp_path, labels, column):
    path = write_jsonl(tmp_path / "d.jsonl", rows_with(labels, column))
    try:
        examples = read_examples(path, skip_bad_rows=True)
    except KerasPeftError as error:
        assert str(error)
    else:
        assert len(examples.texts) == len(examples.labels) <= len(labels)
