"""Spellings of other trainers, and the key that each stands for here.

Keys whose values differ, too, are in ``counterparts``.

References
----------
The names are those of Hugging Face Transformers' ``TrainingArguments`` and model configurations,
sentence-transformers, Lightning's ``Trainer``, nanoGPT and nanochat, LitGPT, and mlx-lm.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from tisslm.config.counterparts import NO_COUNTERPART
from tisslm.config.fields import show
from tisslm.errors import ConfigError
from tisslm.errors.suggestions import nearest

__all__ = [
    "ELSEWHERE",
    "EXAMPLES",
    "FLAGS",
    "SPELLINGS",
    "ConfigNote",
    "note",
    "read_flag",
    "rename",
    "unknown_key",
]


class ConfigNote(UserWarning):
    """A warning that a setting was read as another one; nothing is wrong."""


def _by_spelling(table: Mapping[str, str]) -> Mapping[str, str]:
    """Invert a table of "key: its spellings" to "spelling: key"."""
    pairs = {spelling: key for key, text in table.items() for spelling in text.split()}
    return MappingProxyType(pairs)


#: For each section: another trainer's spelling, and the key of the same section that it means.
SPELLINGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "training": _by_spelling(
            {
                "max_steps": "max_iters num_iterations iters train_steps steps",
                "epochs": "num_train_epochs max_epochs num_epochs",
                "batch_size": "per_device_train_batch_size micro_batch_size device_batch_size",
                "gradient_accumulation_steps": "accumulate_grad_batches grad_accumulation_steps"
                " grad_accum_steps",
                "learning_rate": "lr",
                "max_grad_norm": "gradient_clip_val grad_clip max_norm clip_grad_norm",
                "save_every": "save_steps save_interval every_n_train_steps",
                "keep_checkpoints": "save_total_limit keep_latest_k",
                "keep_best": "save_top_k",
                "keep_every": "keep_period",
                "best_metric": "metric_for_best_model monitor early_stopping_monitor",
                "best_mode": "early_stopping_mode",
                "resume": "resume_from_checkpoint ckpt_path",
                "validation_frequency": "eval_steps eval_interval val_check_interval"
                " steps_per_eval",
                "logging_steps": "log_interval log_every_n_steps steps_per_report",
                "output_dir": "out_dir default_root_dir save_folder",
                "name": "run_name",
                "precision": "dtype",
                "threads": "num_threads num_cpu_threads_per_process",
                "activation_checkpointing": "gradient_checkpointing grad_checkpoint",
                "loss_scale_init": "initial_loss_scale init_scale",
                "loss_scale_growth_interval": "growth_interval loss_scale_window",
                "max_time": "max_time_per_run",
                "eval_batches": "eval_iters val_batches",
                "sample_every": "sample_interval generate_every",
                "early_stopping_patience": "patience",
                "early_stopping_min_delta": "early_stopping_threshold min_delta",
                "restore_best": "load_best_model_at_end restore_best_weights",
            }
        ),
        "model": _by_spelling(
            {
                "n_layer": "num_hidden_layers n_layers num_layers",
                "n_head": "num_attention_heads n_heads num_heads",
                "n_kv_head": "num_key_value_heads n_kv_heads n_query_groups",
                "n_embd": "hidden_size d_model",
                "n_hidden": "intermediate_size n_inner",
                "seq_len": "block_size max_position_embeddings n_positions n_ctx max_seq_len"
                " max_seq_length sequence_length context_length",
                "activation": "hidden_act activation_function",
                "norm_eps": "layer_norm_epsilon layer_norm_eps rms_norm_eps",
                "tie_embeddings": "tie_word_embeddings",
                "rope_theta": "rotary_emb_base rope_base",
                "rotary_fraction": "partial_rotary_factor rotary_pct rotary_percentage",
                "window": "sliding_window sliding_window_size",
                "logit_cap": "final_logit_softcapping final_logit_softcap",
                "parallel_residual": "use_parallel_residual",
                "pooling": "pooling_mode",
            }
        ),
        "data": _by_spelling(
            {
                "path": "train train_path train_file",
                "valid_path": "valid val_path validation_file",
                "valid_fraction": "val_fraction val_split val_split_fraction",
                "text_field": "dataset_text_field text_column",
                "mask_prompt": "completion_only_loss assistant_only_loss",
            }
        ),
        "optimizer": _by_spelling(
            {
                "beta1": "adam_beta1",
                "beta2": "adam_beta2",
                "eps": "adam_epsilon",
                "weight_decay": "wd",
            }
        ),
        "scheduler": _by_spelling(
            {
                "warmup_steps": "warmup_iters num_warmup_steps lr_warmup_steps warmup_ratio",
                "max_steps": "lr_decay_iters",
                "min_lr_ratio": "min_lr_rate min_lr_factor final_lr_frac",
                "decay_steps": "num_decay_steps",
            }
        ),
        "loss": _by_spelling(
            {
                "dimensions": "matryoshka_dims",
                "weights": "matryoshka_weights",
                "margin": "triplet_margin",
            }
        ),
        "log": _by_spelling({"sinks": "report_to logger_name"}),
    }
)

_TO_OPTIMIZER = "weight_decay beta1 beta2 adam_beta1 adam_beta2 adam_epsilon"
_TO_SCHEDULER = (
    "warmup_steps warmup_iters num_warmup_steps lr_warmup_steps warmup_ratio min_lr min_lr_ratio"
)
_TO_MODEL = (
    "seq_len block_size max_seq_length max_length sequence_length dropout n_layer n_head n_embd"
    " bias tie_embeddings"
)

_EVALUATION = "initial_validation final_validation evaluate_example"

#: For each section: a key that other trainers keep there, and the section that it has here.
ELSEWHERE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "training": MappingProxyType(
            {key: f"optimizer.{key}" for key in _TO_OPTIMIZER.split()}
            | {key: f"scheduler.{key}" for key in _TO_SCHEDULER.split()}
            | {key: f"model.{key}" for key in _TO_MODEL.split()}
            | {
                "max_length": "model.seq_len",
                "lr_decay_iters": "scheduler.max_steps",
                "lr_scheduler": "scheduler.name",
                "lr_scheduler_type": "scheduler.name",
                "optim": "optimizer.name",
                "label_smoothing_factor": "loss.smoothing",
                "logger_name": "log.sinks",
                "report_to": "log.sinks",
            }
        ),
        "eval": MappingProxyType(
            {
                "interval": "training.validation_frequency",
                "max_iters": "training.eval_batches",
                "max_new_tokens": "training.sample_tokens",
                **{key: f"training.{key}" for key in _EVALUATION.split()},
            }
        ),
        "optimizer": MappingProxyType(
            {"learning_rate": "training.learning_rate", "lr": "training.learning_rate"}
        ),
        "data": MappingProxyType({"tokenizer": "tokenizer.name"}),
        "early_stopping": MappingProxyType(
            {
                "monitor": "training.best_metric",
                "mode": "training.best_mode",
                "patience": "training.early_stopping_patience",
                "min_delta": "training.early_stopping_min_delta",
                "restore_best_weights": "training.restore_best",
            }
        ),
        "log": MappingProxyType({"logging_steps": "training.logging_steps"}),
    }
)

#: For each section: another trainer's flag, and the key and value that it means when it is set.
FLAGS: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "training": MappingProxyType(
            {
                "bf16": ("precision", "bf16"),
                "fp16": ("precision", "fp16"),
                "greater_is_better": ("best_mode", "max"),
                "terminate_on_nan": ("on_nonfinite", "stop"),
            }
        )
    }
)

#: Keys of ``[data]`` that only the dataset ``examples`` has.
EXAMPLES = ("valid_examples", "query_prompt", "document_prompt", "max_text_tokens", "score_range")

#: Second spellings of ours, which are read without a note.
_OURS = frozenset({"optimizer.learning_rate", "optimizer.lr"})


def note(message: str, *, stacklevel: int = 2) -> None:
    """Warn with a ``ConfigNote``; ``stacklevel`` counts as in ``warnings.warn``."""
    warnings.warn(message, ConfigNote, stacklevel=stacklevel + 1)


def rename(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path of a setting under our names, with a note if the name was another trainer's.

    Parameters
    ----------
    path : tuple of str
        Section, key, and for nested tables more keys.

    Examples
    --------
    >>> rename(("optimizer", "lr"))
    ('training', 'learning_rate')
    """
    if len(path) < 2:
        return path
    section, key = path[:2]
    if section == "train":  # LitGPT's
        section = "training"
    moved = ELSEWHERE.get(section, {}).get(key, f"{section}.{key}")
    section, _, key = moved.partition(".")
    key = SPELLINGS.get(section, {}).get(key, key)
    given, found = ".".join(path[:2]), f"{section}.{key}"
    if given != found and given not in _OURS:
        note(f"{given} is read as {found}", stacklevel=4)
    return (section, key, *path[2:])


def read_flag(
    path: tuple[str, ...], value: object, set_by: str = ""
) -> tuple[tuple[str, ...], object] | None:
    """Translate a flag of another trainer to the setting that it stands for here.

    Any other setting is returned unchanged. A flag that is false sets nothing, and gives None.

    Parameters
    ----------
    path : tuple of str
        Section and key.
    value : object
    set_by : str
        Where the setting came from, as the end of an error message; may be empty.

    Raises
    ------
    ConfigError
        If a flag is neither true nor false.

    Examples
    --------
    >>> read_flag(("training", "bf16"), False) is None
    True
    """
    flags = FLAGS.get(path[0], {})
    if len(path) != 2 or path[1] not in flags:
        return path, value
    (section, given), (key, meaning) = path, flags[path[1]]
    if not isinstance(value, bool):
        raise ConfigError(
            f"{section}.{given}: expected true or false, got {show(value)}; "
            f"the key here is {section}.{key}{set_by}"
        )
    if not value:
        return None
    note(f"{section}.{given} = true is read as {section}.{key} = {show(meaning)}", stacklevel=4)
    return (section, key), meaning


def unknown_key(
    section: str, key: str, known: Iterable[str], others: Mapping[str, Iterable[str]]
) -> ConfigError:
    """Return the error for a key that a section lacks; it suggests the nearest key that exists.

    Parameters
    ----------
    section, key : str
    known : iterable of str
        The section's own keys.
    others : mapping of str to iterable of str
        The keys of the other sections.
    """
    where, known = f"{section}.{key}: unknown key", list(known)
    if section == "training" and key in NO_COUNTERPART:
        return ConfigError(f"{where}; {NO_COUNTERPART[key]}, so leave it out")
    if section == "data" and key in EXAMPLES:
        return ConfigError(f'{where} of texts; pairs of texts are read with data.name = "examples"')
    for other, keys in others.items():
        if other != section and key in keys:
            return ConfigError(f"{where}; did you mean {other}.{key}?")
    spellings = SPELLINGS.get(section, {})
    if near := nearest(key, [*known, *spellings], likeness=0.7):
        return ConfigError(f"{where}; did you mean {section}.{spellings.get(near, near)}?")
    return ConfigError(f"{where}; the keys of [{section}] are {', '.join(known)}")
