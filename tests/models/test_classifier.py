import csv
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ReduceLROnPlateau as LightningPlateau
from lightning.pytorch.loggers import CSVLogger
from scipy.special import softmax
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, recall_score
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader

from lightning_emerge.data.synthetic import TokenDataModule
from lightning_emerge.models.classifier import TokenClassifier
from lightning_emerge.models.rate import RiseAndFall
from lightning_emerge.models.vgg import VGG

NAMES = ("dax", "wug", "blick", "fep", "toma")
# Lightning's advice on worker processes; the batches are looked up in memory, so there is nothing for them to do.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def vgg(**arguments) -> VGG:
    return VGG(**{"plan": [1], "width": 2, "head": [], "image_size": 8, **arguments})


def make_trainer(**arguments) -> Trainer:
    silences = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    small = {"accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 2, "num_sanity_val_steps": 0}
    return Trainer(**{**dict.fromkeys(silences, False), **small, **arguments})


def whole(batches: list) -> DataLoader:
    """A loader of batches that are batches already."""
    return DataLoader(batches, batch_size=None)


@pytest.fixture(scope="module")
def data() -> TokenDataModule:
    return TokenDataModule(image_size=8, val_exemplars=4, test_exemplars=3, bank_exemplars=2)


class Given(nn.Module):
    """Takes logits for images, so that what is evaluated is known."""

    tokens = 4

    def forward(self, images):
        return images


@pytest.fixture
def answers():
    """Made-up logits and labels in batches of unequal size."""
    random = np.random.default_rng(3)
    labels = random.permutation(np.repeat(np.arange(4), [9, 5, 14, 3]))
    logits = random.normal(size=(len(labels), 4)) + 1.5 * np.eye(4)[labels]
    batches = [
        {"image": torch.tensor(logits[rows]), "label": torch.tensor(labels[rows]), "id": [f"x{row}" for row in rows]}
        for rows in np.split(np.arange(len(labels)), [4, 20])
    ]
    return logits, labels, whole(batches)


class TestCheckData:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"tokens": 4}, r"it has 4, the data have 5 tokens\. Set --model\.network\.init_args\.tokens=5\."),
            ({"image_size": 16}, r"image_size; the network has 16, the data have 8\. Set .*image_size=8\."),
            ({"channels": 1}, r"channels; the network has 1, the data have 3\. Set .*channels=3\."),
        ],
    )
    def test_a_network_for_other_data_is_refused_with_the_key_to_set(self, data, arguments, message):
        with pytest.raises(ValueError, match=message):
            TokenClassifier(vgg(**arguments)).check_data(data)

    def test_a_network_for_these_data_is_not(self, data):
        TokenClassifier(vgg()).check_data(data)

    def test_what_neither_side_says_is_not_compared(self, data):
        TokenClassifier(nn.Flatten()).check_data(data)
        TokenClassifier(vgg(tokens=3)).check_data(SimpleNamespace())

    def test_a_fit_checks_first(self, data):
        with pytest.raises(ValueError, match="it has 4, the data have 5"):
            make_trainer().fit(TokenClassifier(vgg(tokens=4)), datamodule=data)

    def test_a_network_that_says_no_tokens_needs_data_that_do(self, answers):
        with pytest.raises(ValueError, match="neither has it"):
            make_trainer().validate(TokenClassifier(nn.Identity()), dataloaders=answers[2], verbose=False)


class TestOptimizers:
    def test_adam_is_the_default_and_gets_the_network_s_parameters(self):
        module = TokenClassifier(vgg())
        optimizer = module.configure_optimizers()
        assert type(optimizer) is Adam
        given = optimizer.param_groups[0]["params"]
        assert [id(parameter) for parameter in given] == [id(parameter) for parameter in module.network.parameters()]

    def test_any_other_with_its_arguments(self):
        optimizer = TokenClassifier(vgg(), partial(SGD, lr=0.3, momentum=0.7)).configure_optimizers()
        assert type(optimizer) is SGD
        assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.3, 0.7)

    @pytest.mark.parametrize(("interval", "rate"), [("step", 0.1 * 0.5**4), ("epoch", 0.1 * 0.5**2)])
    def test_a_scheduler_counts_steps_or_epochs(self, data, interval, rate):
        module = TokenClassifier(vgg(), partial(SGD, lr=0.1), partial(StepLR, step_size=1, gamma=0.5), interval)
        trainer = make_trainer(max_epochs=2)
        trainer.fit(module, datamodule=data)
        assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(rate)
        assert float(trainer.callback_metrics["learning_rate"]) > rate

    @pytest.mark.parametrize(
        ("scheduler", "monitor"),
        [
            (partial(ReduceLROnPlateau, patience=0, factor=0.1, threshold=10.0), "val/loss"),
            (partial(LightningPlateau, monitor="train/loss", patience=0, factor=0.1, threshold=10.0), "train/loss"),
        ],
    )
    def test_a_plateau_lowers_the_rate(self, data, scheduler, monitor):
        module = TokenClassifier(vgg(), partial(SGD, lr=0.1), scheduler)
        trainer = make_trainer(max_epochs=3)
        trainer.fit(module, datamodule=data)
        assert trainer.lr_scheduler_configs[0].monitor == monitor
        assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.1**3)

    @pytest.mark.parametrize(
        "scheduler", [RiseAndFall, partial(RiseAndFall, rise=0.3), partial(OneCycleLR, max_lr=0.1)]
    )
    def test_one_cycle_lasts_as_long_as_the_run(self, data, scheduler):
        module = TokenClassifier(vgg(), partial(SGD, lr=0.1), scheduler, "step")
        trainer = make_trainer(max_epochs=2, limit_train_batches=5)
        trainer.fit(module, data)
        assert trainer.lr_scheduler_configs[0].scheduler.total_steps == 10

    @pytest.mark.parametrize("length", [{"total_steps": 7}, {"epochs": 1, "steps_per_epoch": 7}])
    def test_one_cycle_with_a_length_of_its_own_keeps_it(self, data, length):
        module = TokenClassifier(vgg(), partial(SGD, lr=0.1), partial(OneCycleLR, max_lr=0.4, **length), "step")
        trainer = make_trainer()
        trainer.fit(module, data)
        assert trainer.lr_scheduler_configs[0].scheduler.total_steps == 7

    @pytest.mark.parametrize(
        ("interval", "arguments", "words"),
        [("epoch", {}, "scheduler_interval=step"), ("step", {"max_epochs": -1, "max_steps": -1}, "max_epochs")],
    )
    def test_one_cycle_without_an_end_or_by_epoch_is_refused(self, data, interval, arguments, words):
        module = TokenClassifier(vgg(), partial(SGD, lr=0.1), RiseAndFall, interval)
        with pytest.raises(ValueError, match=words):
            make_trainer(**arguments).fit(module, data)

    def test_an_improvement_is_no_plateau(self, data):
        scheduler = partial(ReduceLROnPlateau, patience=0, factor=0.1, threshold=-10.0)
        trainer = make_trainer(max_epochs=3)
        trainer.fit(TokenClassifier(vgg(), partial(SGD, lr=0.1), scheduler), datamodule=data)
        assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1)


class TestFit:
    def test_it_logs_the_names_it_promises_and_no_others(self, data):
        trainer = make_trainer()
        trainer.fit(TokenClassifier(vgg()), datamodule=data)
        training = {"train/loss", "train/accuracy", "learning_rate"}
        validation = {"val/loss", "val/accuracy", *(f"val/accuracy/{name}" for name in NAMES)}
        assert set(trainer.callback_metrics) == training | validation

    @pytest.mark.filterwarnings("ignore:You defined a `validation_step`")  # there is nothing to validate here
    def test_loggers_get_each_value_of_the_batch_at_their_step(self, tmp_path):
        torch.manual_seed(0)
        batches = [{"image": torch.randn(4, 3, 8, 8), "label": torch.arange(4), "id": [f"{k}"] * 4} for k in range(5)]
        module = TokenClassifier(vgg(tokens=4, width=4), partial(SGD, lr=0.0))
        trainer = make_trainer(limit_train_batches=5, log_every_n_steps=2, logger=CSVLogger(tmp_path, "", ""))
        trainer.fit(module, train_dataloaders=whole(batches))
        with torch.no_grad():
            losses = [float(cross_entropy(module(batch["image"]), batch["label"])) for batch in batches]
        with (tmp_path / "metrics.csv").open() as file:
            logged = {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(file)}
        assert logged == pytest.approx({1: losses[1], 3: losses[3]})
        assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(losses[4])  # what callbacks see

    def test_a_test_logs_its_own(self, data):
        (found,) = make_trainer().test(TokenClassifier(vgg()), datamodule=data, verbose=False)
        assert set(found) == {"test/loss", "test/accuracy", *(f"test/accuracy/{name}" for name in NAMES)}

    @pytest.mark.filterwarnings("ignore:You defined a `validation_step`")  # there is nothing to validate here
    def test_training_lowers_the_loss_on_what_it_sees(self):
        torch.manual_seed(0)
        labels = torch.arange(40) % 4
        images = 0.3 * torch.randn(40, 3, 8, 8) + nn.functional.one_hot(labels, 4)[:, :3, None, None]
        batches = [{"image": images, "label": labels, "id": [str(k) for k in range(40)]}] * 60
        module = TokenClassifier(vgg(tokens=4, width=4), partial(Adam, lr=0.03))
        trainer = make_trainer(limit_train_batches=60, log_every_n_steps=10)
        trainer.fit(module, train_dataloaders=whole(batches))
        assert float(trainer.callback_metrics["train/loss"]) < 0.5 * np.log(4)
        assert float(trainer.callback_metrics["train/accuracy"]) > 0.7

    @pytest.mark.filterwarnings("ignore:You defined a `validation_step`")  # there is nothing to validate here
    def test_one_step_of_gradient_descent_is_the_textbook_s(self):
        network = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False))
        network.tokens = 3
        nn.init.zeros_(network[1].weight)
        image, label = torch.tensor([[[[1.0, -2.0]]], [[[0.5, 3.0]]]]), torch.tensor([0, 2])
        batches = [{"image": image, "label": label, "id": ["a", "b"]}]
        trainer = make_trainer(limit_train_batches=1, log_every_n_steps=1)
        trainer.fit(TokenClassifier(network, partial(SGD, lr=0.1)), train_dataloaders=whole(batches))
        wrong = 1 / 3 - np.eye(3)[label.numpy()]
        expected = -0.1 * wrong.T @ image.reshape(2, 2).numpy() / 2
        np.testing.assert_allclose(network[1].weight.detach().numpy(), expected, atol=1e-6)
        assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(np.log(3))


class TestEvaluation:
    @pytest.mark.parametrize("split", ["val", "test"])
    def test_metrics_are_those_of_scikit_learn(self, answers, split):
        logits, labels, batches = answers
        module, trainer = TokenClassifier(Given()), make_trainer()
        run = trainer.validate if split == "val" else trainer.test
        (found,) = run(module, dataloaders=batches, verbose=False)
        guesses = logits.argmax(axis=1)
        assert found[f"{split}/accuracy"] == pytest.approx(accuracy_score(labels, guesses))
        assert found[f"{split}/loss"] == pytest.approx(log_loss(labels, softmax(logits, axis=1)))
        for token, recall in enumerate(recall_score(labels, guesses, average=None)):
            assert found[f"{split}/accuracy/{token}"] == pytest.approx(recall)
        np.testing.assert_array_equal(module.confusion[split], confusion_matrix(labels, guesses))

    def test_a_second_validation_forgets_the_first(self, answers):
        _, labels, batches = answers
        module, trainer = TokenClassifier(Given()), make_trainer()
        trainer.validate(module, dataloaders=batches, verbose=False)
        trainer.validate(module, dataloaders=batches, verbose=False)
        assert int(module.confusion["val"].sum()) == len(labels)

    def test_a_test_leaves_the_validation_s_confusion(self, answers):
        module, trainer = TokenClassifier(Given()), make_trainer()
        trainer.validate(module, dataloaders=answers[2], verbose=False)
        trainer.test(module, dataloaders=whole(answers[2].dataset[:1]), verbose=False)
        assert int(module.confusion["val"].sum()) == 31
        assert int(module.confusion["test"].sum()) == 4

    def test_names_come_from_the_data_or_else_are_numbers(self, data, answers):
        named, numbered = TokenClassifier(vgg()), TokenClassifier(Given())
        make_trainer().validate(named, datamodule=data, verbose=False)
        make_trainer().validate(numbered, dataloaders=answers[2], verbose=False)
        assert named.tokens == NAMES
        assert numbered.tokens == ("0", "1", "2", "3")


class TestPrediction:
    def test_ids_names_and_probabilities(self, answers):
        logits, _, batches = answers
        predicted = make_trainer().predict(TokenClassifier(Given()), dataloaders=batches)
        assert [set(batch) for batch in predicted] == [{"id", "token", "probabilities"}] * 3
        assert [one for batch in predicted for one in batch["id"]] == [f"x{row}" for row in range(31)]
        assert [one for batch in predicted for one in batch["token"]] == [str(k) for k in logits.argmax(axis=1)]
        probabilities = torch.cat([batch["probabilities"] for batch in predicted])
        np.testing.assert_allclose(probabilities, softmax(logits, axis=1))

    def test_forward_is_the_network_s(self):
        network, images = vgg(), torch.randn(2, 3, 8, 8)
        assert torch.equal(TokenClassifier(network)(images), network(images))
