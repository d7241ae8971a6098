"""Configs and ``raybook serve``: YAML in, applications out."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner

from raybook import serve
from raybook.cli import main
from raybook.serve.deploy_config import ConfigError, parse_config
from raybook.serve.schema import ServeDeploySchema

CODE = """
from pydantic import BaseModel
from raybook import serve
from helper_of_my_app import WORD


@serve.deployment(user_config={"word": "code"})
class Speaker:
    def __init__(self, loud=False):
        self.loud = loud

    def reconfigure(self, config):
        self.word = config["word"]

    async def __call__(self):
        text = f"{WORD} {self.word}"
        return text.upper() if self.loud else text


class Options(BaseModel):
    loud: bool


app = Speaker.bind()


def build(options: Options):
    return Speaker.bind(options.loud)


number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an application, which is forgotten after the test."""
    (tmp_path / "my_served_app.py").write_text(CODE)
    (tmp_path / "helper_of_my_app.py").write_text('WORD = "says"\n')
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("my_served_app", "helper_of_my_app"):
        sys.modules.pop(name, None)


def write(folder: Path, config: dict) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["serve", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"applications": [{"import_path": "a:b", "nmae": "x"}]},
            r"applications.0.nmae: unknown key; known here are: .*name",
        ),
        ({"applicatoins": []}, "applicatoins: unknown key"),
        ({"applications": [{"name": "x"}]}, "applications.0.import_path: Field required"),
        ({"applications": [{"import_path": "nothing"}]}, "import path"),
        ({"applications": [{"import_path": "a:b", "route_prefix": "x"}]}, "must start with a forward slash"),
        ({"applications": [{"import_path": "a:b"}, {"import_path": "c:d"}]}, "duplicate"),
        (
            {"applications": [{"import_path": "a:b", "deployments": [{"name": "D", "num_replica": 2}]}]},
            r"deployments.0.num_replica: unknown key; known here are: .*num_replicas",
        ),
        ([], "mapping"),
    ],
)
def test_a_config_that_is_wrong_names_the_place(config, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(config)


def test_what_build_writes_is_a_config(folder):
    text = invoke("build", "--app-dir", str(folder), "my_served_app:app")
    config = ServeDeploySchema(**yaml.safe_load(text))
    (application,) = config.applications
    assert application.import_path == "my_served_app:app"
    (deployment,) = application.deployments
    assert (deployment.name, deployment.user_config) == ("Speaker", {"word": "code"})


def test_what_is_no_application_is_said(folder):
    for path, words in (
        ("my_served_app:number", "should be an application"),
        ("my_served_app:absent", "absent"),
        ("no_such_module:app", "no_such_module"),
    ):
        result = CliRunner().invoke(main, ["serve", "build", "--app-dir", str(folder), path])
        assert result.exit_code == 1
        assert words in result.output


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_deploy_makes_the_cluster_serve_what_the_config_says(url, folder):
    first = {
        "applications": [
            {"name": "plain", "route_prefix": "/plain", "import_path": "my_served_app:app"},
            {
                "name": "loud", "route_prefix": "/loud", "import_path": "my_served_app:build", "args": {"loud": True},
                "deployments": [{"name": "Speaker", "user_config": {"word": "config"}, "num_replicas": 2}],
            },
        ]
    }  # fmt: skip
    serve.deploy_config(first, wait=True, folders=[str(folder)])
    assert httpx.get(f"{url}/plain").text == "says code"
    assert httpx.get(f"{url}/loud").text == "SAYS CONFIG"
    assert serve.status().applications["loud"].deployments["Speaker"].replica_states == {"RUNNING": 2}
    kept = serve.details()["applications"]["loud"]["config"]
    assert kept["args"] == {"loud": True}
    broken = {
        "applications": [{**first["applications"][0], "import_path": "my_served_app:number"}, first["applications"][1]]
    }
    serve.deploy_config(broken, folders=[str(folder)])
    overview = serve.status().applications["plain"]
    assert overview.status == "DEPLOY_FAILED"
    assert "should be an application" in overview.message
    assert httpx.get(f"{url}/plain").text == "says code"
    serve.deploy_config({"applications": first["applications"][1:]}, wait=True, folders=[str(folder)])
    assert httpx.get(f"{url}/plain").status_code == 404
    assert httpx.get(f"{url}/loud").text == "SAYS CONFIG"
    wrong = {"applications": [{**first["applications"][1], "deployments": [{"name": "Other"}]}]}
    serve.deploy_config(wrong, folders=[str(folder)])
    assert "'Other' does not exist" in serve.status().applications["loud"].message
    serve.delete("loud")
