"""Names: who provides them, and every way in which a name or its class can be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tisslm.errors import PluginError
from tisslm.registry import Registry, load_registry
from tisslm.registry.discovery import DISABLE_VARIABLE, tisslm_version
from tisslm.registry.hookspecs import KINDS

if TYPE_CHECKING:
    from conftest import FakeSite

OURS = f"tisslm {tisslm_version()}"
COMMUNICATOR = "@hookimpl\ndef tisslm_communicators():\n    "
CLASS = """
from tisslm.contracts import Communicator
class Radio(Communicator):
    rank, size = 0, 1
    def all_gather(self, data): return [data]
    def broadcast(self, flat): pass
    def exchange(self, sent, received): received[0][:] = sent[0]
    def barrier(self): pass
    def channel(self): return Radio()
"""


def error_of_loading() -> str:
    with pytest.raises(PluginError) as caught:
        load_registry()
    return str(caught.value)


def error_of_getting(kind: str, name: str) -> str:
    registry = load_registry()
    with pytest.raises(PluginError) as caught:
        registry.get(kind, name)
    return str(caught.value)


def names(registry: Registry, kind: str) -> list[str]:
    return [part.entry.name for part in registry.entries(kind)]


def test_built_in_names_are_those_of_the_agreement(site: FakeSite) -> None:
    registry = load_registry()
    assert {kind: names(registry, kind) for kind in KINDS} == {
        "optimizer": ["adam", "adamw", "rmsprop", "sgd"],
        "scheduler": [
            "constant",
            "cosine",
            "cosine_restarts",
            "exponential",
            "inverse_sqrt",
            "polynomial",
            "reduce_on_plateau",
            "step",
            "warmup_cosine",
            "warmup_linear",
        ],
        "loss": [
            "contrastive",
            "cosine_similarity",
            "cross_entropy",
            "distillation",
            "dpo",
            "focal",
            "label_smoothing",
            "triplet",
        ],
        "sink": ["console", "csv", "jsonl", "memory"],
        "monitor": [
            "activation_stats",
            "attention_entropy",
            "gradient_norms",
            "update_norms",
            "weight_distribution",
        ],
        "dataset": ["examples", "preferences", "text", "tokens"],
        "tokenizer": ["bpe", "byte", "char"],
        "communicator": ["local"],
        "model": ["gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3"],
    }
    assert str(registry.part("optimizer", "adamw")) == f"optimizer 'adamw' ({OURS})"


def test_every_built_in_name_can_be_imported(site: FakeSite) -> None:
    registry = load_registry()
    classes = [registry.get(kind, name) for kind in KINDS for name in names(registry, kind)]
    assert len(set(classes)) == len(classes) == 45


def test_a_plugins_class_is_imported_when_its_name_is_used(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = COMMUNICATOR + "yield Entry('radio', 'radio:Radio', 'waves')\n"
    site.add("tisslm-radio", "0.2.1", hook, radio="import marks\nmarks.seen = True\n" + CLASS)
    (site.folder / "marks.py").write_text("seen = False\n")
    import marks  # type: ignore[import-not-found]

    registry = load_registry()
    assert str(registry.part("communicator", "radio").provider) == "tisslm-radio 0.2.1"
    assert not marks.seen
    assert registry.get("communicator", "radio").__name__ == "Radio"
    assert marks.seen


def test_a_class_may_be_given_instead_of_its_path(site: FakeSite) -> None:
    site.add(
        "tisslm-radio", "1", CLASS + COMMUNICATOR + "return [Entry('radio', Radio, 'waves')]\n"
    )
    assert load_registry().get("communicator", "radio").__name__ == "Radio"


def test_an_unknown_name_lists_the_known_with_providers_and_the_nearest(site: FakeSite) -> None:
    site.add_names("tisslm-lion", "0.2.1", "communicator", "lion")
    assert error_of_getting("communicator", "loca") == (
        "unknown communicator 'loca'. Known: lion (tisslm-lion 0.2.1), "
        f"local ({OURS}). Did you mean 'local'?"
    )


def test_an_unknown_name_that_is_near_nothing_gets_no_suggestion(site: FakeSite) -> None:
    assert error_of_getting("communicator", "xyz") == (
        f"unknown communicator 'xyz'. Known: local ({OURS})."
    )


def test_an_unknown_name_names_the_plugins_that_could_have_provided_it(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("tisslm-foo", "1.0", "raise ImportError('no libfoo.so')\n")
    site.add("tisslm-lazy", "1.1", COMMUNICATOR + "raise OSError('no lazy.cfg')\n")
    site.add_names("tisslm-off", "3.0", "communicator", "off")
    monkeypatch.setenv(DISABLE_VARIABLE, "tisslm-off")
    assert error_of_getting("communicator", "off") == (
        f"unknown communicator 'off'. Known: local ({OURS}). "
        "tisslm-foo 1.0 could not be imported: ImportError: no libfoo.so. "
        "tisslm-off 3.0 is switched off by TISSLM_DISABLE_PLUGINS. "
        "tisslm-lazy 1.1 could not be asked for its parts: OSError: no lazy.cfg."
    )


def test_a_broken_plugin_does_not_stop_a_run_that_does_not_name_it(site: FakeSite) -> None:
    site.add("tisslm-foo", "1.0", "raise ImportError('no libfoo.so')\n")
    registry = load_registry()
    assert registry.part("optimizer", "adamw").entry.name == "adamw"
    assert [plugin.status for plugin in registry.left_out] == ["broken"]


def test_an_unknown_kind_lists_the_known(site: FakeSite) -> None:
    assert error_of_getting("optimizers", "adamw") == (
        "unknown kind of part 'optimizers'. Known: optimizer, scheduler, loss, sink, monitor, "
        "dataset, tokenizer, communicator, model. Did you mean 'optimizer'?"
    )


def test_two_plugins_with_one_name_are_both_named(site: FakeSite) -> None:
    site.add_names("tisslm-lion", "0.2.1", "optimizer", "lion")
    site.add_names("mylion", "1.0", "optimizer", "lion")
    assert error_of_loading() == (
        "two plugins provide optimizer 'lion': mylion 1.0 and tisslm-lion 0.2.1. "
        "Uninstall one or set TISSLM_DISABLE_PLUGINS=tisslm-lion"
    )


def test_what_the_clash_advises_helps(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add_names("tisslm-lion", "0.2.1", "optimizer", "lion")
    site.add_names("mylion", "1.0", "optimizer", "lion")
    monkeypatch.setenv(DISABLE_VARIABLE, "tisslm-lion")
    assert str(load_registry().part("optimizer", "lion").provider) == "mylion 1.0"


def test_a_built_in_name_cannot_be_taken(site: FakeSite) -> None:
    site.add_names("mylion", "1.0", "optimizer", "adamw")
    assert error_of_loading() == (
        f"two plugins provide optimizer 'adamw': {OURS} and mylion 1.0. "
        "Uninstall mylion or set TISSLM_DISABLE_PLUGINS=mylion"
    )


def test_one_plugin_that_gives_a_name_twice_is_named(site: FakeSite) -> None:
    site.add_names("mylion", "1.0", "loss", "lion", "lion")
    assert error_of_loading() == (
        "mylion 1.0 provides loss 'lion' twice. Mend it or set TISSLM_DISABLE_PLUGINS=mylion"
    )


def test_one_name_may_stand_for_parts_of_two_kinds(site: FakeSite) -> None:
    site.add_names("mylion", "1.0", "optimizer", "text")
    assert str(load_registry().part("dataset", "text").provider) == OURS


@pytest.mark.parametrize(
    ("body", "got"),
    [
        ("yield 'radio'", "'radio'"),
        ("return ('radio', 'radio:Radio', 'waves')", "'radio'"),
        ("pass", "None"),
        ("return 3", "3"),
        ("yield Entry('radio', 'radio:Radio', 'waves'); yield None", "None"),
    ],
)
def test_a_hook_that_yields_something_else_is_named(site: FakeSite, body: str, got: str) -> None:
    site.add("tisslm-odd", "0.1", f"{COMMUNICATOR}{body}\n")
    assert error_of_loading() == (
        f"tisslm-odd 0.1, tisslm_communicators: expected tisslm.Entry records, got {got}. "
        "Mend it or set TISSLM_DISABLE_PLUGINS=tisslm-odd"
    )


def test_a_single_entry_is_not_taken_for_a_list(site: FakeSite) -> None:
    site.add("tisslm-one", "1", COMMUNICATOR + "return Entry('radio', 'radio:Radio', 'waves')\n")
    assert names(load_registry(), "communicator") == ["local", "radio"]


def test_a_bad_entry_is_named_with_its_plugin(site: FakeSite) -> None:
    site.add("tisslm-odd", "0.1", COMMUNICATOR + "yield Entry('Radio', 'a:B', 'waves')\n")
    assert error_of_loading() == (
        "tisslm-odd 0.1, tisslm_communicators: Entry: expected a snake_case name such as "
        "'my_part', got 'Radio'; use lower-case letters, digits and single underscores. "
        "Mend it or set TISSLM_DISABLE_PLUGINS=tisslm-odd"
    )


@pytest.mark.parametrize("option", ["wrapper", "hookwrapper"])
def test_a_hook_wrapper_is_refused(site: FakeSite, option: str) -> None:
    hook = f"@hookimpl({option}=True)\ndef tisslm_losses():\n    return (yield)\n"
    site.add("tisslm-wrap", "0.1", hook)
    assert error_of_loading() == (
        "tisslm-wrap 0.1, tisslm_losses: expected a plain hook, got a hook wrapper; a plugin adds "
        "parts and does not change those of others. "
        "Mend it or set TISSLM_DISABLE_PLUGINS=tisslm-wrap"
    )


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_radio:Radio", "ModuleNotFoundError: No module named 'no_such_radio'"),
        ("radio:Radio", "AttributeError: module 'radio' has no attribute 'Radio'"),
        ("crashing:Radio", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_class_that_cannot_be_imported_is_named(site: FakeSite, target: str, reason: str) -> None:
    hook = COMMUNICATOR + f"yield Entry('radio', {target!r}, 'waves')\n"
    site.add("tisslm-radio", "0.2.1", hook, radio="", crashing="1 / 0\n")
    assert error_of_getting("communicator", "radio") == (
        f"communicator 'radio' (tisslm-radio 0.2.1): {target!r} could not be imported: {reason}. "
        "Reinstall or update tisslm-radio"
    )


@pytest.mark.parametrize(
    ("text", "got"), [("def Radio(): pass", "<function Radio at"), ("class Radio: pass", "<class")]
)
def test_a_target_of_another_type_is_named(site: FakeSite, text: str, got: str) -> None:
    hook = COMMUNICATOR + "yield Entry('radio', 'radio:Radio', 'waves')\n"
    site.add("tisslm-radio", "0.2.1", hook, radio=text)
    message = error_of_getting("communicator", "radio")
    assert message.startswith(
        "communicator 'radio' (tisslm-radio 0.2.1): expected a subclass of "
        f"tisslm.contracts.Communicator, got {got}"
    )
    assert message.endswith(". Update tisslm-radio")


def test_a_class_that_lacks_a_method_is_named(site: FakeSite) -> None:
    hook = COMMUNICATOR + "yield Entry('radio', 'radio:Radio', 'waves')\n"
    text = CLASS.replace("def barrier", "def carrier").replace("def broadcast", "def cast")
    site.add("tisslm-radio", "0.2.1", hook, radio=text)
    assert error_of_getting("communicator", "radio") == (
        "communicator 'radio' (tisslm-radio 0.2.1): Radio does not define barrier, broadcast, "
        "which tisslm.contracts.Communicator asks for. Update tisslm-radio"
    )
