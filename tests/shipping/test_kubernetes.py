"""The Kubernetes objects: built by kustomize, valid, safe, and in step with the service."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from app.db.bootstrap import DATABASE_NAME, Roles
from tests.shipping import operator_schemas
from tests.shipping.manifests import (
    OVERLAYS,
    Manifest,
    build,
    containers,
    environment,
    identity,
    of_kind,
    one,
    pod_template,
    workloads,
)
from tests.shipping.service_facts import (
    DRIVER_VARIABLES,
    ROOT,
    default_setting,
    parse_command,
    project_version,
    require_settings,
    routes,
    setting_variables,
)

KUBERNETES_VERSIONS = ("1.33", "1.37")
"""The oldest that has everything used here (the sleep of preStop), and the newest whose schemas are known."""

EVERY_OBJECT = [
    pytest.param(overlay, manifest, id=f"{overlay}-{identity(manifest)}")
    for overlay in OVERLAYS
    for manifest in build(overlay)
]
EVERY_CONTAINER = [
    pytest.param(overlay, workload, container, id=f"{overlay}-{identity(workload)}-{container['name']}")
    for overlay in OVERLAYS
    for workload, template in workloads(overlay)
    for container in containers(template)
]
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
each_object = pytest.mark.parametrize(("overlay", "manifest"), EVERY_OBJECT)
each_container = pytest.mark.parametrize(("overlay", "workload", "container"), EVERY_CONTAINER)


# ---- Validity


def _check(manifest: Manifest) -> None:
    if manifest["kind"] in operator_schemas.KINDS:
        operator_schemas.check(manifest)
        return
    for version in KUBERNETES_VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


@each_object
def test_every_object_fits_its_schema(overlay: str, manifest: Manifest) -> None:
    _check(manifest)


def test_a_misspelt_field_is_found_in_every_kind() -> None:
    for manifest in build("production"):
        broken = copy.deepcopy(manifest)
        broken.get("spec", broken)["misspeltField"] = "value"
        with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError, AssertionError)):
            _check(broken)


@each_overlay
def test_an_overlay_keeps_its_objects_in_its_own_namespace(overlay: str) -> None:
    [namespace] = of_kind(overlay, "Namespace")
    for manifest in build(overlay):
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == namespace["metadata"]["name"], identity(manifest)


@each_overlay
def test_no_object_is_there_twice(overlay: str) -> None:
    names = [identity(manifest) for manifest in build(overlay)]
    assert len(names) == len(set(names))


def test_every_file_of_k8s_is_used_by_a_kustomization() -> None:
    for folder in {path.parent for path in (ROOT / "k8s").rglob("*.yaml")}:
        text = (folder / "kustomization.yaml").read_text(encoding="utf-8")
        for path in folder.glob("*.yaml"):
            assert path.name == "kustomization.yaml" or path.name in text, path


# ---- In step with the service


@each_container
def test_a_container_runs_a_command_that_exists(overlay: str, workload: Manifest, container: Manifest) -> None:
    assert "command" not in container, "the entry point of the image is channel-gate"
    assert parse_command(container["args"]).startswith("channel-gate ")


@each_container
def test_a_container_sets_only_what_the_service_reads(overlay: str, workload: Manifest, container: Manifest) -> None:
    given = {name: value for name, value in environment(overlay, container).items() if name not in DRIVER_VARIABLES}
    assert set(given) <= set(setting_variables())
    require_settings({name: value for name, value in given.items() if value is not None})


@each_container
def test_a_container_gets_the_one_login_that_its_work_needs(
    overlay: str, workload: Manifest, container: Manifest
) -> None:
    urls = {name for name in environment(overlay, container) if name.endswith("DATABASE_URL")}
    if container["args"] == ["serve"]:
        assert urls == {"DATABASE_URL", "GOVERNANCE_DATABASE_URL"}
    else:
        assert len(urls) == 1
    login = {"DATABASE_URL": "serving", "GOVERNANCE_DATABASE_URL": "governance", "OWNER_DATABASE_URL": "owner"}
    for variable in container["env"]:
        if variable["name"] in login:
            assert variable["valueFrom"]["secretKeyRef"]["name"] == f"channel-gate-{login[variable['name']]}"


@each_overlay
def test_probes_ask_paths_that_the_service_answers(overlay: str) -> None:
    [gate] = one(overlay, "Deployment", "channel-gate")["spec"]["template"]["spec"]["containers"]
    paths = {probe: gate[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert set(paths.values()) <= routes()


@each_overlay
def test_ports_are_those_that_the_service_listens_on(overlay: str) -> None:
    [gate] = one(overlay, "Deployment", "channel-gate")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in gate["ports"]}
    settings = environment(overlay, gate)
    assert ports == {"http": default_setting("port"), "metrics": int(settings["GATE_METRICS_PORT"] or "0")}
    assert "PORT" not in settings
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert gate[probe]["httpGet"]["port"] in ports
    [service] = of_kind(overlay, "Service")
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    [monitor] = of_kind(overlay, "ServiceMonitor")
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] in routes()


@each_overlay
def test_selectors_find_the_pods_of_the_deployment(overlay: str) -> None:
    deployment = one(overlay, "Deployment", "channel-gate")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    [service] = of_kind(overlay, "Service")
    [budget] = of_kind(overlay, "PodDisruptionBudget")
    [scaler] = of_kind(overlay, "HorizontalPodAutoscaler")
    [monitor] = of_kind(overlay, "ServiceMonitor")
    spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        budget["spec"]["selector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in spread),
    ):
        assert selector.items() <= labels.items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "the autoscaler owns the replicas"
    other_jobs = [template for workload, template in workloads(overlay) if workload["kind"] != "Deployment"]
    for template in other_jobs:
        assert not service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


@each_overlay
def test_the_migration_job_is_named_by_the_version_that_it_runs(overlay: str) -> None:
    [job] = of_kind(overlay, "Job")
    [migrate] = job["spec"]["template"]["spec"]["containers"]
    version = migrate["image"].rpartition(":")[2]
    assert version == project_version()
    assert job["metadata"]["name"] == f"channel-gate-migrate-{version}"
    assert "envFrom" not in migrate, "a changed setting would change the Job of the same version"


@each_overlay
def test_every_container_runs_one_image(overlay: str) -> None:
    images = {container["image"] for _, template in workloads(overlay) for container in containers(template)}
    assert images == {f"registry.example.com/channel-gate:{project_version()}"}


@each_overlay
def test_pods_wait_for_the_schema_and_leave_in_time(overlay: str) -> None:
    pod = one(overlay, "Deployment", "channel-gate")["spec"]["template"]["spec"]
    assert [init["args"] for init in pod["initContainers"]] == [["migrate", "--wait"]]
    [gate] = pod["containers"]
    drain = int(environment(overlay, gate)["GATE_DRAIN_SECONDS"] or "0")
    before = gate["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > before + drain + default_setting("flush_deadline_seconds")


@each_overlay
def test_connections_of_the_most_replicas_fit_into_max_connections(overlay: str) -> None:
    """docs/operations.md, Connections, states this sum."""
    deployment = one(overlay, "Deployment", "channel-gate")
    [gate] = deployment["spec"]["template"]["spec"]["containers"]
    [scaler] = of_kind(overlay, "HorizontalPodAutoscaler")
    settings = environment(overlay, gate)
    assert settings["GATE_WORKERS"] == "1"
    flush, abandoned_flush, snapshot = 1, 1, 1
    a_pod = flush + abandoned_flush + snapshot
    a_pod += int(settings["GATE_READ_POOL_SIZE"] or "0") + int(settings["GATE_ADMIN_POOL_SIZE"] or "0")
    pods = scaler["spec"]["maxReplicas"] + deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    jobs = 2 * (len(of_kind(overlay, "CronJob")) + len(of_kind(overlay, "Job")))
    waiting_pods = pods
    operator_and_people = 20
    what_if = 3 if settings["GATE_EXTRACT_DIRECTORY"] else 0  # one run at a time, in all pods together
    most = pods * a_pod + jobs + waiting_pods + what_if + operator_and_people
    parameters = one(overlay, "Cluster", "channel-gate-db")["spec"]["postgresql"]["parameters"]
    assert most <= int(parameters["max_connections"])
    stated = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    if overlay == "production":
        assert f"{pods} x {a_pod} + {jobs} + {waiting_pods} + {what_if} + {operator_and_people} = {most}" in stated


# ---- Safety


@each_object
def test_pods_meet_the_restricted_standard(overlay: str, manifest: Manifest) -> None:
    template = pod_template(manifest)
    if template is None:
        return
    pod = template["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all(set(volume) <= {"name", "emptyDir", "secret"} for volume in pod["volumes"])
    for container in containers(template):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


@each_overlay
def test_the_namespace_enforces_the_restricted_standard(overlay: str) -> None:
    [namespace] = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@each_overlay
def test_no_secret_is_in_the_repository(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    for manifest in of_kind(overlay, "ConfigMap"):
        assert not any("PASSWORD" in key or "DATABASE_URL" in key for key in manifest["data"])


@each_overlay
def test_the_authoritys_private_key_is_never_mounted(overlay: str) -> None:
    for workload, template in workloads(overlay):
        for volume in template["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}], identity(workload)


@each_container
def test_connections_to_the_database_are_verified(overlay: str, workload: Manifest, container: Manifest) -> None:
    settings = environment(overlay, container)
    assert settings["PGSSLMODE"] == "verify-full"
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "database-authority"]
    assert settings["PGSSLROOTCERT"] == f"{mount['mountPath']}/ca.crt"


def _allowed_egress(overlay: str, component: str) -> list[tuple[Any, set[Any]]]:
    labels = {"app.kubernetes.io/name": "channel-gate", "app.kubernetes.io/component": component}
    return [
        (rule["to"], {port["port"] for port in rule["ports"]})
        for policy in of_kind(overlay, "NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        for rule in policy["spec"].get("egress", [])
    ]


@each_overlay
def test_every_pod_is_cut_off_but_for_what_is_named(overlay: str) -> None:
    deny = one(overlay, "NetworkPolicy", "channel-gate-deny")["spec"]
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert not {"ingress", "egress"} & set(deny)
    for _, template in workloads(overlay):
        assert deny["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


@each_overlay
def test_only_the_gate_may_reach_more_than_the_database_and_dns(overlay: str) -> None:
    for component in ("migration", "maintenance"):
        assert [ports for _, ports in _allowed_egress(overlay, component)] == [{5432}, {53}]
    assert len(_allowed_egress(overlay, "gate")) == 4
    for peers, ports in _allowed_egress(overlay, "gate"):
        assert peers, "an empty list would mean everywhere"
        assert ports
        assert all(peer.get("ipBlock", {}).get("cidr") != "0.0.0.0/0" for peer in peers)


@each_overlay
def test_callers_come_from_named_namespaces_alone(overlay: str) -> None:
    rules = one(overlay, "NetworkPolicy", "channel-gate-callers")["spec"]["ingress"]
    for rule in rules:
        for peer in rule["from"]:
            selector = peer["namespaceSelector"]
            assert selector.get("matchLabels") or selector.get("matchExpressions"), "an empty selector means all"
    by_port = {port["port"]: rule["from"] for rule in rules for port in rule["ports"]}
    assert set(by_port) == {"http", "metrics"}


# ---- The database


@each_overlay
def test_a_commit_waits_for_a_standby_that_can_be_promoted(overlay: str) -> None:
    cluster = one(overlay, "Cluster", "channel-gate-db")["spec"]
    synchronous = cluster["postgresql"]["synchronous"]
    assert cluster["instances"] == 3
    assert synchronous == {"method": "any", "number": 1, "dataDurability": "required", "failoverQuorum": True}
    assert cluster["postgresql"]["parameters"]["synchronous_commit"] == "on"
    assert cluster["postgresql"]["parameters"]["log_parameter_max_length"] == "0"
    assert cluster["postgresql"]["parameters"]["log_error_verbosity"] == "terse"


@each_overlay
def test_the_cluster_makes_the_logins_that_bootstrap_makes(overlay: str) -> None:
    roles = Roles()
    cluster = one(overlay, "Cluster", "channel-gate-db")["spec"]
    initdb = cluster["bootstrap"]["initdb"]
    assert (initdb["database"], initdb["owner"]) == (DATABASE_NAME, roles.owner)
    assert [role["name"] for role in cluster["managed"]["roles"]] == [roles.serving, roles.governance]
    created = " ".join([*initdb["postInitSQL"], *initdb["postInitApplicationSQL"]])
    for name in (roles.serving, roles.governance):
        assert f"CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE" in created
    assert f"GRANT CONNECT ON DATABASE {DATABASE_NAME} TO {roles.serving}, {roles.governance}" in created
    assert f"REVOKE ALL ON DATABASE {DATABASE_NAME} FROM PUBLIC" in created


@each_overlay
def test_backups_go_to_the_object_store_that_is_defined(overlay: str) -> None:
    cluster = one(overlay, "Cluster", "channel-gate-db")
    [store] = of_kind(overlay, "ObjectStore")
    [backup] = of_kind(overlay, "ScheduledBackup")
    [plugin] = cluster["spec"]["plugins"]
    assert plugin["isWALArchiver"] is True
    assert plugin["parameters"]["barmanObjectName"] == store["metadata"]["name"]
    assert backup["spec"]["cluster"]["name"] == cluster["metadata"]["name"]
    assert backup["spec"]["pluginConfiguration"]["name"] == plugin["name"]


@each_overlay
def test_the_database_lets_in_the_service_its_peers_the_operator_and_prometheus(overlay: str) -> None:
    cluster = one(overlay, "Cluster", "channel-gate-db")["metadata"]["name"]
    policy = one(overlay, "NetworkPolicy", "channel-gate-db")["spec"]
    assert policy["podSelector"]["matchLabels"] == {"cnpg.io/cluster": cluster}
    peers = [peer for rule in policy["ingress"] for peer in rule["from"]]
    assert [sorted(peer) for peer in peers] == [
        ["podSelector"],
        ["podSelector"],
        ["namespaceSelector"],
        ["namespaceSelector"],
    ]
    [database, _] = [peers for peers, ports in _allowed_egress(overlay, "migration")]
    assert database == [{"podSelector": {"matchLabels": {"cnpg.io/cluster": cluster}}}]
