"""Probes in Hugging Face's Trainer: what is resumed, which look is the last, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

import lightning_emerge as le
from lightning_emerge.loops.huggingface import FILE, WatchCallback

TOKENS, STEPS = 2, 6
SIZE = le.Record("size", ("layer",))


class Sizes(le.Probe):
    """The sum of squares of each weight."""

    needs = (le.Past(),)
    records = (SIZE,)

    def measure(self, capture: le.Capture) -> Any:
        sizes = [float((weight**2).sum()) for weight in capture.weights.values()]
        yield SIZE.of(np.array(sizes), le.Axis("layer", capture.layers))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(4, TOKENS)

    def forward(self, values: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        logits = self.head(values)
        return logits if labels is None else {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Data(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, number: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(number)
        return {"values": torch.randn(4, generator=generator), "labels": number % TOKENS}


class Stop(TrainerCallback):
    """Ends a training as an error does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def make_trainer(
    folder: Path, callbacks: Sequence[Any], *, model: nn.Module | None = None, data: Any = None, **changes: Any
) -> Trainer:
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": STEPS, "logging_strategy": "no", **changes}
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=4, report_to="none", disable_tqdm=True, use_cpu=True, **settings
    )
    data = data or Data()
    trainer = Trainer(model or Network(), arguments, train_dataset=data, eval_dataset=data, callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    return trainer


def make_probes(schedule: le.Schedule | None = None) -> list[le.Probe]:
    kinds = (Sizes, le.GradientProbe)
    return [kind(schedule or le.EverySteps(1), on_error="raise") for kind in kinds]


def test_a_training_that_was_stopped_and_resumes_has_the_records_of_one_that_was_not(tmp_path):
    make_trainer(tmp_path / "whole", [WatchCallback(make_probes())]).train()
    stopped = WatchCallback(make_probes())
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "part", [stopped, Stop(5)]).train()
    stopped.close()
    assert torch.load(tmp_path / "part/checkpoint-4" / FILE, weights_only=True)["step"] == 4
    make_trainer(tmp_path / "part", [WatchCallback(make_probes())]).train(resume_from_checkpoint=True)
    whole, part = (le.open_run(tmp_path / name).load() for name in ("whole", "part"))
    assert whole.step.values.tolist() == list(range(STEPS + 1))
    xr.testing.assert_identical(part, whole)


class Lower(le.Schedule):
    """Looks when the loss is lower than it ever was."""

    def __init__(self) -> None:
        self._heard: list[float] = []
        self._looks = {0}

    def __call__(self, step: int) -> bool:
        return step in self._looks

    def hear(self, step: int, loss: float) -> None:
        if loss < min(self._heard, default=loss):
            self._looks.add(step + 1)
        self._heard.append(loss)


def test_a_schedule_may_follow_the_loss_that_is_logged_at_each_step(tmp_path):
    logs = {"logging_strategy": "steps", "logging_steps": 1, "learning_rate": 0.05}
    whole = make_trainer(tmp_path / "whole", [WatchCallback([Sizes(Lower(), on_error="raise")])], **logs)
    whole.train()
    losses = [row["loss"] for row in whole.state.log_history if "loss" in row]
    assert len(losses) == STEPS
    lower = {step + 1 for step in range(2, STEPS) if losses[step - 1] < min(losses[: step - 1])}
    assert 0 < len(lower) < STEPS - 2, "nothing to tell apart"
    assert le.open_run(tmp_path / "whole").step.values.tolist() == sorted({0, STEPS} | lower)

    stopped = WatchCallback([Sizes(Lower(), on_error="raise")])
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "part", [stopped, Stop(3)], **logs).train()
    stopped.close()
    resumed = make_trainer(tmp_path / "part", [WatchCallback([Sizes(Lower(), on_error="raise")])], **logs)
    resumed.train(resume_from_checkpoint=True)
    assert le.open_run(tmp_path / "part").step.values.tolist() == sorted({0, STEPS} | lower)

    with pytest.raises(ValueError, match=r"LossMoved follows .*logging_steps=1; got 'no'"):
        make_trainer(tmp_path / "silent", [WatchCallback([Sizes(le.LossMoved())])]).train()
    assert not (tmp_path / "silent/records.zarr").exists()


def test_a_checkpoint_without_ours_is_resumed_at_its_step(tmp_path):
    make_trainer(tmp_path, [], max_steps=4).train()
    make_trainer(tmp_path, [WatchCallback(make_probes())]).train(resume_from_checkpoint=True)
    assert le.open_run(tmp_path).step.values.tolist() == [4, 5, 6]


def test_the_last_look_is_at_the_last_weights_and_not_at_the_best(tmp_path):
    seen: list[float] = []

    class See(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: nn.Module, **given: Any) -> None:
            seen.append(float((model.head.weight.detach() ** 2).sum()))

    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "greater_is_better": True}
    callbacks = [WatchCallback([Sizes(le.At([1]), on_error="raise")]), See()]
    trainer = make_trainer(tmp_path, callbacks, metric_for_best_model="loss", learning_rate=0.1, **best)
    trainer.train()
    assert not trainer.state.best_model_checkpoint.endswith("-6"), "the last is the best, so that nothing is seen"
    found = le.open_run(tmp_path).load()["size"]
    assert found.step.values.tolist() == [1, 6]
    np.testing.assert_allclose(found.values[:, 0], [seen[0], seen[-1]], rtol=1e-6)


def test_epochs_are_known_and_what_was_logged_is_kept(tmp_path):
    callback = WatchCallback(Sizes(le.Epochs(1), on_error="raise"))
    make_trainer(
        tmp_path, [callback], save_strategy="no", logging_strategy="steps", logging_steps=2, max_steps=7
    ).train()
    assert le.open_run(tmp_path).step.values.tolist() == [0, 3, 6, 7]
    assert {"loss", "learning_rate"} <= le.Run(tmp_path, forgiving=True).fit["metrics"].keys()


def test_weights_that_are_split_are_refused(tmp_path):
    trainer = make_trainer(tmp_path, [WatchCallback(make_probes())], save_strategy="no")
    trainer.args.fsdp = "full_shard"
    with pytest.raises(ValueError, match="whole weights"):
        trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control)


def test_a_callback_gets_probes():
    with pytest.raises(ValueError, match="got a PrinterCallback"):
        WatchCallback([PrinterCallback()])


def test_a_model_of_token_ids_is_watched_as_it_is(tmp_path):
    """Its own loss, its own outputs with `logits`, and inputs by name."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, max_position_embeddings=8, num_labels=2, **sizes))
    ids, labels = torch.randint(2, 20, (20, 6)), torch.arange(20) % TOKENS
    ids[:, 0] = labels
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    names = tuple(f"text/{number:02d}" for number in range(20))
    bank = le.StimulusBank(inputs, labels, names, ("first", "second"))
    rows = [{"input_ids": one, "attention_mask": torch.ones_like(one), "labels": int(one[0])} for one in ids]
    layers = ["bert.encoder.layer.*.output.dense", "classifier"]
    probes = [kind(le.At([0]), layers, on_error="raise") for kind in (le.SimilarityProbe, le.TokenGradientProbe)]
    trainer = make_trainer(tmp_path, [WatchCallback(probes, bank)], save_strategy="no", model=model, data=rows)
    trainer.train()
    found = le.open_run(tmp_path).load()
    assert found.step.values.tolist() == [0, STEPS]
    assert found.stimulus.values.tolist() == list(names)
    assert np.isfinite(found.rdm).all()
    with torch.no_grad():
        answers = model.eval()(**inputs).logits
    loss = nn.functional.cross_entropy(answers, labels)
    looked = le.look(model, bank, [Answers()])
    np.testing.assert_allclose(looked["loss"], loss, rtol=1e-5)


class Answers(le.Probe):
    """The cross-entropy of outputs."""

    needs = (le.Outputs(),)
    records = (le.Record("loss"),)

    def measure(self, capture: le.Capture) -> Any:
        loss = nn.functional.cross_entropy(capture.outputs, capture.bank.labels)
        yield self.records[0].of(np.array(float(loss)))
