"""tokenizer.json files of other projects: the `tokenizers` library gives the same ids, or they are refused by name."""

import json

import pytest
import tokenizers
from helpers import CORPUS, EOT, data_file, mixed
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import GPT2_PATTERN, Tokenizer

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
LLAMA3_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + (
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
BEGIN, END = "<|begin_of_text|>", "<|end_of_text|>"
ACCENTS = "cafe\u0301 na\u0308ive \u1100\u1161\u11a8 \u212b A\u030a x\u0338 <|im_end|>\u0338 <tool_call>\u0338 \u0958 "

# Without characters so new that the two libraries may assign them to different classes.
old = st.text(st.one_of(st.characters(max_codepoint=0x52F), st.sampled_from("\u2019日가각")), max_size=40)
fragments = st.sampled_from(
    [BEGIN, END, EOT, "<|im_start|>", "<|im_end|>", "<tool_call>", "<tool_", *ACCENTS.split(" ")]
)
texts = st.lists(st.one_of(old, fragments), max_size=6).map("".join)


def added(content, id_, **changes):
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": id_, "content": content, **plain, **changes}


def split(pattern):
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [step, BYTE_LEVEL]}


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The tokenizer.json of a tokenizer without special tokens, trained here by the patterns of Llama 3."""
    path = tmp_path_factory.mktemp("base") / "tokenizer.json"
    tokenizer = bpe.train_from_iterator([CORPUS, ACCENTS * 3], 400, [], pattern=LLAMA3_PATTERN)
    assert tokenizer.vocab_size == 400
    tokenizer.save_huggingface(path)
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="session")
def llama3(base):
    """A file like that of Llama 3, with tokens that merging cannot make, or not for that text."""
    vocab = {**base["model"]["vocab"]}
    for token in ("Ġxyzzy", "qqqq", "Ġcatsat"):
        vocab[token] = len(vocab)
    tokens = [added(BEGIN, len(vocab)), added(END, len(vocab) + 1)]
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": BEGIN, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {BEGIN: {"id": BEGIN, "ids": [len(vocab)], "tokens": [BEGIN]}},
    }
    return {
        **base,
        "added_tokens": tokens,
        "pre_tokenizer": split(LLAMA3_PATTERN),
        "post_processor": {"type": "Sequence", "processors": [BYTE_LEVEL, template]},
        "decoder": BYTE_LEVEL,
        "model": {**base["model"], "ignore_merges": True, "vocab": vocab},
    }


@pytest.fixture(scope="session")
def qwen(base):
    """A file like that of Qwen, with NFC and added tokens that are not special, and merges in the older form."""
    model = {**base["model"], "merges": [" ".join(merge) for merge in base["model"]["merges"]]}
    del model["ignore_merges"]
    start = len(model["vocab"])
    tokens = [
        added(EOT, start),
        added("<|im_start|>", start + 1),
        added("<|im_end|>", start + 2),
        added("<tool_call>", start + 3, special=False),
    ]
    return {
        **base,
        "added_tokens": tokens,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": split(QWEN_PATTERN),
        "post_processor": BYTE_LEVEL,
        "decoder": BYTE_LEVEL,
        "model": model,
    }


@pytest.fixture(scope="session")
def both(tmp_path_factory):
    """Function that opens a tokenizer.json here and there, and there again as saved by us."""

    def open_both(content):
        folder = tmp_path_factory.mktemp("content")
        (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        ours = Tokenizer.from_huggingface(folder / "tokenizer.json")
        ours.save_pretrained(folder / "again")
        assert Tokenizer.from_pretrained(folder / "again") == ours
        theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        again = tokenizers.Tokenizer.from_file(str(folder / "again" / "tokenizer.json"))
        return ours, theirs, again

    return open_both


@pytest.fixture(scope="session")
def llama3_both(llama3, both):
    return both(llama3)


@pytest.fixture(scope="session")
def qwen_both(qwen, both):
    return both(qwen)


def assert_same_ids(tokenizers_of_both, text):
    ours, theirs, again = tokenizers_of_both
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False).ids
    assert ids == again.encode(text, add_special_tokens=False).ids
    assert theirs.encode(text).ids == again.encode(text).ids
    if ours.normalization is None:
        assert ours.decode(ids) == again.decode(ids, skip_special_tokens=False) == text


@given(text=texts)
def test_the_kind_of_llama3(llama3_both, text):
    assert_same_ids(llama3_both, text)


def test_whole_tokens_of_llama3(llama3_both):
    ours = llama3_both[0]
    assert ours.ignore_merges
    assert len(ours.encode(" xyzzy")) == len(ours.encode("qqqq")) == len(ours.encode(" catsat")) == 1
    assert len(ours.encode(" xyzzyx")) > 1
    assert_same_ids(llama3_both, f"{BEGIN}x xyzzy qqqq qqqqq catsat catsats{END}{END} 1234 12")
    assert_same_ids(llama3_both, CORPUS)


@given(text=texts)
def test_the_kind_of_qwen(qwen_both, text):
    assert_same_ids(qwen_both, text)


def test_normal_form_and_plain_added_tokens_of_qwen(qwen_both):
    ours = qwen_both[0]
    assert ours.normalization == "NFC"
    assert ours.special_tokens == [EOT, "<|im_start|>", "<|im_end|>"]
    assert ours.added_tokens == [bpe.AddedToken("<tool_call>")]
    assert ours.encode("cafe\u0301") == ours.encode("caf\u00e9")
    assert len(ours.encode("<tool_call>")) == 1
    assert_same_ids(qwen_both, ACCENTS * 2 + CORPUS)


@pytest.fixture(scope="session")
def gpt2_both(base, both):
    """ByteLevel alone, the special token in the vocabulary, no type of model, everything in sequences of one."""
    model = {**base["model"], "vocab": {**base["model"]["vocab"], EOT: len(base["model"]["vocab"])}, "unk_token": EOT}
    del model["type"]
    byte_level = {**BYTE_LEVEL, "use_regex": True}
    return both(
        {
            **base,
            "added_tokens": [added(EOT, len(model["vocab"]) - 1, normalized=True)],
            "normalizer": {"type": "Sequence", "normalizers": []},
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Sequence", "pretokenizers": [byte_level]}],
            },
            "decoder": {"type": "Sequence", "decoders": [byte_level]},
            "model": model,
        }
    )


@given(text=texts)
def test_the_kind_of_gpt2(gpt2_both, text):
    assert gpt2_both[0].pattern == GPT2_PATTERN
    assert_same_ids(gpt2_both, text)


def test_text_that_is_not_split(both, base):
    opened = both({**base, "pre_tokenizer": BYTE_LEVEL})
    assert_same_ids(opened, CORPUS)
    assert_same_ids(opened, "a\nb  c\r\n")


@given(data=st.data(), ignore_merges=st.booleans())
def test_any_merges(both, base, data, ignore_merges):
    """Random merges, some repeated and some useless, with ids in any order and gaps between them."""
    known, merges = ["a", "b", "c"], []
    for _ in range(data.draw(st.integers(0, 6))):
        merges.append([data.draw(st.sampled_from(known)), data.draw(st.sampled_from(known))])
        known.append("".join(merges[-1]))
    merges += data.draw(st.lists(st.sampled_from(merges), max_size=2)) if merges else []
    tokens = data.draw(st.permutations(sorted({*known, "Ġ", "x", "abcabc"})))
    vocab = {token: 3 * place + 1 for place, token in enumerate(tokens)}
    model = {**base["model"], "vocab": vocab, "merges": merges, "ignore_merges": ignore_merges}
    opened = both({**base, "model": model, "pre_tokenizer": split("[abc]+|[^abc]+")})
    for text in data.draw(st.lists(st.text("aabbcc x", max_size=25), max_size=4)):
        assert_same_ids(opened, text)


@pytest.fixture(scope="session")
def odd_both(tmp_path_factory):
    """Special tokens that overlap, look like ordinary text, or have the first id."""
    odd = [EOT, 2 * EOT, "<|endof", "a b", " a", "\n\n", "<日>", "日", "'s"]
    trained = bpe.train_from_iterator([CORPUS], 400, odd)
    vocab = {id_ + 1: token for id_, token in trained.vocab.items()}
    vocab[0] = vocab.pop(trained.token_to_id("日") + 1)
    ours = Tokenizer(vocab, trained.merges, odd)
    assert ours.token_to_id("日") == 0
    path = tmp_path_factory.mktemp("odd") / "tokenizer.json"
    ours.save_huggingface(path)
    assert Tokenizer.from_huggingface(path) == ours
    theirs = tokenizers.Tokenizer.from_file(str(path))
    return ours, theirs, theirs


@given(text=mixed)
def test_special_tokens_that_are_odd(odd_both, text):
    assert_same_ids(
        odd_both, "".join(filter(lambda character: ord(character) < 0x530 or character in "\u2019日", text))
    )


DIGITS = {"type": "Digits", "individual_digits": True}
GPT2_STEP = {**BYTE_LEVEL, "use_regex": True}
SPLIT = split("a")["pretokenizers"][0]


def sequence(*steps):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "NFKC"}}, r"normalizer = \{'type': 'NFKC'\}, expected NFC or none"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}}, "Lowercase"),
        ({"normalizer": "NFC"}, "expected a JSON object"),
        ({"pre_tokenizer": None}, "pre_tokenizer = None, expected ByteLevel"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, r"\['Metaspace'\], expected ByteLevel"),
        ({"pre_tokenizer": {"type": "BertPreTokenizer"}}, r"\['BertPreTokenizer'\]"),
        (sequence(SPLIT), r"\['Split'\], expected ByteLevel, alone or with Split, Digits, Punctuation before or after"),
        (sequence(GPT2_STEP, GPT2_STEP), r"\['ByteLevel', 'ByteLevel'\]"),
        (sequence({"type": "Whitespace"}, BYTE_LEVEL), r"\['Whitespace', 'ByteLevel'\]"),
        (
            sequence(DIGITS, {**GPT2_STEP, "add_prefix_space": True}),
            r"add_prefix_space \(of ByteLevel after another step\) = True",
        ),
        (sequence({**SPLIT, "behavior": "Removed"}, BYTE_LEVEL), r"behavior \(of Split\) = 'Removed'"),
        (sequence({**SPLIT, "behavior": "Removed", "invert": True}, BYTE_LEVEL), "its pattern may leave text"),
        (
            sequence({**SPLIT, "behavior": "MergedWithPrevious"}, BYTE_LEVEL),
            "= 'MergedWithPrevious', expected 'Isolated'",
        ),
        (
            sequence({"type": "Punctuation", "behavior": "Removed"}, GPT2_STEP),
            r"behavior \(of Punctuation\) = 'Removed'",
        ),
        (sequence(GPT2_STEP, {"type": "Punctuation", "behavior": "MergedWithNext"}), r"= 'MergedWithNext'"),
        (sequence({**SPLIT, "pattern": {"String": ""}}, BYTE_LEVEL), r"pattern = .*, expected a Regex or a String"),
        (sequence({**SPLIT, "pattern": " "}, BYTE_LEVEL), r"pattern = ' ', expected a JSON object"),
        (sequence({**SPLIT, "pattern": {"Regex": r"\h+"}}, BYTE_LEVEL), r"which regex does not know"),
        (sequence({**SPLIT, "pattern": {"Regex": "(a"}}, BYTE_LEVEL), "pattern"),
        ({"post_processor": {"type": "Else"}}, "post_processor = 'Else'"),
        ({"decoder": {"type": "Metaspace"}}, "decoder = 'Metaspace'"),
        ({"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}]}}, "decoder = 'Fuse'"),
        ({"added_tokens": [added("<a>", 500)]}, "id 500 for the added token '<a>', expected 400"),
        ({"added_tokens": [added("<a>", 3)]}, "id 3 for the added token '<a>', expected 400"),
        ({"added_tokens": [added("a", 400)]}, "id 400 for the added token 'a', expected 97"),
        ({"added_tokens": [added("é", 233)]}, "one that is not written like another token"),
        ({"added_tokens": [{"id": 400}]}, "expected a content and an id"),
        ({"added_tokens": [added("<a>", 400), added("<a>", 400)]}, "each content once"),
        ({"added_tokens": "<a>"}, "expected a JSON array"),
    ],
)
def test_unsupported_settings_are_refused(base, changes, message, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({**base, **changes}), "utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        Tokenizer.from_huggingface(tmp_path / "tokenizer.json")
    assert str(tmp_path / "tokenizer.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "WordPiece"}, "model.type = 'WordPiece'"),
        ({"dropout": 0.1}, "model.dropout = 0.1"),
        ({"byte_fallback": True}, "model.byte_fallback"),
        ({"continuing_subword_prefix": "##"}, "model.continuing_subword_prefix = '##'"),
        ({"end_of_word_suffix": "</w>"}, "model.end_of_word_suffix = '</w>'"),
        ({"unk_token": "a", "vocab": {"a": 0}, "merges": []}, "model.unk_token = 'a'"),
        ({"vocab": [["a", -1.0]]}, "has no BPE model"),
        ({"vocab": {"▁the": 0}}, "has '▁', which stands for no byte"),
        ({"vocab": {"a": True}}, "has the id True for 'a'"),
        ({"vocab": {"a": 0, "b": 0}}, "has the id 0 for 'b'"),
        ({"merges": {}}, "expected a JSON array"),
        ({"merges": ["a b c"]}, "has the merge 'a b c', expected two tokens"),
        ({"merges": [["a"]]}, r"has the merge \['a'\], expected two tokens"),
        ({"merges": [["a", 1]]}, r"has the merge \['a', 1\], expected two tokens"),
        ({"merges": [["▁", "a"]]}, r"has the merge \['▁', 'a'\]: .* stands for no byte"),
        ({"merges": [["q", "q"]]}, r"merge \(b'q', b'q'\) needs token b'qq', which is not in the vocabulary"),
    ],
)
def test_unsupported_models_are_refused(base, changes, message, tmp_path):
    content = {**base, "model": {**base["model"], **changes}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        Tokenizer.from_huggingface(tmp_path / "tokenizer.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"model": {"vocab": {"a": 0', b"[]", b"null", b'"text"', b"{}", b'{"model": {"vocab": {}}}'],
)
def test_malformed_tokenizer_json_is_refused(content, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"is not JSON|has no BPE model") as caught:
        Tokenizer.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_normalized_counts_only_where_it_matters(both, base):
    opened = both({**base, "added_tokens": [added("<a>", 400, normalized=True), added("<b>", 401)]})
    assert opened[0].special_tokens == ["<a>", "<b>"]
    assert opened[0].added_tokens == []
    assert_same_ids(opened, "x<a><b>y<<a>> <b><a>")
    opened = both({**base, "added_tokens": [added("<a>", 400, normalized=True), added("x<", 401)]})
    assert opened[0].added_tokens == [bpe.AddedToken("<a>", special=True, normalized=True)]
    assert_same_ids(opened, "x<a><b>y<<a>> x<x<a>a>")


def test_gpt2s_own_tokenizer_json(gpt2):
    theirs = tokenizers.Tokenizer.from_file(str(data_file("vocabularies/gpt2_tokenizer.json")))
    text = data_file("torture_mix.txt").read_bytes()[:100_000].decode("utf-8", "ignore") + EOT
    assert gpt2.encode(text) == theirs.encode(text).ids


@pytest.mark.filterwarnings("ignore")  # of the import, which is a heavy one
def test_transformers(llama3_both, qwen_both, small, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")

    trained = bpe.train_from_iterator([CORPUS, ACCENTS], 400, [EOT, "<|pad|>", "<｜日｜>"], pattern=LLAMA3_PATTERN)
    for number, ours in enumerate((small, trained, llama3_both[0], qwen_both[0])):
        folder = tmp_path / str(number)
        ours.save_pretrained(folder)
        text = "".join(f"{token} {CORPUS}{token}{token}\n" for token in [*ours.special_tokens, "'s"]) + ACCENTS
        for theirs in (
            transformers.AutoTokenizer.from_pretrained(folder),
            transformers.PreTrainedTokenizerFast.from_pretrained(folder),
            transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")),
        ):
            assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
            assert theirs.decode(ours.encode(text)) == ours.decode(ours.encode(text))
            assert len(theirs) == ours.vocab_size
        assert transformers.AutoTokenizer.from_pretrained(folder).eos_token_id == ours.eot_id
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / f"theirs {number}")
        again = Tokenizer.from_pretrained(tmp_path / f"theirs {number}")
        assert again.encode(text) == ours.encode(text)
