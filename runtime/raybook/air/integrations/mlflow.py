"""MLflow under the module path that Ray's users import it from."""

from raybook.tune.logger.mlflow import MLflowLoggerCallback, setup_mlflow

__all__ = ["MLflowLoggerCallback", "setup_mlflow"]
