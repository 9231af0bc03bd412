"""Finding plugins: the built-in parts, then every distribution with a ``tisslm`` entry point.

A distribution that cannot be imported is recorded silently, so that it stops only a run that names
one of its parts. One that can be imported but is wrong (a hook that does not exist, a wrong
signature) is an error at once, because its author can only learn of it here.

Nothing is loaded when this module is imported, and there is no manager at module level. Names that
clash are found in ``registry``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import final

import pluggy

from tisslm.errors import PluginError
from tisslm.errors.suggestions import did_you_mean
from tisslm.registry import hookspecs

__all__ = [
    "DISABLE_VARIABLE",
    "ENTRY_POINT_GROUP",
    "LeftOut",
    "PluginManager",
    "Provider",
    "load_plugins",
    "tisslm_version",
]

#: The entry-point group of a distribution's ``pyproject.toml``.
ENTRY_POINT_GROUP = "tisslm"

#: Environment variable: names of distributions or entry points, separated by commas, or ``all``.
DISABLE_VARIABLE = "TISSLM_DISABLE_PLUGINS"


@dataclass(frozen=True)
class Provider:
    """The distribution that provides a part; as text, ``name version``."""

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"

    @property
    def remedy(self) -> str:
        """How to continue without it, as the end of a message."""
        return f"set {DISABLE_VARIABLE}={self.distribution}"


@dataclass(frozen=True)
class LeftOut:
    """An installed plugin whose parts cannot be used; as text, a sentence that says why.

    Attributes
    ----------
    provider : Provider
    failed_at : str
        What failed: it could not be ``"imported"`` or, if a hook raised, ``"asked for its parts"``.
    exception : BaseException or None
        The exception; None if the plugin is disabled by the environment.
    """

    provider: Provider
    failed_at: str = "imported"
    exception: BaseException | None = None

    @property
    def status(self) -> str:
        """``"broken"`` or ``"disabled"``."""
        return "disabled" if self.exception is None else "broken"

    def __str__(self) -> str:
        if self.exception is None:
            return f"{self.provider} is switched off by {DISABLE_VARIABLE}"
        return (
            f"{self.provider} could not be {self.failed_at}: "
            f"{type(self.exception).__name__}: {self.exception}"
        )


@final
class PluginManager(pluggy.PluginManager):
    """pluggy's manager, which also records the distribution of each plugin.

    Attributes
    ----------
    providers : dict of str to Provider
        The distribution of each plugin, by the name under which it is registered.
    left_out : list of LeftOut
        Installed plugins that are broken or disabled.
    """

    def __init__(self) -> None:
        super().__init__("tisslm")
        self.providers: dict[str, Provider] = {}
        self.left_out: list[LeftOut] = []


def load_plugins() -> PluginManager:
    """Register the built-in parts and every installed plugin.

    Returns
    -------
    PluginManager
        A new one at each call. It reads the metadata of the installed distributions and
        imports each plugin's hook module, but none of its parts.

    Raises
    ------
    PluginError
        If a plugin implements a hook that does not exist, or one with a wrong signature, or
        none at all, or if two distributions register the same module.
    """
    manager = PluginManager()
    manager.add_hookspecs(hookspecs)
    builtins = import_module("tisslm.registry.builtins")
    _register(manager, builtins, "tisslm.registry.builtins", Provider("tisslm", tisslm_version()))
    disabled = _disabled_names()
    found = [(_provider(point), point) for point in metadata.entry_points(group=ENTRY_POINT_GROUP)]
    found.sort(key=lambda pair: (_normalized(pair[0].distribution), pair[1].name))
    for provider, point in found:
        if disabled & {"all", _normalized(provider.distribution), _normalized(point.name)}:
            manager.left_out.append(LeftOut(provider))
            continue
        try:
            plugin = point.load()
        except (Exception, SystemExit) as exc:  # whatever a third party's module does at import
            manager.left_out.append(LeftOut(provider, exception=exc))
            continue
        _register(manager, plugin, f"{provider.distribution}:{point.name}={point.value}", provider)
    return manager


def tisslm_version() -> str:
    """Return the installed version of TissLM, or ``"0+source"`` in a tree that is not installed."""
    try:
        return metadata.version("tisslm")
    except metadata.PackageNotFoundError:
        return "0+source"


def _register(manager: PluginManager, plugin: object, name: str, provider: Provider) -> None:
    other = manager.get_name(plugin)
    if other is not None:
        raise PluginError(
            f"two plugins register {name.partition('=')[2]!r}: {manager.providers[other]} and "
            f"{provider}. Uninstall one or {provider.remedy}"
        )
    manager.providers[name] = provider
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except pluggy.PluginValidationError as exc:
        raise PluginError(_explain(manager, exc, provider)) from exc
    if not manager.get_hookcallers(plugin):
        raise PluginError(
            f"{provider}: {getattr(plugin, '__name__', plugin)!r} implements no hook; mark its "
            f"functions with @tisslm.hookimpl, or {provider.remedy}"
        )


def _explain(manager: PluginManager, exc: pluggy.PluginValidationError, provider: Provider) -> str:
    callers = manager.get_hookcallers(exc.plugin) or []
    unknown = [caller.name for caller in callers if not caller.has_spec()]
    if not unknown:  # pluggy's own words show the offending definition, over several lines
        return f"{provider}: {' '.join(str(exc).split())}. Mend it or {provider.remedy}"
    known = [kind.hook for kind in hookspecs.KINDS.values()]
    return (
        f"{provider}: there is no hook {unknown[0]!r}. Known: {', '.join(known)}."
        f"{did_you_mean(unknown[0], known)} "
        f"Mend it or {provider.remedy}"
    )


def _disabled_names() -> set[str]:
    names = os.environ.get(DISABLE_VARIABLE, "").split(",")
    return {_normalized(name.strip()) for name in names if name.strip()}


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _provider(point: metadata.EntryPoint) -> Provider:
    try:
        fields = point.dist.metadata if point.dist is not None else None
        if fields is not None and "Name" in fields and "Version" in fields:
            return Provider(fields["Name"], fields["Version"])
    except OSError:  # newer Pythons raise where older ones find no fields
        pass
    # an interrupted uninstall left the entry point without its METADATA file
    return Provider(point.module, "(no metadata)")
