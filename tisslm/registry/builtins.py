"""The built-in parts, registered by the same hooks as those of plugins.

Parts are named by their dotted path and imported when their name is used, so listing them is cheap.
"""

from __future__ import annotations

from collections.abc import Iterable

from tisslm.registry.hookspecs import Entry, hookimpl

__all__ = [
    "FUNCTION",
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

#: What a function becomes that is given as a scheduler. It has no name: no file could give it one.
FUNCTION = Entry("function", "tisslm.optim.schedulers._function:Function", "a function of the step")


@hookimpl
def tisslm_optimizers() -> Iterable[Entry]:
    """Yield the built-in optimizers."""
    room = "tisslm.optim.optimizers"
    yield Entry("sgd", f"{room}.sgd:SGD", "stochastic gradient descent, momentum, Nesterov")
    yield Entry("adam", f"{room}.adam:Adam", "adaptive moments (arXiv 1412.6980)")
    yield Entry("adamw", f"{room}.adamw:AdamW", "Adam, weight decay decoupled (arXiv 1711.05101)")
    yield Entry("rmsprop", f"{room}.rmsprop:RMSprop", "running root mean square, may be centered")


@hookimpl
def tisslm_schedulers() -> Iterable[Entry]:
    """Yield the built-in learning-rate schedulers."""
    room = "tisslm.optim.schedulers"
    yield Entry("constant", f"{room}.constant:Constant", "the same learning rate throughout")
    yield Entry("step", f"{room}.step:StepDecay", "times a factor every so many steps")
    yield Entry("exponential", f"{room}.exponential:ExponentialDecay", "times a factor every step")
    yield Entry("cosine", f"{room}.cosine:Cosine", "half a cosine to min_lr (arXiv 1608.03983)")
    yield Entry(
        "warmup_linear", f"{room}.warmup_linear:WarmupLinear", "linear rise, then linear fall"
    )
    yield Entry(
        "warmup_cosine", f"{room}.warmup_cosine:WarmupCosine", "linear rise, then half a cosine"
    )
    yield Entry(
        "cosine_restarts",
        f"{room}.cosine_restarts:CosineRestarts",
        "half a cosine again and again (arXiv 1608.03983)",
    )
    yield Entry(
        "polynomial", f"{room}.polynomial:Polynomial", "linear rise, then a power of what is left"
    )
    yield Entry(
        "inverse_sqrt",
        f"{room}.inverse_sqrt:InverseSqrt",
        "linear rise, then 1 / sqrt(step) (arXiv 1706.03762)",
    )
    yield Entry(
        "reduce_on_plateau",
        f"{room}.reduce_on_plateau:ReduceOnPlateau",
        "times a factor when evaluations get no better",
    )


@hookimpl
def tisslm_losses() -> Iterable[Entry]:
    """Yield the built-in losses."""
    room = "tisslm.optim.losses"
    yield Entry(
        "cross_entropy", f"{room}.cross_entropy:CrossEntropy", "negative log-likelihood in nats"
    )
    yield Entry(
        "label_smoothing",
        f"{room}.label_smoothing:LabelSmoothing",
        "cross-entropy to targets mixed with the uniform ones (arXiv 1512.00567)",
    )
    yield Entry(
        "focal", f"{room}.focal:Focal", "cross-entropy, easy targets count less (arXiv 1708.02002)"
    )
    yield Entry(
        "distillation",
        f"{room}.distillation:Distillation",
        "cross-entropy, and what a teacher says of every token (arXiv 1503.02531)",
    )
    yield Entry(
        "contrastive",
        f"{room}.contrastive:Contrastive",
        "of embeddings: find the positive among all texts of the update (arXiv 1807.03748)",
    )
    yield Entry(
        "triplet",
        f"{room}.triplet:Triplet",
        "of embeddings: nearer to the positive than to the negative (arXiv 1503.03832)",
    )
    yield Entry(
        "cosine_similarity",
        f"{room}.cosine_similarity:CosineSimilarity",
        "of embeddings: squared error of the cosine to a score (arXiv 1908.10084)",
    )
    yield Entry(
        "dpo",
        f"{room}.dpo:DPO",
        "of pairs of answers: the chosen one is to gain on the rejected one (arXiv 2305.18290)",
    )


@hookimpl
def tisslm_sinks() -> Iterable[Entry]:
    """Yield the built-in sinks."""
    room = "tisslm.tracking.sinks"
    yield Entry("console", f"{room}.console:ConsoleSink", "progress bar, or plain lines")
    yield Entry("jsonl", f"{room}.jsonl:JsonlSink", "metrics.jsonl, one object a line")
    yield Entry("csv", f"{room}.csv:CsvSink", "metrics.csv, one row a step")
    yield Entry("memory", f"{room}.memory:MemorySink", "a list, for the program that trains")


@hookimpl
def tisslm_monitors() -> Iterable[Entry]:
    """Yield the built-in monitors."""
    room = "tisslm.tracking.monitors"
    yield Entry(
        "activation_stats",
        f"{room}.activation_stats:ActivationStats",
        "mean, spread, largest, zeros and saturation of activations",
    )
    yield Entry(
        "attention_entropy",
        f"{room}.attention_entropy:AttentionEntropy",
        "how widely the heads of each block look",
    )
    yield Entry(
        "gradient_norms",
        f"{room}.gradient_norms:GradientNorms",
        "Euclidean norm of each parameter's gradient",
    )
    yield Entry(
        "update_norms",
        f"{room}.update_norms:UpdateNorms",
        "norms of each parameter and its update",
    )
    yield Entry(
        "weight_distribution",
        f"{room}.weight_distribution:WeightDistribution",
        "histogram and quantiles of each parameter",
    )


@hookimpl
def tisslm_datasets() -> Iterable[Entry]:
    """Yield the built-in datasets."""
    room = "tisslm.datasets"
    yield Entry("tokens", f"{room}.tokens:TokenDataset", "windows of an array of token ids")
    yield Entry("text", f"{room}.text:TextDataset", "windows of a text and its tokenizer")
    yield Entry(
        "examples",
        f"{room}.examples:ExampleDataset",
        "texts that belong together, to learn vectors of them",
    )
    yield Entry(
        "preferences",
        f"{room}.examples.preferences:PreferenceDataset",
        "prompts with two answers, one of which is preferred",
    )


@hookimpl
def tisslm_tokenizers() -> Iterable[Entry]:
    """Yield the built-in tokenizers."""
    room = "tisslm.tokenizers"
    yield Entry("byte", f"{room}.byte:ByteTokenizer", "the 256 bytes of UTF-8")
    yield Entry("char", f"{room}.char:CharTokenizer", "the characters of the training text")
    yield Entry(
        "bpe", f"{room}.bpe:BpeTokenizer", "byte-pair encoding, reads and trains tokenizer.json"
    )


@hookimpl
def tisslm_communicators() -> Iterable[Entry]:
    """Yield the built-in communicators."""
    yield Entry(
        "local",
        "tisslm.training.ranks.communicators.local:LocalCommunicator",
        "one process, nothing to send",
    )


@hookimpl
def tisslm_models() -> Iterable[Entry]:
    """Yield the built-in model families."""
    room = "tisslm.models.families"
    yield Entry("gpt2", f"{room}.gpt2.family:GPT2", "learned positions, layer norms, GELU")
    yield Entry("llama", f"{room}.llama.family:Llama", "rotary positions, RMS norms, SwiGLU")
    yield Entry("mistral", f"{room}.mistral.family:Mistral", "as llama, made for windows")
    yield Entry("qwen2", f"{room}.qwen2.family:Qwen2", "as llama, biases of queries, keys, values")
    yield Entry("qwen3", f"{room}.qwen3.family:Qwen3", "as llama, queries and keys normalized")
    yield Entry(
        "gpt_neox",
        f"{room}.gpt_neox.family:GPTNeoX",
        "attention and MLP side by side, partly rotary (Pythia)",
    )
