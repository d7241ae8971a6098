"""Preprocessors: what a model needs done to its features, learned on a dataset and used on single requests alike."""

from raybook.data.preprocessors.chain import Chain
from raybook.data.preprocessors.concatenator import Concatenator
from raybook.data.preprocessors.discretizer import CustomKBinsDiscretizer, UniformKBinsDiscretizer
from raybook.data.preprocessors.encoder import (
    Categorizer,
    LabelEncoder,
    MultiHotEncoder,
    OneHotEncoder,
    OrdinalEncoder,
)
from raybook.data.preprocessors.hasher import FeatureHasher
from raybook.data.preprocessors.imputer import SimpleImputer
from raybook.data.preprocessors.normalizer import Normalizer
from raybook.data.preprocessors.scaler import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from raybook.data.preprocessors.tokenizer import Tokenizer
from raybook.data.preprocessors.torch import TorchVisionPreprocessor
from raybook.data.preprocessors.transformer import PowerTransformer
from raybook.data.preprocessors.vectorizer import CountVectorizer, HashingVectorizer

__all__ = [
    "Categorizer",
    "Chain",
    "Concatenator",
    "CountVectorizer",
    "CustomKBinsDiscretizer",
    "FeatureHasher",
    "HashingVectorizer",
    "LabelEncoder",
    "MaxAbsScaler",
    "MinMaxScaler",
    "MultiHotEncoder",
    "Normalizer",
    "OneHotEncoder",
    "OrdinalEncoder",
    "PowerTransformer",
    "RobustScaler",
    "SimpleImputer",
    "StandardScaler",
    "Tokenizer",
    "TorchVisionPreprocessor",
    "UniformKBinsDiscretizer",
]
