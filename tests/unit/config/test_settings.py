"""Flags over environment over file over defaults, and errors that say which key and where it stands."""

import os
from pathlib import Path
from typing import Any

import pytest

from aldis.config.settings import PROFILES, Limits, Settings, SettingsError, load


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in list(os.environ):
        if variable.upper().startswith("ALDIS_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def write(text: str) -> Path:
    file = Path("here.yaml")
    file.write_text(text)
    return file


def refusal(profile: Path | str, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(profile, overrides)
    return str(caught.value)


# profiles


@pytest.mark.parametrize("profile", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_profile_loads_by_path_and_by_name(profile: Path) -> None:
    assert load(profile) == load(str(profile)) == load(profile.stem)


def test_the_shipped_profiles_are_there() -> None:
    assert {path.stem for path in PROFILES.glob("*.yaml")} == {"accounts", "embedded", "lab", "mysql", "node"}


@pytest.mark.parametrize("profile", sorted(path.stem for path in PROFILES.glob("*.yaml")))
def test_a_shipped_profile_opens_nothing_beyond_loopback(profile: str) -> None:
    settings = load(profile)
    binds = [settings.http.bind, *(listener.bind for listener in settings.listeners.values())]
    assert all(bind.startswith("127.0.0.1:") for bind in binds)


def test_the_embedded_profile_is_what_the_design_says() -> None:
    settings = load("embedded")
    assert settings.listeners["default"].bind == "127.0.0.1:1883"
    assert (settings.listeners["websocket"].type, settings.listeners["websocket"].bind) == ("ws", "127.0.0.1:8083")
    assert settings.http.bind == "127.0.0.1:8000"
    assert settings.store.backend == "sqlite"


def test_an_unknown_name_lists_the_known_ones() -> None:
    message = refusal("embeded")
    assert message.startswith("there is no profile 'embeded'; shipped are accounts, embedded, lab")
    assert message.endswith("a file is given as ./embeded")


def test_a_file_wins_over_a_name_only_when_it_looks_like_a_file() -> None:
    Path("lab").write_text("limits: {max_inflight: 7}")
    assert load("lab").limits.max_inflight == Limits().max_inflight
    assert load("./lab").limits.max_inflight == 7
    assert load(Path("lab")).limits.max_inflight == 7


def test_an_empty_file_means_the_defaults() -> None:
    assert load(write("")) == Settings()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1, 2]", "file here.yaml must be a mapping of settings"),
        ("a: [", "file here.yaml is not YAML"),
        ("data: a\ndata: b", "'data' is given twice"),
        ("1883: x", "1883: unknown setting (from file here.yaml)"),
        ("_env_file: x", "_env_file: unknown setting (from file here.yaml)"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(text: str, complaint: str) -> None:
    assert complaint in refusal(write(text))


def test_a_file_that_is_no_text_is_refused() -> None:
    Path("here.yaml").write_bytes(b"\xff\xfe\xff")
    assert refusal(Path("here.yaml")).startswith("file here.yaml is not YAML")


def test_a_file_that_is_missing_is_named() -> None:
    assert refusal("missing.yaml") == "cannot read file missing.yaml: No such file or directory"


# which of the places wins


def test_flags_beat_variables_beat_file_beats_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("limits: {max_inflight: 2, max_queued: 2, read_batch: 2}")
    monkeypatch.setenv("ALDIS_LIMITS__MAX_INFLIGHT", "3")
    monkeypatch.setenv("ALDIS_LIMITS__MAX_QUEUED", "3")
    limits = load(file, {"limits": {"max_inflight": 4}}).limits
    assert (limits.max_inflight, limits.max_queued, limits.read_batch) == (4, 3, 2)
    assert limits.live_buffer == Limits().live_buffer


def test_one_listener_may_be_moved_without_repeating_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALDIS_LISTENERS__WEBSOCKET__BIND", "127.0.0.1:9001")
    listeners = load("embedded", {"listeners": {"default": {"bind": "127.0.0.1:9000"}}}).listeners
    assert listeners["default"].bind == "127.0.0.1:9000"
    assert (listeners["websocket"].type, listeners["websocket"].bind) == ("ws", "127.0.0.1:9001")


def test_a_variable_may_bring_a_group_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALDIS_STORE", '{"file": "other.db"}')
    monkeypatch.setenv("aldis_plugins", '{"house.Rule": {"strict": true}}')
    settings = load(write("store: {busy_timeout: 9}"))
    assert (settings.store.file, settings.store.busy_timeout) == ("other.db", 9.0)
    assert settings.plugins == {"house.Rule": {"strict": True}}


def test_settings_built_by_hand_do_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALDIS_LIMITS__MAX_INFLIGHT", "3")
    assert Settings().limits.max_inflight == Limits().max_inflight


# errors name the key and the place


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lisseners: {}", "lisseners: unknown setting"),
        ("limits: {max_inflght: 5}", "limits.max_inflght: unknown setting"),
        ("listeners: {default: {port: 1}}", "listeners.default.port: unknown setting"),
        ("limits: {max_inflight: 0}", "limits.max_inflight: Input should be greater than 0, not 0"),
        ("limits: {max_inflight: many}", "limits.max_inflight: Input should be a valid integer, unable to parse"),
        ("limits: 5", "limits: Input should be a valid dictionary or instance of Limits, not 5"),
        ("listeners: {default: {type: udp}}", "listeners.default.type: Input should be 'tcp' or 'ws', not 'udp'"),
        ("plugins: {1: {}}", "plugins.1: Input should be a valid string, not 1"),
        ("plugins: {no dots: {}}", "plugins.no dots: String should match pattern"),
        ("plugins: {a.b: 5}", "plugins.a.b: Input should be a valid dictionary, not 5"),
    ],
)
def test_a_wrong_key_in_the_file_is_named(text: str, complaint: str) -> None:
    message = refusal(write(text))
    assert message.startswith(complaint)
    assert message.endswith("(from file here.yaml)")


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("ALDIS_LIMITS__MAX_INFLGHT", "5", "limits.max_inflght: unknown setting"),
        ("ALDIS_LIMITS__MAX_INFLIGHT", "many", "limits.max_inflight: Input should be a valid integer"),
        ("Aldis_Limits__Max_Inflight", "0", "limits.max_inflight: Input should be greater than 0"),
        ("ALDIS_LIMITS_MAX_INFLIGHT", "5", "limits_max_inflight: unknown setting"),
        ("ALDIS_LIMIT__MAX_INFLIGHT", "5", "limit.max_inflight: unknown setting"),
        ("ALDIS_DATA__FOLDER", "x", "data.folder: unknown setting"),
        ("ALDIS_LIMITS__MAX_INFLIGHT__NOW", "5", "limits.max_inflight: Input should be a valid integer"),
        ("ALDIS_LIMITS", '{"max_inflght": 5}', "limits.max_inflght: unknown setting"),
        ("ALDIS_LISTENERS__DEFAULT__PORT", "5", "listeners.default.port: unknown setting"),
        ("ALDIS_HTTP__BIND", "nowhere", "http.bind: String should match pattern"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, complaint: str) -> None:
    monkeypatch.setenv(variable, value)
    message = refusal("embedded")
    assert message.startswith(complaint)
    assert message.endswith(f"(from variable {variable})")


def test_a_group_that_is_not_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALDIS_HTTP", "127.0.0.1:8000")
    message = refusal("embedded")
    assert message.startswith("http: must be given as JSON")
    assert message.endswith("(from variable ALDIS_HTTP)")


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"limits": {"max_inflght": 5}}, "limits.max_inflght: unknown setting"),
        ({"http": {"bind": "8000"}}, "http.bind: String should match pattern"),
        ({"http": "8000"}, "http: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_flag_is_named(overrides: dict[str, Any], complaint: str) -> None:
    message = refusal("embedded", overrides)
    assert message.startswith(complaint)
    assert message.endswith("(from command line)")


def test_the_place_named_is_the_one_that_won(monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("limits: {max_inflight: 0}")
    monkeypatch.setenv("ALDIS_LIMITS__MAX_INFLIGHT", "-1")
    assert refusal(file).endswith("not '-1' (from variable ALDIS_LIMITS__MAX_INFLIGHT)")
    assert refusal(file, {"limits": {"max_inflight": -2}}).endswith("not -2 (from command line)")


def test_the_variable_behind_a_group_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALDIS_LISTENERS__MAIN__BIND", "127.0.0.1:5")
    assert refusal(write("")).endswith("must be called 'default' (from variable ALDIS_LISTENERS__MAIN__BIND)")


def test_every_wrong_key_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("limits: {max_inflght: 5, max_queued: 0}")
    monkeypatch.setenv("ALDIS_TIMEOUTS__CONNECT", "soon")
    lines = refusal(file, {"http": {"bnd": "x"}}).splitlines()
    assert {line.split(":")[0] for line in lines} == {
        "limits.max_inflght",
        "limits.max_queued",
        "timeouts.connect",
        "http.bnd",
    }


def test_the_value_of_an_unknown_key_is_not_printed() -> None:
    assert "hunter2" not in refusal(write("store: {pasword: hunter2}"))


# what is wrong although every single value is right


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("127.0.0.1:5", "127.0.0.1:5"),
        ("0.0.0.0:5", "127.0.0.1:5"),
        ("127.0.0.1:5", ":5"),
        (":5", "[::1]:5"),
        ("[::]:5", "[::1]:5"),
        ("localhost:5", "127.0.0.1:5"),
    ],
)
def test_two_listeners_on_one_address_are_refused(first: str, second: str) -> None:
    file = write(f'listeners: {{default: {{bind: "{first}"}}, other: {{bind: "{second}"}}}}')
    assert refusal(file) == (
        f"listeners.other.bind: {second} is taken by listeners.default.bind ({first}) (from file here.yaml)"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("127.0.0.1:5", "127.0.0.1:6"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:5", "127.0.0.2:5"),
        ("0.0.0.0:5", "[::]:5"),
        ("127.0.0.1:5", "[::1]:5"),
    ],
)
def test_two_listeners_on_two_addresses_are_fine(first: str, second: str) -> None:
    load(write(f'listeners: {{default: {{bind: "{first}"}}, other: {{bind: "{second}"}}}}'))


def test_the_rest_api_may_not_take_a_listener_address() -> None:
    overrides = {"http": {"bind": "127.0.0.1:1883"}}
    assert "http.bind: 127.0.0.1:1883 is taken by listeners.default.bind" in refusal("embedded", overrides)
    load("lab", overrides)  # serves no REST API


@pytest.mark.parametrize("bind", ["127.0.0.1:65536", "127.0.0.1", "127.0.0.1:", "::1:1883", "[::g]:1", "[1::2::3]:1"])
def test_an_address_is_host_and_port(bind: str) -> None:
    assert refusal("embedded", {"http": {"bind": bind}}).startswith("http.bind: ")


def test_a_port_out_of_range_is_called_that() -> None:
    assert refusal("embedded", {"http": {"bind": ":65536"}}) == (
        "http.bind: the port must be at most 65535, not ':65536' (from command line)"
    )


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "127.0.0.1:65535", "[::1]:1", "host.example:80", ":80"])
def test_an_address_may_be(bind: str) -> None:
    assert load("embedded", {"http": {"bind": bind}}).http.bind == bind


@pytest.mark.parametrize("data", ["plain", "plain/below/it"])
def test_the_data_folder_may_not_be_a_file(data: str) -> None:
    Path("plain").touch()
    message = refusal("embedded", {"data": data})
    assert message.startswith("data: ")
    assert message.endswith("plain is a file, not a folder (from command line)")


@pytest.mark.parametrize("data", ["there", "not/yet"])
def test_the_data_folder_may_be_there_or_not(data: str) -> None:
    Path("there").mkdir()
    assert load("embedded", {"data": data}).data == Path(data)


def test_a_message_must_fit_into_a_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALDIS_LIMITS__MAX_MESSAGE_SIZE", "300000")
    assert refusal("embedded") == (
        "limits.max_message_size: must not exceed limits.max_packet_size (from variable ALDIS_LIMITS__MAX_MESSAGE_SIZE)"
    )


def test_a_packet_must_fit_into_the_burst_of_a_user() -> None:
    """Else it could never be sent. Without a rate the burst does not matter."""
    file = write("limits: {publish_bytes_burst: 1000}")
    assert refusal(file) == (
        "limits.publish_bytes_burst: must not be less than limits.max_packet_size (from file here.yaml)"
    )
    load(file, {"limits": {"publish_bytes_per_second": 0}})


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("queue_policy", "drop_oldest_qos0"),
        ("max_connections_per_address", -1),
        ("connections_per_second", -0.5),
        ("failed_connects_per_minute_per_user", "many"),
        ("publish_burst", 0),
        ("memory_high_water", "half"),
        ("max_queued_bytes", 0),
        ("max_filter_wildcards", 0),
    ],
)
def test_a_wrong_limit_is_named(key: str, wrong: object) -> None:
    assert refusal("embedded", {"limits": {key: wrong}}).startswith(f"limits.{key}: ")


def test_the_lab_limits_no_rate() -> None:
    """Conformance suites and benchmarks come from one address, and without names."""
    limits = load("lab").limits.model_dump()
    assert all(limits[key] == 0 for key in limits if "_per_second" in key or "_per_minute" in key)
    assert load("embedded").limits == Limits()


def test_one_listener_is_called_default() -> None:
    assert refusal(write("listeners: {main: {}}")) == (
        "listeners: one listener must be called 'default' (from file here.yaml)"
    )
