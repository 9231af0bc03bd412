"""Keys of ``config.json`` that change nothing of what a model computes.

They say how it is to be trained, sampled from, run or recorded. What is neither here nor read may
be arithmetic, and is refused unless it is switched off.
"""

from __future__ import annotations

__all__ = ["HARMLESS"]

_RECORDS = """
    architectures model_type transformers_version _name_or_path _commit_hash torch_dtype dtype
    transformers.js_config unsloth_fixed unsloth_version is_llama_config tisslm tokenizer_class
    finetuning_task problem_type id2label label2id num_labels _num_labels task_specific_params
    prefix license language
"""
_RUNNING = """
    use_cache pretraining_tp gradient_checkpointing output_attentions output_hidden_states
    output_scores return_dict return_dict_in_generate torchscript use_bfloat16
    attn_implementation _attn_implementation _attn_implementation_autoset
    _attn_implementation_internal
    _flash_attn_2_enabled use_flash_attn use_flash_attention_2 reorder_and_upcast_attn is_decoder
    remove_invalid_values n_ctx cache_implementation output_past max_sequence_length
    model_max_length
"""
_TRAINING = """
    initializer_range classifier_dropout classifier_dropout_prob summary_activation
    summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
    predict_special_tokens router_aux_loss_coef z_loss
"""
_GENERATION = """
    bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id max_length min_length
    do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
    bad_words_ids num_return_sequences forced_bos_token_id forced_eos_token_id suppress_tokens
    begin_suppress_tokens exponential_decay_length_penalty max_new_tokens
"""

HARMLESS = frozenset(f"{_RECORDS} {_RUNNING} {_TRAINING} {_GENERATION}".split())
