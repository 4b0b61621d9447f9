"""Trains the tickets cascade: generated support messages, a bag of words, and a net that reads on.

Run it with `python -m models.zoo.tickets.recipe`, or `./just train tickets`. It needs no data and
no PyTorch, and takes a minute or two.

1. A WordPiece tokeniser gets its pieces from the training messages.
2. The edge net is a bag: the mean of its tokens' embeddings, and one matrix. It does not know the
   order of words, so it cannot tell what is asked from what is only mentioned.
3. The cloud net convolves over the embeddings of neighbours, and can.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from models.pipeline.compute.text import Tokens
from models.zoo.data import Dataset, Raw, load
from models.zoo.generated import tune_groups
from models.zoo.graphs import Floats, onnx_logits, write_float
from models.zoo.learner import (
    Array,
    Convolution,
    Course,
    Dense,
    Dropout,
    Embedding,
    Highest,
    Layer,
    Mean,
    Relu,
    fit,
    size_of,
)
from models.zoo.settle import Net, Terms, settle
from models.zoo.stacks import graph_of
from models.zoo.tickets.preparation import LENGTH, PADDING, UNKNOWN, tokens

EPS = 0.02
WORDS, WHOLE_WORDS = 1200, 800
EDGE_SEEDS, CLOUD_SEED = (0, 1, 2), 0
EDGE_COURSE = Course(epochs=12, peak=0.02)
CLOUD_COURSE = Course(epochs=8, peak=0.002, smoothing=0.05)


def train_tokenizer(texts: list[str], path: Path) -> None:
    """Lower case, words and signs apart, rare words in pieces; ids 0 and 1 are padding and unknown.

    The pieces are counted here: the library's own trainer settles ties by its hash table, so it
    gives other pieces each time it runs.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    pieces = vocabulary(words)
    numbered = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab=numbered, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH, pad_id=0, pad_token=PADDING)
    path.write_text(tokenizer.to_str(pretty=False) + "\n", encoding="utf-8")


def vocabulary(words: Counter[str]) -> list[str]:
    """Marks, every letter, the most frequent words, and the most frequent pieces of the others."""
    letters = sorted({letter for word in words for letter in word})
    ranked = sorted(words, key=lambda word: (-words[word], word))
    whole, rest = ranked[:WHOLE_WORDS], ranked[WHOLE_WORDS:]
    inner: Counter[str] = Counter()
    for word in rest:
        for size in (2, 3, 4):
            for start in range(1, len(word) - size + 1):
                inner["##" + word[start : start + size]] += words[word] * size
    known = [PADDING, UNKNOWN, *letters, *("##" + letter for letter in letters)]
    known += [word for word in whole if len(word) > 1]
    room = WORDS - len(known)
    return known + sorted(inner, key=lambda piece: (-inner[piece], piece))[:room]


def bag(seed: int, classes: int) -> list[Layer]:
    chance = np.random.default_rng([seed, 1])
    return [Embedding(chance, WORDS, 16), Mean(), Dense(chance, 16, classes)]


def reader(seed: int, classes: int) -> list[Layer]:
    chance = np.random.default_rng([seed, 2])
    return [
        Embedding(chance, WORDS, 48),
        Convolution(chance, 48, 96, width=5),
        Relu(),
        Convolution(chance, 96, 96, width=3),
        Relu(),
        Highest(),
        Dropout(chance, 0.3),
        Dense(chance, 96, classes),
    ]


def forget_words(ids: Array, chance: np.random.Generator) -> Array:
    """One token in fifty is unknown, so that a word nobody wrote before is no surprise."""
    return np.where((chance.random(ids.shape) < 0.02) & (ids > 0), 1, ids)


def train(dataset: Dataset, given: Tokens, folder: Path) -> tuple[list[Net], Net]:
    """The edge nets and the cloud net, as files in `folder`."""
    classes = len(dataset.label_names)
    tokenizer = folder / "tokenizer.json"

    def answer(path: Path, raw: Raw) -> Floats:
        read = tokens(tokenizer, raw.tolist())
        return onnx_logits(path, {"ids": read.ids, "mask": read.mask})

    edges = []
    for seed in EDGE_SEEDS:
        stack = bag(seed, classes)
        seconds = fit(
            stack,
            given.ids,
            dataset.train_y,
            EDGE_COURSE,
            classes=classes,
            seed=seed,
            alter=forget_words,
        )
        fp32, int8 = folder / f"edge{seed}.fp32.onnx", folder / f"edge{seed}.onnx"
        write_float(graph_of(stack, classes=classes, length=LENGTH), fp32)
        write_float(graph_of(stack, classes=classes, length=LENGTH, small=True), int8)
        edges.append(Net(int8, seed, "int8", size_of(stack), seconds, answer, fp32))
    stack = reader(CLOUD_SEED, classes)
    seconds = fit(
        stack,
        given.ids,
        dataset.train_y,
        CLOUD_COURSE,
        classes=classes,
        seed=CLOUD_SEED,
        alter=forget_words,
    )
    cloud = folder / "cloud.onnx"
    write_float(graph_of(stack, classes=classes, length=LENGTH), cloud)
    return edges, Net(cloud, CLOUD_SEED, "fp32", size_of(stack), seconds, answer)


def main() -> None:
    parser = argparse.ArgumentParser(prog="models.zoo.tickets.recipe")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()
    dataset = load("tickets")
    print(f"tickets: data {dataset.sha256}, edge seeds {EDGE_SEEDS}, cloud seed {CLOUD_SEED}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train_tokenizer(dataset.train_x.tolist(), folder / "tokenizer.json")
        given = tokens(folder / "tokenizer.json", dataset.train_x.tolist())
        cut = float((given.mask[:, -1] == 1).mean())
        print(f"  {int(given.ids.max()) + 1} tokens, {cut:.2%} of messages fill all {LENGTH}")
        edges, cloud = train(dataset, given, folder)
        settle(
            dataset,
            Terms(
                data="generated by models/zoo/tickets/generator.py",
                eps=EPS,
                groups="authors",
                tune_groups=tune_groups("tickets"),
                edge_preparation=(),
                cloud_preparation=(),
                edge_precision_because="INT8 weights: nearly all of the file is the table of "
                "embeddings, one scale a column",
                tokens=LENGTH,
            ),
            edges=edges,
            cloud=cloud,
            out=arguments.out,
        )
        (arguments.out / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())


if __name__ == "__main__":
    main()
