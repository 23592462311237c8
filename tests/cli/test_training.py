"""What a fit writes into its config.yaml, so that it can be read where modules have moved since."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lightning_emerge.cli import main

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")


@pytest.mark.parametrize("named", ["Checkpoints", "ContactSheet", "lightning_emerge.ConfusionPicture"])
def test_a_class_is_written_by_its_public_name(named, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--config", SMOKE, f"--trainer.callbacks+={named}", "--print_config"])
    settings = yaml.safe_load(capsys.readouterr().out)
    callback = settings["trainer"]["callbacks"][-1]
    assert callback["class_path"] == f"lightning_emerge.{named.rpartition('.')[2]}"
    assert settings["model"]["class_path"] == "lightning_emerge.TokenClassifier"
