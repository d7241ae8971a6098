"""Boosters, Lightning, transformers, JAX and TensorFlow under Train, two workers each, on the CPU."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from raybook import train

pytestmark = [pytest.mark.usefixtures("with_frameworks"), pytest.mark.slow, pytest.mark.timeout(180)]


def options(path, workers=2, **run):
    return {
        "scaling_config": train.ScalingConfig(num_workers=workers),
        "run_config": train.RunConfig(name="run", storage_path=str(path), **run),
    }


def table(numpy, rank, size):
    """One worker's share of a table whose target is a sum of its columns."""
    generator = numpy.random.default_rng(0)
    inputs = generator.random((400, 3))
    return inputs[rank::size], inputs.sum(axis=1)[rank::size]


def test_xgboost_workers_build_one_model_and_report_it(tmp_path):
    from raybook.train.xgboost import RayTrainReportCallback, XGBoostCheckpoint, XGBoostTrainer

    def function(config):
        import numpy
        import xgboost

        from raybook.train.xgboost import RayTrainReportCallback

        context = train.get_context()
        matrix = xgboost.DMatrix(*table(numpy, context.get_world_rank(), context.get_world_size()))
        booster = xgboost.train(
            {"objective": "reg:squarederror", "max_depth": 3, "nthread": 1},
            matrix,
            evals=[(matrix, "train")],
            num_boost_round=config["rounds"],
            verbose_eval=False,
            callbacks=[RayTrainReportCallback(metrics={"loss": "train-rmse"}, frequency=4)],
        )
        dumps = train.collective.broadcast_from_rank_zero("".join(booster.get_dump()))
        return dumps == "".join(booster.get_dump()), xgboost.collective.get_world_size()

    trainer = XGBoostTrainer(function, train_loop_config={"rounds": 10}, **options(tmp_path))
    result = trainer.fit()
    assert result.return_value == (True, 2), "both workers have the same trees"
    assert list(result.metrics) == ["loss"] and result.metrics["loss"] < 0.1
    assert len(result.best_checkpoints) == 3 and os.listdir(result.checkpoint.path) == ["model.ubj"]
    model = RayTrainReportCallback.get_model(result.checkpoint)
    assert model.num_boosted_rounds() == 10
    again = XGBoostCheckpoint.from_model(model).get_model()
    assert again.get_dump() == model.get_dump()
    with pytest.raises(DeprecationWarning):
        XGBoostTrainer(function, params={"eta": 1})
    with pytest.raises(DeprecationWarning):
        XGBoostTrainer.get_model(result.checkpoint)


def test_lightgbm_workers_build_one_model_and_report_it(tmp_path):
    from raybook.train.lightgbm import LightGBMCheckpoint, LightGBMTrainer, RayTrainReportCallback

    def function():
        import lightgbm
        import numpy

        from raybook.train.lightgbm import RayTrainReportCallback, get_network_params

        context = train.get_context()
        inputs, targets = table(numpy, context.get_world_rank(), context.get_world_size())
        data = lightgbm.Dataset(inputs, label=targets)
        network = get_network_params()
        booster = lightgbm.train(
            {
                "objective": "regression",
                "metric": "l2",
                "tree_learner": "data",
                "pre_partition": True,
                "num_threads": 1,
                "verbose": -1,
                **network,
            },
            data,
            num_boost_round=6,
            valid_sets=[data],
            valid_names=["train"],
            callbacks=[RayTrainReportCallback()],
        )
        trees = train.collective.broadcast_from_rank_zero(booster.dump_model()["tree_info"])
        return trees == booster.dump_model()["tree_info"], network["num_machines"]

    result = LightGBMTrainer(function, **options(tmp_path)).fit()
    assert result.return_value == (True, 2), "both workers have the same trees"
    assert list(result.metrics) == ["train-l2"] and result.metrics["train-l2"] < 0.2
    model = RayTrainReportCallback.get_model(result.checkpoint)
    assert model.num_trees() == 6
    assert LightGBMCheckpoint.from_model(model).get_model().num_trees() == 6
    with pytest.raises(DeprecationWarning):
        LightGBMTrainer(function, label_column="y")


@pytest.mark.soak  # Slow: two processes import it whole.
def test_lightning_trains_with_ddp_and_goes_on_from_its_checkpoint(tmp_path):
    from raybook.train.torch import TorchTrainer

    def function():
        import lightning.pytorch as pl
        import torch

        from raybook.train.lightning import (
            RayDDPStrategy,
            RayLightningEnvironment,
            RayTrainReportCallback,
            prepare_trainer,
        )

        class Model(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(2, 1)

            def training_step(self, batch, index):
                loss = (self.layer(batch[0]) - batch[1]).pow(2).mean()
                self.log("loss", loss)
                return loss

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        data = torch.utils.data.TensorDataset(torch.rand(16, 2), torch.ones(16, 1))
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        trainer = pl.Trainer(
            max_epochs=2,
            accelerator="cpu",
            devices="auto",
            strategy=RayDDPStrategy(),
            plugins=[RayLightningEnvironment()],
            callbacks=[RayTrainReportCallback()],
            enable_checkpointing=False,
            **quiet,
        )
        trainer = prepare_trainer(trainer)
        trainer.fit(Model(), torch.utils.data.DataLoader(data, batch_size=4))
        try:
            prepare_trainer(pl.Trainer(accelerator="cpu", devices=1, enable_checkpointing=False, **quiet))
        except RuntimeError as error:
            text = str(error)
        return trainer.world_size, len(trainer.train_dataloader.sampler), text

    result = TorchTrainer(function, **options(tmp_path)).fit()
    world_size, share, text = result.return_value
    assert (world_size, share) == (2, 8) and "Invalid strategy class" in text
    assert result.metrics["epoch"] == 1 and result.metrics["step"] == 4 and result.metrics["loss"] < 5
    assert os.listdir(result.checkpoint.path) == ["checkpoint.ckpt"] and len(result.best_checkpoints) == 2


@pytest.mark.soak  # Slow: two processes import it whole.
def test_transformers_trains_and_reports_what_it_saves(tmp_path):
    from raybook.train.torch import TorchTrainer

    def function(config):
        import torch
        from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

        from raybook.train.huggingface.transformers import RayTrainReportCallback, prepare_trainer

        def batches():
            for _ in range(2):
                yield {
                    "input_ids": torch.ones(4, 8, dtype=torch.long),
                    "attention_mask": torch.ones(4, 8, dtype=torch.long),
                    "labels": torch.ones(4, dtype=torch.long),
                }

        class Batches:
            def __iter__(self):
                return batches()

        small = BertConfig(
            vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
        )
        arguments = TrainingArguments(
            output_dir=f"{config['folder']}/{train.get_context().get_world_rank()}",
            max_steps=2,
            save_strategy="steps",
            save_steps=2,
            logging_steps=1,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(BertForSequenceClassification(small), arguments, train_dataset=Batches())
        trainer.add_callback(RayTrainReportCallback())
        trainer = prepare_trainer(trainer)
        trainer.train()
        return trainer.args.world_size

    result = TorchTrainer(function, train_loop_config={"folder": str(tmp_path / "out")}, **options(tmp_path)).fit()
    assert result.return_value == 2 and result.metrics["step"] == 2
    assert "model.safetensors" in os.listdir(os.path.join(result.checkpoint.path, "checkpoint"))


@pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed; it is a quarter of a gigabyte for one test")
def test_jax_workers_share_their_devices(tmp_path):
    from raybook.train.jax import JaxTrainer

    def function():
        import jax

        return jax.process_count(), jax.process_index(), jax.device_count()

    assert JaxTrainer(function, **options(tmp_path)).fit().return_value[:2] == (2, 0)


def test_tensorflow_workers_are_told_of_each_other(tmp_path):
    """What TensorFlow reads is there; TensorFlow itself is not installed for this, being half a gigabyte."""
    from raybook.train.tensorflow.config import TensorflowConfig

    def function():
        import json

        return json.loads(os.environ["TF_CONFIG"])

    seen = (
        train.DataParallelTrainer(function, backend_config=TensorflowConfig(), **options(tmp_path)).fit().return_value
    )
    assert seen["task"] == {"type": "worker", "index": 0} and len(set(seen["cluster"]["worker"])) == 2
