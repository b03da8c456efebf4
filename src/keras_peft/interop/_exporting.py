"""Steps that all exports share: a folder is written, read back and compared before it is put in place."""

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
    """The result of an export to another library's format.

    Attributes:
        folder: Folder that was written.
        config: Content of the configuration file; empty if the format has none.
        texts: Number of texts in the comparison.
        max_abs_logit_difference: Largest absolute difference between the logits of the bundle and of the
            exported files, read back.
    """

    folder: Path
    config: Mapping[str, Any]
    texts: int
    max_abs_logit_difference: float

    @property
    def summary(self) -> str:
        """The comparison in one sentence."""
        return f"reloaded, the logits of {self.texts} texts differ by at most {self.max_abs_logit_difference:.1e}"

    def to_json(self) -> dict[str, Any]:
        """Returns the folder and the comparison as plain values."""
        return {
            "folder": str(self.folder),
            "texts": self.texts,
            "max_abs_logit_difference": self.max_abs_logit_difference,
        }


@dataclass(frozen=True, kw_only=True)
class BundleExport:
    """An export of a bundle to another library's format.

    Attributes:
        out: Folder to write.
        read: The bundle.
        expected: Outputs of its model on the verification texts.
        template: Name of the README template.
        overwrite: Whether to replace an existing folder at `out`.
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
            files: Called with a staging folder; writes all files except the README.
            compare: Called with the staging folder and the expected outputs; reads the files back and
                returns the largest difference between the outputs.
            config: Configuration for the result.
            template_values: Additional values for the README template.

        Returns:
            The written folder and the measured difference.

        Raises:
            BundleError: If the folder cannot be written, or its outputs differ too much from the bundle's.
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
        from keras_peft.templating import cards

        task = self.read.task()
        about = {
            "name": self.out.name,
            "bundle": self.read.content,
            "task": task,
            "difference": difference,
            "temperature": getattr(task, "temperature", 1.0),
            "repository": sources.repository_of(self.read.base_name),
        }
        return cards().get_template(self.template).render({**about, **template_values})


def outputs_of(model: AdaptedModel, read: Bundle) -> Any:
    """Returns the outputs of a bundle's model on the verification texts."""
    return outputs_on(model, read.encoder(), verifying_texts(read.input))


@contextmanager
def reading_again() -> Iterator[None]:
    """Converts errors while an export is read back to a `BundleError`.

    Raises:
        BundleError: If the exported files cannot be read.
    """
    try:
        yield
    except KerasPeftError as error:
        raise BundleError(
            f"Nothing was exported, because the result could not be read back: {error}"
        ) from error
