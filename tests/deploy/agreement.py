"""What a schema cannot know: whether manifests that name each other, and us, agree."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import echo_ingest
from echo_ingest import broker
from echo_ingest.service import delivery_process, web_process
from echo_ingest.settings import (
    SECRETS,
    Settings,
    SettingsError,
    load,
    parse_endpoint,
)
from tests.deploy.manifests import Manifest

NAMESPACE = SECRET = JOB = "echo-ingest"
HOST = "iot.example.org"
PREFIX = "IOT_"
ANYWHERE = "0.0.0.0"  # noqa: S104 - what the manifests must say
PAGES = ("/livez", "/readyz", "/healthz", "/metrics")
# What somebody reads, and may say; None: that is looked at elsewhere.
ANNOTATIONS: dict[str, set[str] | None] = {
    "cloud.google.com/backend-config": None,
    "cloud.google.com/neg": None,
    "kubernetes.io/ingress.allow-http": {"false"},
    "kubernetes.io/ingress.class": {"gce"},
    "kubernetes.io/ingress.global-static-ip-name": {"echo-ingest"},
    "networking.gke.io/certmap": {"echo-ingest"},
    "networking.gke.io/managed-certificates": None,
}
LABELS: dict[str, set[str] | None] = {
    "app.kubernetes.io/component": {"ingest", "broker"},
    "app.kubernetes.io/name": {"echo-ingest"},
    "echo-ingest/serves-http": {"true"},
    "echo-ingest/serves-mqtt": {"true"},
    "pod-security.kubernetes.io/enforce": {"restricted"},
    "pod-security.kubernetes.io/warn": {"restricted"},
}
LOAD_BALANCER = {"130.211.0.0/22", "35.191.0.0/16"}  # Google's proxies and health checks
COLLECTORS = {
    "key": "kubernetes.io/metadata.name",
    "operator": "In",
    "values": ["monitoring", "gmp-system", "gke-gmp-system"],
}
QUANTITY = re.compile(r"\d+(m|Mi|Gi)?")
COMMANDS = ("up", "run", "broker")
NOWHERE: Manifest = {"metadata": {}, "spec": {"ports": [], "selector": {"nobody": ""}}}


class Cluster:
    """The manifests of one build, looked up by what they are."""

    def __init__(self, manifests: tuple[Manifest, ...], secret_keys: set[str]) -> None:
        self.all = manifests
        self.secret_keys = secret_keys
        self.workloads = self.of("StatefulSet")
        self.services = {each["metadata"]["name"]: each for each in self.of("Service")}

    def of(self, kind: str) -> list[Manifest]:
        return [each for each in self.all if each["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in self.of(kind)}

    def pods(self, selector: Mapping[str, Any]) -> list[Manifest]:
        """Return the pod templates that labels select."""
        wanted = selector.items()
        templates = [each["spec"]["template"] for each in self.workloads]
        return [each for each in templates if wanted <= each["metadata"]["labels"].items()]


def disagreements(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """Yield each disagreement as a sentence; nothing if everything fits."""
    for each in cluster.all:
        yield from _metadata(each)
    for each in cluster.workloads:
        yield from _workload(cluster, each, tmp_path)
    for each in cluster.services.values():
        yield from _service(cluster, each)
    for each in cluster.of("NetworkPolicy"):
        yield from _network_policy(cluster, each)
    yield from _load_balancer(cluster)
    for each in cluster.of("PodDisruptionBudget"):
        if not cluster.pods(each["spec"]["selector"]["matchLabels"]):
            yield "the disruption budget is for no pod"
        allowed = (each["spec"]["maxUnavailable"], each["spec"]["unhealthyPodEvictionPolicy"])
        if allowed != (1, "AlwaysAllow"):
            yield "the disruption budget would stand in the way of an upgrade"
    for each in cluster.of("PodMonitoring"):
        pods = cluster.pods(each["spec"]["selector"]["matchLabels"])
        if each["metadata"]["name"] != JOB:
            yield "PodMonitoring: the alerts know the job by another name"
        for endpoint in each["spec"]["endpoints"]:
            yield from _ports("PodMonitoring", pods, [endpoint["port"]])
            yield from _page("PodMonitoring", endpoint.get("path", "/metrics"))


def _metadata(manifest: Manifest) -> Iterator[str]:
    kind, metadata = manifest["kind"], manifest["metadata"]
    if kind == "Namespace":
        if metadata["name"] != NAMESPACE:
            yield f"the namespace is {metadata['name']}"
    elif metadata.get("namespace") != NAMESPACE:
        yield f"{kind} {metadata['name']} is in no namespace, or in another"
    yield from _notes(kind, metadata.get("annotations", {}), ANNOTATIONS)
    yield from _notes(kind, metadata.get("labels", {}), LABELS)


def _notes(
    where: str, notes: Mapping[str, str], known: Mapping[str, set[str] | None]
) -> Iterator[str]:
    for name, value in notes.items():
        if name not in known or value not in (known[name] or {value}):
            yield f"{where}: nobody reads {name}: {value}"


# ---------------------------------------------------------------------- pods


def _workload(cluster: Cluster, manifest: Manifest, tmp_path: Path) -> Iterator[str]:
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    template, pod = spec["template"], spec["template"]["spec"]
    (container,) = pod["containers"]
    if cluster.pods(spec["selector"]["matchLabels"]) != [template]:
        yield f"{name} does not select its own pods, or not only those"
    head = cluster.services.get(spec["serviceName"], NOWHERE)["spec"]
    if head.get("clusterIP") != "None" or template not in cluster.pods(head["selector"]):
        yield f"{name}: {spec['serviceName']} does not give its pods their names"
    yield from _notes(name, template["metadata"]["labels"], LABELS)
    if spec["replicas"] != 1:
        yield f"{name}: a second broker or journal would be another system"
    if spec["podManagementPolicy"] != "Parallel":
        yield f"{name}: a bad update could not be rolled back"
    if set(spec["persistentVolumeClaimRetentionPolicy"].values()) != {"Retain"}:
        yield f"{name}: the journal could go with the pod"
    if container["image"].rpartition(":")[2] != echo_ingest.__version__:
        yield f"{name}: the image is not pinned to this version: {container['image']}"
    for which in ("startupProbe", "livenessProbe", "readinessProbe"):
        yield from _ports(which, [template], [container[which]["httpGet"]["port"]])
        yield from _page(which, container[which]["httpGet"]["path"])
    if container["livenessProbe"]["httpGet"]["path"] != "/livez":
        yield f"{name} is restarted for what a restart does not help"
    stopping_seconds = (
        delivery_process.STOP_SECONDS_MAX + broker.STOP_SECONDS_MAX + web_process.STOP_SECONDS_MAX
    )
    if pod["terminationGracePeriodSeconds"] < stopping_seconds:
        yield f"{name} is killed while it stops"
    yield from _restrictions(name, pod, container)
    yield from _volumes(name, spec, pod, container)
    yield from _environment(cluster, manifest, tmp_path)


def _restrictions(name: str, pod: Manifest, container: Manifest) -> Iterator[str]:
    """Pod Security Standards, restricted, and what we hold to besides."""
    own, shared = container["securityContext"], pod["securityContext"]
    kept = {
        "runAsNonRoot": shared["runAsNonRoot"] is True,
        "runAsUser": shared["runAsUser"] == shared["runAsGroup"] == shared["fsGroup"] == 1883,
        "fsGroupChangePolicy": shared["fsGroupChangePolicy"] == "OnRootMismatch",
        "seccompProfile": shared["seccompProfile"] == {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": own["allowPrivilegeEscalation"] is False,
        "readOnlyRootFilesystem": own["readOnlyRootFilesystem"] is True,
        "capabilities": own["capabilities"] == {"drop": ["ALL"]},
        "automountServiceAccountToken": pod["automountServiceAccountToken"] is False,
        "enableServiceLinks": pod["enableServiceLinks"] is False,
        "memory": container["resources"]["requests"].get("memory")
        == container["resources"]["limits"].get("memory")
        is not None,
    }
    yield from (f"{name}: {what} is not as it must be" for what, well in kept.items() if not well)
    lowest = min(port["containerPort"] for port in container["ports"])
    if shared["sysctls"] != [{"name": "net.ipv4.ip_unprivileged_port_start", "value": str(lowest)}]:
        yield f"{name} may not open port {lowest}"
    for each in container["resources"].values():
        yield from _quantities(name, each)


def _quantities(name: str, amounts: Mapping[str, str]) -> Iterator[str]:
    for what, amount in amounts.items():
        if what not in ("cpu", "memory", "storage") or not QUANTITY.fullmatch(amount):
            yield f"{name}: {amount} of {what} is not to be had"


def _volumes(name: str, spec: Manifest, pod: Manifest, container: Manifest) -> Iterator[str]:
    claims = spec["volumeClaimTemplates"]
    there = [each["name"] for each in pod["volumes"]]
    there += [each["metadata"]["name"] for each in claims]
    at = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    if sorted(there) != sorted(at):
        yield f"{name}: volumes are {there}, mounted are {list(at)}"
    for each in claims:
        yield from _quantities(name, each["spec"]["resources"]["requests"])
        if each["spec"]["accessModes"] != ["ReadWriteOnce"]:
            yield f"{name}: two pods could have one journal"
    for each in pod["volumes"]:
        if "emptyDir" in each:
            yield from _quantities(name, {"storage": each["emptyDir"]["sizeLimit"]})
            if at.get(each["name"]) != "/tmp":  # noqa: S108 - where SQLite looks
                yield f"{name}: {each['name']} is for nothing"


def _environment(cluster: Cluster, manifest: Manifest, tmp_path: Path) -> Iterator[str]:
    """Check that the service would start with these variables and listen at the right ports."""
    name, pod = manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    configured = {each["metadata"]["name"]: each["data"] for each in cluster.of("ConfigMap")}
    environ: dict[str, str] = {}
    for source in container["envFrom"]:
        if (wanted := source["configMapRef"]["name"]) not in configured:
            yield f"{name}: there is no ConfigMap {wanted}"
        environ |= configured.get(wanted, {})
    for each in container["env"]:
        environ[each["name"]] = each.get("value", "of-the-secret")
        reference = each.get("valueFrom", {"secretKeyRef": None})["secretKeyRef"]
        if reference is not None and (
            reference["name"] != SECRET or reference["key"] not in cluster.secret_keys
        ):
            yield f"{name}: the secret has no such key: {reference}"
    files = {f"{PREFIX}{secret.upper()}_FILE" for secret in SECRETS}
    settings = {PREFIX + field.upper() for field in Settings.model_fields}
    for unknown in environ.keys() - files - settings:
        yield f"{name}: there is no setting {unknown}"

    at = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    used = {variable: environ[variable] for variable in environ.keys() & files}
    yield from _secrets(cluster, name, pod, at.get("secrets"), used)
    for variable in used:  # what is in them is not in the repository
        (tmp_path / variable).write_text(f"what-the-secret-says-of-{variable}")
        environ[variable] = str(tmp_path / variable)
    if str(Path(environ.get("IOT_DATA_DIR", "")).parent) != at.get("data"):
        yield f"{name} keeps its data where no volume is"
    if (file := environ.get("IOT_NODES_FILE")) and file != f"{at.get('nodes')}/nodes.jsonl":
        yield f"{name} looks for nodes where none are"
    try:
        loaded = load(environ)
    except SettingsError as error:
        yield f"{name} would not start: {error}"
        return
    yield from _listening(cluster, name, container, loaded)


def _secrets(
    cluster: Cluster, name: str, pod: Manifest, mounted_at: str | None, used: Mapping[str, str]
) -> Iterator[str]:
    """Check that each variable names a mounted key, and that each mounted key is read."""
    volumes = {each["name"]: each["secret"] for each in pod["volumes"] if "secret" in each}
    secret = volumes.get("secrets", {})
    keys = {key: key for key in cluster.secret_keys}
    if "items" in secret:
        keys = {each["path"]: each["key"] for each in secret["items"]}
    if secret.get("secretName") != SECRET or not set(keys.values()) <= cluster.secret_keys:
        yield f"{name}: the secret {secret.get('secretName')} has no such keys: {keys}"
    for variable, path in used.items():
        if not path.startswith(f"{mounted_at}/") or Path(path).name not in keys:
            yield f"{name}: {variable} is {path}, where nothing is mounted"
    if "items" in secret and {Path(path).name for path in used.values()} != keys.keys():
        yield f"{name}: not all of {sorted(keys)} are read"
    nodes = volumes.get("nodes", {"secretName": "echo-ingest-nodes", "optional": True})
    if nodes["secretName"] != "echo-ingest-nodes" or nodes["optional"] is not True:
        yield f"{name}: the nodes are in another secret"


def _listening(
    cluster: Cluster, name: str, container: Manifest, settings: Settings
) -> Iterator[str]:
    opens = {
        "mqtt": settings.mqtt_port,
        "ws": settings.ws_port,
        "http": settings.http_port,
        "service": settings.service_port,
    }
    for port in container["ports"]:
        if opens.get(port["name"]) != port["containerPort"] or settings.bind != ANYWHERE:
            yield f"{name} does not listen for {port['name']} on {port['containerPort']}"
    command = container.get("args", ["up"])
    if (settings.endpoint is None) is (command == ["run"]) or command[0] not in COMMANDS:
        yield f"{name}: {command} has the wrong settings, or is no command"
    if settings.endpoint is not None:
        endpoint = parse_endpoint(settings.endpoint)
        target = cluster.services.get(endpoint.host, NOWHERE)
        if endpoint.port not in [port["port"] for port in target["spec"]["ports"]]:
            yield f"{name}: no service is at {endpoint}"
        if settings.user != broker.SERVICE:
            yield f"{name}: the broker has no account {settings.user}"


def _page(where: str, path: str) -> Iterator[str]:
    if path not in PAGES:
        yield f"{where}: there is no page {path}"


def _ports(where: str, pods: list[Manifest], names: list[Any]) -> Iterator[str]:
    """Check that there is a pod, and that each has these ports, given by name or number."""
    if not pods:
        yield f"{where} is for no pod"
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        there = {port["name"] for port in container["ports"]}
        there |= {port["containerPort"] for port in container["ports"]}
        yield from (f"{where}: {name} is no port of the pod" for name in names if name not in there)


# ---------------------------------------------------------------------- the network


def _service(cluster: Cluster, manifest: Manifest) -> Iterator[str]:
    ports = [each["targetPort"] for each in manifest["spec"]["ports"]]
    pods = cluster.pods(manifest["spec"]["selector"])
    yield from _ports(f"Service {manifest['metadata']['name']}", pods, ports)


def _network_policy(cluster: Cluster, manifest: Manifest) -> Iterator[str]:
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    pods = cluster.pods(spec["podSelector"]["matchLabels"])
    if not pods:
        yield f"NetworkPolicy {name} is for no pod"
    if set(spec["policyTypes"]) != {
        key.capitalize() for key in ("ingress", "egress") if key in spec
    }:
        yield f"NetworkPolicy {name} does not hold what it says it does"
    for rule in spec.get("ingress", []):
        some = {port["name"] for pod in pods for port in pod["spec"]["containers"][0]["ports"]}
        for port in rule["ports"]:
            if port["port"] not in some:
                yield f"NetworkPolicy {name}: {port['port']} is no port of its pods"
        blocks = {each["ipBlock"]["cidr"] for each in rule["from"] if "ipBlock" in each}
        if blocks and blocks != LOAD_BALANCER:
            yield f"NetworkPolicy {name}: {blocks} are not the load balancer"
        for peer in rule["from"]:
            for expression in peer.get("namespaceSelector", {}).get("matchExpressions", []):
                if expression != COLLECTORS:
                    yield f"NetworkPolicy {name}: {expression} are not who collects metrics"
            labels = peer.get("podSelector", {}).get("matchLabels", {})
            if labels and not cluster.pods(labels):
                yield f"NetworkPolicy {name}: nobody comes from {labels}"
    for rule in spec.get("egress", []):
        if not {port.get("protocol", "TCP") for port in rule["ports"]} <= {"TCP", "UDP"}:
            yield f"NetworkPolicy {name}: there is no such protocol"
        for peer in rule.get("to", []):
            wanted = [port["port"] for port in rule["ports"]]
            to = cluster.pods(peer["podSelector"]["matchLabels"])
            yield from _ports(f"NetworkPolicy {name}", to, wanted)


def _load_balancer(cluster: Cluster) -> Iterator[str]:
    for ingress in cluster.of("Ingress"):
        backend = ingress["spec"]["defaultBackend"]["service"]
        target = cluster.services.get(backend["name"], NOWHERE)
        if backend["port"]["name"] not in [port["name"] for port in target["spec"]["ports"]]:
            yield f"Ingress: no service is at {backend}"
        notes = ingress["metadata"]["annotations"]
        if notes.get("networking.gke.io/managed-certificates") not in cluster.names(
            "ManagedCertificate"
        ):
            yield "Ingress: there is no such certificate"
        chosen = target["metadata"].get("annotations", {})
        (config_name,) = cluster.names("BackendConfig")
        attached = json.dumps({"ports": {backend["port"]["name"]: config_name}})
        if chosen.get("cloud.google.com/backend-config") != attached:
            yield "Ingress: its backend has no BackendConfig"
        if chosen.get("cloud.google.com/neg") != '{"ingress": true}':
            yield "Ingress: its backend is not container-native"
        for config in cluster.of("BackendConfig"):
            yield from _check(cluster, target, config["spec"]["healthCheck"])
            yield from _life(config["spec"]["timeoutSec"])
    for certificate in cluster.of("ManagedCertificate"):
        if certificate["spec"]["domains"] != [HOST]:
            yield "ManagedCertificate: it is for another host"
    for gateway in cluster.of("Gateway"):
        at = (gateway["spec"]["gatewayClassName"], gateway["spec"]["addresses"][0]["value"])
        if at != ("gke-l7-global-external-managed", "echo-ingest"):
            yield f"Gateway: it is another one: {at}"
    gateways = {
        (gateway["metadata"]["name"], listener["name"])
        for gateway in cluster.of("Gateway")
        for listener in gateway["spec"]["listeners"]
    }
    for route in cluster.of("HTTPRoute"):
        if route["spec"]["hostnames"] != [HOST]:
            yield "HTTPRoute: it is for another host"
        for parent in route["spec"]["parentRefs"]:
            if (parent["name"], parent["sectionName"]) not in gateways:
                yield f"HTTPRoute: there is no gateway {parent}"
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                target = cluster.services.get(backend["name"], NOWHERE)
                if backend["port"] not in [port["port"] for port in target["spec"]["ports"]]:
                    yield f"HTTPRoute: no service is at {backend}"
    for policy in (*cluster.of("HealthCheckPolicy"), *cluster.of("GCPBackendPolicy")):
        reference = policy["spec"]["targetRef"]
        service = cluster.services.get(reference["name"])
        if service is None or reference["kind"] != "Service" or reference["group"]:
            yield f"{policy['kind']}: there is no such service"
        elif policy["kind"] == "HealthCheckPolicy":
            yield from _check(
                cluster, service, policy["spec"]["default"]["config"]["httpHealthCheck"]
            )
        else:
            yield from _life(policy["spec"]["default"]["timeoutSec"])


def _check(cluster: Cluster, target: Manifest, health: Manifest) -> Iterator[str]:
    yield from _ports("health check", cluster.pods(target["spec"]["selector"]), [health["port"]])
    if health["requestPath"] != "/healthz":
        yield "the health check is green while no message passes"


def _life(timeout_seconds: int) -> Iterator[str]:
    if timeout_seconds < 86_400:
        yield f"devices are cut off each {timeout_seconds} s"
