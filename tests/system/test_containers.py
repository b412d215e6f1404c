"""The examples for containers can be read by their engines, and name what rqd has."""

import json
import re

import click

from rqd.cli.main import cli
from rqd.cli.settings import options_of, variable_of
from rqd.cli.start import command as start
from tests.daemons import ROOT

EXAMPLES = ROOT / "docs" / "examples"
CONTAINERFILE = (EXAMPLES / "Containerfile").read_text()
MANIFEST = (EXAMPLES / "kubernetes.yaml").read_text()
# What lasts longest after the grace: the kill, the last outcomes, an embedded server's end.
LAST_STEPS_S = 10
INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "HEALTHCHECK", "RUN", "USER"}
INSTRUCTIONS |= {"WORKDIR"}


def test_the_containerfile_starts_rqd_itself_and_not_a_shell() -> None:
    lines = [line for line in CONTAINERFILE.splitlines() if line and not line.startswith("#")]
    told = {line.split()[0]: line.partition(" ")[2] for line in lines}

    assert set(told) == INSTRUCTIONS
    assert json.loads(told["ENTRYPOINT"]) == ["rqd"]
    understood(json.loads(told["CMD"]))
    probe = json.loads(told["HEALTHCHECK"].partition("CMD ")[2])
    assert probe[0] == "rqd"
    understood(probe[1:])


def test_the_containerfile_copies_what_is_there() -> None:
    app = re.search(r"^ARG APP=(\S+)$", CONTAINERFILE, re.M)
    assert app is not None
    copied = re.findall(r"^COPY (.+) \S+$", CONTAINERFILE, re.M)

    for source in " ".join(copied).replace("${APP}", app[1]).split():
        assert (ROOT / source).exists(), source
    # What CMD preloads is the example's.
    assert (ROOT / app[1] / "jobs.py").exists()


def test_the_manifests_commands_and_settings_are_rqds() -> None:
    probes = dict(re.findall(r"(\w+)Probe:\n +exec: \{command: (\[.+\])\}$", MANIFEST, re.M))
    assert set(probes) == {"startup", "liveness", "readiness"}
    for probe in probes.values():
        name, *arguments = json.loads(probe)
        assert name == "rqd"
        understood(arguments)
    (arguments,) = re.findall(r"^ +args: (\[.+\])$", MANIFEST, re.M)
    understood(json.loads(arguments))

    settings = {variable_of(option) for option in options_of(start)}
    assert set(re.findall(r"name: (RQD_\w+)", MANIFEST)) <= settings


def test_the_manifest_gives_the_daemon_the_time_that_it_takes() -> None:
    grace_s = re.search(r'name: RQD_GRACE, value: "(\d+)"', MANIFEST)
    waits_s = re.search(r"terminationGracePeriodSeconds: (\d+)$", MANIFEST, re.M)
    assert grace_s is not None
    assert waits_s is not None

    assert int(waits_s[1]) >= int(grace_s[1]) + LAST_STEPS_S


def test_the_manifest_has_the_shape_of_yaml() -> None:
    """No parser is installed for it; these are mistakes made by hand."""
    deepest = 0
    for line in MANIFEST.splitlines():
        code = line.split("#")[0].rstrip()
        if not code:
            continue
        assert "\t" not in code
        assert all(code.count(a) == code.count(b) for a, b in ("{}", "[]", '""')), line
        assert re.fullmatch(r" *(- )?(\w+:( \S.*)?|\{.+\})", code), line
        depth = len(code) - len(code.lstrip(" "))
        assert depth % 2 == 0, line
        assert depth <= deepest, line
        # Below a key without a value, and beside what an entry of a list begins with.
        deepest = depth + 2 * (code.endswith(":") + code.lstrip().startswith("- "))


def understood(arguments: list[str]) -> None:
    """Raises click's error for a command or option that rqd does not have."""
    context = click.Context(cli)
    name, found, rest = cli.resolve_command(context, arguments)
    assert found is not None
    found.make_context(name, rest)
