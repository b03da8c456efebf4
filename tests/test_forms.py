"""The formats of other libraries, and how they are recognised."""

from __future__ import annotations

import pytest

from conftest import REFERENCE
from keras_peft import forms
from keras_peft.errors import AdapterError, OptionError


@pytest.mark.parametrize("name", forms.names())
def test_every_form_says_what_it_is(name):
    form = forms.find(name)
    assert name == form.FORMAT
    assert form.LOOKS_LIKE.startswith(("a ", "an "))
    assert hasattr(form, "export") == (name in forms.exported_names())
    assert hasattr(form, "import_") == (name in forms.imported_names())
    assert hasattr(form, "recognises") == hasattr(form, "import_")
    assert hasattr(form, "export") or hasattr(form, "import_")


def test_a_form_is_found_by_its_files():
    for folder in sorted((REFERENCE / "peft_folders").iterdir()):
        if folder.is_dir():
            assert forms.recognise(folder).FORMAT == "hf-peft"


def test_the_error_for_an_unknown_format_describes_the_formats(tmp_path):
    with pytest.raises(AdapterError, match="has no known format") as raised:
        forms.recognise(tmp_path)
    for form in forms.formats().values():
        assert (f"{form.FORMAT}: {form.LOOKS_LIKE}" in str(raised.value)) == hasattr(form, "import_")
    with pytest.raises(AdapterError, match="does not exist; pass a file or folder, or hf://owner/name"):
        forms.recognise(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="Did you mean 'hf-peft'"):
        forms.find("hf-pefd")


def test_what_is_of_two_forms_is_refused(tmp_path, monkeypatch):
    for form in list(forms.formats().values())[:1]:
        monkeypatch.setattr(forms, "formats", lambda form=form: {"one": form, "two": form})
        monkeypatch.setattr(form, "recognises", lambda path: True)
    with pytest.raises(AdapterError, match="matches several formats: a folder with"):
        forms.recognise(tmp_path)


def test_what_is_only_read_is_not_written(tmp_path):
    with pytest.raises(
        OptionError, match="`format='keras-lora'` can only be imported; the formats that can be exported are "
    ):
        forms.export(tmp_path / "bundle", out=tmp_path / "out", format="keras-lora")


def test_an_unknown_option_of_a_format_is_an_error(tmp_path):
    with pytest.raises(OptionError, match="hf-model does not support `with_base`; leave it out"):
        forms.export(tmp_path / "bundle", out=tmp_path / "out", format="hf-model", with_base=True)
