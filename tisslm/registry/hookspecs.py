"""The hooks that plugins implement, and the records that they yield.

One hook for each kind of part, each a function without arguments that returns ``Entry``
records. This module loads pluggy and nothing else, so that a plugin's hook module, which every
run imports, stays light. The examples begin with ``from tisslm import Entry, hookimpl``.

Plugins are found in ``discovery``; names are looked up in ``registry``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pluggy

from tisslm.errors import PluginError

__all__ = [
    "KINDS",
    "Entry",
    "Kind",
    "hookimpl",
    "hookspec",
    "tisslm_communicators",
    "tisslm_datasets",
    "tisslm_losses",
    "tisslm_models",
    "tisslm_monitors",
    "tisslm_optimizers",
    "tisslm_schedulers",
    "tisslm_sinks",
    "tisslm_tokenizers",
]

#: Marks a function of a plugin's module as the implementation of the hook of the same name.
hookimpl = pluggy.HookimplMarker("tisslm")

#: Marks the functions below as the specifications.
hookspec = pluggy.HookspecMarker("tisslm")

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_DOTTED_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Entry:
    """One part that a plugin provides.

    Parameters
    ----------
    name : str
        The name in configurations, in snake_case. It never changes its meaning: new behaviour gets
        a new name.
    target : class or str
        The class, which keeps the contract of the hook's kind; or its path, ``"module:attribute"``,
        which is imported when the name is used.
    description : str
        A line that ``tisslm plugins`` shows.
    endings : tuple of str
        For a dataset: suffixes of the files that ``documents`` reads, such as ``.parquet``. Every
        command that takes texts then takes such files.
    documents : str
        With ``endings``: the path, ``"module:attribute"``, of a function that takes a path and
        ``tisslm.datasets.ReadOptions`` and yields ``tisslm.datasets.Document``.
    records : str
        With ``endings``: the path of a function of the same arguments that yields pairs of a place,
        which messages name, and a record, a mapping of fields to values. Then ``data.path`` of the
        dataset "examples" may be such a file.

    Raises
    ------
    PluginError
        If a field has another form.
    """

    name: str
    target: object
    description: str
    endings: tuple[str, ...] = ()
    documents: str = ""
    records: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            raise PluginError(
                f"Entry: expected a snake_case name such as 'my_part', got {self.name!r}; "
                "use lower-case letters, digits and single underscores"
            )
        if isinstance(self.target, str) and not _DOTTED_PATH.fullmatch(self.target):
            raise PluginError(
                f"Entry {self.name!r}: expected a class or a dotted path 'module:attribute', "
                f"got {self.target!r}"
            )
        text = self.description
        if not (isinstance(text, str) and text.strip() and len(text.splitlines()) == 1):
            raise PluginError(
                f"Entry {self.name!r}: expected a description of one line, got {text!r}"
            )
        self._check_files()

    def _check_files(self) -> None:
        endings, documents = self.endings, self.documents
        if not isinstance(endings, tuple) or not all(
            isinstance(ending, str) and ending.startswith(".") for ending in endings
        ):
            raise PluginError(
                f"Entry {self.name!r}: expected endings such as ('.parquet',), got {endings!r}"
            )
        if self.records and not (endings and _DOTTED_PATH.fullmatch(str(self.records))):
            raise PluginError(
                f"Entry {self.name!r}: expected records as a dotted path 'module:attribute' beside "
                f"endings, got {self.records!r}"
            )
        named = isinstance(documents, str) and bool(_DOTTED_PATH.fullmatch(documents))
        if named != bool(endings):
            raise PluginError(
                f"Entry {self.name!r}: expected documents as a dotted path 'module:attribute' "
                f"beside endings, and neither alone, got {documents!r}"
            )


@dataclass(frozen=True)
class Kind:
    """A kind of part: the hook that yields it and the contract that its classes keep.

    Attributes
    ----------
    name : str
        The name in messages and in configuration sections, in the singular.
    hook : str
    contracts : tuple of str
        The names of classes in ``tisslm.contracts``, whose import would load NumPy; a part keeps
        one of them.
    """

    name: str
    hook: str
    contracts: tuple[str, ...]

    def __str__(self) -> str:
        return " or ".join(f"tisslm.contracts.{contract}" for contract in self.contracts)


#: Every kind of part, by its singular name.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("optimizer", "tisslm_optimizers", ("Optimizer",)),
            Kind("scheduler", "tisslm_schedulers", ("Scheduler",)),
            Kind("loss", "tisslm_losses", ("Loss", "EmbeddingLoss", "PreferenceLoss")),
            Kind("sink", "tisslm_sinks", ("Sink",)),
            Kind("monitor", "tisslm_monitors", ("Monitor",)),
            Kind("dataset", "tisslm_datasets", ("Dataset",)),
            Kind("tokenizer", "tisslm_tokenizers", ("Tokenizer",)),
            Kind("communicator", "tisslm_communicators", ("Communicator",)),
            Kind("model", "tisslm_models", ("ModelFamily",)),
        )
    }
)


# Each specification is a signature and its documentation, and yields nothing itself.


@hookspec
def tisslm_optimizers() -> Iterable[Entry]:
    """Yield optimizers: classes that keep ``tisslm.contracts.Optimizer``.

    Built as ``cls(parameters, lr, **options)``.

    Returns
    -------
    iterable of Entry

    Examples
    --------
    ::

        @hookimpl
        def tisslm_optimizers():
            yield Entry("lion", "tisslm_lion.lion:Lion", "sign of an interpolated momentum")
    """
    return ()


@hookspec
def tisslm_schedulers() -> Iterable[Entry]:
    """Yield learning-rate schedulers: classes that keep ``tisslm.contracts.Scheduler``.

    Built as ``cls(optimizer, **options)``; ``max_steps`` is filled in by the run if the class
    takes it and the user leaves it out.

    Returns
    -------
    iterable of Entry

    Examples
    --------
    ::

        @hookimpl
        def tisslm_schedulers():
            yield Entry("wsd", "tisslm_extras.wsd:WSD", "warm up, stay, decay")
    """
    return ()


@hookspec
def tisslm_losses() -> Iterable[Entry]:
    """Yield losses: classes that keep ``Loss``, ``EmbeddingLoss`` or ``PreferenceLoss``.

    Built as ``cls(**options)``.

    Returns
    -------
    iterable of Entry

    Examples
    --------
    ::

        @hookimpl
        def tisslm_losses():
            yield Entry("z_loss", "tisslm_extras.z_loss:ZLoss", "cross-entropy that keeps Z near 1")
    """
    return ()


@hookspec
def tisslm_sinks() -> Iterable[Entry]:
    """Yield sinks, which write metrics somewhere: classes that keep ``tisslm.contracts.Sink``.

    Built as ``cls(**options)``. Heavy imports belong into ``open``.

    Returns
    -------
    iterable of Entry

    Examples
    --------
    ::

        @hookimpl
        def tisslm_sinks():
            yield Entry("syslog", "tisslm_syslog.sink:SyslogSink", "one line a step to syslog")
    """
    return ()


@hookspec
def tisslm_monitors() -> Iterable[Entry]:
    """Yield monitors, which look at arrays of the pass: ``tisslm.contracts.Monitor``.

    Built as ``cls(**options)``.

    Returns
    -------
    iterable of Entry

    Examples
    --------
    ::

        @hookimpl
        def tisslm_monitors():
            yield Entry("dead_units", "tisslm_units.dead:DeadUnits", "units that never fire")
    """
    return ()


@hookspec
def tisslm_datasets() -> Iterable[Entry]:
    """Yield datasets: classes that keep ``tisslm.contracts.Dataset``.

    Built as ``cls(**options)``.

    Returns
    -------
    iterable of Entry

    Examples
    --------
    ::

        @hookimpl
        def tisslm_datasets():
            yield Entry("parquet", "tisslm_parquet.dataset:ParquetDataset", "text in columns")
    """
    return ()


@hookspec
def tisslm_tokenizers() -> Iterable[Entry]:
    """Yield tokenizers: classes that keep ``tisslm.contracts.Tokenizer``.

    Built as ``cls.from_text(text, **options)`` for a new run, ``cls.from_state(state)`` when
    a checkpoint is read.

    Returns
    -------
    iterable of Entry

    Examples
    --------
    ::

        @hookimpl
        def tisslm_tokenizers():
            yield Entry("tiktoken", "tisslm_tiktoken.tokenizer:TiktokenTokenizer", "byte pairs")
    """
    return ()


@hookspec
def tisslm_communicators() -> Iterable[Entry]:
    """Yield communicators between processes: classes that keep ``tisslm.contracts.Communicator``.

    Built as ``cls(**options)``.

    Returns
    -------
    iterable of Entry

    Examples
    --------
    ::

        @hookimpl
        def tisslm_communicators():
            yield Entry("tcp", "tisslm_tcp.tcp:TcpCommunicator", "plain sockets between hosts")
    """
    return ()


@hookspec
def tisslm_models() -> Iterable[Entry]:
    """Yield model families: classes that keep ``tisslm.contracts.ModelFamily``.

    Built as ``cls()``. ``[model] family`` names one; the other keys of the section go to its
    ``configure``.

    Returns
    -------
    iterable of Entry

    Examples
    --------
    ::

        @hookimpl
        def tisslm_models():
            yield Entry("causal_conv", "tisslm_conv.family:CausalConv", "dilated convolutions")
    """
    return ()
