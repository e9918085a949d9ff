"""Settings as reports show them."""

from las_sj.reports.settings import settings_in_words


def test_codes_of_their_own_are_said_beside_the_common_ones() -> None:
    codes = [["head", 63, None], ["0.mlp", 127, 2]]
    shown = dict(settings_in_words({"time_steps": 6, "levels": 1, "max_spikes": None, "site_codes": codes}))
    assert shown == {
        "time_steps": "6",
        "levels": "1, but for populations with a code of their own",
        "max_spikes": "None, but for populations with a code of their own",
        "site_codes": "2 populations have their own",
    }
    assert settings_in_words({"levels": 1}) == [("levels", "1")]
