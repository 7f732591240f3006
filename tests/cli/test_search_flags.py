"""The flags of caption.py that choose a search: each setting of evaluate.py's `decode`, its help and its mistakes."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from captioner import Captioner
from captioner.cli.caption import _parser, main
from captioner.cli.search_flags import RENAMED, read_search
from captioner.config import SEARCHES, USED_BY, DecodeConfig
from captioner.errors import ConfigError
from tests.checkpoint.members import save_member
from tests.cli.conftest import Command
from tests.tiny import write_tiny_data

OTHER_VALUES = {int: 2, float: 0.75, bool: True}
BEAM = DecodeConfig(beam_width=5)


def search_of(*flags: str, default: DecodeConfig = BEAM) -> DecodeConfig:
    return read_search(_parser().read(["photo.jpg", *flags]), default)


@pytest.mark.parametrize(
    "field", [field for field in fields(DecodeConfig) if field.name != "name"], ids=lambda f: f.name
)
def test_every_setting_has_a_flag(field: object) -> None:
    name = getattr(field, "name")  # noqa: B009
    value: int | float | bool = OTHER_VALUES[type(getattr(BEAM, name))]
    if name == "repetition_penalty":
        value = 1.5
    search = USED_BY.get(name, ("greedy",))[0]
    shown = str(value).lower()
    flags = ["--decode", search, f"--{name.replace('_', '-')}", shown]
    expected = replace(BEAM, name=search, beam_width=6 if search == "diverse" else 5)
    if name == "groups":
        flags += ["--beam-width", "4"]
        expected = replace(expected, beam_width=4, groups=2)
    assert search_of(*flags) == replace(expected, **{name: value})


def test_without_flags_it_is_the_search_of_the_run() -> None:
    for name in SEARCHES:
        default = DecodeConfig(name=name, temperature=0.5, candidates=3)
        assert search_of(default=default) == default


def test_a_beam_width_alone_is_a_beam_search() -> None:
    assert search_of("--beam-width", "2", default=DecodeConfig(name="greedy")) == DecodeConfig(beam_width=2)
    diverse = DecodeConfig(name="diverse", groups=2, beam_width=4)
    assert search_of("--beam-width", "6", default=diverse) == replace(diverse, beam_width=6)


def test_the_width_of_diverse_beam_search_is_one_that_its_groups_divide() -> None:
    assert search_of("--decode", "diverse").beam_width == 6
    assert search_of("--decode", "diverse", "--groups", "4").beam_width == 8
    assert search_of("--decode", "diverse", "--groups", "5").beam_width == 5
    with pytest.raises(ConfigError, match=r"decode\.groups=3 does not divide decode\.beam_width=4"):
        search_of("--decode", "diverse", "--beam-width", "4")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--temperature", "0.5"], "--temperature 0.5 has no effect on the search beam: give --decode sample as well"),
        (["--decode", "greedy", "--beam-width", "3"], "give --decode beam or --decode diverse as well"),
        (["--decode", "sample", "--class-weight", "3"], "--class-weight 3 has no effect on the search sample"),
        (["--decode", "diverse", "--class-weight", "3"], "--class-weight 3 has no effect on the search diverse"),
        (["--decode", "contrastive", "--top-k", "3"], "--top-k 3 has no effect on the search contrastive"),
        (["--decode", "divers"], "Did you mean diverse"),
        (["--decode", "sample", "--temprature", "2"], "Did you mean --temperature"),
        (["--decode", "sample", "--temperature", "warm"], "--temperature warm has the wrong type: expected a number"),
        (["--decode", "sample", "--temperature", "0"], "decode.temperature=0.0: expected more than 0"),
        (["--decode", "sample", "--typical-p", "2"], "decode.typical_p=2.0 is out of range"),
        (["--repetition-penalty", "1e9"], "decode.repetition_penalty"),
        (["--length-penalty", "1e9"], "decode.length_penalty"),
        (["--length-penalty", "nan"], "decode.length_penalty"),
        (["--decode", "sample", "--min-p", "nan"], "decode.min_p"),
        (["--max-length", "100000000"], "decode.max_length"),
        (["--no-bad-ending", "yes"], "--no-bad-ending"),
        (["decode.temperature=0.5"], "write --temperature 0.5 instead of decode.temperature=0.5"),
        (["decode.name=sample"], "write --decode sample"),
    ],
)
def test_mistakes(flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        search_of(*flags)
    assert message in str(raised.value)


def test_every_setting_can_be_given_as_evaluate_spells_it() -> None:
    assert len(RENAMED) == len(fields(DecodeConfig))


def test_captions_are_those_of_the_notebook_with_the_same_settings(tmp_path: Path, command: Command) -> None:
    write_tiny_data(tmp_path / "data", images=4)
    photo, model = "data/003.png", Captioner.from_checkpoint(save_member(tmp_path / "run", 1), device="cpu")
    searches: list[tuple[list[str], dict[str, float]]] = [
        (["--decode", "sample", "--temperature", "3", "--seed", "7"], {"temperature": 3.0, "seed": 7}),
        (["--decode", "sample", "--typical-p", "0.3"], {"typical_p": 0.3}),
        (["--decode", "contrastive", "--candidates", "3"], {"candidates": 3}),
        (["--decode", "diverse", "--diversity-penalty", "2", "--alternatives", "3"], {"diversity_penalty": 2.0}),
    ]
    for flags, settings in searches:
        result = command(main, photo, "--checkpoint", "run", "--device", "cpu", "--json", "--no-tags", *flags)
        assert result.code == 0, result.err
        found = json.loads(result.out)
        alternatives = 3 if "--alternatives" in flags else 0
        expected = model.caption(photo, decode=flags[1], alternatives=alternatives, tags=False, **settings)
        assert found["caption"] == expected.text
        assert [one["caption"] for one in found["alternatives"]] == [one.text for one in expected.alternatives]
    for flags, message in (
        (["--decode", "diverse", "--must-have", "red"], "need decode='beam', but this is 'diverse': only beam search"),
        (["--decode", "sample", "--must-not", "red"], "need decode='beam', but this is 'sample'"),
        (["--class-weight", "3", "--must-have", "red"], "class_weight=3 needs the class probabilities"),
        (["--consensus-weight", "3", "--must-not", "red"], "consensus_weight=3 needs a consensus predictor"),
        (["--decode", "sample", "--alternatives", "2"], "alternatives=2 needs a beam search"),
        (["--decode", "sample", "--backend", "onnx"], "--decode sample needs torch"),
        (["--score", "a dog", "--top-p", "0.5"], "--top-p 0.5 has no effect with --score"),
    ):
        result = command(main, photo, "--checkpoint", "run", "--device", "cpu", *flags)
        assert result.code == 2
        assert message in result.err, result.err
    with pytest.raises(ConfigError, match=r"class_weight=3 needs the class probabilities"):
        model.caption(photo, must_have=["red"], class_weight=3.0)
    with pytest.raises(ConfigError, match=r"consensus_weight=3 needs a consensus predictor"):
        model.caption(photo, must_have=["red"], consensus_weight=3.0)
