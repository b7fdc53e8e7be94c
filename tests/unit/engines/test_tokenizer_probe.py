"""A tokenizer that changes commands is refused at load, and one that changes other characters is named."""

from __future__ import annotations

import pytest
from support.tiny_models import CHATML, byte_tokenizer
from tokenizers import Regex, decoders, normalizers

from capvec.engines.template_probes import inspect_template
from capvec.errors import UsageError

pytestmark = pytest.mark.unit


def normalizing(*steps):
    """A tokenizer that changes text before it reads it."""
    tokenizer = byte_tokenizer(CHATML)
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(list(steps))
    return tokenizer


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([normalizers.Lowercase()], "it makes 'abcdefghijkl' of 'ABCDEFGHIJKL'"),
        ([normalizers.Replace(Regex(r"\s+"), " ")], "it makes 'two three sp' of ' two   three'"),
        ([normalizers.Replace("\n", " ")], "it makes ' "),
        ([normalizers.Replace("\t", "    ")], "it makes '    A  Tab"),
        ([normalizers.Replace(" " * 9, " " * 8)], "it makes "),
        ([normalizers.Replace("\n" * 4, "\n" * 3)], "it makes "),
        ([normalizers.Replace(Regex(r" +\n"), "\n")], "it makes "),
        ([normalizers.Replace("\r\n", "\n")], "it makes "),
        ([normalizers.Replace("``", '"'), normalizers.Replace("$", "")], "it makes "),
    ],
)
def test_a_tokenizer_that_changes_commands_is_refused_with_what_it_makes_of_them(steps, said):
    with pytest.raises(UsageError) as refused:
        inspect_template(normalizing(*steps), "m")
    assert str(refused.value).startswith("the tokenizer of 'm' cannot be used: it makes ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_decoder_that_changes_commands_is_refused_too():
    tokenizer = byte_tokenizer(CHATML)
    tokenizer.backend_tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("  ", " ")])
    with pytest.raises(UsageError, match="it makes 'two  three  ' of ' two   three'"):
        inspect_template(tokenizer, "m")


def test_of_a_tokenizer_that_normalizes_compatible_characters_they_are_named():
    info = inspect_template(normalizing(normalizers.NFKC()), "m").info
    assert info.rewritten == ("½", "①", "ﬁle", "Ａ", "…", "x²", "™")
    (said,) = info.adaptations()
    assert said.endswith("such as those of ½ ① ﬁle Ａ … x² ™.")


def test_a_character_that_stands_for_a_space_is_named():
    tokenizer = byte_tokenizer(CHATML)
    tokenizer.backend_tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("▁", " ")])
    assert inspect_template(tokenizer, "m").info.rewritten == ("▁",)


@pytest.mark.parametrize("steps", [[], [normalizers.NFC()], [normalizers.Prepend(" ")], [normalizers.Strip()]])
def test_what_keeps_commands_is_taken(steps):
    assert inspect_template(normalizing(*steps), "m").info.rewritten == ()
