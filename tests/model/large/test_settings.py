"""What users say of a model, and what they are told when it makes no sense."""

import os
from pathlib import Path

import pytest

from model.framepack.step_cache import FirstBlockCache, TeaCache
from model.large.settings import Settings, SettingsError, explained, parse_settings


def test_words_become_what_they_mean() -> None:
    settings = parse_settings({"steps": "20", "guidance": "6.5", "compile": "true", "quantize": "nf4", "width": "640"})
    assert settings == Settings(steps=20, guidance=6.5, compile=True, quantize="nf4", width=640)
    assert settings.frame_shape(usual=(480, 832)) == (480, 640)
    assert parse_settings({}) == Settings()


@pytest.mark.parametrize("spoken", [{"step": "20"}, {"steps": "many"}, {"quantize": "int3"}, {"compile": "perhaps"}])
def test_what_makes_no_sense_is_refused_with_what_there_is(spoken: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="expected settings out of weights, .* starts, got"):
        parse_settings(spoken)


def test_named_folders_come_before_the_cache() -> None:
    roots = Settings(weights=os.pathsep.join(["/a", "/b"])).shelf.roots
    assert roots[:2] == (Path("/a"), Path("/b")) and len(roots) == 3
    assert Settings().shelf.roots == roots[2:]


def test_several_adapters_each_with_its_strength() -> None:
    assert Settings(lora="a.safetensors*0.8,b").loras == [(Path("a.safetensors"), 0.8), (Path("b"), 1.0)]
    with pytest.raises(SettingsError, match=r"got 'a\*strong'"):
        list(Settings(lora="a*strong").loras)


def test_caches_by_their_names() -> None:
    assert Settings().rule is None
    assert Settings(cache="teacache").rule == TeaCache()
    assert Settings(cache="first-block", threshold=0.2).rule == FirstBlockCache(0.2)


def test_every_setting_is_explained() -> None:
    rows = {name: (values, meaning) for name, values, meaning in explained()}
    assert list(rows) == list(Settings.__struct_fields__)
    assert rows["quantize"][0] == "fp8 or int8 or nf4"
    assert (rows["steps"][0], rows["compile"][0], rows["lora"][0]) == ("number", "true or false", "text")
    assert all(meaning.strip() for _, meaning in rows.values())
