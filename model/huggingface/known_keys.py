"""Known keys of config.json: those that are read or checked, and those that change nothing of what a model computes.

A key of neither kind may stand there unused; any other value may mean a computation that this code has not.
"""

from collections.abc import Mapping

NEUTRAL: tuple[object, ...] = (None, False, [], {}, "")  # what a key says that is not used
ANYWHERE = (
    *("_name_or_path", "name_or_path", "_commit_hash", "architectures", "model_type", "transformers_version", "vocab_size"),
    *("torch_dtype", "dtype", "initializer_range", "initializer_cutoff_factor", "init_std", "tie_word_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "unk_token_id"),
    *("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "ignore_index", "label_smoothing"),
    *("id2label", "label2id", "num_labels", "_num_labels", "problem_type", "finetuning_task", "classifier_dropout"),
    *("use_cache", "return_dict", "use_return_dict", "output_past", "output_attentions", "output_hidden_states", "torchscript"),
    *("gradient_checkpointing", "attn_implementation", "_attn_implementation", "_attn_implementation_internal", "use_flash_attn"),
    *("_attn_implementation_autoset", "_flash_attn_2_enabled", "flash_attention", "use_bfloat16", "chunk_size_feed_forward"),
    *("task_specific_params", "tokenizer_class", "prefix", "max_length", "min_length", "do_sample", "num_beams", "temperature", "top_k"),
    *("top_p", "num_beam_groups", "diversity_penalty", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size"),
    *("encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "early_stopping", "suppress_tokens", "max_new_tokens"),
    *("begin_suppress_tokens", "exponential_decay_length_penalty", "return_dict_in_generate", "output_scores", "remove_invalid_values"),
    *("transformers.js_config", "unsloth_version", "unsloth_fixed", "model_name", "license", "auto_map", "quantization_config"),
    *("is_encoder_decoder", "sparse_prediction", "sparse_pred_ignore_index"),
)
LLAMA = (
    *("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"),
    *("intermediate_size", "hidden_act", "rms_norm_eps", "attention_bias", "mlp_bias", "attention_dropout", "sliding_window"),
    *("use_sliding_window", "max_window_layers", "layer_types", "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor"),
    *("original_max_position_embeddings", "pretraining_tp", "is_llama_config", "activation", "max_sequence_length", "seq_length"),
    "model_max_length",
)
FAMILY: dict[str, tuple[str, ...]] = {
    "gpt2": (
        *("n_layer", "n_embd", "n_head", "n_positions", "n_ctx", "n_inner", "activation_function", "layer_norm_epsilon", "resid_pdrop"),
        *("embd_pdrop", "attn_pdrop", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"),
        *("add_cross_attention", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
        "summary_use_proj",
    ),
    "bert": (
        *("num_hidden_layers", "hidden_size", "num_attention_heads", "max_position_embeddings", "intermediate_size", "hidden_act"),
        *("type_vocab_size", "hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps", "position_embedding_type"),
        *("is_decoder", "add_cross_attention", "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
        *("pooler_size_per_head", "pooler_type"),
    ),
    "modernbert": (
        *("num_hidden_layers", "hidden_size", "num_attention_heads", "max_position_embeddings", "intermediate_size"),
        *("hidden_activation", "classifier_activation", "classifier_bias", "classifier_pooling", "decoder_bias", "mlp_dropout"),
        *("attention_bias", "mlp_bias", "norm_bias", "norm_eps", "layer_norm_eps", "attention_dropout", "embedding_dropout"),
        *("layer_types", "local_attention", "global_attn_every_n_layers", "global_rope_theta", "local_rope_theta", "rope_parameters"),
        *("rope_scaling", "deterministic_flash_attn", "reference_compile", "repad_logits_with_grad", "position_embedding_type"),
    ),
    "marian": (
        *("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads", "encoder_ffn_dim"),
        *("decoder_ffn_dim", "max_position_embeddings", "activation_function", "dropout", "attention_dropout", "activation_dropout"),
        *("scale_embedding", "static_position_embeddings", "share_encoder_decoder_embeddings", "normalize_before", "is_decoder"),
        *("normalize_embedding", "add_final_layer_norm", "add_bias_logits", "decoder_vocab_size", "num_hidden_layers"),
        *("encoder_layerdrop", "decoder_layerdrop", "extra_pos_embeddings", "num_attention_heads", "hidden_size"),
    ),
}


def check_known(model_type: str, values: Mapping[str, object]) -> None:
    """Raises ValueError naming the first key of the family's config that may mean another computation."""
    known = {*ANYWHERE, *FAMILY.get(model_type, LLAMA)}
    for name, value in values.items():
        if name not in known and value not in NEUTRAL:
            raise ValueError(
                f"{name} is {value!r}, expected it unset: this code does not know it. Fix: remove the key where the model computes the "
                f"same without it, else take a model that transformers' own {model_type} computes"
            )
