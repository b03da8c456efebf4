"""What all exports have in common: a folder is written, read again and compared before it is put in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import sources
from keras_peft.errors import BundleError, KerasPeftError
from keras_peft.files import whole_folder
from keras_peft.interop._verifying import outputs_on, verifying_texts

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.core.adapted import AdaptedModel


@dataclass(frozen=True)
class Exported:
    """What was written in the form of another library.

    Attributes:
        folder: Where it lies.
        config: The content of its configuration file; empty where the form has none.
        texts: On how many texts it was compared.
        max_abs_logit_difference: Between the bundle and what was written, read again.
    """

    folder: Path
    config: Mapping[str, Any]
    texts: int
    max_abs_logit_difference: float


@dataclass(frozen=True, kw_only=True)
class BundleExport:
    """A bundle on its way into the form of another library.

    Attributes:
        out: The folder to write.
        read: The bundle.
        expected: What its model says of the verifying texts.
        template: Name of the README's template.
        overwrite: Whether what lies at `out` is replaced.
    """

    out: Path
    read: Bundle
    expected: Any
    template: str
    overwrite: bool

    def write(
        self,
        files: Callable[[Path], None],
        compare: Callable[[Path, Any], float],
        *,
        config: Mapping[str, Any],
        template_values: Mapping[str, Any],
    ) -> Exported:
        """Writes the folder, verifies it, and puts it in place.

        Args:
            files: Writes all but the README into a folder.
            compare: Reads them again and returns how far they are from the outputs that are expected.
            config: What goes into the report.
            template_values: What the README's template is given beside the bundle.

        Raises:
            BundleError: If it cannot be written, or is too far from the bundle.
        """
        try:
            with whole_folder(self.out.absolute(), overwrite=self.overwrite) as staging:
                files(staging)
                difference = compare(staging, self.expected)
                card = self._card(difference, template_values)
                (staging / "README.md").write_text(card, encoding="utf-8")
        except OSError as error:
            raise BundleError(f"{self.out} could not be written ({error.strerror or error}).") from error
        return Exported(self.out, config, len(verifying_texts(self.read.input)), difference)

    def _card(self, difference: float, template_values: Mapping[str, Any]) -> str:
        from keras_peft.templating import environment

        task = self.read.task()
        about = {
            "name": self.out.name,
            "bundle": self.read.content,
            "task": task,
            "difference": difference,
            "temperature": getattr(task, "temperature", 1.0),
            "repository": sources.repository_of(self.read.base_name),
        }
        return environment().get_template(self.template).render({**about, **template_values})


def outputs_of(model: AdaptedModel, read: Bundle) -> Any:
    """Returns what a bundle's model says of the verifying texts."""
    return outputs_on(model, read.encoder(), verifying_texts(read.input))


@contextmanager
def reading_again() -> Iterator[None]:
    """Says of what goes wrong that nothing was written.

    Raises:
        BundleError: If what was exported cannot be read.
    """
    try:
        yield
    except KerasPeftError as error:
        raise BundleError(
            f"What was exported cannot be read again, so it was not written: {error}"
        ) from error
