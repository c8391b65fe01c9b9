"""One row for each rule of a create: what the engine itself has afterwards, whatever the gateway answered.

Other files have the rows that need a scene of their own: spellings, races, streams, GPUs, images.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ds01.gateway.handlers import volumes
from tests.integration.gateway.gateway_host import GatewayHost
from tests.integration.gateway.raw_requests import CREATE, IMAGE, create, request

HOME = "/srv/people/alice"
MEMORY = 128 << 20
Check = Callable[[dict[str, Any]], bool]


def host(check: Check) -> Check:
    return lambda found: check(found["HostConfig"])


def ports(*numbers: str) -> dict[str, Any]:
    return {"HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": text} for text in numbers]}}}  # noqa: S104


def mount(**fields: Any) -> dict[str, Any]:
    return {"HostConfig": {"Mounts": [{"Target": "/x", **fields}]}}


def device(*paths: str) -> dict[str, Any]:
    return {"HostConfig": {"Devices": [{"PathOnHost": path, "CgroupPermissions": "rwm"} for path in paths]}}


def gpu(**fields: Any) -> dict[str, Any]:
    return {"HostConfig": {"DeviceRequests": [fields]}}


# What becomes something else: the request, and what is true of the container that the engine made of it.
CHANGED: dict[str, tuple[Any, Check]] = {
    "network host": ({"HostConfig": {"NetworkMode": "host"}}, host(lambda h: h["NetworkMode"].startswith("bridge._."))),
    "endpoint host": (
        {"NetworkingConfig": {"EndpointsConfig": {"host": {"DriverOpts": {"a": "b"}}}}},
        lambda found: [name.partition("._.")[0] for name in found["NetworkSettings"]["Networks"]] == ["bridge"],
    ),
    "names and users of another": (
        {"HostConfig": {"UTSMode": "container:victim", "UsernsMode": "container:victim"}},
        host(lambda h: (h["UTSMode"], h["UsernsMode"]) == ("", "")),
    ),
    "restart unless-stopped": (
        {"HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}}},
        host(lambda h: h["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}),
    ),
    "no limit of processes": ({"HostConfig": {"PidsLimit": 0}}, host(lambda h: h["PidsLimit"] == 100)),
    "CPU by period": (
        {"HostConfig": {"CpuPeriod": 1000, "CpuQuota": 900_000}},
        host(lambda h: (h["NanoCpus"], h["CpuQuota"], h["CpuPeriod"]) == (10**9, 0, 0)),
    ),
    "real-time CPU": (
        {"HostConfig": {"CpuRealtimePeriod": 1_000_000, "CpuRealtimeRuntime": 950_000}},
        host(lambda h: (h["CpuRealtimePeriod"], h["CpuRealtimeRuntime"]) == (0, 0)),
    ),
    "memory nodes": ({"HostConfig": {"CpusetMems": "0"}}, host(lambda h: h["CpusetMems"] == "")),
    "weight of reading": (
        {"HostConfig": {"BlkioWeight": 1000, "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 1000}]}},
        host(lambda h: not h["BlkioWeight"] and not h["BlkioWeightDevice"]),
    ),
    "operations on disks": (
        {"HostConfig": {"BlkioDeviceReadIOps": [{"Path": "/dev/sda", "Rate": 1}],
                        "BlkioDeviceWriteIOps": [{"Path": "/dev/sda", "Rate": 1}]}},
        host(lambda h: not h["BlkioDeviceReadIOps"] and not h["BlkioDeviceWriteIOps"]),
    ),
    "reserved memory": (
        {"HostConfig": {"MemoryReservation": 1 << 50}}, host(lambda h: h["MemoryReservation"] <= MEMORY),
    ),
    "swap without end": (
        {"HostConfig": {"Memory": 64 << 20, "MemorySwap": -1}},
        host(lambda h: h["Memory"] == 64 << 20 and 0 < h["MemorySwap"] <= MEMORY),
    ),
    "swappiness": ({"HostConfig": {"MemorySwappiness": 100}}, host(lambda h: h.get("MemorySwappiness") in {None, -1})),
    "kernel memory": (
        {"HostConfig": {"KernelMemory": 1 << 40, "KernelMemoryTCP": 1 << 40}},
        host(lambda h: not h.get("KernelMemory") and not h.get("KernelMemoryTCP")),
    ),
    "limits of another system": (
        {"ArgsEscaped": True, "HostConfig": {"Isolation": "hyperv", "CpuCount": 64, "CpuPercent": 100,
                                             "IOMaximumIOps": 1, "IOMaximumBandwidth": 1}},
        lambda found: not any(found["HostConfig"].get(name) for name in
                              ("Isolation", "CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth")),
    ),
    "negative shared memory": ({"HostConfig": {"ShmSize": -1}}, host(lambda h: h["ShmSize"] == 32 << 20)),
    "open files without end": (
        {"HostConfig": {"Ulimits": [{"Name": "nofile", "Soft": -1, "Hard": -1}]}},
        host(lambda h: [limit["Hard"] for limit in h["Ulimits"]] == [1 << 20]),
    ),
    "other resource limits": (
        {"HostConfig": {"Ulimits": [{"Name": name, "Soft": 99, "Hard": 99} for name in ("rtprio", "nice", "nproc")]}},
        host(lambda h: not h["Ulimits"]),
    ),
    "devices": (
        device("/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/net/tun", "/dev/kvm", "/dev/dri/card0", "/dev/nvidiactl"),
        host(lambda h: not h["Devices"]),
    ),
    "a CDI device of another kind": (
        gpu(Driver="cdi", DeviceIDs=["vendor.com/net=all"]), host(lambda h: not h["DeviceRequests"]),
    ),
    "NVIDIA's hook by its name": (
        gpu(Driver="nvidia.runtime-hook", Count=-1), host(lambda h: not h["DeviceRequests"]),
    ),
    "other runtimes": ({"HostConfig": {"Runtime": "io.containerd.kata.v2"}}, host(lambda h: h["Runtime"] == "runc")),
    "hooks by annotation": (
        {"HostConfig": {"Annotations": {"run.oci.hooks.stdout": "/x", "cdi.k8s.io/a": "nvidia.com/gpu=all"}}},
        host(lambda h: not h.get("Annotations")),
    ),
    "environment for runtimes": (
        {"Env": ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all", "NVIDIA_MIG_CONFIG_DEVICES=all",
                 "NVIDIA_MIG_MONITOR_DEVICES=all", "NVIDIA_IMEX_CHANNELS=0", "NVIDIA_GDS=enabled", "NVIDIA_MOFED=1",
                 "NVIDIA_NVSWITCH=enabled", "NVIDIA_GDRCOPY=1", "NVIDIA_REQUIRE_CUDA=x", "NVIDIA_DISABLE_REQUIRE=1",
                 "AMD_VISIBLE_DEVICES=all", "DOCKER_RESOURCE_GPU=all", "CUDA_VERSION=12", "A=b"]},
        lambda found: {"CUDA_VERSION=12", "A=b", "NVIDIA_VISIBLE_DEVICES=void"}
        == {entry for entry in found["Config"]["Env"] if not entry.startswith("PATH=")},
    ),
    "options of a tmpfs": (
        mount(Type="tmpfs", TmpfsOptions={"SizeBytes": 4096, "Options": [["exec"], ["dev"]]}),
        host(lambda h: h["Mounts"][0]["TmpfsOptions"] == {"SizeBytes": 4096}),
    ),
    "relabelling": (
        {"HostConfig": {"Binds": [f"{HOME}:/x:z,Z,cached"]}},
        host(lambda h: not h["Binds"] and not h["Mounts"][0].get("BindOptions")),
    ),
    "a volume like a bind": (
        {"Volumes": {"/etc:/x": {}}}, lambda found: {item["Type"] for item in found["Mounts"]} == {"volume"},
    ),
    "all ports": (
        {"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PublishAllPorts": True}},
        host(lambda h: not h["PublishAllPorts"]),
    ),
    "ports for everybody": (
        ports("8081", ""),
        host(lambda h: [place["HostIp"] for place in h["PortBindings"]["80/tcp"]] == ["127.0.0.1"] * 2),
    ),
    "a log without end": (
        {"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-size": "-1"}}}},
        host(lambda h: h["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}),
    ),
    "labels of ours": (
        {"Labels": {"ds01.protected": "true", "Ds01.gpu.token": "x", "ds01.type": "managed", "a": "b"}},
        lambda found: not {"ds01.protected", "Ds01.gpu.token"} & set(found["Config"]["Labels"])
        and (found["Config"]["Labels"]["a"], found["Config"]["Labels"]["ds01.type"]) == ("b", "docker"),
    ),
    "an old version of the API": (
        request("POST /v1.24/containers/create?name=probe", {"Image": IMAGE, "HostConfig": {}}),
        host(lambda h: (h["CgroupnsMode"], h["IpcMode"]) == ("private", "private")),
    ),
    "no type of content": (
        request(CREATE, {"Image": IMAGE, "HostConfig": {"Privileged": True}}, "Content-Type: text/plain"),
        host(lambda h: h["Privileged"] is False),
    ),
    "one text for a list": (
        {"Cmd": "true", "Entrypoint": "sh", "HostConfig": {"CapAdd": []}},
        lambda found: (found["Config"]["Cmd"], found["Config"]["Entrypoint"]) == (["true"], ["sh"]),
    ),
}  # fmt: skip

CLOSED = (
    "/", "/etc", "/etc/passwd", "/proc", "/proc/self/root", "/sys", "/dev", "/dev/null", "/run", "/run/gw",
    "/run/gw/users", "/run/ds01", "/run/docker", "/run/systemd/private", "/var/run", "/var/lib/docker", "/var/lib/ds01",
    "/var/log", "/boot", "/root", "/usr", "/bin/sh", "//etc", "/./etc", "/srv/../etc", f"{HOME}/../../../etc", "etc/x/",
)  # fmt: skip

# What makes nothing at all.
REFUSED: dict[str, Any] = {
    **{f"bind of {path}": {"HostConfig": {"Binds": [f"{path}:/x"]}} for path in CLOSED},
    **{f"mount of {path}": mount(Type="bind", Source=path) for path in CLOSED},
    **{f"bind option {option}": {"HostConfig": {"Binds": [f"{HOME}:/x:{option}"]}}
       for option in ("shared", "slave", "rslave", "exec", "volume-nocopy", "ro,rshared")},
    **{f"propagation {kind}": mount(Type="bind", Source=HOME, BindOptions={"Propagation": kind})
       for kind in ("shared", "rshared", "slave", "rslave")},
    **{f"mount of type {kind}": mount(Type=kind, Source=HOME) for kind in ("npipe", "cluster", "Bind", "")},
    "the socket of another": {"HostConfig": {"Binds": ["/run/gw/users/BOB/docker.sock:/x"]}},
    "NVIDIA's request by mount": {"HostConfig": {"Binds": ["/dev/null:/var/run/nvidia-container-devices/all"]}},
    "a limit at the top": {"Memory": 1 << 40, "HostConfig": {}},
    "processes of another by name": {"HostConfig": {"PidMode": "container:victim"}},
    "files of another, to read": {"HostConfig": {"VolumesFrom": ["VICTIM:ro"]}},
    "a link to another": {"HostConfig": {"Links": ["victim:x"]}},
    "the host's network in capitals": {"HostConfig": {"NetworkMode": "Host"}},
    "a network of nobody's": {"HostConfig": {"NetworkMode": "slirp4netns"}},
    "an endpoint at another's": {"NetworkingConfig": {"EndpointsConfig": {"private._.BOB": {}}}},
    **{f"working in {place}": {"WorkingDir": place}
       for place in ("/proc/self/fd/8", "//proc/self/fd/8", "/x/../proc/self/fd/8", "/./proc")},
    "many directories": {"Volumes": {f"/v{number}": {} for number in range(volumes.PER_CONTAINER + 1)}},
    "many volumes without a name": {"HostConfig": {"Mounts": [
        {"Type": "volume", "Target": f"/v{number}"} for number in range(volumes.PER_CONTAINER + 1)]}},
    "many volumes": {"HostConfig": {"Binds": [f"v{number}:/v{number}" for number in range(volumes.PER_CONTAINER + 1)]}},
    "many ports": ports(*map(str, range(9000, 9065))),
    **{f"port {text}": ports(text) for text in ("0", "22", "00022", "1023", "8080-22", "65536", "\u00b2", "8080,22")},
    **{f"group {text}": {"HostConfig": {"GroupAdd": [text]}} for text in ("0", "00", "docker", "\u00b2", "-1", "")},
    **{f"setting {name}": {"HostConfig": {"Sysctls": {name: "1"}}}
       for name in ("kernel.domainname", "vm.swappiness", "kernel/core_pattern", "net.ipv4.x/../../../kernel/x")},
    "an image for another machine": request(f"{CREATE}&platform=linux/s390x", {"Image": IMAGE}),
    "a volume by path": mount(Type="volume", Source="../x"),
    "a directory outside a volume": mount(Type="volume", Source="v", VolumeOptions={"Subpath": "/etc"}),
    "a volume of another driver": mount(Type="volume", Source="v", VolumeOptions={"DriverConfig": {"Name": "nfs"}}),
    "a volume of another": {"HostConfig": {"Binds": ["secret._.BOB:/x"]}},
    "every GPU where there is none": gpu(Count=-1, Capabilities=[["gpu"]]),
    "a GPU by its node": device("/dev/nvidia0"),
    "a name with an end": {"Hostname": "a\0b"},
    "a list of texts that is none": {"HostConfig": {"CapAdd": [{"a": 1}]}},
    "too many entries": {"HostConfig": {"Dns": ["1.1.1.1"] * 5000}},
    "multipart": request(CREATE, {"Image": IMAGE}, "Content-Type: multipart/form-data; boundary=x"),
    "a form": request(CREATE, {"Image": IMAGE}, "Content-Type: Application/X-WWW-form-urlencoded"),
}  # fmt: skip


def test_what_is_asked_for_becomes_what_is_allowed(gateway: GatewayHost, victim: str):
    del victim
    answers = create(gateway, {name: body for name, (body, _) in CHANGED.items()})
    assert {name: said for name, (said, stored) in answers.items() if stored is None} == {}
    assert [name for name, (_, stored) in answers.items() if not CHANGED[name][1](stored)] == []


def test_what_reaches_others_or_the_host_makes_nothing(gateway: GatewayHost, victim: str):
    text = {name: body for name, body in REFUSED.items() if not isinstance(body, bytes)}
    filled = json.loads(json.dumps(text).replace("VICTIM", victim).replace("BOB", str(gateway.uid["bob"])))
    answers = create(gateway, {name: filled.get(name, body) for name, body in REFUSED.items()})
    assert {name: stored["HostConfig"] for name, (_, stored) in answers.items() if stored is not None} == {}
    # In words, with a reason: neither a fault of the gateway's nor one of the engine's.
    answered = {name: said for name, (said, _) in answers.items()}
    assert {name: said for name, said in answered.items() if said[9:12] in {"", "500"} or '"message"' not in said} == {}
    assert gateway.host.sh("docker volume ls -q").split() == [f"secret._.{gateway.uid['bob']}"]
