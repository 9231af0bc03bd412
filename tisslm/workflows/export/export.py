"""From a run or checkpoint to the files of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tisslm.contracts import Encoder, Network
from tisslm.errors import ConfigError
from tisslm.errors.suggestions import did_you_mean
from tisslm.models.gguf import DTYPES as OF_GGUF
from tisslm.models.gguf import write_gguf
from tisslm.registry import Registry, load_registry
from tisslm.workflows.embedding.loading import said_of_texts
from tisslm.workflows.export.adapter import check_beside, write_adapter, write_llama_adapter
from tisslm.workflows.export.contents import TextForm
from tisslm.workflows.export.folder import DTYPES as OF_FOLDERS
from tisslm.workflows.export.folder import check_replaceable, write_folder
from tisslm.workflows.load_model import load_model
from tisslm.workflows.open_model import OpenModel, open_model

__all__ = ["FORMATS", "Exported", "export"]

#: The types that weights can have, by format.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "hf": tuple(OF_FOLDERS),
    "gguf": tuple(OF_GGUF),
    "peft": ("fp32",),
    "gguf-lora": ("fp32",),
}


#: Formats that are one file.
_FILES = ("gguf", "gguf-lora")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    path : Path
    nbytes : int
    notes : list of str
        What is not as asked for, in a sentence each.
    """

    path: Path
    nbytes: int
    notes: list[str]


def export(
    source: str | Path,
    output: str | Path,
    *,
    form: str = "hf",
    dtype: str = "fp32",
    force: bool = False,
    ema: bool = False,
    registry: Registry | None = None,
) -> Exported:
    """Write a trained model, with its tokenizer, in a form that others read.

    An encoder of texts becomes a folder that sentence-transformers opens, too.

    Parameters
    ----------
    source : str or Path
        What ``tisslm.workflows.load_model`` loads.
    output : str or Path
        The folder to make (``hf``, ``peft``), or the file (others).
    form : {"hf", "gguf", "peft", "gguf-lora"}
        The last two for adapters alone; the others have them merged.
    dtype : {"fp32", "fp16", "bf16", "q8_0"}
        Of matrices; ``q8_0`` in GGUF alone.
    force : bool
        Whether what an earlier export has left at ``output`` is replaced.
    ema : bool
        Whether the average of the weights is written, of a run that has one.
    registry : Registry, optional
        As for ``load_model``.

    Raises
    ------
    ConfigError
        If format and type do not go together, ``output`` exists, or is the model that adapters
        are beside, or the format cannot say what the model computes.
    CheckpointError
        If the source cannot be loaded, or the output cannot be written; nothing is left behind.
    """
    if form not in FORMATS:
        raise ConfigError(
            f"--format: expected {' or '.join(FORMATS)}, got {form!r:.100}{_hint(form, FORMATS)}"
        )
    if dtype not in FORMATS[form]:
        others = [name for name, dtypes in FORMATS.items() if dtype in dtypes]
        hint = f"; {dtype} is a type of --format {others[0]}" if others else ""
        raise ConfigError(
            f"--dtype: expected one of {', '.join(FORMATS[form])} for --format {form}, got "
            f"{dtype!r:.100}{hint}"
        )
    path = Path(output)
    _check_output(path, form, force)
    if path.exists():
        check_beside(path, source)
    if form == "peft":
        return Exported(path, write_adapter(path, source, registry, ema=ema), [])
    if form == "gguf-lora":
        return Exported(path, write_llama_adapter(path, source, ema=ema), [])
    if form == "gguf":
        model, tokenizer = load_model(source, registry=registry, ema=ema)
        notes = write_gguf(path, model, tokenizer, dtype)
        return Exported(path, path.stat().st_size, notes)
    opened = open_model(source, load_registry() if registry is None else registry, ema=ema)
    network: Network = opened.build(opened.shape({}))
    texts = _texts_of(opened, network) if isinstance(network, Encoder) else None
    written = write_folder(path, network, opened.tokenizer, dtype, texts=texts)
    return Exported(path, *written)


def _texts_of(opened: OpenModel, model: Encoder) -> TextForm:
    """Return what an encoder's run made of texts."""
    said = said_of_texts(opened)
    prompts = {kind: text for kind, text in said.get("prompts", {}).items() if text}
    most = min(said.get("max_tokens") or model.seq_len, model.seq_len)
    return TextForm(most, prompts, said.get("similarity_name", "cosine"))


def _hint(name: str, known: Mapping[str, object]) -> str:
    hint = did_you_mean(name, known)
    return hint and "." + hint


def _check_output(path: Path, form: str, force: bool) -> None:
    """Refuse an output that is there already, before the model is loaded."""
    if not path.exists() and not path.is_symlink():
        if not path.absolute().parent.is_dir():
            raise ConfigError(
                f"{path}: expected a path in a folder that is there, got none; make the folder "
                "first"
            )
        return
    if not force:
        raise ConfigError(f"{path}: it exists; choose another --output, or replace it with --force")
    if form in _FILES and not path.is_file():
        raise ConfigError(f"{path}: expected a file to replace, got another kind; choose another")
    if form not in _FILES:
        check_replaceable(path)
