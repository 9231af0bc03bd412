"""Keys of other trainers whose values are written differently here, or that have no counterpart.

Keys that only have another name are in ``aliases``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["NO_COUNTERPART", "VALUES", "without_counterpart"]

Settings = Mapping[str, Any]


def _named(key: str, table: Mapping[str, str]) -> dict[str, Settings]:
    """Invert a table of "our value: their values" to "their value: settings"."""
    return {word: {key: name} for name, words in table.items() for word in words.split()}


_OPTIMIZERS = _named(
    "optimizer.name",
    {
        "adamw": "adamw adamw_torch adamw_torch_fused adamw_hf adamw_apex_fused adamw_torch_xla"
        " AdamW torch.optim.AdamW",
        "adam": "adam Adam torch.optim.Adam",
        "sgd": "sgd SGD torch.optim.SGD",
        "rmsprop": "rmsprop RMSprop torch.optim.RMSprop",
        "lion": "lion lion_32bit",
        "adam8bit": "adamw_8bit adamw_bnb_8bit",
    },
)
_SCHEDULERS: dict[str, Settings] = {
    "linear": {"scheduler.name": "warmup_linear", "scheduler.warmup_steps": 0},
    "constant_with_warmup": {
        "scheduler.name": "warmup_linear",
        "scheduler.warmup_steps": 0,
        "scheduler.min_lr_ratio": 1.0,
    },
    "polynomial": {"scheduler.name": "polynomial", "scheduler.warmup_steps": 0},
    "cosine_with_restarts": {"scheduler.name": "cosine_restarts", "scheduler.cycles": 1},
    **_named(
        "scheduler.name",
        {
            "cosine": "cosine cosine_with_min_lr",
            "constant": "constant",
            "wsd": "warmup_stable_decay",
            "reduce_on_plateau": "reduce_lr_on_plateau",
        },
    ),
}
#: For each key of another trainer: its values, each with the settings that it means here. Any other
#: value of ``lr_scheduler_type`` and ``optim`` is the name of a part; other keys refuse it.
VALUES: Mapping[str, Mapping[str, Settings]] = MappingProxyType(
    {
        "training.lr_scheduler_type": _SCHEDULERS,
        "training.optim": _OPTIMIZERS,
        "optimizer.class_path": _OPTIMIZERS,
        "training.decay_lr": {
            "true": {"scheduler.name": "warmup_cosine"},
            "false": {"scheduler.name": "constant"},
        },
        "training.init_from": {"scratch": {}, "resume": {"training.resume": "auto"}},
        "training.eval_strategy": {"no": {"training.validation_frequency": 0}, "steps": {}},
        "training.evaluation_strategy": {"no": {"training.validation_frequency": 0}, "steps": {}},
        "training.save_strategy": {
            "no": {"training.save_every": 0},
            "steps": {},
            "best": {"training.restore_best": True},
        },
        "training.logging_strategy": {"steps": {}},
        "training.wandb_log": {
            "true": {"log.sinks": ["console", "jsonl", "wandb"]},
            "false": {},
        },
        "training.use_cpu": {"true": {}},
        "training.no_cuda": {"true": {}},
        "training.device": {"cpu": {}},
        "training.full_determinism": {"true": {}, "false": {}},
        "training.final_validation": {"true": {}},
        "training.average_tokens_across_devices": {"true": {}, "false": {}},
        "training.dataloader_pin_memory": {"true": {}, "false": {}},
        "training.skip_memory_metrics": {"true": {}, "false": {}},
        "training.include_num_input_tokens_seen": {"true": {}, "false": {}, "all": {}},
    }
)

#: Advice that names the nearest key here, and the keys of other trainers that it is for.
_NEAREST: tuple[tuple[str, str], ...] = (
    (
        "the kernels are compiled when TissLM is installed",
        "compile torch_compile torch_compile_backend torch_compile_mode use_liger_kernel "
        "liger_kernel_config jit_mode_eval",
    ),
    (
        "the device is the CPU",
        "device use_cpu no_cuda use_mps_device use_ipex tf32 torch_empty_cache_steps "
        "dataloader_pin_memory",
    ),
    (
        "processes are started by mpiexec or srun, and training.threads are those of each",
        "deepspeed fsdp fsdp_config fsdp_min_num_params ddp_backend ddp_timeout "
        "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers backend "
        "local_rank accelerator_config parallelism_config devices num_nodes strategy "
        "log_on_each_node save_on_each_node average_tokens_across_devices",
    ),
    (
        "the next batch is made by a thread while a step computes",
        "dataloader_num_workers dataloader_persistent_workers dataloader_prefetch_factor",
    ),
    (
        "evaluations have rows of training.batch_size, and eval_batches bounds them",
        "per_device_eval_batch_size eval_accumulation_steps batch_eval_metrics "
        "prediction_loss_only include_for_metrics eval_do_concat_batches "
        "eval_use_gather_object",
    ),
    (
        "training.validation_frequency says when to evaluate; the end of a run always does",
        "eval_delay eval_on_start initial_validation final_validation eval_only do_train "
        "do_eval do_predict eval_strategy evaluation_strategy evaluate_example",
    ),
    (
        "training.save_every, keep_checkpoints and keep_best say what is kept, with all "
        "that a resume needs",
        "save_only_model always_save_checkpoint save_strategy enable_jit_checkpoint "
        "ignore_data_skip restore_callback_states_from_checkpoint",
    ),
    (
        "training.logging_steps says when to log, log.sinks where",
        "logging_strategy logging_first_step logging_nan_inf_filter log_level "
        "log_level_replica disable_tqdm logging_dir include_num_input_tokens_seen "
        "skip_memory_metrics",
    ),
    (
        "a tracker is a sink: log.sinks with wandb or mlflow, and its options in [log.<name>]",
        "wandb_log wandb_project wandb_run_name project trackio_space_id",
    ),
    (
        "nothing is sent anywhere; copy a checkpoint, which is in safetensors, yourself",
        "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push "
        "hub_revision",
    ),
    (
        "training.batch_size is chosen by hand; tisslm plan shows what fits",
        "auto_find_batch_size",
    ),
    (
        "an incomplete last batch is trained on, and counts by its targets",
        "dataloader_drop_last",
    ),
    (
        "rows are packed from documents in an order of training.seed",
        "data_seed train_sampling_strategy group_by_length length_column_name "
        "remove_unused_columns label_names full_determinism",
    ),
    (
        "choose optimizer.name, and put its options in [optimizer]",
        "optim_args optim_target_modules",
    ),
    (
        "put the options in [scheduler]",
        "lr_scheduler_kwargs decay_lr lr_warmup_fraction",
    ),
    (
        "training.activation_checkpointing takes none, full or every=N",
        "gradient_checkpointing_kwargs",
    ),
    (
        "evaluations run in training.precision",
        "bf16_full_eval fp16_full_eval",
    ),
    (
        "model.preset begins anew, model.from at a model that is there, training.resume at a "
        "checkpoint",
        "init_from model_name model_config initial_checkpoint_dir",
    ),
    (
        "name files with data.path and a tokenizer in [tokenizer]",
        "dataset tokenizer_dir",
    ),
    (
        "training has no such part; leave it at its default",
        "neftune_noise_alpha use_cache debug",
    ),
    (
        "use training.log_gradients, monitors and tisslm replay",
        "detect_anomaly",
    ),
)

#: Advice about keys of other trainers that have no counterpart here.
NO_COUNTERPART: Mapping[str, str] = MappingProxyType(
    {key: advice for advice, keys in _NEAREST for key in keys.split()}
)


def without_counterpart(key: str, value: object) -> bool:
    """Return True if a key without counterpart has a value that asks for nothing: off or empty."""
    return key in NO_COUNTERPART and value in (False, None, "", "none", [], {}, 0, -1)
