"""The command line accepts what the parts behind it accept: the lists are spelled twice, since those parts are slow to import."""

from typing import get_args

import pytest

from judgeflow import types
from judgeflow.adapters import formats
from judgeflow.adapters.datasets import AUTO
from judgeflow.cli import options
from judgeflow.config import LogConfig
from judgeflow.exchange import preferences
from judgeflow.model import config as model
from judgeflow.replay import evidence, findings


@pytest.mark.parametrize(
    ("accepted", "owner"),
    [
        (get_args(options.Orders), evidence.ORDERS),
        (tuple(options.ReplayPolicy), findings.POLICIES),
        (tuple(options.Source), get_args(types.Source)),
        (get_args(options.ExportedForm), get_args(preferences.Format)),
        (get_args(options.Level), get_args(LogConfig.model_fields["level"].annotation)),
        (get_args(options.Encoder), get_args(model.EncoderKind)),
        (get_args(options.Pooling), get_args(model.Pooling)),
        (get_args(options.Uncertainty), (*model.UNCERTAINTIES, "all")),
        (get_args(options.Evidence), get_args(model.Evidence)),
        (get_args(options.Weights), get_args(model.Weights)),
        (get_args(options.Schedule), get_args(model.Schedule)),
        (get_args(options.DType), get_args(model.DType)),
        (get_args(options.Format), (AUTO, *formats.FORMATS)),
    ],
)
def test_an_option_accepts_what_its_owner_does(accepted, owner):
    assert set(accepted) == set(owner)
    assert len(accepted) > 1
