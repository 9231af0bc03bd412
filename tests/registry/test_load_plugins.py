"""Loading: what is found, what is left out and said so, and what stops everything."""

from __future__ import annotations

import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tisslm.errors import PluginError
from tisslm.registry.discovery import (
    DISABLE_VARIABLE,
    LeftOut,
    Provider,
    load_plugins,
    tisslm_version,
)

if TYPE_CHECKING:
    from conftest import FakeSite

GOOD = """
@hookimpl
def tisslm_sinks():
    yield Entry("slate", "slate:Slate", "a slate")
"""
HOOKS = (
    "tisslm_optimizers, tisslm_schedulers, tisslm_losses, tisslm_sinks, tisslm_monitors, "
    "tisslm_datasets, tisslm_tokenizers, tisslm_communicators, tisslm_models"
)


def loaded() -> list[str]:
    return sorted(str(provider) for provider in load_plugins().providers.values())


def error_of_loading() -> str:
    with pytest.raises(PluginError) as caught:
        load_plugins()
    return str(caught.value)


def test_only_the_built_in_parts_when_nothing_is_installed(site: FakeSite) -> None:
    assert loaded() == [f"tisslm {tisslm_version()}"]


def test_an_installed_plugin_is_found_with_its_version(site: FakeSite) -> None:
    site.add("tisslm-good", "1.2", GOOD)
    manager = load_plugins()
    assert Provider("tisslm-good", "1.2") in manager.providers.values()
    assert manager.left_out == []


def test_each_call_makes_a_new_manager(site: FakeSite) -> None:
    first = load_plugins()
    site.add("tisslm-good", "1.2", GOOD)
    assert len(load_plugins().providers) == len(first.providers) + 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module_at_all\n", "ModuleNotFoundError: No module named"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('wrong machine')\n", "SystemExit: wrong machine"),
        ("def broken(:\n", "SyntaxError: invalid syntax"),
    ],
)
def test_a_plugin_that_fails_to_import_is_kept_and_nothing_is_printed(
    site: FakeSite, capfd: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    site.add("tisslm-bad", "0.3", text)
    site.add("tisslm-good", "1.2", GOOD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manager = load_plugins()
    assert capfd.readouterr() == ("", "")
    (bad,) = manager.left_out
    assert bad.provider == Provider("tisslm-bad", "0.3")
    assert bad.status == "broken"
    assert str(bad).startswith(f"tisslm-bad 0.3 could not be imported: {reason}")
    assert Provider("tisslm-good", "1.2") in manager.providers.values()


def test_an_entry_point_to_nothing_is_a_failed_import(site: FakeSite) -> None:
    site.add_metadata("tisslm-gone", "2.0", "gone = no_module_of_this_name")
    (gone,) = load_plugins().left_out
    assert str(gone) == (
        "tisslm-gone 2.0 could not be imported: ModuleNotFoundError: "
        "No module named 'no_module_of_this_name'"
    )


def test_the_rest_of_an_interrupted_uninstall_stops_nobody(site: FakeSite) -> None:
    info: Path = site.add_metadata("tisslm-rest", "2.0", "rest = no_module_of_this_name")
    (info / "METADATA").unlink()
    (rest,) = load_plugins().left_out
    assert str(rest) == (
        "no_module_of_this_name (no metadata) could not be imported: ModuleNotFoundError: "
        "No module named 'no_module_of_this_name'"
    )


@pytest.mark.parametrize(
    "value", ["tisslm-good", "Tisslm_Good", "other, tisslm.good", "chalk", "all", "all,x"]
)
def test_the_environment_switches_plugins_off(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    site.add("tisslm-good", "1.2", "raise RuntimeError('imported')\n", point="chalk")
    monkeypatch.setenv(DISABLE_VARIABLE, value)
    manager = load_plugins()
    assert manager.left_out == [LeftOut(Provider("tisslm-good", "1.2"))]
    assert manager.left_out[0].status == "disabled"
    assert str(manager.left_out[0]) == "tisslm-good 1.2 is switched off by TISSLM_DISABLE_PLUGINS"
    assert len(manager.providers) == 1  # the built-in parts stay


@pytest.mark.parametrize("value", ["", " , ", "good", "tisslm", "tisslm-goods"])
def test_other_values_switch_nothing_off(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    site.add("tisslm-good", "1.2", GOOD)
    monkeypatch.setenv(DISABLE_VARIABLE, value)
    assert len(loaded()) == 2


def test_a_misspelt_hook_is_an_error(site: FakeSite) -> None:
    site.add("tisslm-typo", "0.1", "@hookimpl\ndef tisslm_optimisers():\n    return []\n")
    assert error_of_loading() == (
        f"tisslm-typo 0.1: there is no hook 'tisslm_optimisers'. Known: {HOOKS}. "
        "Did you mean 'tisslm_optimizers'? Mend it or set TISSLM_DISABLE_PLUGINS=tisslm-typo"
    )


def test_a_misspelt_hook_can_be_switched_off(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("tisslm-typo", "0.1", "@hookimpl\ndef tisslm_optimisers():\n    return []\n")
    monkeypatch.setenv(DISABLE_VARIABLE, "tisslm-typo")
    assert len(loaded()) == 1


def test_a_hook_with_arguments_is_an_error_that_shows_it(site: FakeSite) -> None:
    site.add("tisslm-args", "0.1", "@hookimpl\ndef tisslm_losses(config):\n    return []\n")
    message = error_of_loading()
    assert message.startswith("tisslm-args 0.1: Plugin ")
    assert "hookimpl definition: tisslm_losses(config)" in message
    assert message.endswith("Mend it or set TISSLM_DISABLE_PLUGINS=tisslm-args")
    assert "\n" not in message


def test_a_module_without_hooks_is_an_error(site: FakeSite) -> None:
    site.add("tisslm-empty", "0.1", "def tisslm_losses():\n    return []\n")
    assert error_of_loading() == (
        "tisslm-empty 0.1: 'tisslm_empty' implements no hook; mark its functions with "
        "@tisslm.hookimpl, or set TISSLM_DISABLE_PLUGINS=tisslm-empty"
    )


def test_two_distributions_with_one_module_are_both_named(site: FakeSite) -> None:
    module = site.add("tisslm-good", "1.2", GOOD)
    site.add_metadata("tisslm-renamed", "2.0", f"anything = {module}")
    assert error_of_loading() == (
        "two plugins register 'tisslm_good': tisslm-good 1.2 and tisslm-renamed 2.0. "
        "Uninstall one or set TISSLM_DISABLE_PLUGINS=tisslm-renamed"
    )


def test_one_distribution_may_have_several_entry_points(site: FakeSite) -> None:
    site.add("tisslm-good", "1.2", GOOD)
    (site.folder / "second.py").write_text((site.folder / "tisslm_good.py").read_text())
    info = site.folder / "tisslm_good-1.2.dist-info" / "entry_points.txt"
    info.write_text(info.read_text() + "second = second\n")
    assert loaded().count("tisslm-good 1.2") == 2


def test_the_order_is_that_of_the_names_not_of_the_disk(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for distribution in ("beta", "Alpha", "tisslm_gamma", "tisslm-beta"):
        site.add(distribution, "1", GOOD)
    found = metadata.entry_points(group="tisslm")
    expected = ["Alpha", "beta", "tisslm-beta", "tisslm_gamma"]
    for points in (list(found), list(reversed(list(found)))):
        monkeypatch.setattr(metadata, "entry_points", lambda points=points, **_: points)
        providers = [provider.distribution for provider in load_plugins().providers.values()]
        assert providers == ["tisslm", *expected]
