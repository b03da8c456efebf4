import pytest

from keras_peft import tasks
from keras_peft.errors import OptionError


def test_a_task_that_is_not_there():
    with pytest.raises(OptionError, match=r"no task 'multilabel'.* Did you mean 'multi-label'"):
        tasks.find("multilabel")
