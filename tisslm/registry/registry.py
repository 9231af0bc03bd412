"""The registry: looking up parts by name, and building them with options.

All errors about a part are raised here, and name the distribution that provides it. Plugins are
found in ``discovery``.

There is no registry at module level: ``load_registry`` makes a new one (in a few milliseconds, to
read the metadata of the installed distributions), which its callers hand on. A hidden cache would
make results depend on the first caller, and tests on their order.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import Any, final

import pluggy

from tisslm import contracts
from tisslm.contracts.part_names import give_name
from tisslm.errors import ConfigError, PluginError, TissLMError
from tisslm.errors.suggestions import did_you_mean
from tisslm.registry.builtins import FUNCTION
from tisslm.registry.discovery import LeftOut, PluginManager, Provider, load_plugins
from tisslm.registry.hookspecs import KINDS, Entry, Kind
from tisslm.system.safe_files import show

__all__ = ["Part", "Registry", "load_registry"]


#: The number of arguments that a part of a kind takes before its options.
_HANDED = {"optimizer": 2, "scheduler": 1, "tokenizer": 1}


@dataclass(frozen=True)
class Part:
    """A registered part, and the distribution that provides it."""

    kind: Kind
    entry: Entry
    provider: Provider

    def __str__(self) -> str:
        return f"{self.kind.name} {self.entry.name!r} ({self.provider})"

    @property
    def class_name(self) -> str:
        """The name of the class, found without importing it."""
        target = self.entry.target
        path = target if isinstance(target, str) else getattr(target, "__name__", "")
        return re.split("[:.]", path)[-1]

    def load(self) -> type[Any]:
        """Import the class and check that it keeps the contract.

        Raises
        ------
        PluginError
            If it cannot be imported, is not a subclass of the contract, or lacks a method.
        """
        target = self.entry.target
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            try:
                target = attrgetter(attribute)(import_module(module))
            except TissLMError:
                raise
            except Exception as exc:  # whatever a third party's module does at import
                raise PluginError(
                    f"{self}: {self.entry.target!r} could not be imported: "
                    f"{type(exc).__name__}: {exc}. Reinstall or update {self.provider.distribution}"
                ) from exc
        kept = _contracts_of(self.kind)
        if not (isinstance(target, type) and issubclass(target, kept)):
            raise PluginError(
                f"{self}: expected a subclass of {self.kind}, "
                f"got {target!r}. Update {self.provider.distribution}"
            )
        missing: frozenset[str] = getattr(target, "__abstractmethods__", frozenset())
        if missing:
            raise PluginError(
                f"{self}: {target.__name__} does not define {', '.join(sorted(missing))}, "
                f"which {self._contract_of(target)} asks for. "
                f"Update {self.provider.distribution}"
            )
        return target

    def _contract_of(self, target: type) -> str:
        kept = next(each for each in _contracts_of(self.kind) if issubclass(target, each))
        return f"tisslm.contracts.{kept.__name__}"


def _contracts_of(kind: Kind) -> tuple[type, ...]:
    """Return the classes one of which a part of a kind is derived from."""
    return tuple(getattr(contracts, name) for name in kind.contracts)


def load_registry() -> Registry:
    """Return a registry of all installed parts; raise what ``load_plugins`` and ``Registry`` do."""
    return Registry(load_plugins())


@final
class Registry:
    """All parts that can be named, by kind.

    Parameters
    ----------
    manager : PluginManager
        The result of ``load_plugins``.

    Attributes
    ----------
    left_out : tuple of LeftOut
        Plugins that are installed but broken or switched off.

    Raises
    ------
    PluginError
        If a hook yields something that is not an ``Entry``, or a name is given twice.
    """

    def __init__(self, manager: PluginManager) -> None:
        self._parts: dict[str, dict[str, Part]] = {name: {} for name in KINDS}
        left_out = list(manager.left_out)
        for kind in KINDS.values():
            for implementation in getattr(manager.hook, kind.hook).get_hookimpls():
                provider = manager.providers[implementation.plugin_name]
                try:
                    entries = _entries_of(implementation, kind, provider)
                except PluginError:
                    raise
                except Exception as exc:  # the plugin's own code
                    left_out.append(LeftOut(provider, "asked for its parts", exc))
                    continue
                for entry in entries:
                    self._add(Part(kind, entry, provider))
        self.left_out: tuple[LeftOut, ...] = tuple(left_out)

    def _add(self, part: Part) -> None:
        first = self._parts[part.kind.name].setdefault(part.entry.name, part)
        if first is part:
            return
        named, provider = f"{part.kind.name} {part.entry.name!r}", part.provider
        if first.provider == provider:
            raise PluginError(f"{provider} provides {named} twice. Mend it or {provider.remedy}")
        advice = "Uninstall one"
        if first.provider.distribution == "tisslm":
            advice = f"Uninstall {provider.distribution}"
        raise PluginError(
            f"two plugins provide {named}: {first.provider} and {provider}. "
            f"{advice} or {provider.remedy}"
        )

    def entries(self, kind: str) -> tuple[Part, ...]:
        """Return the parts of a kind (``"optimizer"``, ...), sorted by name."""
        return tuple(part for _, part in sorted(self._of_kind(kind).items()))

    def part(self, kind: str, name: str) -> Part:
        """Return the part of a name, without importing its class.

        Raises
        ------
        PluginError
            If there is none; the message has the known names and the plugins left out.
        """
        parts = self._of_kind(kind)
        if name in parts:
            return parts[name]
        known = ", ".join(f"{p.entry.name} ({p.provider})" for p in self.entries(kind))
        left_out = "".join(f" {plugin}." for plugin in self.left_out)
        raise PluginError(
            f"unknown {kind} {show(name)}. Known: {known or 'none'}."
            f"{did_you_mean(name, parts)}{left_out}"
        )

    def get(self, kind: str, name: str) -> type[Any]:
        """Import and return the class of a name.

        Raises
        ------
        PluginError
            If the name is unknown, or its class cannot be imported or breaks its contract.
        """
        return self.part(kind, name).load()

    def build(
        self,
        kind: str,
        spec: object,
        *args: object,
        defaults: Mapping[str, object] | None = None,
        via: str | None = None,
    ) -> Any:
        """Build the part that ``spec`` describes.

        Parameters
        ----------
        kind : str
            ``"optimizer"``, ``"scheduler"``, ... (the keys of ``tisslm.registry.hookspecs.KINDS``).
        spec : str, (str, mapping) or object
            A name, a name with options, or an object that keeps the contract, which is returned
            unchanged. A scheduler may be a function of the step, too.
        *args
            The arguments that every part of the kind takes: parameters and learning rate for an
            optimizer, the optimizer for a scheduler.
        defaults : mapping of str to object, optional
            Options with values from the run, such as ``max_steps``; each is passed if the part
            takes it and the user left it out.
        via : str, optional
            A class method to call in place of the constructor (``"from_text"``).

        Raises
        ------
        ConfigError
            If the part does not take an option, misses one, or refuses a value, or if
            ``spec`` is none of the three.
        PluginError
            As ``get`` does.
        """
        if isinstance(spec, _contracts_of(self._kind(kind))):
            return spec
        if kind == "scheduler" and callable(spec) and not isinstance(spec, type):
            made = Part(KINDS[kind], FUNCTION, Provider("tisslm", "")).load()(*args, spec)
            return give_name(made, FUNCTION.name)
        name, chosen = _name_and_options(kind, spec)
        part = self.part(kind, name)
        target = part.load()
        maker = target if via is None else getattr(target, via)
        takes, takes_any = _options(maker, len(args))
        if takes_any and via is not None:  # as in the contract: from_text(text, **options)
            own, takes_any = _options(target, 0)
            takes = own | takes
        options = {k: v for k, v in (defaults or {}).items() if k in takes} | chosen
        _check_options(f"{kind} {name!r}", takes, takes_any, options)
        try:
            return give_name(maker(*args, **options), name)
        except TissLMError:
            raise
        except (TypeError, ValueError) as exc:
            raise ConfigError(
                f"{part} could not be built with options {options}: {type(exc).__name__}: {exc}"
            ) from exc

    def options(self, kind: str, name: str) -> frozenset[str]:
        """Return the names of the options that a part takes from a configuration.

        Raises
        ------
        PluginError
            As ``get`` does.
        """
        target = self.get(kind, name)
        maker = getattr(target, "from_text", target) if kind == "tokenizer" else target
        return frozenset(_options(maker, _HANDED.get(kind, 0))[0])

    def _kind(self, kind: str) -> Kind:
        if kind not in KINDS:
            raise PluginError(
                f"unknown kind of part {kind!r}. Known: {', '.join(KINDS)}."
                f"{did_you_mean(kind, KINDS)}"
            )
        return KINDS[kind]

    def _of_kind(self, kind: str) -> dict[str, Part]:
        return self._parts[self._kind(kind).name]


def _entries_of(implementation: pluggy.HookImpl, kind: Kind, provider: Provider) -> list[Entry]:
    """Return the entries that one plugin yields for a kind."""
    where, remedy = f"{provider}, {kind.hook}", f"Mend it or {provider.remedy}"
    if implementation.wrapper or implementation.hookwrapper:
        raise PluginError(
            f"{where}: expected a plain hook, got a hook wrapper; a plugin adds parts and does "
            f"not change those of others. {remedy}"
        )
    try:
        result = implementation.function()
        records = list(result) if isinstance(result, Iterable) else [result]
    except PluginError as exc:  # raised by Entry, which does not know the plugin
        raise PluginError(f"{where}: {exc}. {remedy}") from exc
    entries = [record for record in records if isinstance(record, Entry)]
    if len(entries) < len(records):
        wrong = next(record for record in records if not isinstance(record, Entry))
        raise PluginError(f"{where}: expected tisslm.Entry records, got {wrong!r}. {remedy}")
    return entries


def _name_and_options(kind: str, spec: object) -> tuple[str, dict[str, object]]:
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, tuple | list) and len(spec) == 2:
        name, options = spec
        if isinstance(name, str) and isinstance(options, Mapping):
            return name, dict(options)
    raise ConfigError(
        f"{kind}: expected a name, a (name, options) pair or an object that keeps "
        f"{KINDS[kind]}, got {spec!r}"
    )


def _options(maker: Any, n_given: int) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return the options that a callable takes after ``n_given`` arguments, and if any do."""
    parameters = inspect.signature(maker).parameters.values()
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    free = by_position[n_given:] + [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    takes = {p.name: p for p in free if p.kind is not p.POSITIONAL_ONLY}
    return takes, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _check_options(
    where: str,
    takes: Mapping[str, inspect.Parameter],
    takes_any: bool,
    options: Iterable[str],
) -> None:
    listing = f"Options: {', '.join(takes) or 'none'}"
    for name in options:
        if name not in takes and not takes_any:
            near = did_you_mean(name, takes)
            raise ConfigError(f"{where} has no option {name!r}. {listing}{near and '.' + near}")
    missing = [n for n, p in takes.items() if p.default is p.empty and n not in options]
    if missing:
        names = ", ".join(map(repr, missing))
        raise ConfigError(f"{where} needs a value for {names}, which was not given. {listing}")
