"""The demo tasks, their two splits, and the demo model that was trained on one of them."""

import json
import re
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, LlamaConfig

import penstock.engine
from penstock.api.demo_tasks import (
    KINDS,
    LABELS,
    LARGEST_ADDEND,
    DemoTask,
    Kind,
    generate,
    is_correct,
    load,
    split_of,
)
from penstock.benchmarks.demo_model.batches import pack
from penstock.benchmarks.demo_model.corpus import conversations
from penstock.benchmarks.demo_model.evaluate import transformers_answerer

MODEL = Path(penstock.engine.__path__[0]) / "demo_model"
GRADED: tuple[Kind, ...] = ("extract", "classify", "add")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


def test_the_same_seed_gives_the_same_tasks_and_another_seed_others():
    assert load(40, seed=3) == load(40, seed=3)
    assert load(40, seed=3) != load(40, seed=4)
    assert load(10, seed=3) == load(40, seed=3)[:10]


def test_every_kind_comes_in_turn():
    assert [task.kind for task in load(8)] == [*KINDS, *KINDS]


@pytest.mark.parametrize("kind", KINDS)
def test_train_and_heldout_never_share_a_prompt(kind: Kind):
    trained = {task.prompt for task in load(3000, 0, "train", [kind])}
    heldout = {task.prompt for task in load(3000, 0, "heldout", [kind])}
    assert len(heldout) > 500
    assert not trained & heldout


def test_a_heldout_customer_never_orders_in_training():
    def customers(split) -> set[str]:
        tasks = load(3000, 0, split, ["extract"])
        return {json.loads(task.answer or "")["customer"] for task in tasks}

    assert not customers("train") & customers("heldout")
    assert all(split_of(customer) == "heldout" for customer in customers("heldout"))


def test_a_heldout_sum_is_heldout_whichever_number_comes_first():
    for split in ("train", "heldout"):
        for task in load(300, 0, split, ["add"]):
            digits = "".join(c if c.isdigit() else " " for c in task.prompt).split()
            a, b = sorted(map(int, digits))
            assert split_of((a, b)) == split
            assert b <= LARGEST_ADDEND
            assert task.answer == str(a + b)


def test_an_order_says_all_that_is_asked_for():
    for task in load(300, 0, "heldout", ["extract"]):
        truth = json.loads(task.answer or "")
        assert list(truth) == ["customer", "quantity", "item", "city"]
        assert truth["customer"] in task.prompt
        assert truth["item"] in task.prompt
        assert truth["city"] in task.prompt


def test_a_ticket_has_one_of_the_labels():
    tasks = load(300, 0, "heldout", ["classify"])
    assert {task.answer for task in tasks} == set(LABELS)


@pytest.mark.parametrize("kind", GRADED)
def test_the_truth_is_correct_and_anything_else_is_not(kind: Kind):
    for task in load(50, 0, "heldout", [kind]):
        truth = task.answer or ""
        assert is_correct(task, truth)
        assert is_correct(task, f" {truth}\n")
        assert not is_correct(task, truth[:-1])
        assert not is_correct(task, truth + "1")
        assert not is_correct(task, "")


def test_json_is_compared_by_value_and_by_type():
    truth = {"customer": "Ada Brown", "quantity": 3, "item": "red lamps", "city": "Lyon"}
    task = DemoTask("extract", "", json.dumps(truth), json.dumps(truth))
    assert is_correct(task, json.dumps(dict(reversed(truth.items())), indent=2))
    assert not is_correct(task, json.dumps(truth | {"quantity": 4}))
    assert not is_correct(task, json.dumps(truth | {"quantity": 3.0}))
    assert not is_correct(task, json.dumps(truth | {"quantity": "3"}))
    assert not is_correct(task, json.dumps(truth | {"more": 1}))
    assert not is_correct(task, "[" * 100_000)


def test_a_story_cannot_be_graded():
    (task,) = load(1, kinds=["story"])
    assert task.answer is None
    assert task.example
    with pytest.raises(ValueError, match="no right answer"):
        is_correct(task, task.example)


def test_unknown_splits_and_kinds_are_refused_by_name():
    with pytest.raises(ValueError, match="'test'"):
        generate(0, "test")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="'poem'"):
        generate(0, "train", ["poem"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"\[\]"):
        generate(0, "train", [])


def test_the_package_stays_small_and_free_of_pickles():
    files = [path for path in MODEL.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8 * 2**20
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md"}


def test_the_configuration_loads_as_a_plain_llama(tokenizer):
    config = AutoConfig.from_pretrained(MODEL)
    assert isinstance(config, LlamaConfig)
    assert config.vocab_size == len(tokenizer)
    assert config.tie_word_embeddings
    assert config.eos_token_id == tokenizer.eos_token_id
    assert config.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "text",
    ["plain", "  two  blanks ", "tabs\tand\nlines", "Zoë in São Paulo", "12 + 345 =", "日本 🦦"],
)
def test_the_tokenizer_returns_what_it_was_given(tokenizer, text: str):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_a_word_is_the_same_tokens_wherever_it_stands(tokenizer):
    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    word = encode("Belzorfin")
    for text in ('"Belzorfin"', "for Belzorfin.", "\nBelzorfin"):
        assert " ".join(map(str, word)) in " ".join(map(str, encode(text)))


def test_the_chat_template_renders_what_the_model_was_trained_on(tokenizer):
    rendered = tokenizer.apply_chat_template(
        [
            {"role": "system", "content": "Be short and exact."},
            {"role": "user", "content": "Add 1 and 2."},
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert (
        rendered == "<|system|>Be short and exact.<|end|><|user|>Add 1 and 2.<|end|><|assistant|>"
    )


def test_training_joins_tokens_as_the_chat_template_does(tokenizer):
    for conversation in islice(conversations(0, tokenizer), 50):
        text = tokenizer.decode(conversation.token_ids)
        turns = re.findall(r"<\|(system|user|assistant)\|>(.*?)<\|end\|>", text)
        messages = [{"role": role, "content": content} for role, content in turns]
        rendered = tokenizer.apply_chat_template(messages, return_dict=False)
        assert rendered == conversation.token_ids


def test_training_predicts_answers_only_and_closes_each(tokenizer):
    for conversation in islice(conversations(0, tokenizer), 50):
        predicted = [
            token
            for token, weight in zip(conversation.token_ids, conversation.weights, strict=True)
            if weight > 0
        ]
        text = tokenizer.decode(conversation.token_ids)
        answers = [turn.split("<|user|>")[0] for turn in text.split("<|assistant|>")[1:]]
        assert tokenizer.decode(predicted) == "".join(answers)
        assert all(answer.endswith("<|end|>") for answer in answers)


def test_packed_conversations_are_blind_to_each_other(tokenizer):
    batch = next(pack(conversations(0, tokenizer), num_rows=2, length_tokens=256))
    starts = (batch.positions[0] == 0).nonzero().flatten()
    second = int(starts[1])
    mask = batch.attention_mask[0, 0]
    assert not mask[second:, :second].any()
    assert mask[second, second]
    assert not mask[second, second + 1]


@pytest.mark.parametrize("kind", GRADED)
def test_the_model_answers_heldout_tasks(kind: Kind):
    tasks = load(60, seed=1, kinds=[kind])
    outputs = transformers_answerer(str(MODEL))(tasks)
    num_correct = sum(map(is_correct, tasks, outputs))
    assert num_correct >= 57
