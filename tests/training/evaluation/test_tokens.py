"""Evaluation: accuracy, bits per byte, and fewer windows than all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tisslm import TextEncoder, TokenDataset, TransformerConfig
from tisslm.contracts import IGNORE_INDEX, Dataset, Loss, Rows
from tisslm.errors import ConfigError
from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.tokenizers import ByteTokenizer, CharTokenizer
from tisslm.training.evaluation import Evaluation, evaluate

VOCAB, T = 17, 16


class Masked(TokenDataset):
    """Windows without every third target."""

    def window(self, i):
        x, y = super().window(i)
        y[::3] = IGNORE_INDEX
        return Rows(x, y)


class Taken(Dataset):
    """Remembers which windows were asked for."""

    seq_len, vocab_size = T, VOCAB

    def __init__(self, n):
        self.n, self.asked = n, []

    def __len__(self):
        return self.n

    def window(self, i):
        self.asked.append(i)
        ids = np.full(T, i % VOCAB, np.int32)
        return Rows(ids, ids)

    def order(self, seed, epoch):
        return range(self.n)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_accuracy_is_that_of_the_logits(make_model, tokens, dtype):
    model, dataset = make_model(dtype=dtype), Masked(tokens, T, vocab_size=VOCAB)
    found = evaluate(model, dataset, CrossEntropy(), batch_size=5)
    correct, among_five = [], []
    for i in range(len(dataset)):
        x, y = dataset.window(i)
        logits = model.forward(x[None])[0][0]
        best = np.argsort(-logits, axis=1, kind="stable")
        real = y != IGNORE_INDEX
        correct.extend(best[real, 0] == y[real])
        among_five.extend((best[real, :5] == y[real, None]).any(axis=1))
    assert (found.correct, found.among_five) == (sum(correct), sum(among_five))
    assert found.targets == len(correct)
    assert found.accuracy == np.mean(correct)
    assert found.top5_accuracy == np.mean(among_five)
    assert 0 < found.correct < found.among_five < found.targets, "nothing is compared"


def test_counting_leaves_the_loss_as_it_is(make_model, tokens):
    model, dataset = make_model(), Masked(tokens, T, vocab_size=VOCAB)
    found = evaluate(model, dataset, CrossEntropy(), batch_size=len(dataset))
    x, y = (np.stack(part) for part in zip(*map(dataset.window, range(len(dataset))), strict=True))
    logits, _ = model.forward(x)
    assert found.loss == CrossEntropy().forward(logits, y)


def test_a_loss_over_hidden_states_has_no_accuracy(make_model, tokens):
    class Hidden(Loss):
        needs = "hidden"

        def whole(self, hidden_BTC, batch):
            return float(batch.weights_BT.sum()), np.zeros_like(hidden_BTC)

    dataset = TokenDataset(tokens, T, vocab_size=VOCAB)
    found = evaluate(make_model(), dataset, Hidden(), batch_size=5)
    assert found.loss == pytest.approx(1.0)
    assert (found.accuracy, found.top5_accuracy) == (None, None)
    assert "eval/accuracy" not in found.metrics()


@pytest.mark.parametrize(("batches", "count"), [(0, 40), (3, 12), (10, 40), (99, 40)])
def test_fewer_batches_are_spread_evenly(make_model, batches, count):
    dataset = Taken(40)
    found = evaluate(make_model(), dataset, CrossEntropy(), batch_size=4, max_batches=batches)
    assert found.windows == len(dataset.asked) == count
    assert dataset.asked == [i * 40 // count for i in range(count)]
    assert len(set(dataset.asked)) == count
    assert found.targets == count * T


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer(characters="aé東🙂 \n")])
def test_bits_per_byte_count_the_bytes_of_the_targets(make_model, tokenizer):
    text = "aé東🙂 \n" * 40
    ids = tokenizer.encode_array(text)
    dataset = TokenDataset(ids, T, vocab_size=tokenizer.vocab_size)
    model = make_model(vocab_size=tokenizer.vocab_size)
    found = evaluate(model, dataset, CrossEntropy(), tokenizer=tokenizer)
    targets = np.concatenate([dataset.window(i).y for i in range(len(dataset))]).tolist()
    if isinstance(tokenizer, CharTokenizer):
        assert found.nbytes == len(tokenizer.decode(targets).encode()) > len(targets)
    else:
        assert found.nbytes == len(targets)
    assert found.bpb == found.loss * found.targets / math.log(2) / found.nbytes
    assert found.metrics()["eval/bpb"] == found.bpb


def test_targets_that_are_masked_have_neither_bits_nor_bytes(make_model, tokens):
    dataset = Masked(tokens, T, vocab_size=VOCAB)
    found = evaluate(make_model(), dataset, CrossEntropy(), tokenizer=ByteTokenizer())
    assert (
        found.nbytes
        == found.targets
        == sum((y >= 0).sum() for _, y in map(dataset.window, range(len(dataset))))
    )


def test_ids_that_a_tokenizer_does_not_know_have_no_bytes(make_model, tokens):
    dataset = TokenDataset(tokens, T, vocab_size=VOCAB)
    found = evaluate(
        make_model(), dataset, CrossEntropy(), tokenizer=CharTokenizer(characters="ab")
    )
    assert (found.nbytes, found.bpb) == (None, None)
    assert "eval/bpb" not in found.metrics()


def test_metrics_have_their_names():
    found = Evaluation(math.log(2), 10, 2.0, 4, 3, 5, 20)
    assert found.metrics() == {
        "eval/loss": math.log(2),
        "eval/perplexity": pytest.approx(2.0),
        "eval/accuracy": 0.3,
        "eval/top5_accuracy": 0.5,
        "eval/bpb": 0.5,
        "eval/runtime": 2.0,
        "eval/samples_per_second": 2.0,
    }


def test_a_loss_that_is_not_finite_is_no_accuracy(make_model, tokens):
    model = make_model()
    model.parameters["final_norm.weight"].data[...] = np.nan
    found = evaluate(model, TokenDataset(tokens, T, vocab_size=VOCAB), CrossEntropy())
    assert math.isnan(found.loss)
    assert found.correct == 0


def test_a_model_of_vectors_is_refused(tokens):
    shape = TransformerConfig.preset("char-tiny", vocab_size=65, n_layer=1, pooling="mean")
    dataset = TokenDataset(tokens, 8)
    with pytest.raises(ConfigError, match=r"evaluate: expected a language model, got one that"):
        evaluate(TextEncoder(shape), dataset, CrossEntropy())
