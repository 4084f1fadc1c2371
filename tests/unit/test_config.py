import json
import math
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.config import Config, RoutingConfig, StoreConfig, keys_of, load_config, run_fingerprint_fields, section_type, sections
from judgeflow.errors import ConfigurationError
from judgeflow.keys import digest
from judgeflow.routing.policy import uniform
from judgeflow.types import Stock

unhurried = settings(deadline=None)
MINIMAL = '[judge]\nmodel = "m"\n\n[routing]\npolicy = "always"\n'
SECRET = "sk-proj-Zx81secretsecretsecret"


@pytest.fixture
def load(tmp_path):
    """Load a configuration text; the file is called judgeflow.toml."""

    def load(text=MINIMAL, *, overrides=None, environ=None):
        path = tmp_path / "judgeflow.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path, overrides, environ or {})

    return load


@pytest.fixture
def complaint(load, tmp_path):
    """Load a configuration that must be refused, and return the message without the folder's name."""

    def complaint(text=MINIMAL, *, overrides=None, environ=None):
        with pytest.raises(ConfigurationError) as caught:
            load(text, overrides=overrides, environ=environ)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return complaint


def toml(config):
    """The settings of a configuration as the text of a file."""
    lines = []
    for section, table in config.model_dump(exclude_none=True).items():
        lines += [f"[{section}]", *(f"{key} = {toml_value(value)}" for key, value in table.items())]
    return "\n".join(lines)


def toml_value(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_value(key)} = {toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
amounts = st.floats(0, 1e9)
positive = st.floats(1e-3, 1e9)
json_values = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def table(**values):
    """A section with each of these keys there or not."""
    return st.fixed_dictionaries({}, optional=values)


configs = st.fixed_dictionaries(
    {
        "judge": st.fixed_dictionaries(
            {"model": texts, "prompt_usd_per_mtok": positive},
            optional={
                "id": texts,
                "base_url": texts.map(lambda text: f"https://host/{quote(text)}"),
                "api_key_env": st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True),
                "temperature": st.floats(0, 2),
                "max_completion_tokens": st.integers(1, 10**6),
                "orders": st.sampled_from(["both", "random", "first"]),
                "graded": st.booleans(),
                "timeout_s": positive,
                "extra_body": st.dictionaries(texts.map("x{}".format), json_values, max_size=3),
                "completion_usd_per_mtok": amounts,
            },
        ),
        "routing": st.fixed_dictionaries(
            {"policy": st.sampled_from(["always", "random", "never"]), "max_share": st.floats(0.01, 1)},
            optional={"threshold": st.just("adaptive") | st.floats(-10, 10), "seed": st.integers(0, 2**31), "verdict_margin": positive},
        ),
    },
    optional={
        "run": table(name=texts, directory=texts),
        "limits": table(
            requests_per_minute=st.integers(1, 10**6), max_in_flight=st.integers(1, 10_000), window_s=positive, margin_s=amounts
        ),
        "budget": table(requests=st.integers(0, 10**9), tokens=st.integers(0, 10**12), usd=amounts)
        | st.fixed_dictionaries({"tokens": st.integers(0, 10**12), "steps": st.integers(1, 10**6)}),
        "store": table(url=texts),
        "log": table(path=texts, level=st.sampled_from(["debug", "info", "warning", "error"]), format=st.sampled_from(["json", "console"])),
    },
).map(Config.model_validate)


@unhurried
@given(configs)
def test_settings_written_to_a_file_are_read_back_the_same(config):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "judgeflow.toml"
        path.write_bytes(toml(config).encode())
        assert load_config(path, environ={}) == config


# What is taken from where


def test_a_minimal_file_gets_the_documented_defaults(load):
    config = load()
    assert (config.judge.base_url, config.judge.template, config.judge.orders) == ("https://api.openai.com/v1", "default", "both")
    assert (config.limits.max_in_flight, config.limits.window_s, config.limits.start) == (64, 60.0, "burst")
    assert (config.routing.verdict_margin, config.routing.threshold) == (2.0, "adaptive")
    assert config.store.url == "sqlite+aiosqlite:///judgeflow.db"
    assert config.budget.stock == Stock()


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(load):
    text = f"{MINIMAL}seed = 1\nverdict_margin = 1.0\n[limits]\nmax_in_flight = 1\n"
    environ = {"JUDGEFLOW_LIMITS__MAX_IN_FLIGHT": "2", "JUDGEFLOW_ROUTING__SEED": "2", "OTHER_ROUTING__SEED": "9"}
    config = load(text, environ=environ, overrides={"routing.seed": "3"})
    assert (config.routing.verdict_margin, config.limits.max_in_flight, config.routing.seed) == (1.0, 2, 3)


def test_an_override_may_open_a_section_that_the_file_does_not_have(load):
    assert load(overrides={"budget.requests": "10"}).budget.stock == Stock(requests=10)


@pytest.mark.parametrize("name", ["2024-05-01", "7", "true", "1e5", "plain", '"quoted"'])
def test_a_run_set_from_outside_may_be_named_like_a_date_or_a_number(load, name):
    assert load(environ={"JUDGEFLOW_RUN__NAME": name}).run.name == name.strip('"')


def test_structured_values_may_be_given_as_toml_on_the_command_line(load):
    config = load(overrides={"judge.extra_body": '{top_p = 0.9, stop = ["x"]}', "judge.graded": "true", "routing.threshold": "0.3"})
    assert config.judge.extra_body == {"top_p": 0.9, "stop": ["x"]}
    assert config.judge.graded is True
    assert config.routing.threshold == 0.3


@pytest.mark.parametrize("value", ['{"top_p": 0.9, "stop": ["x"]}', ' {"top_p":0.9,"stop":["x"]}', '{top_p = 0.9, stop = ["x"]}'])
def test_more_fields_of_the_request_may_be_given_from_outside_as_json_or_toml(load, value):
    fields = {"top_p": 0.9, "stop": ["x"]}
    assert load(overrides={"judge.extra_body": value}).judge.extra_body == fields
    assert load(environ={"JUDGEFLOW_JUDGE__EXTRA_BODY": value}).judge.extra_body == fields


def test_a_text_that_looks_like_json_stays_a_text(load):
    assert load(overrides={"run.name": '{"a": 1}'}).run.name == '{"a": 1}'


@pytest.mark.parametrize("value", ["top_p=0.9", '{"top_p": 0.9', "[1]", "{top_p}"])
def test_more_fields_in_another_form_are_refused_with_the_two_that_are_accepted(complaint, value):
    message = complaint(overrides={"judge.extra_body": value})
    assert message.startswith("--set judge.extra_body: [judge] extra_body: ")
    assert "a TOML inline table, for instance {top_p = 0.9}" in message
    assert '{"top_p": 0.9}' in message


def test_a_file_saved_with_a_byte_order_mark_is_read(load):
    assert load(b"\xef\xbb\xbf" + MINIMAL.encode()).judge.model == "m"


def test_relative_paths_start_from_the_run_directory(load):
    config = load(f'{MINIMAL}[run]\ndirectory = "runs/one"\n')
    assert config.path("log.jsonl") == Path("runs/one/log.jsonl")
    assert config.path("/var/log.jsonl") == Path("/var/log.jsonl")


@pytest.mark.parametrize(("limits", "period"), [("", 60.5), ("window_s = 12", 12.1), ("window_s = 12\nmargin_s = 0", 12.0)])
def test_the_window_kept_is_the_judges_plus_the_margin(load, limits, period):
    assert load(f"{MINIMAL}[limits]\n{limits}").limits.period_s == pytest.approx(period)


# What is refused, where it stands and what would be accepted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MINIMAL.replace('"m"', '"m"\nmodle = "x"'),
            "judgeflow.toml:3: [judge] modle: unknown key; did you mean model? Accepted: id, base_url, model,",
        ),
        (f"{MINIMAL}[limits]\nrpm = 60", "judgeflow.toml:7: [limits] rpm: unknown key. Accepted: requests_per_minute,"),
        (
            f"{MINIMAL}[rooting]\nx = 1",
            "judgeflow.toml:6: [rooting]: unknown section; did you mean routing? Accepted: run, scorer, judge, judges, limits,",
        ),
        (f"{MINIMAL}[scorer]\ndevice = 'cpu'", "judgeflow.toml:6: [scorer] path: is required"),
        (
            f'{MINIMAL}[limits]\n\nmax_in_flight = "64"',
            "judgeflow.toml:8: [limits] max_in_flight: '64' is not accepted; it should be a valid integer",
        ),
        (
            f"{MINIMAL}[limits]\nmax_in_flight = 0",
            "judgeflow.toml:7: [limits] max_in_flight: 0 is not accepted; it should be greater than or equal",
        ),
        (f"{MINIMAL}[limits]\nmax_in_flight = true", "judgeflow.toml:7: [limits] max_in_flight: True is not accepted"),
        (f"{MINIMAL}[budget]\nusd = -1", "judgeflow.toml:7: [budget] usd: -1 is not accepted; it should be greater than or equal to 0"),
        (f"{MINIMAL}[budget]\nusd = inf", "judgeflow.toml:7: [budget] usd: inf is not accepted; it should be a finite number"),
        (f"{MINIMAL}max_share = 1.5", "judgeflow.toml:6: [routing] max_share: 1.5 is not accepted; it should be less than or equal to 1"),
        (
            MINIMAL.replace("always", "alwais"),
            "judgeflow.toml:5: [routing] policy: 'alwais' is not accepted; it should be 'error', 'uncertainty',",
        ),
        (MINIMAL.replace('"m"', '""'), "judgeflow.toml:2: [judge] model: '' is not accepted"),
        (MINIMAL.replace('model = "m"', "temperature = 0"), "judgeflow.toml:1: [judge] model: is required"),
        ('[routing]\npolicy = "always"', "judgeflow.toml: [judge]: this section is required"),
        (f'judge = "m"\n{MINIMAL[20:]}', "judgeflow.toml: [judge]: must be a section, written [judge]"),
        (MINIMAL.replace("[judge]", "[[judge]]"), "judgeflow.toml: [judge]: must be a section, written [judge]"),
        ("[judge]\nmodel = \n", "judgeflow.toml:2: not valid TOML: Invalid value"),
        (
            MINIMAL.replace('"m"', '"m"\nbase_url = "api.example.org"'),
            "judgeflow.toml:3: [judge] base_url: 'api.example.org' is not an http:// or",
        ),
        (MINIMAL.replace('"m"', '"m"\nextra_body = {n = 4}'), "judgeflow.toml:3: [judge] extra_body: n is set by judgeflow itself"),
        (MINIMAL.replace('"m"', '"m"\nextra_body = {x = nan}'), "judgeflow.toml:3: [judge] extra_body: cannot be sent as JSON"),
        (MINIMAL.replace('"m"', '"m"\nextra_body = {x = 2024-05-01}'), "judgeflow.toml:3: [judge] extra_body: cannot be sent as JSON"),
        (
            MINIMAL.replace('"m"', f'"m"\nextra_body = {{top_p = 1, seed = {2**64}}}'),
            "judgeflow.toml:3: [judge] extra_body: cannot be sent as JSON: seed: Integer exceeds 64-bit range",
        ),
        (
            MINIMAL.replace('"m"', f'"m"\nextra_body = {{a = [{{b = {-(2**70)}}}]}}'),
            "judgeflow.toml:3: [judge] extra_body: cannot be sent as JSON: a: Integer exceeds 64-bit range",
        ),
        (f"{MINIMAL}seed = {2**64}", "judgeflow.toml:6: [routing] seed: 18446744073709551616 is not accepted; it should be less than"),
        (f"{MINIMAL}[budget]\nrequests = {10**30}", "judgeflow.toml:7: [budget] requests: 1000000000000000000000000000000 is not"),
        (f"{MINIMAL}[budget]\ntokens = {2**63}", "judgeflow.toml:7: [budget] tokens: 9223372036854775808 is not accepted; it should be"),
        (f"{MINIMAL}[limits]\nrequests_per_minute = {2**63}", "judgeflow.toml:7: [limits] requests_per_minute: 9223372036854775808 is not"),
        (
            MINIMAL.replace('"m"', '"m"\nbase_url = "https://host/v1?key=abc"'),
            "judgeflow.toml:3: [judge] base_url: ends before any ? or #",
        ),
        (b"\xff\xfe[\x00", "judgeflow.toml: cannot be read: 'utf-8' codec can't decode"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line_and_what_is_accepted(complaint, text, message):
    assert complaint(text).startswith(message)


@pytest.mark.parametrize("threshold", ['"high"', "nan", "[1]", "true"])
def test_an_impossible_threshold_is_told_once_and_in_plain_words(complaint, threshold):
    message = complaint(f"{MINIMAL}threshold = {threshold}")
    assert message.startswith("judgeflow.toml:6: [routing] threshold: ")
    assert message.endswith("is not accepted; it should be 'adaptive' or a finite number")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JUDGEFLOW_LIMITS__MAX_IN_FLIGHT", "many", "[limits] max_in_flight: 'many' is not accepted; it should be a valid integer"),
        ("JUDGEFLOW_JUDGE__MODLE", "m", "[judge] modle: unknown key; did you mean model?"),
        ("JUDGEFLOW_ROOTING__POLICY", "always", "[rooting]: unknown section; did you mean routing?"),
        ("JUDGEFLOW_ROUTING__POLICY", "margin", "[routing] policy: 'margin' ranks pairs by a scorer"),
        (
            "JUDGEFLOW_BUDGET_REQUESTS",
            "5",
            "expected JUDGEFLOW_SECTION__KEY, with two underscores; did you mean JUDGEFLOW_BUDGET__REQUESTS?",
        ),
        ("JUDGEFLOW_MODEL", "m", "expected JUDGEFLOW_SECTION__KEY, with two underscores; did you mean JUDGEFLOW_JUDGE__MODEL?"),
        ("JUDGEFLOW_HOME", "x", "expected JUDGEFLOW_SECTION__KEY, with two underscores; for instance JUDGEFLOW_ROUTING__POLICY=always"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(complaint, name, value, message):
    assert complaint(environ={name: value}).startswith(f"environment variable {name}: {message}")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("limits.max_in_flight", "0", "[limits] max_in_flight: 0 is not accepted"),
        ("limits.max_in_fligth", "1", "[limits] max_in_fligth: unknown key; did you mean max_in_flight?"),
        ("foo.bar", "1", "[foo]: unknown section"),
        ("policy", "always", "expected SECTION.KEY=VALUE, for instance routing.policy=always"),
    ],
)
def test_a_mistake_on_the_command_line_names_the_flag(complaint, name, value, message):
    assert complaint(overrides={name: value}).startswith(f"--set {name}: {message}")


def test_a_flag_that_is_right_is_not_blamed_for_a_mistake_in_the_file(complaint):
    message = complaint(f"{MINIMAL}[limits]\nmax_in_flight = 0", overrides={"limits.requests_per_minute": "5"})
    assert message.startswith("judgeflow.toml:7: [limits] max_in_flight")


def test_every_mistake_is_told_at_once(complaint):
    lines = complaint(f"{MINIMAL}sed = 1\n[limits]\nmax_in_flight = 0\n[budget]\nsteps = 0").splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["judgeflow.toml:8", "judgeflow.toml:10", "judgeflow.toml:6"]


def test_a_required_key_that_is_misspelt_is_told_as_missing_and_as_unknown(complaint):
    missing, unknown = complaint(MINIMAL.replace("model", "modle")).splitlines()
    assert missing == "judgeflow.toml:1: [judge] model: is required"
    assert unknown.startswith("judgeflow.toml:2: [judge] modle: unknown key; did you mean model?")


def test_a_missing_file_is_answered_with_a_minimal_one_that_works(tmp_path, load):
    with pytest.raises(ConfigurationError, match="no such configuration file; a minimal one is") as caught:
        load_config(tmp_path / "nowhere.toml", environ={})
    assert "nowhere.toml" in str(caught.value)
    assert load(str(caught.value).partition("a minimal one is\n")[2]).routing.policy == "always"


def test_a_folder_instead_of_a_file_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config(tmp_path, environ={})


# What cannot work together


@pytest.mark.parametrize("policy", ["error", "uncertainty", "margin"])
def test_a_policy_that_ranks_by_a_scorer_needs_one(complaint, policy):
    message = complaint(MINIMAL.replace("always", policy))
    assert message.startswith(f"judgeflow.toml:5: [routing] policy: '{policy}' ranks pairs by a scorer")
    assert "always, random, never" in message


def test_steps_need_a_budget_that_is_to_last_for_them(complaint):
    message = complaint(MINIMAL + "\n[budget]\nsteps = 10\n")
    assert message.startswith("judgeflow.toml:8: [budget] steps: says how long a budget should last, and there is none")


def test_a_judge_written_inside_the_first_one_is_told_where_it_belongs(complaint):
    assert "one more judge is written [judges.local]" in complaint(MINIMAL + '\n[judge.local]\nmodel = "other"\n')


def test_an_adaptive_threshold_with_nothing_to_adapt_to_is_a_mistake(complaint):
    message = complaint(MINIMAL.replace("always", "random"))
    assert message.startswith("judgeflow.toml:4: [routing] threshold: 'adaptive' has nothing to adapt to")
    assert all(way in message for way in ("max_share", "step_deadline_s", "[budget] steps", "a number"))


@pytest.mark.parametrize("way", ["max_share = 0.2", "step_deadline_s = 60", "threshold = 0.7", "[budget]\nsteps = 100\nrequests = 10"])
def test_each_way_that_the_message_names_gives_an_adaptive_threshold_its_meaning(load, way):
    assert load(f"{MINIMAL.replace('always', 'random')}{way}").routing.policy == "random"


RANKED = MINIMAL.replace("always", "error") + 'max_share = 0.2\n[scorer]\npath = "scorer"\n'


@pytest.mark.parametrize("policy", ["random", "always", "never"])
def test_an_audit_needs_a_threshold_that_leaves_somebody_to_draw(complaint, policy):
    message = complaint(MINIMAL.replace("always", policy) + "max_share = 0.2\naudit_fraction = 0.05")
    assert message.startswith(f"judgeflow.toml:7: [routing] audit_fraction: policy '{policy}' has no threshold to draw pairs below")
    assert "error, uncertainty or margin" in message


@pytest.mark.parametrize("value", ["1.0", "-0.1", "'some'"])
def test_an_audit_takes_less_than_everything_and_no_less_than_nothing(complaint, value):
    message = complaint(RANKED, overrides={"routing.audit_fraction": value})
    assert message.startswith("--set routing.audit_fraction: [routing] audit_fraction: ")


@pytest.mark.parametrize("policy", ["margin", "random", "always", "never"])
def test_a_ranking_by_cost_needs_acquisitions_that_a_cost_can_divide(complaint, policy):
    message = complaint(RANKED, overrides={"routing.policy": policy, "routing.cost_weighted": "true"})
    assert message.startswith(f"--set routing.cost_weighted: [routing] cost_weighted: policy '{policy}' has no positive acquisition")
    assert "error or uncertainty" in message


@pytest.mark.parametrize("policy", ["error", "uncertainty"])
def test_each_policy_that_the_messages_name_takes_audits_and_costs(load, policy):
    config = load(RANKED, overrides={"routing.policy": policy, "routing.audit_fraction": "0.05", "routing.cost_weighted": "true"})
    assert (config.routing.audit_fraction, config.routing.cost_weighted) == (0.05, True)


def test_a_budget_in_dollars_needs_the_judges_prices(complaint):
    message = complaint(f"{MINIMAL}[budget]\nusd = 5.0")
    assert message.startswith("judgeflow.toml:7: [budget] usd: limits nothing while every reply costs 0")
    assert "[judge] prompt_usd_per_mtok and completion_usd_per_mtok" in message


@pytest.mark.parametrize("price", ["judge.prompt_usd_per_mtok", "judge.completion_usd_per_mtok"])
def test_one_price_gives_a_budget_in_dollars_its_meaning(load, price):
    assert load(overrides={"budget.usd": "5.0", price: "0.1"}).budget.stock == Stock(usd=5.0)


@pytest.mark.parametrize("limit", [1, 4000, 4096])
def test_a_token_limit_that_no_question_fits_into_names_both_keys(complaint, limit):
    message = complaint(f"{MINIMAL}[limits]\ntokens_per_minute = {limit}")
    assert message.startswith(f"judgeflow.toml:7: [limits] tokens_per_minute: {limit} admits no question at all")
    assert "[judge] max_completion_tokens = 4096" in message


@pytest.mark.parametrize("way", [("limits.tokens_per_minute", "5000"), ("judge.max_completion_tokens", "500")])
def test_each_way_that_the_message_names_makes_room(load, way):
    assert load(f"{MINIMAL}[limits]\ntokens_per_minute = 4000", overrides=dict([way])).limits.tokens_per_minute >= 4000


def test_the_largest_whole_numbers_that_are_accepted_can_name_a_run(load):
    most = 2**63 - 1
    config = load(f"{MINIMAL}seed = {most}\n[budget]\nrequests = {most}\ntokens = {most}\n[judge.extra_body]\nseed = {2**64 - 1}")
    assert len(digest("run/1", run_fingerprint_fields(config))) == 32
    assert 0 <= uniform(config.routing.seed, bytes(32)) < 1


@pytest.mark.parametrize(
    "address",
    ["http://localhost", "http://127.0.0.1:8399/v1", "http://[::1]:80/v1/", "https://gateway.example/openai/@me/v1", "http://v_llm:8/v1"],
)
def test_an_address_is_a_host_perhaps_a_port_and_perhaps_a_path(load, address):
    assert load(overrides={"judge.base_url": address}).judge.base_url == address


@pytest.mark.parametrize(
    "address", ["http://", "https:///v1", "http://host:port/v1", "http://a b/v1", "http://host/v1?x=1", "localhost:80"]
)
def test_what_is_no_address_is_refused(complaint, address):
    assert "[judge] base_url: " in complaint(overrides={"judge.base_url": address})


# Several judges

TWO = f'{MINIMAL}[judges.backup]\nmodel = "b"\n[judges.backup.limits]\nrequests_per_minute = 30\n'


def test_a_further_judge_has_everything_of_its_own(load):
    config = load(f'{TWO}[judges.third]\nmodel = "c"\nlimits = {{max_in_flight = 2}}\n')
    assert list(config.judges) == ["backup", "third"]
    assert (config.judges["backup"].model, config.judges["backup"].limits.requests_per_minute) == ("b", 30)
    assert (config.judges["third"].limits.max_in_flight, config.limits.max_in_flight) == (2, 64)


def test_a_further_judge_may_be_set_and_changed_from_outside(load):
    environ = {"JUDGEFLOW_JUDGES__BACKUP__MODEL": "4", "JUDGEFLOW_JUDGES__BACKUP__LIMITS__REQUESTS_PER_MINUTE": "7"}
    config = load(TWO, environ=environ, overrides={"judges.third.model": "c", "judges.backup.limits.max_in_flight": "3"})
    assert (config.judges["backup"].model, config.judges["third"].model) == ("4", "c")
    assert (config.judges["backup"].limits.requests_per_minute, config.judges["backup"].limits.max_in_flight) == (7, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TWO.replace('"b"', '"b"\nmodle = 1'),
            "judgeflow.toml:8: [judges.backup] modle: unknown key; did you mean model? Accepted: id, base",
        ),
        (TWO.replace('"b"', '"b"\norders = "first"'), "judgeflow.toml:8: [judges.backup] orders: unknown key"),
        (TWO.replace('model = "b"', ""), "judgeflow.toml:6: [judges.backup] model: is required"),
        (
            TWO.replace("requests_per", "request_per"),
            "judgeflow.toml:9: [judges.backup.limits] request_per_minute: unknown key; did you mean",
        ),
        (
            TWO.replace("= 30", "= 0"),
            "judgeflow.toml:9: [judges.backup.limits] requests_per_minute: 0 is not accepted; it should be greater",
        ),
        (
            TWO.replace("[judges.backup.limits]\nrequests", "limits.requests").replace("= 30", "= 0"),
            "judgeflow.toml:8: [judges.backup.limits]",
        ),
        (
            TWO.replace("requests_per_minute", "tokens_per_minute"),
            "judgeflow.toml:9: [judges.backup.limits] tokens_per_minute: 30 admits no question at all",
        ),
        (TWO.replace('"b"', '"b"\nbase_url = "example.org"'), "judgeflow.toml:8: [judges.backup] base_url: 'example.org' is not an http"),
        (TWO.replace('"b"', '"b"\nweight = 2.0'), "judgeflow.toml:8: [judges.backup] weight: counts only where the judges share the pairs"),
        (TWO.replace("backup", "judge"), "judgeflow.toml:6: [judges] judge: a judge is named with small letters"),
        (TWO.replace("backup", '"Back up"'), "judgeflow.toml: [judges] Back up: a judge is named with small letters"),
        (f'{MINIMAL}[judges]\nbackup = "b"\n', "judgeflow.toml:7: [judges.backup]: must be a section, written [judges.backup]"),
        (
            f'{MINIMAL}[[judges]]\nmodel = "b"\n',
            "judgeflow.toml: [judges]: must hold one section each, written [judges.NAME]",
        ),
        (f'{MINIMAL}panel = "weights"\n', "judgeflow.toml:6: [routing] panel: 'weights' divides the pairs between several judges; add"),
    ],
)
def test_a_mistake_about_a_further_judge_is_named_with_its_line(complaint, text, message):
    assert complaint(text).startswith(message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JUDGEFLOW_JUDGES__BACKUP__MODLE", "m", "[judges.backup] modle: unknown key; did you mean model?"),
        ("JUDGEFLOW_JUDGES__BACKUP__LIMITS__RPM", "1", "[judges.backup.limits] rpm: unknown key"),
        ("JUDGEFLOW_JUDGES__OTHER__TIMEOUT_S", "1", "[judges.other] model: is required"),
        ("JUDGEFLOW_JUDGES__MODEL", "m", "expected JUDGEFLOW_JUDGES__NAME__KEY or JUDGEFLOW_JUDGES__NAME__LIMITS__KEY"),
    ],
)
def test_a_mistake_about_a_further_judge_in_the_environment_names_the_variable(complaint, name, value, message):
    assert complaint(TWO, environ={name: value}).startswith(f"environment variable {name}: {message}")


def test_a_slip_in_a_judges_name_makes_no_new_judge(complaint):
    message = complaint(TWO, overrides={"judges.bakcup.model": "x"})
    assert message == "--set judges.bakcup.model: there is no [judges.bakcup]; did you mean backup? Another judge needs a less similar name"


@pytest.mark.parametrize("name", ["judges.model", "judges.backup.limits", "judges.a.b.c"])
def test_a_flag_about_a_further_judge_that_names_no_key_is_told_what_is_expected(complaint, name):
    message = complaint(TWO, overrides={name: "1"})
    assert message == f"--set {name}: expected judges.NAME.KEY or judges.NAME.limits.KEY"


def test_a_key_of_a_further_judge_is_never_repeated(complaint):
    message = complaint(TWO.replace('"b"', f'"b"\napi_key_env = "{SECRET}"'))
    assert message.startswith("judgeflow.toml:8: [judges.backup] api_key_env: the NAME of an environment variable is expected")
    assert "secret" not in message


def test_weights_are_accepted_where_they_count(load):
    config = load(TWO.replace('"b"', '"b"\nweight = 2.0'), overrides={"routing.panel": "weights", "judge.weight": "0.5"})
    assert (config.judge.weight, config.judges["backup"].weight) == (0.5, 2.0)


def test_a_budget_in_dollars_is_charged_by_any_judge_that_has_prices(load, complaint):
    assert "limits nothing" in complaint(TWO, overrides={"budget.usd": "1"})
    assert load(TWO, overrides={"budget.usd": "1", "judges.backup.prompt_usd_per_mtok": "2"}).budget.usd == 1


def test_further_judges_make_another_run_and_their_limits_do_not(load):
    base = run_fingerprint_fields(load(TWO))
    assert base != run_fingerprint_fields(load())
    assert base == run_fingerprint_fields(
        load(TWO, overrides={"judges.backup.limits.requests_per_minute": "5", "judges.backup.timeout_s": "3"})
    )
    assert base != run_fingerprint_fields(load(TWO, overrides={"judges.backup.model": "other"}))
    assert base != run_fingerprint_fields(load(TWO, overrides={"routing.panel": "weights"}))


# Secrets


@pytest.mark.parametrize("where", ["user:{}@host", "{}@host:8000", "user:p/{}@host", "user%40home:{}@host"])
def test_a_password_in_the_address_is_refused_and_not_repeated(complaint, where):
    message = complaint(overrides={"judge.base_url": f"https://{where.format(SECRET)}/v1"})
    assert "secret" not in message
    assert "[judge] base_url: holds a user name or password" in message
    assert "api_key_env" in message


@pytest.mark.parametrize("value", [SECRET, "sk-x", "gsk_abcdef123", "hf_abcdef123", "Bearer abc", "two words", "1ABC", "key="])
@pytest.mark.parametrize("where", ["file", "environment", "flag"])
def test_a_key_in_place_of_a_variables_name_is_refused_and_not_repeated(complaint, value, where):
    message = {
        "file": lambda: complaint(MINIMAL.replace("[judge]", f'[judge]\napi_key_env = "{value}"')),
        "environment": lambda: complaint(environ={"JUDGEFLOW_JUDGE__API_KEY_ENV": value}),
        "flag": lambda: complaint(overrides={"judge.api_key_env": value}),
    }[where]()
    assert "[judge] api_key_env: the NAME of an environment variable is expected" in message
    assert value not in message


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "_key", "k2", "SK_KEY", "HF_TOKEN"])
def test_the_name_of_a_variable_is_accepted(load, name):
    assert load(overrides={"judge.api_key_env": name}).judge.api_key_env == name


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "{}"',
        'timeout_s = "{}"',
        'base_url = "{}"',
        'base_url = "ftp://user:{}@host/v1"',
        'extra_body = ["{}"]',
        'temperature = {{ key = "{}" }}',
        'extra_body = {{ stream = "{}" }}',
        'api_key_env = ["{}"]',
        "api_key_env = {}",
    ],
)
def test_a_secret_in_a_wrong_place_never_appears_in_the_message(complaint, line):
    message = complaint(MINIMAL.replace("[judge]", f"[judge]\n{line.format(SECRET)}"))
    assert message.startswith("judgeflow.toml:2: ")
    assert "secret" not in message


def test_a_long_value_is_cut_short_in_the_message(complaint):
    assert len(complaint(f'{MINIMAL}seed = "{"x" * 100_000}"')) < 300


# Names and identity


def test_sections_and_their_keys_can_be_listed():
    assert sections() == ["run", "scorer", "judge", "judges", "limits", "budget", "routing", "store", "log", "metrics", "tracing"]
    assert keys_of("store") == list(StoreConfig.model_fields) == ["url"]
    assert keys_of("nonsense") == []


def test_every_setting_has_a_description():
    models = [section_type(section) for section in sections()]
    assert all(field.description for model in models for field in model.model_fields.values())


def test_settings_cannot_be_changed_after_loading(load):
    with pytest.raises(ValueError, match="frozen"):
        load().judge.model = "other"


def test_a_threshold_made_in_code_must_be_finite_too():
    with pytest.raises(ValueError, match="finite"):
        RoutingConfig(threshold=math.nan)


SAME_RUN = {
    "limits.requests_per_minute": "5",
    "limits.max_in_flight": "2",
    "judge.timeout_s": "5",
    "judge.api_key_env": "OTHER",
    "judge.retry_attempts": "2",
    "judge.prompt_usd_per_mtok": "3",
    "store.url": "sqlite+aiosqlite:///other.db",
    "log.path": "log.jsonl",
    "run.directory": "elsewhere",
}
OTHER_RUN = {
    "judge.model": "other",
    "judge.base_url": "http://localhost",
    "judge.template": "verdict-abc",
    "judge.temperature": "0.5",
    "judge.orders": "first",
    "judge.extra_body": "{top_p = 0.5}",
    "budget.requests": "7",
    "routing.policy": "never",
    "routing.seed": "1",
}


@pytest.mark.parametrize(("key", "value"), SAME_RUN.items())
def test_limits_timeouts_and_files_do_not_make_another_run(load, key, value):
    assert run_fingerprint_fields(load(overrides={key: value})) == run_fingerprint_fields(load())


@pytest.mark.parametrize(("key", "value"), OTHER_RUN.items())
def test_judge_budget_and_routing_make_another_run(load, key, value):
    assert run_fingerprint_fields(load(overrides={key: value})) != run_fingerprint_fields(load())


@pytest.mark.parametrize(("key", "value"), [("routing.audit_fraction", "0.05"), ("routing.cost_weighted", "true")])
def test_settings_that_came_later_make_another_run_only_where_they_change_something(load, key, value):
    assert key.partition(".")[2] not in run_fingerprint_fields(load(RANKED))["routing"]
    assert run_fingerprint_fields(load(RANKED, overrides={key: value})) != run_fingerprint_fields(load(RANKED))


def test_a_judge_with_an_id_may_move_to_another_address(load):
    moved = {"judge.id": "ours", "judge.base_url": "http://elsewhere"}
    assert run_fingerprint_fields(load(overrides={"judge.id": "ours"})) == run_fingerprint_fields(load(overrides=moved))
