"""Checks the alert rules and the dashboard against the server's metrics, as PromQL."""

from __future__ import annotations

import json
import re

import promql_parser as promql
import pytest
import yaml

from conftest import ROOT
from keras_peft.serve.adapter_record import LOAD_STATES
from keras_peft.serve.http.failures import STATUSES
from keras_peft.serve.metrics import Metrics, exposition

DEPLOY = ROOT / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
# Prometheus adds these to every series, and makes `up` itself.
ADDED = {"job", "instance"}
VALUES = {
    "reason": {one.kind for one in STATUSES},
    "state": {state.lower() for state in LOAD_STATES},
    "result": {"ok", "failed"},
    "job": {"keras-peft"},
}


def exposed():
    """The labels of each series of /metrics, by its name."""
    metrics = Metrics()
    series = {"up": set()}
    own = {
        value._name: set(value._labelnames)
        for value in vars(metrics).values()
        if hasattr(value, "_labelnames")
    }
    for family in metrics.registry.collect():
        for suffix in SUFFIXES[family.type]:
            series[family.name + suffix] = own.get(family.name, set()) | (
                {"le"} if suffix == "_bucket" else set()
            )
    return series


def selectors(expression):
    found = []
    promql.walk(expression, lambda one: found.append(one) if isinstance(one, promql.VectorSelector) else None)
    return found


def shown():
    """The expressions of the dashboard, with Grafana's variables replaced."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return [target["expr"].replace("$__rate_interval", "5m") for target in targets]


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *shown()])
def test_an_expression_is_valid_and_selects_series_of_the_server(expression):
    known = exposed()
    found = selectors(promql.parse(expression))
    assert found
    for one in found:
        assert one.name in known
        for matcher in one.matchers.matchers:
            assert matcher.name in known[one.name] | ADDED
            if matcher.op == promql.MatchOp.Equal:
                assert matcher.value in VALUES[matcher.name]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_has_what_prometheus_reads_and_people_need(rule):
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch("KerasPeft[A-Za-z]+", rule["alert"])
    assert promql.parse_duration(rule.get("for", "1s"))
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    # An alert without a comparison would always fire.
    assert isinstance(promql.parse(rule["expr"]), promql.BinaryExpr)
    text = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= {"instance", "key"}
    assert set(re.findall(r"\| (\w+)", text)) <= {"humanizePercentage", "humanizeDuration"}
    for name in re.findall(r"\bkeras_peft_\w+", text):
        assert exposed().keys() & {name, f"{name}_bucket"}


def test_the_names_of_the_alerts_are_unique_and_prometheus_reads_the_file():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    configuration = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    assert configuration["rule_files"] == ["alerts.yaml"]
    assert VALUES["job"] == {job["job_name"] for job in configuration["scrape_configs"]}
    volumes = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["prometheus"]["volumes"]
    assert "./alerts.yaml:/etc/prometheus/alerts.yaml:ro" in volumes


def test_failed_loads_are_counted_from_zero_so_that_the_first_one_is_an_increase():
    assert (
        'keras_peft_adapter_loads_total{result="failed"} 0.0'
        in exposition(Metrics().families(), "")[0].decode()
    )
