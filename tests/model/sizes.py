"""Sizes that train in seconds."""

from judgeflow.model.config import ModelConfig, TrainingConfig

SMALL = ModelConfig(max_tokens=48, features=256, projection=32)
QUICK = TrainingConfig(epochs=1.0, backbone_lr=3e-3, validation_share=0.1)
