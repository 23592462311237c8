from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_emerge.data.datamodule import ExemplarDataModule, check_lowest
from lightning_emerge.data.dataset import Exemplars, Visit, normalise
from lightning_emerge.data.synthetic import TokenDataModule


def make(**arguments) -> TokenDataModule:
    small = {"image_size": 8, "val_exemplars": 30, "test_exemplars": 20, "bank_exemplars": 4}
    return TokenDataModule(**{**small, **arguments})


@pytest.fixture(scope="module")
def data() -> TokenDataModule:
    module = make()
    module.setup("fit")
    return module


def ids(loader) -> list[list[str]]:
    return [batch["id"] for batch in loader]


@pytest.mark.parametrize(("name", "lowest"), [("image_size", 8), ("batch_size", 1), ("seed", 0), ("num_workers", 0)])
def test_an_argument_below_its_lowest_value_is_refused(name, lowest):
    make(**{name: lowest})
    with pytest.raises(ValueError, match=rf"data\.{name} is at least {lowest}; got {lowest - 1}\."):
        make(**{name: lowest - 1})


def test_it_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        ExemplarDataModule(image_size=8, batch_size=1, seed=0, num_workers=0)


def test_the_first_of_several_arguments_that_are_too_low_is_named():
    check_lowest(one=(1, 1), other=(0, 0))
    with pytest.raises(ValueError, match=r"^data\.other is at least 4; got 3\.$"):
        check_lowest(one=(1, 1), other=(3, 4), third=(0, 9))


class Few(ExemplarDataModule):
    """Two tokens, of the first of which there are fewer; the epoch is added to each training image."""

    tokens = ("a", "b")

    def load(self):
        def split(name, labels, augment=None):
            images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 8, 8)
            return Exemplars(images, torch.tensor(labels), tuple(f"{name}/{k}" for k in range(len(labels))), augment)

        labels = [1, 0, 1, 1, 0, 1]
        splits = {name: split(name, labels) for name in ("val", "test", "bank")}
        return {"train": split("train", labels, lambda images, visit: images + 10 * visit.epoch), **splits}


def few(**changes) -> Few:
    module = Few(**{"image_size": 8, "batch_size": 3, "seed": 0, "num_workers": 0, **changes})
    module.setup("fit")
    return module


class TestExamples:
    @pytest.mark.parametrize(("count", "positions"), [(1, [[1], [0]]), (2, [[1, 4], [0, 2]]), (9, [[1, 4], [0, 2]])])
    def test_they_are_the_first_of_each_token_as_many_as_the_token_with_the_fewest_has(self, count, positions):
        for split in ("train", "val"):
            examples = few().examples(split, count)
            assert examples.dtype == torch.uint8
            assert examples.shape == (2, len(positions[0]), 3, 8, 8)
            assert examples[:, :, 0, 0, 0].tolist() == positions

    def test_of_rendered_tokens_they_are_what_is_rendered(self, data):
        examples = data.examples("test", 3)
        for token, own in zip(data.tokens, examples, strict=True):
            assert torch.equal(own, torch.from_numpy(data.images("test", token, range(3))))


class TestEpochs:
    def batches(self, module: Few, epoch: int) -> list:
        loader = module.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return list(loader)

    @pytest.mark.filterwarnings("ignore:This DataLoader will create")  # there may be fewer cores
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_what_augments_learns_the_epoch_in_worker_processes_too(self, num_workers):
        module = few(num_workers=num_workers)
        for epoch in (0, 3):
            for batch in self.batches(module, epoch):
                positions = torch.tensor([int(one.split("/")[1]) for one in batch["id"]])
                expected = normalise(positions + 10 * epoch)[:, None, None, None].expand(-1, 3, 8, 8)
                torch.testing.assert_close(batch["image"], expected)

    def test_the_bank_and_evaluation_are_not_augmented(self):
        module = few()
        torch.testing.assert_close(module.stimulus_bank().images[:, 0, 0, 0], normalise(torch.arange(6)))
        loader = module.val_dataloader()
        loader.sampler.set_epoch(4)
        assert sorted(torch.cat([batch["image"][:, 0, 0, 0] for batch in loader])) == sorted(normalise(torch.arange(6)))


@pytest.mark.parametrize(("count", "allowed"), [(1, True), (3, True), (2, False)])
def test_processes_that_cannot_share_a_batch_are_refused_before_training(count, allowed):
    module = few()
    if allowed:
        module.check_processes(count)
    else:
        with pytest.raises(ValueError, match="batch_size 3 with 2 processes"):
            module.check_processes(count)


def test_more_processes_than_there_are_exemplars_are_refused_before_training():
    with pytest.raises(ValueError, match="6 exemplars are too few"):
        few(batch_size=7).check_processes(7)


def test_an_exemplar_is_looked_up_by_a_visit(data):
    batch = data.val_dataloader().dataset[Visit([0, 31], 0)]
    assert batch["id"] == ["val/dax/000000", "val/wug/000001"]
    assert batch["label"].tolist() == [0, 1]


def test_image_shape_is_the_shape_of_a_batch_s_image(data):
    assert next(iter(data.train_dataloader()))["image"].shape[1:] == data.image_shape == (3, 8, 8)


def test_setup_loads_once():
    class Counting(TokenDataModule):
        loads = 0

        def load(self):
            self.loads += 1
            return super().load()

    module = Counting(image_size=8, val_exemplars=2, test_exemplars=2, bank_exemplars=2)
    for stage in ("fit", "validate", "test", "predict"):
        module.setup(stage)
    assert module.loads == 1


def test_training_batches_are_whole_and_repeat_nothing(data):
    batches = ids(data.train_dataloader())
    assert [len(batch) for batch in batches] == [32] * 78
    seen = list(chain.from_iterable(batches))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(("name", "count"), [("val", 150), ("test", 100), ("predict", 100)])
def test_evaluation_visits_every_exemplar_once(data, name, count):
    seen = list(chain.from_iterable(ids(getattr(data, f"{name}_dataloader")())))
    assert len(set(seen)) == len(seen) == count
    assert {one.split("/")[0] for one in seen} == {"test" if name == "predict" else name}


def test_the_bank_is_what_the_network_would_get(data):
    bank = data.stimulus_bank()
    assert bank.tokens == data.tokens
    assert bank.images.dtype == torch.float32
    assert (bank.images >= -2).all()
    assert (bank.images <= 2).all()
    assert bank.images.std() > 0.3


def test_the_bank_is_in_no_loader(data):
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader())
    seen = {one for loader in loaders for batch in ids(loader) for one in batch}
    assert not seen & set(data.stimulus_bank().ids)


@pytest.mark.parametrize("split", ["train", "val", "test", "predict"])
def test_two_ranks_share_out_the_batches_of_one(data, monkeypatch, split):
    def batches(rank: int, world_size: int) -> list[list[str]]:
        cpu = SimpleNamespace(root_device=torch.device("cpu"))
        trainer = SimpleNamespace(global_rank=rank, world_size=world_size, current_epoch=0, strategy=cpu)
        monkeypatch.setattr(data, "trainer", trainer)
        return ids(getattr(data, f"{split}_dataloader")())

    one, first, second = batches(0, 1), batches(0, 2), batches(1, 2)
    assert [sorted(batch) for batch in one] == [sorted(a + b) for a, b in zip(first, second, strict=True)]


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers"
)  # Lightning's advice: batches are looked up in memory
def test_a_trainer_gives_each_epoch_an_order_of_its_own():
    class Listening(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen: dict[int, list[str]] = {0: [], 1: []}

        def training_step(self, batch, batch_idx):
            self.seen[self.current_epoch] += batch["id"]
            return self.weight.sum()

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Listening()
    trainer = Trainer(
        max_epochs=2,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=make(batch_size=500))
    assert sorted(module.seen[0]) == sorted(module.seen[1])
    assert module.seen[0] != module.seen[1]


def test_shuffled_labels_are_the_same_ones_dealt_to_other_training_exemplars():
    few = {"exemplars": 60, "min_exemplars": 60, "val_exemplars": 4, "test_exemplars": 4, "bank_exemplars": 4}
    own, control, again, other = (
        TokenDataModule(**few, image_size=12, **changes)
        for changes in ({}, {"shuffle_labels": True}, {"shuffle_labels": True}, {"shuffle_labels": True, "seed": 1})
    )
    for data in (own, control, again, other):
        data.setup("fit")
        data.setup("validate")
    labels = [data._splits["train"].labels for data in (own, control, again, other)]
    assert torch.equal(labels[0].bincount(), labels[1].bincount())
    assert torch.equal(labels[1], labels[2])
    assert not torch.equal(labels[1], labels[3])
    right = (labels[0] == labels[1]).float().mean()  # of 300, a fifth by chance: standard error 0.023
    assert abs(right - 0.2) < 0.1
    for split in ("val", "test", "bank"):
        assert torch.equal(own._splits[split].labels, control._splits[split].labels)
    assert torch.equal(own._splits["train"].pixels(), control._splits["train"].pixels())


def test_bytes_on_their_way_to_a_gpu_become_the_same_images(make_data):
    """Only a run on a GPU gets them: the batches that others iterate over are normalised."""
    data = make_data()
    data.setup("fit")
    loaders = {}
    for device in ("cpu", "cuda"):
        trainer = SimpleNamespace(
            global_rank=0, world_size=1, current_epoch=0, strategy=SimpleNamespace(root_device=torch.device(device))
        )
        data.trainer = trainer
        loaders[device] = data.val_dataloader()
    assert not loaders["cpu"].pin_memory
    assert loaders["cuda"].pin_memory
    visit = next(iter(loaders["cpu"].sampler))
    plain, raw = (loaders[device].dataset[visit] for device in ("cpu", "cuda"))
    assert (plain["image"].dtype, raw["image"].dtype) == (torch.float32, torch.uint8)
    moved = data.transfer_batch_to_device(raw, torch.device("cpu"), 0)
    assert torch.equal(moved["image"], plain["image"])
    assert (moved["id"], moved["label"].tolist()) == (plain["id"], plain["label"].tolist())
    assert data.transfer_batch_to_device(plain, torch.device("cpu"), 0)["image"] is plain["image"]
