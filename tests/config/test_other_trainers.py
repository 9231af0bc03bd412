"""Configurations of other trainers: each key is read, or named with the nearest thing to do.

The lists are the fields of Hugging Face Transformers' ``TrainingArguments``, of nanoGPT's
``train.py`` and of LitGPT's ``TrainArgs``, ``EvalArgs`` and ``pretrain``.
"""

from __future__ import annotations

from typing import Any

import pytest

from tisslm.config import ConfigNote, RunConfig, TrainingConfig
from tisslm.config.aliases import ELSEWHERE, FLAGS, SPELLINGS
from tisslm.config.counterparts import NO_COUNTERPART, VALUES
from tisslm.config.derived import DERIVED
from tisslm.config.translation import TABLES
from tisslm.errors import ConfigError

TRANSFORMERS = """
output_dir per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type
lr_scheduler_kwargs warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon
optim_target_modules gradient_accumulation_steps average_tokens_across_devices max_grad_norm
label_smoothing_factor bf16 fp16 bf16_full_eval fp16_full_eval tf32 gradient_checkpointing
gradient_checkpointing_kwargs torch_compile torch_compile_backend torch_compile_mode
use_liger_kernel liger_kernel_config use_cache neftune_noise_alpha torch_empty_cache_steps
auto_find_batch_size logging_strategy logging_steps logging_first_step log_on_each_node
logging_nan_inf_filter include_num_input_tokens_seen log_level log_level_replica disable_tqdm
report_to run_name project trackio_space_id eval_strategy eval_steps eval_delay
per_device_eval_batch_size prediction_loss_only eval_on_start eval_do_concat_batches
eval_use_gather_object eval_accumulation_steps include_for_metrics batch_eval_metrics
save_only_model save_strategy save_steps save_on_each_node save_total_limit enable_jit_checkpoint
push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision
load_best_model_at_end metric_for_best_model greater_is_better ignore_data_skip
restore_callback_states_from_checkpoint full_determinism seed data_seed use_cpu accelerator_config
parallelism_config dataloader_drop_last dataloader_num_workers dataloader_pin_memory
dataloader_persistent_workers dataloader_prefetch_factor remove_unused_columns label_names
train_sampling_strategy length_column_name ddp_find_unused_parameters ddp_bucket_cap_mb
ddp_broadcast_buffers ddp_backend ddp_timeout fsdp fsdp_config deepspeed debug skip_memory_metrics
do_train do_eval do_predict resume_from_checkpoint warmup_ratio logging_dir local_rank
"""
NANOGPT = """
out_dir eval_interval log_interval eval_iters eval_only always_save_checkpoint init_from wandb_log
wandb_project wandb_run_name dataset gradient_accumulation_steps batch_size block_size n_layer
n_head n_embd dropout bias learning_rate max_iters weight_decay beta1 beta2 grad_clip decay_lr
warmup_iters lr_decay_iters min_lr backend device dtype compile
"""
LITGPT = """
save_interval log_interval global_batch_size micro_batch_size lr_warmup_steps lr_warmup_fraction
epochs max_tokens max_steps max_time max_seq_length tie_embeddings max_norm min_lr
initial_validation final_validation evaluate_example precision resume out_dir seed devices num_nodes
tokenizer_dir logger_name model_name model_config initial_checkpoint_dir
"""
KNOWN = {
    *TrainingConfig.model_fields,
    *SPELLINGS["training"],
    *ELSEWHERE["training"],
    *FLAGS["training"],
    *DERIVED,
    *NO_COUNTERPART,
    *(key.partition(".")[2] for key in VALUES if key.startswith("training.")),
    *(table for section, table in TABLES if section == "training"),
}


def load(*settings: str) -> RunConfig:
    return RunConfig.load(None, settings, {})


@pytest.mark.parametrize("fields", [TRANSFORMERS, NANOGPT, LITGPT], ids=["hf", "nanogpt", "litgpt"])
def test_no_key_is_unknown(fields: str) -> None:
    assert [key for key in fields.split() if key not in KNOWN] == []


@pytest.mark.parametrize("key", sorted(NO_COUNTERPART))
def test_a_key_without_counterpart_is_named_with_what_there_is(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"training.{key}=something")
    assert NO_COUNTERPART[key] in str(caught.value)
    if "false" not in VALUES.get(f"training.{key}", {}):
        assert load(f"training.{key}=false") == load()


@pytest.mark.parametrize(
    ("key", "word"), [(key, word) for key, table in VALUES.items() for word in table]
)
@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_every_value_of_the_table(key: str, word: str) -> None:
    found = load(f"{key}={word}").resolved()
    for path, value in VALUES[key][word].items():
        section, _, name = path.partition(".")
        assert found[section][name] == value


@pytest.mark.parametrize(
    ("settings", "section", "expected"),
    [
        (
            ["training.lr_scheduler_type=linear", "training.warmup_steps=7"],
            "scheduler",
            {"name": "warmup_linear", "warmup_steps": 7},
        ),
        (
            [
                "training.lr_scheduler_type=cosine_with_min_lr",
                "training.lr_scheduler_kwargs={min_lr_rate = 0.2}",
            ],
            "scheduler",
            {"name": "cosine", "min_lr_ratio": 0.2},
        ),
        (["training.optim=adamw_torch"], "optimizer", {"name": "adamw"}),
        (
            ["optimizer.class_path=torch.optim.SGD", "optimizer.init_args.momentum=0.9"],
            "optimizer",
            {"name": "sgd", "momentum": 0.9},
        ),
        (
            ["train.micro_batch_size=4", "train.global_batch_size=12"],
            "training",
            {"batch_size": 4, "global_batch_size": 12, "gradient_accumulation_steps": 1},
        ),
        (
            ["train.global_batch_size=12"],
            "training",
            {"batch_size": 12, "global_batch_size": 12},
        ),
        (["train.max_tokens=204801"], "training", {"max_steps": 101}),
        (["train.tie_embeddings=false"], "model", {"tie_embeddings": False}),
        (
            ["eval.interval=5", "eval.max_iters=3"],
            "training",
            {"validation_frequency": 5, "eval_batches": 3},
        ),
        (["training.n_layer=2"], "model", {"n_layer": 2}),
        (
            ["training.gradient_checkpointing=true"],
            "training",
            {"activation_checkpointing": "full"},
        ),
        (["training.bf16=true"], "training", {"precision": "bf16"}),
        (["training.warmup_ratio=0.1"], "scheduler", {"warmup_steps": 0.1}),
    ],
)
def test_what_they_come_to(settings: list[str], section: str, expected: dict[str, Any]) -> None:
    with pytest.warns(ConfigNote):
        found = load(*settings).resolved()[section]
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["training.batch_size=5", "training.global_batch_size=12"],
            "training.global_batch_size: expected a multiple of batch_size = 5, got 12 "
            "(set by --set training.global_batch_size)",
        ),
        (
            ["training.max_tokens=many"],
            'training.max_tokens: expected a number >= 1, got "many" '
            "(set by --set training.max_tokens)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_what_cannot_be_computed_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(*settings)
    assert str(caught.value) == message
