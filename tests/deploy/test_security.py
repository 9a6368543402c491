"""All pods keep to the restricted pod security standard, and to a read-only root."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.deploy.rendered import COMPONENTS, OVERLAYS, Manifest, of_kind, pods, render

_OF_PODS = {"runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "seccompProfile"}
_OF_CONTAINERS = {"allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem"}
_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def broken_rules(pod: Manifest, token: bool = False) -> list[str]:
    """Returns the rules of the restricted standard that a pod breaks, and the paths that it may
    write to. With `token` it is one that asks Kubernetes.
    """
    broken, whole = [], pod.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            broken.append(field)
    if set(whole) - _OF_PODS:  # sysctls, SELinux and others: not needed, so not allowed
        broken.append("pod settings")
    for volume in pod.get("volumes", ()):
        if not set(volume) - {"name"} <= _VOLUMES:
            broken.append(f"volume {volume['name']}")
    if not whole.get("runAsNonRoot") or not whole.get("runAsUser"):
        broken.append("root")
    if whole.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        broken.append("seccompProfile")
    if pod.get("automountServiceAccountToken") is not token:
        broken.append("token")
    if pod.get("enableServiceLinks") is not False:
        broken.append("service links")
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        own = container.get("securityContext", {})
        if set(own) - _OF_CONTAINERS:  # among them those that override what the pod says
            broken.append("container settings")
        if own.get("allowPrivilegeEscalation") is not False:
            broken.append("privileges")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            broken.append("capabilities")
        if not own.get("readOnlyRootFilesystem"):
            broken.append("writable root")
        if any("hostPort" in port for port in container.get("ports", ())):
            broken.append("hostPort")
        if not {"requests", "limits"} <= set(container.get("resources", {})):
            broken.append("resources")
    return broken


@pytest.mark.parametrize("components", COMPONENTS, ids="+".join)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_restricted(overlay: str, components: Sequence[str]) -> None:
    manifests = render(overlay, components)
    asking = {
        subject["name"]
        for binding in of_kind(manifests, "RoleBinding").values()
        for subject in binding["subjects"]
    }
    for name, pod in pods(manifests):
        assert not broken_rules(pod["spec"], pod["spec"]["serviceAccountName"] in asking), name
    labels = of_kind(manifests, "Namespace")["foredraft"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def _root(pod: Any) -> None:
    pod["securityContext"]["runAsNonRoot"] = False


def _host(pod: Any) -> None:
    pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def _writable(pod: Any) -> None:
    pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False


def _capable(pod: Any) -> None:
    pod["containers"][0]["securityContext"]["capabilities"]["add"] = ["SYS_ADMIN"]


def _override(pod: Any) -> None:
    pod["containers"][0]["securityContext"]["runAsUser"] = 0


def _privileged(pod: Any) -> None:
    pod["containers"][0]["securityContext"]["privileged"] = True


def _sysctl(pod: Any) -> None:
    pod["securityContext"]["sysctls"] = [{"name": "kernel.msgmax", "value": "1"}]


def _unconfined(pod: Any) -> None:
    pod["securityContext"]["seccompProfile"]["type"] = "Unconfined"


def _node(pod: Any) -> None:
    pod["hostNetwork"] = True


def _port(pod: Any) -> None:
    pod["containers"][0]["ports"][0]["hostPort"] = 1


_BREAKS = [
    _root,
    _host,
    _writable,
    _capable,
    _override,
    _privileged,
    _sysctl,
    _unconfined,
    _node,
    _port,
]


@pytest.mark.parametrize("breaks", _BREAKS)
def test_a_broken_pod_is_found(breaks: Callable[[Any], None]) -> None:
    pod = dict(pods(render("cpu-demo")))["target"]["spec"]
    breaks(pod)
    assert len(broken_rules(pod)) == 1
