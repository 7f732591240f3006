"""What every decoder with attention must do, whatever its equations are."""

from __future__ import annotations

import pytest

from captioner.config import ModelConfig
from tests.nn.decoders.attending_configs import (
    AOA,
    ATT2IN,
    M2,
    TRANSFORMER,
    UPDOWN,
    has_vector_of_its_own,
    vector_dim_of,
)
from tests.nn.decoders.decoder_checks import (
    check_gradients,
    check_that_beams_of_an_image_share_its_features,
    check_that_decoding_step_by_step_equals_teacher_forcing,
    check_that_padding_changes_nothing,
    make_attending,
    mean_cross_entropy,
)

MODELS = {"aoa": AOA, "att2in": ATT2IN, "m2": M2, "transformer": TRANSFORMER, "updown": UPDOWN}
CASES = [
    pytest.param(config, id=f"{name}-{number}")
    for name, configs in MODELS.items()
    for number, config in enumerate(configs)
]
every_kind = pytest.mark.parametrize("config", CASES)


@every_kind
def test_decoding_step_by_step_equals_teacher_forcing(config: ModelConfig) -> None:
    check_that_decoding_step_by_step_equals_teacher_forcing(*make_attending(config, vector_dim_of(config)))


@every_kind
def test_gradients_are_those_of_finite_differences(config: ModelConfig) -> None:
    decoder, features = make_attending(config, vector_dim_of(config))
    check_gradients(decoder, mean_cross_entropy(decoder, features))


@pytest.mark.parametrize("config", [case for case in CASES if not has_vector_of_its_own(*case.values)])
def test_padding_changes_nothing(config: ModelConfig) -> None:
    check_that_padding_changes_nothing(make_attending(config)[0])


@every_kind
def test_beams_of_an_image_share_its_features(config: ModelConfig) -> None:
    check_that_beams_of_an_image_share_its_features(*make_attending(config, vector_dim_of(config)))
