"""The cards: complete, known without torch, and what derives from them."""

import pickle
import subprocess
import sys
from dataclasses import asdict, fields, is_dataclass, replace

import pytest

from extremal.pipeline.config import RunConfig, build_config, stored_tree
from extremal.pipeline.errors import ConfigError
from extremal.workers.extremal.settings import SpatialConfig
from extremal.workers.saliency import METHODS, Method
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.methods import CARDS
from extremal.workers.saliency.settings import Layers, OcclusionConfig, RiseConfig

BASE = {"dataset": {"name": "voc"}, "network": {"name": "vgg16"}, "method": "saliency"}


def test_every_card_is_complete_and_leads_to_its_method() -> None:
    assert len(METHODS) == len(CARDS) == len({card.title for card in CARDS})
    roles = {field.name for field in fields(Layers)}
    for card in CARDS:
        assert isinstance(card.method, Method), card.name
        assert card.source[-4:].isdigit(), card.name
        assert set(card.layers) <= roles
        assert card.settings is None or is_dataclass(card.settings())
        assert card.reads in (None, "spatial", "channel")
    assert METHODS["extremal"].smoothing.fraction == SpatialConfig().smooth


def test_cards_and_settings_need_no_torch() -> None:
    code = (
        "import sys, extremal.workers.saliency.config as c, extremal.workers.saliency as s;"
        "c.SaliencyConfig(); [card.title for card in s.METHODS.values()]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_section_for_each_method_with_settings() -> None:
    config = SaliencyConfig(methods=("rise",), rise=RiseConfig(9))
    assert {card.name for card in CARDS if card.settings} == {"rise", "occlusion"}
    assert pickle.loads(pickle.dumps(config)) == config
    assert asdict(replace(config, maps=3))["rise"] == {"masks": 9, "cells": 7, "keep": 0.5}
    assert config.occlusion == OcclusionConfig()
    assert SaliencyConfig.__module__ == "extremal.workers.saliency.config"


def test_sections_are_validated_and_only_those_that_are_read_are_of_the_identity() -> None:
    tree = {**BASE, "saliency": {"methods": ["occlusion", "extremal"], "occlusion": {"window": 20}}}
    config = build_config(tree)
    assert config.saliency.occlusion == OcclusionConfig(20)
    assert config.sections() == {"saliency", "spatial"}
    identity = stored_tree(config)
    assert "rise" not in identity["saliency"]
    assert identity["saliency"]["occlusion"] == {"window": 20, "stride": 16}
    with pytest.raises(ConfigError, match=r"saliency\.rise\.mask: "):
        build_config({**BASE, "saliency": {"rise": {"mask": 3}}})
    assert {field.name for field in fields(RunConfig)} >= {card.reads for card in CARDS if card.reads}
