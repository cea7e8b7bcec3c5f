"""From text to numbers: cleaning, tokenization, vocabularies, and documents as ragged arrays."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
PAD, UNK, BOS, EOS = range(4)

# AG News lost the ampersands of many HTML entities: "Oil #39;s", "quot;yes quot;". Entity names that are also
# English words, such as "times;", are left alone.
HALF_ENTITY = re.compile(
    r"(?<![&#\w])(#\d{2,5}|#x[0-9a-f]{2,4}|quot|apos|amp|lt|gt|nbsp|hellip|[lr][sd]quo|[mn]dash|eacute);",
    re.IGNORECASE,
)
TAG = re.compile(r"</?[a-z][^<>]*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)


def clean(text: str) -> str:
    """Clean a document: resolve entities, remove tags and backslashes, collapse white space, lower the case.

    Args:
        text: a document of a corpus, unchanged.

    Returns:
        The document in lower case, with single spaces between words and none at the ends; possibly empty.
    """
    plain = html.unescape(html.unescape(text))  # some texts are escaped twice: &amp;lt;b&amp;gt;
    plain = html.unescape(HALF_ENTITY.sub(r"&\1;", plain))
    plain = TAG.sub(" ", plain.replace("\\", " "))
    return " ".join(plain.lower().split())


def tokenize(texts: Iterable[str], max_tokens: int) -> list[list[str]]:
    """Split texts into tokens by spaCy's English rules, without a pipeline.

    Args:
        texts: cleaned texts.
        max_tokens: maximum number of tokens per text, at least 1.

    Returns:
        One list of tokens per text, in the order of `texts`; empty for an empty text.

    Raises:
        ValueError: if `max_tokens` is less than 1.
    """
    import spacy

    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
    tokenizer = spacy.blank("en").tokenizer
    # Each word gives at least one token, so words beyond max_tokens cannot matter; dropping them is faster.
    clipped = (" ".join(text.split(maxsplit=max_tokens)[:max_tokens]) for text in texts)
    return [[token.text for token in tokenizer(text)[:max_tokens]] for text in clipped]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words and their numbers; the four special tokens come first.

    Attributes:
        words: ``SPECIALS``, then ordinary words.
        index: the number of each word.

    Raises:
        ValueError: if the specials do not come first, or a word occurs twice.
    """

    words: tuple[str, ...]
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[: len(SPECIALS)] != SPECIALS:
            raise ValueError(f"a vocabulary must begin with {SPECIALS}, got {self.words[: len(SPECIALS)]}")
        index = {word: number for number, word in enumerate(self.words)}
        if len(index) != len(self.words):
            twice = next(word for number, word in enumerate(self.words) if index[word] != number)
            raise ValueError(f"a vocabulary must have every word once, got {twice!r} twice")
        object.__setattr__(self, "index", index)

    @classmethod
    def build(cls, token_lists: Iterable[Sequence[str]], min_freq: int, max_words: int) -> Vocabulary:
        """Build a vocabulary of the most frequent words, ties in alphabetical order.

        Args:
            token_lists: tokenized documents of the training split.
            min_freq: minimum number of occurrences of a word, at least 1.
            max_words: maximum number of ordinary words, without the specials.

        Raises:
            ValueError: if no word is frequent enough.
        """
        counts = Counter(chain.from_iterable(token_lists))
        for special in SPECIALS:
            del counts[special]
        frequent = [word for word, count in counts.items() if count >= min_freq]
        if not frequent:
            raise ValueError(
                f"none of the {len(counts)} words in the training split occurs {min_freq} times: "
                "lower min_freq or train on more documents"
            )
        frequent.sort(key=lambda word: (-counts[word], word))
        return cls(SPECIALS + tuple(frequent[:max_words]))

    def __len__(self) -> int:
        return len(self.words)

    @property
    def ordinary(self) -> tuple[str, ...]:
        """The words without the specials."""
        return self.words[len(SPECIALS) :]

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the numbers of the tokens, ``UNK`` for unknown ones and for an empty document."""
        numbers = (self.index.get(token, UNK) for token in tokens)
        # A special token spelled out in a document is an unknown word, not a padding or an end.
        return [number if number >= len(SPECIALS) else UNK for number in numbers] or [UNK]

    def save(self, path: Path) -> None:
        """Write the ordinary words as a JSON list."""
        path.write_text(json.dumps(self.ordinary, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what :meth:`save` wrote."""
        return cls(SPECIALS + tuple(json.loads(path.read_text(encoding="utf-8"))))


@dataclass(frozen=True, slots=True, eq=False)
class EncodedCorpus:
    """Encoded documents of any length, concatenated.

    Attributes:
        tokens: (total,) int32 word numbers.
        offsets: (n + 1,) int64; document i is ``tokens[offsets[i] : offsets[i + 1]]``.
        labels: (n,) int64 classes.

    Raises:
        ValueError: if the three arrays do not fit together.
    """

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.labels) + 1:
            raise ValueError(
                f"there must be one more offset than labels, got {len(self.offsets)} for {len(self.labels)}"
            )
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.tokens) or (np.diff(self.offsets) < 1).any():
            raise ValueError(
                f"offsets must rise from 0 to {len(self.tokens)}, the number of tokens, by at least "
                "1 per document"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(n,) number of tokens of each document, at least 1."""
        return np.diff(self.offsets)

    def document(self, i: int) -> npt.NDArray[np.int32]:
        """Return a view of the (length,) word numbers of document `i`."""
        if not 0 <= i < len(self):
            raise IndexError(f"document must be in 0..{len(self) - 1}, got {i}")
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    def take(self, indices: npt.ArrayLike) -> EncodedCorpus:
        """Return the documents at `indices`, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows])])
        # Each token's index: its index in the result, shifted by the difference of the document's starts.
        places = np.repeat(self.offsets[rows] - offsets[:-1], self.lengths[rows]) + np.arange(offsets[-1])
        return EncodedCorpus(self.tokens[places], offsets, self.labels[rows])

    def save(self, path: Path) -> None:
        """Write the three arrays into one ``.npz``."""
        with path.open("wb") as file:  # given a name instead, NumPy may append a suffix
            np.savez(file, tokens=self.tokens, offsets=self.offsets, labels=self.labels)

    @classmethod
    def load(cls, path: Path) -> EncodedCorpus:
        """Read what :meth:`save` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["tokens"], arrays["offsets"], arrays["labels"])


def encode_documents(
    vocabulary: Vocabulary, token_lists: Sequence[Sequence[str]], labels: npt.NDArray[np.int64]
) -> EncodedCorpus:
    """Encode documents of any length.

    Args:
        vocabulary: the vocabulary.
        token_lists: n tokenized documents.
        labels: (n,) classes of the documents.

    Raises:
        ValueError: if the numbers of documents and labels differ.
    """
    if len(token_lists) != len(labels):
        raise ValueError(
            f"every document needs a label, got {len(token_lists)} documents and {len(labels)} labels"
        )
    encoded = [vocabulary.encode(tokens) for tokens in token_lists]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(document) for document in encoded], out=offsets[1:])
    tokens = np.fromiter(chain.from_iterable(encoded), dtype=np.int32, count=int(offsets[-1]))
    return EncodedCorpus(tokens, offsets, np.asarray(labels, dtype=np.int64))


def count_twins(documents: EncodedCorpus, others: EncodedCorpus) -> int:
    """Count the `documents` that a model cannot tell from one of `others`.

    Corpora are deduplicated by their whole texts, but a model reads truncated documents in which all unknown
    words are alike. A test document that then equals a training document is not unseen.

    Args:
        documents: e.g. the test split.
        others: e.g. the training split, of the same vocabulary.
    """
    read = {others.document(i).tobytes() for i in range(len(others))}
    return sum(documents.document(i).tobytes() in read for i in range(len(documents)))
