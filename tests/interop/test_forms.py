"""The forms of other libraries: which there are, and what is of which."""

from __future__ import annotations

import pytest

from conftest import REFERENCE
from keras_peft import interop
from keras_peft.errors import AdapterError, OptionError


@pytest.mark.parametrize("name", interop.names())
def test_every_form_says_what_it_is(name):
    form = interop.find(name)
    assert name == form.FORMAT
    assert form.LOOKS_LIKE.startswith(("a ", "an "))
    assert callable(form.recognises)


def test_a_form_is_found_by_its_files():
    for folder in sorted((REFERENCE / "peft_folders").iterdir()):
        if folder.is_dir():
            assert interop.recognise(folder).FORMAT == "hf-peft"


def test_what_is_of_no_form_is_told_what_the_forms_look_like(tmp_path):
    with pytest.raises(AdapterError, match="of no form that can be read") as raised:
        interop.recognise(tmp_path)
    for form in interop.formats().values():
        assert f"{form.FORMAT}: {form.LOOKS_LIKE}" in str(raised.value)
    with pytest.raises(AdapterError, match="does not exist; name a file or folder, or hf://owner/name"):
        interop.recognise(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="Did you mean 'hf-peft'"):
        interop.find("hf-pefd")


def test_what_is_of_two_forms_is_refused(tmp_path, monkeypatch):
    for form in list(interop.formats().values())[:1]:
        monkeypatch.setattr(interop, "formats", lambda form=form: {"one": form, "two": form})
        monkeypatch.setattr(form, "recognises", lambda path: True)
    with pytest.raises(AdapterError, match="is at once a folder with"):
        interop.recognise(tmp_path)
