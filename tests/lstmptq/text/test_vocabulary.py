"""Cleaning, tokenizing, the vocabulary and ragged corpora."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmptq.text.vocabulary import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    EncodedCorpus,
    Vocabulary,
    clean,
    count_twins,
    encode_documents,
    tokenize,
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  Oil\tPrices \n\n SOAR ", "oil prices soar"),
        ("Oil #39;s price", "oil 's price"),
        ("said, quot;no quot;.", 'said, "no ".'),
        ("AT &amp;amp; T &amp; Co amp; Sons", "at & t & co & sons"),
        ("&lt;b&gt;bold&lt;/b&gt; lt;br gt; move", "bold move"),
        ("&amp;lt;i&amp;gt;twice&amp;lt;/i&amp;gt;", "twice"),
        ("<a href='x'>a link</A> <!-- not\nthis --> here", "a link here"),
        ("a < b and c > d", "a < b and c > d"),
        (r"line\one\\two", "line one two"),
        ("caf&eacute; Caf&#233; CAF\u00c9", "café café café"),
        ("non&nbsp;breaking\u00a0space", "non breaking space"),
        ("New York Times; it #; was #x2014; dash", "new york times; it #; was — dash"),
        ("", ""),
        ("<br>", ""),
    ],
)
def test_clean(text, cleaned):
    assert clean(text) == cleaned


@given(st.text())
def test_clean_leaves_single_spaces_and_no_backslash(text):
    cleaned = clean(text)
    assert cleaned == " ".join(cleaned.split())
    assert "\\" not in cleaned


def test_tokenize_follows_the_english_rules():
    texts = ["he didn't say $5m, u.s. officials said.", "", "a well-known end"]
    assert tokenize(texts, 80) == [
        ["he", "did", "n't", "say", "$", "5", "m", ",", "u.s", ".", "officials", "said", "."],
        [],
        ["a", "well", "-", "known", "end"],
    ]


def test_tokenize_cuts_at_tokens_not_words():
    assert tokenize(["don't don't don't"], 3) == [["do", "n't", "do"]]
    assert tokenize(["one two three"], 2) == [["one", "two"]]


def test_clipping_before_tokenizing_changes_nothing(shared_corpus):
    import polars as pl
    import spacy

    texts = [clean(text) for text in pl.read_parquet(shared_corpus("ag_news"))["text"].head(2000)]
    tokenizer = spacy.blank("en").tokenizer
    assert tokenize(texts, 20) == [[token.text for token in tokenizer(text)][:20] for text in texts]


def test_tokenize_refuses_a_cut_at_nothing():
    with pytest.raises(ValueError, match=re.escape("max_tokens must be at least 1, got 0")):
        tokenize(["text"], 0)


def test_vocabulary_is_by_frequency_then_alphabet():
    lists = [["b", "a", "c"], ["a", "b", "d"], ["e", "<pad>", "e", "e", "<pad>", "<unk>"]]
    assert Vocabulary.build(lists, 1, 100).words == (*SPECIALS, "e", "a", "b", "c", "d")
    assert Vocabulary.build(lists, 2, 100).words == (*SPECIALS, "e", "a", "b")
    assert Vocabulary.build(lists, 1, 2).words == (*SPECIALS, "e", "a")
    assert Vocabulary.build(lists, 1, 2).ordinary == ("e", "a")
    assert len(Vocabulary.build(lists, 1, 2)) == 6


def test_specials_have_the_first_numbers():
    words = Vocabulary.build([["x"]], 1, 1)
    assert [words.index[special] for special in SPECIALS] == [PAD, UNK, BOS, EOS] == [0, 1, 2, 3]
    assert words.index["x"] == 4


def test_encode():
    words = Vocabulary((*SPECIALS, "oil", "price"))
    assert words.encode(["price", "oil", "gas"]) == [5, 4, UNK]
    assert words.encode([]) == [UNK]
    assert words.encode(["<pad>", "<eos>", "oil"]) == [UNK, UNK, 4]  # spelled in the document: no special


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a", "b"), f"a vocabulary must begin with {SPECIALS}, got ('a', 'b')"),
        ((*SPECIALS, "a", "b", "a"), "a vocabulary must have every word once, got 'a' twice"),
    ],
)
def test_vocabulary_refuses(words, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Vocabulary(words)


def test_a_vocabulary_without_words_is_refused():
    message = (
        "none of the 2 words in the training split occurs 5 times: lower min_freq or train on more documents"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        Vocabulary.build([["a", "b"], ["a"]], 5, 10)


def test_vocabulary_file(tmp_path):
    words = Vocabulary((*SPECIALS, "oil", "café", '"', "\u2028"))
    words.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == words
    assert json.loads((tmp_path / "words.json").read_text(encoding="utf-8"))[0] == "oil"


def ragged(lengths):
    tokens = np.arange(sum(lengths), dtype=np.int32)
    return EncodedCorpus(tokens, np.cumsum([0, *lengths]), np.arange(len(lengths)) * 10)


def test_documents():
    corpus = ragged([2, 1, 4])
    assert len(corpus) == 3
    assert corpus.lengths.tolist() == [2, 1, 4]
    assert [corpus.document(i).tolist() for i in range(3)] == [[0, 1], [2], [3, 4, 5, 6]]
    for outside in (-1, 3):
        with pytest.raises(IndexError, match=f"^{re.escape(f'document must be in 0..2, got {outside}')}$"):
            corpus.document(outside)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_take_gives_the_documents_asked_for(lengths, data):
    corpus = ragged(lengths)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=10))
    taken = corpus.take(rows)
    assert [taken.document(i).tolist() for i in range(len(rows))] == [
        corpus.document(i).tolist() for i in rows
    ]
    assert taken.labels.tolist() == [10 * i for i in rows]
    assert (taken.tokens.dtype, taken.offsets.dtype, taken.labels.dtype) == (np.int32, np.int64, np.int64)


@pytest.mark.parametrize(
    ("offsets", "labels", "message"),
    [
        ([0, 3], [0, 1], "there must be one more offset than labels, got 2 for 2"),
        ([0, 2], [0], "offsets must rise from 0 to 3, the number of tokens, by at least 1 per document"),
        ([1, 3], [0], "offsets must rise from 0 to 3, the number of tokens, by at least 1 per document"),
        (
            [0, 3, 3],
            [0, 0],
            "offsets must rise from 0 to 3, the number of tokens, by at least 1 per document",
        ),
    ],
)
def test_a_corpus_that_does_not_fit_is_refused(offsets, labels, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        EncodedCorpus(np.zeros(3, np.int32), np.array(offsets), np.array(labels))


def test_encode_documents_and_file(tmp_path):
    words = Vocabulary((*SPECIALS, "oil", "price"))
    corpus = encode_documents(words, [["oil", "gas"], [], ["price"]], np.array([1, 0, 1]))
    assert corpus.tokens.tolist() == [4, UNK, UNK, 5]
    assert corpus.offsets.tolist() == [0, 2, 3, 4]
    corpus.save(tmp_path / "corpus.npz")
    loaded = EncodedCorpus.load(tmp_path / "corpus.npz")
    for name in ("tokens", "offsets", "labels"):
        assert getattr(loaded, name).dtype == getattr(corpus, name).dtype
        assert np.array_equal(getattr(loaded, name), getattr(corpus, name))


def test_encode_documents_needs_a_label_a_document():
    with pytest.raises(ValueError, match=r"^every document needs a label, got 1 documents and 2 labels$"):
        encode_documents(Vocabulary((*SPECIALS, "oil")), [["oil"]], np.array([0, 1]))


def test_twins_are_documents_that_a_model_cannot_tell_apart():
    vocabulary = Vocabulary((*SPECIALS, "a", "b", "c"))

    def encoded(*texts):
        tokens = tokenize(texts, max_tokens=3)
        return encode_documents(vocabulary, tokens, np.zeros(len(texts), dtype=np.int64))

    train = encoded("a b c of the one", "c", "b a unknown")
    assert count_twins(encoded("a b c of the other", "c c", "b a strange", "c", "c", "a b"), train) == 4
    assert count_twins(train, encoded("b")) == 0
